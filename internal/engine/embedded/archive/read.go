//go:build linux && amd64

// Package archive carries files between a container and tar archives. Container
// and archive are both hostile: every path is looked up beneath the container's
// root by rootfs.Find, and whatever changes meanwhile, nothing outside is read or
// written. Owners are the container's own numbers in the archive, and the machine's
// in the file system.
package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine/embedded/rootfs"
)

// ErrNotFound: the path that is asked for does not exist.
var ErrNotFound = errors.New("no such file or folder")

// Root is a container's file system.
type Root struct {
	FD   int    // O_PATH
	Base uint32 // the machine's id of the container's 0
}

// Read writes a file or folder as an archive, whose names begin with the last part
// of the path. A link at the end is not followed, unless a slash is behind it.
// Errors: ErrNotFound.
func (r Root) Read(p string, w io.Writer) error {
	name := path.Base(path.Clean("/" + p))
	if name == "/" || strings.HasSuffix(p, "/.") {
		name = "."
	}
	parent, base, err := r.split(p)
	if err != nil {
		return notFound(err)
	}
	defer unix.Close(parent)
	x := &reader{root: r, tw: tar.NewWriter(w), seen: map[inode]string{}}
	if path.Clean("/"+p) == "/" {
		x.dev = "dev"
	} else if path.Clean("/"+p) == "/dev" {
		x.dev = name
	}
	if err := x.add(parent, base, name); err != nil {
		return fmt.Errorf("archive: %s: %w", p, err)
	}
	return x.tw.Close()
}

// notFound makes an error of looking up a path ErrNotFound, if it means that.
func notFound(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}

// split opens the folder in which a path ends, and returns what it is called
// there. Of a folder, that is ".".
func (r Root) split(p string) (parent int, base string, err error) {
	clean := path.Clean("/" + p)
	if clean == "/" || strings.HasSuffix(p, "/") || strings.HasSuffix(p, "/.") {
		fd, at, err := rootfs.Find(r.FD, clean+"/", rootfs.Nothing)
		if err == nil && (hidden(at) || ofKernel(fd)) {
			unix.Close(fd)
			err = &fs.PathError{Op: "find", Path: p, Err: fs.ErrNotExist}
		}
		return fd, ".", err
	}
	parent, at, err := rootfs.Find(r.FD, path.Dir(clean), rootfs.Nothing)
	if err != nil {
		return -1, "", err
	}
	base = path.Base(clean)
	var st unix.Stat_t
	err = unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && (hidden(path.Join(at, base)) || ofKernel(parent)) {
		err = fs.ErrNotExist
	}
	if err != nil {
		unix.Close(parent)
		return -1, "", &fs.PathError{Op: "find", Path: p, Err: err}
	}
	return parent, base, nil
}

// hidden are the files of the engine's making below folders that are empty in an
// image.
func hidden(at string) bool {
	for _, dir := range []string{"/proc/", "/sys/", "/dev/"} {
		if strings.HasPrefix(at, dir) {
			return true
		}
	}
	return false
}

// kernelOwn are file systems that show the kernel, not files.
var kernelOwn = map[int64]bool{unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.CGROUP_SUPER_MAGIC: true,
	unix.CGROUP2_SUPER_MAGIC: true, unix.DEVPTS_SUPER_MAGIC: true, 0x19800202 /* mqueue */ : true}

// ofKernel says that a folder is in one of them, wherever it has been mounted.
func ofKernel(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) != nil || kernelOwn[st.Type]
}

type inode struct{ dev, ino uint64 }

type reader struct {
	root Root
	tw   *tar.Writer
	seen map[inode]string // files with several names
	dev  string           // what the container's /dev is called; empty: it is not in there
	// of layers: folders without what is in them, and attributes of files
	flat, attributes bool
}

// add writes what is called base in a folder, as name.
func (x *reader) add(parent int, base, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(st.Mode & 0o7777), Uid: x.id(st.Uid), Gid: x.id(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return x.folder(parent, base, h)
	case unix.S_IFREG:
		return x.file(parent, base, h)
	case unix.S_IFLNK:
		b := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(parent, base, b)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname = tar.TypeSymlink, string(b[:n])
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil // a socket is nothing without who listens
	}
	return x.tw.WriteHeader(h)
}

func (x *reader) folder(parent int, base string, h *tar.Header) error {
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	name := h.Name
	h.Typeflag, h.Name = tar.TypeDir, name+"/"
	if err := x.tw.WriteHeader(h); err != nil {
		return err
	}
	if x.flat || ofKernel(fd) || x.dev != "" && name == x.dev {
		return nil
	}
	for {
		entries, err := f.Readdirnames(256)
		for _, e := range entries {
			if err := x.add(fd, e, path.Join(name, e)); err != nil && !errors.Is(err, fs.ErrNotExist) { // gone meanwhile
				return fmt.Errorf("%s: %w", e, err)
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (x *reader) file(parent int, base string, h *tar.Header) error {
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return fs.ErrNotExist // another one meanwhile
	}
	id := inode{st.Dev, st.Ino}
	if st.Nlink > 1 {
		if first, ok := x.seen[id]; ok {
			h.Typeflag, h.Linkname = tar.TypeLink, first
			return x.tw.WriteHeader(h)
		}
		x.seen[id] = h.Name
	}
	h.Typeflag, h.Size = tar.TypeReg, st.Size
	x.xattrs(fd, h)
	if err := x.tw.WriteHeader(h); err != nil {
		return err
	}
	// as much as the header says, whatever becomes of the file meanwhile
	n, err := io.Copy(x.tw, io.LimitReader(f, st.Size))
	if err == nil && n < st.Size {
		_, err = io.CopyN(x.tw, zeros{}, st.Size-n)
	}
	return err
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// id makes an id of the machine the container's.
func (x *reader) id(id uint32) int {
	if n := int64(id) - int64(x.root.Base); n >= 0 && n < 65536 {
		return int(n)
	}
	return 65534
}
