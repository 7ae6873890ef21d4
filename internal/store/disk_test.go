package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"skerry/internal/store"
)

func TestSecondServerIsRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, store.Options{})
	if _, err := store.Open(dir, store.Options{}); !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second open: %v", err)
	}
}

// count reads all rows.
func count(db *store.DB) (n int, err error) {
	err = db.View(context.Background(), func(tx *store.Tx) error {
		n = 0
		for _, err := range items.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	return n, err
}

// TestDamage flips a bit at random places in every file of a store: what was
// written is there, or the error names the file. Nothing is lost in silence.
func TestDamage(t *testing.T) {
	master := filepath.Join(t.TempDir(), "master")
	const rows = 300
	fill(t, master, rows)
	files, err := os.ReadDir(master)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, f := range files {
		good, err := os.ReadFile(filepath.Join(master, f.Name()))
		if err != nil || len(good) == 0 {
			continue
		}
		size := len(good)
		if strings.HasSuffix(f.Name(), ".log") {
			size -= 600 // its last commit cannot be told from one that a crash has cut off
		}
		for range 8 {
			at := rand.IntN(size)
			dir := filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(dir, os.DirFS(master)); err != nil {
				t.Fatal(err)
			}
			bad := append([]byte(nil), good...)
			bad[at] ^= 1 << rand.IntN(8)
			if err := os.WriteFile(filepath.Join(dir, f.Name()), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			err := check(dir, rows)
			if strings.HasSuffix(f.Name(), ".sst") && err == nil && at < size-100 { // a footer has spare bytes
				t.Errorf("%s at %d of %d: not told at open", f.Name(), at, size)
			}
			if err == nil {
				continue
			}
			if !errors.Is(err, store.ErrDamaged) || !strings.Contains(err.Error(), f.Name()) {
				t.Errorf("%s at %d of %d: %v", f.Name(), at, len(good), err)
			}
			told[f.Name()]++
		}
	}
	t.Log(told)
}

// TestMissingFile removes each file of a store.
func TestMissingFile(t *testing.T) {
	master := filepath.Join(t.TempDir(), "master")
	const rows = 300
	fill(t, master, rows)
	files, err := os.ReadDir(master)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		dir := filepath.Join(t.TempDir(), "copy")
		if err := os.CopyFS(dir, os.DirFS(master)); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			t.Fatal(err)
		}
		if err := check(dir, rows); err != nil && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("without %s: %v", f.Name(), err)
		} else {
			t.Log(f.Name(), err)
		}
	}
}

// fill makes a store with tables on disk and a log that was not closed in order.
func fill(t *testing.T, dir string, rows int) {
	t.Helper()
	first := filepath.Join(t.TempDir(), "first")
	put := func(db *store.DB, from, to int) {
		for i := from; i < to; i++ {
			if err := db.Update(t.Context(), func(tx *store.Tx) error { return items.Put(tx, newItem(int64(i))) }); err != nil {
				t.Fatal(err)
			}
		}
	}
	db, err := store.Open(first, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(db, 0, rows/2)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, first, store.Options{})
	put(db, rows/2, rows)
	if err := os.CopyFS(dir, os.DirFS(first)); err != nil { // as a crash would leave it
		t.Fatal(err)
	}
}

func check(dir string, rows int) error {
	db, err := store.Open(dir, store.Options{})
	if err != nil {
		return err
	}
	n, err := count(db)
	if err == nil && n != rows {
		err = fmt.Errorf("%d rows, want %d", n, rows)
	}
	return errors.Join(err, db.Close())
}

// TestFullDisk fills the disk under a store that is written to: writers are told,
// and go on when there is room again; nothing acknowledged is lost.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounts a small tmpfs, which needs root")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	}()
	db, err := store.Open(filepath.Join(disk, "store"), store.Options{Reserve: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var acked, refused atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	lasts := make([]int64, 8)
	for w := range lasts {
		wg.Go(func() {
			for n := int64(0); ctx.Err() == nil; {
				k := store.K(w, n)
				err := db.Update(context.Background(), func(tx *store.Tx) error { return bytes1k.Put(tx, k, make([]byte, 300)) })
				switch {
				case err == nil:
					n++
					lasts[w] = n
					acked.Add(1)
				case errors.Is(err, store.ErrNoSpace):
					refused.Add(1)
				default:
					t.Errorf("writer: %v", err)
					return
				}
			}
		})
	}
	until := func(what string, c *atomic.Int64) {
		t.Helper()
		was := c.Load()
		for end := time.Now().Add(20 * time.Second); c.Load() < was+100; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("waited for writers to be %s", what)
			}
		}
	}
	for round := range 3 {
		key := store.K(1000+round, int64(0))
		if err := db.Update(ctx, func(tx *store.Tx) error { return bytes1k.Put(tx, key, make([]byte, 300)) }); err != nil {
			t.Fatal(err)
		}
		until("served", &acked)
		eat(t, filepath.Join(disk, "others"))
		until("refused", &refused)
		if _, err := count(db); err != nil {
			t.Errorf("read on a full disk: %v", err)
		}
		if err := db.Update(ctx, func(tx *store.Tx) error { return bytes1k.Delete(tx, key) }); err != nil {
			t.Errorf("delete on a full disk: %v", err)
		}
		if err := os.Remove(filepath.Join(disk, "others")); err != nil {
			t.Fatal(err)
		}
		until("served again", &acked)
	}
	cancel()
	wg.Wait()
	verify := func() {
		t.Helper()
		err := db.View(context.Background(), func(tx *store.Tx) error {
			for w, last := range lasts {
				for n := range last {
					if _, err := bytes1k.Get(tx, store.K(w, n)); err != nil {
						return fmt.Errorf("writer %d, %d of %d: %w", w, n, last, err)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	verify()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(filepath.Join(disk, "store"), store.Options{Reserve: 4 << 20}); err != nil {
		t.Fatal(err)
	}
	verify()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// eat fills the disk to the last byte.
func eat(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, size := range []int{1 << 20, 4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}
