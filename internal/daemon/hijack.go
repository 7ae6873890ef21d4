package daemon

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"skerry/internal/engine"
)

// The types of streams.
const (
	rawStream  = "application/vnd.docker.raw-stream"         // a terminal's
	multiplied = "application/vnd.docker.multiplexed-stream" // stdout and stderr in frames
)

// wire is a connection taken over from HTTP: input one way, output the other.
type wire struct {
	net.Conn
	reading sync.Mutex // in has one reader at a time
	in      *bufio.Reader
}

// hijack takes the connection over and answers as an upgrade if that was asked
// for, else as Docker did before there were any.
func (c *call) hijack(contentType string) (*wire, error) {
	if c.minor < 42 {
		contentType = rawStream
	}
	if t, ok := c.w.(*tracker); ok {
		t.begun = true
	}
	conn, buf, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return nil, fmt.Errorf("daemon: take over a connection: %w", err)
	}
	head := "HTTP/1.1 200 OK\r\nContent-Type: " + contentType + "\r\n\r\n"
	if strings.EqualFold(c.Header.Get("Upgrade"), "tcp") {
		head = "HTTP/1.1 101 UPGRADED\r\nContent-Type: " + contentType + "\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nApi-Version: " + maxVersion + "\r\n\r\n"
	}
	if _, err := io.WriteString(conn, head); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return &wire{Conn: conn, in: buf.Reader}, nil
}

// Read reads what the client sends, what came with the request first.
func (w *wire) Read(b []byte) (int, error) {
	w.reading.Lock()
	defer w.reading.Unlock()
	return w.in.Read(b)
}

// farewell is how long a client is given to hang up after the end of the output.
const farewell = 2 * time.Second

// end says that no more comes, and hangs up after the client: a connection closed
// with input unread, which a program need not read, tells the client of a fault.
func (w *wire) end() {
	if c, ok := w.Conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		_ = w.SetReadDeadline(time.Now().Add(farewell))
		_, _ = io.Copy(io.Discard, w)
	}
	_ = w.Close()
}

// mux writes stdout and stderr into one stream: in frames, or as it is for a
// terminal. After a fault it swallows what comes, so that a program does not
// wait for a client that is gone.
type mux struct {
	mu   sync.Mutex
	w    io.Writer
	raw  bool
	gone bool
	head [8]byte
}

func (m *mux) write(stream engine.Stream, b []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone || len(b) == 0 {
		return nil
	}
	if !m.raw {
		m.head = [8]byte{byte(stream)}
		binary.BigEndian.PutUint32(m.head[4:], uint32(len(b)))
		b = append(m.head[:], b...)
	}
	_, err := m.w.Write(b)
	m.gone = err != nil
	return err
}

// stream returns the writer of one stream.
func (m *mux) stream(s engine.Stream) io.Writer { return muxStream{m, s} }

type muxStream struct {
	m *mux
	s engine.Stream
}

func (s muxStream) Write(b []byte) (int, error) {
	_ = s.m.write(s.s, b) // swallowed, see mux
	return len(b), nil
}
