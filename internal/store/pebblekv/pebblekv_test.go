package pebblekv_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"skerry/internal/store/kv"
	"skerry/internal/store/pebblekv"
	"skerry/internal/store/storetest"
)

func TestSerialisable(t *testing.T) {
	storetest.RunDriver(t, func(t *testing.T) kv.Driver {
		d, err := pebblekv.Open("db", pebblekv.Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	})
}

// slowDisk is a file system whose logs are synced when the test lets them.
type slowDisk struct {
	vfs.FS
	slow    atomic.Bool
	syncing chan struct{} // receives when a sync begins
	finish  chan struct{} // lets one end
	broken  atomic.Bool   // no sync succeeds
}

var errBroken = errors.New("broken disk")

func (d *slowDisk) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	if err == nil && strings.HasSuffix(name, ".log") {
		f = &slowFile{f, d}
	}
	return f, err
}

// TestBrokenLog: when a log cannot be synced, what is not durable is not
// acknowledged, then or later, and reading goes on.
func TestBrokenLog(t *testing.T) {
	disk := &slowDisk{FS: vfs.NewCrashableMem()}
	d, err := pebblekv.Open("db", pebblekv.Options{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	put := func(key string) error {
		x, err := d.Begin(t.Context())
		if err != nil {
			return err
		}
		defer x.Close()
		return x.Commit(t.Context(), []kv.Write{{Key: []byte(key), Value: []byte("1")}})
	}
	if err := put("a"); err != nil {
		t.Fatal(err)
	}
	disk.broken.Store(true)
	for range 3 {
		if err := put("b"); !errors.Is(err, errBroken) {
			t.Errorf("put on a broken disk: %v", err)
		}
	}
	disk.broken.Store(false)
	if err := put("c"); !errors.Is(err, errBroken) {
		t.Errorf("put after a sync was lost: %v", err)
	}
	v, err := d.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if get(t, v, "a") != "1" || get(t, v, "b") != "" {
		t.Error("a View sees another state than the durable one")
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

type slowFile struct {
	vfs.File
	disk *slowDisk
}

func (f *slowFile) sync(do func() error) error {
	if f.disk.slow.Load() {
		f.disk.syncing <- struct{}{}
		<-f.disk.finish
	}
	if f.disk.broken.Load() {
		return errBroken
	}
	return do()
}

func (f *slowFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *slowFile) SyncData() error { return f.sync(f.File.SyncData) }

func get(t *testing.T, r kv.Reader, key string) string {
	t.Helper()
	v, _, err := r.Get([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	return string(v)
}

// TestNothingIsToldBeforeItIsDurable holds up the sync of a commit. Meanwhile
// Views see the state before; transactions read and write on top of the new one,
// without waiting for the disk, but nobody is told an outcome.
func TestNothingIsToldBeforeItIsDurable(t *testing.T) {
	disk := &slowDisk{FS: vfs.NewMem(), syncing: make(chan struct{}), finish: make(chan struct{})}
	d, err := pebblekv.Open("db", pebblekv.Options{FS: disk})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	commit := func(read, key, value string) chan error {
		x, err := d.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		get(t, x, read)
		done := make(chan error, 1)
		go func() {
			err := x.Commit(ctx, []kv.Write{{Key: []byte(key), Value: []byte(value)}})
			x.Close()
			done <- err
		}()
		return done
	}
	view := func() string {
		v, err := d.View(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		return get(t, v, "a") + get(t, v, "b")
	}
	disk.slow.Store(true)
	first := commit("x", "a", "1")
	<-disk.syncing
	second := commit("a", "b", "2") // reads the first, and writes: it waits for the next sync
	if got := view(); got != "" {
		t.Errorf("a View sees %q, which is not durable", got)
	}
	reader, err := d.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, reader, "a"); got != "1" {
		t.Errorf("a transaction reads %q", got)
	}
	settled := make(chan error, 1)
	go func() { settled <- reader.Settle(ctx) }()
	select {
	case <-first:
		t.Error("a commit was told before it was durable")
	case <-second:
		t.Error("a commit was told before it was durable")
	case <-settled:
		t.Error("what was read is not durable, and was settled")
	default:
	}
	disk.finish <- struct{}{}
	if err := <-first; err != nil {
		t.Error(err)
	}
	<-disk.syncing
	if got := view(); got[:1] != "1" {
		t.Errorf("after the first sync, a View sees %q", got)
	}
	disk.finish <- struct{}{}
	if err := <-second; err != nil {
		t.Error(err)
	}
	if got := view(); got != "12" {
		t.Errorf("after the second sync, a View sees %q", got)
	}
	disk.slow.Store(false)
	if err := <-settled; err != nil {
		t.Error(err)
	}
	if err := reader.Close(); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
}
