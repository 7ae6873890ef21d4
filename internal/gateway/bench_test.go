package gateway_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"skerry/internal/auth"
)

// serve runs one signed request through the gateway again and again, without a
// socket: what is measured is all that the gateway adds.
func serve(b *testing.B, what call, c auth.Credential) {
	w := newWorld(b)
	r := httptest.NewRequest(what.method, what.path, nil)
	r.Host = "127.0.0.1:4566"
	for i := 0; i < len(what.headers); i += 2 {
		r.Header.Set(what.headers[i], what.headers[i+1])
	}
	auth.Sign(r, c, "us-east-1", what.service, []byte(what.body), now)
	body := strings.NewReader(what.body)
	r.ContentLength = int64(len(what.body))
	out := &discard{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		body.Reset(what.body)
		r.Body = io.NopCloser(body)
		clear(out.header)
		out.status = 0
		w.gateway.ServeHTTP(out, r)
		if out.status != 200 {
			b.Fatalf("status %d", out.status)
		}
	}
}

// discard is a ResponseWriter that keeps nothing but the status.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

func BenchmarkJSONCall(b *testing.B) {
	serve(b, sqsCall("SendMessage", `{"QueueUrl":"http://127.0.0.1:4566/123456789012/q","MessageBody":"hello"}`), ann)
}

func BenchmarkPutObject1KiB(b *testing.B) {
	serve(b, call{"PUT", "/bucket/key", string(bytes.Repeat([]byte("x"), 1024)), "s3", nil}, ann)
}
