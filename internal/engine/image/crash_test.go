package image_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/engine/image"
)

const sticky = fs.ModeSticky

// implied loads an image whose upper layer has no entry for its folders, and
// returns its id.
func implied(t *testing.T, b *bench, r *registry, lower []enginetest.ImageFile) string {
	t.Helper()
	var upper bytes.Buffer
	w := tar.NewWriter(&upper)
	for _, name := range []string{"tmp/x", "new/x"} {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	all := [][]byte{enginetest.Layer(lower...), upper.Bytes()}
	var layers, diffs []any
	for _, l := range all {
		diffs = append(diffs, digest(l))
		layers = append(layers, map[string]any{"digest": r.addBlob("app", l), "size": len(l)})
	}
	conf := encode(map[string]any{"os": "linux", "rootfs": map[string]any{"diff_ids": diffs}})
	r.addManifest("app", "latest", oci.manifest, encode(map[string]any{
		"schemaVersion": 2, "layers": layers, "config": map[string]any{"digest": r.addBlob("app", conf), "size": len(conf)},
	}))
	i, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return i.ID
}

func owner(t *testing.T, path string) (mode, uid uint32) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Mode & 0o7777, st.Uid
}

// TestDiskFull pulls onto a disk without room for it, and again with room.
func TestDiskFull(t *testing.T) {
	b, r := open(t), newRegistry(t)
	dir := filepath.Join(b.dir, "layers")
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=70m"); err != nil {
		t.Skipf("no mounts here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	var spec enginetest.ImageSpec
	spec.Layers = [][]enginetest.ImageFile{nil}
	for _, name := range []string{"a", "b", "c", "d"} { // the last has no room
		spec.Layers[0] = append(spec.Layers[0], enginetest.ImageFile{Name: name, Content: bytes.Repeat([]byte(name), 3<<20)})
	}
	r.add("app", "latest", docker, spec)
	_, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("without room: %v", err)
	}
	if b.folders(t) > 0 {
		t.Error("something is left")
	}
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=300m"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{}); err != nil {
		t.Errorf("with room: %v", err)
	}
}

const killedDir, killedName = "SKERRY_TEST_KILLED_DIR", "SKERRY_TEST_KILLED_NAME"

// TestKilledChild is the process that TestKilled kills.
func TestKilledChild(t *testing.T) {
	dir := os.Getenv(killedDir)
	if dir == "" {
		t.Skip("a part of TestKilled")
	}
	b := reopen(t, dir, func(c *image.Config) { c.Relaxed = false })
	_, err := b.Pull(t.Context(), os.Getenv(killedName), engine.PullOptions{})
	t.Log(err)
}

// TestKilled kills a process in the middle of downloads and unpacking: the next one
// succeeds, and leaves nothing of the former.
func TestKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("layers are unpacked by root alone")
	}
	r, dir := newRegistry(t), t.TempDir()
	spec := large(200 << 10)
	spec.Layers = append(spec.Layers, large(200<<10).Layers...)
	r.add("app", "latest", docker, spec)
	last := digest(gzipped(enginetest.Layer(spec.Layers[1]...)))
	r.gate = make(chan struct{})
	kill := func(ready func() bool) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledChild$")
		cmd.Env = append(os.Environ(), killedDir+"="+dir, killedName+"="+r.name("app"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait(t, ready)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	layers := func() int {
		all, _ := os.ReadDir(filepath.Join(dir, "layers"))
		return len(all)
	}
	// In the middle of downloads; with the first layer kept or not, and the last being
	// unpacked; the same again.
	r.stall = func(path string) bool { return path == "/v2/app/blobs/"+last }
	kill(func() bool { return r.asked("GET /v2/app/blobs/"+last) > 0 })
	kill(func() bool { return layers() >= 2 })
	before := layers()
	kill(func() bool { return layers() > before })
	r.mu.Lock()
	r.stall = nil
	r.mu.Unlock()
	b := reopen(t, dir, nil)
	if _, err := b.Pull(t.Context(), r.name("app"), engine.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	b.sweep(t)
	if n := layers(); n != 2 {
		t.Errorf("%d folders of 2 layers", n)
	}
	if got := b.content(t, r.name("app"), "random"); got != string(spec.Layers[1][0].Content) {
		t.Error("other content")
	}
	if _, err := b.Remove(t.Context(), r.name("app"), false); err != nil {
		t.Error(err)
	}
	b.clean(t)
}
