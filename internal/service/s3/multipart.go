package s3

import (
	"context"
	"encoding/hex"
	"errors"
	"strconv"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/service/s3/checksum"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// The limits of "Amazon S3 multipart upload limits".
const (
	maxParts    = 10_000
	minPartSize = 5 << 20 // bytes of every part but the last
)

// CreateMultipartUpload implements s3:PutObject's first step.
func (s *Service) CreateMultipartUpload(ctx context.Context, sc auth.Scope, in *s3.CreateMultipartUploadInput) (*s3.CreateMultipartUploadOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	o, _, err := s.newObject(ctx, sc, b, in.Key, attributes{
		acl: aclRequest{canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, readACP: in.GrantReadACP, writeACP: in.GrantWriteACP},
		headers: headerRow{
			ContentType: value(in.ContentType), CacheControl: value(in.CacheControl), ContentDisposition: value(in.ContentDisposition),
			ContentEncoding: value(in.ContentEncoding), ContentLanguage: value(in.ContentLanguage), Expires: value(in.Expires),
			Redirect: value(in.WebsiteRedirectLocation),
		},
		meta: in.Metadata, encryption: in.ServerSideEncryption, class: in.StorageClass, tagging: in.Tagging,
		customer: [3]*string{in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5},
		lockMode: in.ObjectLockMode, retain: in.ObjectLockRetainUntilDate, hold: in.ObjectLockLegalHoldStatus,
	})
	if err != nil {
		return nil, err
	}
	u := &uploadRow{Key: o.Key, ID: ids.Alnum(64), Started: s.now().Truncate(time.Second), Account: sc.Account, Initiator: sc.Principal.ARN, Object: *o}
	if err := u.chooseSum(in.ChecksumAlgorithm, in.ChecksumType); err != nil {
		return nil, err
	}
	out := &s3.CreateMultipartUploadOutput{Bucket: in.Bucket, Key: in.Key, UploadId: &u.ID}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		b, err := s.bucket(tx, in.Bucket, in.ExpectedBucketOwner)
		if err != nil {
			return err
		}
		u.Bucket = b.ID
		if out.AbortDate, out.AbortRuleId, err = s.abortion(tx, b, u); err != nil {
			return err
		}
		return uploads.Insert(tx, u)
	})
	if err != nil {
		return nil, err
	}
	if u.Asked {
		out.ChecksumAlgorithm, out.ChecksumType = &u.Algorithm, &u.SumType
	}
	out.ServerSideEncryption, out.SSECustomerAlgorithm, out.SSECustomerKeyMD5 = o.Seal.shown()
	return out, nil
}

// chooseSum decides on the checksum of an upload: what the client names, or
// CRC64NVME of the full object.
func (u *uploadRow) chooseSum(named, kind *string) error {
	u.Algorithm, u.SumType = string(checksum.CRC64NVME), checksum.FullObject
	if named == nil {
		if kind != nil {
			return invalidRequest("The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.")
		}
		return nil
	}
	alg, ok := checksum.Parse(*named)
	if !ok {
		return invalidRequest("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [" + algorithmNames() + "]")
	}
	u.Asked, u.Algorithm, u.SumType = true, string(alg), alg.DefaultType()
	if kind == nil {
		return nil
	}
	if *kind != checksum.Composite && *kind != checksum.FullObject {
		return invalidRequest("Value for x-amz-checksum-type header is invalid.")
	}
	if !alg.Allows(*kind) {
		return invalidRequest("The " + *kind + " checksum type cannot be used with the " + string(alg) + " checksum algorithm.")
	}
	u.SumType = *kind
	return nil
}

// sums returns the members of an answer that tell a part's checksum, if the client
// asked for one.
func (u *uploadRow) sums(digest []byte) sums {
	if !u.Asked {
		return sums{}
	}
	return sumsOf(checksum.Algorithm(u.Algorithm), checksum.Encode(digest))
}

// partRequest is how a request names a part.
type partRequest struct {
	bucket, key, upload, expected *string
	number                        int32
	customer                      [3]*string
}

// openUpload finds the upload of a part and its data key.
func (s *Service) openUpload(ctx context.Context, r partRequest) (*uploadRow, []byte, error) {
	if r.number < 1 || r.number > maxParts {
		return nil, nil, invalidArgument("partNumber", strconv.Itoa(int(r.number)), "Part number must be an integer between 1 and 10000, inclusive")
	}
	var b *bucketRow
	var u *uploadRow
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		b, u, err = s.upload(tx, r.bucket, r.key, r.upload, r.expected)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	s.count(b, tier1)
	c, err := parseCustomerKey(r.customer[0], r.customer[1], r.customer[2])
	if err != nil {
		return nil, nil, err
	}
	if err := u.checkCustomer(c); err != nil {
		return nil, nil, err
	}
	dataKey, err := s.open(ctx, u.Object.Seal, c)
	return u, dataKey, err
}

// checkCustomer compares the customer's key of a request, if it has one, with that of
// the upload.
func (u *uploadRow) checkCustomer(c *customerKey) error {
	if u.Object.Seal.customer() && c == nil {
		return invalidRequest("The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters.")
	}
	if c != nil && (!u.Object.Seal.customer() || u.Object.Seal.MD5 != c.md5) {
		return invalidRequest("The provided encryption parameters did not match the ones used originally.")
	}
	return nil
}

// upload reads an upload under way.
func (s *Service) upload(tx *store.Tx, bucket, key, id, expected *string) (*bucketRow, *uploadRow, error) {
	b, err := s.bucket(tx, bucket, expected)
	if err != nil {
		return nil, nil, err
	}
	u, err := uploads.Get(tx, store.K(b.ID, value(key), value(id)))
	if errors.Is(err, store.ErrNotFound) {
		err = noSuchUpload(value(id))
	}
	return b, u, err
}

// UploadPart implements s3:PutObject of a part. A part sent again takes the place
// of the former.
func (s *Service) UploadPart(ctx context.Context, sc auth.Scope, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	u, dataKey, err := s.openUpload(ctx, partRequest{in.Bucket, in.Key, in.UploadId, in.ExpectedBucketOwner, value(in.PartNumber),
		[3]*string{in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5}})
	if err != nil {
		return nil, err
	}
	given := sums{in.ChecksumCRC32, in.ChecksumCRC32C, in.ChecksumCRC64NVME, in.ChecksumSHA1, in.ChecksumSHA256,
		in.ChecksumSHA512, in.ChecksumMD5, in.ChecksumXXHASH64, in.ChecksumXXHASH3, in.ChecksumXXHASH128}
	c, err := newClaim(in.ContentMD5, given, in.ChecksumAlgorithm, in.Body, checksum.Algorithm(u.Algorithm))
	if err != nil {
		return nil, err
	}
	if string(c.algorithm) != u.Algorithm && u.Asked {
		return nil, invalidRequest("Checksum Type mismatch occurred, expected checksum Type: " + lower(u.Algorithm) + ", actual checksum Type: " + lower(string(c.algorithm)))
	}
	// A client may protect its parts by another algorithm than the upload's if it
	// named none for that: both are then computed.
	c.also = checksum.Algorithm(u.Algorithm)
	got, err := s.receive(ctx, in.Body, in.ContentLength, dataKey, c)
	if err != nil {
		return nil, err
	}
	defer got.discard(ctx)
	if err := s.putPart(ctx, u, value(in.PartNumber), got); err != nil {
		return nil, err
	}
	out := &s3.UploadPartOutput{ETag: wire.Ptr(quote(hex.EncodeToString(got.row.MD5)))}
	v := sumsOf(c.algorithm, checksum.Encode(got.claimed))
	out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME, out.ChecksumSHA1, out.ChecksumSHA256 = v[0], v[1], v[2], v[3], v[4]
	out.ChecksumSHA512, out.ChecksumMD5, out.ChecksumXXHASH64, out.ChecksumXXHASH3, out.ChecksumXXHASH128 = v[5], v[6], v[7], v[8], v[9]
	out.ServerSideEncryption, out.SSECustomerAlgorithm, out.SSECustomerKeyMD5 = u.Object.Seal.shown()
	return out, nil
}

// putPart stores a part that came in whole.
func (s *Service) putPart(ctx context.Context, u *uploadRow, number int32, got *intake) error {
	row := got.row
	row.ID, row.Part, row.Modified = u.ID, number, s.now().Truncate(time.Second)
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		if ok, err := uploads.Has(tx, store.K(u.Bucket, u.Key, u.ID)); err != nil {
			return err
		} else if !ok {
			return noSuchUpload(u.ID)
		}
		old, err := contents.Get(tx, store.K(u.ID, number))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil && old.Blob != "" {
			if err := s.drop(tx, garbageRow{Blob: old.Blob}); err != nil {
				return err
			}
		}
		return contents.Put(tx, &row)
	})
	if err != nil {
		return err
	}
	got.row.Modified, got.used = row.Modified, true
	return nil
}

// AbortMultipartUpload implements s3:AbortMultipartUpload.
func (s *Service) AbortMultipartUpload(ctx context.Context, sc auth.Scope, in *s3.AbortMultipartUploadInput) (*s3.AbortMultipartUploadOutput, error) {
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		_, u, err := s.upload(tx, in.Bucket, in.Key, in.UploadId, in.ExpectedBucketOwner)
		if err != nil {
			return err
		}
		if in.IfMatchInitiatedTime != nil && !u.Started.Equal(in.IfMatchInitiatedTime.Truncate(time.Second)) {
			return preconditionFailed("x-amz-if-match-initiated-time")
		}
		return s.endUpload(tx, u)
	})
	return &s3.AbortMultipartUploadOutput{}, err
}

// endUpload deletes an upload; the garbage loop deletes its parts.
func (s *Service) endUpload(tx *store.Tx, u *uploadRow) error {
	if err := uploads.Delete(tx, store.K(u.Bucket, u.Key, u.ID)); err != nil {
		return err
	}
	return s.drop(tx, garbageRow{Content: u.ID})
}
