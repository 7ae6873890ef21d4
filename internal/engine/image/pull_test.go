package image_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/engine/image"
	"skerry/internal/engine/image/remote"
)

// clean fails if anything of images is left, after a sweep.
func (b *bench) clean(t *testing.T) {
	t.Helper()
	if _, err := b.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(b.dir, "layers"))
	if err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// content returns a file's content of an image, by the layers that hold it.
func (b *bench) content(t *testing.T, name, file string) string {
	t.Helper()
	h, err := b.Hold(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	for _, dir := range slices.Backward(h.Layers) {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err == nil {
			return string(text)
		}
	}
	t.Fatalf("%s has no %s", name, file)
	return ""
}

// told collects progress.
type told struct {
	mu  sync.Mutex
	all []engine.Progress
}

func (p *told) add(one engine.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, one)
}

func (p *told) has(status string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.all, func(one engine.Progress) bool { return strings.HasPrefix(one.Status, status) })
}

func TestPull(t *testing.T) {
	for name, f := range map[string]form{"docker": docker, "oci": oci, "zstd": ociZstd, "plain": ociPlain} {
		t.Run(name, func(t *testing.T) {
			b, r := open(t), newRegistry(t)
			d := r.add("team/app", "v1", f, small())
			var p told
			i, err := b.Pull(t.Context(), r.name("team/app:v1"), engine.PullOptions{Progress: p.add})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(i.Names, []string{r.name("team/app:v1")}) || !slices.Equal(i.Digests, []string{r.name("team/app@" + d["digest"].(string))}) {
				t.Errorf("pulled %+v", i)
			}
			if !slices.Equal(i.Config.Env, []string{"A=1"}) || len(i.Layers) != 2 || i.Size == 0 || i.Created.Year() != 2024 {
				t.Errorf("pulled %+v", i)
			}
			if got := b.content(t, i.ID, "etc/new"); got != "new" {
				t.Errorf("etc/new: %q", got)
			}
			for _, s := range []string{"Pulling from", "Pulling fs layer", "Downloading", "Pull complete", "Digest: sha256:", "Status: Downloaded newer image"} {
				if !p.has(s) {
					t.Errorf("no progress %q in %v", s, p.all)
				}
			}
			before := r.asked("GET")
			p = told{}
			again, err := b.Pull(t.Context(), r.name("team/app:v1"), engine.PullOptions{Progress: p.add})
			if err != nil || again.ID != i.ID || r.asked("GET") != before+1 {
				t.Errorf("pulled again: %v, %d requests", err, r.asked("GET")-before)
			}
			if !p.has("Already exists") || !p.has("Status: Image is up to date") {
				t.Errorf("progress %v", p.all)
			}
			if _, err := b.Ensure(t.Context(), r.name("team/app:v1"), engine.PullOptions{}); err != nil || r.asked("GET") != before+1 {
				t.Errorf("ensured: %v, %d requests", err, r.asked("GET")-before)
			}
			if j, err := b.Pull(t.Context(), i.Digests[0], engine.PullOptions{}); err != nil || j.ID != i.ID {
				t.Errorf("pulled by digest: %v", err)
			}
		})
	}
}

func TestPullIndex(t *testing.T) {
	b, r := open(t), newRegistry(t)
	var all []any
	for _, p := range []engine.Platform{
		{OS: "linux", Architecture: "arm64", Variant: "v8"}, {OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm", Variant: "v6"},
		{OS: "linux", Architecture: "arm", Variant: "v7"}, {OS: "windows", Architecture: "amd64"},
	} {
		spec := small()
		spec.Platform = p
		spec.Config.Labels = map[string]string{"platform": p.OS + "/" + p.Architecture + "/" + p.Variant}
		all = append(all, r.add("app", "x", oci, spec))
	}
	index := encode(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": all})
	d := r.addManifest("app", "latest", "application/vnd.oci.image.index.v1+json", index)
	for want, p := range map[string]engine.Platform{
		"linux/amd64/":   {},
		"linux/arm64/v8": {OS: "linux", Architecture: "arm64"},
		"linux/arm/v6":   {OS: "linux", Architecture: "arm", Variant: "v6"},
		"linux/arm/v7":   {OS: "linux", Architecture: "arm", Variant: "v8"},
	} {
		i, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{Platform: p})
		if err != nil || i.Config.Labels["platform"] != want || !slices.Equal(i.Digests, []string{r.name("app@" + d)}) {
			t.Errorf("%+v: %+v, %v", p, i, err)
		}
	}
	_, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{Platform: engine.Platform{OS: "linux", Architecture: "s390x"}})
	if !errors.Is(err, engine.ErrNotFound) || !strings.Contains(err.Error(), "no matching manifest for linux/s390x in the manifest list entries") {
		t.Errorf("no platform: %v", err)
	}
}

func TestPullAuth(t *testing.T) {
	for _, c := range []struct {
		kind string
		auth engine.Auth
		ok   bool
	}{
		{"basic", engine.Auth{Username: user, Password: password}, true},
		{"bearer", engine.Auth{Username: user, Password: password}, true},
		{"bearer", engine.Auth{IdentityToken: refresh}, true},
		{"bearer", engine.Auth{RegistryToken: bearer}, true},
		{"basic", engine.Auth{Username: user, Password: "wrong"}, false},
		{"bearer", engine.Auth{Username: user, Password: "wrong"}, false},
		{"basic", engine.Auth{}, false},
		{"bearer", engine.Auth{}, false},
		{"bearer", engine.Auth{RegistryToken: "wrong"}, false},
	} {
		b, r := open(t), newRegistry(t)
		r.auth = c.kind
		r.add("app", "latest", docker, small())
		_, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{Auth: c.auth})
		if c.ok && err != nil {
			t.Errorf("%s, %+v: %v", c.kind, c.auth, err)
		}
		if !c.ok && (!errors.Is(err, remote.ErrDenied) || !strings.Contains(err.Error(), "pull access denied for "+r.name("app")) || strings.Contains(err.Error(), "wrong")) {
			t.Errorf("%s, %+v: %v", c.kind, c.auth, err)
		}
	}
}

func TestPullRefused(t *testing.T) {
	b, r := open(t), newRegistry(t)
	r.add("app", "latest", docker, small())
	r.addManifest("app", "one", "application/vnd.docker.distribution.manifest.v1+prettyjws", []byte(`{"schemaVersion":1,"name":"app"}`))
	foreign := encode(map[string]any{
		"schemaVersion": 2, "config": map[string]any{"digest": digest(nil), "size": 0},
		"layers": []any{map[string]any{"mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "digest": digest(nil), "size": 1, "urls": []string{"http://example.com/x"}}},
	})
	r.addManifest("app", "foreign", docker.manifest, foreign)
	r.addManifest("app", "chart", oci.manifest, encode(map[string]any{
		"schemaVersion": 2, "config": map[string]any{"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": digest(nil), "size": 0},
	}))
	for name, want := range map[string]string{
		"app:none":    "manifest for " + r.name("app:none") + " not found: manifest unknown: manifest unknown",
		"none":        "repository " + r.name("none") + " not found",
		"app:one":     "schema 1",
		"app:foreign": "is foreign",
		"app:chart":   "invalid media type",
	} {
		if _, err := b.Pull(t.Context(), r.name(name), engine.PullOptions{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := b.Pull(t.Context(), "UPPER", engine.PullOptions{}); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("a name in upper case: %v", err)
	}
	b.clean(t)
}

// large is an image of one layer of random bytes.
func large(size int) enginetest.ImageSpec {
	random := make([]byte, size)
	_, _ = rand.Read(random)
	return enginetest.ImageSpec{Layers: [][]enginetest.ImageFile{{{Name: "random", Content: random}}}}
}

func TestPullResumes(t *testing.T) {
	b, r := open(t), newRegistry(t)
	r.cut, r.fail = 3, 2
	spec := large(200 << 10)
	r.add("app", "latest", docker, spec)
	if _, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := b.content(t, r.name("app"), "random"); got != string(spec.Layers[0][0].Content) {
		t.Error("other content")
	}
}

func TestPullWrongBytes(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"changed":   func(b []byte) []byte { b = bytes.Clone(b); b[len(b)-1] ^= 1; return b },
		"other":     func([]byte) []byte { return gzipped(enginetest.Layer(enginetest.ImageFile{Name: "evil"})) },
		"longer":    func(b []byte) []byte { return append(bytes.Clone(b), 0) },
		"no layer":  func(b []byte) []byte { return make([]byte, len(b)) },
		"not a tar": func([]byte) []byte { return gzipped([]byte("hello, this is no tar archive")) },
	} {
		b, r := open(t), newRegistry(t)
		r.add("app", "latest", docker, small())
		r.mu.Lock()
		for d, content := range r.blobs["app"] {
			if content[0] == 0x1f {
				r.blobs["app"][d] = change(content)
			}
		}
		r.mu.Unlock()
		i, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{})
		if err == nil {
			t.Errorf("%s: pulled %+v", name, i)
		}
		b.clean(t)
		for info := range b.blobs.List(t.Context()) {
			t.Errorf("%s: the blob %s is left", name, info.Ref)
		}
	}
}

// TestPullLies has a configuration that claims another's layer.
func TestPullLies(t *testing.T) {
	b, r := open(t), newRegistry(t)
	d := r.add("app", "latest", docker, small())
	r.mu.Lock()
	m := string(r.manifests["app"][d["digest"].(string)].body)
	r.mu.Unlock()
	other := gzipped(enginetest.Layer(enginetest.ImageFile{Name: "evil"}))
	victim := digest(enginetest.Layer(small().Layers[0]...))
	conf := encode(map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"diff_ids": []string{victim}}})
	body := encode(map[string]any{
		"schemaVersion": 2, "config": map[string]any{"digest": r.addBlob("evil", conf), "size": len(conf)},
		"layers": []any{map[string]any{"digest": r.addBlob("evil", other), "size": len(other)}},
	})
	r.addManifest("evil", "latest", docker.manifest, body)
	if _, err := b.Pull(t.Context(), r.name("evil"), engine.PullOptions{}); err == nil || !strings.Contains(err.Error(), "as the image's configuration says") {
		t.Errorf("pulled: %v; beside %d bytes of manifest", err, len(m))
	}
	b.clean(t)
}

// TestPullShared pulls two images with a common layer at once; one caller gives up.
func TestPullShared(t *testing.T) {
	b, r := open(t), newRegistry(t)
	common := large(200 << 10).Layers[0]
	specs := map[string]enginetest.ImageSpec{}
	for _, name := range []string{"one", "two"} {
		specs[name] = enginetest.ImageSpec{Layers: [][]enginetest.ImageFile{common, {{Name: name, Content: []byte(name)}}}}
		r.add(name, "latest", docker, specs[name])
	}
	layer := digest(gzipped(enginetest.Layer(common...)))
	r.gate = make(chan struct{})
	r.await = func(path string) bool { return strings.HasSuffix(path, layer) }
	first, giveUp := context.WithCancel(t.Context())
	errs := make(chan error, 3)
	pull := func(ctx context.Context, name string) {
		_, err := b.Pull(ctx, r.name(name), engine.PullOptions{})
		errs <- err
	}
	go pull(first, "one")
	wait(t, func() bool { return r.asked("GET /v2/one/blobs/"+layer) == 1 })
	var p told
	go pull(t.Context(), "one")
	go func() {
		_, err := b.Pull(t.Context(), r.name("two"), engine.PullOptions{Progress: p.add})
		errs <- err
	}()
	wait(t, func() bool {
		return p.has("Pulling fs layer") && r.asked("GET /v2/two/blobs/") >= 2 && r.asked("GET /v2/one/manifests") == 2
	})
	giveUp()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("who gave up: %v", err)
	}
	close(r.gate)
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if n := r.asked("GET /v2/one/blobs/"+layer) + r.asked("GET /v2/two/blobs/"+layer); n != 1 {
		t.Errorf("the common layer was fetched %d times", n)
	}
}

func TestPullCancelled(t *testing.T) {
	b, r := open(t), newRegistry(t)
	r.add("app", "latest", docker, large(200<<10))
	r.gate = make(chan struct{})
	r.await = func(path string) bool { return strings.Contains(path, "/blobs/") }
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() {
		_, err := b.Pull(ctx, r.name("app"), engine.PullOptions{})
		errs <- err
	}()
	wait(t, func() bool { return r.asked("GET /v2/app/blobs/") > 0 })
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	b.clean(t)
	close(r.gate)
	if _, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{}); err != nil {
		t.Errorf("pulled again: %v", err)
	}
}

// wait waits for a condition.
func wait(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
		<-time.After(time.Millisecond)
	}
}

func TestMirror(t *testing.T) {
	mirror, dead, r := newRegistry(t), newRegistry(t), newRegistry(t)
	dead.Close()
	b := reopenRoot(t, func(c *image.Config) {
		c.Registries = remote.Config{Mirrors: map[string][]string{r.host(): {dead.URL, mirror.URL}}}
	})
	spec := small()
	mirror.add("app", "latest", docker, spec)
	r.add("own", "latest", docker, spec)
	if _, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{}); err != nil || len(r.requests) > 0 {
		t.Errorf("through the mirror: %v, %v", err, r.requests)
	}
	if _, err := b.Pull(t.Context(), r.name("own"), engine.PullOptions{}); err != nil {
		t.Errorf("what the mirror has not: %v", err)
	}
}

// reopenRoot is open with a changed configuration.
func reopenRoot(t testing.TB, change func(*image.Config)) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("layers are unpacked by root alone")
	}
	return reopen(t, t.TempDir(), change)
}

func TestPullTLS(t *testing.T) {
	r := newRegistry(t)
	secure := httptest.NewTLSServer(r.Config.Handler)
	defer secure.Close()
	r.add("app", "latest", docker, small())
	host := strings.TrimPrefix(secure.URL, "https://")
	for _, right := range []bool{true, false} {
		folder := t.TempDir()
		cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
		if !right {
			cert = otherAuthority(t)
		}
		if err := os.MkdirAll(filepath.Join(folder, host), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, host, "ca.crt"), cert, 0o600); err != nil {
			t.Fatal(err)
		}
		b := reopenRoot(t, func(c *image.Config) { c.Registries.Folders = []string{folder} })
		_, err := b.Pull(t.Context(), host+"/app", engine.PullOptions{})
		if right && err != nil || !right && (err == nil || !strings.Contains(err.Error(), "x509")) {
			t.Errorf("right authority %v: %v", right, err)
		}
	}
}
