//go:build linux && amd64

package embedded

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skerry/internal/engine"
)

// loops counts the loop devices whose files are in a folder.
func loops(t *testing.T, dir string) (n int) {
	t.Helper()
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file")
	for _, f := range files {
		if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), dir) {
			n++
		}
	}
	return n
}

func TestDisk(t *testing.T) {
	t.Parallel()
	d := open(t)
	needs(t, d, "disks", func(c engine.Capabilities) bool { return c.Disks })
	spec := probeSpec(t, "fill", "100")
	spec.Mounts = append(spec.Mounts, engine.Mount{Kind: engine.MountDisk, Target: "/tmp", Size: 64 << 20})
	spec.Limits.Memory = 32 << 20
	spec.Env = append(spec.Env, "GOGC=20")
	for range 3 { // made at the need, then ahead
		var wrote int
		var full bool
		r := run(t, d, spec)
		if _, err := fmt.Sscanf(r.out, "wrote %d %t", &wrote, &full); err != nil || wrote < 64 || wrote > 65 || !full || r.OOM {
			t.Errorf("64 MiB beside 32 MiB of memory: %q %q %+v", r.out, r.errs, r.Exit)
		}
	}
	r := sh(t, d, "ls -a /tmp | wc -l; stat -c '%a %u:%g' /tmp; echo x > /tmp/x && cat /tmp/x; mount | grep -c 'on /tmp type ext4 (rw,nosuid,nodev'", func(s *engine.Spec) {
		s.Mounts = []engine.Mount{{Kind: engine.MountDisk, Target: "/tmp", Size: 64 << 20}}
		s.User = engine.User{UID: 993, GID: 990}
	})
	if r.out != "2\n1777 0:0\nx\n1\n" {
		t.Errorf("%q %q", r.out, r.errs)
	}
	if _, err := d.Create(context.Background(), func() engine.Spec {
		s := spec
		s.Mounts = []engine.Mount{{Kind: engine.MountDisk, Target: "/tmp", Size: 100}}
		return s
	}()); err == nil {
		t.Error("a disk of 100 bytes")
	}
	id := started(t, d, spec)
	if n := loops(t, d.cfg.Data); n == 0 {
		t.Error("no loop device is seen: the next check would see nothing")
	}
	_ = id
	killSupervisor(t, d)
	await(t, "no loop device is left", func() bool { return loops(t, d.cfg.Data) == 0 })
}

// What is written to a root of a size ends there, and is there again at the next
// run, also after the supervisor's death.
func TestRootSize(t *testing.T) {
	t.Parallel()
	d := open(t)
	needs(t, d, "disks", func(c engine.Capabilities) bool { return c.Disks })
	withImages(t, d, map[string][]string{"i": {busybox(t)}})
	spec := inImage("i", "cat /kept; echo kept >> /kept; dd if=/dev/zero of=/big bs=1M count=64 2>&1 | grep -c 'No space'; wc -c < /big; chown 1:2 /kept; stat -c %u:%g /kept")
	spec.Root.Size = 32 << 20
	id, err := d.Create(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		before, _ := output(t, d, id)
		startAgain(t, d, id)
		out, errs := output(t, d, id)
		var size int64
		lines := strings.Split(strings.TrimPrefix(out, before), "\n")
		if len(lines) != n+4 || lines[n] != "1" || lines[n+2] != "1:2" {
			t.Fatalf("run %d: %q %q", n, lines, errs)
		}
		if _, err := fmt.Sscan(lines[n+1], &size); err != nil || size < 31<<20 || size > 32<<20+256<<10 {
			t.Errorf("run %d: %d bytes: %v", n, size, err)
		}
		if n == 1 {
			killSupervisor(t, d)
		}
	}
	if err := d.Remove(context.Background(), id); err != nil {
		t.Error(err)
	}
	await(t, "no loop device is left", func() bool { return loops(t, d.cfg.Data) == 0 })
}
