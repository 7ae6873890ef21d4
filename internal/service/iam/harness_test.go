package iam

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
	"skerry/internal/op"
	"skerry/internal/store"
)

const testAccount = "123456789012"

var testTime = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// bench is a service over a real store, with root as the caller.
type bench struct {
	*Service
	t     *testing.T
	ctx   context.Context
	root  auth.Scope
	clock *clock.Fake
}

func newBench(t *testing.T) *bench {
	t.Helper()
	db, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	c := clock.NewFake(testTime)
	var s *Service
	s, err = New(Deps{
		Store: db, Clock: c, Log: slog.New(slog.DiscardHandler), Services: func() []op.Service { return []op.Service{buckets(), s.Service()} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return &bench{
		Service: s, t: t, ctx: t.Context(), clock: c,
		root: auth.NewScope(RootUser(testAccount), "us-east-1", auth.Request{Time: testTime}),
	}
}

// buckets is a service with operations of both kinds.
func buckets() op.Service {
	return op.Service{
		API: s3.Schema, Actions: map[string]string{"ListBuckets": "ListAllMyBuckets"}, Data: []string{"GetObject"},
		Operations: []op.Operation{nop[s3.CreateBucketInput]("CreateBucket"), nop[s3.ListBucketsInput]("ListBuckets"), nop[s3.GetObjectInput]("GetObject")},
	}
}

func nop[I any](name string) op.Operation {
	return op.New(name, op.NoPermission[I], func(context.Context, auth.Scope, *I) (*struct{}, error) { return &struct{}{}, nil })
}

// must returns the output of a call that has to succeed.
func must[O any](out *O, err error) func(t *testing.T) *O {
	return func(t *testing.T) *O {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

// wantCode checks the AWS code of an error, "" for success.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if got := awserr.Code(err); got != code || code == "" && err != nil {
		t.Fatalf("error %v, want code %q", err, code)
	}
}

// wantText checks an error's code and text.
func wantText(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || err.Error() != text {
		t.Fatalf("error %v, want %s", err, text)
	}
}

// as is the scope of a user.
func (b *bench) as(name string) auth.Scope {
	b.t.Helper()
	var p auth.Principal
	err := b.view(b.ctx, func(tx *store.Tx) error {
		u, err := b.user(tx, testAccount, name)
		if err == nil {
			p = u.principal()
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return auth.NewScope(p, "us-east-1", auth.Request{Time: testTime})
}

func ptr[T any](v T) *T { return &v }
