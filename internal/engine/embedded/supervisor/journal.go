//go:build linux && amd64

package supervisor

import (
	"sort"
	"sync"

	"skerry/internal/engine"
)

// journal is what happened, in order, to containers that are not removed.
type journal struct {
	mu     sync.Mutex
	next   engine.Cursor
	events []engine.Event
	gone   int // of events, those of removed containers
	more   chan struct{}
}

// start sets where numbers begin: later than all of earlier processes.
func (j *journal) start(at uint64) {
	j.next = engine.Cursor(at)
	j.more = make(chan struct{})
}

// add appends an event and returns it with its cursor.
func (j *journal) add(e engine.Event) engine.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.next++
	e.Cursor = j.next
	j.events = append(j.events, e)
	close(j.more)
	j.more = make(chan struct{})
	return e
}

// restore puts an event of an earlier process back.
func (j *journal) restore(e engine.Event) {
	j.next = max(j.next, e.Cursor)
	i := sort.Search(len(j.events), func(i int) bool { return j.events[i].Cursor > e.Cursor })
	j.events = append(j.events, engine.Event{})
	copy(j.events[i+1:], j.events[i:])
	j.events[i] = e
}

// after returns what happened since, and a channel that is closed when more has.
func (j *journal) after(at engine.Cursor) ([]engine.Event, <-chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := sort.Search(len(j.events), func(i int) bool { return j.events[i].Cursor > at })
	var due []engine.Event
	for _, e := range j.events[i:] {
		if e.ID != "" {
			due = append(due, e)
		}
	}
	return due, j.more
}

// forget drops the events with those cursors.
func (j *journal) forget(cursors ...engine.Cursor) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, at := range cursors {
		i := sort.Search(len(j.events), func(i int) bool { return j.events[i].Cursor >= at })
		if at != 0 && i < len(j.events) && j.events[i].Cursor == at {
			j.events[i] = engine.Event{Cursor: at}
			j.gone++
		}
	}
	if j.gone > 64 && j.gone > len(j.events)/2 {
		kept := make([]engine.Event, 0, len(j.events)-j.gone)
		for _, e := range j.events {
			if e.ID != "" {
				kept = append(kept, e)
			}
		}
		j.events, j.gone = kept, 0
	}
}
