package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// The waits of a stop.
const (
	stopTime = 10 * time.Second // Docker's default
	killTime = time.Second      // for a container that was killed to have ended
	kills    = 10
)

// startContainer answers POST /containers/{id}/start.
func (d *Daemon) startContainer(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	if c.ContentLength > 2 { // "{}" is sent by some clients
		return badRequest("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
	}
	if err := d.start(c.Context(), row.ID, false); err != nil {
		return err
	}
	return c.done()
}

// start runs a container, for the first time or again. A start that was begun
// is ended, whether or not the client stays. again says that its policy wants
// it.
func (d *Daemon) start(ctx context.Context, id string, again bool) error {
	ctx = context.WithoutCancel(ctx)
	defer d.locks.lock(id)()
	row, err := d.find(ctx, id)
	switch {
	case err != nil:
		return err
	case again && row.State != container.StateRestarting:
		return nil // a client was here first
	case row.Removing:
		return conflict("container is marked for removal and cannot be started")
	case row.State == container.StatePaused:
		return conflict("cannot start a paused container, try unpause instead")
	case row.running():
		return errNotModified
	}
	if row, err = d.rejoin(ctx, row); err != nil {
		return err
	}
	if err := d.run(ctx, row); err != nil {
		return d.startFailed(ctx, row, err)
	}
	st, err := d.engine.Inspect(ctx, engine.ID(id))
	if err != nil {
		return err
	}
	row, err = d.note(ctx, id, func(row *containerRow) error {
		row.State, row.Started, row.Stopped, row.ExitCode, row.OOM, row.Error = container.StateRunning, st.Started, false, 0, false, ""
		row.RestartAt, row.Health = time.Time{}, nil
		if hc := healthOf(row); hc != nil {
			row.Health = &healthRow{Status: container.Starting}
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.tellNets(row, events.ActionConnect)
	d.tell(row, events.ActionStart, nil)
	d.wake(containerLoop)
	return nil
}

// run has the engine start a container. One that the engine has lost, with the
// machine's last run, is made again.
func (d *Daemon) run(ctx context.Context, row *containerRow) error {
	if err := errors.Join(d.checkVolumes(ctx, row), d.checkLinks(ctx, row)); err != nil {
		return err
	}
	err := d.launch(ctx, row)
	if !errors.Is(err, engine.ErrNotFound) {
		return err
	}
	spec, err := row.spec()
	if err != nil {
		return err
	}
	if err := d.sharedNetwork(ctx, row, &spec.Network); err != nil {
		return err
	}
	if _, err = d.engine.Create(ctx, spec); err != nil {
		return err
	}
	return d.launch(ctx, row)
}

// launch starts a container once its names are resolved; with an engine that
// opens no sockets in one that has exited, right after.
func (d *Daemon) launch(ctx context.Context, row *containerRow) error {
	early := d.openNames(ctx, row)
	if early != nil && !errors.Is(early, engine.ErrState) {
		return early
	}
	if err := d.engine.Start(ctx, engine.ID(row.ID)); err != nil || early == nil {
		return err
	}
	if err := d.openNames(ctx, row); err != nil && !errors.Is(err, engine.ErrState) { // ErrState: it has ended
		return err
	}
	return nil
}

// startFailed notes why a container could not be started, in the words that
// docker run derives its exit code from.
func (d *Daemon) startFailed(ctx context.Context, row *containerRow, cause error) error {
	code, text := 128, cause.Error()
	var s *engine.StartError
	if errors.As(cause, &s) {
		switch s.Err {
		case syscall.ENOENT, syscall.ENOTDIR:
			code, text = 127, fmt.Sprintf("exec: %q: executable file not found in $PATH", s.Path)
			if strings.Contains(s.Path, "/") {
				text = fmt.Sprintf("exec: %q: stat %s: no such file or directory", s.Path, s.Path)
			}
		default:
			code, text = 126, fmt.Sprintf("exec: %q: %s", s.Path, s.Err)
		}
		if s.Step == "chdir" {
			text = fmt.Sprintf("chdir to cwd (%q) set in config.json failed: %s", s.Path, s.Err)
		}
		text = "failed to create task for container: unable to start container process: " + text
	}
	row, err := d.note(ctx, row.ID, func(row *containerRow) error {
		row.ExitCode, row.Error = code, text
		if row.State == container.StateRestarting {
			row.State = container.StateExited
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.bus.publish(happening{Message: containerMessage(row, events.ActionDie, map[string]string{"exitCode": strconv.Itoa(code)}), code: code, final: true})
	if _, h, err := row.config(); err == nil && h.AutoRemove {
		if err := d.drop(ctx, row, true); err != nil {
			d.log.Warn("docker: cannot remove a container", "id", row.ID, "err", err)
		}
	}
	if s != nil {
		return &fault{http.StatusBadRequest, text}
	}
	return cause
}

// stopContainer answers POST /containers/{id}/stop.
func (d *Daemon) stopContainer(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	if !row.running() && row.State != container.StateRestarting {
		return errNotModified
	}
	if err := d.stopAs(c, row); err != nil {
		return err
	}
	return c.done()
}

// stopAs stops with the signal and the time that the query says.
func (d *Daemon) stopAs(c *call, row *containerRow) error {
	cfg, _, err := row.config()
	if err != nil {
		return err
	}
	name, patience := cfg.StopSignal, stopTime
	if cfg.StopTimeout != nil {
		patience = time.Duration(*cfg.StopTimeout) * time.Second
	}
	if text := c.query.Get("signal"); text != "" {
		name = text
	}
	if c.query.Get("t") != "" {
		t, err := c.number("t", 0)
		if err != nil {
			return err
		}
		patience = time.Duration(t) * time.Second
	}
	sig := syscall.SIGTERM
	if name != "" {
		if sig, err = signalOf(name); err != nil {
			return err
		}
	}
	return d.stop(c.Context(), row.ID, sig, patience)
}

// stop ends a container's run: by a signal, and by SIGKILL when the time is
// over; less than none is without end.
func (d *Daemon) stop(ctx context.Context, id string, sig syscall.Signal, patience time.Duration) error {
	sub := d.bus.subscribe(time.Time{})
	defer sub.end()
	row, err := d.markStopped(ctx, id)
	if err != nil || !row.running() {
		return err
	}
	if row.State == container.StatePaused {
		if err := d.engine.Freeze(ctx, engine.ID(id), false); err != nil && !errors.Is(err, engine.ErrState) {
			return err
		}
	}
	if err := d.signal(ctx, id, sig); err != nil {
		return err
	}
	gone, err := d.gone(ctx, sub, row, patience)
	if err == nil && !gone {
		gone, err = d.kill(ctx, sub, row)
	}
	if err != nil || !gone {
		return errors.Join(err, fmt.Errorf("daemon: the end of container %s was not noted", id))
	}
	d.tell(row, events.ActionStop, nil)
	return nil
}

// markStopped notes that a client wants the container stopped, which ends the
// waiting of its restart policy.
func (d *Daemon) markStopped(ctx context.Context, id string) (*containerRow, error) {
	defer d.locks.lock(id)()
	return d.note(ctx, id, func(row *containerRow) error {
		row.Stopped = true
		if row.State == container.StateRestarting {
			row.State, row.RestartAt = container.StateExited, time.Time{}
		}
		return nil
	})
}

// signal sends one; a container that has ended meanwhile is no fault.
func (d *Daemon) signal(ctx context.Context, id string, sig syscall.Signal) error {
	err := d.engine.Signal(ctx, engine.ID(id), sig)
	if errors.Is(err, engine.ErrState) || errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	return err
}

// kill ends a run of a container; false when that took too long. A client that
// pauses the container at the same moment holds back its end, until it is killed
// again.
func (d *Daemon) kill(ctx context.Context, sub *subscription, run *containerRow) (gone bool, err error) {
	for range kills {
		if err := d.signal(ctx, run.ID, syscall.SIGKILL); err != nil {
			return false, err
		}
		if gone, err = d.gone(ctx, sub, run, killTime); gone || err != nil {
			break
		}
	}
	return gone, err
}

// gone waits until a run of a container is over, as its row says, whether or not
// there is another by then; false when that took longer than the patience, which
// has no end when it is less than none.
func (d *Daemon) gone(ctx context.Context, sub *subscription, run *containerRow, patience time.Duration) (bool, error) {
	waiting := ctx
	if patience >= 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, patience)
		defer cancel()
	}
	for {
		row, err := d.find(ctx, run.ID)
		if missing(err) {
			return true, nil
		}
		if err != nil || !row.running() || !row.Started.Equal(run.Started) {
			return err == nil, err
		}
		if _, err := sub.next(waiting); err != nil {
			if ctx.Err() == nil && waiting.Err() != nil {
				return false, nil
			}
			return false, err
		}
	}
}

// restartContainer answers POST /containers/{id}/restart.
func (d *Daemon) restartContainer(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	if row.running() || row.State == container.StateRestarting {
		d.holding(row.ID, true) // --rm waits for the end of the next run
		err = d.stopAs(c, row)
		if err == nil {
			err = d.start(c.Context(), row.ID, false)
		}
		d.holding(row.ID, false)
	} else {
		err = d.start(c.Context(), row.ID, false)
	}
	if err != nil && !errors.Is(err, errNotModified) {
		return err
	}
	d.tell(row, events.ActionRestart, nil)
	return c.done()
}

// killContainer answers POST /containers/{id}/kill.
func (d *Daemon) killContainer(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	sig := syscall.SIGKILL
	if text := c.query.Get("signal"); text != "" {
		if sig, err = signalOf(text); err != nil {
			return err
		}
	}
	if !row.running() {
		return conflict("cannot kill container: %s: container %s is not running", c.vars["id"], row.ID)
	}
	cfg, _, err := row.config()
	if err != nil {
		return err
	}
	if end, _ := signalOf(cfg.StopSignal); sig == syscall.SIGKILL || sig == end || cfg.StopSignal == "" && sig == syscall.SIGTERM {
		if _, err := d.markStopped(c.Context(), row.ID); err != nil {
			return err
		}
	}
	sub := d.bus.subscribe(time.Time{})
	defer sub.end()
	if err := d.signal(c.Context(), row.ID, sig); err != nil {
		return err
	}
	d.tell(row, events.ActionKill, map[string]string{"signal": strconv.Itoa(int(sig))})
	if sig == syscall.SIGKILL {
		gone, err := d.gone(c.Context(), sub, row, killTime)
		if err == nil && !gone {
			_, err = d.kill(c.Context(), sub, row)
		}
		if err != nil {
			return err
		}
	}
	return c.done()
}

// signalOf reads a signal's name or number.
func signalOf(text string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(text); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n), nil
	}
	name := strings.TrimPrefix(strings.ToUpper(text), "SIG")
	if sig := unix.SignalNum("SIG" + name); sig != 0 {
		return sig, nil
	}
	if base, n, ok := strings.Cut(name, "RTMIN+"); ok && base == "" {
		if k, err := strconv.Atoi(n); err == nil && k >= 0 && k <= 30 {
			return syscall.Signal(34 + k), nil
		}
	}
	return 0, badRequest("Invalid signal: %s", text)
}

// pauseContainer answers POST /containers/{id}/pause.
func (d *Daemon) pauseContainer(c *call) error { return d.freeze(c, true) }

// unpauseContainer answers POST /containers/{id}/unpause.
func (d *Daemon) unpauseContainer(c *call) error { return d.freeze(c, false) }

func (d *Daemon) freeze(c *call, frozen bool) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	ctx := context.WithoutCancel(c.Context())
	defer d.locks.lock(row.ID)()
	row, err = d.note(ctx, row.ID, func(row *containerRow) error {
		switch {
		case frozen && !row.running():
			return conflict("Container %s is not running", row.ID)
		case frozen && row.State == container.StatePaused:
			return conflict("Container %s is already paused", row.ID)
		case !frozen && row.State != container.StatePaused:
			return conflict("Container %s is not paused", row.ID)
		}
		if err := d.engine.Freeze(ctx, engine.ID(row.ID), frozen); err != nil { // idempotent, so it may run twice
			return err
		}
		row.State = container.StateRunning
		if frozen {
			row.State = container.StatePaused
		}
		return nil
	})
	if err != nil {
		return err
	}
	if frozen {
		d.tell(row, events.ActionPause, nil)
	} else {
		d.tell(row, events.ActionUnPause, nil)
	}
	return c.done()
}

// waitContainer answers POST /containers/{id}/wait. Its head is sent at once,
// so that a client knows that nothing will be missed.
func (d *Daemon) waitContainer(c *call) error {
	condition := container.WaitCondition(c.query.Get("condition"))
	switch condition {
	case "", container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return badRequest("invalid condition: %q", condition)
	}
	sub := d.bus.subscribe(time.Time{})
	defer sub.end()
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	out := c.stream("application/json")
	code := row.ExitCode
	over := !row.running() && row.State != container.StateRestarting && (condition == "" || condition == container.WaitConditionNotRunning)
	for !over {
		all, err := sub.next(c.Context())
		if err != nil {
			return err
		}
		for _, h := range all {
			if h.Type != events.ContainerEventType || h.Actor.ID != row.ID {
				continue
			}
			switch h.Action {
			case events.ActionDie:
				code = h.code
				over = over || h.final && condition != container.WaitConditionRemoved
			case events.ActionDestroy:
				over = true
			}
		}
	}
	_, err = fmt.Fprintf(out, "{\"StatusCode\":%d}\n", code)
	return err
}

// resizeContainer answers POST /containers/{id}/resize.
func (d *Daemon) resizeContainer(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	size, err := c.size()
	if err != nil {
		return err
	}
	if !row.running() {
		return conflict("container %s is not running", row.ID)
	}
	if err := d.engine.Resize(c.Context(), engine.ID(row.ID), size); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// size reads a terminal's size off the query.
func (c *call) size() (engine.Size, error) {
	h, err := strconv.ParseUint(c.query.Get("h"), 10, 16)
	w, werr := strconv.ParseUint(c.query.Get("w"), 10, 16)
	if err != nil || werr != nil {
		return engine.Size{}, badRequest("invalid size of a terminal")
	}
	return engine.Size{Rows: uint16(h), Columns: uint16(w)}, nil
}
