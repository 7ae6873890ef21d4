//go:build linux && amd64

package rootfs

import (
	"fmt"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// Node is a device of a container's own /dev, or a place to mount something on.
type Node struct {
	Path     string // below /dev, such as "fuse" or "snd/timer"
	Mode     uint32 // S_IFCHR, S_IFBLK, S_IFREG or S_IFDIR, and who may use it
	Device   uint64
	UID, GID uint32 // the machine's
}

// Dev returns a detached /dev for one container, with what every container has,
// an empty file "console" to mount a terminal on, and nodes. With writable it
// is the container's to change.
func Dev(root uint32, nodes []Node, writable bool) (fd int, err error) {
	owner := strconv.FormatUint(uint64(root), 10)
	fd, err = newMount("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC,
		[][2]string{{"mode", "755"}, {"size", "64k"}, {"uid", owner}, {"gid", owner}})
	if err != nil {
		return -1, err
	}
	err = fillDev(fd, root)
	for _, n := range nodes {
		if err == nil {
			err = n.make(fd)
		}
	}
	if err == nil && !writable {
		err = setAttrs(fd, unix.MOUNT_ATTR_RDONLY, 0)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("rootfs: devices: %w", err)
	}
	return fd, nil
}

func fillDev(dir int, root uint32) error {
	for _, d := range devices {
		n := Node{Path: d.name, Mode: unix.S_IFCHR | 0o666, Device: unix.Mkdev(d.major, d.minor), UID: root, GID: root}
		if err := n.make(dir); err != nil {
			return err
		}
	}
	for name, target := range devLinks {
		if err := unix.Symlinkat(target, dir, name); err != nil {
			return err
		}
	}
	for _, d := range []string{"pts", "shm", "mqueue"} {
		if err := unix.Mkdirat(dir, d, 0o755); err != nil {
			return err
		}
	}
	console, err := unix.Openat(dir, "console", unix.O_CREAT|unix.O_EXCL|unix.O_RDONLY|unix.O_CLOEXEC, 0o600)
	if err == nil {
		unix.Close(console)
	}
	return err
}

// make makes the node in a /dev, in the place of what is there.
func (n Node) make(dir int) error {
	if !path.IsAbs("/"+n.Path) || path.Clean("/"+n.Path) != "/"+n.Path {
		return fmt.Errorf("a node at %q", n.Path)
	}
	for at, c := range n.Path {
		if c != '/' {
			continue
		}
		if err := unix.Mkdirat(dir, n.Path[:at], 0o755); err != nil && err != unix.EEXIST {
			return fmt.Errorf("%s: %w", n.Path[:at], err)
		}
	}
	if n.Mode&unix.S_IFMT == unix.S_IFDIR {
		if err := unix.Mkdirat(dir, n.Path, n.Mode&0o777); err != nil && err != unix.EEXIST {
			return fmt.Errorf("%s: %w", n.Path, err)
		}
		return nil
	}
	if err := unix.Unlinkat(dir, n.Path, 0); err != nil && err != unix.ENOENT {
		return fmt.Errorf("%s: %w", n.Path, err)
	}
	err := unix.Mknodat(dir, n.Path, n.Mode, int(n.Device))
	if err == nil {
		err = unix.Fchownat(dir, n.Path, int(n.UID), int(n.GID), unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil {
		err = unix.Fchmodat(dir, n.Path, n.Mode&0o777, 0) // whatever the umask
	}
	if err != nil {
		return fmt.Errorf("%s: %w", n.Path, err)
	}
	return nil
}

// Terminals returns a detached file system of pseudo-terminals, which belong to
// the machine's group id.
func Terminals(group uint32) (fd int, err error) {
	return newMount("devpts", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC,
		[][2]string{{"ptmxmode", "0666"}, {"mode", "0620"}, {"gid", strconv.FormatUint(uint64(group), 10)}})
}
