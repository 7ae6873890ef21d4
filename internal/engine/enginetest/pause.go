package enginetest

import (
	"context"
	"time"
)

// pause is the tick of scriptTick, a program that lives in real time.
func pause(ctx context.Context) error {
	select {
	case <-time.After(20 * time.Millisecond):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
