package clock

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestFake(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f := NewFake(start)
	early, late := f.After(time.Second), f.After(time.Minute)
	if err := f.Waiting(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	f.Advance(time.Second)
	if got := <-early; !got.Equal(start.Add(time.Second)) {
		t.Errorf("woken at %v", got)
	}
	select {
	case <-late:
		t.Error("the later waiter woke too early")
	default:
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Sleep(ctx, f, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("Sleep = %v", err)
	}
}
