//go:build linux && amd64

package supervisor

import (
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ending is how a child ended.
type ending struct {
	status unix.WaitStatus
	usage  unix.Rusage
	at     time.Time
}

// reaper waits for all children at once: one blocked thread however many there
// are. A child can end before its parent has registered it.
type reaper struct {
	mu     sync.Mutex
	change *sync.Cond
	count  int // children that have been made and not reaped
	wait   map[int]func(ending)
	early  map[int]ending
	busy   int  // calls of those functions that are under way
	held   bool // nothing is reaped, see hold
}

func newReaper() *reaper {
	r := &reaper{wait: map[int]func(ending){}, early: map[int]ending{}}
	r.change = sync.NewCond(&r.mu)
	return r
}

// expect has fn called when the child has ended, by the goroutine that has heard
// of it: another one goes on waiting.
func (r *reaper) expect(pid int, fn func(ending)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.early[pid]; ok {
		delete(r.early, pid)
		r.busy++
		go r.tell(fn, e)
		return
	}
	r.wait[pid] = fn
	r.count++
	r.change.Broadcast()
}

// run waits until it has heard of a child's end, and goes on in another goroutine.
func (r *reaper) run() {
	for {
		err := childEnded()
		if fn, e := r.reap(err); fn != nil {
			go r.run()
			r.tell(fn, e)
			return
		}
	}
}

// childEnded returns when a child has ended, which it leaves as it is: what has
// been reaped is known to this process alone.
func childEnded() error {
	_, _, errno := unix.Syscall6(unix.SYS_WAITID, unix.P_ALL, 0, 0, unix.WEXITED|unix.WNOWAIT, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// reap reaps a child, if one has ended, and says what to do about it.
func (r *reaper) reap(err error) (fn func(ending), e ending) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.held {
		r.change.Wait()
	}
	if err == syscall.ECHILD {
		for r.count == 0 {
			r.change.Wait()
		}
		return nil, e
	}
	pid, err := unix.Wait4(-1, &e.status, unix.WNOHANG, &e.usage)
	if err != nil || pid <= 0 {
		return nil, e
	}
	e.at = time.Now()
	if fn = r.wait[pid]; fn == nil {
		r.early[pid] = e
		return nil, e
	}
	delete(r.wait, pid)
	r.count--
	r.busy++
	return fn, e
}

func (r *reaper) tell(fn func(ending), e ending) {
	fn(e)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy--
	r.change.Broadcast()
}

// hold returns once everybody knows of all that has been reaped. Until release,
// children that end are left as they are.
func (r *reaper) hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = true
	for r.busy > 0 {
		r.change.Wait()
	}
}

func (r *reaper) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = false
	r.change.Broadcast()
}

// expected are the children that have not been reaped.
func (r *reaper) expected() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.wait))
}
