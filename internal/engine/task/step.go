package task

import (
	"context"
	"errors"
	"reflect"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// step brings a task as far as it goes now. One child at a time does so for a
// task.
func (r *Runner) step(ctx context.Context, id engine.ID) error {
	for ctx.Err() == nil {
		v := &view{}
		err := r.Store.View(ctx, func(tx *store.Tx) (err error) {
			v.rows, err = load(tx, id)
			return err
		})
		if errors.Is(err, store.ErrNotFound) || err == nil && v.task.State == Stopped {
			r.forget(id)
			return nil
		}
		if err != nil {
			return err
		}
		before := v.rows.copy()
		if err := r.rounds(ctx, v); err != nil {
			return err
		}
		again, err := r.commit(ctx, v, before)
		if err != nil {
			return err
		}
		r.attend(ctx, v)
		if !again && !v.hold {
			break
		}
	}
	return nil
}

// rounds looks and acts until there is nothing to be done without waiting.
func (r *Runner) rounds(ctx context.Context, v *view) error {
	for range maxRounds {
		if err := r.look(ctx, v); err != nil {
			return err
		}
		v.observe()
		todo, again := v.plan()
		v.task.Due = again
		if len(todo) == 0 {
			break
		}
		for _, a := range todo {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := r.apply(ctx, v, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// look asks the engine about the task's containers.
func (r *Runner) look(ctx context.Context, v *view) error {
	r.mu.Lock()
	known := r.mu.known[v.task.ID]
	r.mu.Unlock()
	v.now, v.seen = r.Clock.Now(), map[string]seen{}
	for _, c := range v.containers {
		var s seen
		key := childName("pull", string(v.task.ID), c.Name)
		s.pulling = r.children.Has(key)
		r.mu.Lock()
		s.pull = r.mu.pulls[key]
		r.mu.Unlock()
		if known && (c.State == ContainerPending || c.State == ContainerPulled) {
			v.seen[c.Name] = s // nobody else makes any
			continue
		}
		st, err := r.Engine.Inspect(ctx, containerID(v.task.ID, c.Name))
		if err != nil && !errors.Is(err, engine.ErrNotFound) {
			return err
		}
		if err == nil {
			s.there, s.state, s.started, s.exit, s.address, s.ports = true, st.State, st.Started, st.Exit, st.Address, st.Ports
		}
		v.seen[c.Name] = s
	}
	r.mu.Lock()
	r.mu.known[v.task.ID] = true
	r.mu.Unlock()
	return nil
}

// copy copies what a step may change.
func (r *rows) copy() *rows {
	t := *r.task
	c := &rows{spec: r.spec, task: &t}
	for _, row := range r.containers {
		row := *row
		c.containers = append(c.containers, &row)
	}
	return c
}

// commit writes what has changed, and tells the owner. again says that the owner
// has changed something meanwhile.
func (r *Runner) commit(ctx context.Context, v *view, before *rows) (again bool, err error) {
	same := len(v.trail) == 0 && reflect.DeepEqual(v.task, before.task)
	var changed []*containerRow
	for i, c := range v.containers {
		if !reflect.DeepEqual(c, before.containers[i]) {
			changed = append(changed, c)
		}
	}
	quiet := before.copy().task // what nobody needs to be told of
	quiet.Due = v.task.Due
	tell := len(changed) > 0 || !reflect.DeepEqual(v.task, quiet)
	if same && len(changed) == 0 {
		return false, nil
	}
	err = r.Store.Update(ctx, func(tx *store.Tx) error {
		stored, err := tasks.Get(tx, store.K(string(v.task.ID)))
		if err != nil {
			return err
		}
		row := *v.task
		again = stored.Desired != before.task.Desired || stored.Proceeded != before.task.Proceeded
		if stored.Desired == Stopped {
			row.Desired, row.StopCode, row.StoppedReason = Stopped, stored.StopCode, stored.StoppedReason
		}
		row.Proceeded, row.Version = stored.Proceeded, stored.Version
		trail := v.trail
		if n := len(trail); tell && (n == 0 || !reflect.DeepEqual(trail[n-1], v.status())) {
			trail = append(trail[:n:n], v.status())
		}
		row.Version += int64(len(trail))
		if err := tasks.Put(tx, &row); err != nil {
			return err
		}
		for _, c := range changed {
			if err := containers.Put(tx, c); err != nil {
				return err
			}
		}
		for i, s := range trail {
			s.Version = stored.Version + int64(i) + 1
			if row.Desired == Stopped && s.Desired == Stopped {
				s.StopCode, s.StoppedReason = row.StopCode, row.StoppedReason
			}
			if err := r.changed(tx, s); err != nil {
				return err
			}
		}
		return nil
	})
	return again, err
}

func (r *Runner) changed(tx *store.Tx, s *Status) error {
	if r.Changed == nil {
		return nil
	}
	return r.Changed(tx, s)
}

// attend has the children run that a task's containers need as they are, and opens
// what they find inside where a former process did.
func (r *Runner) attend(ctx context.Context, v *view) {
	id := string(v.task.ID)
	for i, c := range v.containers {
		if running(v.seen[c.Name].state) {
			if err := r.surround(ctx, v, c.Name); err != nil && !gone(err) && ctx.Err() == nil {
				r.Log.Warn("nothing is served inside of a container", "task", id, "container", c.Name, "err", err)
			}
		}
		if c.State == ContainerStopped {
			r.children.End(childName("pull", id, c.Name))
		}
		spec := &v.spec.Containers[i]
		health := childName("health", id, c.Name)
		if spec.Health != nil && c.State == ContainerRunning && !v.hold {
			r.children.Start(health, func(ctx context.Context) error { return r.check(ctx, v.spec, spec, c.Started) })
		} else if spec.Health != nil {
			r.children.End(health)
		}
		if spec.Log.Driver != driverAWSLogs || c.Started.IsZero() || v.task.State == Stopped {
			continue
		}
		if cur := v.cursors[c.Name]; cur != nil && cur.Done {
			continue
		}
		logs := childName("logs", id, c.Name)
		r.children.Start(logs, func(ctx context.Context) error { return r.ship(ctx, v.spec, spec) })
		if c.State == ContainerStopped {
			r.hasten(logs)
		}
	}
}

// forget drops what is in memory of a task.
func (r *Runner) forget(id engine.ID) {
	for _, key := range r.children.Keys() {
		if what, of, _ := childOf(key); what != "task" && of == id {
			r.children.End(key)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.known, id)
	delete(r.mu.environ, id)
	for key := range r.mu.pulls {
		if _, of, _ := childOf(key); of == id {
			delete(r.mu.pulls, key)
		}
	}
	for sandbox := range r.mu.surrounded {
		if sandbox == id || taskOf(sandbox) == id {
			delete(r.mu.surrounded, sandbox)
		}
	}
}
