package registry

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"skerry/internal/auth"
	"skerry/internal/store"
)

// cache is a registry whose repositories below hub/ come from another.
func cache(t *testing.T, up *Upstream) *client {
	t.Helper()
	c := newClient(t)
	c.Use(Hooks{
		Upstream: func(context.Context, Repo) (*Upstream, error) { return up, nil },
		Fetched: func(ctx context.Context, _ auth.Scope, r Repo) error {
			err := c.Store.Update(ctx, func(tx *store.Tx) error { return c.CreateRepository(tx, &Repository{Repo: r}) })
			if CodeOf(err) == RepositoryExists {
				return nil
			}
			return err
		},
	})
	return c
}

func TestPullThrough(t *testing.T) {
	origin := newClient(t)
	origin.repo("library/app")
	body := origin.tagged("library/app", "v1", "one", nil)
	layer := bytes.Repeat([]byte("layer"), 100_000)
	big := origin.push("library/app", layer)
	up := &Upstream{Base: origin.server.URL, Name: "library/app", User: "AWS", Password: origin.password}
	c := cache(t, up)

	if a := c.ask("GET", "/v2/hub/app/manifests/v1", nil).is(200).has("Docker-Content-Digest", Digest(body)); !bytes.Equal(a.body, body) {
		t.Fatal("other bytes")
	}
	c.ask("HEAD", "/v2/hub/app/blobs/"+big.Digest, nil).is(200).has("Content-Length", fmt.Sprint(len(layer)))
	if a := c.ask("GET", "/v2/hub/app/blobs/"+big.Digest, nil).is(200); !bytes.Equal(a.body, layer) {
		t.Fatal("other bytes")
	}
	c.ask("GET", "/v2/hub/app/blobs/"+Digest([]byte("layer one")), nil, "Range", "bytes=0-4").is(206)
	c.ask("GET", "/v2/hub/app/manifests/v2", nil).fails(404, "MANIFEST_UNKNOWN")

	// A tag that moves is seen a day later; what is here is served when the other is gone.
	second := origin.tagged("library/app", "v1", "two", nil)
	c.ask("GET", "/v2/hub/app/manifests/v1", nil).is(200).has("Docker-Content-Digest", Digest(body))
	c.clock.Advance(freshness)
	c.login(root)
	origin.clock.Advance(time.Hour)
	c.ask("GET", "/v2/hub/app/manifests/v1", nil).is(200).has("Docker-Content-Digest", Digest(second))
	origin.server.Close()
	c.clock.Advance(freshness)
	c.login(root)
	c.ask("GET", "/v2/hub/app/manifests/v1", nil).is(200).has("Docker-Content-Digest", Digest(second))
	if a := c.ask("GET", "/v2/hub/app/blobs/"+big.Digest, nil).is(200); !bytes.Equal(a.body, layer) {
		t.Fatal("other bytes")
	}
}

func TestPullThroughWithToken(t *testing.T) {
	origin := newClient(t)
	origin.repo("app")
	origin.tagged("app", "v1", "one", nil)
	var asked string
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token":
			user, _, _ := r.BasicAuth()
			asked = user + " " + r.URL.Query().Get("service") + " " + r.URL.Query().Get("scope")
			fmt.Fprint(w, `{"token":"t0ken"}`)
		case r.Header.Get("Authorization") != "Bearer t0ken":
			w.Header().Set("Www-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="hub, the",scope="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			r.SetBasicAuth("AWS", origin.password)
			origin.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	c := cache(t, &Upstream{Base: front.URL, Name: "app", User: "me", Password: "secret"})
	c.ask("GET", "/v2/hub/app/manifests/v1", nil).is(200)
	if asked != "me hub, the repository:app:pull" {
		t.Fatal(asked)
	}
	c.ask("GET", "/v2/hub/app/blobs/"+Digest([]byte("layer one")), nil).is(200)
}

func TestPullThroughKeepsNothingThatIsNotTheDigests(t *testing.T) {
	want := Digest([]byte("what was asked for"))
	lying := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "something else") }))
	t.Cleanup(lying.Close)
	c := cache(t, &Upstream{Base: lying.URL, Name: "app"})
	c.repo("hub/app")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.server.URL+"/v2/hub/app/blobs/"+want, nil)
	c.must(err)
	r.SetBasicAuth("AWS", c.password)
	if resp, err := c.server.Client().Do(r); err == nil {
		resp.Body.Close()
	}
	c.must(c.Store.View(t.Context(), func(tx *store.Tx) error {
		_, err := c.Blob(tx, id("hub/app"), want)
		c.code(err, LayerNotFound)
		return nil
	}))
}
