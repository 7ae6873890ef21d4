package lambda

import (
	"context"
	"reflect"
	"strconv"
	"time"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/store"
)

// number resolves a qualifier to a version's number; an alias to its main one.
func (r ref) number(tx *store.Tx) (int64, error) {
	switch r.kind() {
	case kindLatest:
		return 0, nil
	case kindVersion:
		n, err := strconv.ParseInt(r.Qualifier, 10, 64)
		if err != nil || n < 1 {
			return 0, r.missing()
		}
		return n, nil
	}
	a, err := aliases.Get(tx, r.key()+store.K(r.Qualifier))
	if err == store.ErrNotFound {
		return 0, r.missing()
	}
	if err != nil {
		return 0, err
	}
	return parseVersion(a.Version), nil
}

// parseVersion reads a version's name that was checked before.
func parseVersion(name string) int64 {
	n, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		return 0 // $LATEST
	}
	return n
}

// publish makes a version of $LATEST, or returns the last one if nothing has
// changed since.
func publish(tx *store.Tx, f functionRow, v *versionRow, description string, now time.Time) (*versionRow, error) {
	next := *v
	if description != "" {
		next.Config.Description = description
	}
	if f.LastVersion > 0 {
		last, err := getVersion(tx, f.ref(), f.LastVersion)
		if err == nil && last.Code == next.Code && reflect.DeepEqual(last.Config, next.Config) {
			return last, nil
		}
	}
	f.LastVersion++
	next.Number, next.Revision, next.Modified = f.LastVersion, ids.UUID(), now
	if err := functions.Put(tx, &f); err != nil {
		return nil, err
	}
	return &next, versions.Put(tx, &next)
}

// PublishVersion makes a version of $LATEST.
func (s *Service) PublishVersion(ctx context.Context, sc auth.Scope, in *api.PublishVersionInput) (*api.PublishVersionOutput, error) {
	r, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	var out *versionRow
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		f, err := getFunction(tx, r)
		if err != nil {
			return err
		}
		v, err := getVersion(tx, r, 0)
		if err != nil {
			return err
		}
		if err := checkRevision(in.RevisionId, v.Revision, "GetFunction/GetAlias"); err != nil {
			return err
		}
		if want := deref(in.CodeSha256); want != "" && want != v.Code.SHA256 {
			return invalid("CodeSHA256 (%s) is different from current CodeSHA256 in $LATEST (%s). Please try again with the CodeSHA256 in $LATEST.",
				want, v.Code.SHA256)
		}
		if v.State == statePending || v.Update == updateInProgress {
			return conflict("The operation cannot be performed at this time. The function is currently in the following state: Pending")
		}
		out, err = publish(tx, *f, v, deref(in.Description), s.Clock.Now())
		return err
	})
	if err != nil {
		return nil, err
	}
	return (*api.PublishVersionOutput)(out.describe(true)), nil
}

// ListVersionsByFunction lists $LATEST and the versions published.
func (s *Service) ListVersionsByFunction(ctx context.Context, sc auth.Scope, in *api.ListVersionsByFunctionInput) (*api.ListVersionsByFunctionOutput, error) {
	r, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	after, err := s.marker(in.Marker, r.key())
	if err != nil {
		return nil, err
	}
	n := limit(in.MaxItems)
	out := &api.ListVersionsByFunctionOutput{Versions: []api.FunctionConfiguration{}}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := getFunction(tx, r); err != nil {
			return err
		}
		var last store.Key
		for v, err := range versions.Scan(tx, store.Range{Prefix: r.key(), After: after}) {
			if err != nil {
				return err
			}
			if len(out.Versions) == n {
				out.NextMarker = markerOf(last)
				return nil
			}
			out.Versions = append(out.Versions, *listed(v.describe(true)))
			last = r.key() + store.K(v.Number)
		}
		return nil
	})
	return out, err
}
