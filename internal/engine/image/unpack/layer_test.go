//go:build linux

package unpack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine/image/unpack"
)

var when = time.Date(2020, 5, 6, 7, 8, 9, 123456789, time.UTC)

// entry is an entry of an archive.
type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content))}, content}
}

func dir(name string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: 0o755}}
}

func link(kind byte, name, to string) entry {
	return entry{Header: tar.Header{Typeflag: kind, Name: name, Linkname: to, Mode: 0o777}}
}

func archive(t testing.TB, all ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range all {
		if e.ModTime.IsZero() {
			e.ModTime = when
		}
		e.Format = tar.FormatPAX
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("layers are unpacked by root alone")
	}
}

// layer unpacks an archive and returns its folder.
func layer(t *testing.T, all ...entry) (string, unpack.Result) {
	t.Helper()
	root(t)
	d := t.TempDir()
	r, err := unpack.Layer(t.Context(), bytes.NewReader(archive(t, all...)), d, unpack.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return d, r
}

func stat(t *testing.T, parts ...string) unix.Stat_t {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(parts...), &st); err != nil {
		t.Fatal(parts, err)
	}
	return st
}

func attr(path, name string) string {
	b := make([]byte, 256)
	n, err := unix.Lgetxattr(path, name, b)
	if err != nil {
		return ""
	}
	return string(b[:n])
}

func TestFiles(t *testing.T) {
	long := strings.Repeat("long-name/", 30) + strings.Repeat("x", 255)
	setuid := file("bin/su", "su")
	setuid.Mode, setuid.Uid, setuid.Gid = 0o6755, 12, 34
	folder := dir("tmp")
	folder.Mode = 0o1777
	caps := file("bin/ping", "ping")
	caps.PAXRecords = map[string]string{
		"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"SCHILY.xattr.user.note":           "hello", "SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.redirect": "/etc",
		"SCHILY.xattr.trusted.evil": "x",
	}
	d, r := layer(t,
		dir("./"), dir("bin"), setuid, folder, caps, file(long, "deep"), file("/absolute", "a"), file("empty", ""),
		link(tar.TypeSymlink, "bin/sh", "/bin/busybox"), link(tar.TypeSymlink, "out", "../../../etc/passwd"),
		link(tar.TypeLink, "bin/su2", "bin/su"), link(tar.TypeLink, "bin/su3", "/bin/su"), link(tar.TypeLink, "out2", "out"),
		entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "pipe", Mode: 0o640}},
		entry{Header: tar.Header{Typeflag: tar.TypeChar, Name: "null", Devmajor: 1, Devminor: 3, Mode: 0o666}},
		entry{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "sda", Devmajor: 8, Mode: 0o666}},
		dir("bin"), // some archives have folders twice
	)
	if st := stat(t, d, "bin/su"); st.Mode != unix.S_IFREG|0o6755 || st.Uid != 12 || st.Gid != 34 || st.Nlink != 3 || st.Mtim.Nano() != when.UnixNano() {
		t.Errorf("bin/su: %+v", st)
	}
	if st := stat(t, d, "tmp"); st.Mode != unix.S_IFDIR|0o1777 || st.Mtim.Nano() != when.UnixNano() {
		t.Errorf("tmp: %+v", st)
	}
	if st := stat(t, d, "bin"); st.Mtim.Nano() != when.UnixNano() {
		t.Errorf("the time of a folder with files: %v", st.Mtim)
	}
	if st := stat(t, d, "pipe"); st.Mode != unix.S_IFIFO|0o640 {
		t.Errorf("pipe: %+v", st)
	}
	if st := stat(t, d, "bin/sh"); st.Mtim.Nano() != when.UnixNano() {
		t.Errorf("the time of a link: %v", st.Mtim)
	}
	if to, err := os.Readlink(filepath.Join(d, "out2")); err != nil || to != "../../../etc/passwd" {
		t.Errorf("out2: %q, %v", to, err)
	}
	for name, want := range map[string]string{long: "deep", "absolute": "a", "empty": "", "bin/su3": "su"} {
		if b, err := os.ReadFile(filepath.Join(d, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"null", "sda"} {
		if _, err := os.Lstat(filepath.Join(d, name)); !os.IsNotExist(err) {
			t.Errorf("the device %s: %v", name, err)
		}
	}
	ping := filepath.Join(d, "bin/ping")
	if attr(ping, "user.note") != "hello" || !strings.HasPrefix(attr(ping, "security.capability"), "\x01\x00\x00\x02\x00\x20") {
		t.Errorf("attributes: %q, %q", attr(ping, "user.note"), attr(ping, "security.capability"))
	}
	for _, name := range []string{"trusted.overlay.opaque", "user.overlay.redirect", "trusted.evil"} {
		if v := attr(ping, name); v != "" {
			t.Errorf("the attribute %s is %q", name, v)
		}
	}
	var parents []string
	for p := filepath.Dir(long); p != "."; p = filepath.Dir(p) {
		parents = append(parents, p)
	}
	slices.Sort(parents)
	if !slices.Equal(r.Implied, parents) || r.Entries != 17 || r.Size != int64(len("su")+len("ping")+len("deep")+len("a")) {
		t.Errorf("result %+v", r)
	}
}

func TestWhiteouts(t *testing.T) {
	d, _ := layer(t,
		file("etc/.wh.gone", ""), dir("opaque"), file("opaque/.wh..wh..opq", ""), file("opaque/new", "n"),
		file(".wh.replaced", ""), file("replaced", "new"),
		file(".wh.dir", ""), file("dir/in", "in"),
		file(".wh.dir2", ""), dir("dir2"),
		dir("dir3"), file(".wh.dir3", ""),
		file("kept", "kept"), file(".wh.kept", ""),
		file(".wh..wh.plnk/1.2", "aufs"), file(".wh..wh.aufs", ""),
	)
	if st := stat(t, d, "etc/gone"); st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("the whiteout: %+v", st)
	}
	for name, opaque := range map[string]bool{"opaque": true, "dir": true, "dir2": true, "dir3": true, "etc": false, ".": false} {
		if got := attr(filepath.Join(d, name), "trusted.overlay.opaque"); (got == "y") != opaque {
			t.Errorf("%s is opaque: %q", name, got)
		}
	}
	for name, want := range map[string]string{"replaced": "new", "kept": "kept", "dir/in": "in", "opaque/new": "n"} {
		if b, err := os.ReadFile(filepath.Join(d, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	all, err := filepath.Glob(filepath.Join(d, ".wh*"))
	if err != nil || len(all) > 0 {
		t.Errorf("left as they came: %v", all)
	}
}

func TestHostile(t *testing.T) {
	root(t)
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "victim"), []byte("victim"), 0o644); err != nil {
		t.Fatal(err)
	}
	huge := file("huge", "")
	huge.Uid = 1 << 40
	for name, all := range map[string][]entry{
		"dots":                    {file("../evil", "x")},
		"dots inside":             {file("a/../../evil", "x")},
		"dots at the end":         {dir("a/..")},
		"dots behind a slash":     {file("/../evil", "x")},
		"through a link":          {link(tar.TypeSymlink, "a", outside), file("a/evil", "x")},
		"through a relative link": {dir("b"), link(tar.TypeSymlink, "a", "b"), file("a/evil", "x")},
		"onto a link, through it": {link(tar.TypeSymlink, "a", "b"), dir("a"), link(tar.TypeSymlink, "a", outside), file("a/evil", "x")},
		"whiteout through a link": {link(tar.TypeSymlink, "a", outside), file("a/.wh.victim", "")},
		"opaque through a link":   {link(tar.TypeSymlink, "a", outside), file("a/.wh..wh..opq", "")},
		"hard link out":           {link(tar.TypeLink, "a", "../../../../../../etc/passwd")},
		"hard link absolute":      {link(tar.TypeLink, "a", filepath.Join(outside, "victim"))},
		"hard link by a link":     {link(tar.TypeSymlink, "l", outside), link(tar.TypeLink, "a", "l/victim")},
		"hard link to nothing":    {link(tar.TypeLink, "a", "b")},
		"hard link to a folder":   {dir("b"), link(tar.TypeLink, "a", "b")},
		"hard link to a whiteout": {file(".wh.b", ""), link(tar.TypeLink, "a", "b")},
		"hard link to the root":   {link(tar.TypeLink, "a", "/")},
		"hard link to itself":     {file("a", "1"), link(tar.TypeLink, "a", "a")},
		"hard link to what goes":  {file("a/b", "1"), link(tar.TypeLink, "a", "a/b")},
		"below a file":            {file("a", "1"), file("a/b", "2")},
		"below a pipe":            {{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "a"}}, file("a/b", "2")},
		"whiteout of nothing":     {file("a/.wh.", "")},
		"whiteout of itself":      {file("a/.wh..", "")},
		"whiteout of the parent":  {file("a/.wh...", "")},
		"whiteout as a folder":    {file(".wh.a/b", "")},
		"the root is a file":      {file(".", "")},
		"link to nothing":         {link(tar.TypeSymlink, "a", "")},
		"long name":               {file(strings.Repeat("x", 300), "")},
		"deep":                    {file(strings.Repeat("d/", 500)+"x", "")},
		"owner":                   {huge},
		"unknown type":            {{Header: tar.Header{Typeflag: 'Z', Name: "a"}}},
	} {
		d := filepath.Join(t.TempDir(), "layer")
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for _, e := range all {
			if err := w.WriteHeader(&e.Header); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_, _ = io.WriteString(w, e.content)
		}
		_ = w.Close()
		_, err := unpack.Layer(t.Context(), &b, d, unpack.Limits{})
		if !errors.Is(err, unpack.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(outside); len(left) != 1 || attr(outside, "trusted.overlay.opaque") != "" {
			t.Fatalf("%s: outside are %v", name, left)
		}
		if b, err := os.ReadFile(filepath.Join(outside, "victim")); err != nil || string(b) != "victim" {
			t.Fatalf("%s: the victim is %q, %v", name, b, err)
		}
		if left, _ := os.ReadDir(filepath.Dir(d)); len(left) != 1 {
			t.Fatalf("%s: beside the layer are %v", name, left)
		}
	}
}

// The last entry of a name counts, and nothing is written through an earlier one.
func TestTwice(t *testing.T) {
	outside := t.TempDir()
	victim := filepath.Join(outside, "victim")
	if err := os.WriteFile(victim, []byte("victim"), 0o644); err != nil {
		t.Fatal(err)
	}
	again := dir("again")
	again.Mode = 0o700
	d, r := layer(t,
		file("file", "1"), file("file", "2"),
		file("linked", "1"), link(tar.TypeLink, "other", "linked"), file("linked", "2"),
		link(tar.TypeSymlink, "onto", victim), file("onto", "mine"),
		link(tar.TypeSymlink, "folder-onto", outside), dir("folder-onto"), file("folder-onto/in", "in"),
		link(tar.TypeSymlink, "link", "a"), link(tar.TypeSymlink, "link", "b"),
		dir("tree"), dir("tree/deep"), file("tree/deep/x", "x"), file("tree/.wh.gone", ""), link(tar.TypeSymlink, "tree/out", outside), file("tree", "now a file"),
		file("implied/deep/x", "x"), file("implied/deep", "now a file"), file("implied/y", "y"),
		file("back/x", "x"), file("back/.wh.z", ""), file("back", "a file"), file("back", "a file"), link(tar.TypeSymlink, "back", outside), dir("back"), file("back/z", "z"),
		file(".wh.hidden", ""), file("hidden", "1"), dir("hidden"),
		file("hidden2", "1"), file(".wh.hidden2", ""), dir("hidden2"),
		again, file("again/x", "x"), dir("again"),
		entry{Header: tar.Header{Typeflag: tar.TypeFifo, Name: "file2", Mode: 0o640}}, file("file2", "f"),
	)
	for name, want := range map[string]string{
		"file": "2", "linked": "2", "other": "1", "onto": "mine", "folder-onto/in": "in", "tree": "now a file", "implied/deep": "now a file", "implied/y": "y",
		"back/z": "z", "again/x": "x", "file2": "f",
	} {
		if b, err := os.ReadFile(filepath.Join(d, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	if to, err := os.Readlink(filepath.Join(d, "link")); err != nil || to != "b" {
		t.Errorf("the link: %q, %v", to, err)
	}
	if all, err := os.ReadDir(filepath.Join(d, "back")); err != nil || len(all) != 1 {
		t.Errorf("back has %v, %v", all, err)
	}
	for name, opaque := range map[string]string{"hidden": "y", "hidden2": "y", "back": "", "again": ""} {
		if st := stat(t, d, name); st.Mode != unix.S_IFDIR|0o755 || st.Mtim.Nano() != when.UnixNano() {
			t.Errorf("%s: %+v", name, st)
		}
		if got := attr(filepath.Join(d, name), "trusted.overlay.opaque"); got != opaque {
			t.Errorf("%s is opaque: %q", name, got)
		}
	}
	if !slices.Equal(r.Implied, []string{".", "implied"}) {
		t.Errorf("implied %v", r.Implied)
	}
	if all, err := os.ReadDir(outside); err != nil || len(all) != 1 || attr(outside, "trusted.overlay.opaque") != "" {
		t.Errorf("outside are %v, %v", all, err)
	}
	if b, err := os.ReadFile(victim); err != nil || string(b) != "victim" {
		t.Errorf("the victim is %q, %v", b, err)
	}
}

func TestBroken(t *testing.T) {
	root(t)
	whole := archive(t, dir("a"), file("a/b", strings.Repeat("content", 1000)))
	for name, b := range map[string][]byte{
		"cut":     whole[:3000],
		"garbage": []byte(strings.Repeat("garbage!", 200)),
		"tail":    append(slices.Clone(whole), make([]byte, 17<<20)...),
	} {
		if _, err := unpack.Layer(t.Context(), bytes.NewReader(b), t.TempDir(), unpack.Limits{}); !errors.Is(err, unpack.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := unpack.Layer(ctx, bytes.NewReader(whole), t.TempDir(), unpack.Limits{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	fault := errors.New("the source fails")
	source := io.MultiReader(bytes.NewReader(whole[:2000]), failing{fault})
	if _, err := unpack.Layer(t.Context(), source, t.TempDir(), unpack.Limits{}); !errors.Is(err, fault) || errors.Is(err, unpack.ErrInvalid) {
		t.Errorf("a source that fails: %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestBombs(t *testing.T) {
	root(t)
	many := make([]entry, 101)
	for i := range many {
		many[i] = dir(strings.Repeat("d", i+1))
	}
	for name, c := range map[string]struct {
		limits unpack.Limits
		all    []byte
		want   error
	}{
		"bytes":   {unpack.Limits{Size: 10}, archive(t, file("a", "123456"), file("b", "123456")), unpack.ErrTooLarge},
		"entries": {unpack.Limits{Entries: 100}, archive(t, many...), unpack.ErrTooLarge},
		"disk":    {unpack.Limits{}, sparse(t, 1<<60), syscall.ENOSPC},
		"reserve": {unpack.Limits{Reserve: 1 << 60}, archive(t), syscall.ENOSPC},
	} {
		d := t.TempDir()
		began := time.Now()
		_, err := unpack.Layer(t.Context(), bytes.NewReader(c.all), d, c.limits)
		if !errors.Is(err, c.want) || time.Since(began) > 10*time.Second {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sparse is an archive of one file in GNU's form, of which only the last 512 bytes
// are there.
func sparse(t *testing.T, size int64) []byte {
	t.Helper()
	block := make([]byte, 512)
	h := tar.Header{Name: "sparse", Typeflag: tar.TypeReg, Size: 512, Mode: 0o600, ModTime: when, Format: tar.FormatGNU}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	copy(block, b.Bytes()[:512])
	number := func(at int, n int64) {
		if n < 1<<33 {
			copy(block[at:at+12], []byte(octal(n)))
			return
		}
		for i := range 12 {
			block[at+11-i] = byte(n >> (8 * min(i, 7)))
		}
		copy(block[at:at+4], []byte{0x80, 0, 0, 0})
	}
	block[156] = 'S'
	number(386, size-512) // offset and length of the one piece
	number(398, 512)
	number(483, size)
	sum := int64(0)
	copy(block[148:156], "        ")
	for _, c := range block {
		sum += int64(c)
	}
	copy(block[148:156], []byte(octal(sum)[5:11]+"\x00 "))
	return append(append(block, bytes.Repeat([]byte{'x'}, 512)...), make([]byte, 1024)...)
}

func octal(n int64) string {
	b := []byte("00000000000\x00")
	for i := 10; i >= 0; i-- {
		b[i] = byte('0' + n&7)
		n >>= 3
	}
	return string(b)
}

func TestSparse(t *testing.T) {
	root(t)
	d := t.TempDir()
	const size = 64 << 20
	r, err := unpack.Layer(t.Context(), bytes.NewReader(sparse(t, size)), d, unpack.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	st := stat(t, d, "sparse")
	if st.Size != size || st.Blocks*512 > 1<<20 || r.Size != size {
		t.Errorf("%d bytes on %d of disk", st.Size, st.Blocks*512)
	}
	f, err := os.Open(filepath.Join(d, "sparse"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	tail := make([]byte, 513)
	if _, err := f.ReadAt(tail, size-513); err != nil || tail[0] != 0 || strings.Trim(string(tail[1:]), "x") != "" {
		t.Errorf("the end is %q, %v", tail, err)
	}
}

func TestCopyFolder(t *testing.T) {
	tmp := dir("tmp")
	tmp.Mode, tmp.Uid = 0o1777, 7
	lower, _ := layer(t, tmp, file("etc", "a file"))
	upper, r := layer(t, file("tmp/x", "x"), file("etc/y", "y"))
	if !slices.Equal(r.Implied, []string{".", "etc", "tmp"}) {
		t.Errorf("implied %v", r.Implied)
	}
	for name, want := range map[string]bool{"tmp": true, "etc": false} {
		if got, err := unpack.CopyFolder(lower, upper, name); got != want || err != nil {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	if st := stat(t, upper, "tmp"); st.Mode != unix.S_IFDIR|0o1777 || st.Uid != 7 || st.Mtim.Nano() != when.UnixNano() {
		t.Errorf("tmp: %+v", st)
	}
}

// FuzzLayer unpacks any bytes: nothing outside of the folder changes.
func FuzzLayer(f *testing.F) {
	root(f)
	f.Add(archive(f, dir("a"), file("a/b", "content"), link(tar.TypeSymlink, "l", "../.."), link(tar.TypeLink, "h", "a/b"), file(".wh.x", "")))
	f.Add(archive(f, link(tar.TypeSymlink, "a", "/"), file("a/evil", "x")))
	f.Add(archive(f, file("a/.wh..wh..opq", ""), file("../evil", "x")))
	f.Add(archive(f, dir("a"), file("a/b", "x"), link(tar.TypeSymlink, "a", ".."), file("a", "x"), file("a", "y"), file(".wh.a", ""), dir("a"), file("a/victim", "x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		top := t.TempDir()
		d := filepath.Join(top, "layer")
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(top, "victim"), []byte("victim"), 0o600); err != nil {
			t.Fatal(err)
		}
		before := stat(t, top, "victim")
		_, err := unpack.Layer(t.Context(), bytes.NewReader(b), d, unpack.Limits{Size: 1 << 20, Entries: 1000})
		_ = err // whatever it is
		left, err := os.ReadDir(top)
		after := stat(t, top, "victim")
		if err != nil || len(left) != 2 || after.Ctim != before.Ctim || after.Mtim != before.Mtim {
			t.Fatalf("beside the layer: %v, %v", left, err)
		}
	})
}
