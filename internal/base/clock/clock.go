// Package clock is where time comes in. Everything that asks for the time or
// waits takes a Clock, so that tests decide what time it is.
package clock

import (
	"context"
	"sync"
	"time"
)

// Clock tells the time and waits.
type Clock interface {
	Now() time.Time
	// After returns a channel that receives once, d from now.
	After(d time.Duration) <-chan time.Time
}

// Real is the machine's clock.
var Real Clock = system{}

type system struct{}

func (system) Now() time.Time                         { return time.Now() }
func (system) After(d time.Duration) <-chan time.Time { return time.After(d) }

// Sleep waits for d or until ctx ends, and returns ctx's error in that case.
func Sleep(ctx context.Context, c Clock, d time.Duration) error {
	select {
	case <-c.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Fake is a clock that moves only when told to. It is safe for concurrent use.
type Fake struct {
	mu struct {
		sync.Mutex
		now     time.Time
		waiters []waiter
		added   chan struct{}
	}
}

type waiter struct {
	at time.Time
	ch chan time.Time
}

// NewFake returns a clock that stands at now.
func NewFake(now time.Time) *Fake {
	f := &Fake{}
	f.mu.now = now
	f.mu.added = make(chan struct{})
	return f
}

// Now implements Clock.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.now
}

// After implements Clock. It fires at once if d is not positive.
func (f *Fake) After(d time.Duration) <-chan time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	ch := make(chan time.Time, 1)
	if d <= 0 {
		ch <- f.mu.now
		return ch
	}
	f.mu.waiters = append(f.mu.waiters, waiter{f.mu.now.Add(d), ch})
	close(f.mu.added)
	f.mu.added = make(chan struct{})
	return ch
}

// Advance moves the clock on and wakes those whose time has come.
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.now = f.mu.now.Add(d)
	left := f.mu.waiters[:0]
	for _, w := range f.mu.waiters {
		if w.at.After(f.mu.now) {
			left = append(left, w)
			continue
		}
		w.ch <- f.mu.now
	}
	f.mu.waiters = left
}

// Waiting blocks until at least n callers wait on the clock, or ctx ends.
func (f *Fake) Waiting(ctx context.Context, n int) error {
	for {
		f.mu.Lock()
		have, added := len(f.mu.waiters), f.mu.added
		f.mu.Unlock()
		if have >= n {
			return nil
		}
		select {
		case <-added:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
