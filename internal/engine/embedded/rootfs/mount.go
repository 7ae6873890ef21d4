//go:build linux && amd64

package rootfs

import (
	"fmt"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Bind returns a detached copy of a folder or file of the machine, and of what
// is mounted below it. attrs are MOUNT_ATTR_*. A userns above 0 maps the
// machine's ids 0 and up to that user namespace's.
func Bind(source string, attrs uint64, userns int) (fd int, err error) {
	fd, err = unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	if err := setAttrs(fd, attrs, userns); err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "mount_setattr", Path: source, Err: err}
	}
	return fd, nil
}

func setAttrs(fd int, attrs uint64, userns int) error {
	a := &unix.MountAttr{Attr_set: attrs, Propagation: unix.MS_PRIVATE}
	if userns > 0 {
		a.Attr_set |= unix.MOUNT_ATTR_IDMAP
		a.Userns_fd = uint64(userns)
	}
	return unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, a)
}

// Tmpfs returns a detached tmpfs of a size in bytes (0: half of the memory),
// whose top folder belongs to the machine's user and group id.
func Tmpfs(size int64, mode fs.FileMode, id uint32, attrs int) (fd int, err error) {
	opts := [][2]string{{"mode", strconv.FormatUint(uint64(unixMode(mode)), 8)}, {"uid", strconv.FormatUint(uint64(id), 10)},
		{"gid", strconv.FormatUint(uint64(id), 10)}}
	if size > 0 {
		opts = append(opts, [2]string{"size", strconv.FormatInt(size, 10)})
	}
	return newMount("tmpfs", attrs, opts)
}

func newMount(kind string, attrs int, opts [][2]string, flags ...string) (fd int, err error) {
	super, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("rootfs: fsopen %s: %w", kind, err)
	}
	defer unix.Close(super)
	for _, o := range opts {
		if err := unix.FsconfigSetString(super, o[0], o[1]); err != nil {
			return -1, fmt.Errorf("rootfs: %s option %s=%s: %w", kind, o[0], o[1], err)
		}
	}
	for _, f := range flags {
		if err := unix.FsconfigSetFlag(super, f); err != nil {
			return -1, fmt.Errorf("rootfs: %s option %s: %w", kind, f, err)
		}
	}
	if err := unix.FsconfigCreate(super); err != nil {
		return -1, fmt.Errorf("rootfs: make a %s: %w", kind, err)
	}
	if fd, err = unix.Fsmount(super, unix.FSMOUNT_CLOEXEC, attrs); err != nil {
		return -1, fmt.Errorf("rootfs: mount a %s: %w", kind, err)
	}
	return fd, nil
}

// Own makes a mount that was made ahead somebody's: its top folder belongs to the
// machine's user and group id, and attrs are MOUNT_ATTR_*. After an error it is
// closed.
func Own(fd, id int, mode fs.FileMode, attrs uint64) (int, error) {
	err := setAttrs(fd, attrs, 0)
	if err == nil {
		err = unix.Fchownat(fd, "", id, id, unix.AT_EMPTY_PATH)
	}
	if err == nil {
		err = unix.Fchmodat(fd, ".", unixMode(mode), 0)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("rootfs: own a mount: %w", err)
	}
	return fd, nil
}

// unixMode is a mode as the kernel has it.
func unixMode(mode fs.FileMode) uint32 {
	m := uint32(mode & 0o7777)
	if mode&fs.ModeSticky != 0 {
		m |= unix.S_ISVTX
	}
	if mode&fs.ModeSetgid != 0 {
		m |= unix.S_ISGID
	}
	return m
}
