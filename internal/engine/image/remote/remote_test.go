package remote_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"skerry/internal/engine"
	"skerry/internal/engine/image/remote"
)

func serve(t *testing.T, fn http.HandlerFunc) (host, port string) {
	t.Helper()
	s := httptest.NewServer(fn)
	t.Cleanup(s.Close)
	host = strings.TrimPrefix(s.URL, "http://")
	_, port, err := net.SplitHostPort(host)
	if err != nil {
		t.Fatal(err)
	}
	return host, port
}

// TestLocalhost reaches names under localhost, which no resolver need know, over
// plain HTTP.
func TestLocalhost(t *testing.T) {
	var asked []string
	_, port := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Host)
		_, _ = io.WriteString(w, "{}")
	})
	c := remote.New(remote.Config{})
	defer c.Close()
	for _, host := range []string{"localhost:" + port, "000000000000.dkr.ecr.us-east-1.localhost:" + port, "127.0.0.1:" + port} {
		repo, err := c.Repository(host, "app", engine.Auth{}, false)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := repo.Resolve(t.Context(), "latest"); err != nil || asked[len(asked)-1] != host {
			t.Errorf("%s: %v, %v", host, asked, err)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:1": true, "a.b.localhost:1": true, "127.0.0.2:1": true, "[::1]:1": true, "::1": true,
		"example.com": false, "localhost.example.com": false, "notlocalhost": false, "10.0.0.1:1": false, "127.0.0.1.example.com": false,
	} {
		if got := remote.Loopback(host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
}

// TestCredentials does not tell them to strangers: not to where a download is
// redirected, not to mirrors.
func TestCredentials(t *testing.T) {
	var told []string
	note := func(who string, next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				told = append(told, who)
			}
			next(w, r)
		}
	}
	elsewhere, _ := serve(t, note("elsewhere", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "blob") }))
	mirror, _ := serve(t, note("mirror", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("WWW-Authenticate", "Basic realm=x")
		w.WriteHeader(http.StatusUnauthorized)
	}))
	own, _ := serve(t, note("registry", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", "Basic realm=x")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, port, _ := net.SplitHostPort(elsewhere)
		http.Redirect(w, r, "http://localhost:"+port+"/blob", http.StatusTemporaryRedirect)
	}))
	c := remote.New(remote.Config{Mirrors: map[string][]string{own: {"http://" + mirror}}})
	defer c.Close()
	repo, err := c.Repository(own, "app", engine.Auth{Username: "ann", Password: "secret"}, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := repo.Blob(t.Context(), "sha256:x", 4)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if text, err := io.ReadAll(b); err != nil || string(text) != "blob" {
		t.Errorf("%q, %v", text, err)
	}
	if len(told) != 1 || told[0] != "registry" {
		t.Errorf("credentials were told to %v", told)
	}
}

// TestRange reads on from a registry that knows no ranges, and not from one that
// answers another range.
func TestRange(t *testing.T) {
	const content = "0123456789"
	for name, c := range map[string]struct {
		rest func(w http.ResponseWriter)
		ok   bool
	}{
		"no ranges": {func(w http.ResponseWriter) { _, _ = io.WriteString(w, content) }, true},
		"another": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Range", "bytes 0-4/10")
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, content[:5])
		}, false},
		"gone": {func(w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, false},
	} {
		host, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Range") != "" {
				c.rest(w)
				return
			}
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, content[:5])
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		client := remote.New(remote.Config{})
		repo, err := client.Repository(host, "app", engine.Auth{}, false)
		if err != nil {
			t.Fatal(err)
		}
		b, err := repo.Blob(t.Context(), "sha256:x", 10)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(b)
		if ok := err == nil && string(text) == content; ok != c.ok {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		_ = b.Close()
		client.Close()
	}
}
