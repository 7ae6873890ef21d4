package events

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"skerry/internal/base/arn"
	"skerry/internal/base/clock"
	"skerry/internal/base/ids"
	"skerry/internal/loop"
	"skerry/internal/store"
)

const (
	laneWidth = 16   // concurrent deliveries to one target, unless it is Wide
	allLanes  = 4096 // concurrent deliveries in all: what memory is for, not what targets are worth
)

// Outbox keeps deliveries and delivers them.
type Outbox struct {
	db       *store.DB
	clock    clock.Clock
	log      *slog.Logger
	services map[string]Target // by the ARN's service
	kinds    map[string]Target
	workers  *loop.Children // one a lane
	slots    chan struct{}
	counts   counts

	mu struct {
		sync.Mutex
		running bool // the loop has run
		lanes   map[string]*worker
	}
}

type counts struct{ delivered, failed, dead, dropped atomic.Int64 }

// Counts is what the outbox has done since the start.
type Counts struct {
	Delivered  int64 // deliveries
	Failed     int64 // tries
	DeadLetter int64 // deliveries handed to their dead letter
	Dropped    int64 // deliveries given up without one
}

// New returns the outbox of a store. Routes are added before its loop runs.
func New(db *store.DB, c clock.Clock, log *slog.Logger) *Outbox {
	o := &Outbox{db: db, clock: c, log: log, services: map[string]Target{}, kinds: map[string]Target{},
		workers: loop.NewChildren(log), slots: make(chan struct{}, allLanes)}
	o.mu.lanes = map[string]*worker{}
	o.workers.Ended = o.ended
	return o
}

// Route has t deliver to the ARNs of a service ("lambda") what has no Kind.
func (o *Outbox) Route(service string, t Target) { o.services[service] = t }

// Handle has t deliver what has a Kind.
func (o *Outbox) Handle(kind string, t Target) { o.kinds[kind] = t }

// Routes tells whether deliveries to an ARN would find a target, so that a service
// can refuse what it could never deliver.
func (o *Outbox) Routes(target string) bool { return o.target(lane{target: target}) != nil }

func (o *Outbox) target(l lane) Target {
	if l.kind != "" {
		return o.kinds[l.kind]
	}
	a, err := arn.Parse(l.target)
	if err != nil {
		return nil
	}
	return o.services[a.Service]
}

// Counts returns what was done since the start.
func (o *Outbox) Counts() Counts {
	c := &o.counts
	return Counts{c.delivered.Load(), c.failed.Load(), c.dead.Load(), c.dropped.Load()}
}

// Emit puts a delivery into the outbox as part of a transaction. It is delivered
// soon after the commit.
func (o *Outbox) Emit(tx *store.Tx, d Delivery) error {
	if d.Target == "" {
		return errors.New("events: a delivery without a target")
	}
	if d.ID == "" {
		d.ID = ids.UUID()
	}
	now := o.clock.Now()
	if d.Created.IsZero() {
		d.Created = now
	}
	d.Retry = d.Retry.filled()
	r := row{Delivery: d, Due: d.NotBefore}
	if r.Due.Before(now) {
		r.Due = now
	}
	if err := deliveries.Put(tx, &r); err != nil {
		return fmt.Errorf("events: emit: %w", err)
	}
	tx.OnCommit(func() { o.nudge(r.lane(), false) })
	return nil
}

// Forget removes what is still to be delivered to a target, as part of the
// transaction that deletes it. Deliveries that are under way are not stopped.
func (o *Outbox) Forget(tx *store.Tx, kind, target string) error {
	for r, err := range deliveries.Scan(tx, store.Range{Prefix: store.K(kind, target)}) {
		if err != nil {
			return fmt.Errorf("events: forget %s: %w", target, err)
		}
		if err := deliveries.Delete(tx, r.key()); err != nil {
			return fmt.Errorf("events: forget %s: %w", target, err)
		}
	}
	return nil
}

// Pending returns how many deliveries a target still has to get, at most limit.
func (o *Outbox) Pending(tx *store.Tx, kind, target string, limit int) (n int, err error) {
	for _, err := range deliveries.Scan(tx, store.Range{Prefix: store.K(kind, target)}) {
		if err != nil {
			return n, err
		}
		if n++; n == limit {
			break
		}
	}
	return n, nil
}

// Loop returns the loop that finds the lanes with something due: after the start,
// and when a wait has ended. What is emitted starts its lane by itself.
func (o *Outbox) Loop() loop.Loop {
	return loop.Loop{
		Name:     "events/outbox",
		Does:     "delivers events: notifications, asynchronous invocations, schedules",
		Period:   time.Second,
		Run:      o.run,
		Children: o.workers,
	}
}

func (o *Outbox) run(ctx context.Context) (string, error) {
	o.mu.Lock()
	o.mu.running = true
	o.mu.Unlock()
	now := o.clock.Now()
	waiting := 0
	var due []lane
	err := o.db.View(ctx, func(tx *store.Tx) error {
		due, waiting = nil, 0
		var from store.Key
		for {
			first, err := head(tx, store.Range{From: from})
			if err != nil || first == nil {
				return err
			}
			if first.Due.After(now) {
				waiting++
			} else {
				due = append(due, first.lane())
			}
			from = first.lane().key().End()
		}
	})
	for _, l := range due {
		o.nudge(l, true)
	}
	c := o.Counts()
	return fmt.Sprintf("%d targets due, %d waiting; %d delivered, %d failures, %d dead letters, %d dropped",
		len(due), waiting, c.Delivered, c.Failed, c.DeadLetter, c.Dropped), err
}

// head returns the first row of a range, or nil.
func head(tx *store.Tx, r store.Range) (*row, error) {
	for row, err := range deliveries.Scan(tx, r) {
		return row, err
	}
	return nil, nil
}

// finish writes what has become of a try.
func (o *Outbox) finish(ctx context.Context, r *row, out outcome) error {
	return o.db.Update(ctx, func(tx *store.Tx) error {
		if err := deliveries.Delete(tx, r.key()); err != nil {
			return err
		}
		switch {
		case out.next != nil:
			return deliveries.Put(tx, out.next)
		case out.cause == nil && out.settle.fn != nil:
			return out.settle.fn(tx)
		case out.cause == nil:
			return nil
		}
		if m, ok := o.target(r.lane()).(Mourner); ok {
			if err := m.GiveUp(tx, r.Delivery, out.cause); err != nil {
				return err
			}
		}
		if r.DeadLetter == "" {
			return nil
		}
		return o.Emit(tx, deadLetter(r.Delivery, out.cause))
	})
}

// deadLetter is the delivery of what could not be delivered. Its attributes are
// those that EventBridge gives to its dead letters.
func deadLetter(d Delivery, cause error) Delivery {
	attributes := maps.Clone(d.Attributes)
	if attributes == nil {
		attributes = map[string]string{}
	}
	attributes["TARGET_ARN"] = d.Target
	attributes["ERROR_MESSAGE"] = cause.Error()
	attributes["ERROR_CODE"] = "SDK_CLIENT_ERROR"
	var coded interface{ ErrorCode() string }
	if errors.As(cause, &coded) {
		attributes["ERROR_CODE"] = coded.ErrorCode()
	}
	attributes["RETRY_ATTEMPTS"] = strconv.Itoa(d.Attempt - 1)
	return Delivery{
		Target: d.DeadLetter, Source: d.Source, Service: d.Service, Account: d.Account, Region: d.Region, Role: d.Role,
		Payload: d.Payload, Attributes: attributes,
	}
}
