//go:build linux && amd64

package archive

import (
	"archive/tar"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// Layer is what a container has written above the layers of its image, in the form
// of overlayfs: what is gone is a character device 0:0, a folder that hides those
// below it has an attribute. Folders are gone through by their descriptors, name by
// name and never by a link, as the container may write while they are read.
type Layer struct {
	Upper Root
	Lower []string // folders of the layers, the lowest first
}

// marks of overlayfs.
const opaqueAttr = "trusted.overlay.opaque"

// step is one thing that a layer changes.
type step struct {
	path   string // without a slash in front
	kind   engine.ChangeKind
	parent int // the folder that it is in, unless it is deleted
	base   string
	stat   unix.Stat_t
}

// Changes lists what the layer changes, by path.
func (l Layer) Changes() (all []engine.Change, err error) {
	err = l.walk(func(s step) error {
		all = append(all, engine.Change{Path: "/" + s.path, Kind: s.kind})
		return nil
	})
	return all, err
}

// Size is how many bytes its files have.
func (l Layer) Size() (size int64, err error) {
	seen := map[inode]bool{}
	err = l.walk(func(s step) error {
		id := inode{s.stat.Dev, s.stat.Ino}
		if s.kind != engine.Deleted && s.stat.Mode&unix.S_IFMT == unix.S_IFREG && !seen[id] {
			seen[id] = true
			size += s.stat.Size
		}
		return nil
	})
	return size, err
}

// Write writes the layer as an archive of the OCI image format: what is gone is a
// file with .wh. before its name.
func (l Layer) Write(w io.Writer) error {
	x := &reader{root: l.Upper, tw: tar.NewWriter(w), seen: map[inode]string{}, flat: true, attributes: true}
	err := l.walk(func(s step) error {
		if s.kind == engine.Deleted {
			dir, base := path.Split(s.path)
			return x.tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + base, ModTime: time.Unix(0, 0), Format: tar.FormatPAX})
		}
		err := x.add(s.parent, s.base, s.path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		return err
	})
	if err != nil {
		return err
	}
	return x.tw.Close()
}

// walk visits all changes, folders before what is in them.
func (l Layer) walk(visit func(step) error) error {
	if l.Upper.FD < 0 {
		return nil // nothing can be written
	}
	top, err := unix.Openat(l.Upper.FD, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	var lower []int
	defer func() { closeFDs(lower) }()
	for _, dir := range slices.Backward(l.Lower) {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &fs.PathError{Op: "open", Path: dir, Err: err}
		}
		lower = append(lower, fd)
	}
	w := &walker{base: l.Upper.Base, visit: visit}
	return w.folder(top, lower, "", 0)
}

type walker struct {
	base  uint32
	visit func(step) error
}

// maxDepth is of folders in folders: each takes descriptors.
const maxDepth = 1000

// folder visits what is changed in one; lower are the folders below it, the highest
// first.
func (w *walker) folder(upper int, lower []int, at string, depth int) error {
	if depth > maxDepth {
		return &fs.PathError{Op: "read", Path: at, Err: unix.ELOOP}
	}
	names, err := namesIn(upper)
	if err != nil {
		return err
	}
	here := map[string]bool{}
	for _, name := range names {
		here[name] = true
	}
	if opaque(upper) { // what is below and not here is gone
		for _, name := range w.merged(lower) {
			if !here[name] {
				names = append(names, name)
			}
		}
		slices.Sort(names)
	}
	for _, name := range names {
		s := step{path: path.Join(at, name), kind: engine.Deleted, parent: upper, base: name}
		if here[name] {
			if err := unix.Fstatat(upper, name, &s.stat, unix.AT_SYMLINK_NOFOLLOW); err == unix.ENOENT {
				continue // gone meanwhile
			} else if err != nil {
				return &fs.PathError{Op: "stat", Path: s.path, Err: err}
			}
		}
		if err := w.one(s, here[name] && !isWhiteout(&s.stat), lower, depth); err != nil {
			return err
		}
	}
	return nil
}

// one visits a name and, where it is a folder, what is changed in it.
func (w *walker) one(s step, there bool, lower []int, depth int) error {
	below, has, folders := find(lower, s.base)
	defer closeFDs(folders)
	if !there {
		if !has {
			return nil // a mark that is left
		}
		return w.visit(s)
	}
	if s.kind = engine.Added; has {
		s.kind = engine.Modified
	}
	if s.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return w.visit(s)
	}
	fd, err := unix.Openat(s.parent, s.base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT || err == unix.ENOTDIR || err == unix.ELOOP {
		return nil // another one meanwhile
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: s.path, Err: err}
	}
	defer unix.Close(fd)
	// A folder that is as it was, but for having been copied here, has changed if
	// something in it has.
	same := has && below.Mode == s.stat.Mode && below.Mtim == s.stat.Mtim && w.id(below.Uid) == s.stat.Uid && w.id(below.Gid) == s.stat.Gid
	inner := &walker{base: w.base, visit: w.visit}
	if same {
		told := false
		inner.visit = func(c step) error {
			if !told {
				told = true
				if err := w.visit(s); err != nil {
					return err
				}
			}
			return w.visit(c)
		}
	} else if err := w.visit(s); err != nil {
		return err
	}
	return inner.folder(fd, folders, s.path, depth+1)
}

// id is what an id of a layer is in the folder of what is written, as it is seen here.
func (w *walker) id(id uint32) uint32 { return id + w.base }

// find looks for a name in the folders of layers, the highest first: what it is, and
// where it is a folder, those that make it up.
func find(lower []int, name string) (st unix.Stat_t, has bool, folders []int) {
	for _, dir := range lower {
		var own unix.Stat_t
		if unix.Fstatat(dir, name, &own, unix.AT_SYMLINK_NOFOLLOW) != nil {
			continue
		}
		if isWhiteout(&own) {
			break
		}
		folder := own.Mode&unix.S_IFMT == unix.S_IFDIR
		if has && !folder {
			break
		}
		if !has {
			st, has = own, true
		}
		if !folder {
			break
		}
		fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			break
		}
		folders = append(folders, fd)
		if opaque(fd) {
			break
		}
	}
	return st, has, folders
}

// merged lists the names that are in the folders of layers together.
func (w *walker) merged(lower []int) (all []string) {
	for _, dir := range lower {
		names, _ := namesIn(dir)
		for _, name := range names {
			if _, has, folders := find(lower, name); has && !slices.Contains(all, name) {
				closeFDs(folders)
				all = append(all, name)
			} else {
				closeFDs(folders)
			}
		}
	}
	return all
}

// namesIn lists a folder, sorted.
func namesIn(dir int) ([]string, error) {
	fd, err := unix.Openat(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "folder")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func isWhiteout(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 }

func opaque(fd int) bool {
	var b [4]byte
	n, err := unix.Fgetxattr(fd, opaqueAttr, b[:])
	return err == nil && n == 1 && b[0] == 'y'
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		unix.Close(fd)
	}
}

// capabilityAttr is the attribute of programs that have capabilities; of a program
// of a user namespace it also names whose, which the container's own layer does not.
const (
	capabilityAttr  = "security.capability"
	capabilityPlain = 20   // bytes of it
	capabilityWhose = 0x03 // its revision, in the highest byte
)

// xattrs notes what a layer keeps of a file's attributes.
func (x *reader) xattrs(fd int, h *tar.Header) {
	if !x.attributes {
		return
	}
	b := make([]byte, 1<<10)
	n, err := unix.Fgetxattr(fd, capabilityAttr, b)
	if err != nil || n < capabilityPlain {
		return
	}
	if b[3] == capabilityWhose {
		b[3], n = 0x02, capabilityPlain
	}
	h.PAXRecords = map[string]string{"SCHILY.xattr." + capabilityAttr: string(b[:n])}
}
