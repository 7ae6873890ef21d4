// Package kv is what a store needs of a database: an ordered map of byte
// strings with serialisable, durable transactions. The packages beside it
// implement it: pebblekv on local files. A driver on a shared SQL database maps
// Begin, Scan and Commit to its own serialisable transactions; nothing here
// asks for more.
package kv

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrConflict is answered by Commit (and, by drivers that learn of it
	// earlier, by reads) when another transaction has changed what this one read.
	// Nothing was written; the caller starts again.
	ErrConflict = errors.New("another transaction changed what this one read")
	// ErrNoSpace is answered when the disk is full. Nothing was written, and the
	// store works again once there is room.
	ErrNoSpace = fmt.Errorf("store: %w", syscall.ENOSPC)
	// ErrLocked is answered by opening a folder that a running server holds.
	ErrLocked = errors.New("the data folder is in use by another server")
	// ErrDamaged is answered when stored bytes do not have their checksum; the
	// error's text names the file.
	ErrDamaged = errors.New("stored data is damaged")
	// ErrClosed is answered after Close.
	ErrClosed = errors.New("the store is closed")
)

// Driver is a database. It is safe for concurrent use.
type Driver interface {
	// View starts reading at a state that is durable and holds everything that
	// was committed before the call.
	View(ctx context.Context) (Reader, error)
	// Begin starts a transaction.
	Begin(ctx context.Context) (Txn, error)
	// Clear removes every key, durably. Transactions that run meanwhile fail
	// with ErrConflict or come wholly before or after.
	Clear(ctx context.Context) error
	// Close ends the use of the database. The caller has ended all readers.
	Close() error
}

// Verifier is implemented by drivers that can check all that they have stored.
type Verifier interface {
	// Verify answers ErrDamaged, naming the file, if stored bytes are not what was
	// written.
	Verify(ctx context.Context) error
}

// Reader reads one state of the database. It is used by one goroutine.
type Reader interface {
	// Get returns the value of a key, a copy that the caller may keep; ok is
	// false when there is none.
	Get(key []byte) (value []byte, ok bool, err error)
	// Scan calls fn with each key from lo (included) to hi (excluded; nil means
	// the end), in order or in reverse, until fn returns false. Both slices are
	// fn's only until it returns.
	Scan(lo, hi []byte, reverse bool, fn func(key, value []byte) bool) error
	// Close ends reading.
	Close() error
}

// Txn is a Reader whose reads hold until Commit.
type Txn interface {
	Reader
	// Commit writes all or nothing, if everything that was read would read the
	// same now (no lost update, no skew, no phantom), and returns when it is
	// durable; ErrConflict and ErrNoSpace mean that nothing was written. Writes
	// have distinct keys and come in the order of keys.
	Commit(ctx context.Context, writes []Write) error
	// Settle waits until all that was read is durable: called instead of Commit
	// when there is nothing to write and the result is about to be told.
	Settle(ctx context.Context) error
}

// Write sets a key or deletes it.
type Write struct {
	Key, Value []byte
	Delete     bool
}
