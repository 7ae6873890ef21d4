package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"

	"skerry/internal/base/clock"
	"skerry/internal/engine"
	"skerry/internal/loop"
	"skerry/internal/store"
)

// Loops returns the daemon's background work; that of no daemon is none.
func (d *Daemon) Loops() []loop.Loop {
	if d == nil {
		return nil
	}
	return []loop.Loop{
		{
			Name: containerLoop, Does: "follows what containers do, starts them again, checks their health", Period: 10 * time.Second,
			Run: d.settle, Children: d.keepers,
		},
		{
			Name: execLoop, Does: "runs the programs of docker exec, forgets those of containers that ended", Period: 10 * time.Minute,
			Run: d.sweepExecs, Children: d.running,
		},
	}
}

// settle compares the rows with the engine's containers, and has a child for
// all that has to be watched. Exits come through the first child, which follows
// the engine's events; here they are found only after the server was away.
func (d *Daemon) settle(ctx context.Context) (string, error) {
	if err := d.writeLate(ctx); err != nil {
		return "", err
	}
	rows, err := d.all(ctx)
	if err != nil {
		return "", err
	}
	want := map[string]func(context.Context) error{}
	var faults []error
	if len(rows) > 0 || d.keepers.Has("events") {
		statuses, err := d.engine.List(ctx)
		if err != nil {
			return "", err
		}
		there := map[string]engine.Status{}
		for _, s := range statuses {
			if s.Labels[owned] != "" {
				there[string(s.ID)] = s
			}
		}
		for _, row := range rows {
			if row.Relinking {
				faults = append(faults, d.finishRelink(ctx, row.ID))
			}
			if err := d.compare(ctx, row, there); err != nil && !missing(err) { // missing: removed meanwhile
				faults = append(faults, fmt.Errorf("container %.12s: %w", row.ID, err))
			}
			delete(there, row.ID)
		}
		for id := range there { // no row: the rows were erased, or the last step of a removal was missed
			if ok, err := d.exists(ctx, id); err == nil && !ok {
				faults = append(faults, d.engine.Remove(ctx, engine.ID(id)))
			}
		}
		if rows, err = d.all(ctx); err != nil {
			return "", err
		}
		want["events"] = d.follow
	}
	d.boot.Do(func() { d.revive(ctx, rows) })
	running := 0
	for _, row := range rows {
		id := row.ID
		if key := namesKey(id); row.Net.Mode == modeBridge && (row.running() || d.keepers.Has(key)) {
			want[key] = func(ctx context.Context) error { return d.keepNames(ctx, row) }
		}
		switch {
		case row.Removing:
			want["remove "+id] = func(ctx context.Context) error { return d.finish(ctx, id) }
		case row.State == container.StateRestarting:
			want["restart "+id] = func(ctx context.Context) error { return d.startLater(ctx, id) }
		case row.running():
			running++
			if hc := healthOf(row); hc != nil {
				want["health "+id] = func(ctx context.Context) error { return d.check(ctx, id, *hc) }
			}
		}
	}
	d.keepers.Want(want)
	return fmt.Sprintf("%d containers, %d running", len(rows), running), errors.Join(faults...)
}

// compare brings one row up to what the engine says.
func (d *Daemon) compare(ctx context.Context, row *containerRow, there map[string]engine.Status) error {
	st, ok := there[row.ID]
	switch {
	case row.running() && !ok:
		// It may have been made after the list was: ask once more.
		if _, err := d.engine.Inspect(ctx, engine.ID(row.ID)); !errors.Is(err, engine.ErrNotFound) {
			return err
		}
		d.keepers.End(namesKey(row.ID))
		return d.exited(ctx, row.ID, engine.Exit{Code: lostCode, Reason: "lost with the machine's last run", Started: row.Started, Finished: d.clock.Now()})
	case row.running() && st.State == engine.Exited && st.Exit != nil:
		return d.exited(ctx, row.ID, *st.Exit)
	case row.State == container.StateRunning && st.State == engine.Frozen:
		return d.letGo(ctx, row.ID)
	case !row.running() && (st.State == engine.Running || st.State == engine.Frozen):
		return d.adopt(ctx, row.ID)
	}
	return nil
}

// lostCode is the exit code of a container of which no more is known, Docker's.
const lostCode = 255

// adopt notes a start whose row was not written before the server ended.
func (d *Daemon) adopt(ctx context.Context, id string) error {
	defer d.locks.lock(id)()
	st, err := d.engine.Inspect(ctx, engine.ID(id))
	if err != nil || st.State != engine.Running {
		return err
	}
	_, err = d.note(ctx, id, func(row *containerRow) error {
		if !row.running() {
			row.State, row.Started, row.Error = container.StateRunning, st.Started, ""
		}
		return nil
	})
	return err
}

// revive starts, once after the server's start, the containers with the policy
// always that a client had stopped, as Docker does.
func (d *Daemon) revive(ctx context.Context, rows []*containerRow) {
	for _, row := range rows {
		_, h, err := row.config()
		if err != nil || !row.Stopped || row.Removing || row.State != container.StateExited || h.RestartPolicy.Name != container.RestartPolicyAlways {
			continue
		}
		if err := d.start(ctx, row.ID, false); err != nil {
			d.log.Warn("docker: cannot start a container again", "id", row.ID, "err", err)
		}
	}
}

// follow reads the engine's events until the child is ended.
func (d *Daemon) follow(ctx context.Context) error {
	var at engine.Cursor
	for {
		err := d.engine.Events(ctx, at, func(e engine.Event) error {
			at = e.Cursor
			if e.Kind == engine.EventExited && e.Exit != nil && e.Labels[owned] != "" {
				if err := d.exited(ctx, string(e.ID), *e.Exit); err != nil && ctx.Err() == nil {
					d.log.Warn("docker: cannot note an exit", "id", e.ID, "err", err)
				}
			}
			return nil
		})
		if ctx.Err() != nil || errors.Is(err, engine.ErrUnsupported) {
			return err
		}
		// The supervisor has ended: the next one tells of what was lost.
		if err := clock.Sleep(ctx, d.clock, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// exited notes the end of a run, once, and does what comes of it.
func (d *Daemon) exited(ctx context.Context, id string, exit engine.Exit) error {
	defer d.locks.lock(id)()
	var (
		now  = d.clock.Now()
		news bool
		kept = d.locks.holds(id + holdSuffix)
	)
	row, err := d.note(ctx, id, func(row *containerRow) error {
		news = row.running() && !exit.Finished.Before(row.Started)
		if !news {
			return nil
		}
		return afterExit(row, exit, now, kept)
	})
	if missing(err) || err == nil && !news {
		return nil
	}
	if err != nil {
		return err
	}
	d.tellExit(row, row.State != container.StateRestarting)
	if row.Removing {
		d.keepers.Start("remove "+id, func(ctx context.Context) error { return d.finish(ctx, id) })
	}
	d.wake(containerLoop)
	return d.endExecs(ctx, id)
}

// The waits between restarts: doubled each time, and begun anew after a run that
// lasted.
const (
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = time.Minute
	lasting      = 10 * time.Second
)

// afterExit writes an exit into a row and decides what becomes of the container:
// exited, restarting by its policy, or to be removed. kept says that a client is
// about to start it again.
func afterExit(row *containerRow, exit engine.Exit, now time.Time, kept bool) error {
	_, h, err := row.config()
	if err != nil {
		return err
	}
	row.State, row.Finished, row.ExitCode, row.OOM, row.Error = container.StateExited, exit.Finished, exit.Code, exit.OOM, exit.Reason
	if row.ExitCode < 0 {
		row.ExitCode = lostCode
	}
	if kept {
		return nil
	}
	if wantsRestart(row, h.RestartPolicy) {
		if row.Backoff *= 2; row.Backoff == 0 || exit.Finished.Sub(row.Started) > lasting {
			row.Backoff = firstBackoff
		}
		row.Backoff = min(row.Backoff, lastBackoff)
		row.State, row.RestartAt = container.StateRestarting, now.Add(row.Backoff)
		row.Restarts++
		return nil
	}
	if h.AutoRemove {
		row.Removing, row.Volumes = true, true
	}
	return nil
}

func wantsRestart(row *containerRow, p container.RestartPolicy) bool {
	switch {
	case row.Stopped || row.Removing:
		return false
	case p.IsAlways(), p.IsUnlessStopped():
		return true
	case p.IsOnFailure():
		return row.ExitCode != 0 && (p.MaximumRetryCount == 0 || row.Restarts < p.MaximumRetryCount)
	}
	return false
}

// startLater waits until a restart is due.
func (d *Daemon) startLater(ctx context.Context, id string) error {
	row, err := d.find(ctx, id)
	if err != nil || row.State != container.StateRestarting {
		return nil
	}
	if err := clock.Sleep(ctx, d.clock, row.RestartAt.Sub(d.clock.Now())); err != nil {
		return err
	}
	if err := d.start(ctx, id, true); err != nil && !errors.Is(err, errNotModified) {
		d.log.Warn("docker: cannot start a container again", "id", id, "err", err)
	}
	return nil
}

// holdSuffix makes the key that is held while a client restarts a container.
const holdSuffix = " restart"

// holding says that a container is about to be started again, so that --rm does
// not remove it.
func (d *Daemon) holding(id string, on bool) {
	d.locks.hold(id+holdSuffix, on)
}

// sweepExecs ends what is left of execs when nothing runs them any more: the
// server was killed meanwhile, or the disk had no room for their end.
func (d *Daemon) sweepExecs(ctx context.Context) (string, error) {
	n, late := 0, d.terms.late()
	err := d.db.Update(ctx, func(tx *store.Tx) error {
		n = 0
		for row, err := range execs.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			code, ended := late[row.ID]
			if row.Running && (ended || !d.running.Has(row.ID) && !d.terms.has(row.ID)) {
				row.Running = false
				if ended {
					row.Exit = &code
				} else {
					n++
				}
				if err := execs.Put(tx, row); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	d.terms.forget(late)
	if n == 0 {
		return "", nil
	}
	return strings.Join([]string{fmt.Sprint(n), "programs are lost"}, " "), nil
}
