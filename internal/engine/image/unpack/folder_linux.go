package unpack

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// CopyFolder gives a folder of one unpacked layer the owner, mode and time that it
// has in another, and tells whether the other has it.
func CopyFolder(from, to, name string) (bool, error) {
	source, err := beneath(from, name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(source)
	target, err := beneath(to, name)
	if err != nil {
		return false, err
	}
	defer unix.Close(target)
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return false, fmt.Errorf("unpack: %w", err)
	}
	if err := unix.Fchown(target, int(st.Uid), int(st.Gid)); err != nil {
		return false, fmt.Errorf("unpack: %w", err)
	}
	if err := unix.Fchmod(target, st.Mode&0o7777); err != nil {
		return false, fmt.Errorf("unpack: %w", err)
	}
	if err := unix.UtimesNanoAt(target, ".", []unix.Timespec{st.Mtim, st.Mtim}, 0); err != nil {
		return false, fmt.Errorf("unpack: %w", err)
	}
	return true, nil
}

// beneath opens a folder of a layer.
func beneath(dir, name string) (int, error) {
	root, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("unpack: %s: %w", dir, err)
	}
	defer unix.Close(root)
	fd, err := enter(root, name)
	if err != nil {
		return -1, fmt.Errorf("unpack: %s of %s: %w", name, dir, err)
	}
	return fd, nil
}
