package lambda

import (
	"context"
	"runtime"
)

// A machine has as many processors as it has: sandboxes that all initialise at
// once would take so long that none is ready within the ten seconds that it has,
// and the second try fares no better. So only some do; an invocation that comes
// meanwhile waits for its turn, or for a sandbox of its function that is done with
// its work, whichever is first. Its function's time does not run yet.

// initialising is how many sandboxes may initialise at once.
func initialising() int { return 2 * runtime.NumCPU() }

// warmOrTurn waits until there is a warm sandbox to take, or it is the caller's
// turn to start one; then it must call turnOver.
func (s *Service) warmOrTurn(ctx context.Context, k fleetKey) (*sandbox, error) {
	f := s.fleet
	for {
		f.mu.Lock()
		changed := f.changed // before looking, so that no change is missed
		f.mu.Unlock()
		if sb := f.take(k, s.Clock.Now()); sb != nil {
			return sb, nil
		}
		f.mu.Lock()
		turn := f.starting < initialising()
		if turn {
			f.starting++
		}
		f.mu.Unlock()
		if turn {
			return nil, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// turnOver is the end of a caller's turn.
func (f *fleet) turnOver() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starting--
	f.tell()
}

// tell wakes those that wait for a turn or a sandbox. f.mu is held.
func (f *fleet) tell() {
	close(f.changed)
	f.changed = make(chan struct{})
}
