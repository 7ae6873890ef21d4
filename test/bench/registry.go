package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"skerry/internal/api/ecr"
	"skerry/internal/wire"
)

// imageSize is how much an image of the measurement holds, in bytes.
const imageSize = 100 << 20

// measureRegistry measures the push and the pull of an image, as clients do it:
// layers side by side, each as one stream, and checked by its digest when it is
// pulled. The layers are noise, and the configuration says that it is no
// container's: what the engine makes of an image after its push is not measured.
func measureRegistry(ctx context.Context, b *bench) error {
	err := withServer(ctx, b, func(s *server) error {
		h, err := ownHub(ctx, s)
		if err != nil {
			return err
		}
		return h.measure(ctx, b, "", "no slower than docker-registry")
	})
	if err != nil || !b.peers {
		return err
	}
	if err := peerHub(ctx, b); err != nil {
		b.table.add("docker-registry", "", "not measured: %.120s", err)
	}
	return nil
}

// hub is a registry with a repository.
type hub struct {
	base, name     string // http://host:port
	user, password string
	client         *http.Client
}

// ownHub makes a repository in Skerry's.
func ownHub(ctx context.Context, s *server) (*hub, error) {
	a := s.api()
	if _, err := call[ecr.CreateRepositoryOutput](ctx, a, ecr.Schema, "CreateRepository", &ecr.CreateRepositoryInput{RepositoryName: new("bench")}); err != nil {
		return nil, err
	}
	out, err := call[ecr.GetAuthorizationTokenOutput](ctx, a, ecr.Schema, "GetAuthorizationToken", &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return nil, err
	}
	if len(out.AuthorizationData) == 0 {
		return nil, errors.New("GetAuthorizationToken answers no token")
	}
	text := wire.Value(out.AuthorizationData[0].AuthorizationToken)
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, err
	}
	user, password, _ := strings.Cut(string(plain), ":")
	return &hub{base: s.endpoint, name: "bench", user: user, password: password, client: newHubClient()}, nil
}

func newHubClient() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 8, WriteBufferSize: 256 << 10, ReadBufferSize: 256 << 10}}
}

// peerHub measures Debian's docker-registry, if it is on the PATH, with its state
// in a folder.
func peerHub(ctx context.Context, b *bench) error {
	dir, err := os.MkdirTemp("", "skerry-peer-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	address, err := freeAddress()
	if err != nil {
		return err
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		return err
	}
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf("version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: %s\n  delete:\n    enabled: true\nhttp:\n  addr: %s\n",
		filepath.Join(dir, "data"), address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "docker-registry", "serve", config)
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		_ = cmd.Wait()                          // how it ends is its own business
	}()
	if err := answers(ctx, "http://"+address+"/v2/"); err != nil {
		return err
	}
	h := &hub{base: "http://" + address, name: "bench", client: newHubClient()}
	return h.measure(ctx, b, "docker-registry: ", "")
}

// measure pushes and pulls images of one and of several layers.
func (h *hub) measure(ctx context.Context, b *bench, who, bar string) error {
	content := noise(imageSize)
	for _, layers := range []int{1, 4} {
		var push, pull times
		began := time.Now()
		for turn := 0; turn < 3 || time.Since(began) < b.span; turn++ {
			img := cut(content, layers, uint64(layers*1000+turn))
			t := time.Now()
			if err := h.push(ctx, img); err != nil {
				return err
			}
			push = append(push, time.Since(t))
			t = time.Now()
			if err := h.pull(ctx, img); err != nil {
				return err
			}
			pull = append(pull, time.Since(t))
		}
		for _, f := range []struct {
			what string
			took times
		}{{"push", push}, {"pull", pull}} {
			p50 := f.took.at(0.5)
			b.table.add(fmt.Sprintf("%s%s of an image of 100 MiB in %d layers", who, f.what, layers), bar,
				"%s p50 of %d, least %s: %.0f MB/s", ms(p50), len(f.took), ms(f.took.at(0)), imageSize/1e6/p50.Seconds())
		}
	}
	return nil
}

// layer is content with its digest.
type layer struct {
	content []byte
	digest  string
}

func newLayer(content []byte) layer {
	sum := sha256.Sum256(content)
	return layer{content, "sha256:" + hex.EncodeToString(sum[:])}
}

// cut makes the layers of an image that was never there before.
func cut(content []byte, layers int, serial uint64) []layer {
	size := len(content) / layers
	out := make([]layer, layers)
	for i := range out {
		part := content[i*size : (i+1)*size]
		binary.LittleEndian.PutUint64(part, serial)
		out[i] = newLayer(part)
	}
	return out
}

// each runs f for every layer, at once.
func each(img []layer, f func(l layer) error) error {
	errs := make(chan error, len(img))
	var all sync.WaitGroup
	for _, l := range img {
		all.Go(func() { errs <- f(l) })
	}
	all.Wait()
	for range img {
		if err := <-errs; err != nil {
			return err
		}
	}
	return nil
}

// push sends an image as the docker client does.
func (h *hub) push(ctx context.Context, img []layer) error {
	config := newLayer([]byte(`{"of":"` + img[0].digest + `"}`))
	if err := each(append(img[:len(img):len(img)], config), func(l layer) error { return h.pushLayer(ctx, l) }); err != nil {
		return err
	}
	var named []string
	for _, l := range img {
		named = append(named, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`, l.digest, len(l.content)))
	}
	manifest := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.example.noise+json","digest":%q,"size":%d},"layers":[%s]}`,
		config.digest, len(config.content), strings.Join(named, ","))
	_, err := h.do(ctx, http.MethodPut, "/v2/"+h.name+"/manifests/latest", "application/vnd.oci.image.manifest.v1+json", []byte(manifest))
	return err
}

func (h *hub) pushLayer(ctx context.Context, l layer) error {
	where, err := h.do(ctx, http.MethodPost, "/v2/"+h.name+"/blobs/uploads/", "", nil)
	if err != nil {
		return err
	}
	if where, err = h.do(ctx, http.MethodPatch, where, "application/octet-stream", l.content); err != nil {
		return err
	}
	sign := "?"
	if strings.Contains(where, "?") {
		sign = "&"
	}
	_, err = h.do(ctx, http.MethodPut, where+sign+"digest="+l.digest, "", nil)
	return err
}

// pull fetches the manifest of an image, and then all of it.
func (h *hub) pull(ctx context.Context, img []layer) error {
	if _, err := h.do(ctx, http.MethodGet, "/v2/"+h.name+"/manifests/latest", "", nil); err != nil {
		return err
	}
	return each(img, func(l layer) error {
		r, err := h.request(ctx, http.MethodGet, "/v2/"+h.name+"/blobs/"+l.digest, nil)
		if err != nil {
			return err
		}
		resp, err := h.client.Do(r)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		sum := sha256.New()
		n, err := io.CopyBuffer(sum, resp.Body, make([]byte, 256<<10))
		if err == nil && "sha256:"+hex.EncodeToString(sum.Sum(nil)) != l.digest {
			err = fmt.Errorf("pulled %d bytes that are not the layer's (%s)", n, resp.Status)
		}
		return err
	})
}

func (h *hub) request(ctx context.Context, method, target string, body []byte) (*http.Request, error) {
	if !strings.HasPrefix(target, "http") {
		target = h.base + target
	}
	r, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err == nil && h.user != "" {
		r.SetBasicAuth(h.user, h.password)
	}
	return r, err
}

// do sends a request and returns the Location of its answer.
func (h *hub) do(ctx context.Context, method, target, kind string, body []byte) (string, error) {
	r, err := h.request(ctx, method, target, body)
	if err != nil {
		return "", err
	}
	r.Header.Set("Accept", "application/vnd.oci.image.manifest.v1+json")
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	resp, err := h.client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %.200s", method, target, resp.Status, text)
	}
	return resp.Header.Get("Location"), err
}
