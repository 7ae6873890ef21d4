package sim

import (
	"math/rand/v2"
	"os"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// disk is a file system that calls crash once, just before its n-th change.
type disk struct {
	vfs.FS
	left  atomic.Int64
	crash func()
}

func newDisk(fs *vfs.MemFS, n int64, crash func()) *disk {
	d := &disk{FS: fs, crash: crash}
	d.left.Store(n)
	return d
}

// afterCrash is what the disk could look like after a power cut now.
func afterCrash(fs *vfs.MemFS, seed uint64) *vfs.MemFS {
	r := rand.New(rand.NewPCG(seed, 2))
	percent := []int{0, 0, 50, 100}[r.IntN(4)] // of unsynced writes that survive
	return fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: r})
}

func (d *disk) change() {
	if d.left.Add(-1) == 0 {
		d.crash()
	}
}

func (d *disk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.change()
	f, err := d.FS.Create(name, c)
	return d.file(f), err
}

func (d *disk) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	d.change()
	f, err := d.FS.ReuseForWrite(old, name, c)
	return d.file(f), err
}

func (d *disk) OpenDir(name string) (vfs.File, error) {
	f, err := d.FS.OpenDir(name)
	return d.file(f), err
}

func (d *disk) Rename(old, name string) error {
	d.change()
	return d.FS.Rename(old, name)
}

func (d *disk) Link(old, name string) error {
	d.change()
	return d.FS.Link(old, name)
}

func (d *disk) Remove(name string) error {
	d.change()
	return d.FS.Remove(name)
}

func (d *disk) MkdirAll(dir string, perm os.FileMode) error {
	d.change()
	return d.FS.MkdirAll(dir, perm)
}

func (d *disk) Unwrap() vfs.FS { return d.FS }

func (d *disk) file(f vfs.File) vfs.File {
	if f == nil {
		return nil
	}
	return &diskFile{f, d}
}

type diskFile struct {
	vfs.File
	disk *disk
}

func (f *diskFile) Write(p []byte) (int, error) { f.disk.change(); return f.File.Write(p) }
func (f *diskFile) WriteAt(p []byte, off int64) (int, error) {
	f.disk.change()
	return f.File.WriteAt(p, off)
}
func (f *diskFile) Sync() error                  { f.disk.change(); return f.File.Sync() }
func (f *diskFile) SyncData() error              { f.disk.change(); return f.File.SyncData() }
func (f *diskFile) SyncTo(n int64) (bool, error) { f.disk.change(); return f.File.SyncTo(n) }
