//go:build linux && amd64

package embedded

import (
	"context"
	"fmt"
	"os"

	"skerry/internal/engine/embedded/protocol"
)

// isCurrent says that nobody has to look whether the supervisor is of this build.
func (d *Driver) isCurrent() bool {
	if !d.upgrade {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.current
}

// staleness is why a supervisor of another build goes on, if one does.
func (d *Driver) staleness() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stale
}

// renew has a running supervisor go on as this program, once: it does nothing if it
// is of this build. One that cannot serves all the same. It returns the connection,
// or another one; d.starting is held.
func (d *Driver) renew(ctx context.Context, c *protocol.Conn) (*protocol.Conn, error) {
	if d.isCurrent() {
		return c, nil
	}
	program, stale := os.Open(d.exe)
	if stale != nil {
		stale = fmt.Errorf("engine: %w", stale)
	} else {
		defer program.Close()
	}
	for tries := (tries{}); stale == nil; {
		err := c.Send(&protocol.Request{Op: protocol.OpUpgrade}, int(program.Fd()))
		var reply *protocol.Reply
		if err == nil {
			reply, _, err = receive(ctx, c)
		}
		if err == nil {
			stale = reply.Error.Err()
			break
		}
		again := tries.again(ctx, c, err)
		_ = c.Close()
		if !again {
			return nil, err
		}
		// another main's upgrade came first, or the supervisor has just ended
		if c, err = d.dial(); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.current, d.stale = true, stale
	return c, nil
}
