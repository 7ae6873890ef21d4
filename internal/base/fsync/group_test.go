package fsync

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// Those who come while a sync runs share the next one, and none is let go by a
// sync that began before it came.
func TestGroup(t *testing.T) {
	var g Group
	var written, synced, syncs atomic.Int64
	sync1 := func() error {
		n := written.Load()
		syncs.Add(1)
		synced.Store(n)
		return nil
	}
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			mine := written.Add(1)
			if err := g.Wait(sync1); err != nil {
				t.Error(err)
			}
			if synced.Load() < mine {
				t.Errorf("write %d is not on disk", mine)
			}
		})
	}
	all.Wait()
	if n := syncs.Load(); n < 1 || n > 200 {
		t.Errorf("%d syncs", n)
	}
}

// Two who wait while a sync runs need one more together.
func TestGroupShares(t *testing.T) {
	var g Group
	began, release := make(chan struct{}), make(chan struct{})
	var syncs atomic.Int64
	first := make(chan error, 1)
	go func() {
		first <- g.Wait(func() error { close(began); <-release; syncs.Add(1); return nil })
	}()
	<-began
	rest := make(chan error, 2)
	for range 2 {
		go func() { rest <- g.Wait(func() error { syncs.Add(1); return nil }) }()
	}
	for asked := uint64(0); asked < 3; { // both are waiting once they have asked
		g.mu.Lock()
		asked = g.asked
		g.mu.Unlock()
	}
	close(release)
	for _, c := range []chan error{first, rest, rest} {
		if err := <-c; err != nil {
			t.Error(err)
		}
	}
	if n := syncs.Load(); n != 2 {
		t.Errorf("%d syncs, not 2", n)
	}
}

// A failure is told to whom it befell; the next call tries again.
func TestGroupFails(t *testing.T) {
	var g Group
	broken := errors.New("broken")
	if err := g.Wait(func() error { return broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
	if err := g.Wait(func() error { return nil }); err != nil {
		t.Error(err)
	}
}
