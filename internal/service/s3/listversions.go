package s3

import (
	"context"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// versionPage collects a page of ListObjectVersions.
type versionPage struct {
	q         query
	after     string // versions of q.after's key behind this one
	rows      []*objectRow
	latest    []bool
	prefixes  []string
	lastKey   string
	lastID    string
	truncated bool
}

// ListObjectVersions implements s3:ListBucketVersions.
func (s *Service) ListObjectVersions(ctx context.Context, sc auth.Scope, in *s3.ListObjectVersionsInput) (*s3.ListObjectVersionsOutput, error) {
	q, err := newQuery(in.Prefix, in.Delimiter, in.EncodingType, in.MaxKeys)
	if err != nil {
		return nil, err
	}
	if in.VersionIdMarker != nil && *in.VersionIdMarker == "" {
		return nil, invalidArgument("version-id-marker", "", "A version-id marker cannot be empty.")
	}
	if in.VersionIdMarker != nil && value(in.KeyMarker) == "" {
		return nil, invalidArgument("version-id-marker", *in.VersionIdMarker, "A version-id marker cannot be specified without a key marker.")
	}
	if m := in.VersionIdMarker; m != nil && !validVersion(*m) {
		return nil, invalidArgument("version-id-marker", *m, "Invalid version id specified")
	}
	q.after = value(in.KeyMarker)
	var b *bucketRow
	var p *versionPage
	err = s.Store.View(ctx, func(tx *store.Tx) (err error) {
		if b, err = s.bucket(tx, in.Bucket, in.ExpectedBucketOwner); err != nil {
			return err
		}
		p = &versionPage{q: q, after: value(in.VersionIdMarker)}
		return p.fill(tx, b)
	})
	if err != nil {
		return nil, err
	}
	out := &s3.ListObjectVersionsOutput{
		Name: &b.Name, Prefix: q.text(q.prefix), Delimiter: q.optional(in.Delimiter), EncodingType: in.EncodingType,
		KeyMarker: q.text(q.after), VersionIdMarker: wire.Ptr(value(in.VersionIdMarker)), MaxKeys: wire.Ptr(int32(q.limit)),
		IsTruncated: &p.truncated, CommonPrefixes: q.showPrefixes(p.prefixes),
	}
	p.show(out)
	return out, nil
}

func (p *versionPage) show(out *s3.ListObjectVersionsOutput) {
	if p.truncated {
		out.NextKeyMarker, out.NextVersionIdMarker = p.q.text(p.lastKey), optional(p.lastID)
	}
	for i, o := range p.rows {
		owner := &s3.Owner{ID: wire.Ptr(canonicalID(o.Owner))}
		if o.Marker {
			out.DeleteMarkers = append(out.DeleteMarkers, s3.DeleteMarkerEntry{Key: p.q.text(o.Key), VersionId: &o.Version, IsLatest: &p.latest[i], LastModified: &o.Modified, Owner: owner})
			continue
		}
		v := s3.ObjectVersion{
			Key: p.q.text(o.Key), VersionId: &o.Version, IsLatest: &p.latest[i], LastModified: &o.Modified, Owner: owner,
			ETag: wire.Ptr(quote(o.ETag)), Size: &o.Size, StorageClass: wire.Ptr(o.class()),
		}
		if o.Sum.Algorithm != "" {
			v.ChecksumAlgorithm, v.ChecksumType = []string{o.Sum.Algorithm}, &o.Sum.Type
		}
		out.Versions = append(out.Versions, v)
	}
}

// fill collects the page. Every key that has versions has a current one, so the
// current ones lead.
func (p *versionPage) fill(tx *store.Tx, b *bucketRow) error {
	r := p.q.rows(b)
	if p.after != "" {
		r.After, r.From = "", store.K(b.ID, p.q.after)
	}
	for again := p.q.limit > 0; again; {
		again = false
		for o, err := range objects.Scan(tx, r) {
			if err != nil {
				return err
			}
			if cp, ok := p.q.common(o.Key); ok {
				if p.full() {
					return nil
				}
				p.prefixes, p.lastKey, p.lastID = append(p.prefixes, cp), cp, ""
				r.After, r.From = "", store.KPrefix(b.ID, cp).End()
				again = true
				break
			}
			if err := p.key(tx, b, o); err != nil || p.truncated {
				return err
			}
		}
	}
	return nil
}

// full says whether the page has no place for one more, and notes that there is one.
func (p *versionPage) full() bool {
	p.truncated = len(p.rows)+len(p.prefixes) == p.q.limit
	return p.truncated
}

func (p *versionPage) take(o *objectRow, latest bool) bool {
	if p.full() {
		return false
	}
	p.rows, p.latest = append(p.rows, o), append(p.latest, latest)
	p.lastKey, p.lastID = o.Key, o.Version
	return true
}

// key takes all versions of a key, the newest first.
func (p *versionPage) key(tx *store.Tx, b *bucketRow, cur *objectRow) error {
	skip := ""
	if cur.Key == p.q.after {
		skip = p.after
	}
	if skip == "" && !p.take(cur, true) {
		return nil
	}
	if skip == cur.Version {
		skip = ""
	}
	if b.State == "" {
		return nil
	}
	r := store.Range{Prefix: store.K(b.ID, cur.Key)}
	if seq, ok := versionSeq(skip); ok && skip != "" {
		r.After, skip = store.K(b.ID, cur.Key, ^seq), ""
	}
	for o, err := range versions.Scan(tx, r) {
		if err != nil {
			return err
		}
		if skip != "" {
			if o.Version == skip {
				skip = ""
			}
			continue
		}
		if !p.take(o, false) {
			return nil
		}
	}
	return nil
}
