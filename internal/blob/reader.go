package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// reader reads a file frame by frame.
type reader struct {
	ref    Ref
	file   *os.File
	frames frames
	size   int64
	pos    int64
	cached int64                     // number of the frame in frame, or -1
	frame  []byte                    // content
	own    *[burst * sealedSize]byte // of Read and WriteTo; holds frame
}

// Open implements Store.
func (f *Files) Open(_ context.Context, ref Ref, o OpenOptions) (Reader, error) {
	if !ref.Valid() {
		return nil, ErrNotFound
	}
	file, err := os.Open(f.path(ref))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("blob: open: %w", err)
	}
	r := &reader{ref: ref, file: file, cached: -1}
	if err := r.start(o.Key); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// start reads the header.
func (r *reader) start(key []byte) error {
	var header [headerSize]byte
	if _, err := r.file.ReadAt(header[:], 0); err != nil && err != io.EOF {
		return fmt.Errorf("blob: open %s: %w", r.ref, err)
	}
	st, err := r.file.Stat()
	if err != nil {
		return fmt.Errorf("blob: open %s: %w", r.ref, err)
	}
	if r.size = contentSize(st.Size()); r.size < 0 || string(header[:len(magic)]) != magic {
		return r.damaged()
	}
	switch mode := header[len(magic)]; {
	case mode == plainMode && key == nil, mode == encryptedMode && key != nil:
	case mode == plainMode, mode == encryptedMode:
		return ErrKey
	default:
		return r.damaged()
	}
	if r.frames, err = newFrames(key, header[len(magic)+1:]); err == nil && r.size == 0 {
		err = r.fetch(0) // nothing else would check it
	}
	return err
}

func (r *reader) damaged() error { return fmt.Errorf("%w: file %s", ErrDamaged, r.file.Name()) }

// Size implements Reader.
func (r *reader) Size() int64 { return r.size }

// lastFrame returns the number of the last frame.
func (r *reader) lastFrame() int64 { return max(0, (r.size-1)/frameSize) }

// load reads frames from n on into buf, as many as fit, there are and reach up to
// the content's end at end, and returns the sealed bytes.
func (r *reader) load(buf []byte, n, end int64) ([]byte, error) {
	count := min(int64(len(buf)/sealedSize), (end-1)/frameSize-n+1)
	if end <= n*frameSize {
		count = 1 // the empty last frame
	}
	from := int64(headerSize) + n*sealedSize
	to := min(from+count*sealedSize, int64(headerSize)+r.size+(r.lastFrame()+1)*tagSize)
	buf = buf[:to-from]
	if _, err := r.file.ReadAt(buf, from); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, r.damaged()
	} else if err != nil {
		return nil, fmt.Errorf("blob: read %s: %w", r.ref, err)
	}
	return buf, nil
}

// each calls fn with the content of off to end, a frame's part at a time, which
// lies in buf. fn must not keep it.
func (r *reader) each(buf *[burst * sealedSize]byte, off, end int64, fn func(part []byte) error) error {
	if off >= end {
		return nil
	}
	for n := off / frameSize; n*frameSize < end; {
		sealed, err := r.load(buf[:], n, end)
		if err != nil {
			return err
		}
		for len(sealed) > 0 {
			one := sealed[:min(sealedSize, len(sealed))]
			sealed = sealed[len(one):]
			content, err := r.frames.open(one[:0], one, n, n == r.lastFrame())
			if err != nil {
				return r.damaged()
			}
			start := n * frameSize
			n++
			if err := fn(content[max(0, off-start):min(int64(len(content)), end-start)]); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("blob: read at %d", off)
	}
	buf := buffers.Get().(*[burst * sealedSize]byte)
	defer buffers.Put(buf)
	return r.readAt(buf, p, off)
}

func (r *reader) readAt(buf *[burst * sealedSize]byte, p []byte, off int64) (int, error) {
	end := min(r.size, off+int64(len(p)))
	n := 0
	if err := r.each(buf, off, end, func(part []byte) error {
		n += copy(p[n:], part)
		return nil
	}); err != nil {
		return n, err
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.pos >= r.size {
		return 0, io.EOF
	}
	if len(p) >= frameSize { // no need to cache a frame
		n, err := r.readAt(r.scratch(), p, r.pos)
		if r.pos += int64(n); n > 0 && err == io.EOF {
			err = nil
		}
		return n, err
	}
	if n := r.pos / frameSize; n != r.cached {
		if err := r.fetch(n); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.frame[r.pos-r.cached*frameSize:])
	r.pos += int64(n)
	return n, nil
}

// scratch is the reader's own buffer, kept until it is closed. The cached frame,
// which lay in it, is forgotten.
func (r *reader) scratch() *[burst * sealedSize]byte {
	if r.own == nil {
		r.own = buffers.Get().(*[burst * sealedSize]byte)
	}
	r.cached = -1
	return r.own
}

// fetch makes frame n the cached one.
func (r *reader) fetch(n int64) error {
	sealed, err := r.load(r.scratch()[:sealedSize], n, r.size)
	if err != nil {
		return err
	}
	if r.frame, err = r.frames.open(sealed[:0], sealed, n, n == r.lastFrame()); err != nil {
		return r.damaged()
	}
	r.cached = n
	return nil
}

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.pos
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return r.pos, fmt.Errorf("blob: seek to %d", offset)
	}
	r.pos = offset
	return offset, nil
}

// WriteTo implements io.WriterTo: the rest of the content, a burst of frames at a
// time, put together in place.
func (r *reader) WriteTo(w io.Writer) (int64, error) {
	if r.pos >= r.size {
		return 0, nil
	}
	buf := r.scratch()
	start := r.pos
	for r.pos < r.size {
		first := r.pos / frameSize
		sealed, err := r.load(buf[:], first, r.size)
		if err != nil {
			return r.pos - start, err
		}
		joined := buf[:0]
		for n := first; len(sealed) > 0; n++ {
			one := sealed[:min(sealedSize, len(sealed))]
			sealed = sealed[len(one):]
			content, err := r.frames.open(one[:0], one, n, n == r.lastFrame())
			if err != nil {
				return r.pos - start, r.damaged()
			}
			joined = append(joined, content...)
		}
		n, err := w.Write(joined[r.pos-first*frameSize:])
		r.pos += int64(n)
		if err != nil {
			return r.pos - start, err
		}
	}
	return r.pos - start, nil
}

// Close implements io.Closer.
func (r *reader) Close() error {
	if r.own != nil {
		buffers.Put(r.own)
		r.own, r.frame, r.cached = nil, nil, -1
	}
	return r.file.Close()
}
