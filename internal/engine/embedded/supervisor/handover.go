//go:build linux && amd64

package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/cgroup"
	"skerry/internal/engine/embedded/network"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/embedded/rootfs"
)

// form is the version of handover, and of all that it has in it. A change by which
// either of two programs would misunderstand the other makes it a new one.
const form = 1

// askForm is the argument by which a program is asked for its form.
const askForm = "handover"

// handover is what a program needs to go on as this supervisor. Descriptors keep
// their numbers; Files are all of them.
type handover struct {
	Form         int
	Files        []int
	Lock, Socket int
	Asker        int // a connection that waits to hear of the upgrade
	Tree         cgroup.TreeState
	Pool         network.PoolState
	Roots        rootfs.RootsState
	Spawner      int
	Boxes        []boxState
	Bounds       []boundState
	Containers   []containerState
	Sessions     []sessionState
	Children     []int // all, those of whom nobody wants to hear too
	Cursor       engine.Cursor
	Events       []engine.Event
}

type boxState struct {
	Name, Account string
	Network       engine.Network
	Slot          network.SlotState
	Changed       bool
}

type boundState struct {
	Account string
	Group   engine.Group
	Parent  cgroup.ParentState
	Users   int
	Disks   map[string]diskState
}

type diskState struct {
	rootfs.SharedDiskState
	Size int64
}

type sessionState struct {
	Conn, Pid, Pidfd int
	Started          time.Time
	Exit             *engine.Exit
}

// containerState is a container; its record has what does not change.
type containerState struct {
	Record          stored
	User            engine.User
	Home, Made      string
	Limits          engine.Limits
	Written, Opened bool
	Pidfd, Mounts   int
	Cursors         [2]engine.Cursor
	Past            []engine.Cursor
	Box, Bound      string
	Group           *cgroup.GroupState
	Tree            *rootfs.TreeState
	Published       *network.PublishedState
	Ready           *readyState
	Log             logState
	Stdio           stdioState
}

// readyState is a prepared.
type readyState struct {
	Hostname          string
	Root, Dev, Folder int
	Mounts            []mountState
	Groups            []cgroup.View
}

type mountState struct {
	FD     int
	Target string
}

type logState struct {
	Pipes    [2]int
	File     int
	Segments []int64
	End      int64
	Ended    bool
}

type stdioState struct {
	Ends              [3]int
	Input, PTS, Slave int
	Run               uint64
}

// handOver writes down what is only in this process's memory, into a file in memory,
// and lists the descriptors that go with it. Nobody changes anything meanwhile.
func (s *supervisor) handOver(asker *protocol.Conn) (memory int, files []int, err error) {
	h := handover{Form: form, Lock: s.lock, Children: s.reaper.expected(), Cursor: s.journal.next}
	keep := func(fds ...int) {
		for _, fd := range fds {
			if fd >= 0 {
				h.Files = append(h.Files, fd)
			}
		}
	}
	keep(s.lock)
	if h.Socket, err = number(s.socket); err != nil {
		return -1, nil, err
	}
	if h.Asker, err = number(asker); err != nil {
		return -1, nil, err
	}
	keep(h.Socket, h.Asker)
	h.Tree, h.Pool, h.Roots, h.Spawner = s.tree.State(keep), s.pool.State(keep), s.roots.State(keep), s.spawner.State(keep)
	for _, b := range s.boxes.byName {
		h.Boxes = append(h.Boxes, boxState{b.name, b.account, b.network, b.slot.State(keep), b.changed})
	}
	for _, b := range s.together.byName {
		bs := boundState{b.account, b.group, b.parent.State(), b.users, map[string]diskState{}}
		for name, d := range b.disks {
			bs.Disks[name] = diskState{d.SharedDisk.State(keep), d.size}
		}
		h.Bounds = append(h.Bounds, bs)
	}
	for _, c := range s.containers {
		h.Containers = append(h.Containers, c.handOver(keep))
	}
	for x := range s.sessions.all {
		fd, err := number(x.conn)
		if err != nil {
			return -1, nil, err
		}
		keep(fd, x.pidfd)
		h.Sessions = append(h.Sessions, sessionState{fd, x.pid, x.pidfd, x.started, x.exit})
	}
	for _, e := range s.journal.events {
		if e.ID != "" {
			h.Events = append(h.Events, e)
		}
	}
	slices.Sort(h.Files)
	h.Files = slices.Compact(h.Files)
	text, err := json.Marshal(h)
	if err != nil {
		return -1, nil, fmt.Errorf("write down: %w", err)
	}
	if memory, err = unix.MemfdCreate("handover", unix.MFD_CLOEXEC); err != nil {
		return -1, nil, fmt.Errorf("write down: %w", err)
	}
	for len(text) > 0 && err == nil {
		var n int
		n, err = unix.Write(memory, text)
		text = text[max(n, 0):]
	}
	if err != nil {
		unix.Close(memory)
		return -1, nil, fmt.Errorf("write down: %w", err)
	}
	return memory, h.Files, nil
}

func (c *container) handOver(keep func(...int)) containerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := containerState{Record: stored{Status: c.statusLocked(), Spec: c.spec, Layers: c.image.layers},
		User: c.user, Home: c.home, Limits: c.limits, Written: c.written, Opened: c.opened,
		Pidfd: c.pidfd, Mounts: c.mounts, Cursors: c.cursors, Past: c.past, Tree: c.tree.State(), Published: c.published.State(c.slot, keep), Made: c.made}
	keep(c.pidfd, c.mounts)
	if c.box != nil {
		h.Box = c.box.name
	}
	if c.bound != nil {
		h.Bound = c.bound.group.Name
	}
	if c.group != nil && c.state != engine.Exited { // then it has been given back
		g := c.group.State()
		h.Group = &g
	}
	if p := c.ready; p != nil {
		r := &readyState{Hostname: p.hostname, Root: p.root, Dev: p.dev, Folder: p.folder, Groups: p.groups}
		keep(p.root)
		for _, fd := range []int{p.dev, p.folder} {
			if fd > 0 {
				keep(fd)
			}
		}
		for _, m := range p.mounts {
			keep(m.fd)
			r.Mounts = append(r.Mounts, mountState{m.fd, m.target})
		}
		for _, v := range p.groups {
			keep(v.FD)
		}
		h.Ready = r
	}
	l, io := c.log, c.stdio
	keep(l.pipes[0], l.pipes[1], l.file, io.ends[0], io.ends[1], io.ends[2], io.input, io.pts, io.slave)
	h.Log = logState{l.pipes, l.file, l.segments, l.end, l.ended}
	h.Stdio = stdioState{io.ends, io.input, io.pts, io.slave, io.run}
	return h
}

// takeOver goes on with what another program has written down. Until it knows that
// it can, it changes nothing, so that the other still could.
func takeOver(args []string, version, failed string) (s *supervisor, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	var cfg protocol.Config
	if err := json.Unmarshal([]byte(args[2]), &cfg); err != nil {
		return nil, err
	}
	h, spent, err := read(args[3:])
	if err != nil {
		return nil, err
	}
	if s, err = begin(cfg, version); err == nil {
		err = s.own()
	}
	if err == nil {
		err = s.restore(h)
	}
	if err != nil {
		return nil, err
	}
	conns := make([]*net.UnixConn, 0, len(h.Sessions)+1)
	for _, x := range append(h.Sessions, sessionState{Conn: h.Asker}) {
		c, err := reopen(x.Conn, net.FileConn)
		if err != nil {
			return nil, err
		}
		spent = append(spent, x.Conn)
		conns = append(conns, c.(*net.UnixConn))
	}
	l, err := reopen(h.Socket, net.FileListener)
	if err != nil {
		return nil, err
	}
	s.socket = l.(*net.UnixListener)
	spent = append(spent, h.Socket)

	for _, fd := range h.Files {
		unix.CloseOnExec(fd)
	}
	closeAll(spent...)
	if err := errors.Join(s.sweep(s.logs()), s.sweep(s.uppers())); err != nil { // what was kept for the next container
		fmt.Fprintln(os.Stderr, err)
	}
	s.caps = s.capabilities()
	for i, x := range h.Sessions {
		s.attendAgain(x, conns[i])
	}
	for _, pid := range h.Children {
		s.reaper.expectMore(pid)
	}
	asker := protocol.NewConn(conns[len(h.Sessions)])
	go s.serveConn(asker, func() error {
		if failed == "" {
			return asker.Send(protocol.Reply{})
		}
		return s.fail(asker, fmt.Errorf("engine: upgrade of the supervisor: %s", failed))
	})
	return s, nil
}

// read reads a handover and checks that its descriptors are there. spent are those
// that are of no use any more once it has been taken over.
func read(numbers []string) (h *handover, spent []int, err error) {
	for _, n := range numbers[:min(2, len(numbers))] {
		fd, err := strconv.Atoi(n)
		if err != nil {
			return nil, nil, err
		}
		spent = append(spent, fd)
	}
	var st unix.Stat_t
	if err := unix.Fstat(spent[0], &st); err != nil {
		return nil, nil, fmt.Errorf("read the handover: %w", err)
	}
	text := make([]byte, st.Size)
	for at := 0; at < len(text); {
		n, err := unix.Pread(spent[0], text[at:], int64(at))
		if err != nil || n == 0 {
			return nil, nil, fmt.Errorf("read the handover: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		at += n
	}
	h = new(handover)
	if err := json.Unmarshal(text, h); err != nil {
		return nil, nil, fmt.Errorf("read the handover: %w", err)
	}
	if h.Form != form {
		return nil, nil, fmt.Errorf("the handover has form %d, not %d", h.Form, form)
	}
	for _, fd := range h.Files {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			return nil, nil, fmt.Errorf("descriptor %d of the handover: %w", fd, err)
		}
	}
	return h, spent, nil
}

// restore makes what a handover describes.
func (s *supervisor) restore(h *handover) (err error) {
	s.lock = h.Lock
	s.tree = cgroup.TakeOver(h.Tree)
	if err := s.recoverFirewalls(); err != nil {
		return err
	}
	if err := s.pool.TakeOver(h.Pool); err != nil {
		return err
	}
	if s.spawner, err = rootfs.TakeOverRoom(h.Spawner); err != nil {
		return err
	}
	if s.roots, err = rootfs.TakeOverRoots(h.Roots, s.skeleton()); err != nil {
		return err
	}
	for _, b := range h.Boxes {
		box := &sandbox{name: b.Name, account: b.Account, network: b.Network, made: make(chan struct{}), changed: b.Changed}
		if box.slot, err = s.pool.TakeOverSlot(b.Slot); err != nil {
			return err
		}
		close(box.made)
		s.boxes.byName[b.Name] = box
	}
	for _, b := range h.Bounds {
		one := &bound{account: b.Account, group: b.Group, parent: s.tree.TakeOverParent(b.Parent), users: b.Users, disks: map[string]groupDisk{}}
		for name, d := range b.Disks {
			one.disks[name] = groupDisk{rootfs.TakeOverDisk(d.SharedDiskState), d.Size}
		}
		s.together.byName[b.Group.Name] = one
	}
	s.journal.start(uint64(h.Cursor))
	s.journal.events = h.Events
	for i := range h.Containers {
		if err := s.restoreContainer(&h.Containers[i]); err != nil {
			return fmt.Errorf("container %s: %w", h.Containers[i].Record.Status.ID, err)
		}
	}
	return nil
}

func (s *supervisor) restoreContainer(h *containerState) error {
	st := h.Record.Status
	c := s.newAgain(h.Record)
	if h.Record.Spec != nil && c.spec == nil {
		return errors.New("its specification is not understood")
	}
	c.account, c.labels, c.created, c.started = st.Account, st.Labels, st.Created, st.Started
	c.state, c.exit, c.pid = st.State, st.Exit, st.Pid
	c.user, c.home, c.made, c.limits, c.written, c.opened = h.User, h.Home, h.Made, h.Limits, h.Written, h.Opened
	c.pidfd, c.mounts, c.cursors, c.past = h.Pidfd, h.Mounts, h.Cursors, h.Past
	c.tree = s.roots.TakeOverTree(h.Tree)
	if h.Box != "" {
		box := s.boxes.byName[h.Box]
		if box == nil {
			return fmt.Errorf("no sandbox %q", h.Box)
		}
		box.users++
		if box.name != string(c.id) {
			s.boxes.shared[c.id] = box
		}
		c.box, c.slot, c.host = box, box.slot, box.network.Mode == engine.NetworkHost
	}
	if h.Published != nil {
		c.published = s.pool.TakeOverPublished(c.slot, h.Published)
	}
	var parent *cgroup.Parent
	if h.Bound != "" {
		if c.bound = s.together.byName[h.Bound]; c.bound == nil {
			return fmt.Errorf("no group %q", h.Bound)
		}
		parent = c.bound.parent
	}
	if h.Group != nil {
		c.group = s.tree.TakeOverGroup(*h.Group, parent)
	}
	l := c.log
	l.pipes, l.file, l.segments, l.end, l.ended = h.Log.Pipes, h.Log.File, h.Log.Segments, h.Log.End, h.Log.Ended
	c.stdio = stdio{ends: h.Stdio.Ends, input: h.Stdio.Input, run: h.Stdio.Run, pts: h.Stdio.PTS, slave: h.Stdio.Slave}
	if r := h.Ready; r != nil {
		c.ready = &prepared{hostname: r.Hostname, root: r.Root, dev: r.Dev, folder: r.Folder, groups: r.Groups}
		for _, m := range r.Mounts {
			c.ready.mounts = append(c.ready.mounts, detached{m.FD, m.Target})
		}
		var err error
		if c.ready.join, err = c.group.Join(); err != nil {
			return err
		}
	}
	s.containers[c.id] = c
	switch c.state {
	case engine.Exited:
		c.run.exit = c.exit
		close(c.run.exited)
		close(c.run.gone)
		return nil
	case engine.Running, engine.Frozen:
		s.reaper.expect(c.pid, func(e ending) { s.reaped(c, e) })
	}
	return s.pump.add(l)
}

// attendAgain goes on with a program that exec has started.
func (s *supervisor) attendAgain(h sessionState, c *net.UnixConn) {
	x := &session{conn: protocol.NewConn(c), pid: h.Pid, pidfd: h.Pidfd, started: h.Started, exit: h.Exit, done: make(chan struct{})}
	s.sessions.add(x)
	if x.exit != nil {
		close(x.done)
	} else {
		s.reaper.expect(x.pid, x.ended)
	}
	go s.serveConn(x.conn, func() error { return s.attend(x) })
}

// expectMore has a child reaped, if nobody has said that it is to be.
func (r *reaper) expectMore(pid int) {
	r.mu.Lock()
	_, known := r.wait[pid]
	r.mu.Unlock()
	if !known {
		r.expect(pid, func(ending) {})
	}
}

// number is the descriptor of a connection or listener, which stays its own.
func number(c syscall.Conn) (n int, err error) {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { n = int(fd) })
	}
	if err != nil {
		return -1, fmt.Errorf("write down: %w", err)
	}
	return n, nil
}

// reopen makes a connection or listener of a copy of a descriptor.
func reopen[T any](fd int, as func(*os.File) (T, error)) (c T, err error) {
	copied, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return c, fmt.Errorf("descriptor %d: %w", fd, err)
	}
	f := os.NewFile(uintptr(copied), "handed over")
	defer f.Close()
	return as(f)
}
