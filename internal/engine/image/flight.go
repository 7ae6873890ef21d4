package image

import (
	"context"
	"sync"

	"skerry/internal/engine"
)

// flights are what several callers may want at once and is done once.
type flights struct {
	mu     sync.Mutex
	all    map[string]*flight
	closed bool
	wg     sync.WaitGroup
}

// close cancels all and waits for their ends.
func (f *flights) close() {
	f.mu.Lock()
	f.closed = true
	for _, one := range f.all {
		one.cancel()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// flight is the fetching of one layer.
type flight struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // when done

	mu      sync.Mutex
	waiting map[*func(engine.Progress)]bool
	last    engine.Progress
	ended   bool // nobody waits any more; it is being cancelled
}

// report tells all who wait.
func (f *flight) report(p engine.Progress) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last = p
	for fn := range f.waiting {
		if *fn != nil {
			(*fn)(p)
		}
	}
}

// join waits with the others, unless all of those have just given up.
func (f *flight) join(fn *func(engine.Progress)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	f.waiting[fn] = true
	if *fn != nil && f.last.Status != "" {
		(*fn)(f.last)
	}
	return true
}

// leave cancels the flight with the last one who waits, and waits for its end, so
// that it has cleaned up behind itself.
func (f *flight) leave(fn *func(engine.Progress)) {
	f.mu.Lock()
	delete(f.waiting, fn)
	last := len(f.waiting) == 0
	if last {
		f.ended = true
		f.cancel()
	}
	f.mu.Unlock()
	if last {
		<-f.done
	}
}

// share does the work of a key once for all who ask at the same time. It goes on
// while one of them waits. Whoever joins work that fails tries it once more, as
// its own way to the bytes may be better.
func (s *Store) share(ctx context.Context, key string, progress func(engine.Progress), work func(ctx context.Context, report func(engine.Progress)) error) error {
	for {
		f, mine := s.flight(ctx, key, &progress, work)
		var err error
		select {
		case <-f.done:
			err = f.err
		case <-ctx.Done():
			err = ctx.Err()
		}
		f.leave(&progress)
		if err == nil || mine || ctx.Err() != nil {
			return err
		}
	}
}

// flight joins the work of a key, or begins it.
func (s *Store) flight(ctx context.Context, key string, fn *func(engine.Progress), work func(ctx context.Context, report func(engine.Progress)) error) (f *flight, mine bool) {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	if f := s.flights.all[key]; f != nil && f.join(fn) {
		return f, false
	}
	work2, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f = &flight{cancel: cancel, done: make(chan struct{}), waiting: map[*func(engine.Progress)]bool{fn: true}}
	s.flights.all[key] = f
	if s.flights.closed {
		cancel()
	}
	s.flights.wg.Go(func() {
		defer cancel()
		f.err = work(work2, f.report)
		s.flights.mu.Lock()
		if s.flights.all[key] == f {
			delete(s.flights.all, key)
		}
		s.flights.mu.Unlock()
		close(f.done)
	})
	return f, true
}
