package daemon

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"skerry/internal/engine"
)

// attach answers POST /containers/{id}/attach. A container that does not run yet
// is waited for: docker run attaches before it starts, so that nothing is
// missed.
func (d *Daemon) attach(c *call) error {
	sub := d.bus.subscribe(time.Time{})
	defer sub.end()
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	cfg, _, err := row.config()
	if err != nil {
		return err
	}
	switch {
	case row.State == container.StatePaused:
		return conflict("container %s is paused, unpause the container before attach", c.vars["id"])
	case row.State == container.StateRestarting:
		return conflict("container %s is restarting, wait until the container is running", c.vars["id"])
	}
	read := sync.OnceFunc(d.readers.add(row.ID))
	defer read()
	from, err := d.attachFrom(c, row)
	if err != nil {
		return err
	}
	kind := multiplied
	if cfg.Tty {
		kind = rawStream
	}
	w, err := c.hijack(kind)
	if err != nil {
		return err
	}
	defer w.end()
	defer read() // the client has it all by then, in its socket
	d.tell(row, events.ActionAttach, nil)
	// The request's context knows nothing of a connection that was taken over.
	ctx, cancel := context.WithCancel(context.WithoutCancel(c.Context()))
	defer cancel()
	up := make(chan struct{})
	go func() {
		if err := d.attachInput(ctx, row.ID, cfg, c.flag("stdin") && cfg.OpenStdin, w, up); err != nil {
			cancel() // the client is gone
		}
	}()
	if !d.started(ctx, sub, row.ID) {
		return nil
	}
	close(up)
	d.attachOutput(ctx, c, row.ID, &mux{w: w, raw: cfg.Tty}, from)
	return nil
}

// attachFrom is where in the log an attachment begins: at its end, or at the
// beginning when the past is wanted too.
func (d *Daemon) attachFrom(c *call, row *containerRow) (engine.Cursor, error) {
	if c.flag("logs") {
		return 0, nil
	}
	st, err := d.engine.Inspect(c.Context(), engine.ID(row.ID))
	if errors.Is(err, engine.ErrNotFound) {
		return 0, nil // lost with the machine's last run: its log begins anew
	}
	return engine.Cursor(st.LogBytes), err
}

// started waits until a container runs, or has run since the subscription began;
// false when it will not, or ctx ends.
func (d *Daemon) started(ctx context.Context, sub *subscription, id string) bool {
	row, err := d.find(ctx, id)
	if err != nil {
		return false
	}
	for !row.running() {
		all, err := sub.next(ctx)
		if err != nil {
			return false
		}
		for _, h := range all {
			if h.Actor.ID != id {
				continue
			}
			switch h.Action {
			case events.ActionStart:
				return true // it may have ended since: what it wrote is in the log
			case events.ActionDie, events.ActionDestroy:
				return false // it could not be started
			}
		}
	}
	return true
}

// attachInput carries the client's input to the program once it is up, and
// returns an error when the client is gone. The end of the input is not that: a
// client may still listen.
func (d *Daemon) attachInput(ctx context.Context, id string, cfg *container.Config, wanted bool, w *wire, up <-chan struct{}) error {
	if !wanted {
		_, err := io.Copy(io.Discard, w)
		return err
	}
	buf := make([]byte, 32<<10)
	var in io.WriteCloser
	for {
		n, err := w.Read(buf)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if in == nil {
			select {
			case <-up:
			case <-ctx.Done():
				return ctx.Err()
			}
			var ierr error
			if in, ierr = d.engine.Input(ctx, engine.ID(id)); ierr != nil {
				d.log.Debug("docker: no input", "id", id, "err", ierr)
				return nil
			}
		}
		if _, werr := in.Write(buf[:n]); werr != nil {
			return nil // the program has ended, or has closed its input
		}
		if err != nil {
			if cfg.StdinOnce && !cfg.Tty {
				_ = in.Close() // the program may have ended
			}
			return nil
		}
	}
}

// attachOutput carries the program's output to the client until the program or
// the client ends.
func (d *Daemon) attachOutput(ctx context.Context, c *call, id string, m *mux, from engine.Cursor) {
	stdout, stderr := c.flag("stdout"), c.flag("stderr")
	if !c.flag("stream") && !c.flag("logs") {
		return
	}
	err := d.engine.Logs(ctx, engine.ID(id), engine.LogQuery{From: from, Follow: c.flag("stream")}, func(f engine.Frame) error {
		if f.Stream == engine.Stdout && !stdout || f.Stream == engine.Stderr && !stderr {
			return nil
		}
		return m.write(f.Stream, f.Data)
	})
	if err != nil && ctx.Err() == nil {
		d.log.Debug("docker: attachment ended", "id", id, "err", err)
	}
}
