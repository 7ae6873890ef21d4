package s3

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/service/s3/checksum"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// copySource is where a copy reads from.
type copySource struct {
	bucket, key string
	version     *string
}

// parseCopySource reads x-amz-copy-source: "bucket/key" or an object's ARN, url
// encoded, with "?versionId=" behind it.
func parseCopySource(header *string) (copySource, error) {
	text, query, versioned := strings.Cut(value(header), "?versionId=")
	bad := func() error {
		return invalidArgument("x-amz-copy-source", value(header), "Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	}
	path, err := url.PathUnescape(text)
	if err != nil {
		return copySource{}, bad()
	}
	path = strings.TrimPrefix(strings.TrimPrefix(path, "/"), "arn:aws:s3:::")
	bucket, key, ok := strings.Cut(path, "/")
	if !ok || bucket == "" || key == "" {
		return copySource{}, bad()
	}
	c := copySource{bucket: bucket, key: key}
	if versioned {
		c.version = &query
	}
	return c, nil
}

func (c copySource) name(expected *string) objectName {
	return objectName{&c.bucket, &c.key, c.version, expected}
}

// findSource reads the source of a copy and checks the conditions on it.
func (s *Service) findSource(ctx context.Context, src copySource, expected *string, cond readCondition, customer [3]*string) (*view, error) {
	v := &view{}
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		if v.bucket, v.row, err = s.find(tx, src.name(expected)); err == nil {
			v.head, err = head(tx, v.row)
		}
		return err
	})
	if awserr.Code(err) == "MethodNotAllowed" {
		return nil, invalidRequest("The source of a copy request may not specifically refer to a delete marker by version id.")
	}
	if err != nil {
		return nil, err
	}
	if err := cond.holds(v.row, s.now()); err != nil {
		return nil, err
	}
	c, err := parseCustomerKey(customer[0], customer[1], customer[2])
	if err != nil {
		return nil, err
	}
	v.dataKey, err = s.open(ctx, v.row.Seal, c)
	return v, err
}

// CopyObject implements s3:GetObject followed by s3:PutObject. Objects encrypted
// with the server's keys share their bytes with the copy.
func (s *Service) CopyObject(ctx context.Context, sc auth.Scope, in *s3.CopyObjectInput) (*s3.CopyObjectOutput, error) {
	src, err := parseCopySource(in.CopySource)
	if err != nil {
		return nil, err
	}
	if v := value(in.AnnotationDirective); v != "" && v != "EXCLUDE" {
		return nil, notImplemented("x-amz-object-annotation-directive")
	}
	cond := writeCondition{match: in.IfMatch, noneMatch: in.IfNoneMatch}
	b, err := s.beforeWrite(ctx, in.Bucket, in.ExpectedBucketOwner, in.Key, cond)
	if err != nil {
		return nil, err
	}
	from, err := s.findSource(ctx, src, in.ExpectedSourceBucketOwner,
		readCondition{match: in.CopySourceIfMatch, noneMatch: in.CopySourceIfNoneMatch, modifiedSince: in.CopySourceIfModifiedSince, unmodified: in.CopySourceIfUnmodifiedSince, copying: true},
		[3]*string{in.CopySourceSSECustomerAlgorithm, in.CopySourceSSECustomerKey, in.CopySourceSSECustomerKeyMD5})
	if err != nil {
		return nil, err
	}
	old := from.row
	if old.Size > maxPut {
		return nil, invalidRequest("The specified copy source is larger than the maximum allowable size for a copy source: 5368709120")
	}
	a, err := attributesOfCopy(in, old, b.ID == from.bucket.ID && src.version == nil)
	if err != nil {
		return nil, err
	}
	o, dataKey, err := s.newObject(ctx, sc, b, in.Key, a)
	if err != nil {
		return nil, err
	}
	if value(in.TaggingDirective) != "REPLACE" {
		o.Tags = old.Tags
	}
	alg, err := copyAlgorithm(in.ChecksumAlgorithm, old)
	if err != nil {
		return nil, err
	}
	expiration, err := s.commitCopy(ctx, sc, in.Bucket, copying{src, from, old, o, dataKey, alg}, cond)
	if err != nil {
		return nil, err
	}
	return copyOutput(o, from.bucket, old, expiration), nil
}

func copyOutput(o *objectRow, srcBucket *bucketRow, old *objectRow, expiration *string) *s3.CopyObjectOutput {
	v := sumsOf(checksum.Algorithm(o.Sum.Algorithm), o.Sum.Value)
	out := &s3.CopyObjectOutput{
		Expiration: expiration, CopySourceVersionId: versionShown(srcBucket, old),
		CopyObjectResult: &s3.CopyObjectResult{
			ETag: wire.Ptr(quote(o.ETag)), LastModified: &o.Modified, ChecksumType: optional(o.Sum.Type),
			ChecksumCRC32: v[0], ChecksumCRC32C: v[1], ChecksumCRC64NVME: v[2], ChecksumSHA1: v[3], ChecksumSHA256: v[4],
			ChecksumSHA512: v[5], ChecksumMD5: v[6], ChecksumXXHASH64: v[7], ChecksumXXHASH3: v[8], ChecksumXXHASH128: v[9],
		},
	}
	if o.Version != nullVersion {
		out.VersionId = &o.Version
	}
	out.ServerSideEncryption, out.SSECustomerAlgorithm, out.SSECustomerKeyMD5 = o.Seal.shown()
	return out
}

// attributesOfCopy returns what the new object is to be: as the request says with
// the directive REPLACE, else as the source is. An object may be copied onto
// itself only if that changes something.
func attributesOfCopy(in *s3.CopyObjectInput, old *objectRow, sameBucket bool) (attributes, error) {
	a := attributes{
		acl: aclRequest{canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, readACP: in.GrantReadACP, writeACP: in.GrantWriteACP},
		headers: headerRow{
			ContentType: value(in.ContentType), CacheControl: value(in.CacheControl), ContentDisposition: value(in.ContentDisposition),
			ContentEncoding: value(in.ContentEncoding), ContentLanguage: value(in.ContentLanguage), Expires: value(in.Expires),
		},
		meta: in.Metadata, encryption: in.ServerSideEncryption, class: in.StorageClass,
		customer: [3]*string{in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5},
		lockMode: in.ObjectLockMode, retain: in.ObjectLockRetainUntilDate, hold: in.ObjectLockLegalHoldStatus,
	}
	switch directive := value(in.MetadataDirective); directive {
	case "", "COPY":
		same := sameBucket && value(in.Key) == old.Key
		changes := value(in.StorageClass) != "" || in.WebsiteRedirectLocation != nil || in.ServerSideEncryption != nil || in.SSECustomerAlgorithm != nil || old.Seal.customer()
		if same && !changes {
			return a, invalidRequest("This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
		}
		a.headers, a.meta = old.Headers, old.Meta
	case "REPLACE":
	default:
		return a, invalidArgument("x-amz-metadata-directive", directive, "Unknown metadata directive.")
	}
	a.headers.Redirect = value(in.WebsiteRedirectLocation)
	switch directive := value(in.TaggingDirective); directive {
	case "", "COPY":
	case "REPLACE":
		a.tagging = in.Tagging
	default:
		return a, invalidArgument("x-amz-tagging-directive", directive, "Unknown tagging directive.")
	}
	return a, nil
}

// copyAlgorithm returns the checksum algorithm of a copy: the source's, unless the
// request names another.
func copyAlgorithm(named *string, old *objectRow) (checksum.Algorithm, error) {
	if named == nil {
		if old.Sum.Algorithm == "" {
			return checksum.CRC64NVME, nil
		}
		return checksum.Algorithm(old.Sum.Algorithm), nil
	}
	alg, ok := checksum.Parse(*named)
	if !ok {
		return "", invalidRequest("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [" + algorithmNames() + "]")
	}
	return alg, nil
}

// copying is a copy about to be made.
type copying struct {
	src     copySource
	from    *view
	old     *objectRow
	o       *objectRow
	dataKey []byte
	alg     checksum.Algorithm
}

// errGone says that the source was deleted or overwritten while it was copied.
var errGone = errors.New("s3: the source of the copy is gone")

// commitCopy stores the copy: another claim to the same content where that can be
// shared, a content of its own otherwise.
func (s *Service) commitCopy(ctx context.Context, sc auth.Scope, bucket *string, c copying, cond writeCondition) (*string, error) {
	// A multipart object's copy is an object put at once, with that ETag and that
	// checksum, so its bytes are read again.
	plain := !c.old.Seal.customer() && !c.o.Seal.customer() && c.old.Parts == 0 && string(c.alg) == c.old.Sum.Algorithm && c.old.Content != ""
	if plain {
		c.o.Content, c.o.Size, c.o.ETag, c.o.Sum, c.o.Seal = c.old.Content, c.old.Size, c.old.ETag, c.old.Sum, c.old.Seal
		expiration, err := s.commitObject(ctx, sc, bucket, c.o, cond, "s3:ObjectCreated:Copy", func(tx *store.Tx) error {
			return s.shareFrom(tx, c)
		})
		if !errors.Is(err, errGone) {
			return expiration, err
		}
		return nil, awserr.New(409, "OperationAborted", "A conflicting conditional operation is currently in progress against this resource. Please try again.")
	}
	body, err := s.read(ctx, c.old, c.from.head, c.from.dataKey, span{0, c.old.Size})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	got, err := s.receive(ctx, body, &c.old.Size, c.dataKey, claim{algorithm: c.alg})
	if err != nil {
		return nil, fmt.Errorf("s3: copy %s/%s: %w", c.src.bucket, c.src.key, err)
	}
	defer got.discard(ctx)
	c.o.setContent(got, c.dataKey, c.alg)
	expiration, err := s.commitObject(ctx, sc, bucket, c.o, cond, "s3:ObjectCreated:Copy", func(tx *store.Tx) error {
		return contents.Insert(tx, &got.row)
	})
	got.used = err == nil
	return expiration, err
}

// shareFrom makes the copy share the source's content, if that is still there.
func (s *Service) shareFrom(tx *store.Tx, c copying) error {
	ok, err := contents.Has(tx, store.K(c.old.Content, 1))
	if err == nil && ok {
		var now *objectRow
		now, err = findVersion(tx, &bucketRow{ID: c.old.Bucket}, c.old.Key, c.old.Version)
		ok = now != nil && now.Content == c.old.Content
	}
	if err != nil {
		return err
	}
	if !ok {
		return errGone
	}
	return share(tx, c.old.Content)
}

// UploadPartCopy implements s3:GetObject followed by s3:PutObject of a part.
func (s *Service) UploadPartCopy(ctx context.Context, sc auth.Scope, in *s3.UploadPartCopyInput) (*s3.UploadPartCopyOutput, error) {
	src, err := parseCopySource(in.CopySource)
	if err != nil {
		return nil, err
	}
	u, dataKey, err := s.openUpload(ctx, partRequest{in.Bucket, in.Key, in.UploadId, in.ExpectedBucketOwner, value(in.PartNumber),
		[3]*string{in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5}})
	if err != nil {
		return nil, err
	}
	from, err := s.findSource(ctx, src, in.ExpectedSourceBucketOwner,
		readCondition{match: in.CopySourceIfMatch, noneMatch: in.CopySourceIfNoneMatch, modifiedSince: in.CopySourceIfModifiedSince, unmodified: in.CopySourceIfUnmodifiedSince, copying: true},
		[3]*string{in.CopySourceSSECustomerAlgorithm, in.CopySourceSSECustomerKey, in.CopySourceSSECustomerKeyMD5})
	if err != nil {
		return nil, err
	}
	old := from.row
	at := span{0, old.Size}
	if in.CopySourceRange != nil {
		if at, err = parseCopyRange(*in.CopySourceRange, old.Size); err != nil {
			return nil, err
		}
	}
	if at.n > maxPut {
		return nil, invalidRequest("The specified copy source is larger than the maximum allowable size for a copy source: 5368709120")
	}
	body, err := s.read(ctx, old, from.head, from.dataKey, at)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	got, err := s.receive(ctx, body, &at.n, dataKey, claim{algorithm: checksum.Algorithm(u.Algorithm)})
	if err != nil {
		return nil, fmt.Errorf("s3: copy %s/%s: %w", src.bucket, src.key, err)
	}
	defer got.discard(ctx)
	if err := s.putPart(ctx, u, value(in.PartNumber), got); err != nil {
		return nil, err
	}
	v := u.sums(got.row.Sum)
	out := &s3.UploadPartCopyOutput{CopySourceVersionId: versionShown(from.bucket, old), CopyPartResult: &s3.CopyPartResult{
		ETag: wire.Ptr(quote(hex.EncodeToString(got.row.MD5))), LastModified: &got.row.Modified,
		ChecksumCRC32: v[0], ChecksumCRC32C: v[1], ChecksumCRC64NVME: v[2], ChecksumSHA1: v[3], ChecksumSHA256: v[4],
		ChecksumSHA512: v[5], ChecksumMD5: v[6], ChecksumXXHASH64: v[7], ChecksumXXHASH3: v[8], ChecksumXXHASH128: v[9],
	}}
	out.ServerSideEncryption, out.SSECustomerAlgorithm, out.SSECustomerKeyMD5 = u.Object.Seal.shown()
	return out, nil
}

// parseCopyRange reads x-amz-copy-source-range, which must be bytes=first-last and
// lie in the source.
func parseCopyRange(header string, size int64) (span, error) {
	at, partial, err := parseRange(header, size)
	_, last, _ := strings.Cut(header, "-")
	switch {
	case err == nil && (!partial || last == "" || strings.HasPrefix(header, "bytes=-")):
		return at, invalidArgument("x-amz-copy-source-range", header, "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy")
	case err != nil || last != fmt.Sprint(at.off+at.n-1):
		return at, invalidArgument("x-amz-copy-source-range", header, fmt.Sprintf("Range specified is not valid for source object of size: %d", size))
	}
	return at, nil
}
