package ecr

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
	"skerry/internal/blob"
	"skerry/internal/events"
	"skerry/internal/loop"
	"skerry/internal/meter"
	"skerry/internal/registry"
	"skerry/internal/store"
)

const (
	account = "123456789012"
	other   = "210987654321"
	region  = "eu-west-1"
)

// harness is the service and its registry over a real store, with a clock that
// stands. Loops run when a test says so, but for the outbox's.
type harness struct {
	*Service
	t      testing.TB
	clock  *clock.Fake
	scope  auth.Scope
	woken  []string
	server *httptest.Server
	// identity is what policies the callers have, by ARN; nil allows all.
	identity map[string]string
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	db, err := store.Open(t.TempDir(), store.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	files, err := blob.Open(t.TempDir(), blob.Options{Relaxed: true, Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	h := &harness{t: t, clock: clock.NewFake(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)), scope: rootOf(account, region)}
	log := slog.New(slog.DiscardHandler)
	reg := registry.New(registry.Deps{
		Store: db, Blobs: files, Clock: h.clock, Log: log, Account: account, Region: region, Port: "4566", Authorise: h.authorise,
	})
	h.server = httptest.NewServer(reg)
	t.Cleanup(h.server.Close)
	box := events.New(db, h.clock, log)
	h.Service = New(Deps{
		Store: db, Clock: h.clock, Log: log, Registry: reg, Outbox: box, Meter: meter.New(db, h.clock),
		Wake: func(name string) { h.woken = append(h.woken, name) }, Endpoint: h.server.URL,
	})
	reg.Use(h.Hooks())
	box.Handle(ReplicationKind, h.Replicator())
	driver := loop.NewDriver(h.clock, log, box.Loop())
	driver.Start()
	t.Cleanup(func() {
		if err := driver.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h
}

func rootOf(account, region string) auth.Scope {
	return auth.Scope{Account: account, Region: region, Principal: auth.Principal{Kind: auth.Root, Account: account, ARN: "arn:aws:iam::" + account + ":root", ID: account}}
}

// authorise decides as the gateway does.
func (h *harness) authorise(ctx context.Context, sc auth.Scope, needs []auth.Access) error {
	if err := h.UnderRegistryPolicy(ctx, needs); err != nil {
		return err
	}
	var docs []auth.Document
	if text := h.identity[sc.Principal.ARN]; text != "" {
		p, err := auth.ParsePolicy(text)
		if err != nil {
			return err
		}
		docs = []auth.Document{{Source: "test", Policy: p}}
	}
	for _, need := range needs {
		if d := auth.Evaluate(auth.Evaluation{Scope: sc, Access: need, Policies: auth.Policies{Identity: docs}}); !d.Allowed() {
			return registry.Refuse(sc.Principal.ARN + " is not authorized to perform: " + need.Action)
		}
	}
	return nil
}

// do runs a handler that must succeed.
func do[I, O any](h *harness, handler func(context.Context, auth.Scope, *I) (*O, error), in *I) *O {
	h.t.Helper()
	out, err := told(handler)(h.t.Context(), h.scope, in)
	if err != nil {
		h.t.Fatalf("%T: %v", in, err)
	}
	return out
}

// refuse runs a handler that must fail with a code and a text.
func refuse[I, O any](h *harness, handler func(context.Context, auth.Scope, *I) (*O, error), in *I, code, message string) {
	h.t.Helper()
	_, err := told(handler)(h.t.Context(), h.scope, in)
	e, ok := errors.AsType[awserr.API](err)
	if !ok || e.ErrorCode() != code || message != "" && e.ErrorMessage() != message {
		h.t.Errorf("%T: %v, want %s: %s", in, err, code, message)
	}
}

func (h *harness) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) create(names ...string) {
	h.t.Helper()
	for _, n := range names {
		do(h, h.CreateRepository, &api.CreateRepositoryInput{RepositoryName: &n})
	}
}

func (h *harness) repo(name string) registry.Repo {
	return registry.Repo{Account: h.scope.Account, Region: h.scope.Region, Name: name}
}

// layer pushes a layer and returns its descriptor.
func (h *harness) layer(name string, content []byte) registry.Descriptor {
	h.t.Helper()
	d := registry.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: registry.Digest(content), Size: int64(len(content))}
	_, err := h.Registry.PutBlob(h.t.Context(), h.repo(name), d.Digest, bytes.NewReader(content))
	h.must(err)
	return d
}

// image pushes an image with one layer and returns its digest. An image differs
// from others by its seed.
func (h *harness) image(name, seed string, content []byte, tags ...string) string {
	h.t.Helper()
	body := h.manifest(name, seed, content)
	m, err := h.Registry.Prepare(h.t.Context(), "", "", []byte(body))
	h.must(err)
	h.must(h.Store.Update(h.t.Context(), func(tx *store.Tx) error {
		_, err := h.Registry.PutManifest(tx, h.repo(name), m, tags...)
		return err
	}))
	return m.Digest
}

// manifest pushes what an image names and returns its manifest.
func (h *harness) manifest(name, seed string, content []byte) string {
	h.t.Helper()
	config := h.layer(name, []byte(`{"seed":"`+seed+`"}`))
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	return h.json(map[string]any{
		"schemaVersion": 2, "mediaType": registry.OCIManifest, "config": config, "layers": []registry.Descriptor{h.layer(name, content)},
	})
}

// index returns an index of images.
func (h *harness) index(digests ...string) string {
	h.t.Helper()
	var all []registry.Descriptor
	for _, d := range digests {
		all = append(all, registry.Descriptor{MediaType: registry.OCIManifest, Digest: d, Size: 1})
	}
	return h.json(map[string]any{"schemaVersion": 2, "mediaType": registry.OCIIndex, "manifests": all})
}

func (h *harness) json(v any) string {
	h.t.Helper()
	b, err := json.Marshal(v)
	h.must(err)
	return string(b)
}

// put is PutImage.
func (h *harness) put(name, manifest, tag string) string {
	h.t.Helper()
	return *do(h, h.PutImage, &api.PutImageInput{RepositoryName: &name, ImageManifest: &manifest, ImageTag: &tag}).Image.ImageId.ImageDigest
}

// tree writes the archive of a layer.
func tree(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		content := files[name]
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pull asks the registry for something as docker does, and returns the status.
func (h *harness) pull(sc auth.Scope, method, path string) int {
	h.t.Helper()
	password, _, err := h.Registry.Tokens.Mint(h.t.Context(), sc.Principal, sc.Region)
	h.must(err)
	req, err := http.NewRequestWithContext(h.t.Context(), method, h.server.URL+path, http.NoBody)
	h.must(err)
	req.SetBasicAuth("AWS", password)
	req.Header.Set("Accept", "*/*")
	resp, err := http.DefaultClient.Do(req)
	h.must(err)
	h.must(resp.Body.Close())
	return resp.StatusCode
}

// until waits for a condition that the outbox brings about.
func (h *harness) until(what string, ok func() bool) {
	h.t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(end) {
			h.t.Fatal("waited in vain: " + what)
		}
		time.Sleep(time.Millisecond)
	}
}

func is[T comparable](h *harness, what string, got, want T) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}
