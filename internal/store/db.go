package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"skerry/internal/store/kv"
	"skerry/internal/store/pebblekv"
)

// Errors of the store, to be tested for with errors.Is.
var (
	// ErrNotFound: there is no row with this key.
	ErrNotFound = errors.New("store: not found")
	// ErrExists: Insert found a row with this key.
	ErrExists = errors.New("store: exists already")
	// ErrReadOnly: a write in a View.
	ErrReadOnly = errors.New("store: write in a read-only transaction")
	// ErrConflict: an Update met conflicts again and again and gave up.
	ErrConflict = kv.ErrConflict
	// ErrNoSpace: the disk is full; nothing was written.
	ErrNoSpace = kv.ErrNoSpace
	// ErrLocked: another server has the folder open.
	ErrLocked = kv.ErrLocked
	// ErrDamaged: stored bytes are not what was written; the text names the file.
	ErrDamaged = kv.ErrDamaged
	// ErrClosed: the store is closed.
	ErrClosed = kv.ErrClosed
)

// Options of Open.
type Options = pebblekv.Options

// DB is a database. It is safe for concurrent use.
type DB struct {
	driver  kv.Driver
	watches watches
	crowded sync.Mutex // held by an Update that has lost too often
	schema  schema
}

// Open opens the database in a folder, and makes it if it is not there. Errors:
// ErrLocked, ErrDamaged, ErrNoSpace.
func Open(dir string, o Options) (*DB, error) {
	d, err := pebblekv.Open(dir, o)
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", dir, err)
	}
	return New(d), nil
}

// New returns the store over a driver, which Close closes.
func New(d kv.Driver) *DB { return &DB{driver: d} }

// Close closes the database. All transactions must have ended.
func (db *DB) Close() error { return db.driver.Close() }

// View runs fn on one durable state of the database, which holds everything that
// was committed before the call.
func (db *DB) View(ctx context.Context, fn func(tx *Tx) error) error {
	for {
		began := db.schema.now()
		r, err := db.driver.View(ctx)
		if err != nil {
			return fmt.Errorf("store: view: %w", err)
		}
		tx := &Tx{db: db, ctx: ctx, reader: r, began: began, readOnly: true}
		err = tx.run(fn)
		if tx.stale == nil {
			return err
		}
		if err := tx.stale.rebuild(ctx, db); err != nil {
			return err
		}
	}
}

const (
	crowdedAfter = 4   // conflicts, after which an Update competes with one other at most
	maxConflicts = 256 // then ErrConflict
)

// Update runs fn and commits what it wrote, all or nothing, as if no other
// transaction ran at the same time. It returns once that is durable. If fn
// returns an error, nothing is written and the error is returned as it is. fn
// runs again when it was in conflict with another transaction; it must not call
// Update itself.
//
// An error means that nothing was written, with one exception: if the disk fills up
// in the moment of the write, ErrNoSpace may be answered for a transaction that
// turns out to be written once there is room.
func (db *DB) Update(ctx context.Context, fn func(tx *Tx) error) error {
	for n := 0; n < maxConflicts; n++ {
		if n == crowdedAfter {
			db.crowded.Lock()
			defer db.crowded.Unlock()
		}
		again, err := db.attempt(ctx, fn)
		if !again {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return fmt.Errorf("store: update: tried %d times: %w", maxConflicts, ErrConflict)
}

// attempt runs fn once; again tells that it must be run again.
func (db *DB) attempt(ctx context.Context, fn func(tx *Tx) error) (again bool, err error) {
	began := db.schema.now()
	txn, err := db.driver.Begin(ctx)
	if err != nil {
		return false, fmt.Errorf("store: update: %w", err)
	}
	tx := &Tx{db: db, ctx: ctx, reader: txn, began: began}
	err = tx.run(func(tx *Tx) error {
		if err := fn(tx); err != nil || len(tx.writes) == 0 {
			return errors.Join(err, txn.Settle(ctx))
		}
		if tx.stale != nil || tx.conflict {
			return nil
		}
		return txn.Commit(ctx, tx.writes)
	})
	switch {
	case tx.stale != nil:
		return true, tx.stale.rebuild(ctx, db)
	case tx.conflict || errors.Is(err, kv.ErrConflict):
		return true, nil
	case err != nil:
		return false, err
	}
	if len(tx.writes) > 0 {
		db.schema.stored(tx.declared)
		db.watches.wake(tx.writes)
	}
	for _, f := range tx.onCommit {
		f()
	}
	return false, nil
}

// Verify reads all that is stored and answers ErrDamaged, naming the file, if
// something is not what was written. Opening checks small stores whole, and of large
// ones only a part.
func (db *DB) Verify(ctx context.Context) error {
	if v, ok := db.driver.(kv.Verifier); ok {
		return v.Verify(ctx)
	}
	return nil
}

// Clear removes everything, durably. Open watches are woken.
func (db *DB) Clear(ctx context.Context) error {
	if err := db.driver.Clear(ctx); err != nil {
		return fmt.Errorf("store: clear: %w", err)
	}
	db.schema.forget()
	db.watches.wakeAll()
	return nil
}
