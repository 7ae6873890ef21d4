package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"skerry/internal/base/ids"
	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/image/unpack"
	"skerry/internal/store"
)

// room is a folder in which a layer is unpacked. No row knows it, and while it is
// busy the sweep leaves it alone.
type room struct {
	s    *Store
	name string
	kept bool // a row has it
}

func (s *Store) newRoom() (*room, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("image: layers are unpacked by root alone: %w", engine.ErrUnsupported)
	}
	r := &room{s: s, name: ids.Hex(8)}
	s.mu.Lock()
	s.busy[r.name] = true
	s.mu.Unlock()
	if err := os.Mkdir(r.path(), 0o755); err != nil {
		r.done()
		return nil, fmt.Errorf("image: %w", err)
	}
	return r, nil
}

func (r *room) path() string { return filepath.Join(r.s.cfg.Dir, r.name) }

// done drops the folder unless it is kept.
func (r *room) done() {
	if !r.kept {
		_ = os.RemoveAll(r.path()) // what is left, the sweep removes
	}
	r.s.mu.Lock()
	delete(r.s.busy, r.name)
	r.s.mu.Unlock()
}

// keep makes the folder durable and writes the row. Where another has unpacked the
// same layer meanwhile, that one counts.
func (r *room) keep(ctx context.Context, diffID string, what unpack.Result) error {
	if err := r.s.settle(); err != nil {
		return err
	}
	row := &layerRow{DiffID: diffID, Dir: r.name, Size: what.Size, Entries: what.Entries, Implied: what.Implied}
	err := r.s.cfg.Store.Update(ctx, func(tx *store.Tx) error { return layers.Insert(tx, row) })
	switch {
	case errors.Is(err, store.ErrExists):
		return nil
	case err != nil:
		return err
	}
	r.kept = true
	return nil
}

// hashing hashes what is read through it.
type hashing struct {
	io.Reader
	sum hash.Hash
	n   int64
}

func newHashing(r io.Reader) *hashing { return &hashing{Reader: r, sum: sha256.New()} }

func (h *hashing) Read(p []byte) (int, error) {
	n, err := h.Reader.Read(p)
	h.sum.Write(p[:n])
	h.n += int64(n)
	return n, err
}

func (h *hashing) digest() string { return "sha256:" + hex.EncodeToString(h.sum.Sum(nil)) }

// unpackInto unpacks an archive, compressed or not, and returns the digest that it
// has without compression. Source, decompression, and the writing of files run
// side by side.
func (s *Store) unpackInto(ctx context.Context, r *room, source io.Reader) (diffID string, what unpack.Result, err error) {
	first := readAhead(source)
	defer first.Close()
	z, err := decompress(first)
	if err != nil {
		return "", what, err
	}
	defer z.Close()
	second := readAhead(z)
	defer second.Close()
	plain := newHashing(second)
	if what, err = unpack.Layer(ctx, plain, r.path(), unpack.Limits{}); err != nil {
		return "", what, fmt.Errorf("unpack: %w", err)
	}
	// What follows the compressed stream belongs to the blob.
	_, err = io.Copy(io.Discard, first)
	return plain.digest(), what, err
}

// create starts a blob of a digest.
func (s *Store) create(ctx context.Context, digest string) (blob.Writer, error) {
	return s.cfg.Blobs.Create(ctx, blob.CreateOptions{Expect: ref(digest)})
}

// putBlob keeps small content.
func (s *Store) putBlob(ctx context.Context, content []byte) error {
	digest := digestOf(content)
	if there, err := s.cfg.Blobs.Touch(ctx, ref(digest)); there || err != nil {
		return err
	}
	w, err := s.create(ctx, digest)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(content); err != nil {
		return err
	}
	_, err = w.Commit()
	return err
}

// readBlob returns small content.
func (s *Store) readBlob(ctx context.Context, digest string) ([]byte, error) {
	r, err := s.cfg.Blobs.Open(ctx, ref(digest), blob.OpenOptions{})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > maxConfig {
		return nil, fmt.Errorf("image: blob %s has %d bytes", digest, r.Size())
	}
	return io.ReadAll(r)
}

// settle returns when all that was unpacked before the call is on disk.
func (s *Store) settle() error {
	if s.cfg.Relaxed {
		return nil
	}
	return s.settling.Wait(func() error { return unpack.Sync(s.cfg.Dir) })
}
