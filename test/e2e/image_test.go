package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/network"
	"skerry/internal/engine/enginetest"
)

func TestDemoImage(t *testing.T) {
	needRoot(t)
	s := start(t, "--docker-socket", filepath.Join(t.TempDir(), "docker.sock"))
	out, err := exec.CommandContext(t.Context(), binary, "demo", "image", "--data", s.Data).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Hello from ") || !strings.Contains(string(out), "user 1000") || !strings.Contains(string(out), "removed") {
		t.Fatalf("%v\n%s", err, out)
	}
	if left := s.aws("ecr", "describe-repositories", "--query", "repositories[].repositoryName", "--output", "text"); strings.TrimSpace(left) != "" {
		t.Errorf("left behind: %s", left)
	}
}

// TestImageExample runs examples/image with the stock docker client.
func TestImageExample(t *testing.T) {
	needRoot(t)
	need(t, "docker")
	socket := filepath.Join(t.TempDir(), "docker.sock")
	s := start(t, "--docker-socket", socket)
	script := func(name string) string {
		cmd := exec.CommandContext(t.Context(), "../../examples/image/"+name, "e2e")
		cmd.Env = s.env("DOCKER_HOST=unix://"+socket, "HOME="+t.TempDir(), "GOPATH="+goEnv(t, "GOPATH"), "GOCACHE="+goEnv(t, "GOCACHE"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
	if out := script("run.sh"); !strings.Contains(out, "Login Succeeded") || !strings.Contains(out, "Hello from ") || !strings.Contains(out, "GET /") {
		t.Errorf("run.sh says\n%s", out)
	}
	script("clean.sh")
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// docker runs the stock client.
func (s *server) docker(socket string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = s.env("DOCKER_HOST=unix://"+socket, "DOCKER_CONFIG="+s.Data)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// trace is what containers may leave on a machine, as far as it is this server's:
// others run on the machine too, the ends of earlier tests' among them.
type trace struct{ mounts, cgroups, links, containers int }

func (s *server) trace() (n trace) {
	s.t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		s.t.Fatal(err)
	}
	n.mounts = strings.Count(string(b), s.Data)
	name := s.engine()
	for _, pattern := range []string{"/sys/fs/cgroup/*/" + name + "/*", "/sys/fs/cgroup/" + name + "/*"} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, d := range dirs {
			tasks, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
			if err == nil && len(bytes.TrimSpace(tasks)) > 0 {
				n.cgroups++ // empty ones are kept to be used again
			}
		}
	}
	links, err := net.Interfaces()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Name, network.LinkName(name)) {
			n.links++
		}
	}
	_, status := s.get("/_skerry/status")
	var st struct {
		Engine struct {
			Containers int `json:"containers"`
		} `json:"engine"`
	}
	if err := json.Unmarshal([]byte(status), &st); err != nil {
		s.t.Fatal(err)
	}
	n.containers = st.Engine.Containers
	return n
}

// engine is the name that the server's supervisor gives to what is its own.
func (s *server) engine() string {
	s.t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err != nil || !bytes.HasPrefix(b, []byte("skerry\x00engine-supervisor\x00")) || !bytes.Contains(b, []byte(`"`+s.Data)) {
			continue
		}
		if _, rest, ok := strings.Cut(string(b), `"Name":"`); ok {
			name, _, _ := strings.Cut(rest, `"`)
			return name
		}
	}
	s.t.Fatal("no supervisor runs")
	return ""
}

// TestImagesOutliveKills kills the server in the middle of a load, a push, a pull
// and a run. Afterwards the same command succeeds, and nothing is left over.
func TestImagesOutliveKills(t *testing.T) {
	needRoot(t)
	need(t, "docker")
	socket := filepath.Join(t.TempDir(), "docker.sock")
	s := start(t, "--docker-socket", socket)
	must := func(args ...string) string {
		t.Helper()
		out, err := s.docker(socket, args...)
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(s.Endpoint, "http://") + "/app:1"
	s.aws("ecr", "create-repository", "--repository-name", "app")
	archive := func() string {
		noise := make([]byte, 24<<20) // which no compression makes small
		if _, err := rand.Read(noise); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "image.tar")
		b := enginetest.Archive(enginetest.ImageSpec{
			Names: []string{name}, Config: engine.ImageConfig{Entrypoint: []string{"/bin/busybox"}},
			Layers: [][]enginetest.ImageFile{
				{{Name: "bin/busybox", Mode: 0o755, Content: busybox}, {Name: "etc/", Mode: 0o755}},
				{{Name: "noise", Content: noise}},
			},
		})
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	login := func() {
		t.Helper()
		password := strings.TrimSpace(s.aws("ecr", "get-login-password"))
		must("login", "--username", "AWS", "--password", password, strings.TrimPrefix(s.Endpoint, "http://"))
	}
	// killed runs a command, kills the server at any moment of it, and runs the
	// command again.
	killed := func(args ...string) {
		t.Helper()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = s.docker(socket, args...) // it may fail, or be faster
		}()
		n, err := rand.Int(rand.Reader, big.NewInt(400))
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-time.After(time.Duration(n.Int64()) * time.Millisecond): // the moment is what is random here
		case <-ended:
		}
		s.kill()
		<-ended
		s.restart()
		must(args...)
	}
	must("load", "--input", archive())
	login()
	must("run", "--rm", name, "true")
	for range 3 {
		killed("load", "--input", archive())
		killed("push", name)
		must("rmi", "--force", name)
		killed("pull", name)
		killed("run", "--rm", name, "sh", "-c", "echo ran")
		if out := must("run", "--rm", name, "sha256sum", "/noise"); !strings.Contains(out, "/noise") {
			t.Errorf("the image's file: %s", out)
		}
	}
	eventually(t, patience, func() error {
		for _, id := range strings.Fields(must("ps", "--all", "--quiet")) {
			must("rm", "--force", id) // made by a run that was cut off before it could remove it
		}
		kept := trace{links: 1} // the way out of the containers that are on no network by name
		if n := s.trace(); n != kept && n != (trace{}) {
			return fmt.Errorf("left over: %+v", n)
		}
		return nil
	})
}
