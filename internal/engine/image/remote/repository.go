package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Repository is a repository of a registry, and of its mirrors.
type Repository struct {
	client *Client
	path   string
	ends   []*endpoint // the mirrors, then the registry
	at     atomic.Int32
}

// maxManifest is the most that a manifest may have, in bytes.
const maxManifest = 4 << 20

// accepted are the media types of manifests that are asked for.
var accepted = []string{
	"application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1", "application/json;q=0.1",
}

// each asks one end after the other, beginning with the one that has answered last,
// until one has what is asked for. The registry's own error counts.
func (r *Repository) each(ctx context.Context, fn func(e *endpoint) error) error {
	start := int(r.at.Load())
	var err error
	for i := start; i < len(r.ends); i++ {
		err = again(ctx, func() error { return fn(r.ends[i]) })
		if err == nil {
			r.at.CompareAndSwap(int32(start), int32(i))
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return scrub(err)
}

// Resolve reads the manifest of a tag or digest. digest is that of its bytes.
func (r *Repository) Resolve(ctx context.Context, reference string) (mediaType, digest string, body []byte, err error) {
	err = r.each(ctx, func(e *endpoint) error {
		a, err := e.do(ctx, request{method: http.MethodGet, path: r.path + "/manifests/" + reference, header: http.Header{"Accept": accepted}})
		if err != nil {
			return err
		}
		defer a.Body.Close()
		if body, err = io.ReadAll(io.LimitReader(a.Body, maxManifest+1)); err != nil {
			return err
		}
		if len(body) > maxManifest {
			return fmt.Errorf("the manifest has more than %d bytes", maxManifest)
		}
		sum := sha256.Sum256(body)
		digest = "sha256:" + hex.EncodeToString(sum[:])
		if strings.HasPrefix(reference, "sha256:") && digest != reference {
			return fmt.Errorf("manifest verification failed for digest %s", reference)
		}
		mediaType, _, _ = strings.Cut(a.Header.Get("Content-Type"), ";")
		return nil
	})
	return mediaType, digest, body, err
}

// Manifest reads the manifest of a digest.
func (r *Repository) Manifest(ctx context.Context, digest string) (mediaType string, body []byte, err error) {
	mediaType, _, body, err = r.Resolve(ctx, digest)
	return mediaType, body, err
}

// Blob opens a blob of a known size. When the connection breaks off, it is read on
// from where it was.
func (r *Repository) Blob(ctx context.Context, digest string, size int64) (io.ReadCloser, error) {
	d := &download{ctx: ctx, r: r, digest: digest, size: size}
	if err := d.open(); err != nil {
		return nil, err
	}
	return d, nil
}

// download is a blob that is being read.
type download struct {
	ctx    context.Context
	r      *Repository
	digest string
	size   int64
	n      int64 // read so far
	faults int   // since the last byte
	body   io.ReadCloser
	cancel context.CancelFunc
	idle   *time.Timer
	idled  atomic.Bool
}

var errIdle = errors.New("the registry sends nothing any more")

func (d *download) open() error {
	return d.r.each(d.ctx, func(e *endpoint) error {
		ctx, cancel := context.WithCancel(d.ctx)
		q := request{method: http.MethodGet, path: d.r.path + "/blobs/" + d.digest}
		if d.n > 0 {
			q.header = http.Header{"Range": {fmt.Sprintf("bytes=%d-", d.n)}}
		}
		a, err := e.do(ctx, q)
		if err != nil {
			cancel()
			return err
		}
		if all := a.ContentLength; all >= 0 && all != d.size && (a.StatusCode == http.StatusOK || all+d.n != d.size) {
			a.Body.Close()
			cancel()
			return fmt.Errorf("the registry's blob %s has not the %d bytes that were announced", d.digest, d.size)
		}
		if d.n > 0 && a.StatusCode == http.StatusPartialContent && rangeStart(a.Header.Get("Content-Range")) != d.n {
			a.Body.Close()
			cancel()
			return errors.New("the registry answers another range than asked for")
		}
		if d.n > 0 && a.StatusCode == http.StatusOK { // it knows no ranges
			if _, err := io.CopyN(io.Discard, a.Body, d.n); err != nil {
				a.Body.Close()
				cancel()
				return io.ErrUnexpectedEOF
			}
		}
		d.body, d.cancel = a.Body, cancel
		d.idled.Store(false)
		d.idle = time.AfterFunc(idleTime, func() {
			d.idled.Store(true)
			cancel()
		})
		return nil
	})
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	for {
		n, err := d.body.Read(p)
		d.n += int64(n)
		if n > 0 {
			d.faults = 0
			d.idle.Reset(idleTime)
		}
		switch {
		case err == nil, err == io.EOF && d.n >= d.size:
			return n, err
		case n > 0:
			return n, nil // the next Read meets the fault again
		case d.ctx.Err() != nil:
			return 0, d.ctx.Err()
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if d.idled.Load() {
			err = errIdle
		}
		if d.faults++; d.faults > tries {
			return 0, fmt.Errorf("blob %s: after %d of %d bytes: %w", d.digest, d.n, d.size, scrub(err))
		}
		d.end()
		select {
		case <-time.After(firstGap << (d.faults - 1) / 2):
		case <-d.ctx.Done():
			return 0, d.ctx.Err()
		}
		if err := d.open(); err != nil {
			d.body = http.NoBody
			d.faults = tries
			return 0, fmt.Errorf("blob %s: after %d of %d bytes: %w", d.digest, d.n, d.size, err)
		}
	}
}

func (d *download) end() {
	d.idle.Stop()
	_ = d.body.Close()
	d.cancel()
}

// Close implements io.Closer.
func (d *download) Close() error {
	d.end()
	return nil
}
