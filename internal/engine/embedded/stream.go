//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

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

// Events tells what happens. When the supervisor ends, it returns an error: ask
// again from the last cursor.
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
	err = d.stream(ctx, &protocol.Request{Op: protocol.OpList}, func(r *protocol.Reply) error {
		if r.Status != nil {
			all = append(all, *r.Status)
		}
		return nil
	})
	return all, err
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

// listen gets a socket from inside a container.
func (d *Driver) listen(ctx context.Context, id engine.ID, network, address string) (*os.File, error) {
	_, fds, err := d.call(ctx, &protocol.Request{Op: protocol.OpListen, ID: id, Network: network, Address: address})
	if err != nil {
		return nil, err
	}
	if len(fds) != 1 {
		return nil, fmt.Errorf("engine: listen: %d descriptors", len(fds))
	}
	return os.NewFile(uintptr(fds[0]), network+" "+address), nil
}

func (d *Driver) keep(id engine.ID, l io.Closer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.listeners[id] = append(d.listeners[id], l)
}

// Listen opens a listener inside.
func (d *Driver) Listen(ctx context.Context, id engine.ID, network, address string) (net.Listener, error) {
	f, err := d.listen(ctx, id, network, address)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("engine: listen: %w", err)
	}
	d.keep(id, l)
	return l, nil
}

// ListenPacket opens a packet socket inside.
func (d *Driver) ListenPacket(ctx context.Context, id engine.ID, network, address string) (net.PacketConn, error) {
	f, err := d.listen(ctx, id, network, address)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, err := net.FilePacketConn(f)
	if err != nil {
		return nil, fmt.Errorf("engine: listen: %w", err)
	}
	d.keep(id, l)
	return l, nil
}

// Exec runs a program and carries its input and output.
func (d *Driver) Exec(ctx context.Context, id engine.ID, spec engine.ExecSpec, s engine.Streams) (engine.Exit, error) {
	var none engine.Exit
	c, err := d.connect(ctx)
	if err != nil {
		return none, err
	}
	defer c.Close()
	theirs, ours, err := pipes()
	if err != nil {
		return none, err
	}
	defer closeFiles(ours)
	fds := make([]int, 0, 3)
	for _, f := range theirs {
		fds = append(fds, int(f.Fd()))
	}
	err = c.Send(&protocol.Request{Op: protocol.OpExec, ID: id, Exec: &spec}, fds...)
	closeFiles(theirs)
	if err != nil {
		return none, fmt.Errorf("engine: the supervisor: %w", err)
	}
	r, _, err := receive(ctx, c)
	if err == nil {
		err = r.Error.Err()
	}
	if err != nil {
		return none, err
	}
	var copying sync.WaitGroup
	go func() {
		if s.Stdin != nil {
			_, _ = io.Copy(ours[0], s.Stdin) // a program need not read it all
		}
		_ = ours[0].Close()
	}()
	for i, w := range []io.Writer{s.Stdout, s.Stderr} {
		if w == nil {
			w = io.Discard
		}
		copying.Go(func() { _, _ = io.Copy(w, ours[i+1]) })
	}
	if r, _, err = receive(ctx, c); err != nil {
		return none, err
	}
	copying.Wait() // the program has ended; its output ends with whoever holds it
	if err := r.Error.Err(); err != nil {
		return none, err
	}
	return *r.Exit, nil
}

// pipes makes three: theirs are the program's ends.
func pipes() (theirs, ours []*os.File, err error) {
	for i := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeFiles(theirs)
			closeFiles(ours)
			return nil, nil, fmt.Errorf("engine: pipe: %w", err)
		}
		if i == 0 {
			theirs, ours = append(theirs, r), append(ours, w)
		} else {
			theirs, ours = append(theirs, w), append(ours, r)
		}
	}
	return theirs, ours, nil
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}
