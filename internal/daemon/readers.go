package daemon

import (
	"context"
	"sync"
	"time"
)

// readingTime is how long a removal waits for clients that still read what the
// container wrote.
const readingTime = 5 * time.Second

// readers counts the clients that read a container's output, so that --rm does
// not take the log away before docker run has read it.
type readers struct {
	mu   sync.Mutex
	n    map[string]int
	gone chan struct{} // closed and replaced when one has ended
}

// add notes a reader, until done is called.
func (r *readers) add(id string) (done func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n == nil {
		r.n, r.gone = map[string]int{}, make(chan struct{})
	}
	r.n[id]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.n[id]--; r.n[id] == 0 {
			delete(r.n, id)
		}
		close(r.gone)
		r.gone = make(chan struct{})
	}
}

// wait waits until nobody reads, for the readingTime at most.
func (r *readers) wait(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(ctx, readingTime)
	defer cancel()
	for {
		r.mu.Lock()
		n, gone := r.n[id], r.gone
		r.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-gone:
		case <-ctx.Done():
			return
		}
	}
}
