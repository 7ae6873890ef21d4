package store

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"skerry/internal/store/kv"
)

// schema remembers which tables on disk are as this program describes them.
type schema struct {
	mu     sync.RWMutex
	epoch  uint64 // of the last change of tables
	tables map[string]known
	work   sync.Mutex // held while a table is rewritten
}

// known is the state of a table, and since which epoch it is so. A transaction
// that began before sees an older table, maybe one half rewritten.
type known struct {
	state tableState
	since uint64
}

type tableState int

const (
	unknown tableState = iota
	empty              // nothing is stored, not even the description
	ready              // the description on disk is this program's
)

// description is what is stored of a table.
type description struct {
	Version int
	Indexes []string
}

// now is what a transaction notes before it begins to read.
func (s *schema) now() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.epoch
}

// state is what is known of a table as a transaction that began in an epoch sees
// it.
func (s *schema) state(t *table, began uint64) tableState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if k := s.tables[t.name]; k.since <= began {
		return k.state
	}
	return unknown
}

func (s *schema) set(t *table, st tableState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tables == nil {
		s.tables = map[string]known{}
	}
	if s.tables[t.name].state < st {
		s.epoch++
		s.tables[t.name] = known{st, s.epoch}
	}
}

func (s *schema) stored(tables []*table) {
	for _, t := range tables {
		s.set(t, ready)
	}
}

func (s *schema) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tables = nil
}

func (t *table) metaKey() []byte { return space(metaSpace, t.name) }

func (t *table) describe() (kv.Write, error) {
	value, err := encMode.Marshal(description{t.version, t.index})
	return kv.Write{Key: t.metaKey(), Value: value}, err
}

// use makes sure that a table on disk is as described, before it is read or
// written.
func (tx *Tx) use(t *table) error {
	st := tx.db.schema.state(t, tx.began)
	if st == unknown {
		value, ok, err := tx.reader.Get(t.metaKey())
		if err != nil {
			return tx.fault(err)
		}
		if st = empty; ok {
			var d description
			if err := decMode.Unmarshal(value, &d); err != nil {
				return fmt.Errorf("store: description of %s: %w: %w", t.name, ErrDamaged, err)
			}
			if d.Version > t.version {
				return fmt.Errorf("store: table %s has version %d, of a newer server (this one knows %d)", t.name, d.Version, t.version)
			}
			if d.Version < t.version || !slices.Equal(d.Indexes, t.index) {
				tx.stale = t
				return fmt.Errorf("store: table %s must be rewritten first", t.name)
			}
			st = ready
		}
		tx.db.schema.set(t, st)
	}
	return nil
}

// declare stores the description of a table with its first row.
func (tx *Tx) declare(t *table) error {
	if tx.db.schema.state(t, tx.began) == ready || slices.Contains(tx.declared, t) {
		return nil
	}
	w, err := t.describe()
	if err != nil {
		return err
	}
	tx.declared = append(tx.declared, t)
	return tx.put(w)
}

const rewriteBatch = 500 // rows a transaction

// rebuild writes all rows of a table again, in the current version, with its
// indexes made anew. A crash in between leaves it to be done again.
func (t *table) rebuild(ctx context.Context, db *DB) error {
	db.schema.work.Lock()
	defer db.schema.work.Unlock()
	if db.schema.state(t, db.schema.now()) == ready {
		return nil
	}
	if err := t.dropIndexes(ctx, db); err != nil {
		return fmt.Errorf("store: rewrite %s: %w", t.name, err)
	}
	for after, done := Key(""), false; !done; {
		var reached Key
		err := db.Update(ctx, func(tx *Tx) error {
			next, err := t.rewrite(tx, after, rewriteBatch)
			if err != nil {
				return err
			}
			if reached = next; reached == "" {
				return tx.declare(t)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("store: rewrite %s: %w", t.name, err)
		}
		after, done = reached, reached == ""
	}
	return nil
}

func (t *table) dropIndexes(ctx context.Context, db *DB) error {
	lo := space(indexSpace, t.name)
	for more := true; more; {
		err := db.Update(ctx, func(tx *Tx) error {
			n := 0
			var failed error
			err := tx.scan(lo, successor(lo), false, func(k, _ []byte) bool {
				failed = tx.put(kv.Write{Key: slices.Clone(k), Delete: true})
				n++
				return failed == nil && n < 10*rewriteBatch
			})
			more = n == 10*rewriteBatch
			if err == nil {
				err = failed
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// rewriteSome writes up to n rows after a key again and returns the last one's
// key, or none when there are no more.
func (t *Table[R]) rewriteSome(tx *Tx, after Key, n int) (Key, error) {
	lo, hi := Range{After: after}.bounds(t.rows)
	var last Key
	var failed error
	err := tx.scan(lo, hi, false, func(k, v []byte) bool {
		if n == 0 {
			return false
		}
		n--
		last = Key(k[len(t.rows):])
		var row *R
		if row, failed = t.codec.decode(last, v); failed == nil {
			if failed = t.reindex(tx, last, nil, row); failed == nil {
				failed = t.overwrite(tx, last, row) // the description comes last
			}
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	if n > 0 {
		last = ""
	}
	return last, err
}
