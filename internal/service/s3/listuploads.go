package s3

import (
	"context"
	"encoding/hex"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/service/s3/checksum"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// ListMultipartUploads implements s3:ListBucketMultipartUploads.
func (s *Service) ListMultipartUploads(ctx context.Context, sc auth.Scope, in *s3.ListMultipartUploadsInput) (*s3.ListMultipartUploadsOutput, error) {
	q, err := newQuery(in.Prefix, in.Delimiter, in.EncodingType, in.MaxUploads)
	if err != nil {
		return nil, err
	}
	q.after = value(in.KeyMarker)
	out := &s3.ListMultipartUploadsOutput{
		Bucket: in.Bucket, Prefix: q.text(q.prefix), Delimiter: q.optional(in.Delimiter), EncodingType: in.EncodingType,
		KeyMarker: q.text(q.after), UploadIdMarker: wire.Ptr(value(in.UploadIdMarker)), MaxUploads: wire.Ptr(int32(q.limit)), IsTruncated: wire.Ptr(false),
	}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		b, err := s.bucket(tx, in.Bucket, in.ExpectedBucketOwner)
		if err != nil {
			return err
		}
		out.Uploads, out.CommonPrefixes = nil, nil
		return fillUploads(tx, b, q, value(in.UploadIdMarker), out)
	})
	return out, err
}

func fillUploads(tx *store.Tx, b *bucketRow, q query, afterID string, out *s3.ListMultipartUploadsOutput) error {
	r := q.rows(b)
	switch {
	case q.after != "" && afterID != "":
		r.After, r.From = store.K(b.ID, q.after, afterID), ""
	case q.after != "" && r.After != "": // all uploads of the marker's key are behind
		r.After, r.From = "", store.K(b.ID, q.after).End()
	}
	var lastKey, lastID string
	for again := q.limit > 0; again; {
		again = false
		for u, err := range uploads.Scan(tx, r) {
			if err != nil {
				return err
			}
			if len(out.Uploads)+len(out.CommonPrefixes) == q.limit {
				out.IsTruncated, out.NextKeyMarker, out.NextUploadIdMarker = wire.Ptr(true), q.text(lastKey), optional(lastID)
				return nil
			}
			if cp, ok := q.common(u.Key); ok {
				out.CommonPrefixes = append(out.CommonPrefixes, s3.CommonPrefix{Prefix: q.text(cp)})
				lastKey, lastID = cp, ""
				r.After, r.From = "", store.KPrefix(b.ID, cp).End()
				again = true
				break
			}
			out.Uploads = append(out.Uploads, u.show(q))
			lastKey, lastID = u.Key, u.ID
		}
	}
	return nil
}

func (u *uploadRow) show(q query) s3.MultipartUpload {
	x := s3.MultipartUpload{
		Key: q.text(u.Key), UploadId: &u.ID, Initiated: &u.Started, StorageClass: wire.Ptr(u.Object.class()),
		Owner: &s3.Owner{ID: wire.Ptr(canonicalID(u.Object.Owner))}, Initiator: u.initiator(),
	}
	if u.Asked {
		x.ChecksumAlgorithm, x.ChecksumType = &u.Algorithm, &u.SumType
	}
	return x
}

// initiator tells who began the upload: the account's root by its canonical id,
// others by their ARN.
func (u *uploadRow) initiator() *s3.Initiator {
	if u.Initiator == "" || u.Initiator == "arn:aws:iam::"+u.Account+":root" {
		return &s3.Initiator{ID: wire.Ptr(canonicalID(u.Account))}
	}
	return &s3.Initiator{ID: &u.Initiator, DisplayName: &u.Initiator}
}

// ListParts implements s3:ListMultipartUploadParts.
func (s *Service) ListParts(ctx context.Context, sc auth.Scope, in *s3.ListPartsInput) (*s3.ListPartsOutput, error) {
	limit := int32(defaultPageSize)
	if in.MaxParts != nil {
		if *in.MaxParts < 0 {
			return nil, invalidArgument("max-parts", itoa(int(*in.MaxParts)), "Argument max-parts must be an integer between 0 and 2147483647")
		}
		limit = min(*in.MaxParts, limit)
	}
	marker := value(in.PartNumberMarker)
	var out *s3.ListPartsOutput
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		b, u, err := s.upload(tx, in.Bucket, in.Key, in.UploadId, in.ExpectedBucketOwner)
		if err != nil {
			return err
		}
		out = &s3.ListPartsOutput{
			Bucket: in.Bucket, Key: in.Key, UploadId: in.UploadId, PartNumberMarker: &marker, MaxParts: &limit,
			IsTruncated: wire.Ptr(false), StorageClass: wire.Ptr(u.Object.class()), Initiator: u.initiator(),
			Owner: &s3.Owner{ID: wire.Ptr(canonicalID(u.Object.Owner))},
		}
		if u.Asked {
			out.ChecksumAlgorithm, out.ChecksumType = &u.Algorithm, &u.SumType
		}
		if out.AbortDate, out.AbortRuleId, err = s.abortion(tx, b, u); err != nil {
			return err
		}
		return fillParts(tx, u, marker, out)
	})
	return out, err
}

func fillParts(tx *store.Tx, u *uploadRow, marker int32, out *s3.ListPartsOutput) error {
	if *out.MaxParts == 0 {
		return nil
	}
	for row, err := range contents.Scan(tx, store.Range{Prefix: store.K(u.ID), After: store.K(u.ID, marker)}) {
		if err != nil {
			return err
		}
		if len(out.Parts) == int(*out.MaxParts) {
			out.IsTruncated = wire.Ptr(true)
			break
		}
		v := sums{}
		if u.Asked {
			v = sumsOf(checksum.Algorithm(u.Algorithm), checksum.Encode(row.Sum))
		}
		out.Parts = append(out.Parts, s3.Part{
			PartNumber: &row.Part, Size: &row.Size, LastModified: &row.Modified, ETag: wire.Ptr(quote(hex.EncodeToString(row.MD5))),
			ChecksumCRC32: v[0], ChecksumCRC32C: v[1], ChecksumCRC64NVME: v[2], ChecksumSHA1: v[3], ChecksumSHA256: v[4],
			ChecksumSHA512: v[5], ChecksumMD5: v[6], ChecksumXXHASH64: v[7], ChecksumXXHASH3: v[8], ChecksumXXHASH128: v[9],
		})
		out.NextPartNumberMarker = &row.Part
	}
	return nil
}
