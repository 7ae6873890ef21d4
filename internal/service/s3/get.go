package s3

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/service/s3/checksum"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// GetObject implements s3:GetObject.
func (s *Service) GetObject(ctx context.Context, sc auth.Scope, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
	err := overrides(sc, in.ResponseCacheControl, in.ResponseContentDisposition, in.ResponseContentEncoding, in.ResponseContentLanguage, in.ResponseContentType, in.ResponseExpires)
	if err != nil {
		return nil, err
	}
	v, err := s.look(ctx, readRequest{
		name:  objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner},
		cond:  readCondition{match: in.IfMatch, noneMatch: in.IfNoneMatch, modifiedSince: in.IfModifiedSince, unmodified: in.IfUnmodifiedSince},
		bytes: in.Range, part: in.PartNumber, sums: value(in.ChecksumMode) == "ENABLED",
		customer: [3]*string{in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5},
	})
	if err != nil {
		return nil, err
	}
	o := v.row
	out := &s3.GetObjectOutput{
		AcceptRanges: wire.Ptr("bytes"), Expiration: v.expiration, LastModified: &o.Modified, ContentLength: &v.at.n,
		ContentRange: v.contentRange, ETag: wire.Ptr(quote(o.ETag)), ChecksumType: v.sumType, VersionId: versionShown(v.bucket, o),
		CacheControl: orElse(in.ResponseCacheControl, o.Headers.CacheControl), ContentDisposition: orElse(in.ResponseContentDisposition, o.Headers.ContentDisposition),
		ContentEncoding: orElse(in.ResponseContentEncoding, o.Headers.ContentEncoding), ContentLanguage: orElse(in.ResponseContentLanguage, o.Headers.ContentLanguage),
		ContentType: orElse(in.ResponseContentType, o.Headers.ContentType), Expires: expires(in.ResponseExpires, o),
		WebsiteRedirectLocation: optional(o.Headers.Redirect), Metadata: o.Meta, StorageClass: optional(o.Class),
		ReplicationStatus: optional(o.Replication), PartsCount: v.parts,
		ObjectLockMode: optional(o.LockMode), ObjectLockLegalHoldStatus: holdShown(o),
	}
	if !o.RetainUntil.IsZero() {
		out.ObjectLockRetainUntilDate = &o.RetainUntil
	}
	if len(o.Tags) > 0 {
		out.TagCount = wire.Ptr(int32(len(o.Tags)))
	}
	out.ServerSideEncryption, out.SSECustomerAlgorithm, out.SSECustomerKeyMD5 = o.Seal.shown()
	c := v.sums
	out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME, out.ChecksumSHA1, out.ChecksumSHA256 = c[0], c[1], c[2], c[3], c[4]
	out.ChecksumSHA512, out.ChecksumMD5, out.ChecksumXXHASH64, out.ChecksumXXHASH3, out.ChecksumXXHASH128 = c[5], c[6], c[7], c[8], c[9]
	out.Body, err = s.read(ctx, o, v.head, v.dataKey, v.at)
	return out, err
}

// HeadObject implements s3:GetObject without the body.
func (s *Service) HeadObject(ctx context.Context, sc auth.Scope, in *s3.HeadObjectInput) (*s3.HeadObjectOutput, error) {
	err := overrides(sc, in.ResponseCacheControl, in.ResponseContentDisposition, in.ResponseContentEncoding, in.ResponseContentLanguage, in.ResponseContentType, in.ResponseExpires)
	if err != nil {
		return nil, err
	}
	v, err := s.look(ctx, readRequest{
		name:  objectName{in.Bucket, in.Key, in.VersionId, in.ExpectedBucketOwner},
		cond:  readCondition{match: in.IfMatch, noneMatch: in.IfNoneMatch, modifiedSince: in.IfModifiedSince, unmodified: in.IfUnmodifiedSince},
		bytes: in.Range, part: in.PartNumber, sums: value(in.ChecksumMode) == "ENABLED",
		customer: [3]*string{in.SSECustomerAlgorithm, in.SSECustomerKey, in.SSECustomerKeyMD5},
	})
	if err != nil {
		return nil, err
	}
	o := v.row
	out := &s3.HeadObjectOutput{
		AcceptRanges: wire.Ptr("bytes"), Expiration: v.expiration, LastModified: &o.Modified, ContentLength: &v.at.n,
		ContentRange: v.contentRange, ETag: wire.Ptr(quote(o.ETag)), ChecksumType: v.sumType, VersionId: versionShown(v.bucket, o),
		CacheControl: orElse(in.ResponseCacheControl, o.Headers.CacheControl), ContentDisposition: orElse(in.ResponseContentDisposition, o.Headers.ContentDisposition),
		ContentEncoding: orElse(in.ResponseContentEncoding, o.Headers.ContentEncoding), ContentLanguage: orElse(in.ResponseContentLanguage, o.Headers.ContentLanguage),
		ContentType: orElse(in.ResponseContentType, o.Headers.ContentType), Expires: expires(in.ResponseExpires, o),
		WebsiteRedirectLocation: optional(o.Headers.Redirect), Metadata: o.Meta, StorageClass: optional(o.Class),
		ReplicationStatus: optional(o.Replication), PartsCount: v.parts,
		ObjectLockMode: optional(o.LockMode), ObjectLockLegalHoldStatus: holdShown(o),
	}
	if !o.RetainUntil.IsZero() {
		out.ObjectLockRetainUntilDate = &o.RetainUntil
	}
	if len(o.Tags) > 0 {
		out.TagCount = wire.Ptr(int32(len(o.Tags)))
	}
	out.ServerSideEncryption, out.SSECustomerAlgorithm, out.SSECustomerKeyMD5 = o.Seal.shown()
	c := v.sums
	out.ChecksumCRC32, out.ChecksumCRC32C, out.ChecksumCRC64NVME, out.ChecksumSHA1, out.ChecksumSHA256 = c[0], c[1], c[2], c[3], c[4]
	out.ChecksumSHA512, out.ChecksumMD5, out.ChecksumXXHASH64, out.ChecksumXXHASH3, out.ChecksumXXHASH128 = c[5], c[6], c[7], c[8], c[9]
	return out, nil
}

// overrides refuses the headers that an unsigned request asks to be answered with:
// whoever made the link to a public object could make it a page of its own.
func overrides(sc auth.Scope, cache, disposition, encoding, language, kind *string, expires *time.Time) error {
	if sc.Principal.Kind != auth.Anonymous || cmp.Or(cache, disposition, encoding, language, kind) == nil && expires == nil {
		return nil
	}
	return invalidRequest("Request specific response headers cannot be used for anonymous GET requests.")
}

func orElse(p *string, stored string) *string {
	if p != nil {
		return p
	}
	return optional(stored)
}

// expires returns the header Expires.
func expires(asked *time.Time, o *objectRow) *string {
	if asked != nil {
		return wire.Ptr(httpDate(*asked))
	}
	return optional(o.Headers.Expires)
}

// readRequest is what GetObject and HeadObject ask for.
type readRequest struct {
	name     objectName
	cond     readCondition
	bytes    *string // the header Range
	part     *int32
	sums     bool
	customer [3]*string
}

// view is a version of an object and the part of it that is asked for.
type view struct {
	bucket       *bucketRow
	row          *objectRow
	head         *contentRow // see head
	dataKey      []byte
	at           span
	contentRange *string
	parts        *int32
	sums         sums
	sumType      *string
	expiration   *string
}

// look finds what a read asks for and checks all that can be wrong with it.
func (s *Service) look(ctx context.Context, q readRequest) (*view, error) {
	v := &view{}
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		if v.bucket, v.row, err = s.find(tx, q.name); err != nil {
			return err
		}
		if v.expiration, err = s.expiration(tx, v.bucket, v.row); err != nil {
			return err
		}
		v.head, err = head(tx, v.row)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.count(v.bucket, tier2)
	if q.part != nil && q.bytes != nil {
		return nil, invalidRequest("Cannot specify both Range header and partNumber query parameter")
	}
	c, err := parseCustomerKey(q.customer[0], q.customer[1], q.customer[2])
	if err != nil {
		return nil, err
	}
	if v.dataKey, err = s.open(ctx, v.row.Seal, c); err != nil {
		return nil, err
	}
	if err := q.cond.holds(v.row, s.now()); err != nil {
		return nil, err
	}
	v.at = span{0, v.row.Size}
	switch {
	case q.part != nil:
		err = s.lookPart(ctx, v, *q.part, q.sums)
	case q.bytes != nil:
		var partial bool
		if v.at, partial, err = parseRange(*q.bytes, v.row.Size); partial {
			v.contentRange = contentRange(v.at, v.row.Size)
		}
	}
	if err != nil {
		return nil, err
	}
	if q.sums && q.part == nil && v.contentRange == nil {
		v.sums = sumsOf(checksum.Algorithm(v.row.Sum.Algorithm), v.row.Sum.Value)
		v.sumType = optional(v.row.Sum.Type)
	}
	return v, nil
}

// lookPart narrows a view to one part of a multipart object. An object put at once
// is its own part 1.
func (s *Service) lookPart(ctx context.Context, v *view, number int32, withSums bool) error {
	if number < 1 || number > maxParts {
		return invalidArgument("partNumber", strconv.Itoa(int(number)), "Part number must be an integer between 1 and 10000, inclusive")
	}
	if v.row.Parts == 0 {
		if number != 1 {
			return invalidPart(number, 1)
		}
		if v.row.Size > 0 {
			v.contentRange = contentRange(v.at, v.row.Size)
		}
		if withSums {
			v.sums, v.sumType = sumsOf(checksum.Algorithm(v.row.Sum.Algorithm), v.row.Sum.Value), optional(v.row.Sum.Type)
		}
		return nil
	}
	var runs []run
	if v.head != nil {
		runs = v.head.Runs
	}
	v.parts = &v.row.Parts
	off := int64(0)
	for _, r := range runs {
		if i := number - r.First; i >= 0 && i < r.Count {
			v.at = span{off + int64(i)*r.Size, r.Size}
			if v.row.Size > 0 {
				v.contentRange = contentRange(v.at, v.row.Size)
			}
			if !withSums {
				return nil
			}
			return s.Store.View(ctx, func(tx *store.Tx) error {
				part, err := contents.Get(tx, store.K(v.row.Content, number))
				if err == nil {
					v.sums = sumsOf(checksum.Algorithm(v.row.Sum.Algorithm), checksum.Encode(part.Sum))
					v.sumType = optional(v.row.Sum.Type)
				}
				return err
			})
		}
		off += int64(r.Count) * r.Size
	}
	return invalidPart(number, v.row.Parts)
}

func contentRange(at span, size int64) *string {
	if at.n == 0 {
		return wire.Ptr(fmt.Sprintf("bytes */%d", size))
	}
	return wire.Ptr(fmt.Sprintf("bytes %d-%d/%d", at.off, at.off+at.n-1, size))
}

// parseRange reads the header Range. One that is not of the form bytes=a-b,
// bytes=a- or bytes=-n is ignored, as on S3.
func parseRange(header string, size int64) (at span, partial bool, err error) {
	all := span{0, size}
	spec, ok := strings.CutPrefix(header, "bytes=")
	first, last, dash := strings.Cut(strings.TrimSpace(spec), "-")
	if !ok || !dash || strings.Contains(spec, ",") {
		return all, false, nil
	}
	if first == "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil {
			return all, false, nil
		}
		if n <= 0 || size == 0 {
			return all, false, invalidRange(header, size)
		}
		n = min(n, size)
		return span{size - n, n}, true, nil
	}
	from, err1 := strconv.ParseInt(first, 10, 64)
	to, err2 := size-1, error(nil)
	if last != "" {
		to, err2 = strconv.ParseInt(last, 10, 64)
	}
	if err1 != nil || err2 != nil || last != "" && to < from {
		return all, false, nil
	}
	if from >= size {
		return all, false, invalidRange(header, size)
	}
	return span{from, min(to, size-1) - from + 1}, true, nil
}
