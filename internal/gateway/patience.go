package gateway

import (
	"errors"
	"io"
	"net/http"
	"os"
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
// A stream of HTTP/2 is not bounded: its deadline would end it for good, though
// only the handler was slow.
func (g *Gateway) bounded(w http.ResponseWriter, r *http.Request) *http.Request {
	if r.ProtoMajor != 1 || r.ContentLength == 0 || r.Body == nil {
		return r
	}
	b := &boundedBody{ReadCloser: r.Body, conn: http.NewResponseController(w), limit: g.patience}
	b.arm(b.limit)
	r = r.WithContext(r.Context())
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

// arm sets the time of the next piece; zero is for ever.
func (b *boundedBody) arm(limit time.Duration) {
	var at time.Time
	if limit > 0 {
		at = clock.Real.Now().Add(limit)
	}
	_ = b.conn.SetReadDeadline(at) // what has no deadlines waits, as before
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if !b.ended {
		b.arm(b.limit)
	}
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = awserr.New(http.StatusBadRequest, "RequestTimeout", "Your socket connection to the server was not read from or written to within the timeout period. Idle connections will be closed.")
		b.ended = true
	default: // from now on the server reads, to learn that the client leaves
		b.ended = true
		b.arm(0)
	}
	return n, err
}
