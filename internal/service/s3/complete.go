package s3

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/service/s3/checksum"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// CompleteMultipartUpload implements s3:PutObject's last step. Asked again after it
// succeeded, it answers the same as long as the object is the current version.
func (s *Service) CompleteMultipartUpload(ctx context.Context, sc auth.Scope, in *s3.CompleteMultipartUploadInput) (*s3.CompleteMultipartUploadOutput, error) {
	if in.MultipartUpload == nil || len(in.MultipartUpload.Parts) == 0 || len(in.MultipartUpload.Parts) > maxParts {
		return nil, malformedXML()
	}
	cond := writeCondition{match: in.IfMatch, noneMatch: in.IfNoneMatch}
	if err := cond.check(); err != nil {
		return nil, err
	}
	var u *uploadRow
	var done *objectRow
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		b, row, err := s.upload(tx, in.Bucket, in.Key, in.UploadId, in.ExpectedBucketOwner)
		if u = row; awserr.Code(err) == "NoSuchUpload" && b != nil {
			cur, cerr := current(tx, b, value(in.Key))
			if cerr == nil && cur != nil && cur.Content == value(in.UploadId) {
				done = cur
				return nil
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if done != nil {
		return completed(in, done, nil), nil
	}
	parts, err := u.wanted(in)
	if err != nil {
		return nil, err
	}
	o := u.Object
	expiration, err := s.commitObject(ctx, sc, in.Bucket, &o, cond, "s3:ObjectCreated:CompleteMultipartUpload", func(tx *store.Tx) error {
		return s.assemble(tx, u, &o, in, parts)
	})
	if err != nil {
		return nil, err
	}
	return completed(in, &o, expiration), nil
}

func completed(in *s3.CompleteMultipartUploadInput, o *objectRow, expiration *string) *s3.CompleteMultipartUploadOutput {
	v := sumsOf(checksum.Algorithm(o.Sum.Algorithm), o.Sum.Value)
	out := &s3.CompleteMultipartUploadOutput{
		Location: wire.Ptr("http://" + value(in.Bucket) + ".s3.amazonaws.com/" + escapeKey(value(in.Key))),
		Bucket:   in.Bucket, Key: in.Key, ETag: wire.Ptr(quote(o.ETag)), Expiration: expiration, ChecksumType: optional(o.Sum.Type),
		ChecksumCRC32: v[0], ChecksumCRC32C: v[1], ChecksumCRC64NVME: v[2], ChecksumSHA1: v[3], ChecksumSHA256: v[4],
		ChecksumSHA512: v[5], ChecksumMD5: v[6], ChecksumXXHASH64: v[7], ChecksumXXHASH3: v[8], ChecksumXXHASH128: v[9],
	}
	if o.Version != nullVersion {
		out.VersionId = &o.Version
	}
	out.ServerSideEncryption, _, _ = o.Seal.shown()
	return out
}

// wanted checks the list of parts in itself, and the customer's key.
func (u *uploadRow) wanted(in *s3.CompleteMultipartUploadInput) ([]s3.CompletedPart, error) {
	parts := in.MultipartUpload.Parts
	for i, p := range parts {
		if p.PartNumber == nil || p.ETag == nil {
			return nil, malformedXML()
		}
		if i > 0 && *p.PartNumber <= *parts[i-1].PartNumber {
			return nil, awserr.New(400, "InvalidPartOrder", "The list of parts was not in ascending order. Parts must be ordered by part number.").With("UploadId", u.ID)
		}
	}
	c, err := parseCustomerKey(in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5)
	if err != nil {
		return nil, err
	}
	if c != nil || u.Asked { // S3 wants the key again where the client chose a checksum
		if err := u.checkCustomer(c); err != nil {
			return nil, err
		}
	}
	if in.ChecksumType != nil && *in.ChecksumType != u.SumType {
		return nil, invalidRequest("The upload was created using the " + u.SumType + " checksum mode. The complete request must use the same checksum mode.")
	}
	return parts, nil
}

// assemble makes an object of the parts that the client lists and gives up the
// others. The parts stay where they are; only their sizes are written down.
func (s *Service) assemble(tx *store.Tx, u *uploadRow, o *objectRow, in *s3.CompleteMultipartUploadInput, parts []s3.CompletedPart) error {
	if ok, err := uploads.Has(tx, store.K(u.Bucket, u.Key, u.ID)); err != nil {
		return err
	} else if !ok {
		return noSuchUpload(u.ID)
	}
	whole := md5.New()
	var digests []checksum.Part
	head := contentRow{ID: u.ID, MD5: nil}
	for row, err := range contents.Scan(tx, store.Range{Prefix: store.K(u.ID)}) {
		if err != nil {
			return err
		}
		if len(parts) == 0 || row.Part != *parts[0].PartNumber {
			if err := s.giveUp(tx, row); err != nil {
				return err
			}
			continue
		}
		if err := u.checkPart(row, parts[0], len(parts) == 1); err != nil {
			return err
		}
		parts = parts[1:]
		whole.Write(row.MD5)
		digests = append(digests, checksum.Part{Digest: row.Sum, Size: row.Size})
		head.add(row)
	}
	if len(parts) > 0 {
		return invalidPartList(u, parts[0])
	}
	if head.Size > maxObject {
		return entityTooLarge(head.Size, maxObject)
	}
	o.Content, o.Size, o.Parts = u.ID, head.Size, int32(len(digests))
	o.ETag = fmt.Sprintf("%s-%d", hex.EncodeToString(whole.Sum(nil)), len(digests))
	if err := u.checkWhole(o, in, digests); err != nil {
		return err
	}
	if err := contents.Insert(tx, &head); err != nil {
		return err
	}
	return uploads.Delete(tx, store.K(u.Bucket, u.Key, u.ID))
}

// giveUp deletes a part that was not listed, or that comes before the ones listed.
func (s *Service) giveUp(tx *store.Tx, row *contentRow) error {
	if row.Blob != "" {
		if err := s.drop(tx, garbageRow{Blob: row.Blob}); err != nil {
			return err
		}
	}
	return contents.Delete(tx, store.K(row.ID, row.Part))
}

// add appends a part to the list of sizes.
func (h *contentRow) add(part *contentRow) {
	h.Size += part.Size
	if n := len(h.Runs); n > 0 {
		last := &h.Runs[n-1]
		if last.Size == part.Size && last.First+last.Count == part.Part {
			last.Count++
			return
		}
	}
	h.Runs = append(h.Runs, run{part.Part, 1, part.Size})
}

func invalidPartList(u *uploadRow, p s3.CompletedPart) error {
	return awserr.New(400, "InvalidPart", "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.").
		With("UploadId", u.ID).With("PartNumber", fmt.Sprint(value(p.PartNumber))).With("ETag", unquote(value(p.ETag)))
}

// checkPart compares a part with what the client says of it.
func (u *uploadRow) checkPart(row *contentRow, p s3.CompletedPart, last bool) error {
	if unquote(*p.ETag) != hex.EncodeToString(row.MD5) {
		return invalidPartList(u, p)
	}
	if !last && row.Size < minPartSize {
		return awserr.New(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size").
			With("ProposedSize", fmt.Sprint(row.Size)).With("MinSizeAllowed", fmt.Sprint(minPartSize)).
			With("PartNumber", fmt.Sprint(row.Part)).With("ETag", unquote(*p.ETag))
	}
	v := sums{p.ChecksumCRC32, p.ChecksumCRC32C, p.ChecksumCRC64NVME, p.ChecksumSHA1, p.ChecksumSHA256,
		p.ChecksumSHA512, p.ChecksumMD5, p.ChecksumXXHASH64, p.ChecksumXXHASH3, p.ChecksumXXHASH128}
	alg, text, err := v.given()
	switch {
	case err != nil:
		return err
	case alg != "" && string(alg) == u.Algorithm && text != checksum.Encode(row.Sum):
		return invalidPartList(u, p)
	case alg == "" && u.Asked && u.SumType == checksum.Composite:
		return invalidRequest(fmt.Sprintf("The upload was created using a %s checksum. The complete request must include the checksum for each part. It was missing for part %d in the request.", lower(u.Algorithm), row.Part))
	}
	return nil
}

// checkWhole computes the object's checksum and compares it and the size with what
// the client says.
func (u *uploadRow) checkWhole(o *objectRow, in *s3.CompleteMultipartUploadInput, parts []checksum.Part) error {
	if in.MpuObjectSize != nil && *in.MpuObjectSize != o.Size {
		return invalidRequest(fmt.Sprintf("The provided 'x-amz-mp-object-size' header value %d does not match what was computed: %d", *in.MpuObjectSize, o.Size))
	}
	sum, ok := checksum.Algorithm(u.Algorithm).OfParts(u.SumType, parts)
	if !ok {
		return fmt.Errorf("s3: upload %s: the parts' checksums do not fit %s %s", u.ID, u.Algorithm, u.SumType)
	}
	o.Sum = sumRow{u.Algorithm, u.SumType, sum}
	v := sums{in.ChecksumCRC32, in.ChecksumCRC32C, in.ChecksumCRC64NVME, in.ChecksumSHA1, in.ChecksumSHA256,
		in.ChecksumSHA512, in.ChecksumMD5, in.ChecksumXXHASH64, in.ChecksumXXHASH3, in.ChecksumXXHASH128}
	alg, text, err := v.given()
	if err != nil || alg == "" {
		return err
	}
	if string(alg) != u.Algorithm {
		return invalidRequest("Checksum Type mismatch occurred, expected checksum Type: " + lower(u.Algorithm) + ", actual checksum Type: " + lower(string(alg)))
	}
	if text != sum {
		return badDigest(u.Algorithm)
	}
	return nil
}
