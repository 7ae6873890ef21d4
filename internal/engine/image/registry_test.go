package image_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// registry is a registry with faults on demand.
type registry struct {
	*httptest.Server
	mu        sync.Mutex
	blobs     map[string]map[string][]byte // by repository and digest
	manifests map[string]map[string]stored // by repository and reference
	uploads   map[string][]byte
	opened    int      // uploads so far, which is the last one's name
	requests  []string // "GET /v2/..."
	mounts    bool

	auth  string // "", "basic" or "bearer"
	cut   int    // how many downloads of blobs break off in the middle
	fail  int    // how many requests are answered by 503
	gate  chan struct{}
	await func(path string) bool // which requests wait at the gate
	stall func(path string) bool // which blobs stop there in the middle
}

type stored struct {
	mediaType string
	body      []byte
}

const (
	user, password = "ann", "secret"
	refresh        = "refresh-token"
	bearer         = "a-token"
)

func newRegistry(t testing.TB) *registry {
	r := &registry{
		blobs: map[string]map[string][]byte{}, manifests: map[string]map[string]stored{}, uploads: map[string][]byte{}, mounts: true,
	}
	r.Server = httptest.NewServer(http.HandlerFunc(r.serve))
	t.Cleanup(r.Close)
	return r
}

func (r *registry) host() string {
	return strings.TrimPrefix(strings.TrimPrefix(r.URL, "http://"), "https://")
}

func (r *registry) name(rest string) string { return r.host() + "/" + rest }

// asked counts the requests that begin so.
func (r *registry) asked(prefix string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, q := range r.requests {
		if strings.HasPrefix(q, prefix) {
			n++
		}
	}
	return n
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (r *registry) addBlob(repo string, b []byte) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.blobs[repo] == nil {
		r.blobs[repo] = map[string][]byte{}
	}
	r.blobs[repo][digest(b)] = b
	return digest(b)
}

func (r *registry) addManifest(repo, reference, mediaType string, body []byte) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.manifests[repo] == nil {
		r.manifests[repo] = map[string]stored{}
	}
	r.manifests[repo][reference] = stored{mediaType, body}
	r.manifests[repo][digest(body)] = stored{mediaType, body}
	return digest(body)
}

// form is how an image is written.
type form struct {
	compress       func([]byte) []byte
	layer          string // media types
	manifest, conf string
}

var (
	docker = form{
		gzipped, "application/vnd.docker.image.rootfs.diff.tar.gzip",
		"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.docker.container.image.v1+json",
	}
	oci = form{
		gzipped, "application/vnd.oci.image.layer.v1.tar+gzip",
		"application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.config.v1+json",
	}
	ociZstd  = form{zstandard, "application/vnd.oci.image.layer.v1.tar+zstd", oci.manifest, oci.conf}
	ociPlain = form{func(b []byte) []byte { return b }, "application/vnd.oci.image.layer.v1.tar", oci.manifest, oci.conf}
)

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(b)
	_ = w.Close()
	return out.Bytes()
}

func zstandard(b []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return w.EncodeAll(b, nil)
}

// add writes an image, and returns the descriptor of its manifest.
func (r *registry) add(repo, tag string, f form, spec enginetest.ImageSpec) map[string]any {
	var layers []any
	var diffs []string
	for _, l := range spec.Layers {
		plain := enginetest.Layer(l...)
		b := f.compress(plain)
		diffs = append(diffs, digest(plain))
		layers = append(layers, map[string]any{"mediaType": f.layer, "size": len(b), "digest": r.addBlob(repo, b)})
	}
	p := spec.Platform
	if p == (engine.Platform{}) {
		p = engine.Platform{OS: "linux", Architecture: "amd64"}
	}
	conf := encode(map[string]any{
		"created": "2024-01-02T03:04:05Z", "os": p.OS, "architecture": p.Architecture, "variant": p.Variant,
		"config": map[string]any{"Cmd": spec.Config.Command, "Env": spec.Config.Env, "Labels": spec.Config.Labels},
		"rootfs": map[string]any{"type": "layers", "diff_ids": diffs},
	})
	body := encode(map[string]any{
		"schemaVersion": 2, "mediaType": f.manifest, "layers": layers,
		"config": map[string]any{"mediaType": f.conf, "size": len(conf), "digest": r.addBlob(repo, conf)},
	})
	return map[string]any{
		"mediaType": f.manifest, "size": len(body), "digest": r.addManifest(repo, tag, f.manifest, body),
		"platform": map[string]string{"os": p.OS, "architecture": p.Architecture, "variant": p.Variant},
	}
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func deny(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encode(map[string]any{"errors": []any{map[string]string{"code": code, "message": message}}}))
}

func (r *registry) serve(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, q.Method+" "+q.URL.RequestURI())
	gate, waits := r.gate, r.await != nil && r.await(q.URL.Path)
	fail := r.fail > 0
	if fail {
		r.fail--
	}
	r.mu.Unlock()
	if waits {
		select {
		case <-gate:
		case <-q.Context().Done():
			return
		}
	}
	if fail {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if q.URL.Path == "/token" {
		r.token(w, q)
		return
	}
	if !r.allowed(w, q) {
		return
	}
	path := strings.TrimPrefix(q.URL.Path, "/v2/")
	r.mu.Lock()
	defer r.mu.Unlock()
	if repo, ref, ok := strings.Cut(path, "/manifests/"); ok {
		r.manifest(w, q, repo, ref)
	} else if repo, rest, ok := strings.Cut(path, "/blobs/uploads/"); ok {
		r.upload(w, q, repo, rest)
	} else if repo, d, ok := strings.Cut(path, "/blobs/"); ok {
		b, ok := r.blobs[repo][d]
		cut := r.cut > 0 && len(b) > 1 && q.Method == http.MethodGet
		if cut {
			r.cut--
		}
		stall := r.stall != nil && r.stall(q.URL.Path)
		r.mu.Unlock()
		defer r.mu.Lock()
		r.blob(w, q, b, ok, cut, stall)
	}
}

func (r *registry) token(w http.ResponseWriter, q *http.Request) {
	name, pass, _ := q.BasicAuth()
	scope := q.URL.Query()["scope"]
	if q.Method == http.MethodPost {
		if q.PostFormValue("grant_type") == "refresh_token" && q.PostFormValue("refresh_token") == refresh {
			name, pass = user, password
		}
		scope = strings.Fields(q.PostFormValue("scope"))
	}
	if name != user || pass != password {
		deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password")
		return
	}
	if len(scope) == 0 || !strings.HasPrefix(scope[0], "repository:") {
		deny(w, http.StatusBadRequest, "DENIED", "no scope")
		return
	}
	_, _ = w.Write(encode(map[string]any{"token": bearer, "expires_in": 60}))
}

func (r *registry) allowed(w http.ResponseWriter, q *http.Request) bool {
	name, pass, _ := q.BasicAuth()
	switch r.auth {
	case "basic":
		if name == user && pass == password {
			return true
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
	case "bearer":
		if q.Header.Get("Authorization") == "Bearer "+bearer {
			return true
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:x:pull"`, r.URL))
	default:
		return true
	}
	deny(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

func (r *registry) manifest(w http.ResponseWriter, q *http.Request, repo, ref string) {
	if q.Method == http.MethodPut {
		body, _ := io.ReadAll(q.Body)
		m := stored{q.Header.Get("Content-Type"), body}
		if r.manifests[repo] == nil {
			r.manifests[repo] = map[string]stored{}
		}
		r.manifests[repo][ref], r.manifests[repo][digest(body)] = m, m
		w.WriteHeader(http.StatusCreated)
		return
	}
	m, ok := r.manifests[repo][ref]
	switch {
	case r.manifests[repo] == nil:
		deny(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry")
	case !ok:
		deny(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
	default:
		w.Header().Set("Content-Type", m.mediaType)
		_, _ = w.Write(m.body)
	}
}

// blob serves a blob, or the first half of it.
func (r *registry) blob(w http.ResponseWriter, q *http.Request, b []byte, ok, cut, stall bool) {
	if !ok {
		deny(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry")
		return
	}
	from := 0
	if text := q.Header.Get("Range"); text != "" {
		from, _ = strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(text, "bytes="), "-"))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(b)-1, len(b)))
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(b)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	if q.Method == http.MethodHead {
		return
	}
	rest := b[from:]
	if cut || stall {
		_, _ = w.Write(rest[:len(rest)/2])
		_ = http.NewResponseController(w).Flush()
		rest = rest[len(rest)/2:]
	}
	if stall {
		select {
		case <-r.gate:
		case <-q.Context().Done():
		}
	}
	if cut {
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(rest)
}

func (r *registry) upload(w http.ResponseWriter, q *http.Request, repo, id string) {
	body, _ := io.ReadAll(q.Body)
	at := func(id string) { w.Header().Set("Location", "/v2/"+repo+"/blobs/uploads/"+id+"?state=x") }
	switch q.Method {
	case http.MethodPost:
		d := q.URL.Query().Get("mount")
		if b, ok := r.blobs[q.URL.Query().Get("from")][d]; ok && r.mounts {
			if r.blobs[repo] == nil {
				r.blobs[repo] = map[string][]byte{}
			}
			r.blobs[repo][d] = b
			w.WriteHeader(http.StatusCreated)
			return
		}
		r.opened++
		at(strconv.Itoa(r.opened))
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPatch:
		r.uploads[id] = append(r.uploads[id], body...)
		at(id)
		w.WriteHeader(http.StatusAccepted)
	case http.MethodPut:
		b := append(r.uploads[id], body...)
		if digest(b) != q.URL.Query().Get("digest") {
			deny(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content")
			return
		}
		if r.blobs[repo] == nil {
			r.blobs[repo] = map[string][]byte{}
		}
		r.blobs[repo][digest(b)] = b
		w.WriteHeader(http.StatusCreated)
	}
}
