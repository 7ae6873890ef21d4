//go:build linux && amd64

package spawn

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// A table can have a child wait in the midst of it, parked, for the rest of what it
// is to do: most of a container can so be made before anybody asks for one. It waits
// in a system call as any other, so all the rules hold, for longer: its parent's
// thread waits inside clone3, and what it goes on with is written where it will look
// before it is let go.
type park struct {
	mu    sync.Mutex // of what the parent's goroutines have of the table
	gate  [2]int     // a pipe: the child waits for a byte
	bell  int        // an eventfd: it rings when the child is parked, or is no more
	first int        // of the calls that are the rest's
	rest  *Table
	pidfd *int32
	done  func() // lets the low numbers go
	begun bool
	ended bool // clone3 has returned
}

// MaxRest is how many calls the rest of a parked child can have.
const MaxRest = 48

// ErrGone says that a parked child is no more.
var ErrGone = errors.New("spawn: the child that waited is gone")

// errCrowded says that so many children are being made that this one would have to
// hold copies of all descriptors, among them the one whose end it is to see.
var errCrowded = errors.New("spawn: too many children at once for one that waits")

// Park adds the wait and the space for what comes after it. Nothing else is added
// then. When this process ends, or Drop is called, the child exits instead.
func (t *Table) Park() error {
	p := &park{gate: [2]int{-1, -1}, bell: -1}
	err := unix.Pipe2(p.gate[:], unix.O_CLOEXEC)
	if err == nil {
		p.bell, err = unix.Eventfd(0, unix.EFD_CLOEXEC)
	}
	if err != nil {
		p.close()
		return fmt.Errorf("spawn: park: %w", err)
	}
	t.Add("ring", unix.SYS_WRITE, File(p.bell), Keep(t, &[1]uint64{1}), 8)
	t.Add("wait", unix.SYS_READ, File(p.gate[0]), Keep(t, new(uint64)), 1)
	p.first = len(t.calls)
	for range MaxRest {
		t.Add("nothing", unix.SYS_GETPID)
		t.TolerateAny()
	}
	t.park = p
	return nil
}

// Parked returns once the child waits, with its pidfd, which is Run's to return; or
// once Run has returned, which it does early if the child could not get as far.
func (t *Table) Parked() (pidfd int, err error) {
	var b [8]byte
	for {
		if _, err := unix.Read(t.park.bell, b[:]); err == nil {
			break
		} else if err != unix.EINTR {
			return -1, fmt.Errorf("spawn: wait for a child: %w", err)
		}
	}
	t.lock()
	defer t.unlock()
	if t.park.ended {
		return -1, ErrGone
	}
	t.park.done()
	return int(*t.park.pidfd), nil
}

// Continue has a parked child do the rest, after which Run returns. A rest is a zero
// Table with calls: it has no descriptors but those that the child has, and no
// results that are others' arguments.
func (t *Table) Continue(rest *Table) error {
	p := t.park
	t.lock()
	defer t.unlock()
	if p.ended || p.gate[1] < 0 {
		return ErrGone
	}
	if len(rest.calls) > MaxRest || len(rest.refs) > 0 || rest.own {
		return fmt.Errorf("spawn: a rest of %d calls: %w", len(rest.calls), unix.EINVAL)
	}
	copy(t.calls[p.first:], rest.calls)
	copy(t.names[p.first:], rest.names)
	p.rest = rest // what its calls point to
	if _, err := unix.Write(p.gate[1], []byte{1}); err != nil {
		return fmt.Errorf("spawn: let a child go on: %w", err)
	}
	return nil
}

// Drop has a parked child exit. One that has not been made is not waited for.
func (t *Table) Drop() {
	if t.park == nil {
		return
	}
	t.lock()
	defer t.unlock()
	if !t.park.begun {
		t.park.end()
	}
	if fd := t.park.gate[1]; fd >= 0 {
		unix.Close(fd)
		t.park.gate[1] = -1
	}
}

// Leave closes what was for the wait, when Run and Parked have returned.
func (t *Table) Leave() {
	if t.park == nil {
		return
	}
	t.lock()
	defer t.unlock()
	t.park.close()
}

// end is what Run does of it at its end.
func (p *park) end() {
	if p == nil {
		return
	}
	p.ended = true
	_, _ = unix.Write(p.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // who waits sees it
}

func (p *park) close() {
	for _, fd := range []int{p.gate[0], p.gate[1], p.bell} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	p.gate, p.bell = [2]int{-1, -1}, -1
}

func (t *Table) lock() {
	if t.park != nil {
		t.park.mu.Lock()
	}
}

func (t *Table) unlock() {
	if t.park != nil {
		t.park.mu.Unlock()
	}
}
