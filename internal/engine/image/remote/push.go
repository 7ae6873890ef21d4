package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// registry is the end that is written to.
func (r *Repository) registry() *endpoint { return r.ends[len(r.ends)-1] }

// HasBlob tells whether the registry has a blob in this repository.
func (r *Repository) HasBlob(ctx context.Context, digest string) (bool, error) {
	return r.has(ctx, "/blobs/"+digest, nil)
}

// HasManifest tells whether the registry has a manifest under a reference with a
// digest.
func (r *Repository) has(ctx context.Context, path string, header http.Header) (bool, error) {
	err := again(ctx, func() error {
		a, err := r.registry().do(ctx, request{method: http.MethodHead, path: r.path + path, header: header})
		if err == nil {
			a.Body.Close()
		}
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, scrub(err)
}

// Upload is a blob to be written.
type Upload struct {
	Digest string
	Size   int64
	// Open reads it from its beginning.
	Open func() (io.ReadCloser, error)
	// From are repositories of the same registry that may have it.
	From []string
}

// Put writes a blob. from is the repository that it was mounted from, if it was.
func (r *Repository) Put(ctx context.Context, u Upload) (from string, err error) {
	for _, source := range u.From {
		if source == r.path {
			continue
		}
		location, mounted, err := r.start(ctx, url.Values{"mount": {u.Digest}, "from": {source}})
		if err != nil {
			if errors.Is(err, ErrDenied) || errors.Is(err, ErrNotFound) {
				continue // it may not be read from there
			}
			return "", err
		}
		if mounted {
			return source, nil
		}
		r.cancel(ctx, location)
	}
	return "", again(ctx, func() error {
		location, _, err := r.start(ctx, nil)
		if err != nil {
			return err
		}
		return r.send(ctx, location, u)
	})
}

// start opens an upload, or mounts a blob.
func (r *Repository) start(ctx context.Context, query url.Values) (location string, mounted bool, err error) {
	a, err := r.registry().do(ctx, request{method: http.MethodPost, path: r.path + "/blobs/uploads/", query: query})
	if err != nil {
		return "", false, err
	}
	defer a.Body.Close()
	if a.StatusCode == http.StatusCreated {
		return "", true, nil
	}
	location, err = next(a)
	return location, false, err
}

// next returns where an upload goes on.
func next(a *http.Response) (string, error) {
	u, err := a.Location()
	if err != nil {
		return "", fmt.Errorf("the registry answers an upload with %s and no place to go on: %w", a.Status, err)
	}
	if u.Scheme == "http" && a.Request.URL.Scheme == "https" {
		if u.Host != a.Request.URL.Host {
			return "", fmt.Errorf("the registry sends an upload from https to http://%s", u.Host)
		}
		u.Scheme = "https" // of a registry behind a proxy that it does not know of
	}
	return u.String(), nil
}

func (r *Repository) cancel(ctx context.Context, location string) {
	if a, err := r.registry().do(ctx, request{method: http.MethodDelete, path: location}); err == nil {
		a.Body.Close()
	}
}

// send writes the content in one go, and ends the upload.
func (r *Repository) send(ctx context.Context, location string, u Upload) error {
	a, err := r.registry().do(ctx, request{
		method: http.MethodPatch, path: location, body: u.Open, size: u.Size,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
	})
	if err != nil {
		return err
	}
	a.Body.Close()
	if location, err = next(a); err != nil {
		return err
	}
	a, err = r.registry().do(ctx, request{method: http.MethodPut, path: location, query: url.Values{"digest": {u.Digest}}})
	if err != nil {
		return err
	}
	a.Body.Close()
	if a.StatusCode != http.StatusCreated && a.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the registry answers the end of an upload with %s", a.Status)
	}
	return nil
}

// PutManifest writes a manifest under a tag or its digest.
func (r *Repository) PutManifest(ctx context.Context, reference, mediaType string, body []byte) error {
	err := again(ctx, func() error {
		a, err := r.registry().do(ctx, request{
			method: http.MethodPut, path: r.path + "/manifests/" + reference, size: int64(len(body)),
			body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil },
			header: http.Header{"Content-Type": {mediaType}},
		})
		if err == nil {
			a.Body.Close()
		}
		return err
	})
	return scrub(err)
}

// Pulling asks for the permission to read from other repositories as well, which
// mounting from them takes.
func (r *Repository) Pulling(repositories []string) {
	e := r.registry()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range repositories {
		e.scopes = append(e.scopes, "repository:"+name+":pull")
	}
}
