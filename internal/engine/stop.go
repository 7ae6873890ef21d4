package engine

import (
	"context"
	"errors"
	"syscall"
	"time"
)

// Stop ends a container and returns its exit: it sends the signal (zero is
// SIGTERM), and SIGKILL when the container has not exited within the timeout.
// A negative timeout waits without end. A container that has exited is stopped
// already; one that was never started is ErrState.
func Stop(ctx context.Context, e Engine, id ID, sig syscall.Signal, timeout time.Duration) (Exit, error) {
	if sig == 0 {
		sig = syscall.SIGTERM
	}
	if err := e.Signal(ctx, id, sig); errors.Is(err, ErrState) {
		st, e := e.Inspect(ctx, id)
		if e == nil && st.Exit != nil {
			return *st.Exit, nil
		}
		return Exit{}, errors.Join(err, e)
	} else if err != nil {
		return Exit{}, err
	}
	if timeout < 0 {
		return e.Wait(ctx, id)
	}
	patient, cancel := context.WithTimeout(ctx, timeout)
	exit, err := e.Wait(patient, id)
	cancel()
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return exit, err
	}
	if err := e.Signal(ctx, id, syscall.SIGKILL); err != nil && !errors.Is(err, ErrState) {
		return Exit{}, err // ErrState: it has exited after all
	}
	return e.Wait(ctx, id)
}
