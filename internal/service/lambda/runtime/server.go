package runtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
)

// Server answers the Runtime API. The zero Server is not usable: see NewServer.
type Server struct{ http http.Server }

type connKey struct{}

// conn remembers whose listener a connection came in by.
type conn struct {
	net.Conn
	endpoint *Endpoint
}

type listener struct {
	net.Listener
	endpoint *Endpoint
}

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn{c, l.endpoint}, nil
}

// NewServer makes a server.
func NewServer() *Server {
	s := &Server{}
	s.http = http.Server{
		Handler:                      http.HandlerFunc(s.serve),
		MaxHeaderBytes:               maxHeader,
		DisableGeneralOptionsHandler: true,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if own, ok := c.(conn); ok {
				return context.WithValue(ctx, connKey{}, own.endpoint)
			}
			return ctx
		},
	}
	return s
}

// Serve answers what comes in by a sandbox's listener, until that is closed.
func (s *Server) Serve(l net.Listener, e *Endpoint) {
	// Serve always returns an error; a closed listener is the only way it ends.
	_ = s.http.Serve(listener{l, e})
}

// Close ends all connections.
func (s *Server) Close() error { return s.http.Close() }

const maxHeader = 256 << 10

const base = "/2018-06-01/runtime/"

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	e, _ := r.Context().Value(connKey{}).(*Endpoint)
	if e == nil {
		fail(w, http.StatusNotFound, "UnknownSandbox", "no sandbox has this listener")
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, base)
	switch {
	case r.URL.Path == "/skerry/assignment" && r.Method == http.MethodGet:
		e.serveAssignment(w, r)
	case !ok:
		fail(w, http.StatusNotFound, "InvalidURL", "404 page not found")
	case path == "invocation/next" && r.Method == http.MethodGet:
		e.serveNext(w, r)
	case path == "init/error" && r.Method == http.MethodPost:
		e.serveInitError(w, r)
	case r.Method == http.MethodPost && strings.HasPrefix(path, "invocation/"):
		id, what, _ := strings.Cut(path[len("invocation/"):], "/")
		e.serveAnswer(w, r, id, what)
	default:
		fail(w, http.StatusNotFound, "InvalidURL", "404 page not found")
	}
}

func (e *Endpoint) serveAssignment(w http.ResponseWriter, r *http.Request) {
	b, err := e.awaitAssignment(r.Context())
	if err != nil {
		return
	}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(b))}
	_, _ = w.Write(b)
}

func (e *Endpoint) serveNext(w http.ResponseWriter, r *http.Request) {
	c, err := e.awaitCall(r.Context())
	if err != nil {
		return // the program is gone
	}
	i := &c.invocation
	h := w.Header()
	h["Date"] = nil
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(i.Payload))}
	h["Lambda-Runtime-Aws-Request-Id"] = []string{i.RequestID}
	h["Lambda-Runtime-Deadline-Ms"] = []string{strconv.FormatInt(i.Deadline.UnixMilli(), 10)}
	h["Lambda-Runtime-Invoked-Function-Arn"] = []string{i.FunctionARN}
	set := func(name, value string) {
		if value != "" {
			h[name] = []string{strings.NewReplacer("\r", " ", "\n", " ").Replace(value)}
		}
	}
	set("Lambda-Runtime-Trace-Id", i.TraceID)
	set("Lambda-Runtime-Client-Context", i.ClientContext)
	set("Lambda-Runtime-Cognito-Identity", i.Identity)
	_, _ = w.Write(i.Payload)
}

func (e *Endpoint) serveInitError(w http.ResponseWriter, r *http.Request) {
	e.bodies.Lock()
	defer e.bodies.Unlock()
	o, err := readOutcome(r, maxError)
	if err != nil {
		fail(w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	o.Failed = true
	if !e.failInit(o) {
		fail(w, http.StatusForbidden, "InvalidStateTransition",
			"State transition from Ready to InitError failed for runtime. Error: State transition is not allowed")
		return
	}
	accepted(w)
}

func (e *Endpoint) serveAnswer(w http.ResponseWriter, r *http.Request, id, what string) {
	if what != "response" && what != "error" {
		fail(w, http.StatusNotFound, "InvalidURL", "404 page not found")
		return
	}
	c := e.holds(id)
	if c == nil {
		fail(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
		return
	}
	e.bodies.Lock()
	defer e.bodies.Unlock()
	var o Outcome
	var err error
	if sink := c.invocation.Sink; sink != nil && what == "response" {
		o, err = streamOutcome(r, sink)
	} else {
		o, err = readOutcome(r, MaxResponse)
	}
	if err != nil {
		// The program broke off: what it has sent is no answer, and its exit or the
		// deadline ends the invocation.
		fail(w, http.StatusBadRequest, "InvalidRequest", err.Error())
		return
	}
	if what == "error" {
		o.Failed = true
	}
	if o.TooLarge {
		o.Failed, o.Payload, o.ErrorType = true, nil, "Function.ResponseSizeTooLarge"
	}
	if !e.finish(id, o) {
		fail(w, http.StatusBadRequest, "InvalidRequestID", "Invalid request ID")
		return
	}
	if o.TooLarge {
		fail(w, http.StatusRequestEntityTooLarge, "RequestEntityTooLarge",
			fmt.Sprintf("Exceeded maximum allowed payload size (%d bytes).", MaxResponse))
		return
	}
	accepted(w)
}

// readOutcome reads an answer of at most limit bytes; of a longer one the rest is
// read away, so that the program can go on to its next event.
func readOutcome(r *http.Request, limit int64) (Outcome, error) {
	var o Outcome
	var err error
	switch n := r.ContentLength; {
	case n > limit:
		o.TooLarge = true
	case n >= 0:
		o.Payload = make([]byte, n)
		_, err = io.ReadFull(r.Body, o.Payload)
	default:
		o.Payload, err = io.ReadAll(io.LimitReader(r.Body, limit+1))
		o.TooLarge = int64(len(o.Payload)) > limit
	}
	if o.TooLarge && err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<30))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return o, err
	}
	o.ErrorType = r.Header.Get("Lambda-Runtime-Function-Error-Type")
	o.readTrailer(r)
	return o, nil
}

// streamOutcome hands an answer on as it comes.
func streamOutcome(r *http.Request, sink Sink) (Outcome, error) {
	var o Outcome
	sink.Begin(r.Header.Get("Content-Type"))
	n, err := io.Copy(sink, io.LimitReader(r.Body, MaxStream+1))
	if err != nil {
		return o, err
	}
	if n > MaxStream {
		o.TooLarge = true
		return o, nil
	}
	o.readTrailer(r)
	return o, nil
}

// readTrailer sees whether an answer failed half way.
func (o *Outcome) readTrailer(r *http.Request) {
	o.ContentType = r.Header.Get("Content-Type")
	if t := r.Trailer.Get("Lambda-Runtime-Function-Error-Type"); t != "" {
		// A streamed answer that failed half way: its error takes the place of it.
		o.ErrorType, o.Failed = t, true
		if b, err := decodeTrailer(r.Trailer.Get("Lambda-Runtime-Function-Error-Body")); err == nil {
			o.Payload = b
		}
	}
}

func accepted(w http.ResponseWriter) {
	const body = `{"status":"OK"}` + "\n"
	h := w.Header()
	h["Date"] = nil
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, body)
}

func fail(w http.ResponseWriter, status int, kind, message string) {
	body, _ := json.Marshal(struct {
		Message string `json:"errorMessage"`
		Type    string `json:"errorType"`
	}{message, kind})
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
