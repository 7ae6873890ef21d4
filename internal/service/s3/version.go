package s3

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"skerry/internal/store"
)

// The alphabet of version ids, which makes none that begins with a dash.
var versionText = base64.NewEncoding("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._").WithPadding(base64.NoPadding)

// newVersion makes a version id: 32 characters that hold the sequence number, so
// that the row is found by it, and a random part.
func newVersion(seq uint64) string {
	raw := random(24)
	binary.BigEndian.PutUint64(raw, seq)
	for i := range 8 { // so that ids of one second do not look alike
		raw[i] ^= raw[8+i]
	}
	return versionText.EncodeToString(raw)
}

// versionSeq returns the sequence number in a version id.
func versionSeq(id string) (uint64, bool) {
	raw, err := versionText.DecodeString(id)
	if err != nil || len(raw) != 24 {
		return 0, false
	}
	for i := range 8 {
		raw[i] ^= raw[8+i]
	}
	return binary.BigEndian.Uint64(raw), true
}

// current returns the current version of a key, which may be a delete marker,
// or nil.
func current(tx *store.Tx, b *bucketRow, key string) (*objectRow, error) {
	o, err := objects.Get(tx, store.K(b.ID, key))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return o, err
}

// findVersion returns the version of a key with an id, or nil; nil as well for an
// id that is none. An empty id means the current version.
func findVersion(tx *store.Tx, b *bucketRow, key, id string) (*objectRow, error) {
	o, err := current(tx, b, key)
	if err != nil || o != nil && o.Version == id || id == "" {
		return o, err
	}
	if id == nullVersion {
		return oldNull(tx, b, key)
	}
	seq, ok := versionSeq(id)
	if !ok {
		return nil, nil
	}
	o, err = versions.Get(tx, store.K(b.ID, key, ^seq))
	if errors.Is(err, store.ErrNotFound) || err == nil && o.Version != id {
		return nil, nil
	}
	return o, err
}

// oldNull returns the null version of a key where it is not the current one.
func oldNull(tx *store.Tx, b *bucketRow, key string) (*objectRow, error) {
	for o, err := range nulls.Scan(tx, store.Range{Prefix: store.K(b.ID, key)}) {
		return o, err
	}
	return nil, nil
}

// place makes o the current version of its key, sets its sequence number and
// version id, and moves or releases what it takes the place of. cur is the
// current version (see current).
func (s *Service) place(tx *store.Tx, b *bucketRow, o, cur *objectRow, now time.Time) error {
	o.Bucket = b.ID
	o.Modified = now.Truncate(time.Second)
	o.Seq = uint64(now.UnixNano())
	if cur != nil && cur.Seq >= o.Seq {
		o.Seq = cur.Seq + 1
	}
	o.Version = nullVersion
	if b.State == "Enabled" {
		o.Version = newVersion(o.Seq)
	}
	if err := s.retire(tx, b, o, cur, now); err != nil {
		return err
	}
	return objects.Put(tx, o)
}

// retire moves the current version to the noncurrent ones, or releases it if the
// new one has the same id.
func (s *Service) retire(tx *store.Tx, b *bucketRow, o, cur *objectRow, now time.Time) error {
	if cur != nil && cur.Version == o.Version {
		return s.release(tx, cur)
	}
	if cur != nil {
		cur.Retired = now
		if err := versions.Insert(tx, cur); err != nil {
			return err
		}
	}
	if b.State != "Suspended" {
		return nil
	}
	old, err := oldNull(tx, b, o.Key)
	if err != nil || old == nil {
		return err
	}
	if err := versions.Delete(tx, store.K(b.ID, old.Key, ^old.Seq)); err != nil {
		return err
	}
	return s.release(tx, old)
}

// remove deletes one version for good. If it was the current one, the newest of
// the others becomes it.
func (s *Service) remove(tx *store.Tx, b *bucketRow, o *objectRow) error {
	if err := s.release(tx, o); err != nil {
		return err
	}
	cur, err := current(tx, b, o.Key)
	if err != nil {
		return err
	}
	if cur == nil || cur.Seq != o.Seq {
		return versions.Delete(tx, store.K(b.ID, o.Key, ^o.Seq))
	}
	for next, err := range versions.Scan(tx, store.Range{Prefix: store.K(b.ID, o.Key)}) {
		if err != nil {
			return err
		}
		if err := versions.Delete(tx, store.K(b.ID, next.Key, ^next.Seq)); err != nil {
			return err
		}
		next.Retired = time.Time{}
		return objects.Put(tx, next)
	}
	return objects.Delete(tx, store.K(b.ID, o.Key))
}

// save writes a version back, wherever it is kept.
func save(tx *store.Tx, o *objectRow) error {
	if o.Retired.IsZero() {
		return objects.Put(tx, o)
	}
	return versions.Put(tx, o)
}
