package store

import (
	"iter"

	"skerry/internal/store/kv"
)

// Raw is a table of bytes without versions, indexes or reads before writes: the
// narrow path for the data of customers (items, messages, records, log events).
type Raw struct {
	name string
	rows []byte
}

// NewRaw describes a table of bytes; see NewTable for its name.
func NewRaw(name string) *Raw { return &Raw{name: name, rows: space(rowSpace, name)} }

// Name returns the table's name.
func (t *Raw) Name() string { return t.name }

func (t *Raw) rowKey(k Key) []byte {
	return append(append(make([]byte, 0, len(t.rows)+len(k)), t.rows...), k...)
}

// Get returns the value of a key, or ErrNotFound.
func (t *Raw) Get(tx *Tx, key Key) ([]byte, error) {
	value, ok, err := tx.get(t.rowKey(key))
	if err == nil && !ok {
		err = ErrNotFound
	}
	return value, err
}

// Put sets the value of a key. The value must not be changed afterwards.
func (t *Raw) Put(tx *Tx, key Key, value []byte) error {
	return tx.put(kv.Write{Key: t.rowKey(key), Value: value})
}

// Delete removes a key; it need not be there.
func (t *Raw) Delete(tx *Tx, key Key) error {
	return tx.put(kv.Write{Key: t.rowKey(key), Delete: true})
}

// Entry is a key of a Raw table with its value, which is valid until the scan
// goes on.
type Entry struct {
	Key   Key
	Value []byte
}

// Scan returns the entries of a range in the order of their keys.
func (t *Raw) Scan(tx *Tx, r Range) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		lo, hi := r.bounds(t.rows)
		err := tx.scan(lo, hi, r.Reverse, func(k, v []byte) bool {
			return yield(Entry{Key(k[len(t.rows):]), v}, nil)
		})
		if err != nil {
			yield(Entry{}, err)
		}
	}
}
