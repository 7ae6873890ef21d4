package s3

import (
	"context"
	"encoding/hex"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/service/s3/checksum"
	"skerry/internal/store"
)

// PutObject implements s3:PutObject. The object is there once the body has ended
// and was found right; until then, and if anything fails, all is as it was.
func (s *Service) PutObject(ctx context.Context, sc auth.Scope, in *s3.PutObjectInput) (*s3.PutObjectOutput, error) {
	if in.WriteOffsetBytes != nil {
		return nil, notImplemented("x-amz-write-offset-bytes")
	}
	cond := writeCondition{match: in.IfMatch, noneMatch: in.IfNoneMatch}
	b, err := s.beforeWrite(ctx, in.Bucket, in.ExpectedBucketOwner, in.Key, cond)
	if err != nil {
		return nil, err
	}
	o, dataKey, err := s.newObject(ctx, sc, b, in.Key, attributesOfPut(in))
	if err != nil {
		return nil, err
	}
	given := sums{in.ChecksumCRC32, in.ChecksumCRC32C, in.ChecksumCRC64NVME, in.ChecksumSHA1, in.ChecksumSHA256,
		in.ChecksumSHA512, in.ChecksumMD5, in.ChecksumXXHASH64, in.ChecksumXXHASH3, in.ChecksumXXHASH128}
	c, err := newClaim(in.ContentMD5, given, in.ChecksumAlgorithm, in.Body, checksum.CRC64NVME)
	if err != nil {
		return nil, err
	}
	if (in.ObjectLockMode != nil || in.ObjectLockLegalHoldStatus != nil) && c.md5 == nil && !c.asked {
		return nil, invalidRequest("Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters")
	}
	got, err := s.receive(ctx, in.Body, in.ContentLength, dataKey, c)
	if err != nil {
		return nil, err
	}
	defer got.discard(ctx)
	o.setContent(got, dataKey, c.algorithm)
	event := "s3:ObjectCreated:Put"
	if sc.Request.Auth.Type == "POST" { // a browser's form
		event = "s3:ObjectCreated:Post"
	}
	expiration, err := s.commitObject(ctx, sc, in.Bucket, o, cond, event, func(tx *store.Tx) error {
		return contents.Insert(tx, &got.row)
	})
	if err != nil {
		return nil, err
	}
	got.used = true
	out := &s3.PutObjectOutput{ETag: optional(quote(o.ETag)), Expiration: expiration, ChecksumType: &o.Sum.Type}
	v := sumsOf(c.algorithm, o.Sum.Value)
	out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME, out.ChecksumSHA1, out.ChecksumSHA256 = v[0], v[1], v[2], v[3], v[4]
	out.ChecksumSHA512, out.ChecksumMD5, out.ChecksumXXHASH64, out.ChecksumXXHASH3, out.ChecksumXXHASH128 = v[5], v[6], v[7], v[8], v[9]
	if o.Version != nullVersion {
		out.VersionId = &o.Version
	}
	out.ServerSideEncryption, out.SSECustomerAlgorithm, out.SSECustomerKeyMD5 = o.Seal.shown()
	return out, nil
}

func attributesOfPut(in *s3.PutObjectInput) attributes {
	return attributes{
		acl: aclRequest{canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, readACP: in.GrantReadACP, writeACP: in.GrantWriteACP},
		headers: headerRow{
			ContentType: value(in.ContentType), CacheControl: value(in.CacheControl), ContentDisposition: value(in.ContentDisposition),
			ContentEncoding: value(in.ContentEncoding), ContentLanguage: value(in.ContentLanguage), Expires: value(in.Expires),
			Redirect: value(in.WebsiteRedirectLocation),
		},
		meta: in.Metadata, encryption: in.ServerSideEncryption, class: in.StorageClass, tagging: in.Tagging,
		customer: [3]*string{in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5},
		lockMode: in.ObjectLockMode, retain: in.ObjectLockRetainUntilDate, hold: in.ObjectLockLegalHoldStatus,
	}
}

// setContent makes the row of an object tell of a content that came in whole.
func (o *objectRow) setContent(got *intake, dataKey []byte, alg checksum.Algorithm) {
	o.Content, o.Size, o.Parts = got.row.ID, got.row.Size, 0
	o.ETag = hex.EncodeToString(got.row.MD5)
	if o.Seal.customer() {
		o.ETag = keyedETag(dataKey, got.row.MD5)
	}
	o.Sum = sumRow{string(alg), checksum.FullObject, checksum.Encode(got.row.Sum)}
}

// shown returns the headers that tell how an object is encrypted.
func (r sealRow) shown() (encryption, algorithm, md5 *string) {
	aes := "AES256"
	if r.customer() {
		return nil, &aes, &r.MD5
	}
	return &aes, nil, nil
}

// beforeWrite reads the bucket and refuses early what cannot succeed, so that no
// client sends gigabytes in vain. What counts is asked again at the commit.
func (s *Service) beforeWrite(ctx context.Context, name, expected, key *string, cond writeCondition) (b *bucketRow, err error) {
	if err := cond.check(); err != nil {
		return nil, err
	}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		if b, err = s.bucket(tx, name, expected); err != nil || cond.none() {
			return err
		}
		cur, err := current(tx, b, value(key))
		if err != nil {
			return err
		}
		return cond.holds(value(key), cur)
	})
	return b, err
}

// commitObject makes a received object the current version of its key, in one
// transaction with what else write does, its events and its replication. It
// returns x-amz-expiration.
func (s *Service) commitObject(ctx context.Context, sc auth.Scope, bucket *string, o *objectRow, cond writeCondition, event string, write func(tx *store.Tx) error) (expiration *string, err error) {
	fresh := *o
	now := s.now()
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		*o = fresh
		b, err := s.bucket(tx, bucket, nil)
		if err != nil {
			return err
		}
		cur, err := current(tx, b, o.Key)
		if err != nil {
			return err
		}
		if err := cond.holds(o.Key, cur); err != nil {
			return err
		}
		if err := write(tx); err != nil {
			return err
		}
		if err := s.planReplica(tx, b, o, false); err != nil {
			return err
		}
		if err := s.place(tx, b, o, cur, now); err != nil {
			return err
		}
		if err := s.emitReplica(tx, b, o); err != nil {
			return err
		}
		if expiration, err = s.expiration(tx, b, o); err != nil {
			return err
		}
		tx.OnCommit(func() { s.count(b, tier1) })
		return s.notify(tx, b, o, sc, event)
	})
	return expiration, err
}

func (s *Service) now() time.Time { return s.Clock.Now().UTC() }
