package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/blob"
	"skerry/internal/store"
)

// world is a registry over a real store.
type world struct {
	*Registry
	t     testing.TB
	dir   string
	clock *clock.Fake
}

const (
	account = "123456789012"
	region  = "eu-west-1"
)

func id(name string) Repo { return Repo{account, region, name} }

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: clock.NewFake(time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC))}
	w.open()
	return w
}

// open opens the state, as a server that starts.
func (w *world) open() {
	w.t.Helper()
	db, err := store.Open(w.dir+"/store", store.Options{Relaxed: true})
	if err != nil {
		w.t.Fatal(err)
	}
	files, err := blob.Open(w.dir+"/blob", blob.Options{Relaxed: true, Reserve: -1})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = db.Close() }) // a second close of one that was closed is no matter
	w.Registry = New(Deps{
		Store: db, Blobs: files, Clock: w.clock, Log: slog.New(slog.DiscardHandler), Account: account, Region: region, Port: "4566",
		Authorise: func(context.Context, auth.Scope, []auth.Access) error { return nil },
	})
}

// restart closes the state and opens it again.
func (w *world) restart() {
	w.t.Helper()
	if err := w.Store.Close(); err != nil {
		w.t.Fatal(err)
	}
	w.open()
}

func (w *world) update(fn func(tx *store.Tx) error) error {
	return w.Store.Update(w.t.Context(), fn)
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) code(err error, want Code) {
	w.t.Helper()
	if CodeOf(err) != want {
		w.t.Fatalf("got %v, want %s", err, want)
	}
}

func (w *world) create(row *Repository) Repo {
	w.t.Helper()
	w.must(w.update(func(tx *store.Tx) error { return w.CreateRepository(tx, row) }))
	return row.Repo
}

func (w *world) repo(name string) Repo { w.t.Helper(); return w.create(&Repository{Repo: id(name)}) }

// blob pushes a layer.
func (w *world) blob(r Repo, content []byte) Descriptor {
	w.t.Helper()
	d := Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: Digest(content), Size: int64(len(content))}
	_, err := w.PutBlob(w.t.Context(), r, d.Digest, bytes.NewReader(content))
	w.must(err)
	return d
}

// image pushes the blobs of an image with one layer and returns its manifest.
func (w *world) image(r Repo, seed string) []byte {
	w.t.Helper()
	config := w.blob(r, []byte(`{"seed":"`+seed+`"}`))
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	return marshal(w.t, map[string]any{
		"schemaVersion": 2, "mediaType": OCIManifest, "config": config, "layers": []Descriptor{w.blob(r, []byte("layer "+seed))},
	})
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (w *world) put(r Repo, body []byte, names ...string) (p Push, err error) {
	m, err := w.Prepare(w.t.Context(), "", "", body)
	if err != nil {
		return p, err
	}
	err = w.update(func(tx *store.Tx) (err error) {
		p, err = w.PutManifest(tx, r, m, names...)
		return err
	})
	return p, err
}

func TestRepositoryLife(t *testing.T) {
	w := newWorld(t)
	r := w.repo("team/app")
	w.code(w.update(func(tx *store.Tx) error { return w.CreateRepository(tx, &Repository{Repo: r}) }), RepositoryExists)
	w.code(w.update(func(tx *store.Tx) error { return w.CreateRepository(tx, &Repository{Repo: id("Not/Valid")}) }), ParameterInvalid)
	w.code(w.update(func(tx *store.Tx) error { return w.DeleteRepository(tx, id("none"), true) }), RepositoryNotFound)
	_, err := w.put(r, w.image(r, "a"), "v1")
	w.must(err)
	w.code(w.update(func(tx *store.Tx) error { return w.DeleteRepository(tx, r, false) }), RepositoryNotEmpty)
	w.must(w.update(func(tx *store.Tx) error { return w.DeleteRepository(tx, r, true) }))
	w.repo("team/app") // and nothing of the old one is in the new
	w.must(w.update(func(tx *store.Tx) error {
		for range w.Tags(tx, r, "") {
			return errors.New("a tag is left over")
		}
		_, err := w.Blob(tx, r, Digest([]byte("layer a")))
		w.code(err, LayerNotFound)
		return nil
	}))
}

func TestTagsMoveUnlessImmutable(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		mutability string
		exclusions []string
		tag        string
		moves      bool
	}{
		{Mutable, nil, "v1", true},
		{Immutable, nil, "v1", false},
		{ImmutableWithExclusion, []string{"latest*"}, "v1", false},
		{ImmutableWithExclusion, []string{"x", "latest*"}, "latest-2", true},
		{MutableWithExclusion, []string{"v*"}, "v1", false},
		{MutableWithExclusion, []string{"v*"}, "latest", true},
	} {
		r := w.create(&Repository{Repo: id("r" + strings.ToLower(Digest([]byte(c.mutability + c.tag)))[7:20]), Mutability: c.mutability, Exclusions: c.exclusions})
		first, second := w.image(r, "one"), w.image(r, "two")
		p, err := w.put(r, first, c.tag)
		w.must(err)
		if !p.New || len(p.Tags) != 1 {
			t.Fatalf("%+v", p)
		}
		p, err = w.put(r, first, c.tag) // the same again changes nothing
		w.must(err)
		if p.New || len(p.Tags) != 0 {
			t.Fatalf("%+v", p)
		}
		_, err = w.put(r, second, c.tag)
		if c.moves {
			w.must(err)
			continue
		}
		w.code(err, TagImmutable)
		// Nothing of the refused push stays.
		w.must(w.Store.View(t.Context(), func(tx *store.Tx) error {
			_, err := w.Manifest(tx, r, Digest(second), "")
			w.code(err, ImageNotFound)
			return nil
		}))
	}
}

func TestManifestNeedsWhatItNames(t *testing.T) {
	w := newWorld(t)
	r, other := w.repo("a"), w.repo("b")
	body := w.image(other, "elsewhere")
	_, err := w.put(r, body, "v1")
	w.code(err, LayersNotFound)
	if e, ok := errors.AsType[*Error](err); !ok || len(e.Digests) != 2 {
		t.Fatalf("%v", err)
	}
	index := marshal(t, map[string]any{
		"schemaVersion": 2, "mediaType": OCIIndex,
		"manifests": []Descriptor{{MediaType: OCIManifest, Digest: Digest(body), Size: int64(len(body))}},
	})
	_, err = w.put(r, index, "v1")
	w.code(err, ReferencedImagesNotFound)
	_, err = w.put(other, body)
	w.must(err)
	_, err = w.put(other, index, "v1")
	w.must(err)
	err = w.update(func(tx *store.Tx) error { _, err := w.DeleteManifest(tx, other, Digest(body)); return err })
	w.code(err, ImageReferenced)
	// The layer of an image is not deleted from below it.
	w.code(w.update(func(tx *store.Tx) error { return w.DeleteBlob(tx, other, Digest([]byte("layer elsewhere"))) }), ImageReferenced)
}

func TestUploadGoesOnAfterRestart(t *testing.T) {
	w := newWorld(t)
	r := w.repo("a")
	content := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	var u *Upload
	w.must(w.update(func(tx *store.Tx) (err error) { u, err = w.StartUpload(tx, r); return err }))
	u, err := w.WritePart(t.Context(), r, u.ID, 0, bytes.NewReader(content[:1_000_000]))
	w.must(err)
	w.restart()
	_, err = w.WritePart(t.Context(), r, u.ID, 500, bytes.NewReader(content))
	w.code(err, PartInvalid)
	if e, _ := errors.AsType[*Error](err); e.Received != 1_000_000 {
		t.Fatalf("%+v", e)
	}
	// A part that breaks off is kept as far as it came.
	broken := errors.New("the client has gone")
	u, err = w.WritePart(t.Context(), r, u.ID, Append, io.MultiReader(bytes.NewReader(content[1_000_000:1_300_000]), failing{broken}))
	if !errors.Is(err, broken) || u.Size != 1_300_000 {
		t.Fatalf("%v %+v", err, u)
	}
	w.restart()
	_, err = w.WritePart(t.Context(), r, u.ID, 1_300_000, bytes.NewReader(content[1_300_000:]))
	w.must(err)
	_, err = w.CompleteUpload(t.Context(), r, u.ID, Digest([]byte("another")), nil)
	w.code(err, LayerInvalid)
	b, err := w.CompleteUpload(t.Context(), r, u.ID, Digest(content), nil)
	w.must(err)
	w.same(b, content)
	_, err = w.CompleteUpload(t.Context(), r, u.ID, Digest(content), nil)
	w.code(err, UploadNotFound)
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// same reads a layer.
func (w *world) same(b *Blob, content []byte) {
	w.t.Helper()
	f, err := w.OpenBlob(w.t.Context(), b)
	w.must(err)
	defer f.Close()
	got, err := io.ReadAll(f)
	w.must(err)
	if !bytes.Equal(got, content) || b.Size != int64(len(content)) {
		w.t.Fatalf("read %d bytes, not those that were written", len(got))
	}
}

func TestEqualLayersAreOneFile(t *testing.T) {
	w := newWorld(t)
	a, b := w.repo("a"), w.repo("b")
	content := bytes.Repeat([]byte("layer"), 100_000)
	w.blob(a, content)
	w.blob(b, content)
	w.must(w.update(func(tx *store.Tx) error {
		_, err := w.MountBlob(tx, a, w.repoRow(tx, "c"), Digest(content))
		return err
	}))
	n := 0
	for _, err := range w.Blobs.List(t.Context()) {
		w.must(err)
		n++
	}
	if n != 1 {
		t.Fatalf("%d files", n)
	}
}

func (w *world) repoRow(tx *store.Tx, name string) Repo {
	w.must(w.CreateRepository(tx, &Repository{Repo: id(name)}))
	return id(name)
}

func TestPasswords(t *testing.T) {
	w := newWorld(t)
	p := auth.Principal{Kind: auth.AssumedRole, Account: account, ARN: "arn:aws:sts::" + account + ":assumed-role/r/s", Session: auth.Session{Policies: []string{`{}`}}}
	password, until, err := w.Tokens.Mint(t.Context(), p, region)
	w.must(err)
	if until.Sub(w.clock.Now()) != TokenLife {
		t.Fatal(until)
	}
	w.restart()
	got, where, err := w.Tokens.Verify(t.Context(), password)
	w.must(err)
	if got.ARN != p.ARN || got.Kind != p.Kind || len(got.Session.Policies) != 1 || where != region {
		t.Fatalf("%+v", got)
	}
	for _, bad := range []string{"", "x", password[1:], password + "a", "e30." + password[strings.Index(password, ".")+1:]} {
		if _, _, err := w.Tokens.Verify(t.Context(), bad); !errors.Is(err, ErrTokenInvalid) {
			t.Fatalf("%q: %v", bad, err)
		}
	}
	w.clock.Advance(TokenLife)
	if _, _, err := w.Tokens.Verify(t.Context(), password); !errors.Is(err, ErrTokenExpired) {
		t.Fatal(err)
	}
}

func TestWildcards(t *testing.T) {
	for _, c := range []struct {
		filter, tag string
		want        bool
	}{
		{"v1", "v1", true}, {"v1", "v10", false}, {"*", "", true}, {"v*", "v", true}, {"*v", "rev", true}, {"a*b*c", "axbxc", true},
		{"a*b*c", "axxc", false}, {"a*a", "a", false}, {"*.*", "1.2", true}, {"ab*ba", "aba", false},
	} {
		if got := Matches(c.filter, c.tag); got != c.want {
			t.Errorf("Matches(%q, %q) = %v", c.filter, c.tag, got)
		}
	}
}
