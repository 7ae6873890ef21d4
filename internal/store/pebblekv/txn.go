package pebblekv

import (
	"context"
	"errors"
	"fmt"
	"sort"

	"github.com/cockroachdb/pebble/v2"

	"skerry/internal/store/kv"
)

// txn is an optimistic transaction.
type txn struct {
	snapshot
	db     *DB
	began  uint64 // every commit up to this version is in the snapshot, later ones may be
	seen   uint64 // no commit after this version is in the snapshot
	keys   map[string]struct{}
	ranges []span
}

// span is a range of keys read, both ends included.
type span struct{ lo, hi string }

// Begin implements kv.Driver.
func (d *DB) Begin(context.Context) (kv.Txn, error) {
	d.views.Lock()
	closed := d.views.closed
	d.views.Unlock()
	if closed {
		return nil, kv.ErrClosed
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	t := &txn{db: d, began: d.mu.version, seen: d.mu.version, keys: map[string]struct{}{}}
	t.snap = d.db.NewSnapshot()
	d.mu.enter(t.began)
	return t, nil
}

func (t *txn) Close() error {
	t.db.mu.Lock()
	t.db.mu.leave(t.began)
	t.db.mu.Unlock()
	return t.snap.Close()
}

func (t *txn) Get(key []byte) ([]byte, bool, error) {
	t.keys[string(key)] = struct{}{}
	return t.snapshot.Get(key)
}

func (t *txn) Scan(lo, hi []byte, reverse bool, fn func(k, v []byte) bool) error {
	var last []byte
	stopped := false
	err := t.snapshot.Scan(lo, hi, reverse, func(k, v []byte) bool {
		last = append(last[:0], k...)
		stopped = !fn(k, v)
		return !stopped
	})
	from, to := string(lo), string(hi)
	if stopped && reverse {
		from = string(last)
	} else if stopped {
		to = string(last)
	}
	t.ranges = append(t.ranges, span{from, to})
	return err
}

// Settle implements kv.Txn.
func (t *txn) Settle(context.Context) error { return t.db.settle(t.seen) }

// Commit implements kv.Txn.
func (t *txn) Commit(_ context.Context, writes []kv.Write) error {
	d := t.db
	b := d.db.NewBatch()
	keys := make([]string, len(writes))
	deletes := false
	for i, w := range writes {
		keys[i] = string(w.Key)
		deletes = deletes || w.Delete
		var err error
		if w.Delete {
			err = b.Delete(w.Key, nil)
		} else {
			err = b.Set(w.Key, w.Value, nil)
		}
		if err != nil {
			return errors.Join(translate(err), b.Close())
		}
	}
	version, err := t.apply(b, keys, deletes)
	if err == nil {
		err = d.settle(version)
	}
	return errors.Join(err, b.Close())
}

// apply puts the batch into the log's buffer and the memtable, after everything
// that it is in no conflict with.
func (t *txn) apply(b *pebble.Batch, keys []string, deletes bool) (version uint64, err error) {
	d := t.db
	if err := d.room.check(b.Len(), deletes); err != nil {
		return 0, err
	}
	t.merge()
	d.mu.Lock()
	older, checked := d.mu.since(t.began), d.mu.version
	d.mu.Unlock()
	if t.conflicts(older) { // most of the work, outside of the lock
		return 0, kv.ErrConflict
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if t.began < d.mu.floor || t.conflicts(d.mu.since(checked)) {
		return 0, kv.ErrConflict
	}
	if err := d.write(b); err != nil {
		return 0, err
	}
	return d.mu.add(keys), nil
}

// write applies a batch, with d.mu held. Pebble panics when it cannot write its log;
// then nothing can be written any more.
func (d *DB) write(b *pebble.Batch) (err error) {
	if err := d.broken(); err != nil {
		return err
	}
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the log cannot be written: %v", v)
			d.fail(err)
		}
	}()
	return translate(d.db.Apply(b, pebble.NoSync))
}

// Clear implements kv.Driver.
func (d *DB) Clear(context.Context) error {
	version, err := d.clear()
	if err != nil {
		return err
	}
	return d.settle(version)
}

func (d *DB) clear() (version uint64, err error) {
	b := d.db.NewBatch()
	defer b.Close()
	if err := b.DeleteRange([]byte{0}, []byte{0xff}, nil); err != nil {
		return 0, translate(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.write(b); err != nil {
		return 0, err
	}
	version = d.mu.add(nil)
	d.mu.floor = version
	return version, nil
}

// merge sorts the ranges and joins those that overlap.
func (t *txn) merge() {
	sort.Slice(t.ranges, func(i, j int) bool { return t.ranges[i].lo < t.ranges[j].lo })
	out := t.ranges[:0]
	for _, r := range t.ranges {
		if n := len(out); n > 0 && r.lo <= out[n-1].hi {
			out[n-1].hi = max(out[n-1].hi, r.hi)
		} else {
			out = append(out, r)
		}
	}
	t.ranges = out
}

// conflicts tells whether commits have written what the transaction has read.
func (t *txn) conflicts(commits [][]string) bool {
	for _, keys := range commits {
		for _, k := range keys {
			if _, read := t.keys[k]; read || t.covers(k) {
				return true
			}
		}
	}
	return false
}

func (t *txn) covers(key string) bool {
	i := sort.Search(len(t.ranges), func(i int) bool { return t.ranges[i].hi >= key })
	return i < len(t.ranges) && t.ranges[i].lo <= key
}

// history is what recent commits wrote, for as long as a transaction runs that
// began before them.
type history struct {
	version uint64         // of the last commit
	commits [][]string     // their keys, the last one's last
	active  map[uint64]int // transactions by the version they began at
	floor   uint64         // transactions that began before it have lost
}

const maxHistory = 1 << 16 // commits; a transaction that runs longer has lost

func (h *history) enter(began uint64) {
	if h.active == nil {
		h.active = map[uint64]int{}
	}
	h.active[began]++
}

func (h *history) leave(began uint64) {
	if h.active[began]--; h.active[began] == 0 {
		delete(h.active, began)
	}
}

// since returns the keys of the commits after a version. Those slices are not
// changed any more.
func (h *history) since(version uint64) [][]string {
	n := h.version - version
	return h.commits[max(0, len(h.commits)-int(n)):len(h.commits):len(h.commits)]
}

// add records a commit and returns its version.
func (h *history) add(keys []string) uint64 {
	h.version++
	h.commits = append(h.commits, keys)
	oldest := h.version
	for began := range h.active {
		oldest = min(oldest, began)
	}
	if h.version-oldest > maxHistory {
		oldest = h.version - maxHistory
		h.floor = max(h.floor, oldest)
	}
	if drop := len(h.commits) - int(h.version-oldest); drop > 0 {
		h.commits = h.commits[drop:]
	}
	return h.version
}
