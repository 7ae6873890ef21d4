package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"skerry/internal/base/ids"
	"skerry/internal/blob"
	"skerry/internal/store"
)

// StartUpload begins a layer that comes in parts. Errors: RepositoryNotFound.
func (r *Registry) StartUpload(tx *store.Tx, id Repo) (*Upload, error) {
	if _, err := r.Repository(tx, id); err != nil {
		return nil, err
	}
	now := r.now()
	u := &Upload{Repo: id, ID: ids.UUID(), Started: now, Touched: now}
	return u, uploads.Insert(tx, u)
}

// Upload returns where an upload stands. Errors: RepositoryNotFound,
// UploadNotFound.
func (r *Registry) Upload(tx *store.Tx, id Repo, upload string) (*Upload, error) {
	u, err := uploads.Get(tx, id.Key()+store.K(upload))
	if errors.Is(err, store.ErrNotFound) {
		if _, err := r.Repository(tx, id); err != nil {
			return nil, err
		}
		return nil, uploadNotFound(id, upload)
	}
	return u, err
}

// AbortUpload forgets an upload. Errors: RepositoryNotFound, UploadNotFound.
func (r *Registry) AbortUpload(tx *store.Tx, id Repo, upload string) error {
	u, err := r.Upload(tx, id, upload)
	if err != nil {
		return err
	}
	return dropUpload(tx, u)
}

// dropUpload deletes the rows of an upload; its files go with the sweep of blobs.
func dropUpload(tx *store.Tx, u *Upload) error {
	for p, err := range parts.Scan(tx, store.Range{Prefix: store.K(u.ID)}) {
		if err != nil {
			return err
		}
		if err := parts.Delete(tx, store.K(p.Upload, p.Offset)); err != nil {
			return err
		}
	}
	return uploads.Delete(tx, u.Repo.Key()+store.K(u.ID))
}

// minPart is the size in bytes that every part but the last has by ECR's API. Page:
// "UploadLayerPart".
const minPart = 5 << 20

// maxParts bounds the parts of one upload, whose rows go in one transaction. ECR's
// own limit is 4,200; clients of the HTTP API send smaller parts.
const maxParts = 10_000

// Append is an offset that means: where the upload ends.
const Append int64 = -1

// WritePart adds to an upload what body holds, from offset at on, which must be
// where it ends, and returns once that is on disk. If the body breaks off, what
// came of it is kept, and its error returned. Errors: RepositoryNotFound,
// UploadNotFound, PartInvalid, LimitExceeded.
func (r *Registry) WritePart(ctx context.Context, id Repo, upload string, at int64, body io.Reader) (*Upload, error) {
	var u *Upload
	if err := r.Store.View(ctx, func(tx *store.Tx) (err error) {
		u, err = r.Upload(tx, id, upload)
		return err
	}); err != nil {
		return nil, err
	}
	if at == Append {
		at = u.Size
	}
	if at != u.Size {
		return nil, partInvalid(id, upload, u.Size)
	}
	if u.Parts >= maxParts {
		return nil, fail(LimitExceeded, "Upload '%s' has %d parts, the most that one may have", upload, u.Parts).as("BLOB_UPLOAD_INVALID")
	}
	p, broken := r.receive(ctx, body, "")
	if p == nil || p.Size == 0 {
		return u, broken
	}
	p.Upload, p.Offset = upload, at
	err := r.Store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) (err error) {
		if u, err = r.Upload(tx, id, upload); err != nil {
			return err
		}
		if u.Size != at {
			return partInvalid(id, upload, u.Size)
		}
		u.Short = u.Short || u.Parts > 0 && u.Last < minPart
		u.Size, u.Parts, u.Last, u.Touched = at+p.Size, u.Parts+1, p.Size, r.now()
		if err := parts.Insert(tx, p); err != nil {
			return err
		}
		return uploads.Put(tx, u)
	})
	if err != nil {
		return nil, err
	}
	return u, broken
}

// receive stores a body: short ones in memory, to go into a row, others as a
// blob. If the body breaks off, it returns what came as well as the error. Given
// expect, another content is not kept: LayerInvalid.
func (r *Registry) receive(ctx context.Context, body io.Reader, expect blob.Ref) (*part, error) {
	own := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(own)
	buf := own[:]
	n, err := fill(body, buf[:blob.InlineMax+1])
	if n <= blob.InlineMax {
		if err == io.EOF {
			err = nil
		}
		return &part{Size: int64(n), Content: bytes.Clone(buf[:n])}, err
	}
	w, fault := r.Blobs.Create(ctx, blob.CreateOptions{Expect: expect})
	if fault != nil {
		return nil, fmt.Errorf("registry: receive: %w", fault)
	}
	defer w.Abort()
	for {
		if _, fault := w.Write(buf[:n]); fault != nil {
			return nil, fmt.Errorf("registry: receive: %w", fault)
		}
		if err != nil {
			break
		}
		n, err = fill(body, buf)
	}
	if err == io.EOF {
		err = nil
	}
	if err != nil && expect != "" {
		return nil, err // of a whole that is expected, a piece is worth nothing
	}
	size := w.Size()
	ref, fault := w.Commit()
	if errors.Is(fault, blob.ErrMismatch) {
		return nil, mismatch("sha256:"+string(expect), "")
	}
	if fault != nil {
		return nil, fmt.Errorf("registry: receive: %w", fault)
	}
	return &part{Size: size, Ref: ref}, err
}

// expected returns the Ref that a content of a digest will have; "" if that is
// not known.
func expected(digest string) blob.Ref {
	if hex, ok := strings.CutPrefix(digest, "sha256:"); ok {
		return blob.Ref(hex)
	}
	return ""
}

// fill reads until buf is full or the body ends; then err is set.
func fill(body io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var got int
		got, err = body.Read(buf[n:])
		n += got
	}
	return n, err
}

const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// CompleteUpload makes a layer of what an upload has received. also, if not nil,
// runs in the transaction that does. Errors: RepositoryNotFound, UploadNotFound,
// ParameterInvalid, LayerInvalid.
func (r *Registry) CompleteUpload(ctx context.Context, id Repo, upload, digest string, also func(tx *store.Tx, b *Blob) error) (*Blob, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	var u *Upload
	var got []*part
	if err := r.Store.View(ctx, func(tx *store.Tx) (err error) {
		got = nil
		if u, err = r.Upload(tx, id, upload); err != nil {
			return err
		}
		for p, err := range parts.Scan(tx, store.Range{Prefix: store.K(upload)}) {
			if err != nil {
				return err
			}
			got = append(got, p)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	whole, err := r.join(ctx, got, digest)
	if err != nil {
		return nil, err
	}
	return r.makeBlob(ctx, u, whole, digest, also)
}

// FinishUpload is WritePart followed by CompleteUpload. A layer that comes in this
// one piece costs one write of rows.
func (r *Registry) FinishUpload(ctx context.Context, id Repo, upload string, at int64, body io.Reader, digest string) (*Blob, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	var u *Upload
	if err := r.Store.View(ctx, func(tx *store.Tx) (err error) {
		u, err = r.Upload(tx, id, upload)
		return err
	}); err != nil {
		return nil, err
	}
	if u.Size > 0 || at > 0 {
		if _, err := r.WritePart(ctx, id, upload, at, body); err != nil {
			return nil, err
		}
		return r.CompleteUpload(ctx, id, upload, digest, nil)
	}
	whole, err := r.receive(ctx, body, expected(digest))
	if err != nil {
		return nil, err
	}
	return r.makeBlob(ctx, u, whole, digest, nil)
}

// makeBlob makes a layer of the whole of an upload, which must not have grown
// meanwhile. also, if not nil, runs in the same transaction.
func (r *Registry) makeBlob(ctx context.Context, u *Upload, whole *part, digest string, also func(tx *store.Tx, b *Blob) error) (*Blob, error) {
	b := &Blob{Repo: u.Repo, Digest: digest, Size: whole.Size, Content: whole.Content, Ref: whole.Ref}
	if err := r.verify(ctx, b); err != nil {
		return nil, err
	}
	return b, r.Store.Update(ctx, func(tx *store.Tx) error {
		now, err := r.Upload(tx, u.Repo, u.ID)
		if err != nil {
			return err
		}
		if now.Size != u.Size {
			return partInvalid(u.Repo, u.ID, now.Size)
		}
		if err := dropUpload(tx, now); err != nil {
			return err
		}
		if err := r.putBlob(tx, b); err != nil {
			return err
		}
		if also != nil {
			return also(tx, b)
		}
		return nil
	})
}

// join makes one part of those of an upload. A single one is it already.
func (r *Registry) join(ctx context.Context, all []*part, digest string) (*part, error) {
	if len(all) == 1 {
		return all[0], nil
	}
	in := &sequence{r: r, ctx: ctx, parts: all}
	defer in.Close()
	return r.receive(ctx, in, expected(digest))
}

// sequence reads parts one after the other.
type sequence struct {
	r     *Registry
	ctx   context.Context // of the one call that reads it
	parts []*part
	open  blob.Reader
}

// Read implements io.Reader.
func (s *sequence) Read(p []byte) (int, error) {
	for {
		if s.open == nil {
			if len(s.parts) == 0 {
				return 0, io.EOF
			}
			f, err := s.r.OpenBlob(s.ctx, &Blob{Content: s.parts[0].Content, Ref: s.parts[0].Ref})
			if err != nil {
				return 0, err
			}
			s.open, s.parts = f, s.parts[1:]
		}
		n, err := s.open.Read(p)
		if err != io.EOF {
			return n, err
		}
		s.Close()
		if n > 0 {
			return n, nil
		}
	}
}

// Close closes the part being read.
func (s *sequence) Close() {
	if s.open != nil {
		s.open.Close()
		s.open = nil
	}
}
