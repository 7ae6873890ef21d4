package events

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/store"
)

const (
	fetchRows  = 256                    // rows a lane's worker reads at a time
	fetchBytes = 1 << 20                // of payload, likewise
	linger     = 5 * time.Second        // that a worker waits for more before it ends
	slack      = 100 * time.Millisecond // how late a delivery may be committed and still be seen at once
)

// worker delivers what is due in one lane.
type worker struct {
	*Outbox
	lane  lane
	width int
	wake  chan struct{} // something was emitted
	full  atomic.Bool   // the next look is from the lane's beginning
	free  chan struct{} // a delivery has ended
	wg    sync.WaitGroup

	mu struct {
		sync.Mutex
		busy map[string]bool // ids being delivered
	}
}

func (o *Outbox) newWorker(l lane) *worker {
	w := &worker{Outbox: o, lane: l, width: laneWidth, wake: make(chan struct{}, 1), free: make(chan struct{}, 1)}
	if wide, ok := o.target(l).(Wide); ok {
		w.width = max(1, wide.Width())
	}
	w.mu.busy = map[string]bool{}
	return w
}

// nudge has a lane's worker look for what is due, and starts it if there is none;
// full has it look from the beginning.
func (o *Outbox) nudge(l lane, full bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.mu.running {
		return // the loop's first run will find it
	}
	w := o.mu.lanes[l.String()]
	if w == nil {
		w = o.newWorker(l)
		o.mu.lanes[l.String()] = w
		if !o.workers.Start(l.String(), w.work) {
			delete(o.mu.lanes, l.String()) // the server stops
		}
		return
	}
	if full {
		w.full.Store(true)
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// ended takes a lane's worker off the list, and starts another if it was nudged
// while it ended.
func (o *Outbox) ended(name string, err error) {
	o.mu.Lock()
	w := o.mu.lanes[name]
	delete(o.mu.lanes, name)
	o.mu.Unlock()
	if err != nil {
		o.log.Error("deliveries stopped for now", "target", w.lane.target, "err", err)
	}
	select {
	case <-w.wake:
		o.nudge(w.lane, true)
	default:
	}
}

// work delivers until nothing was due for a while.
func (w *worker) work(ctx context.Context) error {
	defer w.wg.Wait()
	// What was due before this time is gone or being delivered. It spares the
	// worker from passing over all that was deleted since the last compaction.
	var clean time.Time
	for {
		if w.full.Swap(false) {
			clean = time.Time{}
		}
		now := w.clock.Now()
		rows, more, err := w.fetch(ctx, clean, now)
		if err != nil {
			return err
		}
		for i := range rows {
			if !w.start(ctx, &rows[i]) {
				return ctx.Err()
			}
		}
		if more {
			clean = rows[len(rows)-1].Due
			continue
		}
		clean = now.Add(-slack)
		if !w.wait(ctx) {
			return ctx.Err()
		}
	}
}

// wait returns true when the worker is to look again, and false when it ends.
func (w *worker) wait(ctx context.Context) bool {
	for {
		select {
		case <-w.wake:
			return true
		case <-w.clock.After(linger):
			if w.running() == 0 {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
}

func (w *worker) running() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.mu.busy)
}

// fetch reads what is due since a time and is not being delivered; more tells that
// it left some.
func (w *worker) fetch(ctx context.Context, since, now time.Time) (rows []row, more bool, err error) {
	r := store.Range{Prefix: w.lane.key(), To: w.lane.key() + store.K(now.Add(time.Nanosecond))}
	if !since.IsZero() {
		r.From = w.lane.key() + store.K(since)
	}
	w.mu.Lock()
	busy := maps.Clone(w.mu.busy) // before the View: what ends after this may be in it
	w.mu.Unlock()
	err = w.db.View(ctx, func(tx *store.Tx) error {
		rows, more = nil, false
		size := 0
		for row, err := range deliveries.Scan(tx, r) {
			if err != nil {
				return err
			}
			if busy[row.ID] {
				continue
			}
			rows = append(rows, *row)
			if size += len(row.Payload); len(rows) == fetchRows || size >= fetchBytes {
				more = true
				break
			}
		}
		return nil
	})
	return rows, more, err
}

// start delivers a row beside the others, as soon as there is room for it; false
// means that the server stops.
func (w *worker) start(ctx context.Context, r *row) bool {
	for w.running() >= w.width {
		select {
		case <-w.free:
		case <-ctx.Done():
			return false
		}
	}
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	w.mu.Lock()
	w.mu.busy[r.ID] = true
	w.mu.Unlock()
	w.wg.Go(func() {
		w.try(ctx, r)
		<-w.slots
		w.mu.Lock()
		delete(w.mu.busy, r.ID)
		w.mu.Unlock()
		select {
		case w.free <- struct{}{}:
		default:
		}
	})
	return true
}

// try delivers a row once and records the outcome.
func (w *worker) try(ctx context.Context, r *row) {
	r.Attempt++
	var err error
	if w.clock.Now().Sub(r.Created) > r.Retry.MaxAge {
		err = Permanent(ErrExpired)
	} else {
		err = w.deliver(ctx, r.Delivery)
	}
	out := plan(*r, err, w.clock.Now())
	if ctx.Err() != nil && (out.next != nil || out.cause != nil) {
		return // not the target's fault: it is delivered after the next start
	}
	for {
		err := w.finish(context.WithoutCancel(ctx), r, out)
		if err == nil {
			break
		}
		w.log.Error("outcome of a delivery cannot be stored", "target", r.Target, "id", r.ID, "err", err)
		if clock.Sleep(ctx, w.clock, time.Second) != nil {
			return
		}
	}
	w.count(r, out)
}

func (w *worker) count(r *row, out outcome) {
	c := &w.counts
	switch {
	case out.next != nil:
		c.failed.Add(1)
	case out.cause == nil:
		c.delivered.Add(1)
	case r.DeadLetter != "":
		c.failed.Add(1)
		c.dead.Add(1)
	default:
		c.failed.Add(1)
		c.dropped.Add(1)
		w.log.Warn("delivery dropped", "target", r.Target, "kind", r.Kind, "source", r.Source, "id", r.ID, "attempts", r.Attempt, "err", out.cause)
	}
}

// deliver calls the target; a panic is a failure.
func (w *worker) deliver(ctx context.Context, d Delivery) (err error) {
	t := w.target(w.lane)
	if t == nil {
		return Permanent(fmt.Errorf("events: nothing delivers to %s", w.lane))
	}
	defer func() {
		if v := recover(); v != nil {
			w.log.Error("delivery panicked", "target", d.Target, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("events: panic: %v", v)
		}
	}()
	return t.Deliver(ctx, d)
}
