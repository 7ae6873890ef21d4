package gateway_test

import (
	"slices"
	"strings"
	"testing"

	"skerry/internal/auth"
)

// A key that everybody knows counts only for this machine's names and pages; a
// key that is a secret counts wherever the request comes from.
func TestWellKnownKeys(t *testing.T) {
	tests := []struct {
		name, host, origin, path string
		c                        auth.Credential
		status                   int
	}{
		{"no page", "", "", "/", everybody, 200},
		{"own name", "s3.localhost:4566", "", "/", everybody, 200},
		{"AWS's name, from a sandbox", "s3.us-east-1.amazonaws.com", "", "/", everybody, 200},
		{"own page", "", "http://localhost:3000", "/", everybody, 200},
		{"own page over TLS", "", "https://127.0.0.1:4566", "/", everybody, 200},
		{"foreign page", "", "https://evil.example", "/", everybody, 403},
		{"frame without an origin", "", "null", "/", everybody, 403},
		{"page with a name like ours", "", "https://localhost.evil.example", "/", everybody, 403},
		{"page below AWS's name", "", "https://bucket.s3.amazonaws.com", "/", everybody, 403},
		{"foreign name for this machine", "rebound.example:4566", "", "/", everybody, 403},
		{"page that a bucket lets in", "", "https://friend.example", "/shared/k", everybody, 404},
		{"page that another bucket doesn't", "", "https://friend.example", "/b/k", everybody, 403},
		{"secret key, foreign page", "", "https://evil.example", "/", ann, 200},
		{"secret key, foreign name", "rebound.example", "", "/", ann, 200},
	}
	w := newWorld(t)
	for _, tt := range tests {
		r := w.request("GET", tt.path, "")
		r.Host = tt.host
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		got := w.send(r, tt.c, "s3", "")
		if got.status != tt.status {
			t.Errorf("%s: %d %s", tt.name, got.status, got.body)
		}
		if allowed := got.header.Get("Access-Control-Allow-Origin"); strings.Contains(tt.origin, "evil") && allowed != "" {
			t.Errorf("%s: %s may read the answer", tt.name, allowed)
		}
	}
}

func TestPreflightOfABucket(t *testing.T) {
	w := newWorld(t)
	friend, put := []string{"Origin", "https://friend.example"}, []string{"Access-Control-Request-Method", "PUT"}
	for _, tt := range []struct {
		path    string
		headers []string
		status  int
		text    string
	}{
		{"/shared/k", slices.Concat(friend, put), 200, ""},
		{"/b/k", slices.Concat(friend, put), 403, "<Code>AccessForbidden</Code><Message>CORSResponse: "},
		{"/shared/k", put, 400, "<Code>BadRequest</Code><Message>Insufficient information. Origin request header needed."},
		{"/shared/k", friend, 400, "<Message>Invalid Access-Control-Request-Method: null"},
	} {
		got := w.send(w.request("OPTIONS", tt.path, "", tt.headers...), auth.Credential{}, "", "")
		if got.status != tt.status || (got.header.Get("Access-Control-Allow-Origin") != "") != (tt.status == 200) || !strings.Contains(string(got.body), tt.text) {
			t.Errorf("%s %q: %d %v %s", tt.path, tt.headers, got.status, got.header, got.body)
		}
	}
}
