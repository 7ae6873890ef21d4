//go:build linux && amd64

package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine/embedded/rootfs"
)

var (
	// ErrInvalid: the archive, or where it is to go, makes no sense.
	ErrInvalid = errors.New("invalid archive")
	// ErrReadOnly: where it is to go cannot be written.
	ErrReadOnly = errors.New("container rootfs is marked read-only")
)

// maxID is the highest id of a container.
const maxID = 65534

// Write unpacks an archive into a folder of the container, over what is there. A
// file takes another file's place, but not a folder's. Devices are refused.
func (r Root) Write(p string, archive io.Reader) error {
	err := rootfs.As(r.Base, func() error { return r.write(p, archive) })
	if errors.Is(err, unix.EROFS) {
		err = fmt.Errorf("%w: %w", ErrReadOnly, err)
	}
	return err
}

func (r Root) write(p string, archive io.Reader) error {
	fd, at, err := rootfs.Find(r.FD, p, rootfs.Nothing)
	if err != nil {
		return notFound(err)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	own := ofKernel(fd)
	unix.Close(fd)
	if err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("%w: extraction point is not a directory", ErrInvalid)
	}
	if hidden(at+"/") || own {
		return fmt.Errorf("%w: %s is not the container's", ErrInvalid, at)
	}
	x := &writer{root: r, at: at, buf: make([]byte, 64<<10)}
	tr := tar.NewReader(archive)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return x.finish()
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		if err := x.entry(h, tr); err != nil {
			return fmt.Errorf("archive: %q: %w", h.Name, err)
		}
	}
}

type writer struct {
	root Root
	at   string // the folder that it goes into
	buf  []byte
	dirs []folder // whose times are set last
}

type folder struct {
	at string
	h  *tar.Header
}

// maxFolders is of how many folders the times are kept; the others have the time of
// their unpacking.
const maxFolders = 1 << 16

// inside makes a name of the archive a path of the container. What is to be outside
// of the folder is refused.
func (x *writer) inside(name string) (string, error) {
	clean := path.Clean(name)
	if clean == ".." || strings.HasPrefix(clean, "../") || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("%w: %q is outside of %q", ErrInvalid, name, x.at)
	}
	at := path.Join(x.at, "/"+clean)
	if len(at) >= unix.PathMax {
		return "", unix.ENAMETOOLONG
	}
	return at, nil
}

func (x *writer) entry(h *tar.Header, content io.Reader) error {
	at, err := x.inside(h.Name)
	if err != nil {
		return err
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if h.Uid < 0 || h.Uid > maxID || h.Gid < 0 || h.Gid > maxID {
		return fmt.Errorf("%w: no container has the owner %d:%d", ErrInvalid, h.Uid, h.Gid)
	}
	if at == x.at || at == "/" { // the folder itself is what it is
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: cannot overwrite directory %q with non-directory", ErrInvalid, at)
		}
		return nil
	}
	// main writes with every privilege, so the kernel's own files are not to be
	// reached, whatever links there are on the way
	parent, really, err := rootfs.Find(x.root.FD, path.Dir(at), rootfs.Folder)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	base := path.Base(at)
	if hidden(path.Join(really, base)) || ofKernel(parent) {
		return fmt.Errorf("%w: %s is not the container's", ErrInvalid, at)
	}
	if h.Typeflag == tar.TypeDir {
		return x.folder(parent, base, at, h)
	}
	var st unix.Stat_t
	if unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return fmt.Errorf("%w: cannot overwrite directory %q with non-directory %q", ErrInvalid, at, h.Name)
	}
	return x.other(parent, base, h, content)
}

func (x *writer) folder(parent int, base, at string, h *tar.Header) error {
	err := unix.Mkdirat(parent, base, 0o700)
	if err != nil && err != unix.EEXIST {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOTDIR || err == unix.ELOOP {
		return fmt.Errorf("%w: cannot overwrite non-directory %q with directory %q", ErrInvalid, at, h.Name)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if len(x.dirs) < maxFolders {
		x.dirs = append(x.dirs, folder{at, h})
	}
	return x.describe(fd, h)
}

// other makes everything but a folder.
func (x *writer) other(parent int, base string, h *tar.Header, content io.Reader) (err error) {
	uid, gid := int(x.root.Base)+h.Uid, int(x.root.Base)+h.Gid
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.file(parent, base, h, content)
	case tar.TypeLink:
		return x.link(parent, base, h)
	case tar.TypeSymlink:
		if err = vacate(parent, base); err == nil {
			err = unix.Symlinkat(h.Linkname, parent, base)
		}
	case tar.TypeFifo:
		if err = vacate(parent, base); err == nil {
			err = unix.Mknodat(parent, base, unix.S_IFIFO|uint32(h.Mode&0o777), 0)
		}
	case tar.TypeChar, tar.TypeBlock:
		return fmt.Errorf("%w: devices are not unpacked", ErrInvalid)
	default:
		return fmt.Errorf("%w: an entry of type %q", ErrInvalid, h.Typeflag)
	}
	if err == nil {
		err = unix.Fchownat(parent, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err == nil {
		err = setTime(parent, base, h.ModTime)
	}
	return err
}

// vacate makes place for a file.
func vacate(parent int, base string) error {
	if err := unix.Unlinkat(parent, base, 0); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}

func (x *writer) file(parent int, base string, h *tar.Header, content io.Reader) error {
	const flags = unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC
	err := vacate(parent, base)
	fd := -1
	if err == unix.EBUSY { // something is mounted there, such as /etc/hosts: it is written in place
		fd, err = unix.Openat(parent, base, flags, 0)
	} else if err == nil {
		fd, err = unix.Openat(parent, base, flags|unix.O_CREAT|unix.O_EXCL, 0o600)
	}
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
		return fmt.Errorf("%w: %q is not a regular file", ErrInvalid, h.Name)
	}
	if st.Size > 0 {
		if err := unix.Ftruncate(fd, 0); err != nil {
			return err
		}
	}
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, content, x.buf); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		return err
	}
	if err := x.describe(fd, h); err != nil {
		return err
	}
	return unix.Futimes(fd, []unix.Timeval{unix.NsecToTimeval(h.ModTime.UnixNano()), unix.NsecToTimeval(h.ModTime.UnixNano())})
}

// link makes another name of a file that is in the folder already.
func (x *writer) link(parent int, base string, h *tar.Header) error {
	target, err := x.inside(h.Linkname)
	if err != nil {
		return err
	}
	folder, at, err := rootfs.Find(x.root.FD, path.Dir(target), rootfs.Nothing)
	if err != nil {
		return err
	}
	defer unix.Close(folder)
	if hidden(path.Join(at, path.Base(target))) {
		return fmt.Errorf("%w: a link to %s", ErrInvalid, h.Linkname)
	}
	if err := vacate(parent, base); err != nil {
		return err
	}
	return unix.Linkat(folder, path.Base(target), parent, base, 0)
}

// describe sets owner and mode, in this order: the one takes setuid away.
func (x *writer) describe(fd int, h *tar.Header) error {
	if err := unix.Fchown(fd, int(x.root.Base)+h.Uid, int(x.root.Base)+h.Gid); err != nil {
		return err
	}
	return unix.Fchmod(fd, uint32(h.Mode&0o7777))
}

func setTime(parent int, base string, at time.Time) error {
	ts := []unix.Timespec{unix.NsecToTimespec(at.UnixNano()), unix.NsecToTimespec(at.UnixNano())}
	return unix.UtimesNanoAt(parent, base, ts, unix.AT_SYMLINK_NOFOLLOW)
}

// finish sets the times of folders, the deepest first.
func (x *writer) finish() error {
	for i := len(x.dirs) - 1; i >= 0; i-- {
		d := x.dirs[i]
		parent, _, err := rootfs.Find(x.root.FD, path.Dir(d.at), rootfs.Nothing)
		if err != nil {
			continue // changed meanwhile
		}
		err = setTime(parent, path.Base(d.at), d.h.ModTime)
		unix.Close(parent)
		if err != nil && err != unix.ENOENT {
			return err
		}
	}
	return nil
}
