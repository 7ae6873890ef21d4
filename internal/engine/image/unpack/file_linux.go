package unpack

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	page     = 4096
	roomStep = 8 << 20 // bytes between looks at the free space
)

var zeros [page]byte

// file unpacks a regular file. The space is looked at before it is used, so that
// a bomb ends before the disk is full.
func (x *extractor) file(parent int, base string, h *tar.Header, content io.Reader) error {
	fd, err := unix.Openat(parent, base, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if h.Size < 0 {
		return invalid("a negative size")
	}
	x.result.Size += h.Size
	if x.limits.Size > 0 && x.result.Size > x.limits.Size || x.result.Size < 0 {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, x.limits.Size)
	}
	if h.Size > roomStep || x.result.Size-x.checked > roomStep {
		if err := x.room(h.Size); err != nil {
			return err
		}
		x.checked = x.result.Size
	}
	if sparse(h) {
		err = x.writeSparse(fd, h.Size, content)
	} else {
		err = x.write(fd, h.Size, content)
	}
	if err != nil {
		return err
	}
	if err := x.describe(fd, h); err != nil {
		return err
	}
	return setTime(parent, base, h.ModTime)
}

// sparse tells whether the archive has only a part of the file's bytes.
func sparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (x *extractor) write(fd int, size int64, content io.Reader) error {
	for size > 0 {
		b := x.buf[:min(size, int64(len(x.buf)))]
		if _, err := io.ReadFull(content, b); err != nil {
			return short(err)
		}
		if err := writeAll(fd, b); err != nil {
			return err
		}
		size -= int64(len(b))
	}
	return nil
}

func short(err error) error {
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return broken(err)
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("write: %w", err)
		}
		b = b[n:]
	}
	return nil
}

// writeSparse leaves holes where there are zeros.
func (x *extractor) writeSparse(fd int, size int64, content io.Reader) error {
	if err := unix.Ftruncate(fd, size); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	for at := int64(0); at < size; {
		b := x.buf[:min(size-at, int64(len(x.buf)))]
		if _, err := io.ReadFull(content, b); err != nil {
			return short(err)
		}
		for len(b) > 0 {
			part := b[:min(page, len(b))]
			if !bytes.Equal(part, zeros[:len(part)]) {
				if n, err := unix.Pwrite(fd, part, at); err != nil {
					return fmt.Errorf("write: %w", err)
				} else if n < len(part) {
					return fmt.Errorf("write: %w", unix.ENOSPC)
				}
			}
			at += int64(len(part))
			b = b[len(part):]
		}
	}
	return nil
}
