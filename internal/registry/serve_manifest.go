package registry

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"skerry/internal/store"
)

// reference reads the tag or digest of a path.
func (x *exchange) reference() (digest, tag string, err error) {
	ref := x.route.ref
	switch {
	case strings.Contains(ref, ":"):
		return ref, "", checkDigest(ref)
	case ValidTag(ref):
		return "", ref, nil
	}
	return "", "", fail(ParameterInvalid, "'%s' is neither a tag nor a digest", ref).as("MANIFEST_INVALID")
}

// getManifest is end-3.
func (x *exchange) getManifest(ctx context.Context) error {
	digest, tag, err := x.reference()
	if err != nil {
		return err
	}
	m, err := x.findManifest(ctx, digest, tag)
	if err != nil {
		return err
	}
	body, err := x.ReadManifest(ctx, m)
	if err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("Content-Type", m.MediaType)
	h.Set("Docker-Content-Digest", m.Digest)
	h.Set("Etag", `"`+m.Digest+`"`)
	if m.Subject != "" {
		h.Set("Oci-Subject", m.Subject)
	}
	if x.r.Header.Get("If-None-Match") != "" {
		http.ServeContent(x.w, x.r, "", time.Time{}, bytes.NewReader(body))
		return nil
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	x.w.WriteHeader(http.StatusOK)
	if x.r.Method == http.MethodHead {
		return nil
	}
	x.write(body)
	return x.pulled(ctx, m)
}

// findManifest returns the manifest that a client means and understands.
func (x *exchange) findManifest(ctx context.Context, digest, tag string) (m *Manifest, err error) {
	err = x.Store.View(ctx, func(tx *store.Tx) error {
		m, err = x.Manifest(tx, x.repo, digest, tag)
		return err
	})
	if m, err = x.relayManifest(ctx, digest, tag, m, err); err != nil {
		return nil, err
	}
	if m.Archived {
		return nil, imageNotFound(x.repo, digest, tag)
	}
	if digest != "" || accepts(x.r.Header, m.MediaType) {
		return m, nil
	}
	// A client from before there were lists gets the image that all of them ran.
	if accepts(x.r.Header, OCIManifest) || accepts(x.r.Header, DockerManifest) {
		for _, d := range m.Manifests {
			if p := d.Platform; p == nil || p.OS != "linux" || p.Architecture != "amd64" || !accepts(x.r.Header, d.MediaType) {
				continue
			}
			err = x.Store.View(ctx, func(tx *store.Tx) error {
				m, err = x.Manifest(tx, x.repo, d.Digest, "")
				return err
			})
			return m, err
		}
	}
	return nil, imageNotFound(x.repo, digest, tag)
}

// accepts tells whether a client takes a media type.
func accepts(h http.Header, mediaType string) bool {
	all := h.Values("Accept")
	if len(all) == 0 {
		return true
	}
	for _, line := range all {
		for one := range strings.SplitSeq(line, ",") {
			one, _, _ = strings.Cut(one, ";")
			switch strings.ToLower(strings.TrimSpace(one)) {
			case mediaType, "*/*", "application/*", "application/json", "":
				return true
			}
		}
	}
	return false
}

// pulled notes that a client got a manifest.
func (x *exchange) pulled(ctx context.Context, m *Manifest) error {
	if x.hooks.Pulled != nil {
		x.hooks.Pulled(ctx, x.scope, m)
	}
	if !x.PullIsNews(m) || x.hooks.Uncounted != nil && x.hooks.Uncounted(ctx, x.scope, x.repo) {
		return nil
	}
	// The client has its answer: a failure is ours alone.
	err := x.Store.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error { return x.RecordPull(tx, x.repo, m.Digest) })
	if err != nil {
		x.Log.Error("registry: note a pull", "repository", x.repo.Name, "error", err)
	}
	return nil
}

// maxTags is how many tags one push can give.
const maxTags = 100

// putManifest is end-7.
func (x *exchange) putManifest(ctx context.Context) error {
	digest, tag, err := x.reference()
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(x.r.Body, MaxManifest+1))
	if err != nil {
		return err
	}
	m, err := x.Prepare(ctx, x.r.Header.Get("Content-Type"), digest, body)
	if err != nil {
		return err
	}
	names := x.r.URL.Query()["tag"]
	if tag != "" {
		names = []string{tag}
	}
	if len(names) > maxTags {
		return fail(ParameterInvalid, "One push gives %d tags at most", maxTags).as("TAG_INVALID")
	}
	if err := x.wantRepository(ctx); err != nil {
		return err
	}
	if err := x.Store.Update(ctx, func(tx *store.Tx) error {
		_, err := x.PutManifest(tx, x.repo, m, names...)
		return err
	}); err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("Location", "/v2/"+x.route.name+"/manifests/"+x.route.ref)
	h.Set("Docker-Content-Digest", m.Digest)
	if m.Subject != "" {
		h.Set("Oci-Subject", m.Subject)
	}
	if tag == "" && len(names) > 0 {
		h.Set("Oci-Tag", strings.Join(names, ", "))
	}
	x.empty(http.StatusCreated)
	return nil
}

// deleteManifest is end-9: a tag alone, or a manifest with its tags.
func (x *exchange) deleteManifest(ctx context.Context) error {
	digest, tag, err := x.reference()
	if err != nil {
		return err
	}
	if err := x.Store.Update(ctx, func(tx *store.Tx) error {
		if tag != "" {
			_, err = x.DeleteTag(tx, x.repo, tag)
		} else {
			_, err = x.DeleteManifest(tx, x.repo, digest)
		}
		return err
	}); err != nil {
		return err
	}
	x.empty(http.StatusAccepted)
	return nil
}

// page reads n and last; n is -1 if it is not given.
func (x *exchange) page() (n int, last string, err error) {
	q := x.r.URL.Query()
	n = -1
	if q.Has("n") {
		if n, err = strconv.Atoi(q.Get("n")); err != nil || n < 0 {
			return 0, "", fail(ParameterInvalid, "The parameter n is not a number of entries").as("UNSUPPORTED")
		}
	}
	return n, q.Get("last"), nil
}

// next sets the Link header.
func (x *exchange) next(n int, last string) {
	q := x.r.URL.Query()
	q.Set("n", strconv.Itoa(n))
	q.Set("last", last)
	x.w.Header().Set("Link", "<"+x.r.URL.EscapedPath()+"?"+q.Encode()+`>; rel="next"`)
}

// listTags is end-8.
func (x *exchange) listTags(ctx context.Context) error {
	n, last, err := x.page()
	if err != nil {
		return err
	}
	names, more := []string{}, false
	if err := x.Store.View(ctx, func(tx *store.Tx) error {
		names, more = names[:0], false
		if _, err := x.Repository(tx, x.repo); err != nil {
			return err
		}
		for t, err := range x.Tags(tx, x.repo, last) {
			if err != nil {
				return err
			}
			if n >= 0 && len(names) == n {
				more = true
				return nil
			}
			names = append(names, t.Tag)
		}
		return nil
	}); err != nil {
		return err
	}
	if more && n > 0 {
		x.next(n, names[n-1])
	}
	x.json(http.StatusOK, struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}{x.route.name, names})
	return nil
}

// cataloguePage is how many repositories one answer holds.
const cataloguePage = 1000

// listRepositories is Docker's catalogue: the repositories of the host's account
// and region.
func (x *exchange) listRepositories(ctx context.Context) error {
	all := Repo{x.repo.Account, x.repo.Region, "*"}
	if err := x.Authorise(ctx, x.scope, Needs(all, nil, "ecr:DescribeRepositories")); err != nil {
		return err
	}
	n, last, err := x.page()
	if err != nil {
		return err
	}
	if n < 0 || n > cataloguePage {
		n = cataloguePage
	}
	names, more := []string{}, false
	if err := x.Store.View(ctx, func(tx *store.Tx) error {
		names, more = names[:0], false
		for row, err := range x.Repositories(tx, all.Account, all.Region, last) {
			if err != nil {
				return err
			}
			if len(names) == n {
				more = true
				return nil
			}
			names = append(names, row.Repo.Name)
		}
		return nil
	}); err != nil {
		return err
	}
	if more && n > 0 {
		x.next(n, names[n-1])
	}
	x.json(http.StatusOK, map[string]any{"repositories": names})
	return nil
}

// referrersPage is how many descriptors one answer holds.
const referrersPage = 1000

// listReferrers is end-12.
func (x *exchange) listReferrers(ctx context.Context) error {
	if err := checkDigest(x.route.ref); err != nil {
		return err
	}
	want, after := x.r.URL.Query().Get("artifactType"), x.r.URL.Query().Get("last")
	found, more := []Descriptor{}, false
	if err := x.Store.View(ctx, func(tx *store.Tx) error {
		found, more = found[:0], false
		if _, err := x.Repository(tx, x.repo); err != nil {
			return err
		}
		for m, err := range x.Referrers(tx, x.repo, x.route.ref) {
			if err != nil {
				return err
			}
			if m.Digest <= after || want != "" && m.ArtifactType != want {
				continue
			}
			if more = len(found) == referrersPage; more {
				return nil
			}
			found = append(found, m.Descriptor())
		}
		return nil
	}); err != nil {
		return err
	}
	h := x.w.Header()
	h.Set("Content-Type", OCIIndex)
	if want != "" {
		h.Set("Oci-Filters-Applied", "artifactType")
	}
	if more {
		x.next(referrersPage, found[len(found)-1].Digest)
	}
	x.json(http.StatusOK, map[string]any{"schemaVersion": 2, "mediaType": OCIIndex, "manifests": found})
	return nil
}

// Descriptor describes a manifest as a list of referrers does.
func (m *Manifest) Descriptor() Descriptor {
	return Descriptor{
		MediaType: m.MediaType, Digest: m.Digest, Size: m.Size, ArtifactType: m.ArtifactType, Annotations: m.Annotations,
	}
}
