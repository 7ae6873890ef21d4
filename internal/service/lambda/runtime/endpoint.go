// Package runtime is the side of Lambda that a function sees: the Runtime API
// ("Using the Lambda runtime API for custom runtimes"), and the programs that run
// Python and Node.js handlers over it.
//
// A Server serves any number of sandboxes, each through a listener of its own
// inside the sandbox: the listener says who calls. What one sandbox does there is
// its Endpoint.
//
// Not built: the extensions API, the telemetry API, and the restore phase of
// SnapStart.
package runtime

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"
)

// The limits of "Lambda quotas".
const (
	// MaxResponse is the largest answer of a buffered invocation, in bytes: 6 MB
	// and what Lambda allows on top of it.
	MaxResponse = 6<<20 + 100
	// MaxStream is the largest streamed answer, in bytes.
	MaxStream = 200 << 20
	maxError  = MaxResponse
)

// Invocation is an event on its way to a function.
type Invocation struct {
	RequestID     string
	Payload       []byte
	Deadline      time.Time
	FunctionARN   string // as it was invoked: with the alias or version, if any
	TraceID       string // X-Amzn-Trace-Id
	ClientContext string // JSON, already decoded from base64
	Identity      string // Cognito identity as JSON
	// Sink, if set, gets the answer as the program sends it, and Outcome has none.
	Sink Sink
}

// Sink takes an answer that is streamed.
type Sink interface {
	// Begin is called once, before the first Write.
	Begin(contentType string)
	io.Writer
}

// Outcome is what a function made of an invocation, or of its initialisation.
type Outcome struct {
	Payload     []byte
	ContentType string
	// ErrorType is set when the function failed: Lambda-Runtime-Function-Error-Type.
	ErrorType string
	Failed    bool
	// TooLarge: the answer was over MaxResponse and was thrown away.
	TooLarge bool
	At       time.Time // when it was complete
}

// ErrBusy says that the endpoint already has an invocation.
var ErrBusy = errors.New("runtime: the sandbox is busy")

// Endpoint is one sandbox's Runtime API. Its host gives it an assignment (once)
// and invocations (one at a time), and waits for what comes of them.
type Endpoint struct {
	mu         sync.Mutex
	assignment []byte
	assigned   chan struct{} // closed when there is an assignment
	waiting    chan struct{} // closed when the program asks for its assignment
	ready      chan struct{} // closed at the first request for an event
	readyAt    time.Time
	initError  chan Outcome // of POST /init/error; holds one
	next       chan *call   // to the program that waits
	current    *call        // delivered and not answered
	bodies     sync.Mutex   // one is read at a time: a program sends no two, unless to fill our memory
	now        func() time.Time
}

type call struct {
	invocation Invocation
	outcome    chan Outcome // holds one
}

// NewEndpoint makes an endpoint. now is the host's clock.
func NewEndpoint(now func() time.Time) *Endpoint {
	return &Endpoint{
		assigned: make(chan struct{}), waiting: make(chan struct{}), ready: make(chan struct{}),
		initError: make(chan Outcome, 1), next: make(chan *call, 1), now: now,
	}
}

// Assign gives a program that was started ahead its environment: a JSON object of
// names and values.
func (e *Endpoint) Assign(environment []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.assignment == nil {
		e.assignment = environment
		close(e.assigned)
	}
}

// Waiting is closed once the program waits for its assignment.
func (e *Endpoint) Waiting() <-chan struct{} { return e.waiting }

// Ready is closed once the program has asked for its first event, which ends its
// initialisation.
func (e *Endpoint) Ready() <-chan struct{} { return e.ready }

// ReadyAt is when Ready was closed.
func (e *Endpoint) ReadyAt() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.readyAt
}

// InitFailed receives the error of an initialisation that the program reported.
func (e *Endpoint) InitFailed() <-chan Outcome { return e.initError }

// Invoke hands an event to the program, now or as soon as it asks for one. The
// channel receives the outcome; a program that dies or hangs sends none.
func (e *Endpoint) Invoke(i Invocation) (<-chan Outcome, error) {
	c := &call{invocation: i, outcome: make(chan Outcome, 1)}
	select {
	case e.next <- c:
		return c.outcome, nil
	default:
		return nil, ErrBusy
	}
}

// awaitAssignment blocks until there is an assignment.
func (e *Endpoint) awaitAssignment(ctx context.Context) ([]byte, error) {
	e.mu.Lock()
	select {
	case <-e.waiting:
	default:
		close(e.waiting)
	}
	e.mu.Unlock()
	select {
	case <-e.assigned:
		return e.assignment, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// awaitCall blocks until there is an event for the program. An event that was
// delivered before and never answered is delivered again: the program lost it.
func (e *Endpoint) awaitCall(ctx context.Context) (*call, error) {
	e.mu.Lock()
	select {
	case <-e.ready:
	default:
		e.readyAt = e.now()
		close(e.ready)
	}
	if c := e.current; c != nil {
		e.mu.Unlock()
		return c, nil
	}
	e.mu.Unlock()
	select {
	case c := <-e.next:
		e.mu.Lock()
		e.current = c
		e.mu.Unlock()
		return c, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// holds returns the event being worked on, if it has that request id.
func (e *Endpoint) holds(requestID string) *call {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil || e.current.invocation.RequestID != requestID {
		return nil
	}
	return e.current
}

// finish ends the current event. It tells whether there was one of that id.
func (e *Endpoint) finish(requestID string, o Outcome) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.current
	if c == nil || c.invocation.RequestID != requestID {
		return false
	}
	e.current = nil
	o.At = e.now()
	c.outcome <- o
	return true
}

// failInit reports an initialisation error; false if there was one already or
// the initialisation is over.
func (e *Endpoint) failInit(o Outcome) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	o.At = e.now()
	select {
	case <-e.ready:
		return false
	default:
	}
	select {
	case e.initError <- o:
		return true
	default:
		return false
	}
}
