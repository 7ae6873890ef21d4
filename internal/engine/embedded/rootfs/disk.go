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
	"sync"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// Disks are file systems of a fixed size, each in a sparse file on the machine's
// disk behind a loop device. The file has no name and the device ends with its last
// user, so whatever happens to this process, nothing is left of them.
type Disks struct {
	dir string // has a template of each size, see Template

	mu     sync.Mutex
	ready  map[int64][]int // made ahead: detached mounts
	making map[int64]bool
	recent []int64 // sizes, the last used at the end
	closed bool
	wait   sync.WaitGroup
}

// How many are made ahead, and for how many sizes.
const (
	disksAhead = 2
	diskSizes  = 3
)

// NewDisks needs a folder.
func NewDisks(dir string) *Disks {
	return &Disks{dir: dir, ready: map[int64][]int{}, making: map[int64]bool{}}
}

// Template is the file in a folder of which disks of a size are copies: an ext4
// file system. Nobody makes it here.
func Template(dir string, size int64) string {
	return filepath.Join(dir, strconv.FormatInt(size, 10)+".ext4")
}

// Take returns an empty file system of a size in bytes, as a detached mount.
func (d *Disks) Take(size int64) (fd int, err error) {
	d.mu.Lock()
	fd = -1
	if list := d.ready[size]; len(list) > 0 {
		fd, d.ready[size] = list[len(list)-1], list[:len(list)-1]
	}
	stale := d.use(size)
	d.refill(size)
	d.mu.Unlock()
	for _, old := range stale {
		unix.Close(old)
	}
	if fd < 0 {
		fd, err = d.make(size)
	}
	return fd, err
}

// use remembers that a size is used, and returns the disks of one that no longer
// is; d.mu is held.
func (d *Disks) use(size int64) (stale []int) {
	for i, s := range d.recent {
		if s == size {
			d.recent = append(d.recent[:i], d.recent[i+1:]...)
			break
		}
	}
	d.recent = append(d.recent, size)
	if len(d.recent) > diskSizes {
		old := d.recent[0]
		d.recent = d.recent[1:]
		stale = d.ready[old]
		delete(d.ready, old)
	}
	return stale
}

// wanted says whether one more of a size is to be made; d.mu is held.
func (d *Disks) wanted(size int64) bool {
	for _, s := range d.recent {
		if s == size {
			return !d.closed && len(d.ready[size]) < disksAhead
		}
	}
	return false
}

// refill starts making disks ahead; d.mu is held.
func (d *Disks) refill(size int64) {
	if d.making[size] || !d.wanted(size) {
		return
	}
	d.making[size] = true
	d.wait.Go(func() {
		for {
			fd, err := d.make(size)
			d.mu.Lock()
			if err == nil && d.wanted(size) {
				d.ready[size] = append(d.ready[size], fd)
			} else if err == nil {
				unix.Close(fd)
			}
			if err != nil || !d.wanted(size) { // after an error the next Take sees it, or tries again
				delete(d.making, size)
				d.mu.Unlock()
				return
			}
			d.mu.Unlock()
		}
	})
}

// Close gives up those that were made ahead.
func (d *Disks) Close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.wait.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, list := range d.ready {
		for _, fd := range list {
			unix.Close(fd)
		}
	}
	d.ready = map[int64][]int{}
}

func (d *Disks) make(size int64) (fd int, err error) {
	f, err := d.file(size)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	return mountDisk(f)
}

// SharedDisk is a disk that is mounted again and again.
type SharedDisk struct {
	loop, mount int
	path        string
}

// Share makes one, whose top folder has a mode.
func (d *Disks) Share(size int64, mode fs.FileMode) (*SharedDisk, error) {
	f, err := d.file(size)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := new(SharedDisk)
	if s.loop, s.path, err = attachLoop(f); err != nil {
		return nil, fmt.Errorf("rootfs: loop device: %w", err)
	}
	if s.mount, err = mountNew(s.path); err != nil {
		unix.Close(s.loop)
		return nil, err
	}
	if err := unix.Fchmodat(s.mount, ".", unixMode(mode), 0); err != nil {
		s.Close()
		return nil, fmt.Errorf("rootfs: disk: %w", err)
	}
	return s, nil
}

// Mount returns it as a detached mount, with attrs (MOUNT_ATTR_*) and a userns as
// Bind has them.
func (s *SharedDisk) Mount(attrs uint64, userns int) (fd int, err error) {
	if fd, err = mountLoop(s.path); err != nil {
		return -1, err
	}
	if err := setAttrs(fd, attrs, userns); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("rootfs: a shared disk: %w", err)
	}
	return fd, nil
}

// Close gives it up. It goes with the last of its mounts.
func (s *SharedDisk) Close() {
	unix.Close(s.mount)
	unix.Close(s.loop)
}

// file is an unnamed file with an empty file system.
func (d *Disks) file(size int64) (*os.File, error) {
	file, err := unix.Open(d.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) { // not every file system can
		var f *os.File
		if f, err = os.CreateTemp(d.dir, ".disk"); err == nil {
			_ = os.Remove(f.Name())
			file, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 3)
			_ = f.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("rootfs: disk: %w", err)
	}
	f := os.NewFile(uintptr(file), "disk")
	if err := copyTemplate(f, Template(d.dir, size)); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("rootfs: disk of %d bytes: %w", size, err)
	}
	return f, nil
}

// Disk mounts the disk of a file, which is made if it is not there. The mount is
// detached.
func Disk(dir, path string, size int64) (fd int, err error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		if f, err = os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err == nil {
			if err = copyTemplate(f, Template(dir, size)); err == nil {
				err = os.Rename(path+".new", path)
			}
		}
	}
	if f != nil {
		defer f.Close()
	}
	if err != nil {
		return -1, fmt.Errorf("rootfs: disk of %d bytes: %w", size, err)
	}
	return mountDisk(f)
}

// copyTemplate copies what a sparse file has, sharing its blocks where the file
// system can do that.
func copyTemplate(to *os.File, path string) error {
	from, err := os.Open(path)
	if err != nil {
		return err
	}
	defer from.Close()
	if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil {
		return nil
	}
	st, err := from.Stat()
	if err == nil {
		err = to.Truncate(st.Size())
	}
	for at := int64(0); err == nil; {
		begin, e := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if e == unix.ENXIO {
			return nil // nothing but a hole
		}
		if err = e; err != nil {
			break
		}
		if at, err = unix.Seek(int(from.Fd()), begin, unix.SEEK_HOLE); err != nil {
			break
		}
		_, err = io.Copy(io.NewOffsetWriter(to, begin), io.NewSectionReader(from, begin, at-begin))
	}
	return err
}

// mountDisk puts a file behind a loop device and mounts it.
func mountDisk(f *os.File) (fd int, err error) {
	loop, path, err := attachLoop(f)
	if err != nil {
		return -1, fmt.Errorf("rootfs: loop device: %w", err)
	}
	defer unix.Close(loop) // it ends with the mount
	return mountNew(path)
}

func mountLoop(path string) (fd int, err error) {
	return newMount("ext4", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOATIME, [][2]string{{"source", path}},
		"noinit_itable", "nobarrier")
}

// mountNew mounts a file system in which the formatter may have left something.
func mountNew(path string) (fd int, err error) {
	if fd, err = mountLoop(path); err != nil {
		return -1, err
	}
	if err := unix.Unlinkat(fd, "lost+found", unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT && err != unix.ENOTEMPTY {
		unix.Close(fd)
		return -1, fmt.Errorf("rootfs: disk: %w", err)
	}
	return fd, nil
}

// attachLoop makes a file a block device, which is gone with its last user.
func attachLoop(f *os.File) (fd int, path string, err error) {
	control, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("/dev/loop-control: %w", noLoop(err))
	}
	defer unix.Close(control)
	for range 64 {
		n, err := unix.IoctlRetInt(control, unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return -1, "", noLoop(err)
		}
		path = "/dev/loop" + strconv.Itoa(n)
		fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, "", fmt.Errorf("%s: %w", path, noLoop(err))
		}
		config := unix.LoopConfig{Fd: uint32(f.Fd()), Size: 4096, Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_DIRECT_IO}}
		err = unix.IoctlLoopConfigure(fd, &config)
		if err == unix.EINVAL { // the disk wants other blocks
			config = unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
			err = unix.IoctlLoopConfigure(fd, &config)
		}
		if err == nil {
			return fd, path, nil
		}
		unix.Close(fd)
		if err != unix.EBUSY { // somebody else was faster
			return -1, "", fmt.Errorf("%s: %w", path, err)
		}
	}
	return -1, "", errors.New("all are busy")
}

func noLoop(err error) error {
	switch err {
	case unix.ENOENT, unix.ENXIO, unix.ENODEV, unix.EPERM, unix.EACCES:
		return fmt.Errorf("%w: %w", err, engine.ErrUnsupported)
	}
	return err
}

// HasLoops says what keeps this machine from having loop devices.
func HasLoops() error {
	fd, err := unix.Open("/dev/loop-control", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("/dev/loop-control: %w", err)
	}
	unix.Close(fd)
	return nil
}
