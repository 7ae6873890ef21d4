package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/store"
)

// Source is where the bytes of an image come from. What it gives is verified.
type Source interface {
	// Manifest reads a manifest by its digest.
	Manifest(ctx context.Context, digest string) (mediaType string, body []byte, err error)
	// Blob opens a blob of a size.
	Blob(ctx context.Context, digest string, size int64) (io.ReadCloser, error)
}

// ErrUnsupportedImage: what a name means is no image that can be run.
var ErrUnsupportedImage = errors.New("unsupported image")

// take fetches an image that a manifest or an index describes, down to its last
// layer, for a platform (with explicit: for no other). The caller records it, and
// calls release afterwards, whatever the error.
func (s *Store) take(ctx context.Context, src Source, mediaType string, body []byte, want engine.Platform, progress func(engine.Progress)) (a arrival, release func(), err error) {
	release = func() {}
	explicit := want != engine.Platform{}
	if !explicit {
		want = machine()
	}
	m, mediaType, body, err := s.descend(ctx, src, mediaType, body, want)
	if err != nil {
		return a, release, err
	}
	a.body = body
	a.manifest = descriptor{MediaType: mediaType, Digest: digestOf(body), Size: int64(len(body))}
	if a.config, err = s.small(ctx, src, *m.Config); err != nil {
		return a, release, err
	}
	c, err := parseConfiguration(a.config)
	if err != nil {
		return a, release, err
	}
	if c.OS != "linux" {
		return a, release, fmt.Errorf("%w: image operating system %q cannot be used on this platform", ErrUnsupportedImage, c.OS)
	}
	if explicit && suits(platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}, want) == 0 {
		return a, release, faultf(engine.ErrNotFound, "image was found but its platform (%s/%s) does not match the specified platform (%s/%s)",
			c.OS, c.Architecture, want.OS, want.Architecture)
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return a, release, fmt.Errorf("%w: the manifest has %d layers, the configuration %d", ErrUnsupportedImage, len(m.Layers), len(c.RootFS.DiffIDs))
	}
	for i, d := range m.Layers {
		a.layers = append(a.layers, layerUse{d, c.RootFS.DiffIDs[i]})
	}
	release = s.secure(c.RootFS.DiffIDs)
	return a, release, s.fetchAll(ctx, src, a.layers, progress)
}

// descend goes from an index to the manifest for a platform, and checks that it is
// one of an image.
func (s *Store) descend(ctx context.Context, src Source, mediaType string, body []byte, want engine.Platform) (*manifest, string, []byte, error) {
	for depth := 0; ; depth++ {
		m := new(manifest)
		if err := json.Unmarshal(body, m); err != nil {
			return nil, "", nil, fmt.Errorf("the manifest: %w", err)
		}
		if m.MediaType != "" {
			mediaType = m.MediaType
		}
		switch {
		case m.SchemaVersion == 1 || mediaType == typeSchema1 || mediaType == typeSigned:
			return nil, "", nil, fmt.Errorf("%w: the manifest is of the old schema 1, which has no digests of its layers' content; push the image anew with a client of 2017 or later", ErrUnsupportedImage)
		case m.Config != nil:
			if mediaType != typeSchema2 {
				mediaType = typeManifest
			}
			return m, mediaType, body, m.check()
		case m.Manifests == nil || depth > 2:
			return nil, "", nil, fmt.Errorf("%w: a manifest of the type %.80q", ErrUnsupportedImage, mediaType)
		}
		d, err := choose(m.Manifests, want)
		if err != nil {
			return nil, "", nil, err
		}
		if !validDigest(d.Digest) {
			return nil, "", nil, fmt.Errorf("%w: the manifest %.80q", ErrUnsupportedImage, d.Digest)
		}
		if mediaType, body, err = src.Manifest(ctx, d.Digest); err != nil {
			return nil, "", nil, err
		}
		if digestOf(body) != d.Digest {
			return nil, "", nil, fmt.Errorf("manifest verification failed for digest %s", d.Digest)
		}
	}
}

// check refuses manifests of what is no image, or of what cannot be fetched.
func (m *manifest) check() error {
	if t := m.Config.MediaType; t != typeConfig && t != typeOCIConfig && t != "" && t != "application/octet-stream" {
		return fmt.Errorf("%w: invalid media type %.80q for the configuration of an image", ErrUnsupportedImage, t)
	}
	if len(m.Layers) > maxLayers {
		return fmt.Errorf("%w: %d layers, more than %d", ErrUnsupportedImage, len(m.Layers), maxLayers)
	}
	for _, d := range append([]descriptor{*m.Config}, m.Layers...) {
		switch {
		case !validDigest(d.Digest) || d.Size < 0:
			return fmt.Errorf("%w: the digest %.80q of %d bytes", ErrUnsupportedImage, d.Digest, d.Size)
		case d.MediaType == typeForeign || strings.HasPrefix(d.MediaType, typeNonDistrib) || len(d.URLs) > 0:
			return fmt.Errorf("%w: layer %s is foreign: it is to be had from its maker alone (%.200q)", ErrUnsupportedImage, d.Digest, strings.Join(d.URLs, " "))
		}
	}
	return nil
}

// small reads a configuration, from here where it is here already.
func (s *Store) small(ctx context.Context, src Source, d descriptor) ([]byte, error) {
	if b, err := s.readBlob(ctx, d.Digest); err == nil {
		return b, nil
	}
	if d.Size > maxConfig {
		return nil, fmt.Errorf("%w: a configuration of %d bytes", ErrUnsupportedImage, d.Size)
	}
	r, err := src.Blob(ctx, d.Digest, d.Size)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	b, err := io.ReadAll(io.LimitReader(r, d.Size+1))
	if err != nil {
		return nil, err
	}
	if digestOf(b) != d.Digest || int64(len(b)) != d.Size {
		return nil, fmt.Errorf("image config verification failed for digest %s", d.Digest)
	}
	return b, nil
}

// fetchAll fetches and unpacks the layers of an image, side by side. The first
// fault ends the others, as far as nobody else wants them.
func (s *Store) fetchAll(ctx context.Context, src Source, uses []layerUse, progress func(engine.Progress)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	seen := map[string]bool{}
	for _, use := range uses {
		key := use.Blob.Digest + " " + use.DiffID
		if seen[key] {
			continue
		}
		seen[key] = true
		wg.Go(func() {
			err := s.share(ctx, key, progress, func(ctx context.Context, report func(engine.Progress)) error {
				return s.fetchLayer(ctx, src, use, report)
			})
			if err != nil {
				cancel(fmt.Errorf("layer %s: %w", short(use.Blob.Digest), err))
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// present tells whether a layer is here, unpacked and as it came.
func (s *Store) present(ctx context.Context, use layerUse) (unpacked, kept bool, err error) {
	if kept, err = s.cfg.Blobs.Touch(ctx, ref(use.Blob.Digest)); err != nil {
		return false, false, err
	}
	err = s.cfg.Store.View(ctx, func(tx *store.Tx) error {
		unpacked, err = layers.Has(tx, store.K(use.DiffID))
		return err
	})
	return unpacked, kept, err
}

// fetchLayer brings one layer here, as far as it is not.
func (s *Store) fetchLayer(ctx context.Context, src Source, use layerUse, report func(engine.Progress)) error {
	p := engine.Progress{Layer: short(use.Blob.Digest)}
	tell := func(status string) {
		p.Status, p.Current, p.Total = status, 0, 0
		report(p)
	}
	unpacked, kept, err := s.present(ctx, use)
	if err != nil {
		return err
	}
	if unpacked && kept {
		tell("Already exists")
		return nil
	}
	tell("Pulling fs layer")
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	from, err := s.source(ctx, src, use, kept, report)
	if err != nil {
		return err
	}
	defer from.close()
	if unpacked {
		if _, err := io.Copy(io.Discard, from); err != nil {
			return err
		}
		tell("Verifying Checksum")
		err = from.commit()
	} else {
		err = s.unpackLayer(ctx, from, use, tell)
	}
	if err == nil {
		tell("Pull complete")
	}
	return err
}

func (s *Store) unpackLayer(ctx context.Context, from *arriving, use layerUse, tell func(string)) error {
	r, err := s.newRoom()
	if err != nil {
		return err
	}
	defer r.done()
	from.ended = func() { tell("Extracting") }
	diffID, what, err := s.unpackInto(ctx, r, from)
	if err != nil {
		return err
	}
	if err := from.commit(); err != nil {
		return err
	}
	if diffID != use.DiffID {
		return fmt.Errorf("the content of layer %s is %s and not %s, as the image's configuration says", use.Blob.Digest, diffID, use.DiffID)
	}
	return r.keep(ctx, diffID, what)
}

// arriving is a layer's bytes on their way from a source into a blob, or from the
// blob.
type arriving struct {
	io.Reader
	body  io.Closer
	w     blob.Writer // nil: it is a blob already
	want  descriptor
	n     int64
	ended func()
	seen  bool
}

// source opens a layer's bytes.
func (s *Store) source(ctx context.Context, src Source, use layerUse, kept bool, report func(engine.Progress)) (*arriving, error) {
	p := engine.Progress{Layer: short(use.Blob.Digest), Status: "Downloading", Total: use.Blob.Size}
	if kept {
		p.Status = "Extracting"
		b, err := s.cfg.Blobs.Open(ctx, ref(use.Blob.Digest), blob.OpenOptions{})
		if err != nil {
			return nil, err
		}
		return &arriving{Reader: &counting{Reader: b, report: report, p: p}, body: b, want: use.Blob}, nil
	}
	w, err := s.create(ctx, use.Blob.Digest)
	if err != nil {
		return nil, err
	}
	body, err := src.Blob(ctx, use.Blob.Digest, use.Blob.Size)
	if err != nil {
		w.Abort()
		return nil, err
	}
	return &arriving{Reader: &counting{Reader: body, report: report, p: p}, body: body, w: w, want: use.Blob}, nil
}

// Read implements io.Reader. More than was announced is an error at once.
func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	a.n += int64(n)
	if a.n > a.want.Size {
		return 0, fmt.Errorf("layer %s has more than the %d bytes that were announced", a.want.Digest, a.want.Size)
	}
	if a.w != nil && n > 0 {
		if _, werr := a.w.Write(p[:n]); werr != nil {
			return 0, werr
		}
	}
	if err == io.EOF && a.n < a.want.Size {
		err = io.ErrUnexpectedEOF
	}
	if err == io.EOF && !a.seen {
		if a.seen = true; a.ended != nil {
			a.ended()
		}
	}
	return n, err
}

// commit keeps the blob, if it is what was announced.
func (a *arriving) commit() error {
	if a.n != a.want.Size {
		return fmt.Errorf("layer %s has %d bytes, and not %d as announced", a.want.Digest, a.n, a.want.Size)
	}
	if a.w == nil {
		return nil
	}
	_, err := a.w.Commit()
	if errors.Is(err, blob.ErrMismatch) {
		return fmt.Errorf("filesystem layer verification failed for digest %s: %w", a.want.Digest, err)
	}
	return err
}

func (a *arriving) close() {
	if a.w != nil {
		a.w.Abort()
	}
	_ = a.body.Close()
}
