package events

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/loop"
	"skerry/internal/store"
)

const target = "arn:aws:lambda:us-east-1:000000000000:function:f"

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

type harness struct {
	*testing.T
	*Outbox
	db    *store.DB
	clock *clock.Fake
}

func newHarness(t *testing.T) *harness {
	t.Helper()
	db, err := store.Open(t.TempDir(), store.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	h := &harness{T: t, db: db, clock: clock.NewFake(start)}
	h.Outbox = New(db, h.clock, slog.New(slog.NewTextHandler(io.Discard, nil)))
	return h
}

// run starts the outbox and stops it when the test ends.
func (h *harness) run() {
	d := loop.NewDriver(h.clock, slog.New(slog.DiscardHandler), h.Loop())
	d.Start()
	h.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.Stop(ctx); err != nil {
			h.Error(err)
		}
	})
}

func (h *harness) emit(ds ...Delivery) {
	h.Helper()
	err := h.db.Update(context.Background(), func(tx *store.Tx) error {
		for _, d := range ds {
			if err := h.Emit(tx, d); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
}

// until waits for a condition; with step, the clock goes on meanwhile.
func (h *harness) until(step time.Duration, what string, ok func() bool) {
	h.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			h.Fatalf("waited for: %s; %+v", what, h.Counts())
		}
		h.clock.Advance(step)
		time.Sleep(100 * time.Microsecond)
	}
}

func (h *harness) rows() (n int) {
	h.Helper()
	err := h.db.View(context.Background(), func(tx *store.Tx) error {
		n = 0
		for _, err := range deliveries.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		h.Fatal(err)
	}
	return n
}

func TestDelivers(t *testing.T) {
	h := newHarness(t)
	var mu sync.Mutex
	got := map[string]int{}
	h.Route("lambda", TargetFunc(func(_ context.Context, d Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		got[string(d.Payload)]++
		if d.Attempt != 1 || d.ID == "" || d.Created.IsZero() {
			t.Errorf("delivery %+v", d)
		}
		return nil
	}))
	h.emit(Delivery{Target: target, Payload: []byte("before the start")})
	h.run()
	for i := range 50 {
		h.emit(Delivery{Target: target, Payload: fmt.Append(nil, i)}, Delivery{Target: target + "2", Payload: fmt.Append(nil, -i-1)})
	}
	h.until(0, "101 deliveries", func() bool { return h.Counts().Delivered == 101 })
	for p, n := range got {
		if n != 1 {
			t.Errorf("%s was delivered %d times", p, n)
		}
	}
	if n := h.rows(); n != 0 || len(got) != 101 {
		t.Errorf("%d rows left, %d delivered", n, len(got))
	}
}

func TestNotWithoutCommit(t *testing.T) {
	h := newHarness(t)
	h.Route("lambda", TargetFunc(func(context.Context, Delivery) error { t.Error("delivered"); return nil }))
	h.run()
	boom := errors.New("boom")
	err := h.db.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(h.Emit(tx, Delivery{Target: target}), boom)
	})
	if !errors.Is(err, boom) || h.rows() != 0 {
		t.Errorf("err %v, %d rows", err, h.rows())
	}
}

func TestSlowTargetHoldsUpNobody(t *testing.T) {
	h := newHarness(t)
	gate := make(chan struct{})
	var slow, most atomic.Int32
	h.Route("lambda", TargetFunc(func(ctx context.Context, d Delivery) error {
		if d.Target != target {
			return nil
		}
		n := slow.Add(1)
		defer slow.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-gate
		return nil
	}))
	h.run()
	for range 500 {
		h.emit(Delivery{Target: target})
	}
	h.until(0, "a full lane", func() bool { return slow.Load() == laneWidth })
	for i := range 20 {
		h.emit(Delivery{Target: fmt.Sprint(target, i)})
	}
	h.until(0, "the others", func() bool { return h.Counts().Delivered == 20 })
	h.clock.Advance(10 * time.Minute) // nothing is delivered twice, however long it takes
	close(gate)
	h.until(0, "all", func() bool { return h.Counts().Delivered == 520 })
	if h.rows() != 0 || most.Load() != laneWidth {
		t.Errorf("%d rows left; %d at once", h.rows(), most.Load())
	}
}

func TestRetries(t *testing.T) {
	h := newHarness(t)
	var mu sync.Mutex
	var at []time.Duration
	h.Route("lambda", TargetFunc(func(_ context.Context, d Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		at = append(at, h.clock.Now().Sub(start))
		switch d.Attempt {
		case 3:
			return RetryAt(errors.New("throttled"), h.clock.Now().Add(10*time.Minute))
		case 5:
			return nil
		}
		return fmt.Errorf("failure %d, before it %q", d.Attempt, d.LastError)
	}))
	h.run()
	h.emit(Delivery{Target: target, Retry: Retry{MaxAttempts: 4, First: time.Minute, Max: 2 * time.Minute, Exact: true}})
	h.until(time.Second, "the delivery", func() bool { return h.Counts().Delivered == 1 })
	mu.Lock()
	defer mu.Unlock()
	for i, min := range []time.Duration{0, time.Minute, 3 * time.Minute, 13 * time.Minute, 15 * time.Minute} {
		if at[i] < min || at[i] > min+2*time.Minute {
			t.Errorf("try %d at %v, want %v", i+1, at[i], min)
		}
	}
}

type mourner struct {
	Target
	given atomic.Int32
}

func (m *mourner) GiveUp(_ *store.Tx, d Delivery, cause error) error {
	m.given.Add(1)
	return nil
}

func TestDeadLetter(t *testing.T) {
	for name, tt := range map[string]struct {
		retry    Retry
		err      error
		attempts string
		message  string
	}{
		"permanent": {Retry{}, Permanent(errors.New("gone")), "0", "gone"},
		"attempts":  {Retry{MaxAttempts: 3}, errors.New("busy"), "2", "busy"},
		"age":       {Retry{MaxAge: time.Minute, First: 20 * time.Second, Max: 20 * time.Second, Exact: true}, errors.New("busy"), "", "busy"},
		"panic":     {Retry{MaxAttempts: 1}, nil, "0", "events: panic: ouch"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarness(t)
			m := &mourner{Target: TargetFunc(func(context.Context, Delivery) error {
				if tt.err == nil {
					panic("ouch")
				}
				return tt.err
			})}
			dead := make(chan Delivery, 10)
			h.Route("lambda", m)
			h.Route("sqs", TargetFunc(func(_ context.Context, d Delivery) error { dead <- d; return nil }))
			h.run()
			queue := "arn:aws:sqs:us-east-1:000000000000:dead"
			h.emit(
				Delivery{Target: target, Retry: tt.retry, DeadLetter: queue, Payload: []byte("x"), Attributes: map[string]string{"k": "v"}},
				Delivery{Target: target, Retry: tt.retry},
			)
			h.until(time.Second, "both given up", func() bool { c := h.Counts(); return c.Delivered == 1 && c.Dropped == 1 && c.DeadLetter == 1 })
			d := <-dead
			a := d.Attributes
			if string(d.Payload) != "x" || a["k"] != "v" || a["TARGET_ARN"] != target || a["ERROR_MESSAGE"] != tt.message {
				t.Errorf("dead letter %+v", d)
			}
			if tt.attempts != "" && a["RETRY_ATTEMPTS"] != tt.attempts {
				t.Errorf("RETRY_ATTEMPTS %s, want %s", a["RETRY_ATTEMPTS"], tt.attempts)
			}
			if m.given.Load() != 2 || h.rows() != 0 {
				t.Errorf("GiveUp called %d times, %d rows left", m.given.Load(), h.rows())
			}
		})
	}
}

func TestNoRoute(t *testing.T) {
	h := newHarness(t)
	h.run()
	if h.Routes(target) {
		t.Error("a route where there is none")
	}
	h.emit(Delivery{Target: target}, Delivery{Target: "nonsense"}, Delivery{Kind: "nobody/knows", Target: target})
	h.until(0, "all dropped", func() bool { return h.Counts().Dropped == 3 })
}

func TestDoneWritesWithTheRemoval(t *testing.T) {
	h := newHarness(t)
	second := make(chan Delivery, 1)
	h.Handle("test/first", TargetFunc(func(context.Context, Delivery) error {
		return Done(func(tx *store.Tx) error { return h.Emit(tx, Delivery{Kind: "test/second", Target: target}) })
	}))
	h.Handle("test/second", TargetFunc(func(_ context.Context, d Delivery) error { second <- d; return nil }))
	h.run()
	h.emit(Delivery{Kind: "test/first", Target: target})
	h.until(0, "both", func() bool { return h.Counts().Delivered == 2 })
	<-second
}

func TestForgetAndNotBefore(t *testing.T) {
	h := newHarness(t)
	var n atomic.Int32
	h.Route("lambda", TargetFunc(func(context.Context, Delivery) error { n.Add(1); return nil }))
	h.run()
	later := Delivery{Target: target, NotBefore: start.Add(time.Minute)}
	h.emit(later, later)
	err := h.db.Update(t.Context(), func(tx *store.Tx) error {
		if n, err := h.Pending(tx, "", target, 10); n != 2 || err != nil {
			t.Errorf("pending %d, %v", n, err)
		}
		return h.Forget(tx, "", target)
	})
	if err != nil {
		t.Fatal(err)
	}
	later.Target += "2"
	h.emit(later)
	h.until(time.Second, "the one left", func() bool { return h.Counts().Delivered == 1 })
	if h.clock.Now().Before(later.NotBefore) || n.Load() != 1 {
		t.Errorf("%d delivered by %v", n.Load(), h.clock.Now())
	}
}

// TestStop: what is under way when the server stops is delivered by the next one,
// and counts as not tried.
func TestStop(t *testing.T) {
	h := newHarness(t)
	began := make(chan struct{})
	h.Route("lambda", TargetFunc(func(ctx context.Context, _ Delivery) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}))
	d := loop.NewDriver(h.clock, slog.New(slog.DiscardHandler), h.Loop())
	d.Start()
	h.emit(Delivery{Target: target})
	<-began
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := New(h.db, h.clock, slog.New(slog.DiscardHandler))
	attempt := make(chan int, 1)
	next.Route("lambda", TargetFunc(func(_ context.Context, d Delivery) error { attempt <- d.Attempt; return nil }))
	h.Outbox = next
	h.run()
	if n := <-attempt; n != 1 {
		t.Errorf("attempt %d, want 1", n)
	}
}

func TestPlanNeverOutlivesAge(t *testing.T) {
	for failures := range 300 {
		r := row{Delivery: Delivery{Created: start, Retry: Retry{MaxAttempts: 1 << 30}.filled(), Failures: failures}}
		now := start.Add(time.Duration(failures) * time.Minute)
		out := plan(r, errors.New("no"), now)
		if out.next == nil {
			if now.Sub(start) < 24*time.Hour-15*time.Minute {
				t.Fatalf("given up after %v", now.Sub(start))
			}
			continue
		}
		if w := out.next.Due.Sub(now); w <= 0 || w > 15*time.Minute || out.next.Due.Sub(start) > 24*time.Hour {
			t.Fatalf("failure %d: next in %v", failures, w)
		}
	}
}

func BenchmarkDeliver(b *testing.B) {
	for name, relaxed := range map[string]bool{"fsync": false, "relaxed": true} {
		b.Run(name, func(b *testing.B) {
			db, err := store.Open(b.TempDir(), store.Options{Relaxed: relaxed})
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			quiet := slog.New(slog.DiscardHandler)
			o := New(db, clock.Real, quiet)
			o.Route("lambda", TargetFunc(func(context.Context, Delivery) error { return nil }))
			d := loop.NewDriver(clock.Real, quiet, o.Loop())
			d.Start()
			payload := make([]byte, 700)
			var n atomic.Int64
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					to := fmt.Sprint(target, n.Add(1)%16)
					err := db.Update(context.Background(), func(tx *store.Tx) error {
						return o.Emit(tx, Delivery{Target: to, Payload: payload})
					})
					if err != nil {
						b.Error(err)
					}
				}
			})
			for o.Counts().Delivered < int64(b.N) {
				time.Sleep(time.Millisecond)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "deliveries/s")
			if err := d.Stop(context.Background()); err != nil {
				b.Error(err)
			}
		})
	}
}
