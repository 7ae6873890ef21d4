package image_test

import (
	"strings"
	"testing"

	"skerry/internal/engine/image"
)

const sum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestName(t *testing.T) {
	for text, want := range map[string][2]string{ // in full, familiar
		"busybox":                        {"docker.io/library/busybox:latest", "busybox:latest"},
		"busybox:1.36":                   {"docker.io/library/busybox:1.36", "busybox:1.36"},
		"docker.io/busybox":              {"docker.io/library/busybox:latest", "busybox:latest"},
		"index.docker.io/library/a":      {"docker.io/library/a:latest", "a:latest"},
		"me/app":                         {"docker.io/me/app:latest", "me/app:latest"},
		"localhost/app":                  {"localhost/app:latest", "localhost/app:latest"},
		"localhost:4566/app:v1":          {"localhost:4566/app:v1", "localhost:4566/app:v1"},
		"example.com/a/b/c":              {"example.com/a/b/c:latest", "example.com/a/b/c:latest"},
		"[::1]:5000/app":                 {"[::1]:5000/app:latest", "[::1]:5000/app:latest"},
		"HOST/app":                       {"HOST/app:latest", "HOST/app:latest"},
		"a@" + sum:                       {"docker.io/library/a@" + sum, "a@" + sum},
		"a:v1@" + sum:                    {"docker.io/library/a@" + sum, "a@" + sum},
		"a.b/c__d/e-f/g--h.i_j":          {"a.b/c__d/e-f/g--h.i_j:latest", "a.b/c__d/e-f/g--h.i_j:latest"},
		"a:" + strings.Repeat("T", 128):  {"docker.io/library/a:" + strings.Repeat("T", 128), "a:" + strings.Repeat("T", 128)},
		"1.dkr.ecr.x.localhost:4566/a:b": {"1.dkr.ecr.x.localhost:4566/a:b", "1.dkr.ecr.x.localhost:4566/a:b"},
	} {
		n, err := image.ParseName(text)
		if err != nil || n.String() != want[0] || n.Familiar() != want[1] {
			t.Errorf("%s: %s, %s, %v", text, n, n.Familiar(), err)
		}
		if again, err := image.ParseName(n.Familiar()); err != nil || again != n {
			t.Errorf("%s again: %+v, %v", text, again, err)
		}
	}
	for _, text := range []string{
		"", ":", "a:", "a:-x", "a:.x", "a:" + strings.Repeat("T", 129), "UPPER", "a/UPPER", "-a", "a-", "a..b", "a___b", "a//b", "/a", "a/", "_a", "a.-b",
		"a@sha256:12", "a@" + sum + "0", "a@md5:0123", "a b", "a\x00", "host:port/a", "-host.x/a", "host-.x/a", "a.b:/c", "[::1/a", strings.Repeat("a", 300),
		sum[7:], "../a", "a/../b", "a.b/../c", "é",
	} {
		if n, err := image.ParseName(text); err == nil {
			t.Errorf("%q: %+v", text, n)
		}
	}
}

func FuzzName(f *testing.F) {
	f.Add("localhost:4566/a/b:c")
	f.Add("a@" + sum)
	f.Fuzz(func(t *testing.T, text string) {
		n, err := image.ParseName(text)
		if err != nil {
			return
		}
		for _, form := range []string{n.String(), n.Familiar()} {
			if again, err := image.ParseName(form); err != nil || again != n {
				t.Errorf("%q: %+v; %q: %+v, %v", text, n, form, again, err)
			}
		}
		if strings.Contains(n.Path, "..") || strings.Contains(n.Host, "/") {
			t.Errorf("%q: %+v", text, n)
		}
	})
}
