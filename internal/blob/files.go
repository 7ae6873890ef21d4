package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"skerry/internal/base/fsync"
)

// Options of Open. The zero value is right for a server.
type Options struct {
	// Relaxed does not wait for the disk; for test suites.
	Relaxed bool
	// Reserve is how many bytes of the disk blobs leave free, so that the store
	// beside them goes on and things can be deleted; 64 MiB if 0, none if negative.
	Reserve int64
}

// Files is a Store in a folder of the machine. One process uses a folder.
type Files struct {
	dir     string // of blobs; tmp is beside it
	tmp     string
	relaxed bool
	reserve int64
	names   sync.Mutex  // held to rename and to delete, so that a sweep cannot meet a commit
	folder  fsync.Group // with the disk of what was renamed in dir
}

var _ Store = (*Files)(nil)

// Open opens or makes the blobs of a folder, and removes what a crash has left
// half-written.
func Open(dir string, o Options) (*Files, error) {
	f := &Files{dir: filepath.Join(dir, "blobs"), tmp: filepath.Join(dir, "tmp"), relaxed: o.Relaxed, reserve: o.Reserve}
	if o.Reserve == 0 {
		f.reserve = 64 << 20
	}
	if err := os.RemoveAll(f.tmp); err != nil {
		return nil, fmt.Errorf("blob: %w", err)
	}
	for _, d := range []string{f.dir, f.tmp} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("blob: %w", translate(err))
		}
	}
	if err := syncDir(dir); err != nil {
		return nil, fmt.Errorf("blob: %w", translate(err))
	}
	return f, nil
}

func (f *Files) path(ref Ref) string { return filepath.Join(f.dir, string(ref)) }

// Delete implements Store.
func (f *Files) Delete(_ context.Context, ref Ref) error {
	if !ref.Valid() {
		return nil
	}
	f.names.Lock()
	defer f.names.Unlock()
	if err := os.Remove(f.path(ref)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob: delete %s: %w", ref, err)
	}
	return nil
}

// Touch implements Store.
func (f *Files) Touch(_ context.Context, ref Ref) (bool, error) {
	if !ref.Valid() {
		return false, nil
	}
	f.names.Lock()
	defer f.names.Unlock()
	now := time.Now()
	switch err := os.Chtimes(f.path(ref), now, now); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("blob: touch %s: %w", ref, err)
	}
	return true, nil
}

// DeleteOlder implements Store.
func (f *Files) DeleteOlder(_ context.Context, ref Ref, before time.Time) (bool, error) {
	if !ref.Valid() {
		return false, nil
	}
	f.names.Lock()
	defer f.names.Unlock()
	st, err := os.Lstat(f.path(ref))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err == nil && st.ModTime().Before(before) {
		err = os.Remove(f.path(ref))
	} else if err == nil {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("blob: delete %s: %w", ref, err)
	}
	return true, nil
}

// List implements Store.
func (f *Files) List(ctx context.Context) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		d, err := os.Open(f.dir)
		if err != nil {
			yield(Info{}, fmt.Errorf("blob: list: %w", err))
			return
		}
		defer d.Close()
		for {
			entries, end := d.ReadDir(512)
			for _, e := range entries {
				st, err := e.Info()
				if errors.Is(err, fs.ErrNotExist) || !Ref(e.Name()).Valid() {
					continue
				}
				if err == nil {
					err = ctx.Err()
				}
				if err != nil {
					yield(Info{}, fmt.Errorf("blob: list: %w", err))
					return
				}
				if !yield(Info{Ref(e.Name()), contentSize(st.Size()), st.ModTime()}, nil) {
					return
				}
			}
			if end != nil {
				return
			}
		}
	}
}

// Clear removes all blobs; what is being written meanwhile stays.
func (f *Files) Clear(ctx context.Context) error {
	for info, err := range f.List(ctx) {
		if err != nil {
			return err
		}
		if err := f.Delete(ctx, info.Ref); err != nil {
			return err
		}
	}
	return nil
}

// contentSize returns the size of the content of a file of a size, or -1 if no
// content has it.
func contentSize(file int64) int64 {
	body := file - int64(headerSize)
	if body < tagSize {
		return -1
	}
	n := (body + sealedSize - 1) / sealedSize
	if body-(n-1)*sealedSize < tagSize {
		return -1
	}
	return body - n*tagSize
}

// room answers ErrNoSpace if n more bytes would eat into the reserve.
func (f *Files) room(n int64) error {
	if f.reserve < 0 {
		return nil
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(f.tmp, &st); err != nil {
		return fmt.Errorf("blob: free space: %w", err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free-n < f.reserve {
		return ErrNoSpace
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func translate(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
