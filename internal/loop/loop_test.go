package loop_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/loop"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func stop(t *testing.T, d *loop.Driver) {
	t.Helper()
	if err := d.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPeriodAndWake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		c := clock.NewFake(start)
		var runs atomic.Int32
		d := loop.NewDriver(c, quiet, loop.Loop{Name: "a/b", Does: "counts", Period: time.Minute, Run: func(context.Context) (string, error) {
			runs.Add(1)
			return "counted", nil
		}})
		expect := func(n int32) {
			t.Helper()
			synctest.Wait()
			if got := runs.Load(); got != n {
				t.Fatalf("%d runs, want %d", got, n)
			}
		}
		d.Wake("a/b")
		d.Wake("a/b")
		expect(0)
		d.Start()
		expect(1) // the wakes before the start are answered by the first run
		c.Advance(59 * time.Second)
		expect(1)
		c.Advance(time.Second)
		expect(2)
		d.Wake("a/b")
		expect(3)
		s := d.Status()[0]
		if s.Runs != 3 || s.Report != "counted" || s.Running || !s.Next.Equal(start.Add(2*time.Minute)) || !s.Last.Equal(start.Add(time.Minute)) {
			t.Errorf("status %+v", s)
		}
		stop(t, d)
		d.Wake("a/b")
		expect(3)
	})
}

func TestNeverTwiceAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var running, runs atomic.Int32
		gate := make(chan struct{})
		d := loop.NewDriver(clock.Real, quiet, loop.Loop{Name: "a/b", Run: func(context.Context) (string, error) {
			if running.Add(1) != 1 {
				t.Error("runs twice at once")
			}
			<-gate
			runs.Add(1)
			running.Add(-1)
			return "", nil
		}})
		d.Start()
		synctest.Wait()
		for range 10 {
			d.Wake("a/b")
		}
		gate <- struct{}{}
		gate <- struct{}{} // ten wakes are one more run
		synctest.Wait()
		if n := runs.Load(); n != 2 || running.Load() != 0 {
			t.Errorf("%d runs, want 2", n)
		}
		stop(t, d)
	})
}

func TestFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := clock.NewFake(time.Unix(0, 0))
		steps := []func(ctx context.Context) (string, error){
			func(context.Context) (string, error) { return "", errors.New("boom") },
			func(context.Context) (string, error) { panic("ouch") },
			func(ctx context.Context) (string, error) { <-ctx.Done(); return "", ctx.Err() },
			func(context.Context) (string, error) { return "fine", nil },
		}
		n := 0
		d := loop.NewDriver(c, quiet, loop.Loop{Name: "a/b", Period: time.Hour, Deadline: time.Second, Run: func(ctx context.Context) (string, error) {
			n++
			return steps[n-1](ctx)
		}})
		d.Start()
		for i, want := range []string{"boom", "panic: ouch", "context canceled (deadline of 1s: context deadline exceeded)", ""} {
			if synctest.Wait(); i == 2 {
				c.Advance(time.Second)
				synctest.Wait()
			}
			if s := d.Status()[0]; s.Error != want || s.Runs != int64(i+1) {
				t.Errorf("run %d: %+v", i, s)
			}
			if i < 3 {
				d.Wake("a/b")
			}
		}
		if s := d.Status()[0]; s.Failures != 3 || s.Panics != 1 || s.Report != "fine" {
			t.Errorf("status %+v", s)
		}
		stop(t, d)
	})
}

func TestStopWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended, gate := false, make(chan struct{})
		kids := loop.NewChildren(quiet)
		kidEnded := false
		d := loop.NewDriver(clock.Real, quiet, loop.Loop{Name: "a/b", Children: kids, Run: func(ctx context.Context) (string, error) {
			kids.Start("k", func(ctx context.Context) error { <-ctx.Done(); <-gate; kidEnded = true; return ctx.Err() })
			<-ctx.Done()
			ended = true
			return "", ctx.Err()
		}})
		d.Start()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop with a child that does not end: %v", err)
		}
		close(gate)
		stop(t, d)
		if !ended || !kidEnded || d.Status()[0].Failures != 0 {
			t.Errorf("ended %v, child %v, %+v", ended, kidEnded, d.Status()[0])
		}
	})
}

func TestChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kids := loop.NewChildren(quiet)
		var mu sync.Mutex
		var ended []string
		kids.Ended = func(key string, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				key += ": " + err.Error()
			}
			ended = append(ended, key)
		}
		wait := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		type work = func(context.Context) error
		if s, e := kids.Want(map[string]work{"a": wait, "b": wait}); s != 2 || e != 0 {
			t.Errorf("started %d, ended %d", s, e)
		}
		if s, e := kids.Want(map[string]work{"b": wait, "c": func(context.Context) error { panic("ouch") }}); s != 1 || e != 1 {
			t.Errorf("started %d, ended %d", s, e)
		}
		synctest.Wait()
		slices.Sort(ended)
		if got := kids.Keys(); !slices.Equal(got, []string{"b"}) || !slices.Equal(ended, []string{"a", "c: panic: ouch"}) {
			t.Errorf("running %q, ended %q", got, ended)
		}
		kids.End("b")
		synctest.Wait()
		if kids.Len() != 0 || kids.Has("b") {
			t.Error("b still runs")
		}
	})
}
