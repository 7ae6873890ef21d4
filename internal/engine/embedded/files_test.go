//go:build linux && amd64

package embedded

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skerry/internal/engine"
)

// contents makes a text of an archive, an entry a line.
func contents(t *testing.T, r io.Reader) string {
	t.Helper()
	var out []string
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return strings.Join(out, "\n")
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%c %s %o %d:%d %s%s", h.Typeflag, h.Name, h.Mode, h.Uid, h.Gid, h.Linkname, b))
	}
}

func read(t *testing.T, d *Driver, id engine.ID, path string) string {
	t.Helper()
	r, err := d.ReadFiles(context.Background(), id, path)
	if err != nil {
		return "error: " + err.Error()
	}
	defer r.Close()
	return contents(t, r)
}

// packed makes an archive of headers; the content is "content".
func packed(t *testing.T, headers ...tar.Header) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Typeflag == tar.TypeReg {
			h.Size = 7
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			_, _ = w.Write([]byte("content"))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// Files are copied out of and into a container in every state.
func TestFiles(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx := context.Background()
	withImages(t, d, map[string][]string{"i": {busybox(t), layer(t, tree{"data/a": "A", "data/sub/b": "B", "data/l": "-> a", "way": "-> /data"})}})
	volume := layer(t, tree{"v": "V"})
	spec := inImage("i", "mkdir /new; echo N > /new/n; chown 5:6 /new/n; ln /new/n /new/o; echo ready; exec sleep 1000")
	spec.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: volume, Target: "/volume", ReadOnly: true}}
	id, err := d.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Remove(ctx, id) }()
	put := func(state string) {
		t.Helper()
		err := d.WriteFiles(ctx, id, "/way", packed(t, tar.Header{Name: state, Uid: 12, Gid: 13, Mode: 0o4755},
			tar.Header{Name: "deep/" + state + "/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 1}, tar.Header{Name: "deep/" + state + "/h", Typeflag: tar.TypeLink, Linkname: state},
			tar.Header{Name: "deep/s", Typeflag: tar.TypeSymlink, Linkname: "../../../../x"}))
		if err != nil {
			t.Errorf("%s: %v", state, err)
		}
		want := fmt.Sprintf("0 %s 4755 12:13 content", state)
		if got := read(t, d, id, "/way/"+state); got != want {
			t.Errorf("%s: %q, want %q", state, got, want)
		}
		want = fmt.Sprintf("5 %s/ 750 1:0 \n0 %s/h 4755 12:13 content", state, state)
		if got := read(t, d, id, "/data/deep/"+state); got != want {
			t.Errorf("%s: %q, want %q", state, got, want)
		}
		for path, want := range map[string]string{
			"/data/a": "0 a 755 0:0 A", "/way/l": "2 l 777 0:0 a", "/data/sub": "5 sub/ 755 0:0 \n0 sub/b 755 0:0 B", "/data/sub/.": "5 ./ 755 0:0 \n0 b 755 0:0 B",
			"/way": "2 way 777 0:0 /data", "/none": "Could not find the file /none in container " + string(id), "/proc/version": "Could not find the file",
			"/dev/null": "Could not find the file", "/data/deep/s": "2 s 777 0:0 ../../../../x",
		} {
			if got := read(t, d, id, path); got != want && !(strings.HasPrefix(want, "Could") && strings.Contains(got, want)) {
				t.Errorf("%s: %s: %q, want %q", state, path, got, want)
			}
		}
	}
	put("created")
	if got := read(t, d, id, "/volume/v"); got != "0 v 755 65534:65534 V" {
		t.Errorf("a volume: %q", got)
	}
	if err := d.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	await(t, "it runs", func() bool { out, _ := output(t, d, id); return out == "ready\n" })
	put("running")
	if got, want := read(t, d, id, "/new"), "5 new/ 755 0:0 \n0 new/n 644 5:6 N\n\n1 new/o 644 5:6 new/n"; sorted(got) != sorted(want) && sorted(got) != sorted("5 new/ 755 0:0 \n0 new/o 644 5:6 N\n\n1 new/n 644 5:6 new/o") {
		t.Errorf("%q, want %q", got, want)
	}
	if got := read(t, d, id, "/volume/v"); got != "0 v 755 65534:65534 V" {
		t.Errorf("a volume: %q", got)
	}
	if err := d.WriteFiles(ctx, id, "/volume", packed(t, tar.Header{Name: "x"})); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("into a read-only volume: %v", err)
	}
	var out strings.Builder
	if _, err := d.Exec(ctx, id, engine.ExecSpec{Command: []string{"stat", "-c", "%a %u:%g", "/data/running", "/data/created"}}, engine.Streams{Stdout: &out}); err != nil || out.String() != "4755 12:13\n4755 12:13\n" {
		t.Errorf("%q %v", out.String(), err)
	}
	if err := d.WriteFiles(ctx, id, "/etc", packed(t, tar.Header{Name: "hosts"})); err != nil {
		t.Errorf("a file that is mounted: %v", err)
	}
	if err := d.Freeze(ctx, id, true); err != nil {
		t.Fatal(err)
	}
	put("frozen")
	if all := read(t, d, id, "/"); !strings.Contains(all, "data/frozen") || !strings.Contains(all, "\n5 dev/ ") || strings.Contains(all, "\n5 proc/1/ ") || strings.Contains(all, "\n5 sys/kernel/ ") || strings.Contains(all, "dev/null 666") || !strings.Contains(all, "5 ./ ") {
		t.Errorf("the whole root: %.3000q", all)
	}
	if err := d.Signal(ctx, id, 9); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Wait(ctx, id); err != nil {
		t.Fatal(err)
	}
	put("exited")
	killSupervisor(t, d)
	put("lost")
	if _, err := d.ReadFiles(ctx, "nobody", "/"); !errors.Is(err, engine.ErrNotFound) {
		t.Error(err)
	}
	if _, err := d.ReadFiles(ctx, id, "/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}

	spec = inImage("i", "true")
	spec.Root.Writable = false
	ro, err := d.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Remove(ctx, ro) }()
	for range 2 {
		if err := d.WriteFiles(ctx, ro, "/data", packed(t, tar.Header{Name: "x"})); !errors.Is(err, engine.ErrState) || !strings.Contains(err.Error(), "container rootfs is marked read-only") {
			t.Errorf("a read-only root: %v", err)
		}
		startAgain(t, d, ro)
	}
}

// Archives that mean harm reach nothing outside of the container, nor the kernel
// with main's privileges.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx := context.Background()
	outside := t.TempDir()
	if err := os.WriteFile(outside+"/secret", []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	withImages(t, d, map[string][]string{"i": {busybox(t), layer(t, tree{"out": "-> " + outside, "rel": "-> ../../../../../../.." + outside, "kernel": "-> /proc/sys/kernel", "me": "-> /proc/1",
		"root": "-> /proc/1/root", "file": "f", "dir/": "", "loop": "-> loop"})}})
	id := started(t, d, inImage("i", "exec sleep 1000"))
	link := func(name, to string) tar.Header {
		return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}
	}
	hostname, err := os.ReadFile("/proc/sys/kernel/hostname")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path  string
		files []tar.Header
		want  string // of the error; empty: it is done, inside
	}{
		"dots":                {"/dir", []tar.Header{{Name: "../../../../../../../.." + outside + "/x"}}, "is outside of"},
		"dots within":         {"/dir", []tar.Header{{Name: "a/../../x"}}, "is outside of"},
		"absolute":            {"/dir", []tar.Header{{Name: outside + "/x"}}, ""},
		"link of the image":   {"/", []tar.Header{{Name: "out/x"}, {Name: "rel/y"}}, ""},
		"link of the tar":     {"/dir", []tar.Header{link("l", "/../../../.."+outside), {Name: "l/x"}}, ""},
		"link, then file":     {"/dir", []tar.Header{link("m", outside+"/secret"), {Name: "m"}}, ""},
		"hard link out":       {"/dir", []tar.Header{{Name: "h", Typeflag: tar.TypeLink, Linkname: "../../../../" + outside + "/secret"}}, "is outside of"},
		"hard link by links":  {"/", []tar.Header{{Name: "h", Typeflag: tar.TypeLink, Linkname: "out/secret"}}, "no such file"},
		"hard link to kernel": {"/", []tar.Header{{Name: "h2", Typeflag: tar.TypeLink, Linkname: "kernel/hostname"}}, "a link to"},
		"device":              {"/dir", []tar.Header{{Name: "sda", Typeflag: tar.TypeBlock, Devmajor: 8}}, "devices are not unpacked"},
		"kernel":              {"/", []tar.Header{{Name: "kernel/hostname"}}, "is not the container's"},
		"into the kernel":     {"/kernel", []tar.Header{{Name: "hostname"}}, "is not the container's"},
		"memory":              {"/", []tar.Header{{Name: "me/mem"}}, "is not the container's"},
		"root of 1":           {"/", []tar.Header{{Name: "root/x"}}, ""},
		"devices":             {"/dev", []tar.Header{{Name: "null"}}, "is not the container's"},
		"loop":                {"/", []tar.Header{{Name: "loop/x"}}, "too many levels"},
		"file for folder":     {"/", []tar.Header{{Name: "dir"}}, "cannot overwrite directory"},
		"folder for file":     {"/", []tar.Header{{Name: "file/", Typeflag: tar.TypeDir}}, "cannot overwrite non-directory"},
		"itself":              {"/dir", []tar.Header{{Name: "."}}, "cannot overwrite directory"},
		"owner":               {"/dir", []tar.Header{{Name: "x", Uid: 70000}}, "no container has the owner"},
		"long name":           {"/dir", []tar.Header{{Name: strings.Repeat("x", 300)}}, "name too long"},
		"long path":           {"/dir", []tar.Header{{Name: strings.Repeat("x/", 3000) + "x"}}, "name too long"},
		"not a folder":        {"/file", nil, "extraction point is not a directory"},
		"nowhere":             {"/nowhere", nil, "Could not find the file /nowhere"},
	} {
		err := d.WriteFiles(ctx, id, c.path, packed(t, c.files...))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	// a header of a gigabyte, and what is no archive
	huge := append([]byte("././@PaxHeader"), make([]byte, 498)...)
	copy(huge[100:], "0000644\x000000000\x000000000\x0010000000000\x0000000000000\x00")
	huge[156] = 'x'
	copy(huge[257:], "ustar\x0000")
	sum := 8 * 32
	for i, b := range huge {
		if i < 148 || i >= 156 {
			sum += int(b)
		}
	}
	copy(huge[148:], fmt.Sprintf("%06o\x00 ", sum))
	for name, b := range map[string]io.Reader{
		"huge header": io.MultiReader(bytes.NewReader(huge), io.LimitReader(forever{}, 1<<30)), "noise": strings.NewReader(strings.Repeat("noise", 1000)),
		"cut off": io.LimitReader(packed(t, tar.Header{Name: "cut"}), 515),
	} {
		if err := d.WriteFiles(ctx, id, "/dir", b); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, path := range []string{"/out/secret", "/rel/secret", "/kernel/hostname", "/me/environ", "/root/etc/passwd"} {
		if got := read(t, d, id, path); !strings.HasPrefix(got, "error") {
			t.Errorf("read %s: %q", path, got)
		}
	}
	entries, _ := os.ReadDir(outside)
	if b, _ := os.ReadFile(filepath.Join(outside, "secret")); len(entries) != 1 || string(b) != "secret" {
		t.Errorf("outside: %v %q", entries, b)
	}
	if after, _ := os.ReadFile("/proc/sys/kernel/hostname"); string(after) != string(hostname) {
		t.Errorf("the machine is called %q now", after)
	}
	r := started(t, d, inImage("i", "true")) // it has not ended
	if _, err := d.Wait(ctx, r); err != nil {
		t.Error(err)
	}
}

type forever struct{}

func (forever) Read(b []byte) (int, error) { return len(b), nil }
