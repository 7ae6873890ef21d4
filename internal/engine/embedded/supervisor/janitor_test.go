//go:build linux && amd64

package supervisor

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestJanitor(t *testing.T) {
	var j janitor
	j.Wait() // nothing to wait for
	var did atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				j.Go(func() { did.Add(1) })
				j.Wait() // while the others give more
			}
		})
	}
	wg.Wait()
	j.Wait()
	if did.Load() != 800 {
		t.Errorf("did %d of 800", did.Load())
	}
}
