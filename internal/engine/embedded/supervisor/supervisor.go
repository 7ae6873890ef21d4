//go:build linux && amd64

// Package supervisor is the process that owns the containers as its direct
// children, so that the main process can be killed, updated and started again
// while they run. It is the same program, started with one argument (Main), and
// does nothing but this: requests of main come over a unix socket
// (internal/engine/embedded/protocol), exits and output go to files before they
// are told.
//
// When the supervisor itself dies, its containers are lost: the next one kills
// what is left of them, cleans up and reports each as exited with a reason.
// Taking them over is not built yet.
//
// # Upgrades
//
// A main of another build has the supervisor replace itself by that build, in place
// by exec (upgrade): the process stays, and with it its children. All calls are
// let end and new ones kept waiting, nothing is made, reaped or read any more, and
// then what is only in memory is written down (handover) for the new program, which
// inherits the descriptors. Output stays in its pipes meanwhile, and a child that
// ends stays a zombie, until the new program goes on with both.
//
// What is carried over: containers in every state with their roots, networks, ports,
// limits and logs; programs that exec has started, with the connections on which
// their ends are awaited; the journal of events. What is not: children, namespaces
// and disks that were made ahead, and used ones kept for the next container, which
// are given up; a container that has got such a child is made anew. Other connections end: main sends again what was not answered, but a stream
// of events ends with an error, as at the supervisor's end, and is asked for anew.
// A half of a call is never done: an upgrade for which calls would not end within
// ten seconds is not made.
//
// A program that cannot be started, or does not know this form of the handover, is
// not gone over to, and one that fails to take over goes back to the old one. But
// one that is killed, or crashes, while it takes over takes the containers along.
package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/cgroup"
	"skerry/internal/engine/embedded/network"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/embedded/rootfs"
	"skerry/internal/engine/embedded/spawn"
)

// Main runs the supervisor if the program was started as one, and does not
// return then. Call it first thing in main, and in TestMain of tests that use
// the embedded engine. version is what the supervisor says that it is.
func Main(version string) {
	if len(os.Args) < 3 || os.Args[1] != protocol.Command {
		return
	}
	if os.Args[2] == askForm {
		fmt.Fprintln(os.Stdout, form)
		os.Exit(0)
	}
	if len(os.Args) > 3 {
		goOn(os.Args, version)
		os.Exit(0)
	}
	// descriptor 3 is where main waits to hear that all is ready
	ready := os.NewFile(3, "ready")
	var cfg protocol.Config
	err := json.Unmarshal([]byte(os.Args[2]), &cfg)
	var s *supervisor
	if err == nil {
		s, err = open(cfg, version)
	}
	if errors.Is(err, errAnother) { // main finds it
		_ = ready.Close()
		os.Exit(0)
	}
	if err != nil {
		fmt.Fprint(ready, err)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_ = ready.Close()
	s.serve()
	os.Exit(0)
}

// supervisor is the whole state.
type supervisor struct {
	cfg      protocol.Config
	version  string
	lock     int
	socket   *net.UnixListener
	tree     *cgroup.Tree
	pool     *network.Pool
	boxes    sandboxes
	together boundaries
	firewall sync.Mutex // of SetFirewall
	linking  sync.Mutex // one connect at a time, before containers
	roots    *rootfs.Roots
	spares   spares
	kept     kept
	bares    bares
	disks    *rootfs.Disks
	spawner  *rootfs.Room
	low      *spawn.Low
	walls    walls
	pump     *pump
	reaper   *reaper
	journal  journal
	caps     engine.Capabilities
	ownPids  int // descriptors of this process's namespaces of processes and of host names
	ownNames int
	init     int // the program that is process 1 where one is asked for

	mu         sync.Mutex
	containers map[engine.ID]*container
	conns      int
	asked      bool // somebody has connected
	ending     bool
	stop       chan struct{}
	signals    chan os.Signal
	janitor    janitor // work after a container's end

	gate      gate
	upgrading sync.Mutex // one at a time
	sessions  sessions
}

// begin is what comes first, however the supervisor was started.
func begin(cfg protocol.Config, version string) (s *supervisor, err error) {
	// one that shares its memory with children in containers must not be
	// read through them
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	unix.Umask(0) // modes are what is asked for; each thread goes on with its own copy
	raiseFiles()
	_ = os.WriteFile("/proc/self/comm", []byte("skerry"), 0) // not the descriptor that it was executed by
	s = &supervisor{cfg: cfg, version: version, containers: map[engine.ID]*container{}, stop: make(chan struct{}), signals: make(chan os.Signal, 4)}
	s.together.byName = map[string]*bound{}
	s.boxes = sandboxes{byName: map[string]*sandbox{}, shared: map[engine.ID]*sandbox{}}
	s.sessions.all = map[*session]bool{}
	s.pool = network.NewPool(cfg.Name, engine.LocalAddresses)
	s.disks = rootfs.NewDisks(protocol.DiskFolder(cfg.Data))
	s.reaper = newReaper()
	s.low, err = spawn.ReserveLow()
	return s, err
}

// own opens what is this process's own, and not handed over.
func (s *supervisor) own() (err error) {
	if s.walls, err = findWalls(); err != nil {
		return err
	}
	if s.pump, err = newPump(); err != nil {
		return err
	}
	if s.ownPids, err = unix.Open("/proc/self/ns/pid", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	if s.ownNames, err = unix.Open("/proc/self/ns/uts", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	s.init, err = openInit()
	return err
}

func open(cfg protocol.Config, version string) (*supervisor, error) {
	s, err := begin(cfg, version)
	if err != nil {
		return nil, err
	}
	for _, dir := range []string{cfg.Data, s.logs(), s.uppers(), cfg.Run, s.runs()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("supervisor: %w", err)
		}
	}
	if s.lock, err = lock(cfg.Data); err != nil {
		return nil, err
	}
	mounts, err := cgroup.FindMounts("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	if s.tree, err = cgroup.Open(mounts, cfg.Name, cfg.Cgroups); err != nil {
		return nil, err
	}
	scratch := filepath.Join(cfg.Run, "room")
	if err := os.MkdirAll(scratch, 0o700); err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	if s.spawner, err = rootfs.NewRoom(scratch); err != nil {
		return nil, err
	}
	templates, err := rootfs.NewRoom(scratch)
	if err != nil {
		return nil, err
	}
	if s.roots, err = rootfs.NewRoots(templates, s.skeleton()); err != nil {
		return nil, err
	}
	if err := s.own(); err != nil {
		return nil, err
	}
	s.journal.start(uint64(time.Now().UnixNano()))
	if err := s.recover(); err != nil {
		return nil, err
	}
	if err := s.recoverFirewalls(); err != nil {
		return nil, err
	}
	s.caps = s.capabilities()
	if s.socket, err = listen(cfg.Data); err != nil {
		return nil, err
	}
	return s, nil
}

// runs is the folder of the containers' records and pipes.
func (s *supervisor) runs() string { return filepath.Join(s.cfg.Run, "containers") }

// logs is the folder of the containers' output.
func (s *supervisor) logs() string { return filepath.Join(s.cfg.Data, "logs") }

// uppers is the folder of what containers of images have written.
func (s *supervisor) uppers() string { return filepath.Join(s.cfg.Data, "containers") }

// raiseFiles lets this process hold as many descriptors as it may.
func raiseFiles() {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &l) == nil {
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: l.Cur, Max: l.Max})
	}
}

// errAnother says that there is a supervisor already, and that it answers.
var errAnother = errors.New("supervisor: another supervisor runs")

// lock keeps a second supervisor off the data. One that is ending holds the lock
// until it has given everything back, so it is waited for; one that answers, the
// work of a main that was killed while it waited, is not.
func lock(dir string) (fd int, err error) {
	path := filepath.Join(dir, "lock")
	if fd, err = unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err != nil {
		return -1, fmt.Errorf("supervisor: %s: %w", path, err)
	}
	for deadline := time.Now().Add(endTimeout); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return fd, nil
		}
		if err == unix.EWOULDBLOCK && answers(dir) {
			unix.Close(fd)
			return -1, errAnother
		}
		if err != unix.EWOULDBLOCK || time.Now().After(deadline) {
			unix.Close(fd)
			return -1, fmt.Errorf("supervisor: %s: another supervisor runs: %w", path, err)
		}
	}
}

// answers tells whether somebody listens on the socket.
func answers(dir string) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	c, err := net.Dial("unix", fmt.Sprintf("/proc/self/fd/%d/socket", d.Fd()))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}

// listen opens the socket. Its path may be longer than a socket's address can
// be, so it is reached through the folder's descriptor.
func listen(dir string) (*net.UnixListener, error) {
	path := filepath.Join(dir, "socket")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	defer d.Close()
	runtime.LockOSThread() // whose mask it is
	defer runtime.UnlockOSThread()
	defer unix.Umask(unix.Umask(0o177))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/socket", d.Fd())})
	if err != nil {
		return nil, fmt.Errorf("supervisor: %w", err)
	}
	l.SetUnlinkOnClose(false)
	return l, nil
}

// serve accepts until the end: shutdown, SIGTERM, or nobody needs it any more.
func (s *supervisor) serve() {
	signal.Notify(s.signals, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	go s.pump.run()
	go s.reaper.run()
	go func() {
		for {
			c, err := s.socket.AcceptUnix()
			if err != nil {
				return
			}
			go s.serveConn(protocol.NewConn(c), nil)
		}
	}()
	idle := time.NewTicker(min(max(s.cfg.Linger/4, 10*time.Millisecond), 2*time.Second))
	defer idle.Stop()
	needed := time.Now()
	for {
		select {
		case <-s.stop:
			s.end(true)
			return
		case sig := <-s.signals:
			if sig == unix.SIGTERM {
				s.end(false)
				return
			}
		case <-idle.C:
			s.gate.enter()
			s.kept.drop(time.Now().Add(-keepFor))
			s.trimBares(time.Now().Add(-bareLife))
			s.gate.leave()
			if s.abandoned() {
				s.end(true)
				return
			}
			if s.busy() {
				needed = time.Now()
			} else if time.Since(needed) > s.linger() {
				s.end(false)
				return
			}
		}
	}
}

// firstTimeout is how long whoever has started a supervisor may take to connect.
const firstTimeout = 10 * time.Second

// linger is how long to go on without being needed.
func (s *supervisor) linger() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.asked {
		return max(s.cfg.Linger, firstTimeout)
	}
	return s.cfg.Linger
}

// abandoned says that the engine's folder has been taken away, so that nobody
// can ever reach this supervisor and its containers again.
func (s *supervisor) abandoned() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns > 0 {
		return false
	}
	_, err := os.Stat(filepath.Join(s.cfg.Data, "socket"))
	return errors.Is(err, os.ErrNotExist)
}

// busy says whether anybody is connected or any container lives.
func (s *supervisor) busy() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns > 0 {
		return true
	}
	for _, c := range s.containers {
		if c.current() != engine.Exited {
			return true
		}
	}
	return false
}

// endTimeout is how long the end of all containers may take.
const endTimeout = 30 * time.Second

// end stops all containers and gives everything back. With forget their records
// go too; else the next supervisor tells of them.
func (s *supervisor) end(forget bool) {
	s.mu.Lock()
	s.ending = true // nothing is created any more, and no upgrade made
	s.mu.Unlock()
	s.gate.enter() // for good; one that is under way is waited for
	_ = s.socket.Close()
	_ = os.Remove(filepath.Join(s.cfg.Data, "socket"))
	s.endBares()
	s.mu.Lock()
	all := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		all = append(all, c)
	}
	s.mu.Unlock()
	var wait sync.WaitGroup
	for _, c := range all {
		wait.Go(func() {
			if forget {
				s.remove(c)
			} else {
				s.kill(c)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		wait.Wait()
		s.janitor.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(endTimeout): // a process that the kernel does not let go: the next supervisor finds it
		fmt.Fprintln(os.Stderr, "supervisor: some containers would not end in time")
		return
	}
	s.kept.drop(time.Now())
	s.disks.Close()
	err := errors.Join(s.pool.Close(), s.tree.Close())
	if forget {
		err = errors.Join(err, os.RemoveAll(s.logs()), os.RemoveAll(s.uppers()), os.RemoveAll(protocol.DiskFolder(s.cfg.Data)), os.RemoveAll(s.skeleton()))
	}
	if records, e := os.ReadDir(s.runs()); forget || e == nil && len(records) == 0 {
		err = errors.Join(err, os.RemoveAll(s.cfg.Run))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// get finds a container.
func (s *supervisor) get(id engine.ID) (*container, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.containers[id]
	if c == nil {
		return nil, fmt.Errorf("engine: %s: %w", id, engine.ErrNotFound)
	}
	return c, nil
}
