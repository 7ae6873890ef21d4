package pebblekv

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"skerry/internal/store/kv"
)

// room keeps the database alive on a full disk. Pebble cannot go on after a failed
// write of its log or manifest, so such a write never fails for want of space:
//
//   - A commit looks first whether the reserve is free, and answers ErrNoSpace if it
//     is not. The reserve is more than Pebble needs to finish what was begun. One
//     that deletes is the way out of a full disk, and needs half of the reserve, or
//     the ballast.
//   - If others fill the disk in that moment, the write gives the ballast free, a
//     file whose blocks are allocated for this, and is done again.
//   - If that was not enough, it waits for space. Commits that wait for it answer
//     ErrNoSpace; they may turn out to be written when there is room.
//
// Writes of tables, which Pebble does again by itself, fail, but not in a hurry.
type room struct {
	vfs.FS
	dir     string
	reserve uint64
	closing atomic.Bool
	blocked atomic.Int32 // writes that wait
	changed func()       // called when a write begins to wait
	good    struct {     // the disk need not be asked again
		until atomic.Int64 // time, in nanoseconds
		bytes atomic.Int64 // to be written
	}

	mu struct {
		sync.Mutex
		ballast bool // the file is there
		reading string
	}
}

const (
	defaultReserve = 32 << 20
	ballastName    = "BALLAST"
	pause          = 50 * time.Millisecond // between tries of a write
	goodTime       = 10 * time.Millisecond
	goodBytes      = 1 << 20
)

// check answers ErrNoSpace if the disk has no room for n more bytes of a commit, and
// puts the ballast back when it has plenty.
func (r *room) check(n int, deletes bool) error {
	if r.blocked.Load() > 0 {
		return kv.ErrNoSpace
	}
	now := time.Now()
	if now.UnixNano() < r.good.until.Load() && r.good.bytes.Add(-int64(n)) > 0 {
		return nil
	}
	use, err := r.FS.GetDiskUsage(r.dir)
	if err != nil { // the file system cannot tell
		return nil
	}
	if use.AvailBytes < r.reserve+uint64(n) {
		if deletes && (use.AvailBytes >= r.reserve/2+uint64(n) || r.hasBallast()) {
			return nil
		}
		return fmt.Errorf("%w: %d MiB are free, %d MiB are kept in reserve", kv.ErrNoSpace, use.AvailBytes>>20, r.reserve>>20)
	}
	r.good.bytes.Store(goodBytes)
	r.good.until.Store(now.Add(goodTime).UnixNano())
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mu.ballast && use.AvailBytes > 2*r.reserve {
		r.mu.ballast = r.layBallast() == nil
	}
	return nil
}

func (r *room) layBallast() error {
	f, err := r.FS.Create(r.FS.PathJoin(r.dir, ballastName), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	return errors.Join(f.Preallocate(0, int64(r.reserve/2)), f.Close())
}

func (r *room) hasBallast() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.ballast
}

// dropBallast tells whether there was any.
func (r *room) dropBallast() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.mu.ballast {
		return false
	}
	r.mu.ballast = false
	return r.FS.Remove(r.FS.PathJoin(r.dir, ballastName)) == nil
}

// insist does a write of a file until it does not fail for want of space.
func (r *room) insist(name string, write func() error) error {
	waits := false
	defer func() {
		if waits {
			r.blocked.Add(-1)
		}
	}()
	for {
		err := write()
		switch {
		case !vfs.IsNoSpaceError(err):
			return err
		case strings.HasSuffix(name, ".sst"), strings.HasSuffix(name, ".blob"), r.closing.Load():
			time.Sleep(pause)
			return err
		case r.dropBallast():
			continue
		case !waits:
			waits = true
			r.blocked.Add(1)
			r.changed()
		}
		time.Sleep(pause)
	}
}

// Open remembers the file, so that one found damaged can be named.
func (r *room) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	if r.closing.Load() {
		r.mu.Lock()
		r.mu.reading = name
		r.mu.Unlock()
	}
	return r.FS.Open(name, o...)
}

// reading returns the file that was opened last while the database was opened.
func (r *room) reading() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.reading
}

func (r *room) Create(name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = r.insist(name, func() error { f, err = r.FS.Create(name, c); return err })
	return r.file(f, name), err
}

func (r *room) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (f vfs.File, err error) {
	err = r.insist(name, func() error { f, err = r.FS.ReuseForWrite(old, name, c); return err })
	return r.file(f, name), err
}

func (r *room) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := r.FS.OpenReadWrite(name, c, o...)
	return r.file(f, name), err
}

func (r *room) Link(old, name string) error {
	return r.insist(name, func() error { return r.FS.Link(old, name) })
}

func (r *room) Rename(old, name string) error {
	return r.insist(name, func() error { return r.FS.Rename(old, name) })
}

func (r *room) MkdirAll(dir string, perm os.FileMode) error {
	return r.insist(dir, func() error { return r.FS.MkdirAll(dir, perm) })
}

func (r *room) Unwrap() vfs.FS { return r.FS }

func (r *room) file(f vfs.File, name string) vfs.File {
	if f == nil {
		return nil
	}
	return &roomFile{f, r, name}
}

// roomFile is a file being written.
type roomFile struct {
	vfs.File
	room *room
	name string
}

func (f *roomFile) Write(p []byte) (n int, err error) {
	err = f.room.insist(f.name, func() error {
		m, err := f.File.Write(p[n:])
		n += m
		return err
	})
	return n, err
}

func (f *roomFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.room.insist(f.name, func() error {
		m, err := f.File.WriteAt(p[n:], off+int64(n))
		n += m
		return err
	})
	return n, err
}
