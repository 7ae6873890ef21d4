package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"skerry/internal/store/kv"
)

// Tx is a transaction: one state of the database, and on top of it what the
// transaction itself has written. It is used by one goroutine, inside the
// function it was given to.
type Tx struct {
	db       *DB
	ctx      context.Context
	reader   kv.Reader
	began    uint64 // epoch of the schema, from before the reader
	readOnly bool
	writes   []kv.Write // in the order of keys
	onCommit []func()
	declared []*table // tables whose first row this transaction writes
	stale    *table   // a table met that must be rewritten first
	conflict bool     // a read already answered kv.ErrConflict
}

// run calls fn and closes the reader, also when fn panics.
func (tx *Tx) run(fn func(tx *Tx) error) (err error) {
	defer func() {
		if cerr := tx.reader.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("store: %w", cerr)
		}
	}()
	return fn(tx)
}

// Context returns the context the transaction was started with.
func (tx *Tx) Context() context.Context { return tx.ctx }

// OnCommit has f called after the transaction is durable, in the order of the
// calls, before Update returns. It is not called if the transaction fails.
func (tx *Tx) OnCommit(f func()) { tx.onCommit = append(tx.onCommit, f) }

// at returns the place of a key in the writes, and whether it is there.
func (tx *Tx) at(key []byte) (int, bool) {
	n := len(tx.writes)
	if n == 0 || string(tx.writes[n-1].Key) < string(key) {
		return n, false // the usual case: keys come in order
	}
	i := sort.Search(n, func(i int) bool { return string(tx.writes[i].Key) >= string(key) })
	return i, i < n && string(tx.writes[i].Key) == string(key)
}

func (tx *Tx) get(key []byte) (value []byte, ok bool, err error) {
	if i, mine := tx.at(key); mine {
		return tx.writes[i].Value, !tx.writes[i].Delete, nil
	}
	value, ok, err = tx.reader.Get(key)
	return value, ok, tx.fault(err)
}

func (tx *Tx) put(w kv.Write) error {
	if tx.readOnly {
		return ErrReadOnly
	}
	if i, mine := tx.at(w.Key); mine {
		tx.writes[i] = w
	} else {
		tx.writes = slices.Insert(tx.writes, i, w)
	}
	return nil
}

// fault remembers a conflict, so that the transaction is run again whatever its
// function makes of the error.
func (tx *Tx) fault(err error) error {
	if err == nil {
		return nil
	}
	tx.conflict = tx.conflict || errors.Is(err, kv.ErrConflict)
	return fmt.Errorf("store: read: %w", err)
}

// scan calls fn with each key between lo and hi: the reader's, with the
// transaction's own writes laid over them. fn may write; what it writes ahead of
// the scan is met, what it writes behind is not.
func (tx *Tx) scan(lo, hi []byte, reverse bool, fn func(key, value []byte) bool) error {
	var last, passed []byte // the last key that the scan has passed
	stopped := false
	// own hands out the own writes that come before limit, then tells whether
	// limit itself is one of them, which then replaces the reader's.
	own := func(limit []byte) (replaced bool) {
		for {
			i := tx.next(lo, hi, last, reverse)
			if i < 0 {
				return false
			}
			w := tx.writes[i]
			if limit != nil && (reverse && string(w.Key) < string(limit) || !reverse && string(w.Key) > string(limit)) {
				return false
			}
			last = w.Key
			if !w.Delete && !fn(w.Key, w.Value) {
				stopped = true
			}
			if stopped || limit != nil && string(w.Key) == string(limit) {
				return true
			}
		}
	}
	err := tx.reader.Scan(lo, hi, reverse, func(k, v []byte) bool {
		if own(k) {
			return !stopped
		}
		passed = append(passed[:0], k...)
		if last = passed; !fn(k, v) {
			stopped = true
		}
		return !stopped
	})
	if err == nil && !stopped {
		own(nil)
	}
	return tx.fault(err)
}

// next returns the index of the own write that follows last in a scan of lo to
// hi, or -1.
func (tx *Tx) next(lo, hi, last []byte, reverse bool) int {
	if len(tx.writes) == 0 {
		return -1
	}
	if reverse {
		if last != nil {
			hi = last
		}
		i, _ := tx.at(hi)
		if i--; i < 0 || string(tx.writes[i].Key) < string(lo) {
			return -1
		}
		return i
	}
	i, _ := tx.at(lo)
	if last != nil {
		var passed bool
		if i, passed = tx.at(last); passed {
			i++
		}
	}
	if i == len(tx.writes) || string(tx.writes[i].Key) >= string(hi) {
		return -1
	}
	return i
}
