package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
	"skerry/internal/base/ids"
	"skerry/internal/blob"
	"skerry/internal/events"
	"skerry/internal/loop"
	"skerry/internal/meter"
	"skerry/internal/op"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const (
	account = "123456789012"
	other   = "210987654321"
)

// harness is the service over a real store and real blobs, with a clock that
// stands. Calls go through the rules and the policy evaluation, as the gateway's do.
type harness struct {
	*Service
	t      testing.TB
	clock  *clock.Fake
	ops    map[string]op.Operation
	root   auth.Scope
	outbox *events.Outbox

	mu       sync.Mutex
	targets  map[string]bool              // ARNs that exist and let S3 in
	policies map[string][]auth.Document   // of principals, by ARN
	got      map[string][]events.Delivery // by target
	tests    []string                     // messages s3:TestEvent
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	db, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(t.TempDir(), blob.Options{})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	c := clock.NewFake(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	h := &harness{t: t, clock: c, ops: map[string]op.Operation{}, outbox: events.New(db, clock.Real, log),
		targets: map[string]bool{}, policies: map[string][]auth.Document{}, got: map[string][]events.Delivery{}}
	h.Service = New(Deps{Store: db, Directory: h, Blobs: blobs, Clock: c, Log: log, Cloud: h, Meter: meter.New(db, c), Outbox: h.outbox})
	for _, o := range h.Service.Service().Operations {
		h.ops[o.Name] = o
	}
	h.root = h.scope(auth.Principal{Kind: auth.Root, Account: account, ARN: "arn:aws:iam::" + account + ":root", ID: account})
	for _, service := range []string{"lambda", "sqs", "sns", "events"} {
		h.outbox.Route(service, events.TargetFunc(h.deliver))
	}
	h.outbox.Handle(ReplicationKind, h.Replicator())
	loops := loop.NewDriver(clock.Real, log, h.outbox.Loop())
	loops.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(loops.Stop(ctx), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *harness) scope(p auth.Principal) auth.Scope {
	return auth.NewScope(p, "us-east-1", auth.Request{ID: ids.UUID(), Time: h.clock.Now(), SourceIP: "10.1.2.3"})
}

// user returns a user of an account with an identity policy; an empty one allows
// nothing.
func (h *harness) user(acct, name, policy string) auth.Scope {
	h.t.Helper()
	p := auth.Principal{Kind: auth.User, Account: acct, ARN: "arn:aws:iam::" + acct + ":user/" + name, ID: "AIDA" + strings.ToUpper(name), Name: name}
	if policy != "" {
		doc, err := auth.ParsePolicy(policy)
		if err != nil {
			h.t.Fatal(err)
		}
		h.policies[p.ARN] = []auth.Document{{Source: name, Policy: doc}}
	}
	return h.scope(p)
}

func (h *harness) stranger() auth.Scope { return h.scope(auth.Principal{Kind: auth.Anonymous}) }

// Credential implements auth.Directory: the key AKIDROLE is of the replication role.
func (h *harness) Credential(_ context.Context, key string) (auth.Credential, error) {
	return auth.Credential{AccessKey: key, Principal: auth.Principal{
		Kind: auth.AssumedRole, Account: account, ARN: "arn:aws:sts::" + account + ":assumed-role/replicator/s3-replication",
		Role: "arn:aws:iam::" + account + ":role/replicator", ID: "AROA:s3-replication",
	}}, nil
}

// Policies implements auth.Directory.
func (h *harness) Policies(_ context.Context, p auth.Principal) (auth.Policies, error) {
	return auth.Policies{Identity: h.policies[p.ARN]}, nil
}

func (h *harness) deliver(_ context.Context, d events.Delivery) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got[d.Target] = append(h.got[d.Target], d)
	return nil
}

// delivered waits for n deliveries to a target.
func (h *harness) delivered(target string, n int) []events.Delivery {
	h.t.Helper()
	var got []events.Delivery
	h.wait(fmt.Sprintf("%d deliveries to %s", n, target), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		got = h.got[target]
		return len(got) >= n
	})
	return got
}

func (h *harness) wait(what string, ok func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 10*time.Second)
	defer cancel()
	for !ok() {
		if clock.Sleep(ctx, clock.Real, 2*time.Millisecond) != nil {
			h.t.Fatalf("no %s", what)
		}
	}
}

// Call implements op.Caller.
func (h *harness) Call(ctx context.Context, sc auth.Scope, service, operation string, in any) (any, error) {
	switch service {
	case s3.Schema.ID:
		return h.invoke(ctx, sc, operation, in)
	default:
		return h.foreign(operation, in)
	}
}

func (h *harness) invoke(ctx context.Context, sc auth.Scope, name string, in any) (any, error) {
	o, ok := h.ops[name]
	if !ok {
		return nil, fmt.Errorf("no operation %s", name)
	}
	needs, err := o.Access(ctx, sc, in)
	if err != nil {
		return nil, err
	}
	if ok, err := h.allowed(ctx, sc, needs...); err != nil || !ok {
		if err == nil {
			err = awserr.New(403, "AccessDenied", "Access Denied")
		}
		return nil, err
	}
	return o.Do(ctx, sc, in)
}

// do runs an operation that must succeed.
func do[O any](h *harness, sc auth.Scope, in any) *O {
	h.t.Helper()
	out, err := h.invoke(h.t.Context(), sc, operationOf(in), in)
	if err != nil {
		h.t.Fatalf("%s: %v", operationOf(in), err)
	}
	return out.(*O)
}

// refuse runs an operation that must fail with a code.
func refuse(h *harness, sc auth.Scope, in any, code string) error {
	h.t.Helper()
	_, err := h.invoke(h.t.Context(), sc, operationOf(in), in)
	if got := awserr.Code(err); got != code || code == "" {
		h.t.Errorf("%s: %v, want %s", operationOf(in), err, code)
	}
	return err
}

func operationOf(in any) string {
	return strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", in), "*s3."), "Input")
}

// make makes a bucket, with versioning if it is to have it.
func (h *harness) make(name string, versioned bool) {
	h.t.Helper()
	do[s3.CreateBucketOutput](h, h.root, &s3.CreateBucketInput{Bucket: &name})
	if versioned {
		do[s3.PutBucketVersioningOutput](h, h.root, &s3.PutBucketVersioningInput{Bucket: &name,
			VersioningConfiguration: &s3.VersioningConfiguration{Status: wire.Ptr("Enabled")}})
	}
}

// open takes away what keeps a new bucket from having access control lists and
// public policies.
func (h *harness) unlock(name, ownership string) {
	h.t.Helper()
	do[s3.PutBucketOwnershipControlsOutput](h, h.root, &s3.PutBucketOwnershipControlsInput{Bucket: &name,
		OwnershipControls: &s3.OwnershipControls{Rules: []s3.OwnershipControlsRule{{ObjectOwnership: &ownership}}}})
	do[s3.DeletePublicAccessBlockOutput](h, h.root, &s3.DeletePublicAccessBlockInput{Bucket: &name})
}

func (h *harness) put(bucket, key, body string) *s3.PutObjectOutput {
	h.t.Helper()
	return do[s3.PutObjectOutput](h, h.root, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(body)})
}

// read reads an output's body to its end.
func (h *harness) read(out *s3.GetObjectOutput) string {
	h.t.Helper()
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

func (h *harness) get(bucket, key string) string {
	h.t.Helper()
	return h.read(do[s3.GetObjectOutput](h, h.root, &s3.GetObjectInput{Bucket: &bucket, Key: &key}))
}

// noise returns n bytes that are the same every time and do not compress.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	x := uint32(seed) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

// blobs counts the blobs on disk.
func (h *harness) blobs() (n int) {
	h.t.Helper()
	for _, err := range h.Blobs.List(h.t.Context()) {
		if err != nil {
			h.t.Fatal(err)
		}
		n++
	}
	return n
}

// rows counts the rows of the contents.
func (h *harness) contentRows() (n int) {
	h.t.Helper()
	err := h.Store.View(h.t.Context(), func(tx *store.Tx) error {
		n = 0
		for _, err := range contents.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

// sweep runs the garbage loop after the time that readers have.
func (h *harness) sweep() {
	h.t.Helper()
	h.clock.Advance(2 * grace)
	if _, err := h.runGarbage(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}
