package sim

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"skerry/internal/store"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "run this seed alone")
	seedsFlag = flag.Uint64("seeds", 8, "how many seeds to run")
)

const (
	lives   = 5   // crashes a seed
	most    = 600 // changes of the disk before a crash, at most
	clients = 4
)

func TestSim(t *testing.T) {
	first, n := uint64(1), *seedsFlag
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { run(t, seed) })
	}
}

func run(t *testing.T, seed uint64) {
	w := newWorld(seed)
	fs := vfs.NewCrashableMem()
	for range lives {
		fs = w.live(t, fs)
		if t.Failed() {
			t.Fatalf("run again by: go test ./test/sim -seed %d", seed)
		}
	}
	w.rest(t, fs)
	if t.Failed() {
		t.Fatalf("run again by: go test ./test/sim -seed %d", seed)
	}
}

// live is one life of the server, up to its crash; it returns the disk after it.
func (w *world) live(t *testing.T, fs *vfs.MemFS) *vfs.MemFS {
	var after *vfs.MemFS
	dead := make(chan struct{})
	crashSeed, at := w.rand.Uint64(), 1+w.rand.Int64N(most)
	if w.rand.IntN(4) == 0 {
		at = 1 + w.rand.Int64N(40) // while it starts
	}
	d := newDisk(fs, at, func() {
		w.mu.Lock()
		w.crashed = true
		w.mu.Unlock()
		after = afterCrash(fs, crashSeed)
		close(dead)
	})
	w.crashed = false
	s, err := w.start(d)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	work := make(chan operation)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for op := range work {
				if err := op(s); err != nil {
					w.hear(func() { t.Errorf("operation: %v", err) })
				}
			}
		})
	}
	for crashed := false; !crashed; {
		select {
		case <-dead:
			crashed = true
		case work <- w.next():
			w.clock.Advance(100 * time.Millisecond)
		}
	}
	close(work)
	wg.Wait()
	if err := s.stop(); err != nil {
		t.Logf("stop after the crash: %v", err) // of no account
	}
	return after
}

// rest starts the server a last time, waits until nothing is to be done, and
// checks the world against the rows.
func (w *world) rest(t *testing.T, fs *vfs.MemFS) {
	w.crashed = false
	s, err := w.start(fs)
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	for end := time.Now().Add(30 * time.Second); ; {
		left := 0
		err := s.db.View(t.Context(), func(tx *store.Tx) error {
			left = 0
			for i := range 6 {
				n, err := s.outbox.Pending(tx, "", fmt.Sprintf("arn:aws:lambda:us-east-1:000000000000:function:f%d", i), 1000)
				if left += n; err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d events are left in the outbox", left)
		}
		w.clock.Advance(time.Second)
		time.Sleep(200 * time.Microsecond)
	}
	if err := s.db.View(context.Background(), func(tx *store.Tx) error { return w.check(t, tx) }); err != nil {
		t.Error(err)
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

func (w *world) check(t *testing.T, tx *store.Tx) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	there := map[string]bool{}
	for f, err := range facts.Scan(tx, store.Range{}) {
		if err != nil {
			return err
		}
		there[f.ID] = true
		if f.Target != "" && w.delivered[f.ID] == 0 && !w.deleted[f.Target] {
			t.Errorf("the event of %s was not delivered", f.ID)
		}
	}
	indexed := 0
	for _, err := range byTarget.Scan(tx, store.Range{}) {
		if err != nil {
			return err
		}
		indexed++
	}
	if indexed != len(there) {
		t.Errorf("%d rows, %d in the index", len(there), indexed)
	}
	for id := range w.acked {
		if !there[id] {
			t.Errorf("%s was acknowledged and is gone", id)
		}
	}
	for id := range w.delivered {
		if !there[id] {
			t.Errorf("the event of %s was delivered, its cause is gone", id)
		}
	}
	n := 0
	if c, err := counters.Get(tx, store.K("c")); err == nil {
		n = c.N
	}
	if n < w.increments.acked || n > w.increments.tried {
		t.Errorf("the counter is %d after %d increments were acknowledged of %d", n, w.increments.acked, w.increments.tried)
	}
	t.Logf("%d facts, %d acknowledged, %d delivered, counter %d", len(there), len(w.acked), len(w.delivered), n)
	return nil
}
