package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
)

// patience is how long a client may send nothing in the middle of a body. However
// slow it is, an upload may take as long as it takes.
const patience = 30 * time.Second

// bounded returns the request with a body that ends if the client leaves off
// sending. The server's own request stays as it is: it looks at its body to know
// whether to read the rest before the answer, which the deadline bounds as well.
func (g *Gateway) bounded(w http.ResponseWriter, r *http.Request) *http.Request {
	if r.ContentLength == 0 || r.Body == nil {
		return r
	}
	body := r.Body
	r = r.WithContext(r.Context())
	if r.ProtoMajor != 1 {
		r.Body = &boundedStream{ReadCloser: body, limit: g.patience}
		return r
	}
	b := &boundedBody{ReadCloser: body, conn: http.NewResponseController(w), limit: g.patience}
	b.arm()
	r.Body = b
	return r
}

// boundedBody is a body of which each piece must come in time.
type boundedBody struct {
	io.ReadCloser
	conn  *http.ResponseController
	limit time.Duration
	ended bool
}

// arm sets the time by which the next piece must come. At the body's end net/http
// takes it back, as it begins to wait for the client's leaving.
func (b *boundedBody) arm() {
	_ = b.conn.SetReadDeadline(clock.Real.Now().Add(b.limit)) // what has no deadlines waits, as before
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if !b.ended {
		b.arm()
	}
	n, err := b.ReadCloser.Read(p)
	b.ended = err != nil
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = errLeftOff
	}
	return n, err
}

var errLeftOff = awserr.New(http.StatusBadRequest, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.")

// boundedStream is the same of HTTP/2, where a deadline would end the stream for
// good though only the handler was slow: time counts while the handler waits.
type boundedStream struct {
	io.ReadCloser
	limit time.Duration
	late  atomic.Bool
}

// Read implements io.Reader.
func (b *boundedStream) Read(p []byte) (int, error) {
	end := time.AfterFunc(b.limit, func() {
		b.late.Store(true)
		_ = b.Close() // ends Read, which on HTTP/1 it would wait for
	})
	defer end.Stop()
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && b.late.Load() {
		err = errLeftOff
	}
	return n, err
}
