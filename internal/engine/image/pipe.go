package image

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"

	"skerry/internal/base/gunzip"
)

const (
	chunk = 256 << 10 // bytes handed from one stage to the next
	ahead = 4         // chunks that a stage may be ahead
)

var chunks = sync.Pool{New: func() any { return new([chunk]byte) }}

// stage is a reader that reads ahead in a goroutine of its own, so that what makes
// the bytes and what takes them run side by side.
type stage struct {
	full    chan piece
	stop    chan struct{}
	stopped sync.Once
	done    chan struct{} // closed when the source is not read any more
	now     piece
	rest    []byte
}

type piece struct {
	buf *[chunk]byte
	n   int
	err error
}

// readAhead starts reading r. Close ends it and waits for the Read under way.
func readAhead(r io.Reader) *stage {
	s := &stage{full: make(chan piece, ahead), stop: make(chan struct{}), done: make(chan struct{})}
	go s.fill(r)
	return s
}

func (s *stage) fill(r io.Reader) {
	defer close(s.done)
	for {
		p := piece{buf: chunks.Get().(*[chunk]byte)}
		for p.n < chunk && p.err == nil {
			var n int
			n, p.err = r.Read(p.buf[p.n:])
			p.n += n
		}
		select {
		case s.full <- p:
		case <-s.stop:
			chunks.Put(p.buf)
			return
		}
		if p.err != nil {
			return
		}
	}
}

// Read implements io.Reader.
func (s *stage) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.now.err != nil {
			return 0, s.now.err
		}
		if s.now.buf != nil {
			chunks.Put(s.now.buf)
			s.now.buf = nil
		}
		s.now = <-s.full
		s.rest = s.now.buf[:s.now.n]
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

// Close ends the reading.
func (s *stage) Close() error {
	s.stopped.Do(func() { close(s.stop) })
	<-s.done
	return nil
}

// maxWindow is the memory that a zstd layer may ask for: what zstd's own program
// allows.
const maxWindow = 128 << 20

// decompress returns the content of a stream that is compressed by gzip or zstd, or
// is not.
func decompress(r io.Reader) (io.ReadCloser, error) {
	buf := bufio.NewReaderSize(r, 16) // larger reads go past it
	head, err := buf.Peek(4)
	if err != nil && err != io.EOF {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return io.NopCloser(gunzip.NewReader(buf)), nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(buf, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, fmt.Errorf("zstd: %w", err)
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(buf), nil
}
