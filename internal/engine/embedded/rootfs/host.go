//go:build linux && amd64

package rootfs

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// Roots keeps prepared roots, one for all containers that ask for the same.
type Roots struct {
	room *Room
	mu   sync.Mutex
	made map[[32]byte]*prepared
	next int
	dev  bool

	skeleton string   // the lowest layer of images
	places   []string // folders of the room where trees have been mounted
}

type prepared struct {
	path string // in the room
	used int    // for the choice of which to drop
}

// maxRoots is how many different prepared roots are kept.
const maxRoots = 64

// NewRoots needs a room of its own, and a folder that it fills.
func NewRoots(room *Room, skeleton string) (*Roots, error) {
	if err := makeSkeleton(skeleton); err != nil {
		return nil, err
	}
	return &Roots{room: room, made: map[[32]byte]*prepared{}, skeleton: skeleton}, nil
}

// alwaysDirs are in every prepared root.
var alwaysDirs = []string{"/dev", "/etc", "/home", "/mnt", "/opt", "/proc", "/root", "/run", "/sys", "/tmp", "/var/lib",
	"/var/log", "/var/runtime", "/var/task", "/var/tmp"}

// alwaysFiles are there unless given.
var alwaysFiles = map[string]string{
	"/etc/passwd": "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/usr/sbin/nologin\n" +
		"sbx_user1051:x:993:990::/home/sbx_user1051:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
	"/etc/group":         "root:x:0:\ndaemon:x:1:\ntty:x:5:\nsbx_group:x:990:\nnogroup:x:65534:\n",
	"/etc/hosts":         "127.0.0.1 localhost\n::1 localhost ip6-localhost\n",
	"/etc/resolv.conf":   "nameserver 169.254.169.253\noptions timeout:2 attempts:2\n",
	"/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}

// Host returns a detached copy of a prepared root, which is read-only. With
// writable it is one of its own.
func (r *Roots) Host(h engine.HostRoot, writable bool) (fd int, err error) {
	if h.Folders == nil {
		h.Folders = engine.SystemFolders
	}
	key := keyOf(h)
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.made[key]
	if p == nil || writable {
		if p, err = r.make(h, writable); err != nil {
			return -1, err
		}
		if !writable {
			r.drop()
			r.made[key] = p
		}
	}
	r.next++
	p.used = r.next
	err = r.room.Do(func() (err error) {
		fd, err = unix.OpenTree(unix.AT_FDCWD, p.path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
		if writable {
			_ = unix.Unmount(p.path, unix.MNT_DETACH)
			_ = unix.Rmdir(p.path)
		}
		return err
	})
	if err != nil {
		return -1, fmt.Errorf("rootfs: copy a root: %w", err)
	}
	return fd, nil
}

// keyOf is the same for specifications of the same root.
func keyOf(h engine.HostRoot) [32]byte {
	var b []byte
	add := func(s string) { b = append(binary.AppendUvarint(b, uint64(len(s))), s...) }
	b = binary.AppendUvarint(b, uint64(len(h.Folders)))
	for _, f := range h.Folders {
		add(f)
	}
	b = binary.AppendUvarint(b, uint64(len(h.Files)))
	for _, f := range h.Files {
		add(f.Path)
		add(string(f.Content))
		b = binary.AppendUvarint(b, uint64(f.Mode))
	}
	for _, d := range h.Dirs {
		add(d)
	}
	return sha256.Sum256(b)
}

// drop makes room for one more root; r.mu is held.
func (r *Roots) drop() {
	for len(r.made) >= maxRoots {
		var oldest [32]byte
		for k, p := range r.made {
			if o := r.made[oldest]; o == nil || p.used < o.used {
				oldest = k
			}
		}
		p := r.made[oldest]
		delete(r.made, oldest)
		_ = r.room.Do(func() error {
			return errors.Join(unix.Unmount(p.path, unix.MNT_DETACH), unix.Rmdir(p.path))
		})
	}
}

// bound is a piece of the machine for a root.
type bound struct {
	path   string
	link   string // a symbolic link's target
	folder bool
	fd     int
}

// make builds a root in the room. The machine's folders are opened here, where
// the machine's mounts are seen, and mounted there.
func (r *Roots) make(h engine.HostRoot, writable bool) (*prepared, error) {
	var pieces []bound
	defer func() {
		for _, b := range pieces {
			if b.fd >= 0 {
				unix.Close(b.fd)
			}
		}
	}()
	for _, f := range h.Folders {
		b, err := piece(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("rootfs: %w", err)
		}
		pieces = append(pieces, b)
	}
	if err := r.ensureDev(); err != nil {
		return nil, err
	}
	r.next++
	p := &prepared{path: fmt.Sprintf("/root%d", r.next)}
	err := r.room.Do(func() error {
		err := build(p.path, h, pieces, writable)
		if err != nil {
			_ = unix.Unmount(p.path, unix.MNT_DETACH)
			_ = unix.Rmdir(p.path)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("rootfs: build a root: %w", err)
	}
	return p, nil
}

func piece(p string) (bound, error) {
	b := bound{path: path.Clean(p), fd: -1}
	if !path.IsAbs(p) || b.path == "/" {
		return b, fmt.Errorf("%w: folder %q", engine.ErrInvalid, p)
	}
	st, err := os.Lstat(b.path)
	if err != nil {
		return b, err
	}
	if st.Mode()&fs.ModeSymlink != 0 {
		b.link, err = os.Readlink(b.path)
		return b, err
	}
	b.folder = st.IsDir()
	b.fd, err = Bind(b.path, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV, 0)
	return b, err
}

// build runs in the room.
func build(root string, h engine.HostRoot, pieces []bound, writable bool) error {
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("root", root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return err
	}
	for _, d := range alwaysDirs {
		if err := os.MkdirAll(root+d, 0o755); err != nil {
			return err
		}
	}
	// parents before children, so that nothing is hidden
	slices.SortStableFunc(pieces, func(a, b bound) int { return strings.Compare(a.path, b.path) })
	for _, b := range pieces {
		if err := place(root, b); err != nil {
			return err
		}
	}
	for _, d := range h.Dirs {
		if err := os.MkdirAll(filepath.Join(root, path.Clean("/"+d)), 0o755); err != nil {
			return err
		}
	}
	if err := files(root, h.Files); err != nil {
		return err
	}
	dev, err := unix.OpenTree(unix.AT_FDCWD, devPath, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(dev)
	if err := unix.MoveMount(dev, "", unix.AT_FDCWD, root+"/dev", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	if writable {
		return nil
	}
	return unix.MountSetattr(unix.AT_FDCWD, root, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// place puts one piece of the machine into the root.
func place(root string, b bound) error {
	at := root + b.path
	if err := os.MkdirAll(path.Dir(at), 0o755); err != nil {
		return err
	}
	switch {
	case b.link != "":
		return ignoreExist(os.Symlink(b.link, at))
	case b.folder:
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
	default:
		f, err := os.OpenFile(at, os.O_CREATE|os.O_RDONLY, 0o644)
		if err != nil {
			return err
		}
		_ = f.Close()
	}
	if err := unix.MoveMount(b.fd, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return &os.PathError{Op: "move_mount", Path: b.path, Err: err}
	}
	return nil
}

func ignoreExist(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// files writes the given files and the ones that are always there.
func files(root string, given []engine.File) error {
	var has []string
	for _, f := range given {
		if !path.IsAbs(f.Path) {
			return fmt.Errorf("%w: file %q", engine.ErrInvalid, f.Path)
		}
		at := path.Clean(f.Path)
		has = append(has, at)
		mode := f.Mode
		if mode == 0 {
			mode = 0o644
		}
		if err := os.MkdirAll(root+path.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(root+at, f.Content, mode.Perm()); err != nil {
			return err
		}
	}
	for p, text := range alwaysFiles {
		if slices.Contains(has, p) {
			continue
		}
		if err := os.WriteFile(root+p, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// devPath is where the room has the devices that every container has.
const devPath = "/dev"

var devices = []struct {
	name         string
	major, minor uint32
}{
	{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
}

var devLinks = map[string]string{
	"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	"ptmx": "pts/ptmx", "core": "/proc/kcore",
}

// ensureDev makes a /dev once for all: it is read-only, and the folders for what
// is a container's own (pts, shm, mqueue) are mounted on. r.mu is held.
func (r *Roots) ensureDev() error {
	if r.dev {
		return nil
	}
	if err := r.room.Do(makeDev); err != nil {
		return fmt.Errorf("rootfs: devices: %w", err)
	}
	r.dev = true
	return nil
}

func makeDev() error {
	if err := os.Mkdir(devPath, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := unix.Mount("dev", devPath, "tmpfs", unix.MS_NOSUID|unix.MS_NOEXEC, "mode=755,size=64k"); err != nil {
		return err
	}
	for _, d := range devices {
		if err := unix.Mknod(devPath+"/"+d.name, unix.S_IFCHR|0o666, int(unix.Mkdev(d.major, d.minor))); err != nil {
			return err
		}
	}
	for name, target := range devLinks {
		if err := os.Symlink(target, devPath+"/"+name); err != nil {
			return err
		}
	}
	for _, d := range []string{"pts", "shm", "mqueue"} {
		if err := os.Mkdir(devPath+"/"+d, 0o755); err != nil {
			return err
		}
	}
	return unix.MountSetattr(unix.AT_FDCWD, devPath, 0, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}
