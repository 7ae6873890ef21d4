package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/common"
)

// The versions of the API that are spoken.
const (
	maxVersion = "1.47"
	minVersion = "1.24"
)

// maxBody is the most bytes of a JSON body.
const maxBody = 8 << 20

// call is a request on its way: what its path and query say.
type call struct {
	*http.Request
	w     http.ResponseWriter
	vars  map[string]string
	query url.Values
	minor int // of the API version: 47 for 1.47
}

// handler answers a call, or returns why it cannot.
type handler func(c *call) error

// route is a place of the API. In its path {x} is one segment and {x...} one or
// more.
type route struct {
	method, path string
	handler      handler
}

// ServeHTTP answers one request of the Docker Engine API.
func (d *Daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Api-Version", maxVersion)
	head.Set("Docker-Experimental", "false")
	head.Set("Ostype", "linux")
	head.Set("Server", "Skerry/"+d.version+" (linux)")
	tracked := &tracker{ResponseWriter: w}
	if err := d.dispatch(tracked, r); err != nil {
		d.fail(tracked, r, err)
	}
}

func (d *Daemon) dispatch(w *tracker, r *http.Request) error {
	path, minor, err := cutVersion(r.URL.Path)
	if err != nil {
		return err
	}
	allowed := false
	for _, t := range d.routes {
		vars, ok := match(t.path, path)
		if !ok {
			continue
		}
		if t.method != r.Method {
			allowed = true
			continue
		}
		return t.handler(&call{Request: r, w: w, vars: vars, query: r.URL.Query(), minor: minor})
	}
	if allowed {
		return &fault{http.StatusMethodNotAllowed, "method not allowed"}
	}
	return notFound("page not found")
}

// fail tells the client why. Where the answer has begun, there is no way left
// to, and the connection ends early.
func (d *Daemon) fail(w *tracker, r *http.Request, err error) {
	code, text := status(err)
	if code >= http.StatusInternalServerError && code != http.StatusNotImplemented && code != http.StatusServiceUnavailable && r.Context().Err() == nil {
		d.log.Error("docker request failed", "method", r.Method, "path", r.URL.Path, "err", err)
	}
	if w.begun {
		return
	}
	if code == http.StatusNotModified {
		w.WriteHeader(code)
		return
	}
	_ = answer(w, code, common.ErrorResponse{Message: text}) // the client may be gone
}

// cutVersion takes the version off a path such as /v1.41/info.
func cutVersion(path string) (rest string, minor int, err error) {
	minor, _ = strconv.Atoi(strings.TrimPrefix(maxVersion, "1."))
	text, ok := strings.CutPrefix(path, "/v")
	if !ok || text == "" || text[0] < '0' || text[0] > '9' {
		return path, minor, nil
	}
	text, rest, _ = strings.Cut(text, "/")
	m, ok := strings.CutPrefix(text, "1.")
	asked, aerr := strconv.Atoi(m)
	least, _ := strconv.Atoi(strings.TrimPrefix(minVersion, "1."))
	switch {
	case !ok || aerr != nil || asked < 0:
		return "", 0, badRequest("invalid API version %q", text)
	case asked > minor:
		return "", 0, badRequest("client version %s is too new. Maximum supported API version is %s", text, maxVersion)
	case asked < least:
		return "", 0, badRequest("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", text, minVersion)
	}
	return "/" + rest, asked, nil
}

// match compares a path with a pattern and returns what stands for its names.
func match(pattern, path string) (map[string]string, bool) {
	ps, ss := strings.Split(pattern, "/"), strings.Split(path, "/")
	vars := map[string]string{}
	for i, p := range ps {
		name, isVar := strings.CutPrefix(p, "{")
		name = strings.TrimSuffix(name, "}")
		if many, ok := strings.CutSuffix(name, "..."); ok && isVar {
			tail := len(ps) - i - 1
			n := len(ss) - tail
			if n <= i {
				return nil, false
			}
			vars[many] = strings.Join(ss[i:n], "/")
			for j := range tail {
				if ps[i+1+j] != ss[n+j] {
					return nil, false
				}
			}
			return vars, vars[many] != ""
		}
		switch {
		case i >= len(ss):
			return nil, false
		case isVar && ss[i] != "":
			vars[name] = ss[i]
		case p != ss[i]:
			return nil, false
		}
	}
	return vars, len(ps) == len(ss)
}

// tracker knows whether an answer has begun.
type tracker struct {
	http.ResponseWriter
	begun bool
}

func (t *tracker) WriteHeader(code int)        { t.begun = true; t.ResponseWriter.WriteHeader(code) }
func (t *tracker) Write(b []byte) (int, error) { t.begun = true; return t.ResponseWriter.Write(b) }

// Unwrap lets http.ResponseController through.
func (t *tracker) Unwrap() http.ResponseWriter { return t.ResponseWriter }

// answer writes a JSON answer.
func answer(w http.ResponseWriter, code int, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("daemon: encode an answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, err = w.Write(append(text, '\n'))
	return err
}

// ok answers 200 with a value.
func (c *call) ok(v any) error { return answer(c.w, http.StatusOK, v) }

// created answers 201 with a value.
func (c *call) created(v any) error { return answer(c.w, http.StatusCreated, v) }

// done answers 204.
func (c *call) done() error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}

// body reads the JSON body. An empty one leaves v as it is.
func (c *call) body(v any) error {
	text, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, maxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &fault{http.StatusRequestEntityTooLarge, "the body is too large"}
	case err != nil:
		return badRequest("%v", err)
	case len(text) == 0:
		return nil
	}
	if err := json.Unmarshal(text, v); err != nil {
		return badRequest("invalid JSON: %v", err)
	}
	return nil
}

// flag reads a boolean of the query as Docker does: anything but a few words is
// true.
func (c *call) flag(name string) bool {
	switch strings.ToLower(strings.TrimSpace(c.query.Get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// number reads a number of the query.
func (c *call) number(name string, without int) (int, error) {
	text := c.query.Get(name)
	if text == "" {
		return without, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, badRequest("invalid %s: %q", name, text)
	}
	return n, nil
}

// flush sends what has been written, the head at least.
func (c *call) flush() {
	_ = http.NewResponseController(c.w).Flush() // the client may be gone: the next write says so
}

// stream begins an answer of unknown length.
func (c *call) stream(contentType string) *flusher {
	c.w.Header().Set("Content-Type", contentType)
	c.w.WriteHeader(http.StatusOK)
	c.flush()
	return &flusher{c}
}

// flusher sends every write at once.
type flusher struct{ c *call }

func (f *flusher) Write(b []byte) (int, error) {
	n, err := f.c.w.Write(b)
	f.c.flush()
	return n, err
}
