//go:build linux && amd64

package supervisor

import (
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/embedded/spawn"
)

// program is what exec has started.
type program struct {
	pid   int
	pidfd int
	ptmx  int // its terminal's master, or -1
}

var noProgram = program{0, -1, -1}

// session is a program that exec has started, and the connection on which its end
// is awaited. Its input and output do not come by here.
type session struct {
	conn    *protocol.Conn
	pid     int
	pidfd   int
	started time.Time
	exit    *engine.Exit  // once done is closed
	done    chan struct{} // closed when it has ended
}

// sessions are all of them.
type sessions struct {
	mu  sync.Mutex
	all map[*session]bool
}

func (s *sessions) add(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[x] = true
}

func (s *sessions) remove(x *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, x)
}

func (x *session) ended(e ending) {
	exit := exitOf(e, x.started)
	x.exit = &exit
	close(x.done)
}

// execute runs a program in a container: an answer when it runs, with its
// terminal if it has one, another at its end.
func (s *supervisor) execute(conn *protocol.Conn, c *container, spec *engine.ExecSpec, fds []int) error {
	x := &session{conn: conn, started: time.Now(), done: make(chan struct{})}
	p, err := s.exec(c, spec, fds, x.ended)
	closeAll(fds...)
	for i := range fds {
		fds[i] = -1 // the program's alone from now on
	}
	if err != nil {
		return s.fail(conn, err)
	}
	x.pid, x.pidfd = p.pid, p.pidfd
	s.sessions.add(x)
	reply := protocol.Reply{More: true, Pid: p.pid}
	if p.ptmx >= 0 {
		err = conn.Send(reply, p.ptmx)
		unix.Close(p.ptmx)
	} else {
		err = conn.Send(reply)
	}
	if err != nil {
		_ = conn.Close() // attend sees it
	}
	return s.attend(x)
}

// attend waits for a program's end and tells it. When the other side hangs up, the
// program is killed.
func (s *supervisor) attend(x *session) error {
	heard := true
	gone, stop := watch(x.conn)
	s.gate.outside(func() {
		select {
		case <-x.done:
		case <-gone:
			heard = false
			_ = unix.PidfdSendSignal(x.pidfd, unix.SIGKILL, nil, 0)
			<-x.done
		}
	})
	stop()
	s.sessions.remove(x)
	unix.Close(x.pidfd)
	if !heard {
		return net.ErrClosed
	}
	return x.conn.Send(protocol.Reply{Exit: x.exit})
}

// exec starts one more program in a container. The descriptors are its stdin,
// stdout and stderr, unless it has a terminal. Its end is told to fn.
func (s *supervisor) exec(c *container, e *engine.ExecSpec, fds []int, fn func(ending)) (p program, err error) {
	p = noProgram
	if len(e.Command) == 0 || len(fds) != 3 && !e.TTY {
		return p, fmt.Errorf("engine: %w: exec without a command", engine.ErrInvalid)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state != engine.Running {
		return p, fmt.Errorf("engine: exec in %s, which is %s: %w", c.id, c.state, engine.ErrState)
	}
	as := c.execution(e)
	if err := s.resolveIn(c, &as); err != nil {
		return p, err
	}
	owner := int(c.base() + as.user.UID)
	var ends [3]int
	if e.TTY {
		slave := -1
		if p.ptmx, slave, err = s.terminalIn(c, owner, e.Size); err != nil {
			return p, err
		}
		defer unix.Close(slave)
		ends = [3]int{slave, slave, slave}
	} else {
		for i, fd := range fds {
			_ = unix.Fchown(fd, owner, -1) // so that /dev/stdout can be opened; not all can be owned
			ends[i] = fd
		}
	}
	if p.pid, p.pidfd, err = s.spawnIn(c, as, ends, e.TTY, fn); err != nil {
		closeAll(p.ptmx)
		return noProgram, fmt.Errorf("engine: exec in %s: %w", c.id, startError(err, e.Command[0], as.dir))
	}
	return p, nil
}

// execution is an ExecSpec with what it leaves to the container.
type execution struct {
	command, env []string
	dir          string
	user         engine.User
	bounds       bounds
}

func (c *container) execution(e *engine.ExecSpec) execution {
	x := execution{e.Command, e.Env, e.Dir, c.user, c.bounds}
	if x.env == nil {
		x.env = c.env
	}
	if x.dir == "" {
		x.dir = c.dir
	}
	if e.User != nil {
		x.user = *e.User
	}
	if e.Privileged && !c.bounds.privileged { // as with Docker, the filter stays the container's
		x.bounds.caps = allCapabilities
	}
	return x
}

// spawnIn runs a program in the namespaces and the group of a running
// container; c.mu is held.
func (s *supervisor) spawnIn(c *container, x execution, ends [3]int, terminal bool, fn func(ending)) (pid, pidfd int, err error) {
	join, err := c.group.Join()
	if err != nil {
		return 0, -1, err
	}
	folder, err := c.group.Folder()
	if err != nil {
		return 0, -1, err
	}
	if folder > 0 {
		defer unix.Close(folder)
	}
	limits, err := rlimits(c.rlimits)
	if err != nil {
		return 0, -1, err
	}
	t := spawn.NewTable(96)
	zero := t.String("0")
	for _, fd := range join {
		t.Add("join cgroup", unix.SYS_WRITE, spawn.File(fd), zero, 1)
	}
	kinds := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP)
	if !c.host {
		kinds |= unix.CLONE_NEWNET
	}
	t.Add("namespaces", unix.SYS_SETNS, spawn.File(c.pidfd), kinds)
	t.Add("setsid", unix.SYS_SETSID)
	addStdio(t, ends, terminal)
	for n, l := range limits {
		t.Add("rlimit", unix.SYS_PRLIMIT64, 0, uintptr(n), spawn.Keep(t, &l), 0)
	}
	addUser(t, c.userns(), x.bounds, x.user, false)
	addExec(t, x.command, x.env, x.dir)
	// a child is in the process namespace that its parent's thread has chosen
	err = s.spawner.Visit(c.pidfd, unix.CLONE_NEWPID, s.ownPids, func() (err error) {
		pid, pidfd, err = t.Run(spawn.Clone{Cgroup: folder, Low: s.low})
		return err
	})
	if err != nil {
		if pid > 0 {
			s.reaper.expect(pid, func(ending) {})
			closeAll(pidfd)
		}
		return 0, -1, err
	}
	s.reaper.expect(pid, fn)
	return pid, pidfd, nil
}

func exitOf(e ending, started time.Time) engine.Exit {
	exit := engine.Exit{Started: started, Finished: e.at, CPU: time.Duration(e.usage.Utime.Nano() + e.usage.Stime.Nano()),
		Memory: e.usage.Maxrss << 10}
	if e.status.Signaled() {
		exit.Signal = int(e.status.Signal())
		exit.Code = 128 + exit.Signal
	} else {
		exit.Code = e.status.ExitStatus()
	}
	return exit
}
