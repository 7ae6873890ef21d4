//go:build linux && amd64

package supervisor

import (
	"sync"
	"time"
)

// gate is what all who change something go through. While it is shut, for an
// upgrade, nobody is inside, and who comes waits. Who waits for something that may
// take long steps outside.
type gate struct {
	mu     sync.Mutex
	inside int
	opens  chan struct{} // closed when it is opened again; nil: it is open
	empty  chan struct{} // closed when nobody is inside; nil when nobody waits for that
}

func (g *gate) enter() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.opens != nil {
		opens := g.opens
		g.mu.Unlock()
		<-opens
		g.mu.Lock()
	}
	g.inside++
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// outside does something that takes long for one who is inside.
func (g *gate) outside(fn func()) {
	g.leave()
	defer g.enter()
	fn()
}

// shut returns once nobody is inside. If that takes too long it opens the gate
// again and says false.
func (g *gate) shut(patience time.Duration) bool {
	empty := make(chan struct{})
	g.mu.Lock()
	g.opens = make(chan struct{})
	if g.inside == 0 {
		close(empty)
	} else {
		g.empty = empty
	}
	g.mu.Unlock()
	select {
	case <-empty:
		return true
	case <-time.After(patience):
		g.open()
		return false
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.opens)
	g.opens, g.empty = nil, nil
}
