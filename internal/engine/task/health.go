package task

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/engine"
	"skerry/internal/store"
)

// maxHealthOutput is how much of a check's output is kept, in bytes.
const maxHealthOutput = 4096

// exitTimeout is the code of a check that took too long.
const exitTimeout = -1

func (h *HealthCheck) validate() error {
	if h == nil {
		return nil
	}
	switch {
	case len(h.Command) < 2 || h.Command[0] != "CMD" && h.Command[0] != "CMD-SHELL":
		return fmt.Errorf("a health check's command begins with CMD or CMD-SHELL")
	case h.Interval < 0 || h.Timeout < 0 || h.Retries < 0 || h.Start < 0:
		return fmt.Errorf("a health check with a negative time or number")
	}
	return nil
}

// filled returns the check with ECS's defaults.
func (h HealthCheck) filled() HealthCheck {
	if h.Interval == 0 {
		h.Interval = 30 * time.Second
	}
	if h.Timeout == 0 {
		h.Timeout = 5 * time.Second
	}
	if h.Retries == 0 {
		h.Retries = 3
	}
	return h
}

// program is what a check executes.
func (h *HealthCheck) program() []string {
	if h.Command[0] == "CMD-SHELL" {
		return []string{"/bin/sh", "-c", strings.Join(h.Command[1:], " ")}
	}
	return h.Command[1:]
}

// record takes in a check that began at a time.
func (r *healthRow) record(h HealthCheck, at time.Time, code int, output string) {
	before := r.Health
	r.Code, r.Output = code, output
	switch {
	case code == 0:
		r.Health, r.Failing = Healthy, 0
	case r.Health == Unknown && at.Before(r.Run.Add(h.Start)): // it is still starting
	default:
		if r.Failing++; r.Failing >= h.Retries {
			r.Health, r.Failing = Unhealthy, h.Retries
		}
	}
	if r.Health != before {
		r.Since = at
	}
}

// check runs a container's health checks, as a child of the loop, until it ends.
func (r *Runner) check(ctx context.Context, t *Task, c *Container, run time.Time) error {
	h := c.Health.filled()
	key := store.K(string(t.ID), c.Name)
	var row *healthRow
	if err := r.Store.View(ctx, func(tx *store.Tx) (err error) {
		row, err = get(tx, healths, key)
		return err
	}); err != nil {
		return err
	}
	if row == nil || !row.Run.Equal(run) {
		row = &healthRow{Task: t.ID, Name: c.Name, Run: run, Health: Unknown}
	}
	for {
		if err := clock.Sleep(ctx, r.Clock, h.Interval); err != nil {
			return nil
		}
		at := r.Clock.Now()
		code, output, err := r.probe(ctx, containerID(t.ID, c.Name), h)
		if err != nil || ctx.Err() != nil {
			return nil // it has ended: the next step sees how
		}
		was := *row
		row.record(h, at, code, output)
		if was.Health == row.Health && was.Failing == row.Failing {
			continue
		}
		if err := r.saveHealth(ctx, row); err != nil {
			return err
		}
	}
}

// probe runs one check. Its error says that there is nothing to be checked.
func (r *Runner) probe(ctx context.Context, id engine.ID, h HealthCheck) (code int, output string, err error) {
	limit, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	var out capped
	exit, err := r.Engine.Exec(limit, id, engine.ExecSpec{Command: h.program()}, engine.Streams{Stdout: &out, Stderr: &out})
	var fault *engine.StartError
	switch {
	case limit.Err() != nil && ctx.Err() == nil:
		return exitTimeout, fmt.Sprintf("Health check exceeded timeout (%v)", h.Timeout), nil
	case errors.As(err, &fault):
		code, reason := startFault(err)
		return *code, "OCI runtime exec failed: " + reason, nil
	case gone(err):
		return 0, "", err
	case err != nil:
		return exitTimeout, err.Error(), nil
	}
	return exit.Code, strings.ToValidUTF8(out.String(), "\uFFFD"), nil
}

// capped keeps the beginning of what is written to it.
type capped struct{ strings.Builder }

// Write implements io.Writer.
func (c *capped) Write(b []byte) (int, error) {
	if room := maxHealthOutput - c.Len(); room > 0 {
		c.Builder.Write(b[:min(room, len(b))])
	}
	return len(b), nil
}

// saveHealth writes what has changed, and tells the owner and those who wait.
func (r *Runner) saveHealth(ctx context.Context, h *healthRow) error {
	return r.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := get(tx, tasks, store.K(string(h.Task)))
		if err != nil || row == nil {
			return err
		}
		row.Version++
		if err := errors.Join(tasks.Put(tx, row), healths.Put(tx, h)); err != nil {
			return err
		}
		all, err := load(tx, h.Task)
		if err != nil {
			return err
		}
		tx.OnCommit(func() { r.poke(h.Task) })
		return r.changed(tx, all.status())
	})
}
