package wire_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"skerry/internal/wire"
)

// decode reads a request as the server does. Headers are "Name: value".
func decode[I any](t *testing.T, svc *wire.Service, line, body string, headers ...string) (*wire.Call, *I, error) {
	t.Helper()
	method, target, _ := strings.Cut(line, " ")
	path, query, _ := strings.Cut(target, "?")
	h := http.Header{}
	for _, text := range headers {
		name, value, _ := strings.Cut(text, ": ")
		h.Add(name, value)
	}
	r := &wire.Request{Method: method, Path: path, Query: query, Header: h, Body: strings.NewReader(body), Length: int64(len(body)), Host: "localhost:4566"}
	c, err := wire.Identify(svc, r)
	in := new(I)
	if err == nil {
		if _, ok := c.Operation.NewInput().(*I); !ok {
			t.Fatalf("identified as %s", c.Operation.Name)
		}
		err = c.Decode(in)
	}
	return c, in, err
}

// mustDecode fails the test if the request can't be read.
func mustDecode[I any](t *testing.T, svc *wire.Service, line, body string, headers ...string) *I {
	t.Helper()
	_, in, err := decode[I](t, svc, line, body, headers...)
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return in
}

// encode writes an answer as the server does.
func encode(t *testing.T, svc *wire.Service, p wire.Protocol, op string, out any, r *wire.Request) *httptest.ResponseRecorder {
	t.Helper()
	c := wire.NewCall(svc, p, r)
	c.Operation = svc.Operation(op)
	w := httptest.NewRecorder()
	if err := c.Encode(w, out, "request-1"); err != nil {
		t.Fatal(err)
	}
	return w
}

func fail(svc *wire.Service, p wire.Protocol, err error, r *wire.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	wire.NewCall(svc, p, r).EncodeError(w, err, "request-1")
	return w
}

func header(w *httptest.ResponseRecorder, name string) string { return canonical(w.Header()).Get(name) }

func contains(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in %s", want, text)
		}
	}
}
