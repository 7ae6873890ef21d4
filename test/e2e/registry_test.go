package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// hub is the registry of a server, with a password as `docker login` gets one.
type hub struct {
	*server
	host     string // host:port
	password string
}

// hub makes repositories and signs in.
func (s *server) hub(repositories ...string) *hub {
	s.t.Helper()
	for _, r := range repositories {
		s.aws("ecr", "create-repository", "--repository-name", r)
	}
	return &hub{server: s, host: strings.TrimPrefix(s.Endpoint, "http://"), password: strings.TrimSpace(s.aws("ecr", "get-login-password"))}
}

func (h *hub) ref(image string) name.Reference {
	h.t.Helper()
	r, err := name.ParseReference(h.host+"/"+image, name.Insecure)
	if err != nil {
		h.t.Fatal(err)
	}
	return r
}

func (h *hub) auth() remote.Option {
	return remote.WithAuth(&authn.Basic{Username: "AWS", Password: h.password})
}

// twoPlatforms is an index of two images.
func twoPlatforms(t *testing.T) v1.ImageIndex {
	t.Helper()
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, arch := range []string{"amd64", "arm64"} {
		img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
		for range 3 {
			layer, err := random.Layer(100_000, types.OCILayer)
			must(t, err)
			img, err = mutate.AppendLayers(img, layer)
			must(t, err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
	}
	return index
}

func TestRegistryWithGoClient(t *testing.T) {
	s := start(t)
	h := s.hub("app", "other")
	t.Run("door", func(t *testing.T) { testDoor(t, s) })
	img, err := random.Image(1<<20, 4)
	must(t, err)
	want, err := img.Digest()
	must(t, err)
	must(t, remote.Write(h.ref("app:v1"), img, h.auth()))
	got, err := remote.Image(h.ref("app:v1"), h.auth())
	must(t, err)
	layers, err := got.Layers()
	must(t, err)
	for _, l := range layers { // the client checks their digests as it reads
		r, err := l.Compressed()
		must(t, err)
		_, err = io.Copy(io.Discard, r)
		must(t, errors.Join(err, r.Close()))
	}
	if d, err := got.Digest(); err != nil || d != want || len(layers) != 4 {
		t.Fatal(d, err)
	}
	must(t, remote.Tag(h.ref("app:v2").(name.Tag), got, h.auth()))
	tags, err := remote.List(h.ref("app").Context(), h.auth())
	must(t, err)
	if strings.Join(tags, " ") != "v1 v2" {
		t.Fatal(tags)
	}
	// Layers are mounted from one repository in another.
	must(t, remote.Write(h.ref("other:v1"), got, h.auth()))

	index := twoPlatforms(t)
	must(t, remote.WriteIndex(h.ref("app:multi"), index, h.auth()))
	arm, err := remote.Image(h.ref("app:multi"), h.auth(), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "arm64"}))
	must(t, err)
	children, err := index.IndexManifest()
	must(t, err)
	if d, err := arm.Digest(); err != nil || d != children.Manifests[1].Digest {
		t.Fatal(d, err)
	}

	// What is about an image is found by it.
	about, err := remote.Head(h.ref("app:v1"), h.auth())
	must(t, err)
	sbom, ok := mutate.Subject(mutate.ConfigMediaType(img, "application/x.sbom"), *about).(v1.Image)
	if !ok {
		t.Fatal("no image")
	}
	sbomDigest, err := sbom.Digest()
	must(t, err)
	must(t, remote.Write(h.ref("app@"+sbomDigest.String()), sbom, h.auth()))
	found, err := remote.Referrers(h.ref("app@"+want.String()).(name.Digest), h.auth())
	must(t, err)
	list, err := found.IndexManifest()
	must(t, err)
	if len(list.Manifests) != 1 || list.Manifests[0].Digest != sbomDigest || list.Manifests[0].ArtifactType != "application/x.sbom" {
		t.Fatalf("%+v", list)
	}

	must(t, remote.Delete(h.ref("app@"+want.String()), h.auth()))
	_, err = remote.Head(h.ref("app:v2"), h.auth())
	if e, ok := errors.AsType[*transport.Error](err); !ok || e.StatusCode != http.StatusNotFound {
		t.Fatal(err)
	}
	if _, err := remote.Head(h.ref("app:multi")); err == nil {
		t.Fatal("nobody in particular may pull")
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// skopeo runs a command that must succeed.
func (h *hub) skopeo(t testing.TB, args ...string) string {
	t.Helper()
	need(t, "skopeo")
	out, e, err := h.run("", "skopeo", args...)
	if err != nil {
		t.Fatalf("skopeo %s: %v\n%s", args[0], err, strings.ReplaceAll(e, h.password, "(password)"))
	}
	return out
}

// zstdLayer is a layer with one file, compressed by zstd.
func zstdLayer(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	must(t, err)
	w := tar.NewWriter(z)
	content := bytes.Repeat([]byte("content"), 10_000)
	must(t, w.WriteHeader(&tar.Header{Name: "file", Mode: 0o644, Size: int64(len(content))}))
	_, err = w.Write(content)
	must(t, errors.Join(err, w.Close(), z.Close()))
	return b.Bytes()
}

func TestRegistryWithSkopeo(t *testing.T) {
	s := start(t)
	h := s.hub("team/app")
	dir := t.TempDir()
	src := filepath.Join(dir, "src")
	path, err := layout.Write(src, empty.Index)
	must(t, err)
	index := twoPlatforms(t)
	must(t, path.AppendIndex(index, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "v1"})))
	packed := zstdLayer(t)
	packedSum := sha256.Sum256(packed)
	img, err := mutate.AppendLayers(mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON),
		static.NewLayer(packed, types.OCILayerZStd))
	must(t, err)
	must(t, path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "zstd"})))
	// As skopeo itself writes it, so that it has no reason to change anything.
	from := filepath.Join(dir, "from")
	h.skopeo(t, "copy", "--all", "oci:"+src+":v1", "dir:"+from)
	manifest, err := os.ReadFile(filepath.Join(from, "manifest.json"))
	must(t, err)

	// The registry's own authority, as one would install it.
	_, pem := s.get("/_skerry/ca.pem")
	certs := filepath.Join(dir, "certs")
	must(t, os.Mkdir(certs, 0o700))
	must(t, os.WriteFile(filepath.Join(certs, "ca.crt"), []byte(pem), 0o600))
	_, port, _ := strings.Cut(h.host, ":")
	for _, way := range []struct {
		name, host string
		flags      func(side string) []string
	}{
		{"clear text", h.host, func(side string) []string { return []string{"--" + side + "tls-verify=false"} }},
		{"TLS", "localhost:" + port, func(side string) []string { return []string{"--" + side + "cert-dir", certs} }},
	} {
		t.Run(way.name, func(t *testing.T) {
			image := "docker://" + way.host + "/team/app"
			creds := "AWS:" + h.password
			tag := strings.ReplaceAll(way.name, " ", "-")
			args := func(side, login string, rest ...string) []string {
				return append(append(way.flags(side), "--"+side+login, creds), rest...)
			}
			copyTo := append([]string{"copy", "--all", "--preserve-digests"}, args("dest-", "creds", "dir:"+from, image+":"+tag)...)
			h.skopeo(t, copyTo...)
			back := filepath.Join(t.TempDir(), "back")
			h.skopeo(t, append([]string{"copy", "--all", "--preserve-digests"}, args("src-", "creds", image+":"+tag, "dir:"+back)...)...)
			got, err := os.ReadFile(filepath.Join(back, "manifest.json"))
			must(t, err)
			if !bytes.Equal(got, manifest) {
				t.Fatalf("sent %s\ngot back %s", manifest, got)
			}
			var shown struct {
				Digest   string
				RepoTags []string
			}
			must(t, json.Unmarshal([]byte(h.skopeo(t, append([]string{"inspect", "--override-arch", "arm64", "--override-os", "linux"}, args("", "creds", image+":"+tag)...)...)), &shown))
			if sum := sha256.Sum256(manifest); shown.Digest != "sha256:"+hex.EncodeToString(sum[:]) {
				t.Fatalf("%+v", shown)
			}
			if list := h.skopeo(t, append([]string{"list-tags"}, args("", "creds", image)...)...); !strings.Contains(list, `"`+tag+`"`) {
				t.Fatal(list)
			}
			// Layers of another kind are kept as they are.
			h.skopeo(t, append([]string{"copy", "--preserve-digests"}, args("dest-", "creds", "oci:"+src+":zstd", image+":zstd")...)...)
			kept := filepath.Join(t.TempDir(), "zstd")
			h.skopeo(t, append([]string{"copy"}, args("src-", "creds", image+":zstd", "dir:"+kept)...)...)
			if got, err := os.ReadFile(filepath.Join(kept, hex.EncodeToString(packedSum[:]))); err != nil || !bytes.Equal(got, packed) {
				t.Fatal(err, "or other bytes")
			}
			h.skopeo(t, append([]string{"delete"}, args("", "creds", image+":zstd")...)...)
		})
	}
}

// do sends a request to the registry.
func (h *hub) do(method, target string, body io.Reader, headers ...string) *http.Response {
	h.t.Helper()
	r, err := http.NewRequestWithContext(h.t.Context(), method, h.Endpoint+target, body)
	must(h.t, err)
	r.SetBasicAuth("AWS", h.password)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	must(h.t, err)
	h.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func is(t testing.TB, r *http.Response, status int) *http.Response {
	t.Helper()
	if r.StatusCode != status {
		b, _ := io.ReadAll(r.Body) // for the report alone
		t.Fatalf("got %s, want %d: %s", r.Status, status, b)
	}
	return r
}

// TestRegistryPushGoesOnAfterKill kills the server between and in the middle of
// the chunks of a push: what was acknowledged is there, and the push goes on.
func TestRegistryPushGoesOnAfterKill(t *testing.T) {
	s := start(t)
	h := s.hub("app")
	content := make([]byte, 24<<20)
	for i := range content {
		content[i] = byte(i * 7 >> 5)
	}
	const chunk = 4 << 20
	at := 0
	where := is(t, h.do("POST", "/v2/app/blobs/uploads/", nil), 202).Header.Get("Location")
	for round := 0; at < len(content); round++ {
		end := min(at+chunk, len(content))
		if round%3 == 1 { // in the middle of one
			in, out := io.Pipe()
			done := make(chan error, 1)
			go func() {
				r, err := http.NewRequestWithContext(t.Context(), "PATCH", s.Endpoint+where, in)
				if err == nil {
					r.SetBasicAuth("AWS", h.password)
					_, err = http.DefaultClient.Do(r)
				}
				done <- err
			}()
			_, err := out.Write(content[at : at+chunk/2])
			must(t, err)
			s.kill()
			out.Close()
			if err := <-done; err == nil {
				t.Fatal("a chunk that did not end was answered")
			}
			s.restart()
			// The client asks how far it came.
			r := is(t, h.do("GET", where, nil), 204)
			last, err := strconv.Atoi(strings.TrimPrefix(r.Header.Get("Range"), "0-"))
			must(t, err)
			if last+1 < at {
				t.Fatalf("%d bytes were acknowledged, %d are there", at, last+1)
			}
			at = last + 1
			continue
		}
		r := is(t, h.do("PATCH", where, bytes.NewReader(content[at:end]), "Content-Range", fmt.Sprintf("%d-%d", at, end-1)), 202)
		where, at = r.Header.Get("Location"), end
		if round%3 == 2 {
			s.kill()
			s.restart()
		}
	}
	sum := sha256.Sum256(content)
	digest := "sha256:" + hex.EncodeToString(sum[:])
	is(t, h.do("PUT", where+"?digest="+digest, nil), 201)
	s.kill()
	s.restart()
	got, err := io.ReadAll(is(t, h.do("GET", "/v2/app/blobs/"+digest, nil), 200).Body)
	must(t, err)
	if !bytes.Equal(got, content) {
		t.Fatal("other bytes")
	}
}

// TestRegistryLargeLayer pushes a layer of 1 GiB and pulls it: the server's memory
// stays as it was, but for buffers.
func TestRegistryLargeLayer(t *testing.T) {
	const size, most = 1 << 30, 64 << 10 // KiB
	s := start(t)
	h := s.hub("app")
	peak := func() int {
		t.Helper()
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
		must(t, err)
		_, after, _ := strings.Cut(string(status), "VmHWM:")
		n, err := strconv.Atoi(strings.Fields(after)[0])
		must(t, err)
		return n
	}
	before := peak()
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // 1 MiB
	sum := sha256.New()
	body := func(w io.Writer) {
		for range size / len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	body(sum)
	digest := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	in, out := io.Pipe()
	go func() { body(out); out.Close() }()
	where := is(t, h.do("POST", "/v2/app/blobs/uploads/", nil), 202).Header.Get("Location")
	where = is(t, h.do("PATCH", where, in), 202).Header.Get("Location")
	is(t, h.do("PUT", where+"?digest="+digest, nil), 201)
	if n, err := io.Copy(io.Discard, is(t, h.do("GET", "/v2/app/blobs/"+digest, nil), 200).Body); err != nil || n != size {
		t.Fatal(n, err)
	}
	if grown := peak() - before; grown > most {
		t.Fatalf("the server took %d KiB more", grown)
	}
}

// testDoor looks which requests for /v2/ are the registry's.
func testDoor(t *testing.T, s *server) {
	for _, c := range []struct{ host, path, kind string }{
		{"", "/v2/", "application/json; charset=utf-8"},
		{"localhost:4566", "/v2/", "application/json; charset=utf-8"},
		{"000000000000.dkr.ecr.us-east-1.localhost", "/v2/", "application/json; charset=utf-8"},
		{"000000000000.dkr.ecr.us-east-1.amazonaws.com", "/v2/app/tags/list", "application/json; charset=utf-8"},
		{"registry.example.com", "/v2/", "application/json; charset=utf-8"},
		{"pictures.s3.localhost", "/v2/key", "application/xml"},
		{"pictures.localhost", "/v2/key", "application/xml"},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.Endpoint+c.path, nil)
		must(t, err)
		r.Host = c.host
		resp, err := http.DefaultClient.Do(r)
		must(t, err)
		resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); got != c.kind {
			t.Errorf("%s%s: %s, %q", c.host, c.path, resp.Status, got)
		}
	}
}
