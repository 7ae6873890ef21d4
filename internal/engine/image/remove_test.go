package image_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/engine/image"
)

// folders counts the unpacked layers.
func (b *bench) folders(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(b.dir, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func (b *bench) sweep(t *testing.T) {
	t.Helper()
	if _, err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestRemove(t *testing.T) {
	b := open(t)
	i := b.load(t, small("one:a", "two:b"))[0]
	if _, err := b.Remove(t.Context(), i.ID, false); !errors.Is(err, engine.ErrState) {
		t.Errorf("by id, with two names: %v", err)
	}
	out, err := b.Remove(t.Context(), "one:a", false)
	if err != nil || !slices.Equal(out.Names, []string{"one:a"}) || len(out.Images) > 0 {
		t.Errorf("one name: %+v, %v", out, err)
	}
	b.sweep(t)
	if b.folders(t) != 2 {
		t.Error("the layers went with the first name")
	}
	out, err = b.Remove(t.Context(), "two:b", false)
	if err != nil || !slices.Equal(out.Names, []string{"two:b"}) || !slices.Equal(out.Images, []string{i.ID}) {
		t.Errorf("the last name: %+v, %v", out, err)
	}
	b.clean(t)
	if _, err := b.Remove(t.Context(), "two:b", false); !errors.Is(err, engine.ErrNotFound) || err.Error() != "No such image: two:b" {
		t.Errorf("what is gone: %v", err)
	}
	i = b.load(t, small("one:a", "two:b"))[0]
	if out, err = b.Remove(t.Context(), i.ID[7:19], true); err != nil || len(out.Names) != 2 || len(out.Images) != 1 {
		t.Errorf("by id with force: %+v, %v", out, err)
	}
	b.clean(t)
}

// TestRemoveShared has two images with a common layer.
func TestRemoveShared(t *testing.T) {
	b := open(t)
	one, two := small("one"), small("two")
	two.Layers[1] = []enginetest.ImageFile{{Name: "own"}}
	b.load(t, one, two)
	if b.folders(t) != 3 {
		t.Errorf("%d folders", b.folders(t))
	}
	if _, err := b.Remove(t.Context(), "one", false); err != nil {
		t.Fatal(err)
	}
	b.sweep(t)
	if got := b.content(t, "two", "hello"); b.folders(t) != 2 || got == "" {
		t.Errorf("%d folders", b.folders(t))
	}
}

func TestRemoveUsed(t *testing.T) {
	used := map[string]bool{}
	b := reopenRoot(t, func(c *image.Config) {
		c.Used = func(context.Context) (map[string]bool, error) { return used, nil }
	})
	i := b.load(t, small("app"))[0]
	used[i.ID] = true
	for _, name := range []string{"app", i.ID} {
		if _, err := b.Remove(t.Context(), name, false); !errors.Is(err, engine.ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	out, err := b.Remove(t.Context(), "app", true)
	if err != nil || !slices.Equal(out.Names, []string{"app:latest"}) || len(out.Images) > 0 {
		t.Errorf("with force: %+v, %v", out, err)
	}
	b.sweep(t)
	if j, err := b.Get(t.Context(), i.ID); err != nil || len(j.Names) > 0 || b.folders(t) != 2 {
		t.Errorf("while it is used: %+v, %v", j, err)
	}
	clear(used)
	b.clean(t)
	if _, err := b.Get(t.Context(), i.ID); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("afterwards: %v", err)
	}
}

func TestHold(t *testing.T) {
	b := open(t)
	b.load(t, small("app"))
	h, err := b.Hold(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Remove(t.Context(), "app", false); !errors.Is(err, engine.ErrState) {
		t.Errorf("held: %v", err)
	}
	if _, err := b.Remove(t.Context(), "app", true); err != nil {
		t.Error(err)
	}
	if _, _, err := b.Prune(t.Context(), true); err != nil {
		t.Error(err)
	}
	b.sweep(t)
	for _, dir := range h.Layers {
		if _, err := os.Stat(dir); err != nil {
			t.Errorf("held: %v", err)
		}
	}
	h.Release()
	h.Release() // again does nothing
	b.clean(t)
	if _, err := b.Hold(t.Context(), "app"); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("gone: %v", err)
	}
}

// TestHoldTwice has an image with one layer twice.
func TestHoldTwice(t *testing.T) {
	b := open(t)
	spec := small("app")
	spec.Layers = [][]enginetest.ImageFile{spec.Layers[0], spec.Layers[1], spec.Layers[0]}
	i := b.load(t, spec)[0]
	h, err := b.Hold(t.Context(), "app")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	if _, err := os.Stat(filepath.Join(h.Layers[1], "hello")); len(i.Layers) != 3 || len(h.Layers) != 2 || err != nil {
		t.Errorf("%d layers in %v, %v", len(i.Layers), h.Layers, err)
	}
}

func TestPrune(t *testing.T) {
	b := open(t)
	i := b.load(t, small("named"))[0]
	two := small()
	two.Layers[1] = []enginetest.ImageFile{{Name: "own", Content: []byte("12345")}}
	j := b.load(t, two)[0]
	b.sweep(t)
	if len(j.Names) > 0 {
		t.Errorf("loaded %+v", j)
	}
	if _, err := b.Get(t.Context(), j.ID); err != nil {
		t.Errorf("an image loaded without a name is swept: %v", err)
	}
	out, free, err := b.Prune(t.Context(), false)
	if err != nil || !slices.Equal(out.Images, []string{j.ID}) || free != 5 {
		t.Errorf("pruned %+v, %d bytes, %v", out, free, err)
	}
	if out, free, err = b.Prune(t.Context(), true); err != nil || !slices.Equal(out.Images, []string{i.ID}) || free != i.Size {
		t.Errorf("pruned all: %+v, %d bytes, %v", out, free, err)
	}
	b.clean(t)
}

func TestTag(t *testing.T) {
	b := open(t)
	other := small("app:2")
	other.Config.Labels = nil
	all := b.load(t, small("app:1"), other)
	if err := b.Tag(t.Context(), "app:1", "app:2"); err != nil {
		t.Fatal(err)
	}
	if i, err := b.Get(t.Context(), "app:2"); err != nil || i.ID != all[0].ID || !slices.Equal(i.Names, []string{"app:1", "app:2"}) {
		t.Errorf("%+v, %v", i, err)
	}
	b.sweep(t) // takes the one that has lost its name
	if _, err := b.Get(t.Context(), all[1].ID); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("the other: %v", err)
	}
	for _, name := range []string{"UPPER", "a@sha256:" + all[0].ID[7:], "-", ""} {
		if err := b.Tag(t.Context(), "app:1", name); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if err := b.Tag(t.Context(), "none", "app:3"); !errors.Is(err, engine.ErrNotFound) {
		t.Errorf("of nothing: %v", err)
	}
}

// TestSweepLeftovers has folders that no row knows, as a crash leaves them.
func TestSweepLeftovers(t *testing.T) {
	b := open(t)
	b.load(t, small("app"))
	left := filepath.Join(b.dir, "layers", "0123abcd", "etc", "x")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	b.sweep(t)
	if b.folders(t) != 2 {
		t.Errorf("%d folders", b.folders(t))
	}
	b.content(t, "app", "etc/new")
}

func TestReferenced(t *testing.T) {
	b := open(t)
	b.load(t, small("app"))
	w, err := b.blobs.Create(t.Context(), blob.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	var refs []blob.Ref
	for info := range b.blobs.List(t.Context()) {
		refs = append(refs, info.Ref)
	}
	used, err := b.Referenced(t.Context(), refs)
	if err != nil || len(refs) != 5 || len(used) != 4 || used[stranger] { // 2 layers, configuration, manifest
		t.Errorf("%d of %d, %v", len(used), len(refs), err)
	}
}
