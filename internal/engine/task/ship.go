package task

import (
	"context"
	"errors"
	"reflect"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/engine"
	"skerry/internal/store"
)

const (
	linger      = 250 * time.Millisecond // for more output to come, before a batch is sent
	multiAge    = 5 * time.Second        // until an event of several lines is taken to be whole
	shipWait    = time.Second            // after a failure; it doubles
	maxShipWait = 16 * time.Second
	patience    = time.Minute // with a sink that takes nothing, once the container has ended
	holdBack    = 64 << 20    // bytes that a blocking container may be ahead of what is sent
)

// LogBatch is output to be written to a log stream.
type LogBatch struct {
	Task      *Task
	Container string
	Stream    LogStream
	// Events are in order, and fit into one PutLogEvents: 1 MiB, counting 26
	// bytes for each beside its text, 10,000 events, less than a day.
	Events []LogEvent
	// Advance notes that the events are written. It is called after PutLogs has
	// returned without an error: a crash between has them written once more. A
	// PutLogs that has a transaction of the same store calls it there itself:
	// then they are written exactly once. Calling it twice is as once.
	Advance func(tx *store.Tx) error
}

// shipper sends a container's output.
type shipper struct {
	*Runner
	task *Task
	spec *Container
	o    logOptions
	id   engine.ID
	row  *cursorRow
	key  string // its child's
	asm  assembler
	// at is the place up to which asm has been fed.
	at engine.Cursor
	// again is how many events come once more that are sent already.
	again int
	// held tells that the container is frozen because it writes faster than its
	// output is sent.
	held bool
}

// ship sends a container's output, as a child of the loop, until the container
// has ended and all is sent.
func (r *Runner) ship(ctx context.Context, t *Task, c *Container) error {
	o, err := newLogOptions(c.Log)
	if err != nil {
		return err
	}
	s := &shipper{Runner: r, task: t, spec: c, o: o, id: containerID(t.ID, c.Name), key: childName("logs", string(t.ID), c.Name)}
	if err := r.Store.View(ctx, func(tx *store.Tx) (err error) {
		s.row, err = get(tx, cursors, store.K(string(t.ID), c.Name))
		return err
	}); err != nil {
		return err
	}
	if s.row == nil {
		s.row = &cursorRow{Task: t.ID, Name: c.Name}
	}
	s.at, s.again, s.asm = s.row.Cursor, s.row.Sent, assembler{held: s.row.Held.clone(), start: o.start}
	if st, err := r.Engine.Inspect(ctx, s.id); err == nil && st.State == engine.Frozen {
		_ = r.Engine.Freeze(ctx, s.id, false) // held back by a process that was killed
	}
	for {
		ended, err := s.read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !errors.Is(err, engine.ErrNotFound) {
			return err
		}
		if err != nil {
			ended = true
		}
		s.brake(ctx)
		stopped := false
		if ended {
			if stopped, err = s.stopped(ctx); err != nil {
				return err
			}
			if stopped {
				s.asm.finish(r.Clock.Now())
			}
		}
		if err := s.send(ctx, stopped); err != nil || ended {
			return err
		}
	}
}

// errEnough ends a reading of the log.
var errEnough = errors.New("enough")

// read feeds what there is, waiting for it. ended tells that the container has
// ended and nothing more is there.
func (s *shipper) read(ctx context.Context) (ended bool, err error) {
	wait, cancel := ctx, context.CancelFunc(func() {})
	if len(s.asm.Multi) > 0 {
		wait, cancel = context.WithTimeout(ctx, multiAge)
	}
	err = s.Engine.Logs(wait, s.id, engine.LogQuery{From: s.at, Follow: true}, func(f engine.Frame) error {
		s.feed(f)
		return errEnough
	})
	expired := wait.Err() != nil && ctx.Err() == nil
	cancel()
	switch {
	case expired:
		s.asm.flush()
		return false, nil
	case err == nil:
		return true, nil
	case !errors.Is(err, errEnough):
		return false, err
	}
	if err := s.more(ctx); err != nil || s.asm.full() {
		return false, err
	}
	s.linger(ctx)
	return false, s.more(ctx)
}

// more feeds what else there is, up to a full batch.
func (s *shipper) more(ctx context.Context) error {
	if s.asm.full() {
		return nil
	}
	err := s.Engine.Logs(ctx, s.id, engine.LogQuery{From: s.at}, func(f engine.Frame) error {
		if s.feed(f); s.asm.full() {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

func (s *shipper) feed(f engine.Frame) {
	s.asm.feed(f)
	s.at = f.Next
}

// linger waits for more output, but not longer than the container lives.
func (s *shipper) linger(ctx context.Context) {
	s.mu.Lock()
	hurry := make(chan struct{})
	s.mu.hurry[s.key] = hurry
	s.mu.Unlock()
	if stopped, err := s.stopped(ctx); err == nil && !stopped {
		select {
		case <-s.Clock.After(linger):
		case <-hurry:
		case <-ctx.Done():
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.hurry, s.key)
}

// hasten ends a shipper's lingering.
func (r *Runner) hasten(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.mu.hurry[key]; c != nil {
		close(c)
		delete(r.mu.hurry, key)
	}
}

// stopped tells whether the container has ended for good.
func (s *shipper) stopped(ctx context.Context) (stopped bool, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		c, err := get(tx, containers, store.K(string(s.task.ID), s.spec.Name))
		stopped = c == nil || c.State == ContainerStopped
		return err
	})
	return stopped, err
}

// send writes what is assembled, and how far that is; done says that nothing
// comes any more.
func (s *shipper) send(ctx context.Context, done bool) error {
	n := min(s.again, len(s.asm.out))
	s.again -= n
	for out := s.asm.out[n:]; len(out) > 0; {
		events := batch(out)
		out = out[len(events):]
		next := *s.row // as far as this batch
		if next.Sent += len(events); len(out) == 0 {
			next = s.here(done)
		}
		b := LogBatch{Task: s.task, Container: s.spec.Name, Stream: streamOf(s.task, s.spec), Events: events, Advance: next.advance}
		givenUp, err := s.put(ctx, b)
		if err != nil {
			return err
		}
		if givenUp {
			s.Log.Warn("the output of a container is given up: its log cannot be written to", "task", s.task.ID, "container", s.spec.Name)
			done = true
			break
		}
		if len(out) > 0 {
			if err := s.save(ctx, next); err != nil {
				return err
			}
			s.brake(ctx)
		}
	}
	s.asm.out, s.asm.size = nil, 0
	here := s.here(done)
	if s.again > 0 || reflect.DeepEqual(here, *s.row) {
		return nil
	}
	return s.save(ctx, here)
}

// here is the place that is reached.
func (s *shipper) here(done bool) cursorRow {
	return cursorRow{Task: s.task.ID, Name: s.spec.Name, Cursor: s.at, Held: s.asm.held.clone(), Done: done}
}

func (s *shipper) save(ctx context.Context, row cursorRow) error {
	s.row = &row
	return s.Store.Update(ctx, row.advance)
}

// advance writes the row, if its task is still there.
func (c cursorRow) advance(tx *store.Tx) error {
	if there, err := tasks.Has(tx, store.K(string(c.Task))); err != nil || !there {
		return err
	}
	return cursors.Put(tx, &c)
}

// put writes a batch, again and again if need be. given up tells that it could
// not, long after the container's end. Of what a container that is not blocking
// writes meanwhile, the oldest is dropped beyond its buffer.
func (s *shipper) put(ctx context.Context, b LogBatch) (givenUp bool, err error) {
	err = s.PutLogs(ctx, b)
	if err == nil {
		return false, nil
	}
	s.Log.Warn("a log cannot be written to", "group", b.Stream.Group, "stream", b.Stream.Name, "err", err)
	began := time.Time{}
	for wait := shipWait; ; wait = min(2*wait, maxShipWait) {
		if err := clock.Sleep(ctx, s.Clock, wait); err != nil {
			return false, err
		}
		if err = s.PutLogs(ctx, b); err == nil {
			break
		}
		stopped, failed := s.stopped(ctx)
		switch {
		case failed != nil:
			return false, failed
		case stopped && began.IsZero():
			began = s.Clock.Now()
		case stopped && s.Clock.Now().Sub(began) >= patience:
			return true, nil
		}
		s.brake(ctx)
	}
	if !s.o.blocking {
		return false, s.skip(ctx)
	}
	return false, nil
}

// brake freezes a blocking container that is far ahead of what is sent, since the
// engine keeps the last of its output only, and lets it go on when half of that is
// sent.
func (s *shipper) brake(ctx context.Context) {
	if !s.o.blocking {
		return
	}
	switch ahead := s.written(ctx) - int64(s.at); {
	case !s.held && ahead > holdBack:
		s.held = s.Engine.Freeze(ctx, s.id, true) == nil
	case s.held && ahead < holdBack/2:
		s.held = s.Engine.Freeze(ctx, s.id, false) != nil && ahead > 0
	}
}

// written is how much the container has written, in bytes.
func (s *shipper) written(ctx context.Context) int64 {
	st, err := s.Engine.Inspect(ctx, s.id)
	if err != nil {
		return 0
	}
	return st.LogBytes
}

// skip drops the oldest of what was written while the sink took nothing, beyond
// the buffer.
func (s *shipper) skip(ctx context.Context) error {
	type place struct {
		next engine.Cursor
		size int64
	}
	var waiting []place
	var size int64
	dropped := false
	err := s.Engine.Logs(ctx, s.id, engine.LogQuery{From: s.at}, func(f engine.Frame) error {
		waiting = append(waiting, place{f.Next, int64(len(f.Data))})
		size += int64(len(f.Data))
		for size > s.o.buffer {
			s.at, dropped = waiting[0].next, true
			size -= waiting[0].size
			waiting = waiting[1:]
		}
		return nil
	})
	if dropped {
		s.asm.Lines = [2][]byte{} // what follows is the middle of some line
		s.Log.Warn("output of a container was dropped", "task", s.task.ID, "container", s.spec.Name)
	}
	return err
}
