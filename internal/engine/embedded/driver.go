//go:build linux && amd64

package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/cgroup"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/embedded/supervisor"
	"skerry/internal/engine/image"
)

// Main runs the supervisor, and never returns, if that is what the program was
// started for. Call it first thing in main, before anything costly. version is the
// program's, for Info.
func Main(version string) { supervisor.Main(version) }

// Driver is the embedded engine, as main has it.
type Driver struct {
	cfg   protocol.Config
	exe   string
	hold  holder
	store *image.Store // nil: no images

	upgrade bool // a supervisor of another build is to go
	current bool // it has been looked at; with starting
	stale   error

	mu         sync.Mutex
	starting   sync.Mutex // one start of a supervisor at a time
	launches   sync.WaitGroup
	formatting sync.Mutex // one disk at a time
	idle       []*protocol.Conn
	listeners  map[engine.ID][]io.Closer
	inputs     map[inputKey][]*input
	closed     bool
}

// Open returns the engine of a data folder. Its supervisor is started at the
// first need, so this costs nothing; a running one is found again.
func Open(c Config) (*Driver, error) {
	data, err := filepath.Abs(c.Data)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(data))
	name := fmt.Sprintf("skerry-%016x", h.Sum64())
	d := &Driver{exe: c.Program, upgrade: c.Upgrade, listeners: map[engine.ID][]io.Closer{}, inputs: map[inputKey][]*input{}}
	if c.Images != nil {
		d.use(c.Images)
	}
	d.cfg = protocol.Config{Data: data, Run: c.Run, Name: name, Cgroups: c.Cgroups, Linger: c.Linger}
	if d.cfg.Run == "" {
		d.cfg.Run = filepath.Join(volatileFolder(data), name)
	}
	if d.cfg.Linger == 0 {
		d.cfg.Linger = time.Minute
	}
	if d.exe == "" {
		d.exe = "/proc/self/exe"
	}
	return d, nil
}

// volatileFolder is where what ends with the machine's run is kept: in memory,
// where the machine has such a place.
func volatileFolder(data string) string {
	for _, dir := range []string{"/run", "/dev/shm"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.TMPFS_MAGIC && unix.Access(dir, unix.W_OK) == nil {
			return dir
		}
	}
	return filepath.Join(data, "run")
}

// connect dials the supervisor, and starts it if there is none. One of another
// build is upgraded first.
func (d *Driver) connect(ctx context.Context) (*protocol.Conn, error) {
	if conn, err := d.dial(); err == nil && d.isCurrent() {
		return conn, nil
	} else if err == nil {
		_ = conn.Close()
	}
	d.starting.Lock()
	defer d.starting.Unlock()
	if conn, err := d.dial(); err == nil {
		conn, err = d.renew(ctx, conn)
		if err == nil || ctx.Err() != nil {
			return conn, err
		} // else it has ended
	}
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("engine: %w: not root, who alone can make namespaces and limits", engine.ErrUnsupported)
	}
	if err := d.launch(ctx); err != nil {
		return nil, err
	}
	conn, err := d.dial()
	if err != nil {
		return nil, err
	}
	return d.renew(ctx, conn) // another main may have been faster
}

func (d *Driver) dial() (*protocol.Conn, error) {
	dir, err := os.Open(d.cfg.Data)
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	defer dir.Close() // its number stands for a path that may be too long
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/socket", dir.Fd())})
	if err != nil {
		return nil, fmt.Errorf("engine: %w", err)
	}
	return protocol.NewConn(c), nil
}

// launch starts the supervisor as a session of its own and waits until it
// listens. If ctx ends first, it goes on starting, and Close waits for it.
func (d *Driver) launch(ctx context.Context) error {
	if len(os.Args) > 1 && os.Args[1] == protocol.Command {
		// A program that was started as supervisor and did not call Main would
		// start itself again without end.
		return errors.New("engine: this program runs as supervisor without having called embedded.Main")
	}
	if err := os.MkdirAll(d.cfg.Data, 0o700); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	text, err := json.Marshal(d.cfg)
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	out, err := os.OpenFile(filepath.Join(d.cfg.Data, "supervisor.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	defer out.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	cmd := exec.Command(d.exe, protocol.Command, string(text))
	cmd.Args[0] = "skerry"
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	d.mu.Lock()
	if d.closed {
		err = net.ErrClosed
	} else if err = cmd.Start(); err == nil {
		d.launches.Add(1)
	}
	d.mu.Unlock()
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return fmt.Errorf("engine: start the supervisor: %w", err)
	}
	go func() { _ = cmd.Wait() }() // it outlives this process, or is reaped
	listens := make(chan error, 1)
	go func() {
		defer d.launches.Done()
		defer r.Close()
		fault, err := io.ReadAll(io.LimitReader(r, 4096))
		switch {
		case err != nil:
			err = fmt.Errorf("engine: start the supervisor: %w", err)
		case len(fault) > 0:
			err = fmt.Errorf("engine: the supervisor: %s: %w", fault, engine.ErrUnsupported)
		}
		listens <- err
	}()
	select {
	case err := <-listens:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take gets a connection, an idle one if there is.
func (d *Driver) take(ctx context.Context) (c *protocol.Conn, err error) {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil, fmt.Errorf("engine: %w", net.ErrClosed)
	}
	if n := len(d.idle); n > 0 {
		c, d.idle = d.idle[n-1], d.idle[:n-1]
	}
	d.mu.Unlock()
	if c != nil {
		return c, nil
	}
	return d.connect(ctx)
}

func (d *Driver) give(c *protocol.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || len(d.idle) >= 16 {
		_ = c.Close()
		return
	}
	d.idle = append(d.idle, c)
}

// call sends a request and waits for the answer. A supervisor may end (nobody
// needed it, or it was killed) or be upgraded between a connection and the answer:
// then the request, of which nothing has been done, goes to the next one.
func (d *Driver) call(ctx context.Context, req *protocol.Request) (*protocol.Reply, []int, error) {
	for tries := (tries{}); ; {
		c, err := d.take(ctx)
		if err != nil {
			return nil, nil, err
		}
		reply, fds, err := exchange(ctx, c, req)
		if err == nil {
			d.give(c)
			return reply, fds, reply.Error.Err()
		}
		again := tries.again(ctx, c, err)
		_ = c.Close()
		if !again {
			return nil, nil, err
		}
		d.dropIdle()
	}
}

// tries counts how often a request has been sent.
type tries struct {
	dead, upgraded int // to supervisors that ended, and that went on
	pid            int // of the last one
}

// How often at most.
const (
	maxDead     = 3
	maxUpgraded = 100 // a call may wait for days
)

// again says whether to send a request once more that a connection's end left
// without an answer.
func (t *tries) again(ctx context.Context, c *protocol.Conn, err error) bool {
	if ctx.Err() != nil || !broken(err) {
		return false
	}
	if peer := c.Peer(); peer != nil && int(peer.Pid) == t.pid {
		t.upgraded++
	} else {
		t.dead++
		if peer != nil {
			t.pid = int(peer.Pid)
		}
	}
	return t.dead < maxDead && t.upgraded < maxUpgraded
}

func exchange(ctx context.Context, c *protocol.Conn, req *protocol.Request) (*protocol.Reply, []int, error) {
	if err := c.Send(req); err != nil {
		return nil, nil, fmt.Errorf("engine: the supervisor: %w", err)
	}
	return receive(ctx, c)
}

// broken tells whether an error means that the other end is gone.
func broken(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// receive reads an answer; when ctx ends first, the connection is of no use any
// more.
func receive(ctx context.Context, c *protocol.Conn) (*protocol.Reply, []int, error) {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	reply := new(protocol.Reply)
	fds, err := c.Receive(reply)
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("engine: the supervisor: %w", err)
	}
	if !stop() { // it has just been closed
		return nil, nil, ctx.Err()
	}
	return reply, fds, nil
}

func (d *Driver) dropIdle() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.idle {
		_ = c.Close()
	}
	d.idle = nil
}

// Close lets go of the supervisor, which goes on. One that is starting is waited
// for: whoever removes the data folder next shall not meet it making its folders.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	lists := d.listeners
	d.listeners = map[engine.ID][]io.Closer{}
	inputs := slices.Collect(maps.Keys(d.inputs))
	d.mu.Unlock()
	for _, key := range inputs { // the containers' input stays open
		d.dropInputs(key)
	}
	for _, list := range lists {
		for _, l := range list {
			_ = l.Close()
		}
	}
	d.dropIdle()
	d.launches.Wait()
	return nil
}

// Shutdown kills and removes all containers, ends the supervisor, and leaves
// nothing of the engine behind.
func (d *Driver) Shutdown(ctx context.Context) error {
	d.launches.Wait()
	for tries := (tries{}); ; {
		c, err := d.dial()
		if err != nil {
			return nil // none runs
		}
		defer c.Close()
		_, _, err = exchange(ctx, c, &protocol.Request{Op: protocol.OpShutdown})
		for err == nil { // its end is the end of the connection
			if _, _, err := receive(ctx, c); err != nil {
				return errors.Join(ctx.Err(), d.Close())
			}
		}
		if !tries.again(ctx, c, err) { // else it has been upgraded meanwhile
			return err
		}
	}
}

// Info says what works here.
func (d *Driver) Info(ctx context.Context) (engine.Capabilities, error) {
	r, _, err := d.call(ctx, &protocol.Request{Op: protocol.OpInfo})
	if errors.Is(err, engine.ErrUnsupported) {
		return engine.Capabilities{Driver: "embedded", Missing: []engine.Missing{missing(err)}}, nil
	}
	if err != nil {
		return engine.Capabilities{}, err
	}
	r.Info.Images, r.Info.Layers = d.hold != nil, d.store != nil
	if err := d.staleness(); err != nil {
		r.Info.Missing = append(r.Info.Missing, engine.Missing{What: "the running supervisor's upgrade to this build", Why: err.Error(),
			Mend: "remove all containers, stop Skerry, and start it again two minutes later: the supervisor has ended by then"})
	}
	hasDisks(r.Info)
	return *r.Info, nil
}

// missing says why no container can run.
func missing(err error) engine.Missing {
	m := engine.Missing{What: "containers", Why: err.Error()}
	switch text := err.Error(); {
	case os.Geteuid() != 0:
		m.Mend = "sudo skerry up"
	case strings.Contains(text, cgroup.ErrNone.Error()):
		m.Mend = "mount -t cgroup2 none /sys/fs/cgroup"
	case strings.Contains(text, syscall.ENOSYS.Error()):
		m.Mend = "a kernel of 5.12 or newer"
	}
	return m
}

func (d *Driver) do(ctx context.Context, req protocol.Request) error {
	_, _, err := d.call(ctx, &req)
	return err
}

// Start runs the command.
func (d *Driver) Start(ctx context.Context, id engine.ID) error {
	return d.do(ctx, protocol.Request{Op: protocol.OpStart, ID: id})
}

// Signal sends a signal.
func (d *Driver) Signal(ctx context.Context, id engine.ID, sig syscall.Signal) error {
	return d.do(ctx, protocol.Request{Op: protocol.OpSignal, ID: id, Signal: int(sig)})
}

// Wait returns the exit.
func (d *Driver) Wait(ctx context.Context, id engine.ID) (engine.Exit, error) {
	r, _, err := d.call(ctx, &protocol.Request{Op: protocol.OpWait, ID: id})
	if err != nil {
		return engine.Exit{}, err
	}
	return *r.Exit, nil
}

// Remove kills and forgets. The listeners inside end first: the network that
// they are in may serve another container next.
func (d *Driver) Remove(ctx context.Context, id engine.ID) error {
	d.mu.Lock()
	list := d.listeners[id]
	delete(d.listeners, id)
	inputs := slices.DeleteFunc(slices.Collect(maps.Keys(d.inputs)), func(k inputKey) bool { return k.id != id })
	d.mu.Unlock()
	for _, key := range inputs {
		d.dropInputs(key)
	}
	for _, l := range list {
		_ = l.Close()
	}
	return d.do(ctx, protocol.Request{Op: protocol.OpRemove, ID: id})
}

// Update changes limits.
func (d *Driver) Update(ctx context.Context, id engine.ID, limits engine.Limits) error {
	return d.do(ctx, protocol.Request{Op: protocol.OpUpdate, ID: id, Limits: &limits})
}

// Freeze stops or thaws.
func (d *Driver) Freeze(ctx context.Context, id engine.ID, frozen bool) error {
	return d.do(ctx, protocol.Request{Op: protocol.OpFreeze, ID: id, Frozen: frozen})
}

// Attach mounts.
func (d *Driver) Attach(ctx context.Context, id engine.ID, m engine.Mount) error {
	if err := m.Validate(); err != nil {
		return err
	}
	if err := d.disks(ctx, engine.Root{}, m); err != nil {
		return err
	}
	return d.do(ctx, protocol.Request{Op: protocol.OpAttach, ID: id, Mount: &m})
}

// Connect replaces a container's networks.
func (d *Driver) Connect(ctx context.Context, id engine.ID, links []engine.Link) error {
	if err := engine.ValidateLinks(links); err != nil {
		return err
	}
	return d.do(ctx, protocol.Request{Op: protocol.OpConnect, ID: id, Links: links})
}

// SetFirewall replaces a network's security groups.
func (d *Driver) SetFirewall(ctx context.Context, network string, groups []engine.SecurityGroup) error {
	if err := engine.ValidateFirewall(network, groups); err != nil {
		return err
	}
	return d.do(ctx, protocol.Request{Op: protocol.OpFirewall, Network: network, Groups: groups})
}

// Stats reads the counters.
func (d *Driver) Stats(ctx context.Context, id engine.ID) (engine.Stats, error) {
	r, _, err := d.call(ctx, &protocol.Request{Op: protocol.OpStats, ID: id})
	if err != nil {
		return engine.Stats{}, err
	}
	return *r.Stats, nil
}

// Inspect tells of one.
func (d *Driver) Inspect(ctx context.Context, id engine.ID) (engine.Status, error) {
	r, _, err := d.call(ctx, &protocol.Request{Op: protocol.OpInspect, ID: id})
	if err != nil {
		return engine.Status{}, err
	}
	return *r.Status, nil
}
