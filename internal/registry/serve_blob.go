package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"skerry/internal/blob"
	"skerry/internal/store"
)

// getBlob is end-2.
func (x *exchange) getBlob(ctx context.Context) error {
	if err := checkDigest(x.route.ref); err != nil {
		return err
	}
	b, err := x.findBlob(ctx)
	if CodeOf(err) == RepositoryNotFound || CodeOf(err) == LayerNotFound {
		done, fetched := x.relayBlob(ctx)
		if done || fetched != nil {
			return fetched
		}
	}
	if err != nil {
		return err
	}
	return x.sendBlob(ctx, b)
}

// findBlob reads the row of a layer. One that no image names is about to be
// named, most likely: it stays for longer.
func (x *exchange) findBlob(ctx context.Context) (b *Blob, err error) {
	stale := false
	err = x.Store.View(ctx, func(tx *store.Tx) error {
		if b, err = x.Blob(tx, x.repo, x.route.ref); err != nil {
			return err
		}
		if x.now().Sub(b.Touched) > looseGrain {
			used, err := named(tx, x.repo, b.Digest)
			stale = !used
			return err
		}
		return nil
	})
	if err != nil || !stale {
		return b, err
	}
	return b, x.Store.Update(ctx, func(tx *store.Tx) error { return touch(tx, x.repo, b.Digest, x.now()) })
}

// sendBlob writes a content, or the ranges of it that are asked for.
func (x *exchange) sendBlob(ctx context.Context, b *Blob) error {
	f, err := x.OpenBlob(ctx, b)
	if err != nil {
		return err
	}
	defer f.Close()
	h := x.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", b.Digest)
	h.Set("Etag", `"`+b.Digest+`"`)
	h.Set("Cache-Control", "max-age=31536000")
	h.Set("Accept-Ranges", "bytes")
	sent := &counted{ResponseWriter: x.w}
	switch {
	case x.r.Header.Get("Range") != "" || x.r.Header.Get("If-None-Match") != "":
		http.ServeContent(sent, x.r, "", time.Time{}, f)
	case x.r.Method == http.MethodHead:
		h.Set("Content-Length", strconv.FormatInt(b.Size, 10))
		x.w.WriteHeader(http.StatusOK)
	default:
		h.Set("Content-Length", strconv.FormatInt(b.Size, 10))
		x.w.WriteHeader(http.StatusOK)
		_, err = f.WriteTo(sent)
	}
	if x.hooks.Served != nil && sent.n > 0 {
		x.hooks.Served(ctx, x.scope, b.Repo, sent.n)
	}
	if errors.Is(err, blob.ErrDamaged) {
		x.Log.Error("registry: layer", "digest", b.Digest, "error", err)
	}
	if err != nil {
		panic(http.ErrAbortHandler) // the length was promised: end the connection
	}
	return nil
}

// counted counts the bytes of an answer.
type counted struct {
	http.ResponseWriter
	n int64
}

// Write implements io.Writer.
func (c *counted) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	return n, err
}

// deleteBlob is end-10.
func (x *exchange) deleteBlob(ctx context.Context) error {
	if err := checkDigest(x.route.ref); err != nil {
		return err
	}
	if err := x.Store.Update(ctx, func(tx *store.Tx) error { return x.DeleteBlob(tx, x.repo, x.route.ref) }); err != nil {
		return err
	}
	x.empty(http.StatusAccepted)
	return nil
}

// empty answers without a body.
func (x *exchange) empty(status int) {
	if status != http.StatusNoContent {
		x.w.Header().Set("Content-Length", "0")
	}
	x.w.WriteHeader(status)
}

// serveLink serves a layer to who brings a link of GetDownloadUrlForLayer.
func (x *exchange) serveLink(ctx context.Context) (done bool, err error) {
	q := x.r.URL.Query()
	if x.route.kind != blobKind || q.Get("signature") == "" || x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		return false, nil
	}
	ok, err := x.Tokens.linked(ctx, x.repo, x.route.ref, q.Get("expires"), q.Get("signature"))
	if err != nil {
		return true, err
	}
	if !ok {
		return true, Refuse("Request has expired")
	}
	b, err := x.findBlob(ctx)
	if err != nil {
		return true, err
	}
	return true, x.sendBlob(ctx, b)
}

// startUpload is end-4 and end-11.
func (x *exchange) startUpload(ctx context.Context) error {
	if err := x.wantRepository(ctx); err != nil {
		return err
	}
	q := x.r.URL.Query()
	if digest := q.Get("mount"); digest != "" {
		if done, err := x.mount(ctx, digest, q.Get("from")); done || err != nil {
			return err
		}
	}
	if digest := q.Get("digest"); digest != "" {
		if err := x.authorise(ctx, x.repo, "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"); err != nil {
			return err
		}
		b, err := x.PutBlob(ctx, x.repo, digest, x.r.Body)
		if err != nil {
			return err
		}
		x.createdBlob(b)
		return nil
	}
	if alg := q.Get("digest-algorithm"); alg != "" && alg != "sha256" && alg != "sha512" {
		return fail(ParameterInvalid, "The digest algorithm '%s' is not supported", alg).as("DIGEST_INVALID")
	}
	var u *Upload
	if err := x.Store.Update(ctx, func(tx *store.Tx) (err error) {
		u, err = x.StartUpload(tx, x.repo)
		return err
	}); err != nil {
		return err
	}
	x.upload(http.StatusAccepted, u)
	return nil
}

// wantRepository makes the repository of a push if there is none and the control
// plane does so.
func (x *exchange) wantRepository(ctx context.Context) error {
	if x.row != nil || x.hooks.Missing == nil {
		return nil
	}
	return x.hooks.Missing(ctx, x.scope, x.repo)
}

// mount gives the repository a layer of another one, if the client may read that;
// if not, an upload begins.
func (x *exchange) mount(ctx context.Context, digest, from string) (done bool, err error) {
	if err := checkDigest(digest); err != nil {
		return false, err
	}
	if x.hooks.Mounts != nil {
		if ok, err := x.hooks.Mounts(ctx, x.repo.Account, x.repo.Region); !ok || err != nil {
			return false, err
		}
	}
	var sources []Repo
	if from != "" {
		sources = []Repo{x.sourceOf(from)}
	} else if sources, err = x.having(ctx, digest); err != nil {
		return false, err
	}
	for _, source := range sources {
		err := x.authorise(ctx, source, "ecr:GetDownloadUrlForLayer")
		if CodeOf(err) == Denied {
			continue
		}
		if err != nil {
			return false, err
		}
		var b *Blob
		err = x.Store.Update(ctx, func(tx *store.Tx) (err error) {
			b, err = x.MountBlob(tx, source, x.repo, digest)
			return err
		})
		if CodeOf(err) == LayerNotFound || CodeOf(err) == RepositoryNotFound && x.row != nil {
			continue
		}
		if err != nil {
			return false, err
		}
		x.createdBlob(b)
		return true, nil
	}
	return false, nil
}

// sourceOf reads the name in from, which is of the same registry.
func (x *exchange) sourceOf(from string) Repo {
	r := x.repoOf(x.r.Host, from)
	if r.Name == from && !strings.HasPrefix(x.route.name, x.repo.Name) {
		r.Account, r.Region = x.repo.Account, x.repo.Region // the path form of the target, the short form of the source
	}
	return r
}

// having returns some repositories of the registry that have a layer.
func (x *exchange) having(ctx context.Context, digest string) (out []Repo, err error) {
	const enough = 8
	err = x.Store.View(ctx, func(tx *store.Tx) error {
		out = nil
		for b, err := range blobsByDigest.Scan(tx, store.Range{Prefix: store.K(x.repo.Account, x.repo.Region, digest)}) {
			if err != nil {
				return err
			}
			if out = append(out, b.Repo); len(out) == enough {
				break
			}
		}
		return nil
	})
	return out, err
}

// createdBlob answers that a layer is there.
func (x *exchange) createdBlob(b *Blob) {
	x.w.Header().Set("Location", "/v2/"+x.route.name+"/blobs/"+b.Digest)
	x.w.Header().Set("Docker-Content-Digest", b.Digest)
	x.empty(http.StatusCreated)
}

// upload answers where an upload stands.
func (x *exchange) upload(status int, u *Upload) {
	h := x.w.Header()
	h.Set("Location", "/v2/"+x.route.name+"/blobs/uploads/"+u.ID)
	h.Set("Range", rangeOf(u.Size))
	h.Set("Docker-Upload-Uuid", u.ID)
	x.empty(status)
}

// rangeOf is the Range header of an upload with so many bytes; of none, as
// Docker has it, 0-0.
func rangeOf(size int64) string { return "0-" + strconv.FormatInt(max(0, size-1), 10) }

// getUpload is end-13.
func (x *exchange) getUpload(ctx context.Context) error {
	var u *Upload
	if err := x.Store.View(ctx, func(tx *store.Tx) (err error) {
		u, err = x.Upload(tx, x.repo, x.route.ref)
		return err
	}); err != nil {
		return err
	}
	x.upload(http.StatusNoContent, u)
	return nil
}

// patchUpload is end-5.
func (x *exchange) patchUpload(ctx context.Context) error {
	at, body, err := x.chunk()
	if err != nil {
		return err
	}
	u, err := x.WritePart(ctx, x.repo, x.route.ref, at, body)
	if err != nil {
		return err
	}
	x.upload(http.StatusAccepted, u)
	return nil
}

// putUpload is end-6.
func (x *exchange) putUpload(ctx context.Context) error {
	digest := x.r.URL.Query().Get("digest")
	at, body, err := x.chunk()
	if err != nil {
		return err
	}
	var b *Blob
	if x.r.ContentLength == 0 {
		b, err = x.CompleteUpload(ctx, x.repo, x.route.ref, digest, nil)
	} else {
		b, err = x.FinishUpload(ctx, x.repo, x.route.ref, at, body, digest)
	}
	if err != nil {
		return err
	}
	x.createdBlob(b)
	return nil
}

// deleteUpload is end-14.
func (x *exchange) deleteUpload(ctx context.Context) error {
	if err := x.Store.Update(ctx, func(tx *store.Tx) error { return x.AbortUpload(tx, x.repo, x.route.ref) }); err != nil {
		return err
	}
	x.empty(http.StatusNoContent)
	return nil
}

// chunk reads the headers of a part: where it begins (Append without a
// Content-Range) and its bytes.
func (x *exchange) chunk() (at int64, body io.Reader, err error) {
	span := x.r.Header.Get("Content-Range")
	if span == "" {
		return Append, x.r.Body, nil
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(span, "bytes "), "-")
	last, _, _ = strings.Cut(last, "/")
	from, err1 := strconv.ParseUint(first, 10, 62)
	to, err2 := strconv.ParseUint(last, 10, 62)
	if !ok || err1 != nil || err2 != nil || to < from {
		return 0, nil, x.badRange()
	}
	if n := int64(to-from) + 1; x.r.ContentLength >= 0 && x.r.ContentLength != n {
		return 0, nil, fail(ParameterInvalid, "The Content-Range %s does not have the Content-Length %d", span, x.r.ContentLength).as("BLOB_UPLOAD_INVALID")
	}
	return int64(from), &sized{r: x.r.Body, left: int64(to-from) + 1}, nil
}

// badRange is the answer to a Content-Range that is none.
func (x *exchange) badRange() error {
	var u *Upload
	if err := x.Store.View(x.r.Context(), func(tx *store.Tx) (err error) {
		u, err = x.Upload(tx, x.repo, x.route.ref)
		return err
	}); err != nil {
		return err
	}
	return partInvalid(x.repo, u.ID, u.Size)
}

// sized is a body that must have the announced length.
type sized struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (s *sized) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	if s.left -= int64(n); err == io.EOF && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// isBroken tells whether a body broke off.
func isBroken(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &timeout) || errors.Is(err, http.ErrBodyReadAfterClose)
}
