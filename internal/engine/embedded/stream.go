//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/embedded/segment"
)

// stream makes a request on a connection of its own and gives every answer.
func (d *Driver) stream(ctx context.Context, req *protocol.Request, fn func(*protocol.Reply) error) error {
	c, err := d.connect(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return stream(ctx, c, req, fn)
}

func stream(ctx context.Context, c *protocol.Conn, req *protocol.Request, fn func(*protocol.Reply) error) error {
	if err := c.Send(req); err != nil {
		return fmt.Errorf("engine: the supervisor: %w", err)
	}
	for {
		r, _, err := receive(ctx, c)
		if err == nil {
			err = r.Error.Err()
		}
		if err == nil {
			err = fn(r)
		}
		if err != nil || !r.More {
			return err
		}
	}
}

// Events tells what happens. When the supervisor ends or is upgraded, it returns an
// error: ask again from the last cursor.
func (d *Driver) Events(ctx context.Context, after engine.Cursor, fn func(engine.Event) error) error {
	return d.stream(ctx, &protocol.Request{Op: protocol.OpEvents, After: after}, func(r *protocol.Reply) error {
		if r.Event == nil {
			return nil
		}
		return fn(*r.Event)
	})
}

// List tells of all.
func (d *Driver) List(ctx context.Context) (all []engine.Status, err error) {
	for tries := (tries{}); ; {
		all = nil
		c, err := d.connect(ctx)
		if err != nil {
			return nil, err
		}
		err = stream(ctx, c, &protocol.Request{Op: protocol.OpList}, func(r *protocol.Reply) error {
			if r.Status != nil {
				all = append(all, *r.Status)
			}
			return nil
		})
		again := err != nil && tries.again(ctx, c, err)
		_ = c.Close()
		if !again {
			return all, err
		}
	}
}

// Logs reads the container's segment files, as far as the supervisor says that
// they reach.
func (d *Driver) Logs(ctx context.Context, id engine.ID, q engine.LogQuery, fn func(engine.Frame) error) error {
	dir := filepath.Join(d.cfg.Data, "logs", string(id))
	from := int64(q.From)
	for wait := false; ; wait = true {
		r, _, err := d.call(ctx, &protocol.Request{Op: protocol.OpLog, ID: id, After: engine.Cursor(from), Wait: wait})
		if errors.Is(err, engine.ErrNotFound) && wait {
			return nil // removed meanwhile
		}
		if err != nil {
			return err
		}
		if from, err = segment.Read(dir, from, int64(r.Log.End), fn); err != nil {
			return err
		}
		if !q.Follow || r.Log.Exited {
			return nil
		}
		from = max(from, int64(r.Log.End)) // what could not be read is not waited for
	}
}

// ListenAll opens sockets inside.
func (d *Driver) ListenAll(ctx context.Context, id engine.ID, sockets ...engine.Socket) ([]engine.Listening, error) {
	_, fds, err := d.call(ctx, &protocol.Request{Op: protocol.OpListen, ID: id, Sockets: sockets})
	if err != nil {
		return nil, err
	}
	return d.opened(id, sockets, fds)
}

// opened makes sockets inside of their descriptors.
func (d *Driver) opened(id engine.ID, sockets []engine.Socket, fds []int) (out []engine.Listening, err error) {
	files := make([]*os.File, len(fds))
	for i, fd := range fds {
		files[i] = os.NewFile(uintptr(fd), "socket in "+string(id))
	}
	defer closeFiles(files)
	if len(fds) != len(sockets) {
		return nil, fmt.Errorf("engine: listen: %d descriptors for %d sockets", len(fds), len(sockets))
	}
	out = make([]engine.Listening, len(sockets))
	for i, f := range files {
		if sockets[i].Packets() {
			out[i].Packets, err = net.FilePacketConn(f)
		} else {
			out[i].Listener, err = net.FileListener(f)
		}
		if err != nil {
			for _, l := range out[:i] {
				_ = l.Close()
			}
			return nil, fmt.Errorf("engine: listen: %w", err)
		}
	}
	d.keep(id, out)
	return out, nil
}

func (d *Driver) keep(id engine.ID, opened []engine.Listening) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range opened {
		d.listeners[id] = append(d.listeners[id], l)
	}
}

// Listen opens a listener inside.
func (d *Driver) Listen(ctx context.Context, id engine.ID, network, address string) (net.Listener, error) {
	l, err := d.ListenAll(ctx, id, engine.Socket{Network: network, Address: address})
	if err != nil {
		return nil, err
	}
	return l[0].Listener, nil
}

// ListenPacket opens a packet socket inside.
func (d *Driver) ListenPacket(ctx context.Context, id engine.ID, network, address string) (net.PacketConn, error) {
	l, err := d.ListenAll(ctx, id, engine.Socket{Network: network, Address: address})
	if err != nil {
		return nil, err
	}
	return l[0].Packets, nil
}
