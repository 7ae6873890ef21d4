// Package listen owns the sockets: HTTP/1.1, HTTP/2 in clear text (by prior
// knowledge, as the JavaScript SDK speaks it to Kinesis) and TLS on one port,
// and the doors: which handler a request is for. Nothing rewrites a path on the
// way, since S3's keys need it as it was sent.
package listen

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// The bounds on a connection. There is none on a whole request: an upload may
// take hours, and a function a quarter of one.
const (
	firstByteTimeout  = 30 * time.Second
	readHeaderTimeout = 30 * time.Second
	idleTimeout       = 3 * time.Minute
	maxHeaderBytes    = 64 << 10
)

// A Door is a handler and the requests it is for.
type Door struct {
	Name    string
	Match   func(r *http.Request) bool
	Handler http.Handler
}

// Server serves listeners: the public one, and those inside of sandboxes.
type Server struct {
	http   *http.Server
	closed chan struct{}
	once   sync.Once
}

// New makes a server. The first door that matches gets a request; otherwise
// does the rest. The authority's certificates answer TLS.
func New(doors []Door, otherwise http.Handler, authority *Authority, log *slog.Logger) *Server {
	s := &Server{closed: make(chan struct{})}
	s.http = &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			for _, d := range doors {
				if d.Match(r) {
					d.Handler.ServeHTTP(w, r)
					return
				}
			}
			otherwise.ServeHTTP(w, r)
		}),
		ReadHeaderTimeout: readHeaderTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		TLSConfig:         &tls.Config{GetCertificate: authority.Certificate, MinVersion: tls.VersionTLS12},
		Protocols:         new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true)
	s.http.Protocols.SetHTTP2(true)
	s.http.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// Serve accepts connections, clear text and TLS alike, until the listener or
// the server is closed. Several listeners may be served at once.
func (s *Server) Serve(l net.Listener) error {
	clear, secure := newQueue(l.Addr()), newQueue(l.Addr())
	ended := make(chan error, 2)
	go func() { ended <- s.http.Serve(clear) }()
	go func() { ended <- s.http.ServeTLS(secure, "", "") }()
	err := s.accept(l, clear, secure)
	clear.Close()
	secure.Close()
	<-ended
	<-ended
	select {
	case <-s.closed:
		return nil
	default:
		return err
	}
}

// accept hands each connection to the queue that its first byte asks for.
func (s *Server) accept(l net.Listener, clear, secure *queue) error {
	go func() {
		select {
		case <-s.closed:
		case <-clear.done:
		}
		l.Close()
	}()
	for pause := time.Duration(0); ; {
		c, err := l.Accept()
		if err != nil {
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() && pause < time.Second {
				// Out of descriptors, most likely: wait for some to be closed.
				pause = max(2*pause, 5*time.Millisecond)
				time.Sleep(pause)
				continue
			}
			return err
		}
		pause = 0
		go sniff(c, clear, secure)
	}
}

// tlsHandshake is the first byte of every TLS connection (RFC 8446, 5.1).
const tlsHandshake = 0x16

// sniff reads the first byte of a connection and hands it on.
func sniff(c net.Conn, clear, secure *queue) {
	p := &peeked{Conn: c, r: bufio.NewReaderSize(c, 4096)}
	_ = c.SetReadDeadline(time.Now().Add(firstByteTimeout)) // a failure shows in the read
	first, err := p.r.Peek(1)
	if err != nil {
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	if first[0] == tlsHandshake {
		secure.add(p)
		return
	}
	clear.add(p)
}

// peeked is a connection of which some bytes have been read ahead.
type peeked struct {
	net.Conn
	r *bufio.Reader // nil once it has been emptied
}

func (p *peeked) Read(b []byte) (int, error) {
	if p.r != nil {
		if p.r.Buffered() > 0 {
			return p.r.Read(b)
		}
		p.r = nil
	}
	return p.Conn.Read(b)
}

// queue is a net.Listener of connections that something else accepts.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
	addr  net.Addr
}

func newQueue(a net.Addr) *queue {
	return &queue{conns: make(chan net.Conn), done: make(chan struct{}), addr: a}
}

func (q *queue) add(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		c.Close()
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener.
func (q *queue) Addr() net.Addr { return q.addr }

// Shutdown stops accepting, waits for the requests under way until ctx ends, and
// then cuts what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.once.Do(func() { close(s.closed) })
	err := s.http.Shutdown(ctx)
	if err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}
