//go:build linux && amd64

package supervisor

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/cgroup"
	"skerry/internal/engine/embedded/rootfs"
	"skerry/internal/engine/embedded/spawn"
)

// addMounts mounts what is made of the container's own namespaces, then what
// was prepared. It comes after pivot_root: whatever links the root may hold,
// their targets are inside.
func (s *supervisor) addMounts(t *spawn.Table, c *container) {
	const own = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	mount := func(kind, target string, flags uintptr, data string) {
		t.Add("mount "+target, unix.SYS_MOUNT, t.String(kind), t.String(target), t.String(kind), flags, t.String(data))
	}
	mount("proc", "/proc", own, "")
	sys := uintptr(own | unix.MS_RDONLY)
	if c.bounds.privileged {
		sys = own
	}
	mount("sysfs", "/sys", sys, "")
	if !c.bounds.privileged {
		// one file system for all, not one each
		for _, p := range s.walls.maskedFolders {
			t.Add("mask "+p, unix.SYS_MOUNT, t.String(oldRoot+rootfs.Empty), t.String(p), 0, unix.MS_BIND)
		}
	}
	coverRoot(t, c.ready.dev)
	addGroups(t, c.ready.groups)
	empty := t.String("")
	if pts := c.stdio.pts; pts >= 0 {
		t.Add("mount /dev/pts", unix.SYS_MOVE_MOUNT, spawn.File(pts), empty, atCwd, t.String("/dev/pts"), unix.MOVE_MOUNT_F_EMPTY_PATH)
		t.Add("mount /dev/console", unix.SYS_MOUNT, t.String("/dev/pts/0"), t.String("/dev/console"), 0, unix.MS_BIND)
	} else {
		tty := fmt.Sprintf("newinstance,ptmxmode=0666,mode=0620,gid=%d", c.base()+ttyGroup)
		mount("devpts", "/dev/pts", unix.MS_NOSUID|unix.MS_NOEXEC, tty)
	}
	mount("tmpfs", "/dev/shm", own, fmt.Sprintf("mode=1777,size=%d,uid=%d,gid=%d", c.shmSize(), c.base(), c.base()))
	for _, m := range c.ready.mounts {
		t.Add("mount "+m.target, unix.SYS_MOVE_MOUNT, spawn.File(m.fd), empty, atCwd, t.String(m.target), unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
}

// addGroups mounts a container's control groups where programs look for their
// limits.
func addGroups(t *spawn.Table, views []cgroup.View) {
	const folder = "/sys/fs/cgroup"
	move := func(v cgroup.View, at string) {
		t.Add("mount "+at, unix.SYS_MOVE_MOUNT, spawn.File(v.FD), t.String(""), atCwd, t.String(at), unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	switch {
	case len(views) == 0:
		return
	case views[0].Name == "":
		move(views[0], folder)
		return
	}
	const own = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	at, kind, options := t.String(folder), t.String("tmpfs"), t.String("mode=755,size=4k")
	t.Add("mount "+folder, unix.SYS_MOUNT, kind, at, kind, own, options)
	for _, v := range views {
		t.Add("make "+folder, unix.SYS_MKDIR, t.String(folder+"/"+v.Name), 0o755)
		move(v, folder+"/"+v.Name)
	}
	t.Add("read-only "+folder, unix.SYS_MOUNT, 0, at, 0, unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|own)
}

// defaultShm is the size of /dev/shm in bytes when nothing is said.
const defaultShm = 64 << 20

func (c *container) shmSize() int64 {
	if c.spec.ShmSize > 0 {
		return c.spec.ShmSize
	}
	return defaultShm
}

// addMasks hides and closes files that are the machine's, not the container's;
// folders are hidden by addMounts.
func (s *supervisor) addMasks(t *spawn.Table) {
	const own = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	null := t.String("/dev/null")
	for _, p := range s.walls.maskedFiles {
		t.Add("mask "+p, unix.SYS_MOUNT, null, t.String(p), 0, unix.MS_BIND)
	}
	for _, p := range s.walls.readOnly {
		path := t.String(p)
		t.Add("bind "+p, unix.SYS_MOUNT, path, path, 0, unix.MS_BIND|unix.MS_REC)
		t.Add("read-only "+p, unix.SYS_MOUNT, 0, path, 0, unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|own)
	}
}

// sysctlStep begins the names of the calls that write one.
const sysctlStep = "sysctl "

// ownSysctls refuses settings of the machine's network, in which a container can
// be by the sandbox that it shares.
func (c *container) ownSysctls() error {
	for name := range c.spec.Sysctls {
		if c.host && strings.HasPrefix(name, "net.") {
			return fmt.Errorf("engine: %w: sysctl %q not allowed in host network namespace", engine.ErrInvalid, name)
		}
	}
	return nil
}

// addSysctls writes the settings of the container's own namespaces, in which the
// child is, while it has the machine's privileges and /proc/sys can be written.
func addSysctls(t *spawn.Table, settings map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
		fd := t.Add(sysctlStep+name, unix.SYS_OPENAT, atCwd, t.String(path), unix.O_WRONLY|unix.O_CLOEXEC, 0)
		t.Add(sysctlStep+name, unix.SYS_WRITE, 0, t.String(settings[name]), uintptr(len(settings[name])))
		t.Use(0, fd)
	}
}
