package scan

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// entry is a file of a layer; a name that ends in a slash is a folder.
type entry struct {
	name, content string
	mode          int64
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode | 0o644, Size: int64(len(e.content)), Typeflag: tar.TypeReg}
		if strings.HasSuffix(e.name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
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

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstandard(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

func image(contents ...[]byte) []Layer {
	var layers []Layer
	for i, c := range contents {
		layers = append(layers, Layer{Digest: fmt.Sprintf("sha256:%d", i), Open: func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(c)), nil
		}})
	}
	return layers
}

func inventory(t *testing.T, contents ...[]byte) *Inventory {
	t.Helper()
	inv, err := Image(t.Context(), image(contents...), DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// show writes an inventory's packages in short.
func show(inv *Inventory) string {
	var out []string
	for _, p := range inv.Packages {
		out = append(out, p.Ecosystem+"/"+p.Name+"@"+p.Version)
	}
	return strings.Join(out, " ")
}

const (
	debian = "ID=debian\nVERSION_ID=\"12\"\n"
	status = `Package: libc6
Status: install ok installed
Architecture: amd64
Source: glibc
Version: 2.36-9+deb12u4
Description: a library
 with: colons
 .
 Version: 9.9

Package: removed
Status: deinstall ok config-files
Version: 1.0

Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl (3.0.11-1~deb12u2)
Version: 3.0.11-1~deb12u2+b1
`
	apk = "C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\n\nP:libcrypto3\nV:3.1.4-r5\nA:x86_64\no:openssl\nF:lib\nR:libcrypto.so.3\n\n"
)

func TestSystems(t *testing.T) {
	database, older := unzipped(t, "testdata/rpmdb.sqlite.gz"), unzipped(t, "testdata/Packages.gz")
	const rocky = "ID=\"rocky\"\nVERSION_ID=\"9.3\"\n"
	packages := "Rocky Linux:9/hello@1:2.12.1-4.el9 Rocky Linux:9/openssl-libs@3.0.7-25.el9_3 Rocky Linux:9/part0@1.0-0.el9 Rocky Linux:9/part1@1.1-1.el9 " +
		"Rocky Linux:9/part10@1.10-10.el9 Rocky Linux:9/part11@1.11-11.el9 Rocky Linux:9/part2@1.2-2.el9 Rocky Linux:9/part3@1.3-3.el9 " +
		"Rocky Linux:9/part4@1.4-4.el9 Rocky Linux:9/part5@1.5-5.el9 Rocky Linux:9/part6@1.6-6.el9 Rocky Linux:9/part7@1.7-7.el9 " +
		"Rocky Linux:9/part8@1.8-8.el9 Rocky Linux:9/part9@1.9-9.el9"
	for name, c := range map[string]struct {
		layer []byte
		want  string
	}{
		"Debian": {archive(t, entry{name: "usr/lib/os-release", content: debian}, entry{name: "./var/lib/dpkg/status", content: status}),
			"Debian:12/libc6@2.36-9+deb12u4 Debian:12/libssl3@3.0.11-1~deb12u2+b1"},
		"distroless": {archive(t, entry{name: "etc/os-release", content: debian},
			entry{name: "var/lib/dpkg/status.d/base", content: "Package: base-files\nVersion: 12.4\n"}, entry{name: "var/lib/dpkg/status.d/base.md5sums", content: "x"}),
			"Debian:12/base-files@12.4"},
		"Alpine, gzip": {gzipped(t, archive(t, entry{name: "etc/os-release", content: "ID=alpine\nVERSION_ID=3.19.1\n"}, entry{name: "lib/apk/db/installed", content: apk})),
			"Alpine:v3.19/libcrypto3@3.1.4-r5 Alpine:v3.19/musl@1.2.4-r2"},
		"Rocky, zstd":        {zstandard(t, archive(t, entry{name: "etc/os-release", content: rocky}, entry{name: "var/lib/rpm/rpmdb.sqlite", content: string(database)})), packages},
		"Rocky, Berkeley DB": {archive(t, entry{name: "etc/os-release", content: rocky}, entry{name: "var/lib/rpm/Packages", content: string(older)}), packages},
		"Node": {archive(t, entry{name: "app/node_modules/left-pad/package.json", content: `{"name":"left-pad","version":"1.3.0"}`},
			entry{name: "app/node_modules/@types/node/package.json", content: `{"name":"@types/node","version":"20.1.0"}`},
			entry{name: "app/node_modules/left-pad/test/package.json", content: `{"name":"no","version":"1"}`},
			entry{name: "app/package.json", content: `{"name":"app","version":"1"}`},
			entry{name: "srv/package-lock.json", content: `{"lockfileVersion":3,"packages":{"":{"version":"1"},"node_modules/a":{"version":"1.0.0"},"node_modules/a/node_modules/@b/c":{"version":"2.0.0"},"x":{"link":true}}}`},
			entry{name: "old/package-lock.json", content: `{"dependencies":{"d":{"version":"3.0.0","dependencies":{"e":{"version":"4.0.0"}}}}}`}),
			"npm/@b/c@2.0.0 npm/@types/node@20.1.0 npm/a@1.0.0 npm/d@3.0.0 npm/e@4.0.0 npm/left-pad@1.3.0"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := inventory(t, c.layer)
			if got := show(inv); got != c.want || len(inv.Unread) > 0 {
				t.Errorf("got  %s\nwant %s\nunread %v", got, c.want, inv.Unread)
			}
		})
	}
}

// The test's own executable is one of Go's.
func TestGo(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	inv := inventory(t, archive(t, entry{"usr/bin/app", string(b), 0o755}, entry{"usr/bin/broken", "\x7fELF" + strings.Repeat(string(goMark), 1000), 0o755},
		entry{"usr/bin/script", "#!/bin/sh\n" + strings.Repeat("#", 5000), 0o755}))
	want := "Go/stdlib@" + strings.TrimPrefix(strings.Fields(runtime.Version())[0], "go")
	if got := show(inv); !strings.Contains(" "+got+" ", " "+want+" ") {
		t.Errorf("got %s, want %s among it", got, want)
	}
	if p := inv.Packages[0]; p.Path != "usr/bin/app" || p.Layer != "sha256:0" {
		t.Errorf("got %+v", p)
	}
}

// What an upper layer hides is not there.
func TestLayers(t *testing.T) {
	node := func(dir, version string) entry {
		return entry{name: dir + "/node_modules/p/package.json", content: `{"name":"p` + dir + `","version":"` + version + `"}`}
	}
	lower := archive(t, node("a", "1"), node("b", "1"), node("c", "1"), node("d", "1"), node("e", "1"), node("f", "1"))
	for name, c := range map[string]struct {
		upper []entry
		want  string
	}{
		"nothing hidden":        {[]entry{{name: "x/.wh.y"}}, "pa1 pb1 pc1 pd1 pe1 pf1"},
		"a file":                {[]entry{{name: "a/node_modules/p/.wh.package.json"}}, "pb1 pc1 pd1 pe1 pf1"},
		"a folder":              {[]entry{{name: ".wh.b"}}, "pa1 pc1 pd1 pe1 pf1"},
		"a folder's content":    {[]entry{{name: "c/.wh..wh..opq"}}, "pa1 pb1 pd1 pe1 pf1"},
		"all":                   {[]entry{{name: ".wh..wh..opq"}}, ""},
		"replaced":              {[]entry{node("d", "2")}, "pa1 pb1 pc1 pd2 pe1 pf1"},
		"hidden and made anew":  {[]entry{{name: ".wh.d"}, node("d", "3")}, "pa1 pb1 pc1 pd3 pe1 pf1"},
		"a file over a folder":  {[]entry{{name: "e", content: "x"}}, "pa1 pb1 pc1 pd1 pf1"},
		"a folder over a file":  {[]entry{{name: "f/node_modules/p/package.json/"}}, "pa1 pb1 pc1 pd1 pe1"},
		"a name out of the way": {[]entry{{name: "../../.wh.a"}, {name: "/b/../.wh.c"}}, "pb1 pd1 pe1 pf1"},
	} {
		t.Run(name, func(t *testing.T) {
			inv := inventory(t, lower, archive(t, c.upper...))
			var got []string
			for _, p := range inv.Packages {
				got = append(got, p.Name+p.Version)
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got %s, want %s", s, c.want)
			}
		})
	}
}

func TestHostile(t *testing.T) {
	many := make([]entry, 200)
	for i := range many {
		many[i] = entry{name: fmt.Sprintf("m%d/node_modules/p/package.json", i), content: fmt.Sprintf(`{"name":"p%d","version":"1"}`, i)}
	}
	limits := Limits{Bytes: 1 << 20, Entries: 300, File: 1 << 16, Packages: 100}
	for name, c := range map[string][]byte{
		"a bomb":           gzipped(t, archive(t, entry{name: "zeros", content: strings.Repeat("\x00", 2<<20)})),
		"too many files":   archive(t, append(many, many...)...),
		"too many of them": archive(t, many...),
	} {
		if _, err := Image(t.Context(), image(c), limits); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, c := range map[string][]byte{
		"cut short": gzipped(t, archive(t, many...))[:500],
		"no tar":    []byte(strings.Repeat("text", 1000)),
	} {
		if _, err := Image(t.Context(), image(c), DefaultLimits); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	inv, err := Image(t.Context(), image(archive(t, entry{name: "var/lib/rpm/rpmdb.sqlite", content: "SQLite format 3\x00 and no more"},
		entry{name: "var/lib/rpm/Packages", content: "x"}, entry{name: "usr/lib/sysimage/rpm/Packages.db", content: "x"}, entry{name: "lib/apk/db/installed", content: strings.Repeat("x", 1<<17)},
		entry{name: "a/package-lock.json", content: "{"})), limits)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a/package-lock.json: unexpected EOF", "lib/apk/db/installed: too large",
		"usr/lib/sysimage/rpm/Packages.db: an RPM database in ndb is not read", "var/lib/rpm/Packages: a damaged Berkeley DB", "var/lib/rpm/rpmdb.sqlite: a damaged SQLite database"}
	if !slices.Equal(inv.Unread, want) {
		t.Errorf("got %q", inv.Unread)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Image(ctx, image(archive(t, many...)), DefaultLimits); !errors.Is(err, context.Canceled) {
		t.Errorf("after its end: %v", err)
	}
}

// unzipped reads a file of the tests' data.
func unzipped(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A damaged database must neither hang nor panic.
func FuzzRPM(f *testing.F) {
	for _, b := range [][]byte{unzipped(f, "testdata/rpmdb.sqlite.gz"), unzipped(f, "testdata/Packages.gz")} {
		f.Add(b[:8192])
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, parse := range []parser{parseRPM, parseBerkeley} {
			// What is wrong with it is no matter here.
			_ = parse(io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))), &file{})
		}
	})
}

func TestCompare(t *testing.T) {
	for _, c := range []struct{ manager, low, high string }{
		{Dpkg, "1.0-1", "1.0-2"}, {Dpkg, "1.0~rc1-1", "1.0-1"}, {Dpkg, "1.9", "1.10"}, {Dpkg, "9.0", "1:0.1"}, {Dpkg, "1.0", "1.0a"},
		{Dpkg, "1.0a", "1.0+b"}, {Dpkg, "2.36-9+deb12u3", "2.36-9+deb12u10"}, {Dpkg, "1.0", "1.0-1"}, {Dpkg, "1.0-1~bpo", "1.0-1"},
		{Apk, "1.2.4-r1", "1.2.4-r2"}, {Apk, "1.2_rc1", "1.2"}, {Apk, "1.2", "1.2_p1"}, {Apk, "1.2_alpha2", "1.2_beta1"}, {Apk, "3.1.9", "3.1.10"}, {Apk, "1.1.1k", "1.1.1l"},
		{RPM, "1.0-1", "1.0-2"}, {RPM, "1.0~rc1-1", "1.0-1"}, {RPM, "1.0-1", "1.0^git1-1"}, {RPM, "1.0^git1-1", "1.0.1-1"}, {RPM, "9-1", "1:1-1"}, {RPM, "3.0.7-25.el9_3", "3.0.7-27.el9"}, {RPM, "1.a-1", "1.1-1"},
		{Go, "1.2.3", "1.10.0"}, {Go, "1.22rc1", "1.22"}, {Go, "1.21.9", "1.22rc1"}, {Go, "0.0.0-20200101000000-aaaa", "0.0.0-20210101000000-aaaa"},
		{Node, "1.0.0-alpha", "1.0.0-alpha.1"}, {Node, "1.0.0-alpha.9", "1.0.0-alpha.10"}, {Node, "1.0.0-alpha.1", "1.0.0-alpha.beta"}, {Node, "1.0.0-rc.1", "1.0.0"},
	} {
		if compare(c.manager, c.low, c.high) >= 0 || compare(c.manager, c.high, c.low) <= 0 || compare(c.manager, c.low, c.low) != 0 {
			t.Errorf("%s: %s is not before %s: %d, %d", c.manager, c.low, c.high, compare(c.manager, c.low, c.high), compare(c.manager, c.high, c.low))
		}
	}
}

func TestBaseScore(t *testing.T) {
	for vector, want := range map[string]float64{
		"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H": 9.8,
		"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H": 10,
		"CVSS:3.0/AV:L/AC:H/PR:L/UI:R/S:U/C:L/I:N/A:N": 2.2,
		"CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N": 6.4,
		"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N": 0,
	} {
		if got, ok := baseScore(vector); got != want || !ok {
			t.Errorf("%s: %v, want %v", vector, got, want)
		}
	}
	for _, v := range []string{"", "CVSS:3.1", "CVSS:4.0/AV:N", "CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"} {
		if _, ok := baseScore(v); ok {
			t.Errorf("%q has a score", v)
		}
	}
}

func TestFeed(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("debian/a.json", `{"id":"DSA-1","aliases":["CVE-2026-0001"],"modified":"2026-10-01T00:00:00Z","summary":"bad","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
		"affected":[{"package":{"ecosystem":"Debian:12","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.0.11-1~deb12u3"}]}]},
		{"package":{"ecosystem":"Debian:11","name":"glibc"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"}]}]}]}`)
	write("debian/fixed.json", `{"id":"DSA-2","affected":[{"package":{"ecosystem":"Debian:12","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.0.11-1~deb12u2"}]}]}]}`)
	write("gone.json", `{"id":"DSA-3","withdrawn":"2026-01-01T00:00:00Z","affected":[{"package":{"ecosystem":"Debian","name":"glibc"},"versions":["2.36-9+deb12u4"]}]}`)
	write("listed.json", `{"id":"DSA-4","affected":[{"package":{"ecosystem":"Debian","name":"glibc"},"versions":["2.36-9+deb12u4"],"ecosystem_specific":{"urgency":"unimportant"}}]}`)
	write("npm.json", `{"id":"GHSA-1","modified":"2026-11-01T00:00:00Z","database_specific":{"severity":"MODERATE"},"references":[{"type":"WEB","url":"https://example.com/1"}],
		"affected":[{"package":{"ecosystem":"npm","name":"p"},"ranges":[{"type":"SEMVER","events":[{"introduced":"2.0.0"},{"fixed":"2.3.0"},{"introduced":"0"},{"fixed":"1.5.0"}]},{"type":"GIT","events":[{"introduced":"0"}]}]}]}`)
	write("last.json", `{"id":"GHSA-2","affected":[{"package":{"ecosystem":"npm","name":"p"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"last_affected":"1.4.9"}]}]}]}`)
	write("note.txt", "no vulnerability")
	write("broken.json", "{")

	node := func(dir, version string) entry {
		return entry{name: dir + "/node_modules/p/package.json", content: `{"name":"p","version":"` + version + `"}`}
	}
	inv := inventory(t, archive(t, entry{name: "etc/os-release", content: debian}, entry{name: "var/lib/dpkg/status", content: status},
		node("a", "1.4.9"), node("b", "1.5.0"), node("c", "2.2.9")))
	found, newest, err := Feed{dir}.Match(t.Context(), inv)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		got = append(got, fmt.Sprintf("%s %s %s@%s fixed %q", f.ID, f.Severity, f.Package.Name, f.Package.Version, f.Fixed))
	}
	want := []string{
		`CVE-2026-0001 CRITICAL libssl3@3.0.11-1~deb12u2+b1 fixed "3.0.11-1~deb12u3"`,
		`GHSA-1 MEDIUM p@1.4.9 fixed "1.5.0"`,
		`GHSA-1 MEDIUM p@2.2.9 fixed "2.3.0"`,
		`DSA-4 INFORMATIONAL libc6@2.36-9+deb12u4 fixed ""`,
		`GHSA-2 UNDEFINED p@1.4.9 fixed ""`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if newest.Format("2006-01-02") != "2026-11-01" || found[0].Score != 9.8 || found[1].URL != "https://example.com/1" {
		t.Errorf("got %v, %v, %v", newest, found[0].Score, found[1].URL)
	}
}

// What a layer holds must neither hang nor panic, nor go beyond the limits.
func FuzzImage(f *testing.F) {
	f.Add(archive(f, entry{name: "etc/os-release", content: debian}, entry{name: "var/lib/dpkg/status", content: status}))
	f.Add(gzipped(f, archive(f, entry{name: "lib/apk/db/installed", content: apk}, entry{name: "a/.wh.b"})))
	f.Add(archive(f, entry{name: "a/node_modules/b/package.json", content: `{"name":"b","version":"1"}`}, entry{name: "a/.wh..wh..opq"}))
	f.Add(archive(f, entry{"usr/bin/x", "\x7fELF" + string(goMark) + strings.Repeat("x", 5000), 0o755}))
	limits := Limits{Bytes: 1 << 20, Entries: 1000, File: 1 << 18, Packages: 1000}
	f.Fuzz(func(t *testing.T, layer []byte) {
		inv, err := Image(t.Context(), image(layer, layer), limits)
		if err == nil && len(inv.Packages) > limits.Packages {
			t.Errorf("%d packages", len(inv.Packages))
		}
	})
}
