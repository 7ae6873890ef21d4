// Package enginetest is the suite that every engine passes, and a Fake engine
// for the tests of other packages: it runs Go functions in place of programs.
package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"skerry/internal/base/ids"
	"skerry/internal/engine"
)

// Program stands for a program in the Fake. What it returns is its exit code.
// Its ctx ends when the container is killed.
type Program func(ctx context.Context, p *Process) int

// Process is what a Program sees.
type Process struct {
	Spec           engine.Spec
	Args           []string // the command; under Exec, Exec's
	Env            []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Signals receives what Signal sends, SIGKILL apart. A program that
	// does not take SIGTERM from here is ended by it.
	Signals <-chan syscall.Signal
	c       *container
}

// Dial connects to a listener that the engine's user opened in this container.
func (p *Process) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return p.c.dial(ctx, network, address)
}

// Mounts are the container's mounts, attached ones included.
func (p *Process) Mounts() []engine.Mount {
	p.c.mu.Lock()
	defer p.c.mu.Unlock()
	return slices.Clone(p.c.mounts)
}

// Fake is an engine without containers. It keeps states, logs, events and
// listeners as a real one does; limits are only checked by the Program's own
// doing (see OutOfMemory).
type Fake struct {
	// Programs by Command[0].
	Programs map[string]Program
	// Pullable are the images that Images().Pull finds, by name. Nil: the
	// engine has no images.
	Pullable map[string]engine.Image
	// Restarts has Start run a container again that has exited.
	Restarts bool

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced at every change
	containers map[engine.ID]*container
	seq        engine.Cursor
	pulled     map[string]engine.Image // by name
	ports      uint16                  // chosen so far
	commits    int
}

// OutOfMemory is the code by which a Program says that it was killed for memory.
const OutOfMemory = -137

// NewFake returns a Fake with those programs, and the ones that Run needs.
func NewFake(programs map[string]Program) *Fake {
	f := &Fake{Programs: map[string]Program{"/bin/sh": shell}, changed: make(chan struct{}), containers: map[engine.ID]*container{}, Restarts: true}
	maps.Copy(f.Programs, programs)
	return f
}

type container struct {
	fake *Fake
	spec engine.Spec

	mu        sync.Mutex // after fake.mu
	status    engine.Status
	startedAt engine.Cursor // its place among the events
	exitedAt  engine.Cursor
	frames    []engine.Frame
	size      engine.Cursor
	mounts    []engine.Mount
	limits    engine.Limits
	changes   []engine.Change
	listeners map[string]io.Closer
	addresses map[string]string
	signals   chan syscall.Signal
	stdin     *io.PipeReader // of Spec.Stdin
	input     *io.PipeWriter
	kill      context.CancelFunc
	thawed    chan struct{} // closed unless frozen
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// notify wakes all that wait; f.mu is held.
func (f *Fake) notify() {
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *Fake) get(id engine.ID) (*container, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := f.containers[id]
	if c == nil {
		return nil, fmt.Errorf("engine: %s: %w", id, engine.ErrNotFound)
	}
	return c, nil
}

// until waits for ok, which is asked with f.mu held.
func (f *Fake) until(ctx context.Context, ok func() bool) error {
	for {
		f.mu.Lock()
		if ok() {
			f.mu.Unlock()
			return nil
		}
		changed := f.changed
		f.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Info says that everything but terminals works, and images if there are some.
func (f *Fake) Info(context.Context) (engine.Capabilities, error) {
	return engine.Capabilities{Driver: "fake", Runs: true, Freeze: true, Exec: true, Attach: true, Listen: true, Outside: true, Images: f.Pullable != nil,
		MemoryLimit: true, CPULimit: true, PidsLimit: true, Groups: true, Populate: true}, nil
}

// Create keeps the specification.
func (f *Fake) Create(_ context.Context, spec engine.Spec) (engine.ID, error) {
	if err := spec.Validate(); err != nil {
		return "", err
	}
	image, err := f.imageOf(&spec)
	if err != nil {
		return "", err
	}
	if spec.ID == "" {
		spec.ID = engine.ID(ids.Hex(16))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.containers[spec.ID] != nil {
		return "", fmt.Errorf("engine: %s: %w", spec.ID, engine.ErrExists)
	}
	for _, c := range f.containers {
		if g := c.spec.Group; g.Name != "" && g.Name == spec.Group.Name && (g != spec.Group || c.spec.Account != spec.Account) {
			return "", fmt.Errorf("engine: %w: the group %s is another", engine.ErrInvalid, g.Name)
		}
	}
	address, ports, err := f.connect(&spec)
	if err != nil {
		return "", err
	}
	stdin, input := io.Pipe()
	f.containers[spec.ID] = &container{
		fake: f, spec: spec, mounts: slices.Clone(spec.Mounts), limits: spec.Limits,
		listeners: map[string]io.Closer{}, addresses: map[string]string{}, thawed: closed,
		signals: make(chan syscall.Signal, 8), stdin: stdin, input: input,
		status: engine.Status{ID: spec.ID, Account: spec.Account, Labels: spec.Labels, State: engine.Created,
			Created: time.Now(), Image: image, Address: address, Ports: ports},
	}
	f.notify()
	return spec.ID, nil
}

// Start runs the Program in a goroutine.
func (f *Fake) Start(_ context.Context, id engine.ID) error {
	c, err := f.get(id)
	if err != nil {
		return err
	}
	program := f.Programs[c.spec.Command[0]]
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.status.State != engine.Created && (!f.Restarts || c.status.State != engine.Exited) {
		return fmt.Errorf("engine: start %s: %w", id, engine.ErrState)
	}
	if program == nil {
		return fmt.Errorf("engine: start %s: %w", id, &engine.StartError{Step: "execve", Path: c.spec.Command[0], Err: syscall.ENOENT})
	}
	ctx, kill := context.WithCancel(context.Background())
	f.seq++
	c.kill, c.startedAt, c.exitedAt = kill, f.seq, 0
	c.signals = make(chan syscall.Signal, 8)
	c.status.State, c.status.Started, c.status.Exit, c.status.Pid = engine.Running, time.Now(), nil, 1
	p := &Process{Spec: c.spec, Args: c.spec.Command, Env: c.spec.Env, Signals: c.signals, c: c,
		Stdin: eof{}, Stdout: &writer{c, engine.Stdout, ctx}, Stderr: &writer{c, engine.Stderr, ctx}}
	if c.spec.Stdin {
		p.Stdin = c.stdin
	}
	go c.run(ctx, program, p, c.status.Started)
	f.notify()
	return nil
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

func (c *container) run(ctx context.Context, program Program, p *Process, started time.Time) {
	code := make(chan int, 1)
	go func() { code <- program(ctx, p) }()
	exit := engine.Exit{Started: started}
	select {
	case exit.Code = <-code:
		if exit.Code == OutOfMemory {
			exit.Code, exit.OOM, exit.Signal = 137, true, 9
		}
	case <-ctx.Done():
		<-c.thaw()
		exit.Code, exit.Signal = 137, 9
	}
	c.kill()
	_ = c.stdin.Close()
	f := c.fake
	f.mu.Lock()
	defer f.mu.Unlock()
	exit.Finished = time.Now()
	f.seq++
	c.exitedAt, c.status.State, c.status.Exit, c.status.Pid = f.seq, engine.Exited, &exit, 0
	f.notify()
}

// Signal sends to the Program; SIGKILL ends its ctx and the container.
func (f *Fake) Signal(_ context.Context, id engine.ID, sig syscall.Signal) error {
	c, err := f.get(id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.status.State != engine.Running && c.status.State != engine.Frozen {
		return fmt.Errorf("engine: signal %s: %w", id, engine.ErrState)
	}
	if sig == syscall.SIGKILL {
		c.setFrozen(false)
		c.kill()
		return nil
	}
	select {
	case c.signals <- sig:
	default:
	}
	return nil
}

// Wait waits for the exit.
func (f *Fake) Wait(ctx context.Context, id engine.ID) (engine.Exit, error) {
	c, err := f.get(id)
	if err != nil {
		return engine.Exit{}, err
	}
	var exit *engine.Exit
	if err := f.until(ctx, func() bool { exit = c.status.Exit; return exit != nil || f.containers[id] != c }); err != nil {
		return engine.Exit{}, err
	}
	if exit == nil {
		return engine.Exit{}, fmt.Errorf("engine: %s: %w", id, engine.ErrNotFound)
	}
	return *exit, nil
}

// Remove kills, waits for the end and forgets.
func (f *Fake) Remove(ctx context.Context, id engine.ID) error {
	c, err := f.get(id)
	if err != nil {
		return nil
	}
	if err := f.Signal(ctx, id, syscall.SIGKILL); err == nil {
		if _, err := f.Wait(ctx, id); err != nil && !errors.Is(err, engine.ErrNotFound) {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range c.listeners {
		_ = l.Close()
	}
	delete(f.containers, id)
	f.notify()
	return nil
}

// Close does nothing.
func (f *Fake) Close() error { return nil }
