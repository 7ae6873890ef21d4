package enginetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sort"
	"syscall"
	"time"

	"skerry/internal/engine"
)

// Update keeps the limits; LimitsOf tells them.
func (f *Fake) Update(_ context.Context, id engine.ID, limits engine.Limits) error {
	c, err := f.get(id)
	if err == nil {
		err = limits.Validate()
	}
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	c.limits = limits
	return nil
}

// LimitsOf returns the limits that a container has now.
func (f *Fake) LimitsOf(id engine.ID) engine.Limits {
	c, err := f.get(id)
	if err != nil {
		return engine.Limits{}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.limits
}

// Freeze holds the Program's writes and dials back until it is thawed.
func (f *Fake) Freeze(_ context.Context, id engine.ID, frozen bool) error {
	c, err := f.get(id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.status.State != engine.Running && c.status.State != engine.Frozen {
		return fmt.Errorf("engine: freeze %s: %w", id, engine.ErrState)
	}
	c.setFrozen(frozen)
	f.notify()
	return nil
}

// setFrozen needs fake.mu.
func (c *container) setFrozen(frozen bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case frozen && c.thawed == closed:
		c.thawed, c.status.State = make(chan struct{}), engine.Frozen
	case !frozen && c.thawed != closed:
		close(c.thawed)
		c.thawed, c.status.State = closed, engine.Running
	}
}

func (c *container) thaw() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.thawed
}

// Attach adds to the Process's Mounts.
func (f *Fake) Attach(_ context.Context, id engine.ID, m engine.Mount) error {
	if err := m.Validate(); err != nil {
		return err
	}
	c, err := f.get(id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.status.State == engine.Exited {
		return fmt.Errorf("engine: attach %s: %w", id, engine.ErrState)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mounts = append(c.mounts, m)
	return nil
}

// listen opens on a port of its own of the machine's loopback, which
// Process.Dial finds by the address asked for.
func (f *Fake) listen(id engine.ID, network, address string, open func() (io.Closer, net.Addr, error)) error {
	c, err := f.get(id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.status.State == engine.Exited {
		return fmt.Errorf("engine: listen in %s: %w", id, engine.ErrState)
	}
	key := network[:3] + " " + address
	l, at, err := open()
	if err != nil {
		return err
	}
	if old := c.listeners[key]; old != nil {
		_ = old.Close()
	}
	c.listeners[key], c.addresses[key] = l, at.String()
	f.notify()
	return nil
}

// Listen opens a listener that the container's Process.Dial reaches.
func (f *Fake) Listen(_ context.Context, id engine.ID, network, address string) (l net.Listener, err error) {
	err = f.listen(id, network, address, func() (io.Closer, net.Addr, error) {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		return l, l.Addr(), nil
	})
	return l, err
}

// ListenPacket opens a socket that the container's Process.Dial reaches.
func (f *Fake) ListenPacket(_ context.Context, id engine.ID, network, address string) (l net.PacketConn, err error) {
	err = f.listen(id, network, address, func() (io.Closer, net.Addr, error) {
		if l, err = net.ListenPacket("udp", "127.0.0.1:0"); err != nil {
			return nil, nil, err
		}
		return l, l.LocalAddr(), nil
	})
	return l, err
}

// ListenAll opens sockets that the container's Process.Dial reaches.
func (f *Fake) ListenAll(ctx context.Context, id engine.ID, sockets ...engine.Socket) (out []engine.Listening, err error) {
	for _, at := range sockets {
		var l engine.Listening
		if at.Packets() {
			l.Packets, err = f.ListenPacket(ctx, id, at.Network, at.Address)
		} else {
			l.Listener, err = f.Listen(ctx, id, at.Network, at.Address)
		}
		if err != nil {
			for _, o := range out {
				_ = o.Close()
			}
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// Launch creates, listens and starts.
func (f *Fake) Launch(ctx context.Context, spec engine.Spec, sockets ...engine.Socket) (engine.ID, []engine.Listening, error) {
	return engine.Launch(ctx, f, spec, sockets...)
}

func (c *container) dial(ctx context.Context, network, address string) (net.Conn, error) {
	<-c.thaw()
	c.fake.mu.Lock()
	at, ok := "", false
	for _, other := range c.fake.containers {
		if sandboxOf(&other.spec) != sandboxOf(&c.spec) {
			continue
		}
		if a, opened := other.addresses[network[:3]+" "+address]; opened {
			at, ok = a, true
		}
	}
	c.fake.mu.Unlock()
	if !ok {
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	}
	return (&net.Dialer{}).DialContext(ctx, network, at)
}

// Exec runs the Program of that name beside the container's own.
func (f *Fake) Exec(ctx context.Context, id engine.ID, spec engine.ExecSpec, s engine.Streams) (engine.Exit, error) {
	c, err := f.get(id)
	if err != nil {
		return engine.Exit{}, err
	}
	f.mu.Lock()
	state := c.status.State
	f.mu.Unlock()
	if state != engine.Running {
		return engine.Exit{}, fmt.Errorf("engine: exec in %s: %w", id, engine.ErrState)
	}
	program := f.Programs[spec.Command[0]]
	if program == nil {
		return engine.Exit{}, fmt.Errorf("engine: exec in %s: %w", id,
			&engine.StartError{Step: "execve", Path: spec.Command[0], Err: syscall.ENOENT})
	}
	p := &Process{Spec: c.spec, Args: spec.Command, Env: spec.Env, Stdin: s.Stdin, Stdout: s.Stdout, Stderr: s.Stderr, c: c}
	if p.Env == nil {
		p.Env = c.spec.Env
	}
	if p.Stdin == nil {
		p.Stdin = eof{}
	}
	if p.Stdout == nil {
		p.Stdout = io.Discard
	}
	if p.Stderr == nil {
		p.Stderr = io.Discard
	}
	exit := engine.Exit{Started: time.Now()}
	exit.Code = program(ctx, p)
	exit.Finished = time.Now()
	return exit, ctx.Err()
}

// Stats answers times only.
func (f *Fake) Stats(_ context.Context, id engine.ID) (engine.Stats, error) {
	c, err := f.get(id)
	if err != nil {
		return engine.Stats{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.status.State == engine.Exited {
		return engine.Stats{}, fmt.Errorf("engine: stats of %s: %w", id, engine.ErrState)
	}
	return engine.Stats{Time: time.Now(), Pids: 1}, nil
}

type writer struct {
	c      *container
	stream engine.Stream
	ctx    context.Context
}

// Write appends frames of at most 64 KiB; a frozen container's write waits.
func (w *writer) Write(b []byte) (int, error) {
	<-w.c.thaw()
	if w.ctx.Err() != nil {
		return 0, syscall.EPIPE
	}
	f := w.c.fake
	f.mu.Lock()
	defer f.mu.Unlock()
	for part := range slices.Chunk(b, 64<<10) {
		w.c.size += engine.Cursor(len(part)) + 16
		w.c.frames = append(w.c.frames, engine.Frame{Time: time.Now(), Stream: w.stream, Data: slices.Clone(part), Next: w.c.size})
	}
	w.c.status.LogBytes = int64(w.c.size)
	f.notify()
	return len(b), nil
}

// Logs gives the frames.
func (f *Fake) Logs(ctx context.Context, id engine.ID, q engine.LogQuery, fn func(engine.Frame) error) error {
	c, err := f.get(id)
	if err != nil {
		return err
	}
	at := q.From
	for {
		var due []engine.Frame
		var ended bool
		look := func() bool {
			i := sort.Search(len(c.frames), func(i int) bool { return c.frames[i].Next > at })
			due, ended = c.frames[i:], c.status.State == engine.Exited || f.containers[id] != c
			return !q.Follow || ended || len(due) > 0
		}
		if err := f.until(ctx, look); err != nil {
			return err
		}
		for _, frame := range due {
			if err := fn(frame); err != nil {
				return err
			}
			at = frame.Next
		}
		if !q.Follow || ended {
			return nil
		}
	}
}

// Events tells what the containers' states imply, in order.
func (f *Fake) Events(ctx context.Context, after engine.Cursor, fn func(engine.Event) error) error {
	for {
		var due []engine.Event
		look := func() bool {
			for _, c := range f.containers {
				e := engine.Event{ID: c.spec.ID, Labels: c.spec.Labels}
				if c.startedAt > after {
					e.Kind, e.Cursor, e.Time = engine.EventStarted, c.startedAt, c.status.Started
					due = append(due, e)
				}
				if c.exitedAt > after {
					e.Kind, e.Cursor, e.Time, e.Exit = engine.EventExited, c.exitedAt, c.status.Exit.Finished, c.status.Exit
					due = append(due, e)
				}
			}
			return len(due) > 0
		}
		if err := f.until(ctx, look); err != nil {
			return err
		}
		slices.SortFunc(due, func(a, b engine.Event) int { return int(a.Cursor) - int(b.Cursor) })
		for _, e := range due {
			if err := fn(e); err != nil {
				return err
			}
			after = e.Cursor
		}
	}
}

// List tells of all containers, oldest first.
func (f *Fake) List(context.Context) ([]engine.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []engine.Status
	for _, c := range f.containers {
		all = append(all, c.status)
	}
	slices.SortFunc(all, func(a, b engine.Status) int { return a.Created.Compare(b.Created) })
	return all, nil
}

// Inspect tells of one.
func (f *Fake) Inspect(_ context.Context, id engine.ID) (engine.Status, error) {
	c, err := f.get(id)
	if err != nil {
		return engine.Status{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return c.status, nil
}

// Connect keeps a container's networks.
func (f *Fake) Connect(_ context.Context, id engine.ID, links []engine.Link) error {
	if err := engine.ValidateLinks(links); err != nil {
		return err
	}
	c, err := f.get(id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := c.spec.Network.Mode; m == engine.NetworkHost || m == engine.NetworkNAT {
		return fmt.Errorf("engine: %w: other networks beside %q", engine.ErrInvalid, m)
	}
	if err := f.taken(sandboxOf(&c.spec), links); err != nil {
		return err
	}
	c.spec.Network.SetLinks(links)
	c.status.Address = c.spec.Network.Address
	return nil
}

// SetFirewall is not supported.
func (f *Fake) SetFirewall(context.Context, string, []engine.SecurityGroup) error {
	return fmt.Errorf("engine: security groups: %w", engine.ErrUnsupported)
}

// Input writes to the Process's Stdin.
func (f *Fake) Input(_ context.Context, id engine.ID) (io.WriteCloser, error) {
	c, err := f.get(id)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !c.spec.Stdin || c.status.State == engine.Exited {
		return nil, fmt.Errorf("engine: input of %s: %w", id, engine.ErrState)
	}
	return c.input, nil
}

// Resize is not supported.
func (f *Fake) Resize(context.Context, engine.ID, engine.Size) error {
	return fmt.Errorf("engine: terminals: %w", engine.ErrUnsupported)
}

// ReadFiles is not supported.
func (f *Fake) ReadFiles(context.Context, engine.ID, string) (io.ReadCloser, error) {
	return nil, fmt.Errorf("engine: copying files: %w", engine.ErrUnsupported)
}

// WriteFiles is not supported.
func (f *Fake) WriteFiles(context.Context, engine.ID, string, io.Reader) error {
	return fmt.Errorf("engine: copying files: %w", engine.ErrUnsupported)
}
