package registry

import (
	"bytes"
	"context"
	"testing"
	"time"

	"skerry/internal/auth"
	"skerry/internal/store"
)

// What is archived cannot be pulled until it is restored, or pushed again.
func TestArchivedImagesAreNotServed(t *testing.T) {
	c := newClient(t)
	r := c.repo("a")
	body := c.image(r, "1")
	p, err := c.put(r, body, "v1")
	c.must(err)
	pull := func(want int) {
		t.Helper()
		c.ask("GET", "/v2/a/manifests/v1", nil).is(want)
		c.ask("HEAD", "/v2/a/manifests/"+p.Manifest.Digest, nil).is(want)
	}
	set := func(archived bool) {
		t.Helper()
		c.must(c.update(func(tx *store.Tx) error {
			m, err := c.Manifest(tx, r, p.Manifest.Digest, "")
			if err != nil {
				return err
			}
			return c.Archive(tx, m, archived)
		}))
	}
	pull(200)
	set(true)
	pull(404)
	set(false)
	pull(200)
	set(true)
	c.clock.Advance(time.Hour)
	again, err := c.put(r, body, "v1")
	c.must(err)
	if !again.Restored || again.New || again.Manifest.Archived || !again.Manifest.ActivatedAt.Equal(c.clock.Now()) {
		t.Errorf("got %+v of %+v", again, again.Manifest)
	}
	pull(200)
}

// The control plane may keep pulls from counting, and layers from being mounted.
func TestHooksOfPullsAndMounts(t *testing.T) {
	c := newClient(t)
	r, other := c.repo("a"), c.repo("b")
	_, err := c.put(r, c.image(r, "1"), "v1")
	c.must(err)
	d := c.blob(r, []byte("a layer"))
	c.blob(other, []byte("another"))
	off := true
	c.Use(Hooks{
		Uncounted: func(context.Context, auth.Scope, Repo) bool { return off },
		Mounts:    func(context.Context, string, string) (bool, error) { return !off, nil },
	})
	pulled := func() time.Time {
		t.Helper()
		var m *Manifest
		c.must(c.Store.View(t.Context(), func(tx *store.Tx) (err error) {
			m, err = c.Manifest(tx, r, "", "v1")
			return err
		}))
		return m.Pulled
	}
	mount := "/v2/b/blobs/uploads/?mount=" + d.Digest + "&from=a"
	c.ask("GET", "/v2/a/manifests/v1", nil).is(200)
	c.ask("POST", mount, nil).is(202)
	if !pulled().IsZero() {
		t.Errorf("pulled at %v", pulled())
	}
	off = false
	c.ask("GET", "/v2/a/manifests/v1", nil).is(200)
	c.ask("POST", mount, nil).is(201)
	// The time is written after the answer.
	for end := time.Now().Add(5 * time.Second); pulled().IsZero() && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if !pulled().Equal(c.clock.Now()) {
		t.Errorf("pulled at %v", pulled())
	}
}

// ECR's API wants all parts but the last to have five megabytes.
func TestShortParts(t *testing.T) {
	c := newWorld(t)
	r := c.repo("a")
	var u *Upload
	c.must(c.update(func(tx *store.Tx) (err error) {
		u, err = c.StartUpload(tx, r)
		return err
	}))
	for i, p := range []struct {
		size  int
		short bool
	}{{minPart, false}, {10, false}, {minPart, true}} {
		got, err := c.WritePart(t.Context(), r, u.ID, Append, bytes.NewReader(make([]byte, p.size)))
		c.must(err)
		if got.Short != p.short {
			t.Errorf("part %d: short is %v", i, got.Short)
		}
	}
}
