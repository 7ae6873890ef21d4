package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/image/remote"
	"skerry/internal/store"
)

// pushesAtOnce is how many layers of one image are sent at once, as with Docker.
const pushesAtOnce = 5

// Push implements engine.Images. What is sent are the bytes that came, so that all
// digests stay.
func (s *Store) Push(ctx context.Context, name string, o engine.PushOptions) (string, error) {
	n, err := ParseName(name)
	if err == nil && n.Digest != "" {
		err = errors.New("cannot push a digest reference")
	}
	if err != nil {
		return "", faultf(engine.ErrInvalid, "%w: %.300q", err, name)
	}
	digest, err := s.push(ctx, n, o)
	if err != nil {
		if errors.Is(err, remote.ErrDenied) {
			return "", fmt.Errorf("push access denied for %s, repository does not exist or may require authorization: %w", n.Repository(), err)
		}
		return "", about(err, "push %s", n.Familiar())
	}
	return digest, nil
}

func (s *Store) push(ctx context.Context, n Name, o engine.PushOptions) (string, error) {
	h, err := s.Hold(ctx, n.String())
	if errors.Is(err, engine.ErrNotFound) {
		return "", faultf(engine.ErrNotFound, "An image does not exist locally with the tag: %s", n.Repository())
	}
	if err != nil {
		return "", err
	}
	defer h.Release()
	var row *imageRow
	from := map[string][]string{}
	err = s.cfg.Store.View(ctx, func(tx *store.Tx) error {
		if row, err = images.Get(tx, store.K(h.Image.ID)); err != nil {
			return err
		}
		for _, l := range row.Layers {
			if from[l.Blob.Digest], err = neighbours(tx, l, n); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	repo, err := s.remote.Repository(n.Host, n.Path, o.Auth, true)
	if err != nil {
		return "", err
	}
	for _, all := range from {
		repo.Pulling(all)
	}
	if err := s.pushBlobs(ctx, repo, row, from, o.Progress); err != nil {
		return "", err
	}
	body, err := s.readBlob(ctx, row.Manifest.Digest)
	if err != nil {
		return "", err
	}
	if err := repo.PutManifest(ctx, n.Tag, row.Manifest.MediaType, body); err != nil {
		return "", err
	}
	if o.Progress != nil {
		o.Progress(engine.Progress{Status: fmt.Sprintf("%s: digest: %s size: %d", n.Tag, row.Manifest.Digest, len(body))})
	}
	by := n
	by.Tag, by.Digest = "", row.Manifest.Digest
	return row.Manifest.Digest, s.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := images.Get(tx, store.K(h.Image.ID))
		if err != nil || slices.Contains(row.Digests, by.String()) {
			return err
		}
		row.Digests = append(row.Digests, by.String())
		return images.Put(tx, row)
	})
}

// neighbours are repositories of the registry that may have a layer already.
func neighbours(tx *store.Tx, l layerUse, n Name) ([]string, error) {
	var out []string
	for row, err := range imagesByLayer.Scan(tx, store.Range{Prefix: store.K(l.DiffID)}) {
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(row.Layers, func(o layerUse) bool { return o.Blob.Digest == l.Blob.Digest }) {
			continue
		}
		for _, d := range row.Digests {
			if o, err := ParseName(d); err == nil && o.Host == n.Host && o.Path != n.Path && !slices.Contains(out, o.Path) && len(out) < 3 {
				out = append(out, o.Path)
			}
		}
	}
	return out, nil
}

// pushBlobs sends the layers, side by side, and the configuration.
func (s *Store) pushBlobs(ctx context.Context, repo *remote.Repository, row *imageRow, from map[string][]string, progress func(engine.Progress)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, pushesAtOnce)
	var wg sync.WaitGroup
	seen := map[string]bool{}
	send := func(d descriptor, quiet bool) {
		if seen[d.Digest] {
			return
		}
		seen[d.Digest] = true
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			report := progress
			if quiet {
				report = nil
			}
			if err := s.pushBlob(ctx, repo, d, from[d.Digest], report); err != nil {
				cancel(fmt.Errorf("layer %s: %w", short(d.Digest), err))
			}
		})
	}
	for _, l := range row.Layers {
		send(l.Blob, false)
	}
	send(descriptor{Digest: row.ID}, true)
	wg.Wait()
	return context.Cause(ctx)
}

func (s *Store) pushBlob(ctx context.Context, repo *remote.Repository, d descriptor, from []string, progress func(engine.Progress)) error {
	tell := func(status string) {
		if progress != nil {
			progress(engine.Progress{Layer: short(d.Digest), Status: status})
		}
	}
	tell("Preparing")
	there, err := repo.HasBlob(ctx, d.Digest)
	if err != nil {
		return err
	}
	if there {
		tell("Layer already exists")
		return nil
	}
	b, err := s.cfg.Blobs.Open(ctx, ref(d.Digest), blob.OpenOptions{})
	if err != nil {
		return err
	}
	size := b.Size()
	if err := b.Close(); err != nil {
		return err
	}
	source, err := repo.Put(ctx, remote.Upload{Digest: d.Digest, Size: size, From: from, Open: func() (io.ReadCloser, error) {
		b, err := s.cfg.Blobs.Open(ctx, ref(d.Digest), blob.OpenOptions{})
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{&counting{Reader: b, report: progress, p: engine.Progress{Layer: short(d.Digest), Status: "Pushing", Total: size}}, b}, nil
	}})
	switch {
	case err != nil:
		return err
	case source != "":
		tell("Mounted from " + source)
	default:
		tell("Pushed")
	}
	return nil
}
