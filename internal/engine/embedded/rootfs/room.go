//go:build linux && amd64

// Package rootfs makes what a container sees as its file system, out of
// detached mounts: trees that are in no mount namespace until a container's
// own takes them in. So the machine's mount table never sees them, and there is
// nothing to unmount afterwards.
//
// A Room is a mount namespace with nothing but an empty folder in it. Containers
// are cloned from a thread that stands in a room: cloning copies the caller's
// mount table, which costs 1.4 ms for every thousand mounts. Prepared roots are
// kept whole in a room of their own and copied from there, a few microseconds a
// mount.
package rootfs

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Room is a near-empty mount namespace with threads that stand in it.
type Room struct {
	fd   int
	work chan func() (lost bool)
}

// Anchor is the empty folder of a room on which a root can be mounted.
const Anchor = "/r"

// NewRoom makes a room with some threads; scratch is an empty folder of the
// machine, used only while the room is made.
func NewRoom(scratch string, threads int) (*Room, error) {
	r := &Room{fd: -1, work: make(chan func() bool)}
	ready := make(chan error, threads)
	for range threads {
		go r.thread(scratch, ready)
		if err := <-ready; err != nil {
			r.Close()
			return nil, fmt.Errorf("rootfs: make a room: %w", err)
		}
	}
	return r, nil
}

// thread never unlocks: when it returns, the thread ends with it.
func (r *Room) thread(scratch string, ready chan<- error) {
	runtime.LockOSThread()
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil {
		if r.fd < 0 {
			err = r.enterNew(scratch)
		} else {
			err = unix.Setns(r.fd, unix.CLONE_NEWNS)
		}
	}
	unix.Umask(0) // of this thread; modes are what is asked for
	ready <- err
	if err != nil {
		return
	}
	for fn := range r.work {
		if lost := fn(); lost {
			go r.thread("", make(chan error, 1))
			return
		}
	}
}

func (r *Room) enterNew(scratch string) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	fd, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755") },
		func() error { return os.Mkdir(scratch+Anchor, 0o755) },
		func() error { return unix.Chdir(scratch) },
		func() error { return unix.PivotRoot(".", ".") },
		func() error { return unix.Unmount(".", unix.MNT_DETACH) },
		func() error { return unix.Chdir("/") },
	}
	for i, step := range steps {
		if err := step(); err != nil {
			unix.Close(fd)
			return fmt.Errorf("step %d: %w", i, err)
		}
	}
	r.fd = fd
	return nil
}

// Do runs fn on a thread in the room and returns once it has.
func (r *Room) Do(fn func()) {
	done := make(chan struct{})
	r.work <- func() bool { defer close(done); fn(); return false }
	<-done
}

// Visit runs fn on a thread that has gone into other namespaces: of these
// kinds (CLONE_NEWNS, CLONE_NEWPID), as those of the process of the pidfd. home
// is the descriptor to come back by, for a kind other than CLONE_NEWNS. A
// thread that cannot come back is ended.
func (r *Room) Visit(pidfd int, kind, home int, fn func() error) (err error) {
	done := make(chan struct{})
	if kind == unix.CLONE_NEWNS {
		home = r.fd
	}
	r.work <- func() bool {
		defer close(done)
		if err = unix.Setns(pidfd, kind); err != nil {
			return false
		}
		err = fn()
		return unix.Setns(home, kind) != nil
	}
	<-done
	return err
}

// Close ends the threads. Nobody uses the room any more.
func (r *Room) Close() {
	close(r.work)
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
}
