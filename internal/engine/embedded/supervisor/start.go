//go:build linux && amd64

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/rootfs"
	"skerry/internal/engine/embedded/spawn"
)

// start runs a container's command.
func (s *supervisor) start(c *container) (err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.removed:
		return fmt.Errorf("engine: %s: %w", c.id, engine.ErrNotFound)
	case c.state == engine.Exited:
		before := c.cursors
		undo, err := s.again(c)
		if err != nil {
			return err
		}
		defer func() {
			if c.state == engine.Created { // it did not get as far as the program
				undo()
			} else {
				s.remember(c, before)
			}
		}()
	case c.state != engine.Created:
		return fmt.Errorf("engine: start %s, which is %s: %w", c.id, c.state, engine.ErrState)
	}
	t := spawn.NewTable(128)
	report, err := newReport(c.spec.Init)
	if err != nil {
		return err
	}
	defer report.close()
	if c.bare == nil {
		if err := s.childTable(t, c, report, true); err != nil {
			return err
		}
	}
	if err := s.publish(c); err != nil {
		return err // it can be tried again
	}
	var pid, pidfd int
	now := time.Now()
	if c.bare != nil {
		pid, pidfd, err = s.startBare(c)
	} else {
		c.mounts, err = s.spawner.DoInNew(func(int) (err error) {
			pid, pidfd, err = t.Run(spawn.Clone{Flags: cloneFlags, Cgroup: c.ready.folder, Low: s.low})
			return err
		})
	}
	if err == nil {
		err = report.wait()
	}
	if pid > 0 && err != nil {
		s.reaper.expect(pid, func(ending) {})
		closeAll(pidfd)
	}
	if err != nil {
		err = startError(err, c.command[0], c.dir)
		s.finish(c, engine.Exit{Code: startCode(err), Reason: err.Error(), Started: now, Finished: now})
		return fmt.Errorf("engine: start %s: %w", c.id, err)
	}
	c.ready.close()
	c.ready = nil
	c.stdio.closeChild()
	c.state, c.pid, c.pidfd, c.started = engine.Running, pid, pidfd, now
	e := s.journal.add(engine.Event{Time: now, Kind: engine.EventStarted, ID: c.id, Labels: c.labels})
	c.cursors[0] = e.Cursor
	s.reaper.expect(pid, func(e ending) { s.reaped(c, e) })
	return nil
}

// startError makes a fault of the command out of the table's.
func startError(err error, program, dir string) error {
	var e *spawn.Error
	if errors.As(err, &e) {
		switch e.Name {
		case "execve":
			return &engine.StartError{Step: e.Name, Path: program, Err: e.Errno}
		case "chdir":
			return &engine.StartError{Step: e.Name, Path: dir, Err: e.Errno}
		}
		if name, ok := strings.CutPrefix(e.Name, sysctlStep); ok {
			return fmt.Errorf("%w: write sysctl key %s: %w", engine.ErrInvalid, name, e.Errno)
		}
	}
	return err
}

// startCode is the exit code that a shell would give.
func startCode(err error) int {
	if errors.Is(err, syscall.ENOENT) {
		return 127
	}
	return 126
}

const atCwd = ^uintptr(99) // AT_FDCWD

// ttyGroup is the group of terminals, in every distribution.
const ttyGroup = 5

// cloneFlags are for the namespaces that are made with the child.
const cloneFlags = unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS

// childTable is everything that the child does, from its first breath to the
// command. The order matters; each step says why it stands where it stands. Without
// an end it is for a child that waits before the command.
func (s *supervisor) childTable(t *spawn.Table, c *container, r report, end bool) error {
	p := c.ready
	limits, err := rlimits(c.rlimits)
	if err != nil {
		return err
	}
	// into the cgroups first, so that all that follows is charged to them; the
	// cgroup namespace then has them as its root
	zero := t.String("0")
	for _, fd := range p.join {
		t.Add("join cgroup", unix.SYS_WRITE, spawn.File(fd), zero, 1)
	}
	t.Add("cgroup namespace", unix.SYS_UNSHARE, unix.CLONE_NEWCGROUP)
	if !c.host {
		t.Add("network namespace", unix.SYS_SETNS, spawn.File(c.slot.Net), unix.CLONE_NEWNET)
	}
	t.Add("setsid", unix.SYS_SETSID)
	addRoot(t, p.root)
	s.addMounts(t, c)
	addSysctls(t, c.spec.Sysctls)
	if !c.bounds.privileged {
		s.addMasks(t)
	}
	name := t.String(p.hostname)
	t.Add("host name", unix.SYS_SETHOSTNAME, name, uintptr(len(p.hostname)))
	addStdio(t, c.stdio.ends, c.stdio.terminal())
	// after all that opens files: the child has many until the end
	for n, l := range limits {
		t.Add("rlimit", unix.SYS_PRLIMIT64, 0, uintptr(n), spawn.Keep(t, &l), 0)
	}
	addUser(t, c.userns(), c.bounds, c.user, c.bounds.mounts)
	switch {
	case !end:
	case c.spec.Init:
		s.addInit(t, r, c.command, withHome(c.env, c.home), c.dir)
	default:
		addExec(t, c.command, withHome(c.env, c.home), c.dir)
	}
	return nil
}

// oldRoot is where the room's root goes.
const oldRoot = "/dev/mqueue"

// addRoot makes the root of the container its root. The room's, which is as good
// as empty, goes where coverRoot covers it for good: to unmount it would be to wait
// for a grace period of the kernel, a millisecond and on a busy machine ten.
func addRoot(t *spawn.Table, root int) {
	anchor := t.String(rootfs.Anchor)
	t.Add("mount root", unix.SYS_MOVE_MOUNT, spawn.File(root), t.String(""), atCwd, anchor, unix.MOVE_MOUNT_F_EMPTY_PATH)
	t.Add("pivot_root", unix.SYS_PIVOT_ROOT, anchor, t.String(rootfs.Anchor+oldRoot))
	t.Add("enter /", unix.SYS_CHDIR, t.String("/"))
}

// coverRoot mounts /dev, if the container has one of its own, and /dev/mqueue.
func coverRoot(t *spawn.Table, dev int) {
	if dev > 0 {
		t.Add("mount /dev", unix.SYS_MOVE_MOUNT, spawn.File(dev), t.String(""), atCwd, t.String("/dev"), unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	t.Add("mount /dev/mqueue", unix.SYS_MOUNT, t.String("mqueue"), t.String(oldRoot), t.String("mqueue"),
		unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, t.String(""))
}

// capHeader and capData are the arguments of capset(2).
//
//lint:ignore U1000 the kernel reads all of it
type capHeader struct {
	version uint32
	pid     int32
}

// addUser gives up the machine's root for the container's ids and drops what it
// must not have. Namespaces other than the user's and the network's stay the
// machine's: not even the container's root can mount. One that may mount gets,
// with unshare, a copy of its mounts that its user namespace owns: the kernel
// then lets it mount, but not take away or change what it did not mount itself.
// A privileged container stays in the machine's user namespace (none given).
func addUser(t *spawn.Table, userns int, b bounds, u engine.User, unshare bool) {
	if userns > 0 {
		t.Add("user namespace", unix.SYS_SETNS, spawn.File(userns), unix.CLONE_NEWUSER)
	}
	if unshare {
		t.Add("mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS|unix.CLONE_NEWUTS)
	}
	if b.newPrivileges {
		addFilter(t, b) // needs SYS_ADMIN, which goes below
	}
	for i := range capabilityNames {
		if b.caps>>i&1 == 0 {
			t.Add("drop capability "+capabilityNames[i], unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(i))
			t.Tolerate(syscall.EINVAL) // newer than the kernel
		}
	}
	groups := append([]uint32{}, u.Groups...)
	var list uintptr
	if len(groups) > 0 {
		list = spawn.Keep(t, &groups[0]) // and with it the whole array
	}
	t.Add("setgroups", unix.SYS_SETGROUPS, uintptr(len(groups)), list)
	gid, uid := uintptr(u.GID), uintptr(u.UID)
	t.Add("setresgid", unix.SYS_SETRESGID, gid, gid, gid)
	t.Add("setresuid", unix.SYS_SETRESUID, uid, uid, uid)
	caps := b.caps
	if uid != 0 {
		caps = 0
	}
	var data [2]unix.CapUserData
	for i := range data {
		part := uint32(caps >> (32 * i))
		data[i] = unix.CapUserData{Effective: part, Permitted: part}
	}
	header := &capHeader{version: unix.LINUX_CAPABILITY_VERSION_3}
	t.Add("capset", unix.SYS_CAPSET, spawn.Keep(t, header), spawn.Keep(t, &data))
	if !b.newPrivileges {
		t.Add("no_new_privs", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		addFilter(t, b) // lets through what follows: chdir, close_range, rt_sigprocmask, execve
	}
}

func addFilter(t *spawn.Table, b bounds) {
	if b.filter == nil {
		return
	}
	prog := &unix.SockFprog{Len: uint16(len(b.filter)), Filter: &b.filter[0]}
	t.Add("seccomp", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, spawn.Keep(t, prog))
}

// addExec is the end of every table: no descriptor but the first three, the
// folder (entered as the user, who may not be allowed to), no signal blocked,
// the program.
func addExec(t *spawn.Table, command, env []string, dir string) {
	// before chdir: the folder may be a link to /proc/self/fd, which must not
	// lead to what the machine has open
	t.Add("close", unix.SYS_CLOSE_RANGE, 3, ^uintptr(0), 0)
	t.Add("chdir", unix.SYS_CHDIR, t.String(dir))
	t.Add("umask", unix.SYS_UMASK, 0o022) // the thread's own is none
	t.Add("sigmask", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, spawn.Keep(t, new(uint64)), 0, 8)
	args, vars := t.Strings(command), t.Strings(env)
	places := candidates(command[0], env)
	for _, p := range places[:len(places)-1] {
		t.Add("execve", unix.SYS_EXECVE, t.String(p), args, vars)
		t.TolerateAny()
	}
	t.Add("execve", unix.SYS_EXECVE, t.String(places[len(places)-1]), args, vars)
}

// candidates are the places where a program may be, at least one: itself, or
// in the folders of PATH if it has no '/'.
func candidates(program string, env []string) []string {
	if strings.Contains(program, "/") {
		return []string{program}
	}
	path := "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	var all []string
	for _, d := range strings.Split(path, string(os.PathListSeparator)) {
		if strings.HasPrefix(d, "/") {
			all = append(all, d+"/"+program)
		}
	}
	if len(all) == 0 {
		return []string{""} // there is no such file
	}
	return all
}
