//go:build linux && amd64

package supervisor

import (
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/rootfs"
	"skerry/internal/engine/embedded/spawn"
)

// stdio is what a container's first process has as its standard input, output
// and error: pipes, or a terminal three times. It is made for one run.
type stdio struct {
	ends  [3]int // the program's; -1 is /dev/null
	input int    // where Engine.Input writes; -1: nowhere
	run   uint64 // tells this run's input from another's
	pts   int    // the terminals' file system, for /dev/pts; -1 without a terminal
	slave int    // the terminal
}

var noStdio = stdio{ends: [3]int{-1, -1, -1}, input: -1, pts: -1, slave: -1}

func (s *stdio) terminal() bool { return s.slave >= 0 }

// openStdio makes it, and gives our ends to the pump; c.mu is held.
func (s *supervisor) openStdio(c *container, spec *engine.Spec) error {
	dir, owner := filepath.Join(s.runs(), string(c.id)), int(c.base()+c.user.UID)
	c.stdio = noStdio
	c.stdio.run = uint64(time.Now().UnixNano())
	var err error
	if spec.TTY {
		err = c.openTerminal(owner, int(c.base()+ttyGroup))
	} else {
		if spec.Stdin {
			err = c.stdio.openInput(owner)
		}
		if err == nil {
			err = c.openOutput(dir, owner)
		}
	}
	if err != nil {
		return err
	}
	return s.pump.add(c.log)
}

func (c *container) openOutput(dir string, owner int) error {
	output, err := c.log.openPipes(dir, owner)
	c.stdio.ends[1], c.stdio.ends[2] = output[0], output[1]
	return err
}

// openInput makes a pipe whose writing end stays open here, so that the program
// does not see an end because a writer went away. Writers do not block in the
// kernel, as main's wait in its runtime.
func (s *stdio) openInput(owner int) error {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return fmt.Errorf("supervisor: standard input: %w", err)
	}
	s.ends[0], s.input = p[0], p[1]
	if err := unix.SetNonblock(s.input, true); err != nil {
		return fmt.Errorf("supervisor: standard input: %w", err)
	}
	if err := unix.Fchown(s.ends[0], owner, owner); err != nil { // so that the program can open /dev/stdin
		return fmt.Errorf("supervisor: standard input: %w", err)
	}
	return nil
}

// openTerminal makes a pseudo-terminal out of terminals of the container's own.
// The slave stays open here, so that the terminal is not hung up when the program
// closes its own; what is still in it at the end is drained with the log.
func (c *container) openTerminal(owner, group int) (err error) {
	s := &c.stdio
	if s.pts, err = rootfs.Terminals(uint32(group)); err != nil {
		return err
	}
	ptmx, err := unix.Openat(s.pts, "ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("supervisor: terminal: %w", err)
	}
	c.log.mu.Lock()       // one who reads the log of the run before may be draining
	c.log.pipes[0] = ptmx // the log's to close
	c.log.mu.Unlock()
	s.input = ptmx
	if s.slave, err = peer(ptmx, owner); err != nil {
		return err
	}
	s.ends = [3]int{s.slave, s.slave, s.slave}
	return nil
}

// peer opens the slave of a terminal for its owner.
func peer(ptmx, owner int) (int, error) {
	if err := unix.IoctlSetPointerInt(ptmx, unix.TIOCSPTLCK, 0); err != nil {
		return -1, fmt.Errorf("supervisor: unlock a terminal: %w", err)
	}
	slave, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(ptmx), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, fmt.Errorf("supervisor: open a terminal: %w", errno)
	}
	if err := unix.Fchown(int(slave), owner, -1); err != nil {
		unix.Close(int(slave))
		return -1, fmt.Errorf("supervisor: own a terminal: %w", err)
	}
	return int(slave), nil
}

// closeChild closes what was only for the program.
func (s *stdio) closeChild() {
	for i, fd := range s.ends {
		if fd >= 0 && fd != s.slave {
			unix.Close(fd)
		}
		s.ends[i] = -1
	}
	closeAll(s.pts)
	s.pts = -1
}

// close closes the rest. A terminal's master is the log's.
func (s *stdio) close() {
	s.closeChild()
	if !s.terminal() {
		closeAll(s.input)
	}
	closeAll(s.slave)
	s.input, s.slave = -1, -1
}

// addStdio makes it the child's descriptors 0 to 2, and a terminal the
// controlling one of its session.
func addStdio(t *spawn.Table, ends [3]int, terminal bool) {
	if terminal {
		t.Add("controlling terminal", unix.SYS_IOCTL, spawn.File(ends[0]), unix.TIOCSCTTY, 0)
	}
	for i, fd := range ends {
		if fd < 0 {
			null := t.Add("open null", unix.SYS_OPENAT, atCwd, t.String("/dev/null"), unix.O_RDWR|unix.O_CLOEXEC, 0)
			t.Add("stdio", unix.SYS_DUP3, 0, uintptr(i), 0)
			t.Use(0, null)
			continue
		}
		t.Add("stdio", unix.SYS_DUP3, spawn.File(fd), uintptr(i), 0)
	}
}

// openedInput gives the descriptor to write a container's input to, which stays
// the container's, and its run.
func (c *container) openedInput() (fd int, run uint64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.tty && !c.stdin:
		return -1, 0, fmt.Errorf("engine: input of %s, which has none: %w", c.id, engine.ErrState)
	case c.state == engine.Exited:
		return -1, 0, fmt.Errorf("engine: input of %s, which has exited: %w", c.id, engine.ErrState)
	case c.stdio.input < 0:
		return -1, 0, fmt.Errorf("engine: input of %s, which has been closed: %w", c.id, engine.ErrState)
	}
	fd, err = unix.FcntlInt(uintptr(c.stdio.input), unix.F_DUPFD_CLOEXEC, 0)
	return fd, c.stdio.run, err
}

// endInput ends the program's input, but a terminal's or another run's. It
// returns the run whose input has an end.
func (c *container) endInput(run uint64) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tty {
		return 0
	}
	if c.stdio.run == run {
		closeAll(c.stdio.input)
		c.stdio.input = -1
	}
	return run
}

// resize sets the size of a container's terminal.
func (c *container) resize(size engine.Size) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.tty:
		return fmt.Errorf("engine: resize %s, which has no terminal: %w", c.id, engine.ErrState)
	case c.state == engine.Exited:
		return fmt.Errorf("engine: resize %s, which has exited: %w", c.id, engine.ErrState)
	}
	return setSize(c.stdio.input, size)
}

func setSize(fd int, size engine.Size) error {
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns}); err != nil {
		return fmt.Errorf("engine: resize a terminal: %w", err)
	}
	return nil
}

// terminalIn opens a new terminal in a running container, for a program that is
// run there; c.mu is held. Where /dev/pts is not the engine's but something that
// the container has been given, nothing is opened.
func (s *supervisor) terminalIn(c *container, owner int, size engine.Size) (ptmx, slave int, err error) {
	err = s.spawner.Visit(c.where(), unix.CLONE_NEWNS, -1, func() (err error) {
		ptmx, err = unix.Open("/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		return err
	})
	if err != nil {
		return -1, -1, fmt.Errorf("engine: open a terminal in %s: %w", c.id, err)
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(ptmx, &st); err != nil || st.Type != unix.DEVPTS_SUPER_MAGIC {
		unix.Close(ptmx)
		return -1, -1, fmt.Errorf("engine: /dev/pts of %s has no terminals: %w", c.id, engine.ErrUnsupported)
	}
	if slave, err = peer(ptmx, owner); err == nil && size != (engine.Size{}) {
		err = setSize(ptmx, size)
	}
	if err != nil {
		closeAll(ptmx, slave)
		return -1, -1, err
	}
	return ptmx, slave, nil
}
