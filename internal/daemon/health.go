package daemon

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"skerry/internal/base/clock"
	"skerry/internal/engine"
)

// Docker's defaults and bounds of health checks.
const (
	checkInterval = 30 * time.Second
	checkTimeout  = 30 * time.Second
	checkRetries  = 3
	startInterval = 5 * time.Second
	keptChecks    = 5
	keptOutput    = 4096 // bytes of a check's output
)

// validateHealth refuses checks that make no sense.
func validateHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	for name, d := range map[string]time.Duration{"Interval": h.Interval, "Timeout": h.Timeout, "StartPeriod": h.StartPeriod, "StartInterval": h.StartInterval} {
		if d != 0 && d < container.MinimumDuration {
			return badRequest("%s in Healthcheck cannot be less than %s", name, container.MinimumDuration)
		}
	}
	if h.Retries < 0 {
		return badRequest("Retries in Healthcheck cannot be negative")
	}
	if len(h.Test) > 0 && (h.Test[0] == "CMD" || h.Test[0] == "CMD-SHELL") && len(h.Test) < 2 || len(h.Test) > 0 && h.Test[0] != "NONE" && h.Test[0] != "CMD" && h.Test[0] != "CMD-SHELL" {
		return badRequest("invalid test of Healthcheck: %q", h.Test)
	}
	return nil
}

// healthOf returns a container's health check with its defaults, or nil when it
// has none.
func healthOf(row *containerRow) *container.HealthConfig {
	c, _, err := row.config()
	if err != nil || c.Healthcheck == nil || len(c.Healthcheck.Test) == 0 || c.Healthcheck.Test[0] == "NONE" {
		return nil
	}
	h := *c.Healthcheck
	if h.Test[0] == "CMD-SHELL" {
		shell := c.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		h.Test = append(append([]string{}, shell...), h.Test[1])
	} else {
		h.Test = h.Test[1:]
	}
	for _, x := range []struct {
		at      *time.Duration
		without time.Duration
	}{{&h.Interval, checkInterval}, {&h.Timeout, checkTimeout}, {&h.StartInterval, startInterval}} {
		if *x.at == 0 {
			*x.at = x.without
		}
	}
	if h.Retries == 0 {
		h.Retries = checkRetries
	}
	return &h
}

func healthStatus(row *containerRow) container.HealthStatus {
	if row.Health == nil {
		return container.NoHealthcheck
	}
	return row.Health.Status
}

// check runs a container's health checks until the child is ended or the run is
// over.
func (d *Daemon) check(ctx context.Context, id string, h container.HealthConfig) error {
	for {
		row, err := d.find(ctx, id)
		if err != nil || !row.running() {
			return nil
		}
		wait := h.Interval
		if row.Health != nil && row.Health.Status == container.Starting && h.StartPeriod > 0 && d.clock.Now().Sub(row.Started) < h.StartPeriod {
			wait = min(wait, h.StartInterval)
		}
		if err := clock.Sleep(ctx, d.clock, wait); err != nil {
			return err
		}
		if row, err = d.find(ctx, id); err != nil || !row.running() {
			return nil
		}
		if row.State == container.StatePaused {
			continue
		}
		result := d.probe(ctx, id, &h)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := d.noteCheck(ctx, row, &h, result); err != nil {
			return err
		}
	}
}

// probe runs one check. Errors: none; what cannot be run has failed.
func (d *Daemon) probe(ctx context.Context, id string, h *container.HealthConfig) healthResult {
	limited, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	out := &bounded{limit: keptOutput}
	r := healthResult{Start: d.clock.Now()}
	exit, err := d.engine.Exec(limited, engine.ID(id), engine.ExecSpec{Command: h.Test}, engine.Streams{Stdout: out, Stderr: out})
	r.End, r.Code, r.Output = d.clock.Now(), exit.Code, out.String()
	switch {
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		r.Code, r.Output = -1, "Health check exceeded timeout ("+h.Timeout.String()+")"
	case err != nil:
		r.Code, r.Output = -1, execFault(err, h.Test[0])
	}
	return r
}

// noteCheck writes a result into the row, and tells when the health changed.
func (d *Daemon) noteCheck(ctx context.Context, of *containerRow, h *container.HealthConfig, r healthResult) error {
	changed := false
	row, err := d.note(ctx, of.ID, func(row *containerRow) error {
		changed = false
		if !row.running() || !row.Started.Equal(of.Started) || row.Health == nil {
			return nil // another run by now
		}
		before := row.Health.Status
		afterCheck(row.Health, r, h, r.Start.Sub(row.Started) < h.StartPeriod)
		changed = row.Health.Status != before
		return nil
	})
	if missing(err) {
		return nil
	}
	if err == nil && changed {
		d.tell(row, events.Action("health_status: "+string(row.Health.Status)), nil)
	}
	return err
}

// afterCheck decides what a result makes of a container's health: failures in
// the time of its start do not count.
func afterCheck(h *healthRow, r healthResult, cfg *container.HealthConfig, starting bool) {
	if h.Results = append(h.Results, r); len(h.Results) > keptChecks {
		h.Results = h.Results[1:]
	}
	if r.Code == 0 {
		h.Status, h.Streak = container.Healthy, 0
		return
	}
	if h.Status == container.Starting && starting {
		return
	}
	if h.Streak++; h.Streak >= cfg.Retries {
		h.Status = container.Unhealthy
	}
}

// bounded keeps the first bytes that are written. It is written to by two
// streams.
type bounded struct {
	guard keyed
	b     bytes.Buffer
	limit int
}

func (b *bounded) Write(p []byte) (int, error) {
	defer b.guard.lock("")()
	b.b.Write(p[:min(len(p), b.limit-b.b.Len())])
	return len(p), nil
}

func (b *bounded) String() string {
	defer b.guard.lock("")()
	return b.b.String()
}
