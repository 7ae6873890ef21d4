package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// dockerImages asks the socket for docker clients which images the engine has, by
// the digests of their manifests.
func dockerImages(ctx context.Context, socket string) (digests []string, err error) {
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	defer c.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/images/json", nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var list []struct{ RepoDigests []string }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		return nil, err
	}
	for _, i := range list {
		digests = append(digests, i.RepoDigests...)
	}
	return digests, nil
}

// TestRegistryUnpacksWhatIsPushed pushes an image, kills the server at once, and
// finds the image with the engine all the same; deleted, it goes from there too.
func TestRegistryUnpacksWhatIsPushed(t *testing.T) {
	needRoot(t)
	socket := filepath.Join(t.TempDir(), "docker.sock")
	s := start(t, "--docker-socket", socket)
	h := s.hub("app")
	img, err := random.Image(200_000, 2)
	must(t, err)
	img, err = mutate.ConfigFile(img, func() *v1.ConfigFile {
		f, err := img.ConfigFile()
		must(t, err)
		f.OS, f.Architecture = "linux", runtime.GOARCH
		return f
	}())
	must(t, err)
	digest, err := img.Digest()
	must(t, err)
	must(t, remote.Write(h.ref("app:v1"), img, h.auth()))
	s.kill()
	s.restart()
	var out struct {
		Repositories []struct{ RepositoryURI string }
	}
	must(t, json.Unmarshal([]byte(s.aws("ecr", "describe-repositories")), &out))
	name := out.Repositories[0].RepositoryURI + "@" + digest.String()
	there := func(want bool) {
		t.Helper()
		eventually(t, 30*time.Second, func() error {
			got, err := dockerImages(t.Context(), socket)
			if err == nil && slices.Contains(got, name) != want {
				err = fmt.Errorf("%s is in %q: %v", name, got, !want)
			}
			return err
		})
	}
	there(true)
	s.aws("ecr", "batch-delete-image", "--repository-name", "app", "--image-ids", "imageDigest="+digest.String())
	there(false)
	if _, err := remote.Head(h.ref("app:v1"), h.auth()); err == nil {
		t.Error(errors.New("the image is still in the registry"))
	}
}
