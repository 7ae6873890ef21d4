package store

import (
	"encoding/binary"
	"fmt"
	"iter"

	"skerry/internal/store/kv"
)

// Spaces of the database, before the table's name; see the package comment.
const (
	rowSpace   = 'r'
	indexSpace = 'i'
	metaSpace  = 'm'
)

// Table is a set of rows of type R with one key each. It is an immutable
// description, made once in a package-level variable.
type Table[R any] struct {
	table
	key     func(*R) Key
	indexes []*Index[R]
	codec   codec[R]
}

// table is what the store knows of a table without its type.
type table struct {
	name    string
	rows    []byte // the prefix of its rows
	version int
	index   []string // names
	rewrite func(tx *Tx, after Key, n int) (next Key, err error)
}

// Option is given to NewTable: an *Index, or what Version returns.
type Option[R any] interface{ apply(*Table[R]) }

// NewTable describes a table. Its name is its owner's package and a noun, such as
// "s3/buckets", and is never changed; key returns a row's key, from fields that
// are in the row.
func NewTable[R any](name string, key func(row *R) Key, options ...Option[R]) *Table[R] {
	t := &Table[R]{key: key}
	t.name, t.version = name, 1
	t.rows = space(rowSpace, name)
	t.rewrite = t.rewriteSome
	t.codec.table = &t.table
	for _, o := range options {
		o.apply(t)
	}
	return t
}

func space(kind byte, names ...any) []byte { return append([]byte{kind}, K(names...)...) }

// Name returns the table's name.
func (t *table) Name() string { return t.name }

func (t *table) rowKey(k Key) []byte {
	return append(append(make([]byte, 0, len(t.rows)+len(k)), t.rows...), k...)
}

// Get returns the row with a key, or ErrNotFound.
func (t *Table[R]) Get(tx *Tx, key Key) (*R, error) {
	if err := tx.use(&t.table); err != nil {
		return nil, err
	}
	value, ok, err := tx.get(t.rowKey(key))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrNotFound
	}
	return t.codec.decode(key, value)
}

// Has tells whether there is a row with a key.
func (t *Table[R]) Has(tx *Tx, key Key) (bool, error) {
	_, ok, err := tx.get(t.rowKey(key))
	return ok, err
}

// Put writes a row, in place of the one with its key if there is one. The row is
// encoded before Put returns.
func (t *Table[R]) Put(tx *Tx, row *R) error {
	if err := tx.use(&t.table); err != nil {
		return err
	}
	key := t.key(row)
	if len(t.indexes) > 0 {
		old, err := t.Get(tx, key)
		if err != nil && err != ErrNotFound {
			return err
		}
		if err := t.reindex(tx, key, old, row); err != nil {
			return err
		}
	}
	return t.write(tx, key, row)
}

// Insert writes a row, or returns ErrExists if there is one with its key.
func (t *Table[R]) Insert(tx *Tx, row *R) error {
	if err := tx.use(&t.table); err != nil {
		return err
	}
	key := t.key(row)
	if ok, err := t.Has(tx, key); err != nil {
		return err
	} else if ok {
		return ErrExists
	}
	if err := t.reindex(tx, key, nil, row); err != nil {
		return err
	}
	return t.write(tx, key, row)
}

// Delete removes the row with a key; there need not be one.
func (t *Table[R]) Delete(tx *Tx, key Key) error {
	if err := tx.use(&t.table); err != nil {
		return err
	}
	if len(t.indexes) > 0 {
		old, err := t.Get(tx, key)
		if err == ErrNotFound {
			return nil
		}
		if err != nil {
			return err
		}
		if err := t.reindex(tx, key, old, nil); err != nil {
			return err
		}
	}
	return tx.put(kv.Write{Key: t.rowKey(key), Delete: true})
}

// Scan returns the rows of a range in the order of their keys. The rows may be
// written and deleted during the scan.
func (t *Table[R]) Scan(tx *Tx, r Range) iter.Seq2[*R, error] {
	return func(yield func(*R, error) bool) {
		if err := tx.use(&t.table); err != nil {
			yield(nil, err)
			return
		}
		lo, hi := r.bounds(t.rows)
		err := tx.scan(lo, hi, r.Reverse, func(k, v []byte) bool {
			row, err := t.codec.decode(Key(k[len(t.rows):]), v)
			return yield(row, err) && err == nil
		})
		if err != nil {
			yield(nil, err)
		}
	}
}

func (t *Table[R]) write(tx *Tx, key Key, row *R) error {
	if err := tx.declare(&t.table); err != nil {
		return err
	}
	return t.overwrite(tx, key, row)
}

// overwrite stores a row of a table whose description is stored by others.
func (t *Table[R]) overwrite(tx *Tx, key Key, row *R) error {
	value, err := t.codec.encode(row)
	if err != nil {
		return fmt.Errorf("store: encode row %s of %s: %w", key, t.name, err)
	}
	return tx.put(kv.Write{Key: t.rowKey(key), Value: value})
}

// reindex replaces the index entries of the old row by those of the new; either
// may be nil.
func (t *Table[R]) reindex(tx *Tx, key Key, old, row *R) error {
	for _, x := range t.indexes {
		var was, is []Key
		if old != nil {
			was = x.keys(old)
		}
		if row != nil {
			is = x.keys(row)
		}
		if err := x.move(tx, key, was, is); err != nil {
			return err
		}
	}
	return nil
}

// Index finds the rows of one table by other keys than their own.
type Index[R any] struct {
	name  string
	keys  func(*R) []Key
	of    *Table[R]
	space []byte
}

// NewIndex describes an index, which is then given to NewTable. keys returns what
// a row is found by: none, one or several keys, from the row alone. Two rows may
// have the same. To change what keys returns, change the name as well.
func NewIndex[R any](name string, keys func(row *R) []Key) *Index[R] {
	return &Index[R]{name: name, keys: keys}
}

func (x *Index[R]) apply(t *Table[R]) {
	if x.of != nil {
		panic("store: index " + x.name + " is given to two tables")
	}
	x.of, x.space = t, space(indexSpace, t.name, x.name)
	t.indexes = append(t.indexes, x)
	t.index = append(t.index, x.name)
}

func (x *Index[R]) entry(ikey, key Key) []byte {
	b := append(make([]byte, 0, len(x.space)+len(ikey)+len(key)), x.space...)
	return append(append(b, ikey...), key...)
}

// move deletes the entries of was that are not in is, and adds those of is.
func (x *Index[R]) move(tx *Tx, key Key, was, is []Key) error {
	for _, k := range was {
		if !has(is, k) {
			if err := tx.put(kv.Write{Key: x.entry(k, key), Delete: true}); err != nil {
				return err
			}
		}
	}
	for _, k := range is {
		if !has(was, k) {
			value := binary.AppendUvarint(nil, uint64(len(k)))
			if err := tx.put(kv.Write{Key: x.entry(k, key), Value: value}); err != nil {
				return err
			}
		}
	}
	return nil
}

func has(keys []Key, k Key) bool {
	for _, o := range keys {
		if o == k {
			return true
		}
	}
	return false
}

// Scan returns the rows whose index keys are in a range, in the order of index
// key and then row key. A row with several index keys in the range comes several
// times.
func (x *Index[R]) Scan(tx *Tx, r Range) iter.Seq2[*R, error] {
	return func(yield func(*R, error) bool) {
		for key, err := range x.ScanKeys(tx, r) {
			var row *R
			if err == nil {
				if row, err = x.of.Get(tx, key); err == ErrNotFound {
					err = fmt.Errorf("store: index %s of %s has no row %s: %w", x.name, x.of.name, key, ErrDamaged)
				}
			}
			if !yield(row, err) || err != nil {
				return
			}
		}
	}
}

// ScanKeys is Scan for the rows' keys alone, without reading the rows.
func (x *Index[R]) ScanKeys(tx *Tx, r Range) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		if err := tx.use(&x.of.table); err != nil {
			yield("", err)
			return
		}
		lo, hi := r.bounds(x.space)
		err := tx.scan(lo, hi, r.Reverse, func(k, v []byte) bool {
			n, used := binary.Uvarint(v)
			if used <= 0 || n > uint64(len(k)-len(x.space)) {
				yield("", fmt.Errorf("store: index %s of %s: entry %q: %w", x.name, x.of.name, k, ErrDamaged))
				return false
			}
			return yield(Key(k[len(x.space)+int(n):]), nil)
		})
		if err != nil {
			yield("", err)
		}
	}
}
