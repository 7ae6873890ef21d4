//go:build linux && amd64

package embedded

import (
	"context"
	"fmt"

	"skerry/internal/base/ids"
	"skerry/internal/engine"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/image"
)

// held is an image that cannot be removed until release is called.
type held struct {
	id      string
	layers  []string // folders, the lowest first
	release func()
}

// holder finds an image by its name or id.
type holder func(ctx context.Context, name string) (held, error)

// use makes an image store the engine's.
func (d *Driver) use(s *image.Store) {
	d.store = s
	d.hold = func(ctx context.Context, name string) (held, error) {
		h, err := s.Hold(ctx, name)
		return held{h.Image.ID, h.Layers, h.Release}, err
	}
}

// Images implements engine.Engine.
func (d *Driver) Images() engine.Images {
	if d.store == nil {
		return engine.NoImages{}
	}
	return d.store
}

// Create makes a container. The supervisor knows no images, so they are looked
// up here.
func (d *Driver) Create(ctx context.Context, spec engine.Spec) (engine.ID, error) {
	if _, _, err := d.make(ctx, &spec, protocol.Request{Op: protocol.OpCreate}); err != nil {
		return "", err
	}
	return spec.ID, nil
}

// make makes a container with a request, which it completes.
func (d *Driver) make(ctx context.Context, spec *engine.Spec, req protocol.Request) (*protocol.Reply, []int, error) {
	if err := spec.Validate(); err != nil {
		return nil, nil, err
	}
	if spec.ID == "" {
		spec.ID = engine.ID(ids.Hex(16))
	}
	if err := d.disks(ctx, spec.Root, spec.Mounts...); err != nil {
		return nil, nil, err
	}
	req.Spec = spec
	if spec.Root.Image != "" {
		if d.hold == nil {
			return nil, nil, fmt.Errorf("engine: image %s: this engine has no images: %w", spec.Root.Image, engine.ErrUnsupported)
		}
		h, err := d.hold(ctx, spec.Root.Image)
		if err != nil {
			return nil, nil, err
		}
		defer h.release() // from then on the container's Status tells of its image
		req.Image, req.Layers = h.id, h.layers
	}
	return d.call(ctx, &req)
}

// Launch makes a container with sockets inside and starts it, by one request: each
// wakes the other process and is waited for.
func (d *Driver) Launch(ctx context.Context, spec engine.Spec, sockets ...engine.Socket) (engine.ID, []engine.Listening, error) {
	_, fds, err := d.make(ctx, &spec, protocol.Request{Op: protocol.OpLaunch, Sockets: sockets})
	if err != nil {
		return "", nil, err
	}
	opened, err := d.opened(spec.ID, sockets, fds)
	if err != nil {
		_ = d.Remove(context.WithoutCancel(ctx), spec.ID) // the first error says more
		return "", nil, err
	}
	return spec.ID, opened, nil
}
