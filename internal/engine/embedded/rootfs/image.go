//go:build linux && amd64

package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// Image is what the root of a container of an image is made of.
type Image struct {
	Layers []string // the unpacked layers' folders, the lowest first
	// Upper is the folder on the machine that takes what is written, in
	// "upper" and "work"; empty: nothing can be written.
	Upper string
	// Disk takes it in place of a folder of the machine, if it is not zero: a
	// mount that is in no namespace, and is used up.
	Disk int
	// Userns maps the ids of the files to the container's; zero: the machine's
	// ids are the container's. Base is the machine's id of the container's 0.
	Userns int
	Base   uint32
	// Trusted lets setuid programs work, Devices device files.
	Trusted, Devices bool
}

// Tree is the file system of one container. It is kept mounted in a room of its
// own: nothing of it is seen on the machine, and with the supervisor's end it is
// gone.
type Tree struct {
	roots *Roots
	image Image
	path  string // a folder in the room: numbered layers, "u" upper, "o" the root, "f" the root with what is mounted on it

	mu      sync.Mutex
	layers  []int // to be mounted, then what is written
	mounted bool
	whole   bool // "f" is mounted
	begin   look // at the folder that takes what is written
}

// Image opens what the root of a container is made of. The lowest layer is the
// engine's own, with the places where something is always mounted.
func (r *Roots) Image(i Image) (t *Tree, err error) {
	i.Layers = append([]string{r.skeleton}, i.Layers...)
	t = &Tree{roots: r, image: i}
	defer func() {
		if err != nil {
			t.closeLayers()
		}
	}()
	// here, where the machine's mounts are seen
	for n, l := range i.Layers {
		fd, err := bindOne(l, i.Userns)
		if err != nil {
			return nil, fmt.Errorf("rootfs: layer %d: %w", n, err)
		}
		t.layers = append(t.layers, fd)
	}
	switch {
	case i.Disk > 0:
		t.layers = append(t.layers, i.Disk)
		err = setAttrs(i.Disk, 0, i.Userns)
	case i.Upper != "":
		var fd int
		if fd, err = bindOne(i.Upper, i.Userns); err == nil {
			t.layers = append(t.layers, fd)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("rootfs: what is written: %w", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.ensureDev(); err != nil {
		return nil, err
	}
	if n := len(r.places); n > 0 {
		t.path, r.places = r.places[n-1], r.places[:n-1]
	} else {
		r.next++
		t.path = "/c" + strconv.Itoa(r.next)
	}
	return t, nil
}

func (t *Tree) closeLayers() {
	for _, fd := range t.layers {
		unix.Close(fd)
	}
	t.layers = nil
}

// bindOne is Bind without what is mounted below.
func bindOne(source string, userns int) (fd int, err error) {
	fd, err = unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, &os.PathError{Op: "open_tree", Path: source, Err: err}
	}
	if err := setAttrs(fd, 0, userns); err != nil {
		unix.Close(fd)
		return -1, &os.PathError{Op: "mount_setattr", Path: source, Err: err}
	}
	return fd, nil
}

// mount puts the layers, and what is written above them, together. It runs in
// the room as the container's root: overlay writes with the ids of who has mounted
// it, and an upper folder that is id-mapped knows no others.
func (t *Tree) mount() error {
	defer t.closeLayers()
	// all folders stay for the next one who gets the path
	folder := func(name string) (string, error) {
		err := os.Mkdir(name, 0o755)
		return name, ignoreExist(err)
	}
	if _, err := folder(t.path); err != nil {
		return err
	}
	// short relative names: all options are one page
	if err := unix.Chdir(t.path); err != nil {
		return err
	}
	defer func() { _ = unix.Chdir("/") }()
	place := func(name string, fd int) error {
		at, err := folder(name)
		if err != nil {
			return err
		}
		return unix.MoveMount(fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	lower := make([]string, len(t.image.Layers))
	for n := range lower {
		name := strconv.Itoa(n)
		if err := place(name, t.layers[n]); err != nil {
			return err
		}
		lower[len(lower)-1-n] = name
	}
	// what is written has whole files and folders, at their places
	options := "index=off,redirect_dir=off,metacopy=off,lowerdir=" + strings.Join(lower, ":")
	if len(t.layers) > len(lower) {
		if err := place("u", t.layers[len(lower)]); err != nil {
			return err
		}
		if err := renew("u"); err != nil {
			return err
		}
		// volatile: else its end writes the whole file system below to the disk
		options += ",volatile,upperdir=u/upper,workdir=u/work"
	}
	flags := uintptr(0)
	if !t.image.Trusted {
		flags |= unix.MS_NOSUID
	}
	if !t.image.Devices {
		flags |= unix.MS_NODEV
	}
	at, err := folder("o")
	if err == nil {
		_, err = folder("f")
	}
	if err == nil {
		err = unix.Mount("overlay", at, "overlay", flags, options)
	}
	if err != nil {
		return fmt.Errorf("overlay of %d layers: %w", len(lower), err)
	}
	t.mounted = true
	if len(t.layers) > len(lower) {
		t.begin, _ = lookAt("u/upper") // one that has something in it is like no other
	}
	return nil
}

// look is what a folder that was empty when it was looked at is like.
type look struct {
	Mode, UID, GID   uint32
	Changed, Written unix.Timespec
	Attributes       string // names
}

func lookAt(dir string) (l look, err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return l, err
	}
	f := os.NewFile(uintptr(fd), dir)
	defer f.Close()
	if _, err := f.Readdirnames(1); err != io.EOF {
		return l, fmt.Errorf("%s is not empty: %w", dir, errors.Join(err, unix.ENOTEMPTY))
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return l, err
	}
	names := make([]byte, 1<<10)
	n, err := unix.Flistxattr(fd, names)
	return look{st.Mode, st.Uid, st.Gid, st.Ctim, st.Mtim, string(names[:max(n, 0)])}, err
}

// Untouched says that nothing has been written since the tree was mounted: another
// container, whose ids are the same, can have it. Nobody uses it now.
func (t *Tree) Untouched() (is bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.mounted || t.image.Disk > 0 {
		return false
	}
	if t.image.Upper == "" {
		return true
	}
	t.leave(func() {
		now, err := lookAt(t.path + "/u/upper")
		is = err == nil && now == t.begin
	})
	return is
}

// NewUpper makes a folder for what a container writes.
func NewUpper(dir string) error {
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{{dir, 0o700}, {dir + "/upper", 0o755}, {dir + "/work", 0o700}} {
		err := os.Mkdir(d.path, d.mode)
		if err == nil {
			err = os.Chmod(d.path, d.mode) // whatever the umask
		}
		if ignoreExist(err) != nil {
			return fmt.Errorf("rootfs: %w", err)
		}
	}
	return nil
}

// renew makes such a folder ready to be mounted again: overlay refuses to work in
// a folder whose last mount was volatile.
func renew(dir string) error {
	for _, name := range []string{"/upper", "/work"} {
		if err := ignoreExist(os.Mkdir(dir+name, 0o755)); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir + "/work/work")
}

// Piece is something to mount into a tree: a mount that is in no namespace.
type Piece struct {
	FD     int
	Target string
	File   bool // it is one file, so its place is one
	// Populate fills it, where it is empty, with what the root has at the target.
	Populate bool
	// ReadOnly closes it, once it is filled.
	ReadOnly bool
}

// Assemble returns a copy of the root with everything on it: /dev, then the
// pieces in their order, at places that are made where they are missing, then
// the working directory. What belongs below /dev and /sys is left for after
// those are mounted.
func (t *Tree) Assemble(pieces []Piece, dir string, readOnly bool) (fd int, later []Piece, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fd = -1
	err = t.inside(func() (err error) {
		fd, later, err = t.assemble(pieces, dir, readOnly)
		return err
	})
	return fd, later, err
}

func (t *Tree) assemble(pieces []Piece, dir string, readOnly bool) (fd int, later []Piece, err error) {
	if !t.mounted {
		if err := t.mount(); err != nil {
			return -1, nil, err
		}
	}
	t.release()
	at := t.path + "/f"
	copied, err := unix.OpenTree(unix.AT_FDCWD, t.path+"/o", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return -1, nil, err
	}
	defer unix.Close(copied)
	if err := unix.MoveMount(copied, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return -1, nil, err
	}
	t.whole = true
	// whatever the image has there, these are its own folders, not links
	for _, name := range []string{"proc", "sys", "dev"} {
		if err := t.ordinary(copied, name); err != nil {
			return -1, nil, err
		}
	}
	for _, p := range pieces {
		if p.Populate {
			if err := populate(copied, p.Target, p.FD); err != nil {
				return -1, nil, err
			}
		}
		if p.ReadOnly {
			if err := setAttrs(p.FD, unix.MOUNT_ATTR_RDONLY, 0); err != nil {
				return -1, nil, err
			}
		}
		deferred, err := placePiece(copied, p, false)
		if err != nil {
			return -1, nil, err
		}
		if deferred {
			later = append(later, p)
		}
	}
	if err := workFolder(copied, dir); err != nil {
		return -1, nil, err
	}
	if readOnly {
		if err := unix.MountSetattr(copied, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			return -1, nil, err
		}
	}
	fd, err = unix.OpenTree(unix.AT_FDCWD, at, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	return fd, later, err
}

// Mount puts the layers together, which Assemble does as well.
func (t *Tree) Mount() (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mounted {
		return nil
	}
	return t.inside(t.mount)
}

// inside runs fn in the room as the container's root.
func (t *Tree) inside(fn func() error) error {
	return t.roots.room.Do(func() error { return As(t.image.Base, fn) })
}

// ordinary sees to it that a folder in the top of a root is one, and mounts /dev.
func (t *Tree) ordinary(root int, name string) error {
	fd, err := openIn(root, name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err == unix.ENOENT {
		fd, err = create(root, name, false)
	}
	if err != nil {
		return fmt.Errorf("%w: filesystem \"/%s\" must be mounted on ordinary directory: %w", engine.ErrInvalid, name, err)
	}
	defer unix.Close(fd)
	if name != "dev" {
		return nil
	}
	dev, err := unix.OpenTree(unix.AT_FDCWD, devPath, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	return unix.MoveMount(dev, "", fd, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// Place mounts a piece into the container in whose mount namespace the calling
// thread is, at a place that is made where it is missing. base is the machine's id
// of the container's 0.
func Place(base uint32, p Piece) error {
	root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	return As(base, func() error {
		_, err := placePiece(root, p, true)
		return err
	})
}

// placePiece mounts one piece. What the container's own start mounts may not be there
// yet: unless it runs, what belongs below is left for later.
func placePiece(root int, p Piece, runs bool) (later bool, err error) {
	missing := Folder
	if p.File {
		missing = File
	}
	starts := func(at string) bool { return !runs && (below(at, "/dev") || below(at, "/sys")) }
	if starts(filepath.Clean(p.Target)) {
		return true, nil
	}
	fd, at, err := Find(root, p.Target, missing)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	switch {
	case below(at, "/proc"):
		return false, fmt.Errorf("%w: %q cannot be mounted because it is inside /proc", engine.ErrInvalid, p.Target)
	case starts(at):
		return true, nil
	case at == "/":
		return false, fmt.Errorf("%w: mount target %q is the root", engine.ErrInvalid, p.Target)
	case (wantFolder(fd) != nil) != p.File:
		return false, fmt.Errorf("%w: mount %s: not a directory: Are you trying to mount a directory onto a file (or vice-versa)? "+
			"Check if the specified host path exists and is the expected type", engine.ErrInvalid, p.Target)
	}
	if err := unix.MoveMount(p.FD, "", fd, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH); err != nil {
		return false, &os.PathError{Op: "mount", Path: p.Target, Err: err}
	}
	return false, nil
}

func below(p, folder string) bool {
	return p == folder || strings.HasPrefix(p, folder+"/")
}

// workFolder makes the working directory where it is missing.
func workFolder(root int, dir string) error {
	if clean := filepath.Clean(dir); below(clean, "/proc") || below(clean, "/sys") || below(clean, "/dev") {
		return nil
	}
	fd, _, err := Find(root, dir, Folder)
	if err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	defer unix.Close(fd)
	if wantFolder(fd) != nil {
		return fmt.Errorf("%w: Cannot mkdir: %s is not a directory", engine.ErrInvalid, dir)
	}
	return nil
}

// Open opens (O_PATH) the root as it is without what is mounted on it, and OpenUpper
// the folder of what was written to it.
func (t *Tree) Open() (fd int, err error) { return t.open("/o") }

// OpenUpper is for a tree to which something can be written.
func (t *Tree) OpenUpper() (fd int, err error) { return t.open("/u/upper") }

func (t *Tree) open(name string) (fd int, err error) {
	err = t.roots.room.Do(func() (err error) {
		fd, err = unix.Open(t.path+name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("rootfs: open a root: %w", err)
	}
	return fd, nil
}

// Release lets go of what is mounted on the root. The copies that Assemble has
// returned are not touched.
func (t *Tree) Release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leave(t.release)
}

// leave runs fn, which has no error to tell, in the room.
func (t *Tree) leave(fn func()) {
	if err := t.roots.room.Do(func() error { fn(); return nil }); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

func (t *Tree) release() {
	if t.whole {
		_ = unix.Unmount(t.path+"/f", unix.MNT_DETACH)
		t.whole = false
	}
}

// Close unmounts all.
func (t *Tree) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeLayers()
	t.leave(func() {
		t.release()
		names := []string{"o", "u"}
		for n := range t.image.Layers {
			names = append(names, strconv.Itoa(n))
		}
		for _, name := range names { // some may not be mounted
			_ = unix.Unmount(t.path+"/"+name, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
	})
	t.roots.mu.Lock()
	defer t.roots.mu.Unlock()
	t.roots.places = append(t.roots.places, t.path)
}

// makeSkeleton makes the lowest layer of all images. What an image has of it
// covers it.
func makeSkeleton(dir string) error {
	for _, d := range []string{"dev", "etc", "proc", "sys"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return fmt.Errorf("rootfs: %w", err)
		}
	}
	for _, f := range []string{"hostname", "hosts", "resolv.conf"} {
		if err := os.WriteFile(filepath.Join(dir, "etc", f), nil, 0o644); err != nil {
			return fmt.Errorf("rootfs: %w", err)
		}
	}
	if err := os.Symlink("/proc/mounts", filepath.Join(dir, "etc/mtab")); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("rootfs: %w", err)
	}
	return nil
}
