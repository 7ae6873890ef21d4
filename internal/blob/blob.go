// Package blob keeps large bytes, such as objects, image layers and function
// code, in files of their own. A row in the store refers to a blob by its Ref; a
// blob that no row refers to is removed by Sweep.
//
// # The file
//
//	header   8 bytes "skblob1" and the mode, 'p' or 'e'; 32 bytes of salt
//	frame    64 KiB of content (the last frame: what is left, or nothing), 16 bytes of tag
//	...
//
// Every frame is checked when it is read, so that damaged bytes are told
// (ErrDamaged) and never served, and a range is read without the rest. A frame's
// number and whether it is the last go into its tag, so that frames cannot be
// swapped and a file cut short is found out.
//
// In a plain blob the tag is XXH3's 128-bit hash, which guards against accidents
// at the speed of memory, and the Ref is the SHA-256 of the content: equal contents
// are one file. In an encrypted blob the frame is sealed by AES-256-GCM, chosen
// over CTR because it also authenticates, frame by frame. Its key is derived by
// HKDF-SHA256 from the caller's key and the file's random salt, so that one key
// may be given for any number of blobs and no nonce (the frame's number) is ever
// used twice with a key. Its Ref is the SHA-256 of the header and the tags, which
// stand for the sealed content at a four-thousandth of the hashing; because of the
// salt, no two encrypted blobs are one file.
//
// A blob is written to the side, synced and renamed; then its folder is synced,
// once for all the blobs that wait for it.
package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"syscall"
	"time"
)

// InlineMax is the size in bytes up to which contents are better kept inline in
// a row than in a blob; see Seal for encrypting those.
const InlineMax = 16 << 10

// KeySize is the length in bytes of an encryption key.
const KeySize = 32

var (
	// ErrNotFound: there is no blob with this Ref.
	ErrNotFound = errors.New("blob: not found")
	// ErrDamaged: the bytes read are not those written, or the key is another.
	ErrDamaged = errors.New("blob: damaged")
	// ErrKey: a key is missing, not wanted, or not KeySize bytes long.
	ErrKey = errors.New("blob: wrong kind of key")
	// ErrNoSpace: the disk is full; nothing was kept.
	ErrNoSpace = fmt.Errorf("blob: %w", syscall.ENOSPC)
	// ErrMismatch: the content is not that of CreateOptions.Expect; nothing was kept.
	ErrMismatch = errors.New("blob: not the content that was announced")
	// ErrClosed: the writer was committed or aborted already.
	ErrClosed = errors.New("blob: closed")
)

// Ref names a blob: 64 hexadecimal digits. For a plain blob they are the SHA-256
// of its content.
type Ref string

// Valid tells whether the Ref has the form of one.
func (r Ref) Valid() bool {
	if len(r) != 64 {
		return false
	}
	for _, c := range []byte(r) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// CreateOptions of Store.Create.
type CreateOptions struct {
	// Key, KeySize bytes long, encrypts the blob at rest; nil does not.
	Key []byte
	// Expect is the Ref that a plain blob must turn out to have, else Commit
	// answers ErrMismatch; empty is any.
	Expect Ref
}

// OpenOptions of Store.Open.
type OpenOptions struct {
	// Key that the blob was created with.
	Key []byte
}

// Store keeps blobs. It is safe for concurrent use.
type Store interface {
	// Create starts a blob.
	Create(ctx context.Context, o CreateOptions) (Writer, error)
	// Open opens a blob to be read. Errors: ErrNotFound, ErrKey, ErrDamaged.
	Open(ctx context.Context, ref Ref, o OpenOptions) (Reader, error)
	// Delete removes a blob at once; it need not be there. Readers that have it
	// open go on. A plain blob may be shared by rows that do not know of each
	// other; leave those to Sweep.
	Delete(ctx context.Context, ref Ref) error
	// List returns all blobs, in no order.
	List(ctx context.Context) iter.Seq2[Info, error]
	// Touch counts a blob as committed now, and tells whether it is there: who
	// is about to store a row that refers to a blob of others touches it first,
	// so that no sweep takes it away in between.
	Touch(ctx context.Context, ref Ref) (bool, error)
	// DeleteOlder removes a blob if it was last committed before a time, and tells
	// whether it did. A blob that is committed again meanwhile stays.
	DeleteOlder(ctx context.Context, ref Ref, before time.Time) (bool, error)
}

// Info is what a listing tells of a blob.
type Info struct {
	Ref       Ref
	Size      int64     // of the content in bytes
	Committed time.Time // when it was last committed
}

// Writer writes one blob. It is used by one goroutine.
type Writer interface {
	io.Writer
	// Size returns the bytes written so far.
	Size() int64
	// Commit makes the blob durable and returns its Ref. Errors: ErrNoSpace,
	// ErrMismatch.
	Commit() (Ref, error)
	// Abort removes what was written. After Commit or Abort it does nothing, so
	// it can be deferred.
	Abort()
}

// Reader reads one blob. ReadAt and Size are safe for concurrent use, the rest is
// one goroutine's.
type Reader interface {
	io.Reader
	io.Seeker
	io.ReaderAt
	io.WriterTo
	io.Closer
	// Size returns the length of the content in bytes.
	Size() int64
}

// Sweep deletes the blobs that no row refers to. referenced is asked, for a few
// hundred at a time, which of them are in use; only blobs committed before the
// given time are looked at, which must be long enough ago for every writer to
// have stored its row. It returns how many were deleted and the bytes of their
// content.
func Sweep(ctx context.Context, s Store, before time.Time, referenced func(ctx context.Context, refs []Ref) (map[Ref]bool, error)) (blobs int, bytes int64, err error) {
	batch := make(map[Ref]int64, 256)
	flush := func() error {
		refs := make([]Ref, 0, len(batch))
		for r := range batch {
			refs = append(refs, r)
		}
		used, err := referenced(ctx, refs)
		if err != nil {
			return err
		}
		for _, r := range refs {
			if used[r] {
				continue
			}
			gone, err := s.DeleteOlder(ctx, r, before)
			if err != nil {
				return err
			}
			if gone {
				blobs, bytes = blobs+1, bytes+batch[r]
			}
		}
		clear(batch)
		return nil
	}
	for info, err := range s.List(ctx) {
		if err != nil {
			return blobs, bytes, err
		}
		if !info.Committed.Before(before) {
			continue
		}
		if batch[info.Ref] = info.Size; len(batch) == 256 {
			if err := flush(); err != nil {
				return blobs, bytes, err
			}
		}
	}
	return blobs, bytes, flush()
}
