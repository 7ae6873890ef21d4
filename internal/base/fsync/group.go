// Package fsync makes one synchronisation with the disk serve all who wait for
// one.
package fsync

import "sync"

// Group shares synchronisations. The zero Group is ready; do not copy it.
type Group struct {
	mu      sync.Mutex
	done    sync.Cond
	asked   uint64 // calls so far
	synced  uint64 // of them, on disk
	running bool
}

// Wait returns when a sync that began after the call has ended well: its own or
// that of another who waits. It returns an error of its own alone. All calls of
// a group give a sync that does the same.
func (g *Group) Wait(sync func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.done.L = &g.mu
	g.asked++
	mine := g.asked
	for g.synced < mine {
		if g.running {
			g.done.Wait()
			continue
		}
		g.running = true
		upTo := g.asked
		g.mu.Unlock()
		err := sync()
		g.mu.Lock()
		g.running = false
		g.done.Broadcast()
		if err != nil {
			return err // the others try for themselves
		}
		g.synced = upTo
	}
	return nil
}
