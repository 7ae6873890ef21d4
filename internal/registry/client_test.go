package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"skerry/internal/auth"
)

// client speaks HTTP to a registry.
type client struct {
	*world
	server   *httptest.Server
	password string
	host     string // Host header; empty: the server's address
}

// root is who the tests are unless they say otherwise.
var root = auth.Principal{Kind: auth.Root, Account: account, ARN: "arn:aws:iam::" + account + ":root", ID: account}

func newClient(t testing.TB) *client {
	t.Helper()
	w := newWorld(t)
	c := &client{world: w}
	// The registry of the moment: restart makes a new one.
	c.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.ServeHTTP(rw, r) }))
	t.Cleanup(c.server.Close)
	c.login(root)
	return c
}

func (c *client) login(p auth.Principal) {
	c.t.Helper()
	password, _, err := c.Tokens.Mint(c.t.Context(), p, region)
	c.must(err)
	c.password = password
}

// answer is what came back.
type answer struct {
	c      *client
	status int
	header http.Header
	body   []byte
}

// ask sends a request; headers come in pairs.
func (c *client) ask(method, path string, body io.Reader, headers ...string) *answer {
	c.t.Helper()
	return c.askWith(c.t.Context(), method, path, body, headers...)
}

func (c *client) askWith(ctx context.Context, method, path string, body io.Reader, headers ...string) *answer {
	c.t.Helper()
	if !strings.HasPrefix(path, "http://") {
		path = c.server.URL + path
	}
	r, err := http.NewRequestWithContext(ctx, method, path, body)
	c.must(err)
	if c.password != "" {
		r.SetBasicAuth("AWS", c.password)
	}
	if c.host != "" {
		r.Host = c.host
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := c.server.Client().Do(r)
	c.must(err)
	defer resp.Body.Close()
	a := &answer{c: c, status: resp.StatusCode, header: resp.Header}
	a.body, err = io.ReadAll(resp.Body)
	c.must(err)
	return a
}

func (a *answer) is(status int) *answer {
	a.c.t.Helper()
	if a.status != status {
		a.c.t.Fatalf("got %d, want %d: %s", a.status, status, a.body)
	}
	return a
}

// has checks a header.
func (a *answer) has(name, value string) *answer {
	a.c.t.Helper()
	if got := a.header.Get(name); got != value {
		a.c.t.Fatalf("%s is %q, want %q", name, got, value)
	}
	return a
}

// fails checks an error: its status, and its code in the form of the
// specification.
func (a *answer) fails(status int, code string) *answer {
	a.c.t.Helper()
	a.is(status)
	var e struct{ Errors []problem }
	if err := json.Unmarshal(a.body, &e); err != nil || len(e.Errors) == 0 || e.Errors[0].Code != code {
		a.c.t.Fatalf("got %s (%v), want the code %s", a.body, err, code)
	}
	return a
}

func (a *answer) into(v any) {
	a.c.t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		a.c.t.Fatalf("%v: %s", err, a.body)
	}
}

// location returns where to go on.
func (a *answer) location() string {
	a.c.t.Helper()
	l := a.header.Get("Location")
	if l == "" {
		a.c.t.Fatal("there is no Location")
	}
	return l
}

// start begins an upload.
func (c *client) start(name string) string {
	c.t.Helper()
	return c.ask("POST", "/v2/"+name+"/blobs/uploads/", nil).is(202).location()
}

// with adds a query parameter.
func with(location, query string) string {
	if strings.Contains(location, "?") {
		return location + "&" + query
	}
	return location + "?" + query
}

// push sends a layer and returns its descriptor.
func (c *client) push(name string, content []byte) Descriptor {
	c.t.Helper()
	d := Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip", Digest: Digest(content), Size: int64(len(content))}
	c.ask("PUT", with(c.start(name), "digest="+d.Digest), bytes.NewReader(content)).is(201)
	return d
}

// manifest pushes the blobs of an image and returns its manifest. extra is merged
// into it.
func (c *client) manifest(name, seed string, extra map[string]any) []byte {
	c.t.Helper()
	config := c.push(name, []byte(`{"seed":"`+seed+`"}`))
	config.MediaType = "application/vnd.oci.image.config.v1+json"
	m := map[string]any{
		"schemaVersion": 2, "mediaType": OCIManifest, "config": config, "layers": []Descriptor{c.push(name, []byte("layer "+seed))},
	}
	for k, v := range extra {
		m[k] = v
	}
	return marshal(c.t, m)
}

// tagged pushes an image under a tag or digest.
func (c *client) tagged(name, ref, seed string, extra map[string]any) []byte {
	c.t.Helper()
	body := c.manifest(name, seed, extra)
	if ref == "" {
		ref = Digest(body)
	}
	c.ask("PUT", "/v2/"+name+"/manifests/"+ref, bytes.NewReader(body), "Content-Type", OCIManifest).is(201)
	return body
}
