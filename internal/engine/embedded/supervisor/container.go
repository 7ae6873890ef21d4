//go:build linux && amd64

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/cgroup"
	"skerry/internal/engine/embedded/network"
	"skerry/internal/engine/embedded/rootfs"
)

// container is one of them. Its fields up to mu do not change after create.
type container struct {
	id        engine.ID
	account   string
	labels    map[string]string
	created   time.Time
	command   []string
	env       []string
	dir       string
	user      engine.User
	home      string // the user's, where the environment is to have it
	bounds    bounds
	rlimits   []engine.Rlimit
	tty       bool
	stdin     bool
	spec      *engine.Spec
	image     image
	host      bool // the machine's network
	clean     bool // nothing in its network can have been changed
	box       *sandbox
	slot      *network.Slot // the sandbox's
	group     *cgroup.Group
	bound     *bound // what limits it together with others; nil: nothing
	log       *log
	mu        sync.Mutex
	state     engine.State
	removed   bool      // it is not started again
	forgotten bool      // by the remove that was the first
	run       *run      // the last one, or the one to come
	ready     *prepared // until the start
	bare      *bare     // that was made ahead, until the start
	stdio     stdio
	tree      *rootfs.Tree // of an image
	written   bool         // the tree can be written
	opened    bool         // main has, or had, a descriptor of its root
	made      string       // its /etc/hosts as it was written
	limits    engine.Limits
	pid       int
	pidfd     int
	mounts    int // its namespace of mounts while it runs, see finish; -1
	started   time.Time
	exit      *engine.Exit
	cursors   [2]engine.Cursor // of the last run's events started and exited
	past      []engine.Cursor  // of earlier runs' events

	published *network.Published // while it runs
}

// run is one run of a container's program.
type run struct {
	exited chan struct{} // closed when it has
	exit   *engine.Exit  // then
	gone   chan struct{} // closed when its mounts are
}

func newRun() *run { return &run{exited: make(chan struct{}), gone: make(chan struct{})} }

// prepared is what a start needs, made by create.
type prepared struct {
	hostname string
	root     int
	mounts   []detached
	dev      int // a /dev of its own; 0: the one that most share
	groups   []cgroup.View
	join     []int // cgroup v1; the group's
	folder   int   // cgroup v2
}

// detached is a mount on its way.
type detached struct {
	fd     int
	target string
}

func (p *prepared) close() {
	closeMounts(p)
	for _, v := range p.groups {
		unix.Close(v.FD)
	}
	for _, fd := range []int{p.folder, p.dev} {
		if fd > 0 {
			unix.Close(fd)
		}
	}
}

func (c *container) current() engine.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *container) status() engine.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.statusLocked()
}

func (c *container) statusLocked() engine.Status {
	_, end, _, _ := c.log.extent()
	s := engine.Status{ID: c.id, Account: c.account, Labels: c.labels, State: c.state, Pid: c.pid, Created: c.created,
		Started: c.started, Exit: c.exit, LogBytes: end}
	s.Image = c.image.id
	if c.slot != nil {
		s.Address = c.slot.Address()
	}
	if c.published != nil {
		s.Ports = c.published.Ports
	}
	return s
}

// where is a descriptor of the mounts of a container that runs; c.mu is held. Those
// of its first process may be others, if it can mount; while it has ended and
// nobody has heard of it, it has none.
func (c *container) where() int {
	if c.bounds.privileged || c.bounds.mounts {
		return c.pidfd
	}
	return c.mounts
}

func (s *supervisor) create(spec *engine.Spec, img image) (err error) {
	if err := spec.Validate(); err != nil {
		return err
	}
	if spec.ID == "" {
		return fmt.Errorf("engine: %w: no id", engine.ErrInvalid)
	}
	if err := unbuilt(spec); err != nil {
		return err
	}
	c, err := s.newContainer(spec, img)
	if err != nil {
		return err
	}
	s.takeBare(c)
	c.mu.Lock() // nobody starts what is half made
	s.mu.Lock()
	if s.ending {
		err = fmt.Errorf("engine: the supervisor is ending: %w", engine.ErrState)
	} else if s.containers[c.id] != nil {
		err = fmt.Errorf("engine: %s: %w", c.id, engine.ErrExists)
	} else {
		s.containers[c.id] = c
	}
	s.mu.Unlock()
	if err != nil {
		c.mu.Unlock()
		if c.bare != nil {
			s.dropBare(c.bare)
		}
		return err
	}
	if c.bare != nil {
		err = s.dress(c)
	} else if err = os.Mkdir(filepath.Join(s.runs(), string(c.id)), 0o700); err == nil {
		err = s.prepare(c)
	}
	c.mu.Unlock()
	if err != nil {
		s.remove(c)
		return err
	}
	return nil
}

// newContainer is a container of which nothing has been made.
func (s *supervisor) newContainer(spec *engine.Spec, img image) (c *container, err error) {
	c = &container{
		id: spec.ID, account: spec.Account, labels: spec.Labels, created: time.Now(), command: spec.Command,
		spec: spec, image: img, env: spec.Env, dir: spec.Dir, user: spec.User,
		limits: withDefaults(spec.Limits), state: engine.Created, pidfd: -1, mounts: -1, run: newRun(),
		rlimits: spec.Rlimits, tty: spec.TTY, stdin: spec.Stdin, stdio: noStdio,
		log: &log{dir: filepath.Join(s.logs(), string(spec.ID)), pipes: [2]int{-1, -1}, terminal: spec.TTY, file: -1,
			files: spec.LogFiles, size: spec.LogSize},
	}
	if c.dir == "" {
		c.dir = "/"
	}
	if c.bounds, err = s.walls.bounds(spec.Security); err != nil {
		return nil, err
	}
	if _, err := rlimits(spec.Rlimits); err != nil {
		return nil, err
	}
	c.clean = !c.bounds.has("NET_ADMIN") && !c.bounds.privileged && len(spec.Sysctls) == 0
	return c, nil
}

func withDefaults(l engine.Limits) engine.Limits {
	if l.Pids == 0 {
		l.Pids = engine.DefaultPids
	}
	l.Pids = max(l.Pids, 0)
	return l
}

func groupLimits(l engine.Limits) cgroup.Limits {
	return cgroup.Limits{Memory: l.Memory, Swap: l.Swap, Reserve: l.MemoryReserve, CPU: l.CPU, Shares: l.CPUShares, Pids: l.Pids,
		CPUs: l.CPUs, Mems: l.Mems}
}

// available says whether the machine has what limits name.
func (s *supervisor) available(l *engine.Limits) error {
	if l.CPUs == "" && l.Mems == "" {
		return nil
	}
	if !s.tree.Controllers["cpuset"] {
		return fmt.Errorf("engine: %w: this machine has no cpuset controller", engine.ErrUnsupported)
	}
	return l.Available(s.tree.CPUs, s.tree.Mems)
}

// unsupported turns a limit that this machine cannot keep into the engine's error.
func unsupported(err error) error {
	if errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("%w: %w", err, engine.ErrUnsupported)
	}
	return err
}

// prepare makes everything but the process of a run; c.mu is held. What it has
// made by the time of an error, finish or remove takes away.
func (s *supervisor) prepare(c *container) error {
	if err := s.furnish(c); err != nil {
		return err
	}
	return s.record(c)
}

// hostname is the one asked for, or else the id.
func (c *container) hostname() string {
	if c.spec.Hostname != "" {
		return c.spec.Hostname
	}
	return string(c.id)
}

// usualLimits are a container's, without what this machine cannot keep and nobody has
// asked for; c.mu is held.
func (s *supervisor) usualLimits(c *container) engine.Limits {
	if !s.tree.Controllers["pids"] && c.spec.Limits.Pids == 0 {
		c.limits.Pids = 0 // the default gives way, a limit asked for does not
	}
	return c.limits
}

// furnish is prepare without the record.
func (s *supervisor) furnish(c *container) (err error) {
	p := &prepared{hostname: c.hostname(), root: -1}
	c.ready = p
	if err := s.available(&c.limits); err != nil {
		return err
	}
	if err := s.makeGroup(c, groupLimits(s.usualLimits(c))); err != nil {
		return unsupported(err)
	}
	if c.box == nil {
		if err := s.join(c, c.spec.Network); err != nil {
			return err
		}
	}
	if err := c.ownSysctls(); err != nil {
		return err
	}
	if err := s.makeRoot(c); err != nil {
		return err
	}
	if err := s.resolve(c); err != nil {
		return err
	}
	if err := s.openStdio(c, c.spec); err != nil {
		return err
	}
	if err := s.openDev(c); err != nil {
		return err
	}
	if p.join, err = c.group.Join(); err != nil {
		return err
	}
	if p.folder, err = c.group.Folder(); err != nil {
		return err
	}
	if c.tree != nil { // programs of images size themselves by their limits; the machine's own do without
		if p.groups, err = c.group.Views(); err != nil {
			return err
		}
	}
	return nil
}

// signal sends to the first process.
func (s *supervisor) signal(c *container, sig syscall.Signal) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != engine.Running && c.state != engine.Frozen {
		return fmt.Errorf("engine: signal %s, which is %s: %w", c.id, c.state, engine.ErrState)
	}
	if err := unix.PidfdSendSignal(c.pidfd, sig, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("engine: signal %s: %w", c.id, err)
	}
	if sig == unix.SIGKILL && c.state == engine.Frozen {
		return s.thaw(c)
	}
	return nil
}

func (s *supervisor) thaw(c *container) error {
	if err := c.group.Freeze(false); err != nil {
		return fmt.Errorf("engine: thaw %s: %w", c.id, err)
	}
	c.state = engine.Running
	return nil
}

func (s *supervisor) freeze(c *container, frozen bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != engine.Running && c.state != engine.Frozen {
		return fmt.Errorf("engine: freeze %s, which is %s: %w", c.id, c.state, engine.ErrState)
	}
	if !frozen {
		if c.state == engine.Frozen {
			return s.thaw(c)
		}
		return nil
	}
	if err := c.group.Freeze(true); err != nil {
		return fmt.Errorf("engine: freeze %s: %w", c.id, unsupported(err))
	}
	c.state = engine.Frozen
	return nil
}

func (s *supervisor) update(c *container, l engine.Limits) error {
	if err := l.Validate(); err != nil {
		return err
	}
	if err := s.available(&l); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spec == nil {
		return fmt.Errorf("engine: update %s, of which nothing but its exit is known: %w", c.id, engine.ErrState)
	}
	if c.state != engine.Exited {
		if err := c.group.Set(groupLimits(withDefaults(l))); err != nil {
			return fmt.Errorf("engine: update %s: %w", c.id, unsupported(err))
		}
	}
	c.limits, c.spec.Limits = withDefaults(l), l
	if c.state == engine.Exited {
		return s.replace(c, recordFile, c.toRun())
	}
	return nil
}

// kill ends the process, if there is one, and waits for its end.
func (s *supervisor) kill(c *container) {
	c.mu.Lock()
	switch c.state {
	case engine.Running, engine.Frozen:
		_ = unix.PidfdSendSignal(c.pidfd, unix.SIGKILL, nil, 0)
		if c.state == engine.Frozen {
			_ = s.thaw(c)
		}
	case engine.Created:
		s.finish(c, engine.Exit{Code: -1, Reason: "removed before it was started"})
	}
	run := c.run
	c.mu.Unlock()
	<-run.exited
}

// remove ends a container and forgets it.
func (s *supervisor) remove(c *container) {
	c.mu.Lock()
	c.removed = true // not started again
	c.mu.Unlock()
	s.kill(c)
	if c.spec != nil && len(c.spec.Mounts) > 0 {
		<-c.run.gone // whose they are may want to do away with them
	}
	c.mu.Lock()
	if c.forgotten {
		c.mu.Unlock()
		return // another remove was faster
	}
	c.forgotten = true
	cursors := append(c.cursors[:], c.past...)
	box, bound, tree := c.box, c.bound, s.takeTree(c)
	c.box, c.slot, c.bound = nil, nil, nil
	c.mu.Unlock()
	s.mu.Lock()
	delete(s.containers, c.id)
	s.mu.Unlock()
	s.journal.forget(cursors...)
	rest := s.dropTree(c, tree)
	switch {
	case box != nil:
		s.leave(c.id, box, !c.clean, rest)
	case rest != nil:
		s.janitor.Go(rest)
	}
	if bound != nil {
		s.unbind(bound)
	}
	if err := errors.Join(s.removeRun(c.id), os.RemoveAll(c.log.dir)); err != nil {
		fmt.Fprintln(os.Stderr, "supervisor:", err)
	}
}

// finish makes a container exited: its log is whole, then its record is
// written, then it is told. What takes the kernel its time comes afterwards: to
// take a namespace of mounts down is to wait for a grace period, which the end of
// the last process would do before anybody heard of it, were it not held here.
// c.mu is held.
func (s *supervisor) finish(c *container, exit engine.Exit) {
	if c.state == engine.Exited {
		return
	}
	never := c.ready != nil && exit.Started.IsZero()
	bare := c.bare
	if c.bare = nil; bare != nil {
		bare.drop()
	}
	if c.ready != nil {
		c.ready.close()
		c.ready = nil
	}
	s.unpublish(c)
	s.closeStdio(c)
	if exit.Finished.IsZero() {
		exit.Finished = time.Now()
	}
	if c.pidfd >= 0 {
		unix.Close(c.pidfd)
	}
	c.state, c.exit, c.pid, c.pidfd = engine.Exited, &exit, 0, -1
	if err := s.recordExit(c); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if c.cursors[0] != 0 || !never { // a container that was never to run has no exit to tell
		e := s.journal.add(engine.Event{Time: exit.Finished, Kind: engine.EventExited, ID: c.id, Labels: c.labels, Exit: &exit})
		c.cursors[1] = e.Cursor
	}
	c.run.exit = c.exit
	close(c.run.exited)
	tree, group, mounts, run := c.tree, c.group, c.mounts, c.run
	c.mounts = -1
	s.janitor.Go(func() {
		if bare != nil {
			<-bare.gone
		}
		closeAll(mounts)
		close(run.gone)
		if tree != nil {
			tree.Release()
		}
		s.releaseGroup(group) // after the mounts, whose memory is charged to it
	})
}

// reaped is called when the first process has ended, and with it, by the
// kernel's doing, all others of its namespace.
func (s *supervisor) reaped(c *container, e ending) {
	exit := engine.Exit{Started: c.started, Finished: e.at}
	if e.status.Signaled() {
		exit.Signal = int(e.status.Signal())
		exit.Code = 128 + exit.Signal
	} else {
		exit.Code = e.status.ExitStatus()
	}
	exit.OOM = exit.Code == 137 && c.group.OOMKills() > 0
	exit.Memory, exit.CPU = c.group.Final()
	if exit.CPU == 0 {
		exit.CPU = time.Duration(e.usage.Utime.Nano() + e.usage.Stime.Nano())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.finish(c, exit)
}
