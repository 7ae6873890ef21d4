package s3

import (
	"context"
	"strings"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// query is what the listings have in common.
type query struct {
	prefix, delimiter string
	after             string // keys after this one; a common prefix stands for all in it
	limit             int
	url               bool // encoding-type=url
}

// newQuery reads the parameters that the listings share.
func newQuery(prefix, delimiter, encoding *string, limit *int32) (query, error) {
	q := query{prefix: value(prefix), delimiter: value(delimiter), limit: defaultPageSize}
	if encoding != nil {
		if *encoding != "url" {
			return q, invalidArgument("encoding-type", *encoding, "Invalid Encoding Method specified in Request")
		}
		q.url = true
	}
	if limit != nil {
		if *limit < 0 {
			return q, invalidArgument("maxKeys", itoa(int(*limit)), "Argument maxKeys must be an integer between 0 and 2147483647")
		}
		q.limit = min(int(*limit), defaultPageSize)
	}
	return q, nil
}

// text encodes a key for the answer.
func (q query) text(s string) *string {
	if q.url {
		s = escapeKey(s)
	}
	return &s
}

func (q query) optional(s *string) *string {
	if value(s) == "" {
		return nil
	}
	return q.text(*s)
}

// common returns the common prefix that a key is part of.
func (q query) common(key string) (string, bool) {
	if q.delimiter == "" {
		return "", false
	}
	i := strings.Index(key[len(q.prefix):], q.delimiter)
	if i < 0 {
		return "", false
	}
	return key[:len(q.prefix)+i+len(q.delimiter)], true
}

// span returns the rows of a bucket that can be in the listing.
func (q query) rows(b *bucketRow) store.Range {
	r := store.Range{Prefix: store.K(b.ID)}
	if q.prefix != "" {
		r.Prefix = store.KPrefix(b.ID, q.prefix)
	}
	if q.after == "" {
		return r
	}
	r.After = store.K(b.ID, q.after)
	if strings.HasPrefix(q.after, q.prefix) {
		if cp, ok := q.common(q.after); ok && cp == q.after {
			r.After, r.From = "", store.KPrefix(b.ID, cp).End()
		}
	}
	return r
}

// page is what a listing found.
type page struct {
	objects   []*objectRow
	prefixes  []string
	last      string // the last key or common prefix on the page
	truncated bool
}

// list returns a page of the current versions. All keys of a common prefix are
// skipped by one seek.
func list(tx *store.Tx, b *bucketRow, q query) (page, error) {
	var p page
	r := q.rows(b)
	for again := q.limit > 0; again; {
		again = false
		for o, err := range objects.Scan(tx, r) {
			if err != nil {
				return p, err
			}
			if o.Marker {
				continue
			}
			if len(p.objects)+len(p.prefixes) == q.limit {
				p.truncated = true
				return p, nil
			}
			cp, ok := q.common(o.Key)
			if !ok {
				p.objects, p.last = append(p.objects, o), o.Key
				continue
			}
			p.prefixes, p.last = append(p.prefixes, cp), cp
			r.After, r.From = "", store.KPrefix(b.ID, cp).End()
			again = true
			break
		}
	}
	return p, nil
}

func (q query) showPrefixes(prefixes []string) []s3.CommonPrefix {
	var out []s3.CommonPrefix
	for _, p := range prefixes {
		out = append(out, s3.CommonPrefix{Prefix: q.text(p)})
	}
	return out
}

func (q query) showObjects(rows []*objectRow, owner bool) []s3.Object {
	var out []s3.Object
	for _, o := range rows {
		x := s3.Object{Key: q.text(o.Key), LastModified: &o.Modified, ETag: wire.Ptr(quote(o.ETag)), Size: &o.Size, StorageClass: wire.Ptr(o.class())}
		if owner {
			x.Owner = &s3.Owner{ID: wire.Ptr(canonicalID(o.Owner))}
		}
		if o.Sum.Algorithm != "" {
			x.ChecksumAlgorithm, x.ChecksumType = []string{o.Sum.Algorithm}, &o.Sum.Type
		}
		out = append(out, x)
	}
	return out
}

// ListObjects implements s3:ListBucket, the first version.
func (s *Service) ListObjects(ctx context.Context, sc auth.Scope, in *s3.ListObjectsInput) (*s3.ListObjectsOutput, error) {
	q, err := newQuery(in.Prefix, in.Delimiter, in.EncodingType, in.MaxKeys)
	if err != nil {
		return nil, err
	}
	q.after = value(in.Marker)
	b, p, err := s.listPage(ctx, in.Bucket, in.ExpectedBucketOwner, q)
	if err != nil {
		return nil, err
	}
	out := &s3.ListObjectsOutput{
		Name: &b.Name, Prefix: q.text(q.prefix), Marker: q.text(q.after), Delimiter: q.optional(in.Delimiter), EncodingType: in.EncodingType,
		MaxKeys: wire.Ptr(int32(q.limit)), IsTruncated: &p.truncated, Contents: q.showObjects(p.objects, true), CommonPrefixes: q.showPrefixes(p.prefixes),
	}
	// Without a delimiter clients take the last key for the marker.
	if p.truncated && q.delimiter != "" {
		out.NextMarker = q.text(p.last)
	}
	return out, nil
}

// ListObjectsV2 implements s3:ListBucket.
func (s *Service) ListObjectsV2(ctx context.Context, sc auth.Scope, in *s3.ListObjectsV2Input) (*s3.ListObjectsV2Output, error) {
	q, err := newQuery(in.Prefix, in.Delimiter, in.EncodingType, in.MaxKeys)
	if err != nil {
		return nil, err
	}
	q.after = value(in.StartAfter)
	if value(in.ContinuationToken) != "" {
		if q.after, err = readToken(*in.ContinuationToken); err != nil {
			return nil, invalidArgument("continuation-token", *in.ContinuationToken, "The continuation token provided is incorrect")
		}
	}
	b, p, err := s.listPage(ctx, in.Bucket, in.ExpectedBucketOwner, q)
	if err != nil {
		return nil, err
	}
	out := &s3.ListObjectsV2Output{
		Name: &b.Name, Prefix: q.text(q.prefix), Delimiter: q.optional(in.Delimiter), EncodingType: in.EncodingType, StartAfter: q.optional(in.StartAfter),
		MaxKeys: wire.Ptr(int32(q.limit)), KeyCount: wire.Ptr(int32(len(p.objects) + len(p.prefixes))), IsTruncated: &p.truncated,
		Contents: q.showObjects(p.objects, value(in.FetchOwner)), CommonPrefixes: q.showPrefixes(p.prefixes), ContinuationToken: in.ContinuationToken,
	}
	if p.truncated {
		out.NextContinuationToken = wire.Ptr(writeToken(p.last))
	}
	return out, nil
}

func (s *Service) listPage(ctx context.Context, name, expected *string, q query) (b *bucketRow, p page, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		if b, err = s.bucket(tx, name, expected); err == nil {
			p, err = list(tx, b, q)
		}
		return err
	})
	if err == nil {
		s.count(b, tier1)
	}
	return b, p, err
}
