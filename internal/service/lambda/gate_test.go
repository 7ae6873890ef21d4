package lambda

import (
	"context"
	"errors"
	"testing"
	"time"

	"skerry/internal/base/clock"
)

func TestTurns(t *testing.T) {
	s := &Service{Deps: Deps{Clock: clock.Real}, fleet: newFleet()}
	k := fleetKey{Name: "f"}
	for range initialising() {
		if sb, err := s.warmOrTurn(t.Context(), k); sb != nil || err != nil {
			t.Fatalf("no turn on an idle machine: %v %v", sb, err)
		}
	}
	type got struct {
		sb  *sandbox
		err error
	}
	wait := func(ctx context.Context) <-chan got {
		c := make(chan got, 1)
		go func() {
			sb, err := s.warmOrTurn(ctx, k)
			c <- got{sb, err}
		}()
		return c
	}
	ctx, cancel := context.WithCancel(t.Context())
	given := wait(ctx)
	cancel()
	if g := <-given; !errors.Is(g.err, context.Canceled) {
		t.Errorf("a caller that is gone gets %+v", g)
	}

	done := make(chan struct{})
	close(done)
	warm := &sandbox{key: k, expires: time.Now().Add(time.Hour), exited: make(chan struct{}), settled: done}
	waiting := wait(t.Context())
	s.fleet.give(warm, time.Now())
	if g := <-waiting; g.sb != warm || g.err != nil {
		t.Errorf("a sandbox that is given back: %+v", g)
	}
	waiting = wait(t.Context())
	s.fleet.turnOver()
	if g := <-waiting; g.sb != nil || g.err != nil {
		t.Errorf("a turn that is over: %+v", g)
	}
	if s.fleet.starting != initialising() {
		t.Errorf("%d turns are taken", s.fleet.starting)
	}
}
