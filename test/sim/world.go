package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"skerry/internal/base/clock"
	"skerry/internal/events"
	"skerry/internal/loop"
	"skerry/internal/store"
	"skerry/internal/store/pebblekv"
)

// The rows that the simulation keeps.
type (
	fact struct { // written once
		ID     string
		Target string // that its event goes to, if any
		Body   []byte // so much that tables are written and compacted
	}
	counter struct {
		Name string
		N    int
	}
	target struct{ ARN string }
)

var (
	byTarget = store.NewIndex("target", func(f *fact) []store.Key { return []store.Key{store.K(f.Target)} })
	facts    = store.NewTable("sim/facts", func(f *fact) store.Key { return store.K(f.ID) }, byTarget)
	counters = store.NewTable("sim/counters", func(c *counter) store.Key { return store.K(c.Name) })
	targets  = store.NewTable("sim/targets", func(t *target) store.Key { return store.K(t.ARN) })
)

// world is what goes on outside of the server, and so knows what it has
// acknowledged and delivered. It outlives crashes.
type world struct {
	seed  uint64
	rand  *rand.Rand
	clock *clock.Fake
	ids   int

	mu         sync.Mutex
	crashed    bool // the server of now has crashed: what it says does not count
	acked      map[string]bool
	delivered  map[string]int
	deleted    map[string]bool // targets whose deletion was begun
	increments struct{ tried, acked int }
}

func newWorld(seed uint64) *world {
	return &world{
		seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), clock: clock.NewFake(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
		acked: map[string]bool{}, delivered: map[string]int{}, deleted: map[string]bool{},
	}
}

// hear runs fn if the server has not crashed, and tells whether it did.
func (w *world) hear(fn func()) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.crashed {
		return false
	}
	fn()
	return true
}

// server is one life of the server.
type server struct {
	world  *world
	db     *store.DB
	outbox *events.Outbox
	loops  *loop.Driver
}

var errDown = errors.New("the target is down")

// start opens the store and starts the loops.
func (w *world) start(fs vfs.FS) (*server, error) {
	driver, err := pebblekv.Open("data", pebblekv.Options{FS: fs, MemTable: 64 << 10})
	if err != nil {
		return nil, err
	}
	s := &server{world: w, db: store.New(driver)}
	quiet := slog.New(slog.DiscardHandler)
	s.outbox = events.New(s.db, w.clock, quiet)
	s.outbox.Route("lambda", events.TargetFunc(s.deliver))
	s.loops = loop.NewDriver(w.clock, quiet, s.outbox.Loop())
	s.loops.Start()
	return s, nil
}

func (s *server) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(s.loops.Stop(ctx), s.db.Close())
}

// deliver is the target of all events: gone if its row is, down a fifth of the time.
func (s *server) deliver(ctx context.Context, d events.Delivery) error {
	err := s.db.View(ctx, func(tx *store.Tx) error {
		_, err := targets.Get(tx, store.K(d.Target))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return events.Permanent(err)
	}
	if err != nil {
		return err
	}
	if (d.ID[len(d.ID)-1]+byte(d.Attempt))%5 == 0 {
		return errDown
	}
	if !s.world.hear(func() { s.world.delivered[d.ID]++ }) {
		return errDown
	}
	return nil
}

// operation is something a client asks for.
type operation func(s *server) error

// next draws an operation.
func (w *world) next() operation {
	arn := fmt.Sprintf("arn:aws:lambda:us-east-1:000000000000:function:f%d", w.rand.IntN(6))
	w.ids++
	id := fmt.Sprintf("%08d", w.ids)
	switch n := w.rand.IntN(20); {
	case n < 5:
		body := make([]byte, w.rand.IntN(10_000))
		return func(s *server) error { return s.put(fact{ID: id, Body: body}) }
	case n < 12:
		return func(s *server) error { return s.put(fact{ID: id, Target: arn}) }
	case n < 17:
		return (*server).increment
	case n < 19:
		return func(s *server) error { return s.create(arn) }
	}
	return func(s *server) error { return s.delete(arn) }
}

// put writes a fact and, in the same transaction, its event.
func (s *server) put(f fact) error {
	err := s.db.Update(context.Background(), func(tx *store.Tx) error {
		if f.Target != "" {
			if _, err := targets.Get(tx, store.K(f.Target)); err != nil {
				return err
			}
			if err := s.outbox.Emit(tx, events.Delivery{ID: f.ID, Target: f.Target, Retry: events.Retry{First: time.Second, Max: 5 * time.Second}}); err != nil {
				return err
			}
		}
		return facts.Insert(tx, &f)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // no such target: refused
	}
	if err == nil {
		s.world.hear(func() { s.world.acked[f.ID] = true })
	}
	return err
}

func (s *server) increment() error {
	w := s.world
	if !w.hear(func() { w.increments.tried++ }) {
		return nil
	}
	err := s.db.Update(context.Background(), func(tx *store.Tx) error {
		c, err := counters.Get(tx, store.K("c"))
		if errors.Is(err, store.ErrNotFound) {
			c, err = &counter{Name: "c"}, nil
		}
		if err != nil {
			return err
		}
		c.N++
		return counters.Put(tx, c)
	})
	if err == nil {
		w.hear(func() { w.increments.acked++ })
	}
	return err
}

func (s *server) create(arn string) error {
	return s.db.Update(context.Background(), func(tx *store.Tx) error { return targets.Put(tx, &target{arn}) })
}

func (s *server) delete(arn string) error {
	if !s.world.hear(func() { s.world.deleted[arn] = true }) {
		return nil
	}
	return s.db.Update(context.Background(), func(tx *store.Tx) error { return targets.Delete(tx, store.K(arn)) })
}
