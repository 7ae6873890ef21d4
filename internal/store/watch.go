package store

import (
	"strings"
	"sync"

	"skerry/internal/store/kv"
)

// Watchable is a table: *Table or *Raw.
type Watchable interface{ rowKey(Key) []byte }

type watches struct {
	mu  sync.RWMutex
	set map[*watch]struct{}
}

type watch struct {
	prefix string
	ch     chan struct{}
}

// Watch returns a channel that receives after rows of the table (those whose keys
// begin with prefix, if one is given) were written or deleted. Wakes coalesce: one
// that was not received yet stands for all that came after. stop ends the watch.
func (db *DB) Watch(t Watchable, prefix ...Key) (wake <-chan struct{}, stop func()) {
	var p Key
	for _, k := range prefix {
		p += k
	}
	w := &watch{string(t.rowKey(p)), make(chan struct{}, 1)}
	db.watches.mu.Lock()
	defer db.watches.mu.Unlock()
	if db.watches.set == nil {
		db.watches.set = map[*watch]struct{}{}
	}
	db.watches.set[w] = struct{}{}
	return w.ch, func() {
		db.watches.mu.Lock()
		defer db.watches.mu.Unlock()
		delete(db.watches.set, w)
	}
}

func (s *watches) wake(writes []kv.Write) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for w := range s.set {
		for _, wr := range writes {
			if strings.HasPrefix(string(wr.Key), w.prefix) {
				w.wake()
				break
			}
		}
	}
}

func (s *watches) wakeAll() {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for w := range s.set {
		w.wake()
	}
}

func (w *watch) wake() {
	select {
	case w.ch <- struct{}{}:
	default:
	}
}
