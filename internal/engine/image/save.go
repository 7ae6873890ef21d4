package image

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/store"
)

// Save implements engine.Images. The archive is an OCI layout with docker save's
// manifest.json in it, and has the layers as they came: of an image that is loaded
// from it, all digests are the same.
func (s *Store) Save(ctx context.Context, list []string, w io.Writer) error {
	if len(list) == 0 {
		return faultf(engine.ErrInvalid, "no image is named")
	}
	a := &saving{s: s, ctx: ctx, tar: tar.NewWriter(w), written: map[string]bool{}}
	order := []string{}
	for _, name := range list {
		h, err := s.Hold(ctx, name)
		if err != nil {
			return err
		}
		defer h.Release()
		if a.tags[h.Image.ID] == nil {
			if a.tags == nil {
				a.tags = map[string][]Name{}
			}
			order = append(order, h.Image.ID)
			a.tags[h.Image.ID] = []Name{}
		}
		if n, err := ParseName(name); err == nil && n.Tag != "" && slices.Contains(h.Image.Names, n.Familiar()) {
			a.tags[h.Image.ID] = append(a.tags[h.Image.ID], n)
		}
	}
	for _, id := range order {
		if err := a.image(id); err != nil {
			return fmt.Errorf("image: save: %w", err)
		}
	}
	if err := a.end(); err != nil {
		return fmt.Errorf("image: save: %w", err)
	}
	return nil
}

// saving is an archive that is being written.
type saving struct {
	s       *Store
	ctx     context.Context
	tar     *tar.Writer
	tags    map[string][]Name // by image
	written map[string]bool
	index   []descriptor
	docker  []savedImage
}

// savedImage is an entry of docker save's manifest.json.
type savedImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func blobFile(digest string) string { return "blobs/sha256/" + hexOf(digest) }

func (a *saving) image(id string) error {
	var row *imageRow
	err := a.s.cfg.Store.View(a.ctx, func(tx *store.Tx) (err error) {
		row, err = images.Get(tx, store.K(id))
		return err
	})
	if err != nil {
		return err
	}
	entry := savedImage{Config: blobFile(row.ID), RepoTags: []string{}, Layers: []string{}}
	for _, l := range row.Layers {
		if err := a.blob(l.Blob.Digest); err != nil {
			return err
		}
		entry.Layers = append(entry.Layers, blobFile(l.Blob.Digest))
	}
	if err := a.blob(row.ID); err != nil {
		return err
	}
	if err := a.blob(row.Manifest.Digest); err != nil {
		return err
	}
	d := row.Manifest
	d.Platform = &platform{OS: row.Platform.OS, Architecture: row.Platform.Architecture, Variant: row.Platform.Variant}
	for _, n := range a.tags[id] {
		entry.RepoTags = append(entry.RepoTags, n.Familiar())
		named := d
		named.Annotations = map[string]string{annotationName: n.String(), annotationRef: n.Tag}
		a.index = append(a.index, named)
	}
	if len(a.tags[id]) == 0 {
		a.index = append(a.index, d)
	}
	a.docker = append(a.docker, entry)
	return nil
}

func (a *saving) header(name string, size int64) error {
	return a.tar.WriteHeader(&tar.Header{Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0)})
}

func (a *saving) blob(digest string) error {
	if a.written[digest] {
		return nil
	}
	a.written[digest] = true
	b, err := a.s.cfg.Blobs.Open(a.ctx, ref(digest), blob.OpenOptions{})
	if err != nil {
		return err
	}
	defer b.Close()
	if err := a.header(blobFile(digest), b.Size()); err != nil {
		return err
	}
	_, err = b.WriteTo(a.tar)
	return err
}

// end writes what names the images.
func (a *saving) end() error {
	for _, f := range []struct {
		name string
		what any
	}{
		{"index.json", manifest{SchemaVersion: 2, MediaType: typeIndex, Manifests: a.index}},
		{"manifest.json", a.docker},
		{"oci-layout", map[string]string{"imageLayoutVersion": "1.0.0"}},
	} {
		text, err := json.Marshal(f.what)
		if err != nil {
			return err
		}
		if err := a.header(f.name, int64(len(text))); err != nil {
			return err
		}
		if _, err := a.tar.Write(text); err != nil {
			return err
		}
	}
	return a.tar.Close()
}
