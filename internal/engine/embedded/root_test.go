//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// tree is a layer: path to content. "dir/" is a folder, "-> x" a link, "-" a
// whiteout.
type tree map[string]string

// layer makes a folder of a layer.
func layer(t testing.TB, files tree) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "skerry-layer-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for p, text := range files {
		at := filepath.Join(dir, p)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		target, link := strings.CutPrefix(text, "-> ")
		switch {
		case strings.HasSuffix(p, "/"):
			err = os.MkdirAll(at, 0o755)
		case link:
			err = os.Symlink(target, at)
		case text == "-":
			err = unix.Mknod(at, unix.S_IFCHR, 0)
		default:
			err = os.WriteFile(at, []byte(text), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// busybox is a layer with a shell.
func busybox(t testing.TB) string {
	t.Helper()
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skipf("needs busybox-static: %v", err)
	}
	files := tree{"bin/busybox": string(program), "tmp/": ""}
	for _, name := range strings.Fields("sh cat ls id stat echo touch mkdir rm mount sleep test true grep ln dd sync head hostname chown chmod readlink df kill env wc cut") {
		files["bin/"+name] = "-> busybox"
	}
	return layer(t, files)
}

// withImages gives an engine images of these layers, the lowest first.
func withImages(t testing.TB, d *Driver, images map[string][]string) {
	t.Helper()
	d.hold = func(_ context.Context, name string) (held, error) {
		layers, ok := images[name]
		if !ok {
			return held{}, fmt.Errorf("image %s: %w", name, engine.ErrNotFound)
		}
		return held{id: "sha256:" + name, layers: layers, release: func() {}}, nil
	}
}

// inImage is a specification of a script in an image.
func inImage(name, script string) engine.Spec {
	s := enginetest.Spec(script)
	s.Root = engine.Root{Image: name, Writable: true}
	s.Env = []string{"PATH=/bin"}
	return s
}

func TestImage(t *testing.T) {
	t.Parallel()
	d := open(t)
	base := busybox(t)
	lower := layer(t, tree{"etc/a": "lower a", "etc/b": "lower b", "opaque/x": "x", "gone": "gone"})
	upper := layer(t, tree{"etc/b": "upper b", "opaque/y": "y", "gone": "-"})
	if err := unix.Setxattr(filepath.Join(upper, "opaque"), "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	withImages(t, d, map[string][]string{"i": {base, lower, upper}, "one": {base}})
	r := run(t, d, inImage("i", "cat /etc/a /etc/b; echo; echo /opaque/*; ls /gone; echo new > /etc/b; cat /etc/b; id -u; stat -c %u:%g /bin/busybox /etc/b /"))
	if want := "lower aupper b\n/opaque/y\nnew\n0\n0:0\n0:0\n0:0\n"; r.out != want {
		t.Errorf("%q, want %q; %s", r.out, want, r.errs)
	}
	if b, _ := os.ReadFile(filepath.Join(upper, "etc/b")); string(b) != "upper b" {
		t.Errorf("the image has changed: %q", b)
	}
	for _, writable := range []bool{true, false} {
		spec := inImage("one", "echo x > /etc/new; mount | grep ' / '; ls -d /dev/pts /dev/shm /dev/null /proc/self /sys/kernel; touch /dev/x; touch /tmp/x && echo wrote")
		spec.Root.Writable = writable
		r := run(t, d, spec)
		if wrote := strings.Contains(r.out, "wrote"); wrote != writable || strings.Contains(r.errs, "etc/new") == writable ||
			!strings.Contains(r.out, "/dev/pts") || !strings.Contains(r.out, "nosuid,nodev") || !strings.Contains(r.errs, "/dev/x: Read-only") {
			t.Errorf("writable %v: %q %q", writable, r.out, r.errs)
		}
	}
	if _, err := d.Create(context.Background(), inImage("no", "")); err == nil {
		t.Error("an image that is not there")
	}
}

// What the engine puts into /etc, as Docker does.
func TestImageEtc(t *testing.T) {
	t.Parallel()
	d := open(t)
	withImages(t, d, map[string][]string{"i": {busybox(t)}})
	spec := inImage("i", "hostname; cat /etc/hostname /etc/hosts /etc/resolv.conf; echo more >> /etc/hosts && grep -c more /etc/hosts; ls /etc")
	spec.Hostname = "web"
	spec.Network = engine.Network{Mode: engine.NetworkNAT, Hosts: []engine.Host{{Name: "db", Address: netip.MustParseAddr("10.1.2.3")}},
		DNS: engine.DNS{Servers: []netip.Addr{netip.MustParseAddr("10.0.0.2")}, Search: []string{"a.test", "b.test"}, Options: []string{"ndots:2"}}}
	r := run(t, d, spec)
	for _, want := range []string{"web\nweb\n127.0.0.1\tlocalhost\n", "\n10.1.2.3\tdb\n10.254.", "\tweb\nnameserver 10.0.0.2\nsearch a.test b.test\noptions ndots:2\n1\n", "mtab"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in %q %q", want, r.out, r.errs)
		}
	}
	spec = inImage("i", "cat /etc/resolv.conf; echo x > /etc/hosts")
	spec.Root.Writable = false
	if r := run(t, d, spec); r.out != "nameserver 169.254.169.253\noptions timeout:2 attempts:2\n" || !strings.Contains(r.errs, "Read-only") {
		t.Errorf("%q %q", r.out, r.errs)
	}
	spec.Network.Hosts = []engine.Host{{Name: "a\n1.2.3.4 bank.test", Address: netip.MustParseAddr("10.1.2.3")}}
	if _, err := d.Create(context.Background(), spec); err == nil {
		t.Error("a line break in a host's name")
	}
}

// Links of an image do not lead out of it, wherever something is mounted, made or
// entered.
func TestImageLinks(t *testing.T) {
	t.Parallel()
	d := open(t)
	base := busybox(t)
	outside := t.TempDir()
	volume := t.TempDir()
	if err := os.WriteFile(volume+"/file", []byte("volume"), 0o644); err != nil {
		t.Fatal(err)
	}
	withImages(t, d, map[string][]string{
		"links": {base, layer(t, tree{"abs": "-> " + outside, "rel": "-> ../../../../../../.." + outside, "up": "-> /../..", "loop": "-> loop", "var/run": "-> /run",
			"a": "-> b/../c", "file": "f", "fd": "-> /proc/self/fd"})},
		"proc": {base, layer(t, tree{"proc": "-> /tmp"})}, "dev": {base, layer(t, tree{"dev": "-> /tmp"})}, "sys": {base, layer(t, tree{"sys": "file"})},
		"etc": {base, layer(t, tree{"etc": "-> " + outside})},
	})
	bind := func(target string) engine.Mount {
		return engine.Mount{Kind: engine.MountBind, Source: volume, Target: target, ReadOnly: true}
	}
	for _, writable := range []bool{true, false} {
		spec := inImage("links", "cat /abs/x/file /rel/y/file /up/z/file /var/run/w/file /q/file; ls -d "+outside+"/x "+outside+"/y /z /run/w; echo $PWD")
		spec.Root.Writable = writable
		spec.Dir = "/abs/work"
		spec.Mounts = []engine.Mount{bind("/abs/x"), bind("/rel/y"), bind("/up/z"), bind("/var/run/w"),
			{Kind: engine.MountBind, Source: volume + "/file", Target: "/q/file"}}
		r := run(t, d, spec)
		if want := strings.Repeat("volume", 5) + fmt.Sprintf("/run/w\n%s/x\n%s/y\n/z\n%s/work\n", outside, outside, outside); sorted(r.out) != sorted(want) {
			t.Errorf("writable %v: %q, want %q; %s", writable, r.out, want, r.errs)
		}
	}
	for _, c := range []struct{ image, target, dir, want string }{
		{"links", "/loop/x", "", "too many levels"}, {"links", "/file/x", "", "not a directory"}, {"links", "/file", "", "not a directory"},
		{"links", "/up", "", "is the root"}, {"links", "/x", "/file", "Cannot mkdir: /file is not a directory"},
		{"links", "/proc/self", "", "cannot be mounted because it is inside /proc"}, {"links", "/fd/7", "", "inside /proc"},
		{"proc", "/x", "", "must be mounted on ordinary directory"}, {"dev", "/x", "", "must be mounted on ordinary directory"},
		{"sys", "/x", "", "must be mounted on ordinary directory"},
	} {
		spec := inImage(c.image, "true")
		spec.Mounts, spec.Dir = []engine.Mount{bind(c.target)}, c.dir
		id, err := d.Create(context.Background(), spec)
		if err == nil {
			err = d.Start(context.Background(), id)
			_ = d.Remove(context.Background(), id)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s %s: %v, want %q", c.image, c.target, c.dir, err, c.want)
		}
	}
	// a working directory that is a link to what the engine has open
	for fd := 3; fd < 40; fd++ {
		spec := inImage("links", "ls -a")
		spec.Dir = fmt.Sprintf("/fd/%d", fd)
		if id, err := d.Create(context.Background(), spec); err == nil {
			if err := d.Start(context.Background(), id); err == nil {
				t.Errorf("entered %s", spec.Dir)
			}
			_ = d.Remove(context.Background(), id)
		}
	}
	if r := run(t, d, inImage("etc", "cat "+outside+"/hostname; ls "+outside)); !strings.Contains(r.out, "hosts\n") {
		t.Errorf("%q %q", r.out, r.errs)
	}
	if left, _ := os.ReadDir(outside); len(left) > 0 {
		t.Errorf("outside: %v", left)
	}
	if left, _ := os.ReadDir(volume); len(left) != 1 {
		t.Errorf("in the volume: %v", left)
	}
}

func sorted(text string) string {
	lines := strings.Split(text, "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// A new volume gets what the image has at its place, an old one does not.
func TestPopulate(t *testing.T) {
	t.Parallel()
	d := open(t)
	data := layer(t, tree{"data/a": "A", "data/sub/b": "B", "data/l": "-> /etc", "data/own": "own"})
	if err := errors.Join(os.Chown(data+"/data/own", 12, 13), os.Chmod(data+"/data/own", 0o750), os.Chown(data+"/data", 12, 13),
		os.Link(data+"/data/a", data+"/data/z")); err != nil {
		t.Fatal(err)
	}
	withImages(t, d, map[string][]string{"i": {busybox(t), data}})
	volume := t.TempDir()
	spec := inImage("i", "ls /data; stat -c '%a %u:%g' /data/own /data; stat -c %h /data/z; readlink /data/l; cat /data/sub/b; rm -r /data/*; touch /data/mine")
	spec.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: volume, Target: "/data", Owned: true, Populate: true}}
	if r := run(t, d, spec); r.out != "a\nl\nown\nsub\nz\n750 12:13\n755 12:13\n2\n/etc\nB" || r.Code != 0 {
		t.Errorf("%q %q", r.out, r.errs)
	}
	var st unix.Stat_t
	if err := unix.Stat(volume, &st); err != nil || st.Uid != 12 {
		t.Errorf("the volume is %d's: %v", st.Uid, err)
	}
	spec.Command[2] = "ls /data"
	if r := run(t, d, spec); r.out != "mine\n" {
		t.Errorf("a used volume: %q %q", r.out, r.errs)
	}
	fresh := t.TempDir()
	spec.Mounts[0].Source, spec.Mounts[0].ReadOnly = fresh, true
	spec.Command[2] = "cat /data/a; touch /data/mine || echo closed"
	if r := run(t, d, spec); r.out != "Aclosed\n" {
		t.Errorf("a volume that cannot be written is filled all the same: %q %q", r.out, r.errs)
	}
	spec.Mounts[0].Owned = false
	if _, err := d.Create(context.Background(), spec); !errors.Is(err, engine.ErrUnsupported) {
		t.Errorf("of the machine's owners: %v", err)
	}
}

// What is mounted below /dev gets its place there.
func TestMountInDev(t *testing.T) {
	d := open(t)
	withImages(t, d, map[string][]string{"i": {busybox(t)}})
	folder := t.TempDir()
	if err := os.WriteFile(folder+"/f", []byte("in"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec := inImage("i", "cat /dev/own/place/f /dev/file; test -c /dev/null && echo; touch /dev/x || echo closed")
	spec.Mounts = []engine.Mount{
		{Kind: engine.MountBind, Source: folder, Target: "/dev/own/place", Owned: true}, {Kind: engine.MountBind, Source: folder + "/f", Target: "/dev/file", Owned: true},
	}
	if r := run(t, d, spec); r.out != "inin\nclosed\n" || r.Code != 0 {
		t.Errorf("%q %q", r.out, r.errs)
	}
}
