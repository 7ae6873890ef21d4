package remote

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"skerry/internal/engine"
)

// locked is a registry that wants a password. The first two requests without one
// are answered only when both are there.
func locked(t *testing.T) (host string) {
	t.Helper()
	var both sync.WaitGroup
	both.Add(2)
	var mu sync.Mutex
	left := 2
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pass, _ := r.BasicAuth(); pass == "right" {
			return
		}
		mu.Lock()
		wait := left > 0
		left--
		mu.Unlock()
		if wait && strings.Contains(r.URL.Path, "/blobs/") {
			both.Done()
			both.Wait()
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestLogin(t *testing.T) {
	c := New(Config{})
	defer c.Close()
	host := locked(t)
	if err := c.Login(t.Context(), host, engine.Auth{Username: "u", Password: "right"}); err != nil {
		t.Error(err)
	}
	for _, a := range []engine.Auth{{}, {Username: "u", Password: "wrong"}} {
		if err := c.Login(t.Context(), host, a); !errors.Is(err, ErrDenied) {
			t.Errorf("%+v: %v", a, err)
		}
	}
}

// Two requests are asked to sign in at the same time: the second one finds that
// the first has done so.
func TestSignInTogether(t *testing.T) {
	c := New(Config{})
	defer c.Close()
	r, err := c.Repository(locked(t), "a", engine.Auth{Username: "u", Password: "right"}, true)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	for _, digest := range []string{"sha256:1", "sha256:2"} {
		done.Go(func() {
			if ok, err := r.HasBlob(t.Context(), digest); !ok || err != nil {
				t.Errorf("%s: %v %v", digest, ok, err)
			}
		})
	}
	done.Wait()
}
