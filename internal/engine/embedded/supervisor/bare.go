//go:build linux && amd64

package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/rootfs"
	"skerry/internal/engine/embedded/spawn"
)

// bare is a container that was made ahead and has no program yet: its child has gone
// through all of its table but the end, and waits there. What is particular to a
// container (its mounts, its name, its limits, its program) comes with one of the
// same key.
type bare struct {
	key    string
	own    *container // of which create takes what is made; nobody knows it
	table  *spawn.Table
	state  atomic.Int32
	parked chan struct{} // closed when it waits, or never will
	mounts int           // its namespace of mounts; -1
	waits  int           // its pidfd while it waits

	ran        chan struct{} // closed when the table is done with; then
	pid, pidfd int
	err        error
	gone       chan struct{} // closed when it has ended without having been started
}

// The states of a bare container: who comes first decides.
const (
	bareWaits int32 = iota
	bareStarts
	bareEnds
)

// bares are those that wait, of the kinds that were asked for lately.
type bares struct {
	mu     sync.Mutex
	ready  map[string][]*bare
	wanted map[string]wanted
	calm   *time.Timer // makes more of them; nil before the first is wanted
	last   time.Time   // when a container was created
	next   int
	closed bool
}

// wanted is a kind of container that is made ahead.
type wanted struct {
	spec *engine.Spec // of the last one, as far as it is not its own
	at   time.Time
}

// How many are made ahead of a kind, of how many kinds, for how long after the last
// that was asked for, and how long nothing has to have been created before: what is
// made ahead takes no time from what is waited for, and when containers come one
// after the other it would gain nothing.
const (
	baresAhead = 2
	bareKinds  = 4
	bareLife   = 10 * time.Minute
	bareCalm   = 50 * time.Millisecond
)

// bareKey is the same for containers of which the same can be made ahead; empty: of
// one that is like no other.
func (c *container) bareKey() string {
	spec := c.spec
	mode := spec.Network.Mode
	switch {
	case spec.Root.Host == nil || spec.Root.Writable || spec.TTY || spec.Stdin || spec.Init,
		c.bounds.privileged || c.bounds.mounts,
		spec.Security.Seccomp != "",                      // which need not let through what a child does to wait
		spec.Limits.CPUs != "" || spec.Limits.Mems != "", // to join late is to wait
		len(spec.Sysctls)+len(spec.Devices) > 0 || spec.Group.Name != "" || spec.Network.Sandbox != "",
		mode != "" && mode != engine.NetworkNone && mode != engine.NetworkNAT,
		len(candidates(spec.Command[0], spec.Env)) > spawn.MaxRest/2:
		return ""
	}
	for _, m := range spec.Mounts {
		// these are mounted before, or hidden after
		first, _, _ := strings.Cut(strings.TrimPrefix(filepath.Clean(m.Target), "/"), "/")
		if slices.Contains([]string{"dev", "proc", "sys"}, first) {
			return ""
		}
	}
	key, err := json.Marshal([]any{spec.Account, spec.Root, spec.User, spec.ShmSize, mode, spec.Rlimits, spec.Security})
	if err != nil {
		return ""
	}
	return string(key)
}

// takeBare gives a container that is about to be made what was made ahead, if there
// is something, and notes what is wanted.
func (s *supervisor) takeBare(c *container) {
	key := c.bareKey()
	p := &s.bares
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.last = c.created
	if key == "" {
		if p.calm != nil {
			p.calm.Reset(bareCalm)
		}
		return
	}
	if p.ready == nil {
		p.ready, p.wanted = map[string][]*bare{}, map[string]wanted{}
		p.calm = time.AfterFunc(bareCalm, func() { s.janitor.Go(s.refillBares) })
	}
	if _, ok := p.wanted[key]; !ok && len(p.wanted) >= 4*bareKinds {
		return // until it is calm
	}
	like := *c.spec // nothing of what is its own, least of all its environment
	like.Command, like.Env, like.Dir, like.Labels, like.Mounts, like.Network.Ports = nil, nil, "", nil, nil, nil
	p.wanted[key] = wanted{&like, c.created}
	p.calm.Reset(bareCalm)
	for len(p.ready[key]) > 0 && c.bare == nil {
		b := p.ready[key][0]
		p.ready[key] = p.ready[key][1:]
		if !b.alive() {
			s.dropBare(b)
			continue
		}
		c.bare, c.log = b, b.own.log
		c.log.mu.Lock()
		c.log.dir, c.log.files, c.log.size = filepath.Join(s.logs(), string(c.id)), c.spec.LogFiles, c.spec.LogSize
		c.log.mu.Unlock()
	}
}

// refillBares makes those that lack, one after the other, until something is created.
func (s *supervisor) refillBares() {
	p := &s.bares
	for {
		var spec *engine.Spec
		var key string
		p.mu.Lock()
		for k, w := range p.wanted {
			if !p.closed && len(p.ready[k]) < baresAhead && time.Since(p.last) >= bareCalm {
				spec, key = w.spec, k
			}
		}
		p.next++
		id := engine.ID(fmt.Sprintf(".bare%d", p.next)) // no container's
		p.mu.Unlock()
		if spec == nil {
			break
		}
		b, err := s.makeBare(key, id, spec)
		if err != nil {
			return // the next one that is created sees it, or it is tried again after it
		}
		p.mu.Lock()
		_, ok := p.wanted[key]
		if ok = ok && !p.closed && b.state.Load() == bareWaits; ok {
			p.ready[key] = append(p.ready[key], b)
		}
		p.mu.Unlock()
		if !ok {
			s.dropBare(b)
			return
		}
	}
	s.trimBares(time.Now().Add(-bareLife))
}

// trimBares gives up those of kinds that nobody has wanted since, and of too many.
func (s *supervisor) trimBares(since time.Time) {
	p := &s.bares
	var old []*bare
	p.mu.Lock()
	for {
		oldest := ""
		for k, w := range p.wanted {
			if o, ok := p.wanted[oldest]; !ok || w.at.Before(o.at) {
				oldest = k
			}
		}
		if w, ok := p.wanted[oldest]; !ok || len(p.wanted) <= bareKinds && !w.at.Before(since) {
			break
		}
		old = append(old, p.ready[oldest]...)
		delete(p.wanted, oldest)
		delete(p.ready, oldest)
	}
	p.mu.Unlock()
	for _, b := range old {
		s.dropBare(b)
	}
}

// endBares gives all up; no more are made.
func (s *supervisor) endBares() {
	s.bares.mu.Lock()
	s.bares.closed = true
	if s.bares.calm != nil {
		s.bares.calm.Stop()
	}
	s.bares.mu.Unlock()
	s.trimBares(time.Now().Add(time.Hour))
}

// makeBare makes one like a container of a specification. It returns when it waits.
func (s *supervisor) makeBare(key string, id engine.ID, like *engine.Spec) (b *bare, err error) {
	spec := *like
	spec.ID = id
	b = &bare{key: key, table: spawn.NewTable(192), mounts: -1, waits: -1, pidfd: -1,
		parked: make(chan struct{}), ran: make(chan struct{}), gone: make(chan struct{})}
	if b.own, err = s.newContainer(&spec, image{}); err != nil {
		return nil, err
	}
	c := b.own
	if err = os.Mkdir(filepath.Join(s.runs(), string(id)), 0o700); err == nil {
		err = s.furnish(c)
	}
	if err == nil {
		if err = s.childTable(b.table, c, report{-1, -1}, false); err == nil {
			err = b.table.Park()
		}
	}
	if err != nil {
		close(b.gone)
		s.dropBare(b)
		return nil, err
	}
	flags := spawn.Clone{Flags: cloneFlags, Cgroup: c.ready.folder, Low: s.low}
	go s.runBare(b, flags)
	b.waits, err = b.table.Parked()
	close(b.parked)
	if err != nil {
		<-b.ran
		s.dropBare(b)
		return nil, fmt.Errorf("supervisor: make a container ahead: %w", errors.Join(err, b.err))
	}
	c.ready.close()
	c.ready = nil
	c.stdio.closeChild()
	return b, nil
}

// runBare is the thread of a container that waits. It ends with the wait.
func (s *supervisor) runBare(b *bare, flags spawn.Clone) {
	_, err := s.spawner.DoInNew(func(mounts int) (err error) {
		b.mounts = mounts
		b.pid, b.pidfd, err = b.table.Run(flags)
		return err
	})
	b.err = err
	b.table.Drop() // it may not have come to Run
	close(b.ran)
	<-b.parked
	b.table.Leave()
	if !b.state.CompareAndSwap(bareWaits, bareEnds) {
		return // whoever starts it sees to the rest
	}
	if b.pid > 0 {
		s.reaper.expect(b.pid, func(ending) { close(b.gone) })
	} else {
		close(b.gone)
	}
	closeAll(b.pidfd)
	p := &s.bares
	p.mu.Lock()
	list := slices.DeleteFunc(p.ready[b.key], func(o *bare) bool { return o == b })
	lost := len(list) < len(p.ready[b.key])
	if lost {
		p.ready[b.key] = list
	}
	p.mu.Unlock()
	if lost { // somebody has killed it
		s.dropBare(b)
	}
}

// dropBare gives up one that nobody has taken.
func (s *supervisor) dropBare(b *bare) {
	b.drop()
	s.janitor.Go(func() {
		<-b.gone
		c := b.own
		closeAll(b.mounts)
		if c.ready != nil {
			c.ready.close()
		}
		s.closeStdio(c)
		s.releaseGroup(c.group)
		if c.box != nil {
			s.leave(c.id, c.box, false, nil)
		}
		if err := s.removeRun(c.id); err != nil {
			fmt.Fprintln(os.Stderr, "supervisor:", err)
		}
	})
}

// alive says whether its child waits: somebody may have killed it.
func (b *bare) alive() bool {
	return b.state.Load() == bareWaits && unix.PidfdSendSignal(b.waits, 0, nil, 0) == nil
}

// drop has its child exit, if there is one that waits.
func (b *bare) drop() { b.table.Drop() }

// dress makes what was made ahead a container's; c.mu is held.
func (s *supervisor) dress(c *container) error {
	own := c.bare.own
	c.user, c.home, c.group, c.stdio, c.mounts = own.user, own.home, own.group, own.stdio, c.bare.mounts
	c.box, c.slot = own.box, own.slot
	c.ready = &prepared{hostname: c.hostname(), root: -1}
	s.boxes.rename(c.box, string(c.id), c.spec.Network)
	if err := os.Rename(filepath.Join(s.runs(), string(own.id)), filepath.Join(s.runs(), string(c.id))); err != nil {
		return fmt.Errorf("supervisor: %w", err)
	}
	if err := c.group.Set(groupLimits(s.usualLimits(c))); err != nil {
		return unsupported(err)
	}
	for _, m := range c.spec.Mounts {
		if err := s.addMount(c, m); err != nil {
			return fmt.Errorf("engine: %w", err)
		}
	}
	return s.record(c)
}

// rename gives a sandbox that was made ahead to a container.
func (b *sandboxes) rename(box *sandbox, name string, n engine.Network) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.byName, box.name)
	box.name, box.network = name, n
	b.byName[name] = box
}

// startBare starts a container whose child waits: what is its own is mounted from
// outside, and the child told the end of its table. c.mu is held.
func (s *supervisor) startBare(c *container) (pid, pidfd int, err error) {
	b := c.bare
	c.bare = nil
	if !b.state.CompareAndSwap(bareWaits, bareStarts) {
		return 0, -1, fmt.Errorf("supervisor: what was made ahead: %w", spawn.ErrGone)
	}
	if len(c.ready.mounts) > 0 {
		err = s.spawner.Visit(b.mounts, unix.CLONE_NEWNS, -1, func() error {
			for _, m := range c.ready.mounts {
				if err := unix.MoveMount(m.fd, "", unix.AT_FDCWD, m.target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
					return stepError("mount "+m.target, err)
				}
			}
			return nil
		})
	}
	if err == nil && c.ready.hostname != b.own.hostname() {
		err = stepError("host name", rootfs.SetHostname(b.waits, s.ownNames, c.ready.hostname))
	}
	if err == nil {
		rest := &spawn.Table{}
		addExec(rest, c.command, withHome(c.env, c.home), c.dir)
		err = b.table.Continue(rest)
	}
	if err != nil {
		b.drop()
	}
	<-b.ran
	if err == nil {
		err = b.err
	}
	return b.pid, b.pidfd, err
}

// stepError is an error as that of a table's call.
func stepError(name string, err error) error {
	if errno, ok := err.(syscall.Errno); ok {
		return &spawn.Error{Name: name, Errno: errno}
	}
	return err
}
