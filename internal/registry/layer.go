package registry

import (
	"bytes"
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"skerry/internal/blob"
	"skerry/internal/store"
)

// Blob returns the row of a layer or configuration. Errors: RepositoryNotFound,
// LayerNotFound.
func (r *Registry) Blob(tx *store.Tx, id Repo, digest string) (*Blob, error) {
	b, err := blobs.Get(tx, id.Key()+store.K(digest))
	if errors.Is(err, store.ErrNotFound) {
		if _, err := r.Repository(tx, id); err != nil {
			return nil, err
		}
		return nil, layerNotFound(id, digest)
	}
	return b, err
}

// OpenBlob opens a layer or configuration.
func (r *Registry) OpenBlob(ctx context.Context, b *Blob) (blob.Reader, error) {
	if b.Ref == "" {
		return &inline{*bytes.NewReader(b.Content)}, nil
	}
	f, err := r.Blobs.Open(ctx, b.Ref, blob.OpenOptions{})
	if err != nil {
		return nil, fmt.Errorf("registry: open layer %s: %w", b.Digest, err)
	}
	return f, nil
}

// inline is a content that is kept in its row.
type inline struct{ bytes.Reader }

// Size implements blob.Reader.
func (i *inline) Size() int64 { return i.Reader.Size() }

// Close implements io.Closer.
func (i *inline) Close() error { return nil }

// MountBlob gives a repository a layer that another one has. Errors:
// RepositoryNotFound, LayerNotFound.
func (r *Registry) MountBlob(tx *store.Tx, from, to Repo, digest string) (*Blob, error) {
	if _, err := r.Repository(tx, to); err != nil {
		return nil, err
	}
	b, err := r.Blob(tx, from, digest)
	if err != nil {
		return nil, err
	}
	if from == to {
		return b, nil
	}
	b.Repo = to
	return b, r.putBlob(tx, b)
}

// putBlob writes the row of a layer that has come in. One that is there already
// stays, and counts as new.
func (r *Registry) putBlob(tx *store.Tx, b *Blob) error {
	b.Touched = r.now()
	return blobs.Put(tx, b)
}

// DeleteBlob takes a layer from a repository. Errors: RepositoryNotFound,
// LayerNotFound, ImageReferenced if an image names it.
func (r *Registry) DeleteBlob(tx *store.Tx, id Repo, digest string) error {
	if _, err := r.Blob(tx, id, digest); err != nil {
		return err
	}
	used, err := named(tx, id, digest)
	if err != nil {
		return err
	}
	if used {
		return fail(ImageReferenced, "The layer with digest '%s' is part of an image of the repository with name '%s'", digest, id.Name)
	}
	return blobs.Delete(tx, id.Key()+store.K(digest))
}

// named tells whether an image names a layer.
func named(tx *store.Tx, id Repo, digest string) (bool, error) {
	for _, err := range manifestsByBlob.ScanKeys(tx, store.Range{Prefix: id.Key() + store.K(digest)}) {
		return err == nil, err
	}
	return false, nil
}

// touch marks a layer as wanted now.
func touch(tx *store.Tx, id Repo, digest string, now time.Time) error {
	b, err := blobs.Get(tx, id.Key()+store.K(digest))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	b.Touched = now
	return blobs.Put(tx, b)
}

// PutBlob stores a layer that comes in one piece. Errors: RepositoryNotFound,
// ParameterInvalid, LayerInvalid (its digest is another).
func (r *Registry) PutBlob(ctx context.Context, id Repo, digest string, body io.Reader) (*Blob, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	got, err := r.receive(ctx, body, expected(digest))
	if err != nil {
		return nil, err
	}
	b := &Blob{Repo: id, Digest: digest, Size: got.Size, Content: got.Content, Ref: got.Ref}
	if err := r.verify(ctx, b); err != nil {
		return nil, err
	}
	return b, r.Store.Update(ctx, func(tx *store.Tx) error {
		if _, err := r.Repository(tx, id); err != nil {
			return err
		}
		return r.putBlob(tx, b)
	})
}

// verify compares a content with its digest.
func (r *Registry) verify(ctx context.Context, b *Blob) error {
	got := "sha256:" + string(b.Ref)
	switch {
	case b.Ref == "":
		got = digestAs(b.Digest, b.Content)
	case len(b.Digest) > len(got):
		f, err := r.OpenBlob(ctx, b)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha512.New()
		if _, err := io.Copy(h, f); err != nil {
			return err
		}
		got = "sha512:" + hex.EncodeToString(h.Sum(nil))
	}
	if got != b.Digest {
		return mismatch(b.Digest, got)
	}
	return nil
}

func mismatch(digest, got string) error {
	if got != "" {
		got = " '" + got + "'"
	}
	return fail(LayerInvalid, "The layer digest '%s' does not match the digest%s of what was received", digest, got).as("DIGEST_INVALID")
}

// checkDigest refuses what is not a digest by an algorithm that we have.
func checkDigest(digest string) error {
	switch {
	case ValidDigest(digest):
		return nil
	case otherDigest.MatchString(digest):
		return fail(ParameterInvalid, "The digest '%s' is not a SHA-256 or SHA-512 digest", digest).as("DIGEST_INVALID")
	}
	return fail(ParameterInvalid, "The digest '%s' is malformed", digest).as("DIGEST_INVALID")
}
