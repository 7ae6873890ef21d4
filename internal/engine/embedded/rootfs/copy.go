//go:build linux && amd64

package rootfs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// maxDepth is how deep folders are copied: each level holds two descriptors.
const maxDepth = 256

// populate copies what a folder of a root has into an empty folder, which becomes
// like it; one that is not empty is left as it is. The calling thread is As the
// container's root.
func populate(root int, path string, to int) error {
	found, at, err := Find(root, path, Nothing)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(found)
	if wantFolder(found) != nil || below(at, "/dev") || below(at, "/proc") || below(at, "/sys") {
		return nil
	}
	from, err := openIn(root, at, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	top, err := unix.Openat(to, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		unix.Close(from)
		return err
	}
	src, dst := os.NewFile(uintptr(from), path), os.NewFile(uintptr(top), path)
	defer src.Close()
	defer dst.Close()
	// of two who fill it at once, one; it ends with the descriptor
	if err := unix.Flock(int(dst.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	if _, err := dst.Readdirnames(1); err != io.EOF {
		return err
	}
	c := copier{top: top, first: map[uint64]string{}}
	if err := c.folder(src, top, ".", 0); err != nil {
		return fmt.Errorf("populate %s: %w", path, err)
	}
	return nil
}

type copier struct {
	top   int               // the folder that is filled
	first map[uint64]string // files with several names, by inode: where they are in it
}

// folder copies what a folder has, and then what it is.
func (c *copier) folder(src *os.File, dst int, at string, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("%s: more than %d folders deep", at, maxDepth)
	}
	for {
		names, err := src.Readdirnames(256)
		for _, name := range names {
			if err := c.one(int(src.Fd()), dst, name, at+"/"+name, depth); err != nil {
				return err
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(src.Fd()), &st); err != nil {
		return err
	}
	return like(dst, &st)
}

// like gives a file another's owner and mode.
func like(fd int, st *unix.Stat_t) error {
	if err := unix.Fchown(fd, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Fchmod(fd, st.Mode&0o7777)
}

func (c *copier) one(from, to int, name, at string, depth int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		if first, ok := c.first[st.Ino]; ok {
			return unix.Linkat(c.top, first, to, name, 0)
		}
		c.first[st.Ino] = at
	}
	switch kind {
	case unix.S_IFDIR:
		if err := unix.Mkdirat(to, name, 0o700); err != nil {
			return err
		}
		src, dst, err := c.both(from, to, name, unix.O_DIRECTORY, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return err
		}
		defer src.Close()
		defer dst.Close()
		if err := c.folder(src, int(dst.Fd()), at, depth+1); err != nil {
			return err
		}
		return unix.UtimesNanoAt(to, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	case unix.S_IFREG:
		src, dst, err := c.both(from, to, name, unix.O_NONBLOCK, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
		if err != nil {
			return err
		}
		defer src.Close()
		defer dst.Close()
		if _, err := io.Copy(dst, src); err != nil {
			return err
		}
		if err := like(int(dst.Fd()), &st); err != nil {
			return err
		}
		return unix.UtimesNanoAt(to, name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	case unix.S_IFLNK:
		b := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(from, name, b)
		if err == nil {
			err = unix.Symlinkat(string(b[:n]), to, name)
		}
		if err == nil {
			err = unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
		}
		return err
	case unix.S_IFIFO:
		err := unix.Mknodat(to, name, st.Mode, 0)
		if err == nil {
			err = unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW)
		}
		return err
	}
	return nil // a device or a socket
}

// both opens a name in two folders.
func (c *copier) both(from, to int, name string, read, write int) (src, dst *os.File, err error) {
	a, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC|read, 0)
	if err != nil {
		return nil, nil, err
	}
	b, err := unix.Openat(to, name, unix.O_NOFOLLOW|unix.O_CLOEXEC|write, 0o600)
	if err != nil {
		unix.Close(a)
		return nil, nil, err
	}
	return os.NewFile(uintptr(a), name), os.NewFile(uintptr(b), name), nil
}
