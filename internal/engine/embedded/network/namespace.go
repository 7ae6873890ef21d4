//go:build linux && amd64

// Package network makes the namespaces in which containers run, and their way
// to the outside.
//
// A Slot is a user namespace with a range of user ids of its own, a network
// namespace that it owns, and (in the modes NAT and Named) an address. Making one
// takes one to three milliseconds, so slots are made ahead and used again, though
// never for another account: see Pool.
//
// Sandboxes hang on a Router, a network namespace of the engine's own: all of mode
// NAT on one that keeps them apart, those of a named network on one of their own,
// several of them if need be:
//
//	sandbox: eth0 a.b.c.d/32 -- veth -- sN :router: up -- veth -- skXXXXXXXX[-n] :machine
//
// The machine sees one interface a router, so that what watches interfaces (udev,
// network managers) has little to look at; and with the router's end everything of
// it is gone. Routed links need no bridge, which would end at 1,023 ports. The
// machine lets nothing of the routers in to its own services, translates what goes
// out, and leads published ports to them: see machine and Published. Security
// groups are rules in a named network's router: see firewall.
//
// Not built: IPv6, broadcast and multicast between sandboxes, networks that know
// their prefix (what a member sends to an address of nobody's goes outside).
package network

import (
	"fmt"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/sys/unix"

	"skerry/internal/engine/embedded/spawn"
)

// IDs is how many user ids a container has.
const IDs = 65536

// In runs fn on a thread that is in another network namespace. A thread that
// cannot come back is given up.
func In(netns int, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("network: open the own namespace: %w", err)
			return
		}
		defer unix.Close(home)
		if err := unix.Setns(netns, unix.CLONE_NEWNET); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("network: enter a namespace: %w", err)
			return
		}
		err = fn()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // else the goroutine's end ends the thread
		}
		done <- err
	}()
	return <-done
}

// newNet makes a network namespace that the machine's root owns.
func newNet() (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		}
	}()
	<-done
	if err == nil && fd == 0 {
		// The netlink libraries take zero for the machine's own namespace, whose
		// firewall would get the router's rules.
		fd, err = unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 3)
		unix.Close(0)
	}
	if err != nil {
		return -1, fmt.Errorf("network: make a namespace: %w", err)
	}
	return fd, nil
}

// newUser makes a user namespace whose ids 0 to 65535 are the machine's from
// base on, and a network namespace that it owns.
//
// A child makes both, opens them into the table of descriptors that it shares
// with this process, and exits. Its maps are written while it is a zombie,
// which still has its credentials: so no process has to be kept waiting.
func newUser(base uint32) (user, net int, err error) {
	fds := new([2]int64)
	t := &spawn.Table{}
	open := func(i int, path string) {
		ref := t.Add("open "+path, unix.SYS_OPENAT, ^uintptr(99), t.String(path), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		t.Store(ref, spawn.Keep(t, &fds[i]))
	}
	fds[0], fds[1] = -1, -1
	open(0, "/proc/thread-self/ns/user")
	open(1, "/proc/thread-self/ns/net")
	pid, pidfd, err := t.Run(spawn.Clone{Flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET | unix.CLONE_FILES, Silent: true})
	if pidfd >= 0 {
		unix.Close(pidfd)
	}
	if pid > 0 {
		defer func() { _, _ = unix.Wait4(pid, nil, unix.WALL, nil) }()
	}
	for _, kind := range []string{"uid", "gid"} {
		if err == nil {
			line := fmt.Sprintf("0 %d %d", base, IDs)
			err = os.WriteFile("/proc/"+strconv.Itoa(pid)+"/"+kind+"_map", []byte(line), 0)
		}
	}
	if err != nil {
		for _, fd := range fds {
			if fd >= 0 {
				unix.Close(int(fd))
			}
		}
		return -1, -1, fmt.Errorf("network: make a user namespace: %w", err)
	}
	return int(fds[0]), int(fds[1]), nil
}
