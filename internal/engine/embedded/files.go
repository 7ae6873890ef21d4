//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"syscall"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/archive"
	"skerry/internal/engine/embedded/protocol"
)

// root gets a container's root from the supervisor, which reads no archives.
func (d *Driver) root(ctx context.Context, id engine.ID) (r archive.Root, readOnly bool, err error) {
	reply, fds, err := d.call(ctx, &protocol.Request{Op: protocol.OpRoot, ID: id})
	if err != nil {
		return r, false, err
	}
	if len(fds) != 1 || reply.Root == nil {
		return r, false, fmt.Errorf("engine: the root of %s: %d descriptors", id, len(fds))
	}
	return archive.Root{FD: fds[0], Base: reply.Root.Base}, reply.Root.ReadOnly, nil
}

// ReadFiles reads a container's files as an archive.
func (d *Driver) ReadFiles(ctx context.Context, id engine.ID, path string) (io.ReadCloser, error) {
	root, _, err := d.root(ctx, id)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { _ = r.CloseWithError(ctx.Err()) })
	go func() {
		defer syscall.Close(root.FD)
		defer stop()
		_ = w.CloseWithError(filesError(id, path, root.Read(path, w)))
	}()
	// the first bytes tell whether there is such a file
	first := make([]byte, 512)
	n, err := io.ReadFull(r, first)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		_ = r.Close()
		return nil, err
	}
	return &archived{r, first[:n]}, nil
}

// archived is an archive of which something has been read.
type archived struct {
	*io.PipeReader
	first []byte
}

func (a *archived) Read(b []byte) (int, error) {
	if len(a.first) > 0 {
		n := copy(b, a.first)
		a.first = a.first[n:]
		return n, nil
	}
	return a.PipeReader.Read(b)
}

// WriteFiles unpacks an archive in a container.
func (d *Driver) WriteFiles(ctx context.Context, id engine.ID, path string, files io.Reader) error {
	root, readOnly, err := d.root(ctx, id)
	if err != nil {
		return err
	}
	defer syscall.Close(root.FD)
	if readOnly {
		return filesError(id, path, archive.ErrReadOnly)
	}
	return filesError(id, path, root.Write(path, &until{ctx, files}))
}

// until reads as long as a ctx lasts.
type until struct {
	ctx context.Context
	r   io.Reader
}

func (u *until) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}

// filesError has Docker's texts.
func filesError(id engine.ID, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, archive.ErrInvalid):
		return fmt.Errorf("engine: files of %s: %w: %w", id, engine.ErrInvalid, err)
	case errors.Is(err, archive.ErrReadOnly):
		return fmt.Errorf("engine: files of %s: %w: %w", id, engine.ErrState, err)
	case errors.Is(err, archive.ErrNotFound):
		return fmt.Errorf("engine: Could not find the file %s in container %s: %w", path, id, fs.ErrNotExist)
	}
	return fmt.Errorf("engine: files of %s: %w", id, err)
}
