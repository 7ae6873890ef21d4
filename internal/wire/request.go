package wire

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strings"

	"skerry/internal/base/awserr"
)

// Request is an HTTP request as the codecs read it: the parts of the request
// line raw, because Go's own parsers lose what S3 keys and odd queries carry.
type Request struct {
	Method string
	// Path is escaped, as on the request line and without the query. Requests in
	// S3's virtual-host style are brought into path style before.
	Path   string
	Query  string // raw, without the question mark
	Header http.Header
	// Body is what the client means, with chunk signatures removed and checked.
	// nil means none. An *awserr.Error from Read reaches the client as it is.
	Body io.Reader
	// Length is the number of bytes in Body, -1 if unknown. It wins over the
	// Content-Length header.
	Length int64
	Host   string
}

// NewRequest takes over an HTTP request as a server got it.
func NewRequest(r *http.Request) *Request {
	target := r.RequestURI
	if target == "" { // made by a client
		target = r.URL.RequestURI()
	}
	if rest, ok := strings.CutPrefix(target, "http://"); ok || strings.HasPrefix(target, "https://") {
		if !ok {
			rest = strings.TrimPrefix(target, "https://")
		}
		target = "/"
		if i := strings.IndexAny(rest, "/?"); i >= 0 {
			target = rest[i:]
		}
	}
	path, query, _ := strings.Cut(target, "?")
	if path == "" {
		path = "/"
	}
	return &Request{Method: r.Method, Path: path, Query: query, Header: r.Header, Body: r.Body, Length: r.ContentLength, Host: r.Host}
}

// header returns the first value of a header. The name is in the form that
// http.Header keeps it, which Get would see to each time.
func (r *Request) header(name string) string {
	if values := r.Header[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// errTooLarge is what a body beyond the service's limit answers.
func errTooLarge(svc *Service) *awserr.Error {
	if svc != nil && svc.NoErrorWrapping {
		return awserr.New(400, "MaxMessageLengthExceeded", "Your request was too big.")
	}
	return awserr.New(413, "RequestEntityTooLargeException", "The request body is too large.")
}

// readBody reads the whole body into memory, at most the service's limit, and
// undoes gzip where the service allows it.
func (c *Call) readBody() ([]byte, error) {
	r := c.request
	if r.Body == nil {
		return nil, nil
	}
	limit := int64(DefaultMaxRequest)
	if c.Service != nil && c.Service.MaxRequest > 0 {
		limit = c.Service.MaxRequest
	}
	if r.Length > limit {
		return nil, errTooLarge(c.Service)
	}
	b, err := readLimited(r.Body, r.Length, limit)
	if err != nil || c.Service == nil || c.Service.NoErrorWrapping {
		return c.orTooLarge(b, err)
	}
	if isGzip(r.header("Content-Encoding")) && len(b) > 0 {
		z, err := gzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, errSerialization("The request body is not valid gzip")
		}
		b, err = readLimited(z, -1, limit)
		if err != nil && !errors.Is(err, errLimit) {
			return nil, errSerialization("The request body is not valid gzip")
		}
		return c.orTooLarge(b, err)
	}
	return b, nil
}

// isGzip says whether gzip is the last coding that was put on a body.
func isGzip(encoding string) bool {
	_, last, _ := cutLast(","+encoding, ',')
	return strings.EqualFold(strings.TrimSpace(last), "gzip")
}

func (c *Call) orTooLarge(b []byte, err error) ([]byte, error) {
	if errors.Is(err, errLimit) {
		return nil, errTooLarge(c.Service)
	}
	return b, err
}

var errLimit = errors.New("wire: body beyond the limit")

// readLimited reads r to its end. size is a hint, -1 for none.
func readLimited(r io.Reader, size, limit int64) ([]byte, error) {
	if whole, ok := r.(interface{ Bytes() []byte }); ok && whole.Bytes() != nil { // it had to be read for its signature
		if b := whole.Bytes(); int64(len(b)) <= limit {
			return b, nil
		}
		return nil, errLimit
	}
	room := int64(bytes.MinRead)
	if size >= 0 {
		room = min(size, 1<<20) + 1 // so that the end is seen without growing
	}
	first := make([]byte, room)
	n, err := io.ReadFull(r, first)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		first, err = first[:n], nil
		if int64(n) > limit {
			err = errLimit
		}
		return first, err
	}
	if err != nil {
		return nil, err
	}
	b := bytes.NewBuffer(first)
	if _, err := b.ReadFrom(io.LimitReader(r, limit+1-int64(n))); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, errLimit
	}
	return b.Bytes(), nil
}

// errSerialization is the answer to a body that can't be parsed.
func errSerialization(message string) *awserr.Error {
	return &awserr.Error{Code: "SerializationException", Message: message, Status: 400}
}
