package lambda

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/loop"
	"skerry/internal/store"
)

// The names of the loops.
const (
	loopStates = "lambda/states"
	loopFleet  = "lambda/fleet"
	loopAhead  = "lambda/ahead"
	loopRecord = "lambda/record"
)

const (
	idleLife    = 10 * time.Minute      // of a sandbox without work
	freezeAfter = 20 * time.Millisecond // of no work: less than it costs a busy function
	aheadLife   = time.Hour             // of interpreters started ahead that nobody wants
	maxRounds   = 50                    // of looking for sandboxes to freeze, in one run
	maxIdle     = 256                   // sandboxes; the ones used longest ago are ended
)

// Loops are the service's background work.
func (s *Service) Loops() []loop.Loop {
	return []loop.Loop{
		{Name: loopStates, Does: "unpacks the code of new and changed functions and makes them active", Period: time.Minute, Run: s.runStates},
		{Name: loopFleet, Does: "freezes sandboxes between invocations and ends those without work", Period: 15 * time.Second,
			Run: s.runFleet, Children: s.children},
		{Name: loopAhead, Does: "starts interpreters ahead of the functions that will need them", Period: time.Minute, Run: s.runAhead},
		{Name: "lambda/sweep", Does: "removes code that no function and no layer refers to", Period: time.Hour, Run: s.runSweep},
		{Name: loopRecord, Does: "writes functions' logs and what is billed", Period: time.Second, Run: s.runRecord},
	}
}

// runStates makes functions active whose code can be unpacked.
func (s *Service) runStates(ctx context.Context) (string, error) {
	var due []*versionRow
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		due = nil
		for v, err := range unsettled.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			due = append(due, v)
		}
		return nil
	})
	var faults []error
	for _, v := range due {
		_, _, err := s.codeMounts(ctx, v)
		if err == nil {
			// The first invocation need not wait for a session of the role. Without
			// one it tells why.
			_, _ = s.roleKey(ctx, v.ref(), v.Config.Role)
		}
		if err != nil && ours(err) {
			faults = append(faults, err) // the next run tries again
			continue
		}
		faults = append(faults, s.settleState(ctx, v, err))
	}
	return fmt.Sprintf("%d versions settled", len(due)), errors.Join(append(faults, err)...)
}

// ours tells the faults that are not the code's: it would be unpacked on a machine
// in order.
func ours(err error) bool {
	for _, f := range []error{context.Canceled, context.DeadlineExceeded, syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.EROFS,
		syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE} {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}

// settleState records what has become of a version, unless it has changed since.
func (s *Service) settleState(ctx context.Context, seen *versionRow, fault error) error {
	return s.Store.Update(ctx, func(tx *store.Tx) error {
		v, err := getVersion(tx, seen.ref(), seen.Number)
		if err != nil || v.Revision != seen.Revision {
			return nil
		}
		failed := fault != nil
		if v.State == statePending {
			v.State, v.StateReason, v.StateCode = stateActive, "", ""
			if failed {
				v.State, v.StateReason, v.StateCode = stateFailed, "The code cannot be unpacked.", "InvalidZipFileException"
			}
		}
		v.Update, v.UpdateReason, v.UpdateCode = updateSuccessful, "", ""
		if failed {
			v.Update, v.UpdateReason, v.UpdateCode = updateFailed, "The code cannot be unpacked.", "InvalidZipFileException"
		}
		return versions.Put(tx, v)
	})
}

// runFleet freezes and ends sandboxes, and clears away those that a former process
// has left.
func (s *Service) runFleet(ctx context.Context) (string, error) {
	if err := s.clearLeftovers(ctx); err != nil {
		return "", err
	}
	frozen, again := 0, true
	for range maxRounds {
		var n int
		if n, again = s.freezeIdle(ctx); !again {
			frozen += n
			break
		}
		frozen += n
		if err := clock.Sleep(ctx, s.Clock, freezeAfter); err != nil {
			return "", err
		}
	}
	ended := s.endIdle(ctx)
	if again {
		s.wake(loopFleet) // there is constant work: this goes on, after all the rest
	}
	return fmt.Sprintf("%d frozen, %d ended", frozen, ended), nil
}

// clearLeftovers removes, once, the sandboxes of a former process: what they
// listened to is gone with it.
func (s *Service) clearLeftovers(ctx context.Context) error {
	if s.cleared.Load() {
		return nil
	}
	all, err := s.Engine.List(ctx)
	if err != nil {
		return fmt.Errorf("lambda: list sandboxes: %w", err)
	}
	for _, c := range all {
		if c.Labels["service"] != "lambda" || !c.Created.Before(s.born) {
			continue
		}
		if err := s.Engine.Remove(ctx, c.ID); err != nil {
			return fmt.Errorf("lambda: remove %s: %w", c.ID, err)
		}
	}
	sides, _ := filepath.Glob(filepath.Join(s.Dir, "code", "*.*"))
	for _, d := range sides {
		if info, err := os.Stat(d); err == nil && info.ModTime().Before(s.born) {
			_ = os.RemoveAll(d)
		}
	}
	s.cleared.Store(true)
	return nil
}

// freezeIdle freezes what has had no work for a moment. again tells that there is
// some which had work just now.
func (s *Service) freezeIdle(ctx context.Context) (n int, again bool) {
	now := s.Clock.Now()
	var due []*sandbox
	s.fleet.mu.Lock()
	for _, list := range s.fleet.idle {
		for _, sb := range list {
			switch {
			case now.Sub(sb.used) < freezeAfter || !isClosed(sb.settled):
				again = again || !isClosed(sb.exited)
			case !isClosed(sb.exited):
				due = append(due, sb)
			}
		}
	}
	s.fleet.mu.Unlock()
	for _, sb := range due {
		if sb.isFrozen() {
			continue
		}
		if err := s.freeze(ctx, sb, true); err == nil {
			n++
		}
	}
	return n, again
}

func (sb *sandbox) isFrozen() bool {
	sb.freezing.Lock()
	defer sb.freezing.Unlock()
	return sb.frozen
}

// endIdle ends sandboxes that have had no work for long, whose key runs out, that
// have died, or of which there are too many.
func (s *Service) endIdle(ctx context.Context) int {
	now := s.Clock.Now()
	var due []*sandbox
	idle, oldest := 0, (*sandbox)(nil)
	s.fleet.mu.Lock()
	for k, list := range s.fleet.idle {
		keep := list[:0]
		for _, sb := range list {
			if isClosed(sb.settled) && (now.Sub(sb.used) > idleLife || sb.expires.Sub(now) < keyMargin || isClosed(sb.exited)) {
				due = append(due, sb)
				continue
			}
			keep = append(keep, sb)
			if idle++; oldest == nil || sb.used.Before(oldest.used) {
				oldest = sb
			}
		}
		s.fleet.idle[k] = keep
	}
	for k, list := range s.fleet.ahead {
		if now.Sub(s.fleet.wanted[k]) > aheadLife {
			due = append(due, list...)
			delete(s.fleet.ahead, k)
		}
	}
	s.fleet.mu.Unlock()
	if idle > maxIdle && oldest != nil {
		if sb := s.fleet.take(oldest.key, now); sb != nil {
			due = append(due, sb)
		}
	}
	for _, sb := range due {
		s.fleet.drop(sb)
		s.remove(ctx, sb)
	}
	return len(due)
}

// runAhead keeps interpreters ready for the accounts that have wanted some.
func (s *Service) runAhead(ctx context.Context) (string, error) {
	if s.Ahead == 0 {
		return "switched off", nil
	}
	now := s.Clock.Now()
	short := map[aheadKey]int{}
	s.fleet.mu.Lock()
	for k, at := range s.fleet.wanted {
		if now.Sub(at) > aheadLife {
			delete(s.fleet.wanted, k)
		} else if n := s.Ahead - len(s.fleet.ahead[k]); n > 0 {
			short[k] = n
		}
	}
	s.fleet.mu.Unlock()
	var faults []error
	started := 0
	for k, n := range short {
		for range n {
			if err := s.startAhead(ctx, k); err != nil {
				faults = append(faults, err)
				break
			}
			started++
		}
	}
	return fmt.Sprintf("%d started", started), errors.Join(faults...)
}
