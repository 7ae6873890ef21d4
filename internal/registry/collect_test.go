package registry

import (
	"bytes"
	"context"
	"testing"
	"time"

	"skerry/internal/blob"
	"skerry/internal/store"
)

// files counts the blobs that a sweep would leave.
func (w *world) files() (used, loose int) {
	w.t.Helper()
	var refs []blob.Ref
	for info, err := range w.Blobs.List(w.t.Context()) {
		w.must(err)
		refs = append(refs, info.Ref)
	}
	got, err := w.Referenced(w.t.Context(), refs)
	w.must(err)
	for _, r := range refs {
		if got[r] {
			used++
		} else {
			loose++
		}
	}
	return used, loose
}

func TestAbandonedUploadsExpire(t *testing.T) {
	c := newClient(t)
	c.repo("a")
	l := c.start("a")
	c.ask("PATCH", l, bytes.NewReader(make([]byte, 100_000))).is(202)
	c.clock.Advance(uploadLife - time.Minute)
	c.login(root)
	c.ask("PATCH", l, bytes.NewReader(make([]byte, 100_001))).is(202) // it goes on
	c.clock.Advance(uploadLife - time.Minute)
	_, err := c.Collect(t.Context())
	c.must(err)
	c.login(root)
	c.ask("GET", l, nil).is(204)
	if used, loose := c.files(); used != 2 || loose != 0 {
		t.Fatal(used, loose)
	}
	c.clock.Advance(2 * time.Minute)
	report, err := c.Collect(t.Context())
	c.must(err)
	c.ask("GET", l, nil).is(404)
	if used, loose := c.files(); used != 0 || loose != 2 || report != "1 uploads, 0 layers, 0 referrers" {
		t.Fatal(used, loose, report)
	}
}

func TestLayersGoAfterTheirImages(t *testing.T) {
	w := newWorld(t)
	r := w.repo("a")
	content := bytes.Repeat([]byte("x"), 100_000)
	layer := w.blob(r, content)
	config := w.blob(r, []byte("{}"))
	body := marshal(t, map[string]any{"schemaVersion": 2, "mediaType": OCIManifest, "config": config, "layers": []Descriptor{layer}})
	_, err := w.put(r, body, "v1")
	w.must(err)
	has := func() (yes bool) {
		w.must(w.Store.View(t.Context(), func(tx *store.Tx) error {
			_, err := w.Blob(tx, r, layer.Digest)
			yes = err == nil
			return nil
		}))
		return yes
	}
	w.clock.Advance(100 * 24 * time.Hour)
	_, err = w.Collect(t.Context())
	w.must(err)
	if !has() {
		t.Fatal("a layer of an image is gone")
	}
	w.must(w.update(func(tx *store.Tx) error { _, err := w.DeleteManifest(tx, r, Digest(body)); return err }))
	_, err = w.Collect(t.Context())
	w.must(err)
	if !has() {
		t.Fatal("it is gone at once")
	}
	w.clock.Advance(looseLife + time.Second)
	_, err = w.Collect(t.Context())
	w.must(err)
	if has() {
		t.Fatal("it is still there")
	}
	if used, loose := w.files(); used != 0 || loose != 1 {
		t.Fatal(used, loose)
	}
}

func TestReferrersGoAfterTheirSubject(t *testing.T) {
	c := newClient(t)
	r := c.repo("a")
	subject := c.tagged("a", "v1", "one", nil)
	about := map[string]any{"subject": Descriptor{MediaType: OCIManifest, Digest: Digest(subject), Size: int64(len(subject))}}
	loose, named := c.tagged("a", "", "loose", about), c.tagged("a", "sig", "named", about)
	has := func(body []byte) (yes bool) {
		c.must(c.Store.View(t.Context(), func(tx *store.Tx) error {
			_, err := c.Manifest(tx, r, Digest(body), "")
			yes = err == nil
			return nil
		}))
		return yes
	}
	remove := func() {
		c.must(c.update(func(tx *store.Tx) error { _, err := c.DeleteManifest(tx, r, Digest(subject)); return err }))
	}
	later := func() {
		c.clock.Advance(orphanLife + time.Second)
		_, err := c.Collect(context.Background())
		c.must(err)
		c.login(root)
	}
	later()
	if !has(loose) {
		t.Fatal("its subject is there")
	}
	remove()
	c.tagged("a", "v1", "one", nil) // it is back
	later()
	if !has(loose) {
		t.Fatal("its subject came back")
	}
	remove()
	later()
	if has(loose) || !has(named) {
		t.Fatal(has(loose), has(named))
	}
}
