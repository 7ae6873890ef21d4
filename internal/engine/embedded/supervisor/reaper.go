//go:build linux && amd64

package supervisor

import (
	"sync"
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
	mu    sync.Mutex
	born  *sync.Cond
	count int // children that have been made and not reaped
	wait  map[int]func(ending)
	early map[int]ending
}

func newReaper() *reaper {
	r := &reaper{wait: map[int]func(ending){}, early: map[int]ending{}}
	r.born = sync.NewCond(&r.mu)
	return r
}

// expect has fn called when the child has ended, by the goroutine that has heard
// of it: another one goes on waiting.
func (r *reaper) expect(pid int, fn func(ending)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.early[pid]; ok {
		delete(r.early, pid)
		go fn(e)
		return
	}
	r.wait[pid] = fn
	r.count++
	r.born.Signal()
}

// run waits until it has heard of a child's end, and goes on in another goroutine.
func (r *reaper) run() {
	for {
		var e ending
		pid, err := unix.Wait4(-1, &e.status, 0, &e.usage)
		e.at = time.Now()
		if fn := r.told(pid, err, e); fn != nil {
			go r.run()
			fn(e)
			return
		}
	}
}

// told says what to do about what a wait has returned.
func (r *reaper) told(pid int, err error, e ending) (fn func(ending)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err == unix.ECHILD:
		for r.count == 0 {
			r.born.Wait()
		}
	case err != nil || !e.status.Exited() && !e.status.Signaled():
	case r.wait[pid] == nil:
		r.early[pid] = e
	default:
		fn = r.wait[pid]
		delete(r.wait, pid)
		r.count--
	}
	return fn
}
