//go:build linux && amd64

// Package rootfs makes what a container sees as its file system, out of
// detached mounts: trees that are in no mount namespace until a container's
// own takes them in. So the machine's mount table never sees them, and there is
// nothing to unmount afterwards.
//
// A Room is a mount namespace with nothing but two empty folders in it. Containers
// are cloned from a thread that stands in a room: cloning copies the caller's
// mount table, which costs 1.4 ms for every thousand mounts. Prepared roots are
// kept whole in a room of their own and copied from there, a few microseconds a
// mount.
package rootfs

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Room is a near-empty mount namespace. A goroutine goes in and out with the
// thread that it is on, a few microseconds: to hand the work to a thread that
// stays inside would be to wake two, which costs more than most of what is done
// there.
type Room struct {
	fd   int
	home int // the namespace of the machine's mounts
	top  int // its root, which is not the namespace's where somebody called chroot
	proc int // the machine's /proc
}

// What is in a room: an empty folder on which a root can be mounted, and one that
// nothing can be made in, a mount of its own, for what is to be seen as empty.
const (
	Anchor = "/r"
	Empty  = "/e"
)

// NewRoom makes a room; scratch is an empty folder of the machine, used only
// while the room is made.
func NewRoom(scratch string) (r *Room, err error) {
	r = &Room{fd: -1}
	if err = r.openHome(); err == nil {
		made := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			made <- r.enterNew(scratch)
		}()
		err = <-made
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("rootfs: make a room: %w", err)
	}
	return r, nil
}

// openHome opens what leads back to the machine.
func (r *Room) openHome() (err error) {
	r.home, r.top, r.proc = -1, -1, -1
	if r.home, err = unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		r.top, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	if err == nil {
		r.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	}
	return err
}

func (r *Room) enterNew(scratch string) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil { // and CLONE_FS with it
		return err
	}
	fd, err := unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") },
		func() error { return unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755") },
		func() error { return errors.Join(os.Mkdir(scratch+Anchor, 0o755), os.Mkdir(scratch+Empty, 0o755)) },
		func() error {
			return unix.Mount("tmpfs", scratch+Empty, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "size=0,nr_inodes=2")
		},
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

// Do runs fn in the room.
func (r *Room) Do(fn func() error) error { return r.visit(r.fd, unix.CLONE_NEWNS, r.home, fn) }

// DoInNew runs fn in a new namespace, a copy of the room, and returns a descriptor
// of it: it is there until that has been closed, and those that fn has left in it
// have ended. fn gets it as well.
func (r *Room) DoInNew(fn func(mounts int) error) (mounts int, err error) {
	mounts = -1
	err = r.Do(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("rootfs: copy a room: %w", err)
		}
		if mounts, err = unix.Openat(r.proc, "thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("rootfs: copy a room: %w", err)
		}
		return fn(mounts)
	})
	return mounts, err
}

// Visit runs fn in other namespaces: of this kind (CLONE_NEWNS, CLONE_NEWPID),
// as those of the process of the pidfd. home is the descriptor to come back by,
// for a kind other than CLONE_NEWNS.
func (r *Room) Visit(pidfd int, kind, home int, fn func() error) error {
	if kind == unix.CLONE_NEWNS {
		return r.visit(pidfd, kind, r.home, fn)
	}
	// and in the room as well, from where children are cloned
	return r.visit(r.fd, unix.CLONE_NEWNS, r.home, func() error { return r.visit(pidfd, kind, home, fn) })
}

// SetHostname sets the host name in the namespace of the process of a pidfd. home is
// the descriptor to come back by.
func SetHostname(pidfd, home int, name string) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setns(pidfd, unix.CLONE_NEWUTS); err != nil {
		return err
	}
	defer func() {
		if err := unix.Setns(home, unix.CLONE_NEWUTS); err != nil { // as with visit
			panic(fmt.Errorf("rootfs: come back from a namespace: %w", err))
		}
	}()
	return unix.Sethostname([]byte(name))
}

// visit does it with the calling thread, which has its root and working directory
// to itself from the first time on: no other thread goes along. (The runtime
// clones no thread from one that is locked.)
func (r *Room) visit(to, kind, home int, fn func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if kind == unix.CLONE_NEWNS {
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return fmt.Errorf("rootfs: own a root: %w", err)
		}
	}
	if err := unix.Setns(to, kind); err != nil {
		return fmt.Errorf("rootfs: enter a namespace: %w", err)
	}
	defer func() {
		err := unix.Setns(home, kind)
		if err == nil && kind == unix.CLONE_NEWNS {
			if err = unix.Fchdir(r.top); err == nil {
				err = unix.Chroot(".")
			}
		}
		if err != nil { // it has no reason to; what this thread did next would be done to another machine
			panic(fmt.Errorf("rootfs: come back from a namespace: %w", err))
		}
	}()
	return fn()
}

// Close gives the room up. Nobody uses it any more.
func (r *Room) Close() {
	for _, fd := range []int{r.fd, r.home, r.top, r.proc} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
