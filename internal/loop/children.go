package loop

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync"
)

// Children are the workers that a loop keeps: one for each key, such as a poller
// for each event source. The loop compares what rows want with what runs:
//
//	for _, gone := range missing(children.Keys(), wanted) { children.End(gone) }
//	for key := range wanted { children.Start(key, func(ctx) error {...}) }
//
// or has Want do so. A child that ends is only gone; the loop's next run starts it
// again if it is wanted, and Ended wakes the loop.
type Children struct {
	// Ended, if set, is called after a child has ended, with what it returned; nil
	// after it was told to end.
	Ended func(key string, err error)
	log   *slog.Logger

	mu struct {
		sync.Mutex
		set     map[string]*child
		stopped bool
	}
	wg sync.WaitGroup
}

type child struct{ cancel context.CancelFunc }

// NewChildren returns no children yet. log is told of panics.
func NewChildren(log *slog.Logger) *Children {
	c := &Children{log: log}
	c.mu.set = map[string]*child{}
	return c
}

// Start runs fn under a key, unless one with the key runs or all are stopped; it
// tells whether it did. fn returns soon after its context ends.
func (c *Children) Start(key string, fn func(ctx context.Context) error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.stopped || c.mu.set[key] != nil {
		return false
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.mu.set[key] = &child{cancel}
	c.wg.Go(func() {
		err := c.run(ctx, key, fn)
		if ctx.Err() != nil {
			err = nil
		}
		cancel()
		c.mu.Lock()
		delete(c.mu.set, key)
		c.mu.Unlock()
		if c.Ended != nil {
			c.Ended(key, err)
		}
	})
	return true
}

func (c *Children) run(ctx context.Context, key string, fn func(ctx context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("child panicked", "child", key, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return fn(ctx)
}

// End tells a child to end, without waiting. It still counts as running until it
// has.
func (c *Children) End(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ch := c.mu.set[key]; ch != nil {
		ch.cancel()
	}
}

// Want starts the children that are wanted and do not run, and ends those that run
// and are not wanted.
func (c *Children) Want(wanted map[string]func(ctx context.Context) error) (started, ended int) {
	for _, key := range c.Keys() {
		if wanted[key] == nil {
			c.End(key)
			ended++
		}
	}
	for key, fn := range wanted {
		if c.Start(key, fn) {
			started++
		}
	}
	return started, ended
}

// Has tells whether a child runs.
func (c *Children) Has(key string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.set[key] != nil
}

// Len returns how many children run.
func (c *Children) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.mu.set)
}

// Keys returns the keys of those that run, sorted.
func (c *Children) Keys() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	keys := make([]string, 0, len(c.mu.set))
	for k := range c.mu.set {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// stop ends all children, lets no new ones start, and waits.
func (c *Children) stop() {
	c.mu.Lock()
	c.mu.stopped = true
	for _, ch := range c.mu.set {
		ch.cancel()
	}
	c.mu.Unlock()
	c.wg.Wait()
}
