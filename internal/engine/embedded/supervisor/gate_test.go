//go:build linux && amd64

package supervisor

import (
	"sync/atomic"
	"testing"
	"time"
)

// A gate that is shut has nobody inside, and lets all in when it is opened. One that
// somebody does not leave is not shut, and keeps nobody out.
func TestGate(t *testing.T) {
	var g gate
	g.enter()
	if g.shut(time.Millisecond) {
		t.Fatal("it is shut with somebody inside")
	}
	g.enter() // it is open again
	g.leave()
	g.leave()
	var inside, shut atomic.Int64
	done := make(chan bool)
	for range 8 {
		go func() {
			for range 200 {
				g.enter()
				inside.Add(1)
				if shut.Load() > 0 {
					t.Error("somebody came in")
				}
				inside.Add(-1)
				g.outside(func() {})
				g.leave()
			}
			done <- true
		}()
	}
	for left := 8; left > 0; {
		if !g.shut(time.Minute) {
			t.Fatal("it cannot be shut")
		}
		shut.Add(1)
		if n := inside.Load(); n != 0 {
			t.Errorf("%d are inside", n)
		}
		shut.Add(-1)
		g.open()
		select {
		case <-done:
			left--
		default:
		}
	}
}
