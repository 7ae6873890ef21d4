package blob

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"os"
)

// writer fills a buffer with frames and writes it when it is full. The last frame
// of a buffer is sealed only when more content comes, as it may be the last of all.
type writer struct {
	files   *Files
	file    *os.File // nil once committed or aborted
	frames  frames
	hash    hash.Hash
	expect  Ref
	buf     *[burst * sealedSize]byte
	used    int   // bytes of buf that are sealed frames
	fill    int   // bytes of content after them
	n       int64 // number of the frame being filled
	size    int64
	checked int64 // up to this size, there was room
	written int64 // up to this size, the kernel was told to write
	err     error
}

const roomStep = 8 << 20 // bytes between looks at the free space, and between hints to write

// Create implements Store.
func (f *Files) Create(_ context.Context, o CreateOptions) (Writer, error) {
	var header [headerSize]byte
	copy(header[:], magic)
	header[len(magic)] = plainMode
	salt := header[len(magic)+1:]
	if o.Key != nil {
		header[len(magic)] = encryptedMode
		_, _ = rand.Read(salt) // never fails, by its contract
	}
	fr, err := newFrames(o.Key, salt)
	if err != nil {
		return nil, err
	}
	if err := f.room(0); err != nil {
		return nil, err
	}
	file, err := os.CreateTemp(f.tmp, "new-*")
	if err != nil {
		return nil, fmt.Errorf("blob: create: %w", translate(err))
	}
	w := &writer{files: f, file: file, frames: fr, hash: sha256.New(), expect: o.Expect, buf: buffers.Get().(*[burst * sealedSize]byte)}
	w.checked = roomStep
	if o.Key != nil {
		w.hash.Write(header[:])
	}
	if _, err := file.Write(header[:]); err != nil {
		w.Abort()
		return nil, fmt.Errorf("blob: create: %w", translate(err))
	}
	return w, nil
}

// Size implements Writer.
func (w *writer) Size() int64 { return w.size }

// Write implements Writer.
func (w *writer) Write(p []byte) (int, error) {
	if w.file == nil {
		return 0, ErrClosed
	}
	if w.err != nil {
		return 0, w.err
	}
	total := len(p)
	for len(p) > 0 {
		if w.fill == frameSize {
			if w.seal(false); w.used == len(w.buf) {
				if w.err = w.flush(); w.err != nil {
					return total - len(p), w.err
				}
			}
		}
		n := copy(w.buf[w.used+w.fill:w.used+frameSize], p)
		if w.frames.aead == nil {
			w.hash.Write(p[:n])
		}
		w.fill += n
		w.size += int64(n)
		p = p[n:]
	}
	return total, nil
}

// seal ends the frame being filled.
func (w *writer) seal(last bool) {
	frame := w.frames.seal(w.buf[w.used:w.used+w.fill], w.n, last)
	if w.frames.aead != nil {
		w.hash.Write(frame[len(frame)-tagSize:])
	}
	w.used += len(frame)
	w.fill = 0
	w.n++
}

func (w *writer) flush() error {
	if w.size > w.checked {
		if err := w.files.room(roomStep); err != nil {
			return err
		}
		w.checked = w.size + roomStep
		if !w.files.relaxed {
			startWriteback(w.file, w.written, w.size-w.written) // about that much
			w.written = w.size
		}
	}
	if _, err := w.file.Write(w.buf[:w.used]); err != nil {
		return fmt.Errorf("blob: write: %w", translate(err))
	}
	w.used = 0
	return nil
}

// Commit implements Writer.
func (w *writer) Commit() (Ref, error) {
	defer w.Abort()
	if w.file == nil {
		return "", ErrClosed
	}
	if w.err != nil {
		return "", w.err
	}
	w.seal(true)
	if err := w.flush(); err != nil {
		return "", err
	}
	ref := Ref(hex.EncodeToString(w.hash.Sum(nil)))
	if w.expect != "" && ref != w.expect {
		return "", fmt.Errorf("%w: it is %s, not %s", ErrMismatch, ref, w.expect)
	}
	if err := w.keep(ref); err != nil {
		return "", fmt.Errorf("blob: commit: %w", translate(err))
	}
	return ref, nil
}

// keep makes the file durable under its name.
func (w *writer) keep(ref Ref) error {
	f := w.files
	if !f.relaxed {
		if err := w.file.Sync(); err != nil {
			return err
		}
	}
	name := w.file.Name()
	if err := w.file.Close(); err != nil {
		return err
	}
	w.done()
	f.names.Lock()
	err := os.Rename(name, f.path(ref))
	f.names.Unlock()
	if err != nil || f.relaxed {
		return err
	}
	return f.folder.Wait(func() error { return syncDir(f.dir) })
}

// Abort implements Writer.
func (w *writer) Abort() {
	if w.file == nil {
		return
	}
	w.file.Close()
	os.Remove(w.file.Name())
	w.done()
}

func (w *writer) done() {
	w.file = nil
	buffers.Put(w.buf)
	w.buf = nil
}
