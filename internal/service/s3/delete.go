package s3

import (
	"context"
	"errors"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const maxDeletes = 1000 // keys of one DeleteObjects

// deletion is one version or key to delete.
type deletion struct {
	key      string
	version  string // empty: the current version
	bypass   bool   // governance retention, which the rule has allowed
	match    *string
	modified *time.Time
	size     *int64
	event    string // of the marker made; empty: that of a client's deletion
}

// deleted tells what a deletion did.
type deleted struct {
	marker  bool   // a marker was made, or the version deleted was one
	version string // id of that marker or version; empty in an unversioned bucket
}

// DeleteObject implements s3:DeleteObject. Deleting what is not there is success.
func (s *Service) DeleteObject(ctx context.Context, sc auth.Scope, in *s3.DeleteObjectInput) (*s3.DeleteObjectOutput, error) {
	d := deletion{key: value(in.Key), version: value(in.VersionId), bypass: value(in.BypassGovernanceRetention),
		match: in.IfMatch, modified: in.IfMatchLastModifiedTime, size: in.IfMatchSize}
	var done deleted
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		b, err := s.bucket(tx, in.Bucket, in.ExpectedBucketOwner)
		if err != nil {
			return err
		}
		done, err = s.delete(tx, b, sc, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &s3.DeleteObjectOutput{VersionId: optional(done.version)}
	if done.marker {
		out.DeleteMarker = &done.marker
	}
	return out, nil
}

// delete does one deletion, with its events.
func (s *Service) delete(tx *store.Tx, b *bucketRow, sc auth.Scope, d deletion) (deleted, error) {
	if d.version != "" && !validVersion(d.version) {
		return deleted{}, invalidArgument("versionId", d.version, "Invalid version id specified")
	}
	o, err := findVersion(tx, b, d.key, d.version)
	if err != nil {
		return deleted{}, err
	}
	if err := d.holds(o); err != nil {
		return deleted{}, err
	}
	if d.version == "" && b.State != "" {
		return s.mark(tx, b, sc, d, o)
	}
	if o == nil {
		return deleted{version: d.version}, nil
	}
	if o.protected(s.now(), d.bypass) {
		return deleted{}, deniedByLock()
	}
	if err := s.remove(tx, b, o); err != nil {
		return deleted{}, err
	}
	done := deleted{marker: o.Marker, version: d.version}
	return done, s.notify(tx, b, o, sc, "s3:ObjectRemoved:Delete")
}

// mark makes a delete marker the current version.
func (s *Service) mark(tx *store.Tx, b *bucketRow, sc auth.Scope, d deletion, cur *objectRow) (deleted, error) {
	m := &objectRow{Key: d.key, Marker: true, Owner: b.Account}
	if err := s.planReplica(tx, b, m, d.event != ""); err != nil {
		return deleted{}, err
	}
	if err := s.place(tx, b, m, cur, s.now()); err != nil {
		return deleted{}, err
	}
	if err := s.emitReplica(tx, b, m); err != nil {
		return deleted{}, err
	}
	event := "s3:ObjectRemoved:DeleteMarkerCreated"
	if d.event != "" {
		event = d.event
	}
	return deleted{true, m.Version}, s.notify(tx, b, m, sc, event)
}

// holds checks the conditions of a conditional delete; o is nil if there is no
// such version.
func (d deletion) holds(o *objectRow) error {
	if d.match == nil && d.modified == nil && d.size == nil {
		return nil
	}
	switch there := o != nil && !o.Marker; {
	case d.match != nil && (!there || !matches(*d.match, o.ETag)):
		return preconditionFailed("If-Match")
	case d.modified != nil && (!there || !o.Modified.Equal(d.modified.Truncate(time.Second))):
		return preconditionFailed("x-amz-if-match-last-modified-time")
	case d.size != nil && (!there || o.Size != *d.size):
		return preconditionFailed("x-amz-if-match-size")
	}
	return nil
}

// DeleteObjects implements s3:DeleteObject for up to 1,000 keys. One that fails
// does not stop the others.
func (s *Service) DeleteObjects(ctx context.Context, sc auth.Scope, in *s3.DeleteObjectsInput) (*s3.DeleteObjectsOutput, error) {
	if in.Delete == nil || len(in.Delete.Objects) == 0 || len(in.Delete.Objects) > maxDeletes {
		return nil, malformedXML()
	}
	refused := s.refusals(ctx, sc, in)
	out := &s3.DeleteObjectsOutput{}
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		*out = s3.DeleteObjectsOutput{}
		b, err := s.bucket(tx, in.Bucket, in.ExpectedBucketOwner)
		if err != nil {
			return err
		}
		for i, id := range in.Delete.Objects {
			done, err := deleted{}, refused[i]
			if err == nil {
				done, err = s.deleteOne(tx, b, sc, id, value(in.BypassGovernanceRetention))
			}
			if err := report(out, id, done, err, value(in.Delete.Quiet)); err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}

func (s *Service) deleteOne(tx *store.Tx, b *bucketRow, sc auth.Scope, id s3.ObjectIdentifier, bypass bool) (deleted, error) {
	if err := checkKey(id.Key); err != nil {
		return deleted{}, err
	}
	d := deletion{key: *id.Key, version: value(id.VersionId), bypass: bypass, match: id.ETag, modified: id.LastModifiedTime, size: id.Size}
	return s.delete(tx, b, sc, d)
}

// report adds the outcome of one deletion to the answer. An error that is not the
// client's is returned, and undoes the transaction.
func report(out *s3.DeleteObjectsOutput, id s3.ObjectIdentifier, done deleted, err error, quiet bool) error {
	if err != nil {
		api, ok := errors.AsType[awserr.API](err)
		if !ok {
			return err
		}
		out.Errors = append(out.Errors, s3.Error{Key: id.Key, VersionId: id.VersionId, Code: wire.Ptr(api.ErrorCode()), Message: wire.Ptr(api.ErrorMessage())})
		return nil
	}
	if quiet {
		return nil
	}
	o := s3.DeletedObject{Key: id.Key, VersionId: id.VersionId}
	if done.marker {
		o.DeleteMarker, o.DeleteMarkerVersionId = &done.marker, &done.version
	}
	out.Deleted = append(out.Deleted, o)
	return nil
}
