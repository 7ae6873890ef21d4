package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// open returns the driver of the daemon that DOCKER_HOST names, or of the usual
// socket, and skips the test where none answers.
func open(t *testing.T) *Driver {
	t.Helper()
	socket := DefaultSocket
	if host := os.Getenv("DOCKER_HOST"); host != "" {
		var ok bool
		if socket, ok = strings.CutPrefix(host, "unix://"); !ok {
			t.Skipf("DOCKER_HOST=%s is no socket", host)
		}
	}
	d := Open(socket)
	t.Cleanup(func() { _ = d.Close() })
	info, err := d.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !info.Runs {
		t.Skipf("no Docker daemon answers at %s: %s", socket, info.Missing[0].Why)
	}
	return d
}

func TestContract(t *testing.T) { enginetest.Run(t, open(t)) }

func TestStartError(t *testing.T) {
	c := &container{}
	c.Config.WorkingDir = "/nowhere"
	for _, m := range []struct{ text, step, path string }{
		{`failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/no/such/program": stat /no/such/program: no such file or directory: unknown`, "execve", "/no/such/program"},
		{`OCI runtime create failed: runc create failed: unable to start container process: exec: "nginx": executable file not found in $PATH: unknown`, "execve", "nginx"},
		{`OCI runtime create failed: container_linux.go:380: starting container process caused: exec: "/etc": permission denied: unknown`, "execve", "/etc"},
		{`OCI runtime create failed: runc create failed: unable to start container process: chdir to cwd ("/nowhere") set in config.json failed: no such file or directory: unknown`, "chdir", "/nowhere"},
	} {
		fault, ok := errors.AsType[*engine.StartError](startError(&fault{400, m.text}, c))
		if !ok || fault.Step != m.step || fault.Path != m.path {
			t.Errorf("%s: %+v", m.text, fault)
		}
	}
	if err := startError(&fault{500, "driver failed programming external connectivity: Bind for 0.0.0.0:80 failed: port is already allocated"}, c); !errors.Is(err, engine.ErrPort) {
		t.Errorf("port: %v", err)
	}
	if err := startError(&fault{500, "no space left on device"}, c); err.Error() != "docker: no space left on device" {
		t.Errorf("other: %v", err)
	}
}

func TestSplit(t *testing.T) {
	for name, want := range map[string][2]string{
		"busybox": {"busybox", "latest"}, "a/b:c": {"a/b", "c"}, "localhost:4566/app": {"localhost:4566/app", "latest"},
		"localhost:4566/app:v1": {"localhost:4566/app", "v1"}, "app@sha256:00": {"app", "sha256:00"},
	} {
		if r, tag := split(name); r != want[0] || tag != want[1] {
			t.Errorf("%s: %s %s", name, r, tag)
		}
	}
}

// TestFiles copies a file in and out again.
func TestFiles(t *testing.T) {
	d, ctx := open(t), t.Context()
	spec := enginetest.Spec("sleep 1000")
	spec.Root.Writable = true
	id, err := d.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Remove(context.WithoutCancel(ctx), id) }()
	in, err := archive([]file{{name: "greeting", mode: 0o644, content: []byte("good morning")}})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.WriteFiles(ctx, id, "/home", bytes.NewReader(in)); err != nil {
		t.Fatal(err)
	}
	out, err := d.ReadFiles(ctx, id, "/home/greeting")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	r := tar.NewReader(out)
	h, err := r.Next()
	if err != nil || h.Name != "greeting" {
		t.Fatalf("%+v, %v", h, err)
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "good morning" {
		t.Errorf("%q, %v", b, err)
	}
}

// TestAbsent says what is wrong where no daemon is.
func TestAbsent(t *testing.T) {
	d := Open(t.TempDir() + "/docker.sock")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	info, err := d.Info(ctx)
	if err != nil || info.Runs || len(info.Missing) != 1 || !strings.Contains(info.Missing[0].Mend, "--engine docker=") {
		t.Errorf("%+v, %v", info, err)
	}
	if _, err := d.Create(ctx, enginetest.Spec("true")); err == nil {
		t.Error("a container without a daemon")
	}
}

// TestLimits: what Docker is told of limits, and what it cannot be told.
func TestLimits(t *testing.T) {
	for _, c := range []struct {
		in                 engine.Limits
		memory, swap, pids int64
	}{
		{engine.Limits{}, 0, 0, engine.DefaultPids},
		{engine.Limits{Memory: 64 << 20, Pids: -1}, 64 << 20, 64 << 20, -1},
		{engine.Limits{Memory: 64 << 20, Swap: 32 << 20, Pids: 7}, 64 << 20, 96 << 20, 7},
		{engine.Limits{Memory: 64 << 20, Swap: -1}, 64 << 20, -1, engine.DefaultPids},
	} {
		if got := limitsOf(c.in); got.Memory != c.memory || got.MemorySwap != c.swap || got.PidsLimit != c.pids {
			t.Errorf("%+v: %+v", c.in, got)
		}
	}
	spec := enginetest.Spec("true")
	spec.Group.Name = "task"
	if _, err := translate(&spec); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("a group: %v", err)
	}
}

func TestNoFile(t *testing.T) {
	missing := &fault{404, "Could not find the file /tmp/none in container abc"}
	if !errors.Is(missing, fs.ErrNotExist) || errors.Is(&fault{404, "No such container: abc"}, fs.ErrNotExist) {
		t.Error("a missing file and a missing container are not told apart")
	}
}
