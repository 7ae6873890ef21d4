//go:build linux && amd64

package embedded

import (
	"context"
	"fmt"
	"io"
	"syscall"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/archive"
	"skerry/internal/engine/embedded/protocol"
)

// layer opens what a container has written above its image, whose id it returns.
func (d *Driver) layer(ctx context.Context, id engine.ID) (l archive.Layer, image string, done func(), err error) {
	reply, fds, err := d.call(ctx, &protocol.Request{Op: protocol.OpLayer, ID: id})
	if err != nil {
		return l, "", nil, err
	}
	if reply.Root == nil || len(fds) > 1 {
		return l, "", nil, fmt.Errorf("engine: the layer of %s: %d descriptors", id, len(fds))
	}
	l = archive.Layer{Upper: archive.Root{FD: -1, Base: reply.Root.Base}, Lower: reply.Root.Layers}
	done = func() {}
	if len(fds) == 1 {
		l.Upper.FD = fds[0]
		done = func() { syscall.Close(fds[0]) }
	}
	return l, reply.Root.Image, done, nil
}

// Changes lists what a container has changed.
func (d *Driver) Changes(ctx context.Context, id engine.ID) ([]engine.Change, error) {
	l, _, done, err := d.layer(ctx, id)
	if err != nil {
		return nil, err
	}
	defer done()
	all, err := l.Changes()
	if err != nil {
		return nil, fmt.Errorf("engine: changes of %s: %w", id, err)
	}
	return all, nil
}

// Written is how much that is.
func (d *Driver) Written(ctx context.Context, id engine.ID) (int64, error) {
	l, _, done, err := d.layer(ctx, id)
	if err != nil {
		return 0, err
	}
	defer done()
	n, err := l.Size()
	if err != nil {
		return 0, fmt.Errorf("engine: size of %s: %w", id, err)
	}
	return n, nil
}

// Commit makes an image of a container.
func (d *Driver) Commit(ctx context.Context, id engine.ID, spec engine.CommitSpec) (engine.Image, error) {
	if d.store == nil {
		return engine.Image{}, fmt.Errorf("engine: commit %s: this engine keeps no images: %w", id, engine.ErrUnsupported)
	}
	l, image, done, err := d.layer(ctx, id)
	if err != nil {
		return engine.Image{}, err
	}
	defer done()
	changes, err := l.Changes()
	if err != nil {
		return engine.Image{}, fmt.Errorf("engine: commit %s: %w", id, err)
	}
	var layer io.Reader
	if len(changes) > 0 {
		r, w := io.Pipe()
		written := make(chan struct{})
		go func() {
			defer close(written)
			_ = w.CloseWithError(l.Write(&upTo{ctx, w}))
		}()
		defer func() { _ = r.Close(); <-written }() // before the descriptors go
		layer = r
	}
	return d.store.Commit(ctx, image, layer, spec)
}

// upTo is written to as long as a ctx lasts.
type upTo struct {
	ctx context.Context
	w   io.Writer
}

func (u *upTo) Write(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(b)
}
