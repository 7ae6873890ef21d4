// Package pebblekv keeps a store on local files with Pebble, an LSM tree.
//
// # Transactions
//
// They are optimistic. A transaction reads a snapshot and remembers what it read:
// keys, and ranges as far as it went. Commit, under one short lock, looks whether
// a transaction that was applied since the snapshot has written any of that
// (ErrConflict), and applies its batch to the log's buffer and the memtable. The
// disk is not touched under the lock.
//
// # Durability
//
// After the lock, a committer waits until the log is synced up to its version.
// The first that waits becomes the leader: it syncs for all that were applied by
// then, while the next ones gather (group commit). Together with the sync the
// leader takes the snapshot that Views read from then on: a View therefore never
// waits for the disk and never shows what a crash could take back. A transaction
// reads the newest state, so as not to be in conflict with those being synced;
// what it read is older in the log than its own commit, or, if it writes nothing,
// is waited for by Settle.
package pebblekv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"skerry/internal/store/kv"
)

// Options of Open. The zero value is right for a server.
type Options struct {
	// Relaxed does not wait for the disk: what was acknowledged survives neither
	// a power cut nor, for the last moments, a kill. For test suites.
	Relaxed bool
	// FS is the file system; nil means the machine's.
	FS vfs.FS
	// Reserve is how many bytes of the disk must be free for a commit; 32 MiB if 0.
	Reserve uint64
	// MemTable is how many bytes of writes are gathered in memory before they go
	// to a file; 4 MiB if 0.
	MemTable uint64
	// Log tells of trouble in the background; nil means nobody.
	Log *slog.Logger
}

// DB is a kv.Driver.
type DB struct {
	db      *pebble.DB
	lock    *pebble.Lock
	room    *room
	relaxed bool

	mu struct { // the order of commits
		sync.Mutex
		history
	}
	group struct { // syncing
		sync.Mutex
		running bool
		ended   chan struct{} // closed when the sync of now has ended
		durable atomic.Uint64 // version
		err     error         // after which the log cannot be written any more
	}
	views struct { // what Views read
		sync.Mutex
		current *shared
		closed  bool
	}
}

// shared is a durable snapshot that many Views read; the last one closes it.
type shared struct {
	snap    *pebble.Snapshot
	version uint64
	users   int
}

// Open opens or makes the database in a folder.
func Open(dir string, o Options) (*DB, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Reserve == 0 {
		o.Reserve = defaultReserve
	}
	if o.MemTable == 0 {
		o.MemTable = 4 << 20
	}
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		return nil, translate(err)
	}
	lock, err := pebble.LockDirectory(dir, o.FS)
	if err != nil {
		return nil, fmt.Errorf("%w (%v)", kv.ErrLocked, err)
	}
	d := &DB{lock: lock, relaxed: o.Relaxed}
	d.group.ended = make(chan struct{})
	d.room = &room{FS: o.FS, dir: dir, reserve: o.Reserve, changed: d.nudge}
	if err := d.open(dir, o); err != nil {
		return nil, errors.Join(translate(err), lock.Close())
	}
	return d, nil
}

func (d *DB) open(dir string, o Options) error {
	d.room.closing.Store(true) // while opening, a full disk is an error
	if err := d.room.check(0, false); err != nil {
		return err
	}
	if err := complete(o.FS, dir); err != nil {
		return err
	}
	if err := checkLogs(o.FS, dir); err != nil {
		return err
	}
	opts := tuned(o)
	opts.Lock, opts.FS = d.lock, d.room
	pdb, err := pebble.Open(dir, opts)
	opts.Cache.Unref()
	// Pebble does not say which file it was reading, nor that a wrong option is damage.
	last := d.room.reading()
	if pebble.IsCorruptionError(err) && pebble.ExtractDataCorruptionInfo(err) == nil ||
		err != nil && !vfs.IsNoSpaceError(err) && strings.HasPrefix(o.FS.PathBase(last), "OPTIONS-") {
		return fmt.Errorf("%w: file %s: %w", kv.ErrDamaged, last, err)
	}
	if oserror.IsNotExist(err) {
		return fmt.Errorf("%w: a file is missing: %w", kv.ErrDamaged, err)
	}
	if err != nil {
		return err
	}
	d.db = pdb
	if err := d.checkTables(context.Background(), openBudget); err != nil {
		return errors.Join(err, pdb.Close())
	}
	d.room.closing.Store(false)
	d.views.current = &shared{snap: pdb.NewSnapshot(), users: 1}
	return nil
}

// complete answers ErrDamaged if a kind of file is missing that is always there:
// Pebble itself would take the folder for an empty one, or for one without a log.
func complete(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	has := func(prefix, suffix string) bool {
		return slices.ContainsFunc(names, func(n string) bool {
			return strings.HasPrefix(n, prefix) && strings.HasSuffix(n, suffix)
		})
	}
	marker := has("marker.manifest.", "")
	format := has("marker.format-version.", "")
	switch {
	case marker && !format && has("OPTIONS-", ""):
		return fmt.Errorf("%w: file %s is missing", kv.ErrDamaged, fs.PathJoin(dir, "marker.format-version.*"))
	case !marker && (has("MANIFEST-", "") && has("OPTIONS-", "") || has("", ".sst")):
		return fmt.Errorf("%w: file %s is missing", kv.ErrDamaged, fs.PathJoin(dir, "marker.manifest.*"))
	case marker && !has("", ".log") && (has("", ".sst") || has("OPTIONS-", "")):
		return fmt.Errorf("%w: file %s is missing", kv.ErrDamaged, fs.PathJoin(dir, "*.log"))
	}
	return nil
}

// tuned returns Pebble's options for a small process.
func tuned(o Options) *pebble.Options {
	l := logger{o.Log}
	opts := &pebble.Options{
		// Memtables, of which there are two or three under load, are taken off the
		// cache: what is left holds blocks, and is used only as they are read.
		Cache:              pebble.NewCache(int64(4*o.MemTable) + 16<<20),
		MemTableSize:       o.MemTable,
		MaxOpenFiles:       256,
		FormatMajorVersion: pebble.FormatNewest,
		Logger:             l,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { l.Errorf("in the background: %v", err) },
			DataCorruption:  func(i pebble.DataCorruptionInfo) { l.Errorf("file %s is damaged: %v", i.Path, i.Details) },
		},
	}
	for i := range opts.Levels {
		// One index a file. No filters: Pebble does not verify their blocks when it is
		// asked to, and a damaged one could hide rows.
		opts.Levels[i].IndexBlockSize = 256 << 10
	}
	return opts
}

// Close implements kv.Driver.
func (d *DB) Close() error {
	d.views.Lock()
	s := d.views.current
	d.views.current, d.views.closed = nil, true
	d.views.Unlock()
	if s == nil {
		return kv.ErrClosed
	}
	d.room.closing.Store(true)
	err := d.release(s)
	if !d.relaxed { // the next start need not read the log
		err = errors.Join(err, translate(d.db.Flush()))
	}
	return errors.Join(err, d.db.Close(), d.lock.Close())
}

// View implements kv.Driver.
func (d *DB) View(context.Context) (kv.Reader, error) {
	d.views.Lock()
	defer d.views.Unlock()
	if d.views.closed {
		return nil, kv.ErrClosed
	}
	s := d.views.current
	s.users++
	return &view{snapshot{s.snap}, d, s}, nil
}

// publish makes a snapshot the one that Views read.
func (d *DB) publish(snap *pebble.Snapshot, version uint64) error {
	d.views.Lock()
	old := d.views.current
	if d.views.closed || version <= old.version {
		d.views.Unlock()
		return snap.Close()
	}
	d.views.current = &shared{snap: snap, version: version, users: 1}
	d.views.Unlock()
	return d.release(old)
}

func (d *DB) release(s *shared) error {
	d.views.Lock()
	s.users--
	last := s.users == 0
	d.views.Unlock()
	if last {
		return s.snap.Close()
	}
	return nil
}

type view struct {
	snapshot
	db     *DB
	shared *shared
}

func (v *view) Close() error { return v.db.release(v.shared) }

// snapshot reads one state.
type snapshot struct{ snap *pebble.Snapshot }

func (s snapshot) Get(key []byte) ([]byte, bool, error) {
	v, closer, err := s.snap.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, translate(err)
	}
	v = bytes.Clone(v)
	return v, true, translate(closer.Close())
}

func (s snapshot) Scan(lo, hi []byte, reverse bool, fn func(k, v []byte) bool) error {
	it, err := s.snap.NewIter(&pebble.IterOptions{LowerBound: lo, UpperBound: hi})
	if err != nil {
		return translate(err)
	}
	defer it.Close() // also when fn panics; closing again is harmless
	start, step := it.First, it.Next
	if reverse {
		start, step = it.Last, it.Prev
	}
	for ok := start(); ok; ok = step() {
		v, err := it.ValueAndErr()
		if err != nil {
			return translate(err)
		}
		if !fn(it.Key(), v) {
			break
		}
	}
	return translate(it.Error())
}

// translate gives Pebble's errors the store's kinds.
func translate(err error) error {
	switch {
	case err == nil:
		return nil
	case pebble.IsCorruptionError(err):
		if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
			return fmt.Errorf("%w: file %s: %w", kv.ErrDamaged, info.Path, err)
		}
		return fmt.Errorf("%w: %w", kv.ErrDamaged, err)
	case vfs.IsNoSpaceError(err):
		return fmt.Errorf("%w: %w", kv.ErrNoSpace, err)
	case errors.Is(err, pebble.ErrClosed):
		return kv.ErrClosed
	}
	return err
}

// logger passes Pebble's complaints on.
type logger struct{ log *slog.Logger }

func (l logger) Infof(string, ...any) {}
func (l logger) Errorf(format string, args ...any) {
	l.log.Error("store: " + fmt.Sprintf(format, args...))
}
func (l logger) Fatalf(format string, args ...any) {
	l.Errorf(format, args...)
	os.Exit(1)
}
