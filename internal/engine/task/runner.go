package task

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/base/ids"
	"skerry/internal/engine"
	"skerry/internal/engine/resolver"
	"skerry/internal/loop"
	"skerry/internal/store"
)

// Config is what a Runner works with. Store, Engine, Clock, Log, Dir and Wake
// are needed. Of the functions, a task that needs one which is not there is
// refused. All are called by several goroutines.
type Config struct {
	Store  *store.DB
	Engine engine.Engine
	Clock  clock.Clock
	Log    *slog.Logger
	// Dir is where volumes are kept.
	Dir string
	// HostPaths lets tasks mount folders of the machine, as its root.
	HostPaths bool
	// Wake wakes a loop by its name.
	Wake func(name string)

	// Changed is told of every change, in the transaction that makes it: once
	// for each state that the task goes through, and for changes of its
	// containers and their health between.
	Changed func(tx *store.Tx, s *Status) error

	// Secret gives the value of a secret. Its error's text ends up in the
	// task's StoppedReason.
	Secret func(ctx context.Context, t *Task, valueFrom string) (string, error)
	// File gives the content of an environment file.
	File func(ctx context.Context, t *Task, name string) ([]byte, error)
	// Auth gives the credentials for the registry of a container's image. Nil
	// signs in nowhere.
	Auth func(ctx context.Context, t *Task, c *Container) (engine.Auth, error)
	// Credentials gives those of the task's role.
	Credentials func(ctx context.Context, t *Task) (Credentials, error)
	// OpenLog makes sure that a log stream is there, before its container
	// starts for the first time; without a stream it does not start.
	OpenLog func(ctx context.Context, t *Task, s LogStream) error
	// PutLogs writes events, in order. See LogBatch.Advance for how to do so
	// exactly once.
	PutLogs func(ctx context.Context, b LogBatch) error

	// Environment gives variables that every container has unless its
	// definition says otherwise: AWS_REGION and the like.
	Environment func(t *Task, c *Container) []Variable
	// Serve serves Skerry inside of sandboxes, under AWS's names (port 443 of
	// 169.254.169.253) and at Inside, until the listener is closed. To it, its
	// clients come from the sandbox's address. Nil serves nothing.
	Serve  func(l net.Listener) error
	Inside string // such as "127.0.0.1:4566"
	// CABundle is a file of the machine that containers get as their bundle of
	// certificate authorities; empty leaves them theirs.
	CABundle string
	// Resolver gives the name server of a task's sandboxes, with the names of
	// its service discovery. Nil has none.
	Resolver func(t *Task) *resolver.Resolver
}

// Credentials of a role.
type Credentials struct {
	RoleARN, AccessKeyID, SecretAccessKey, Token string
	Expiration                                   time.Time
}

// Runner runs tasks. It is safe for concurrent use.
type Runner struct {
	Config
	children *loop.Children
	born     time.Time

	mu struct {
		sync.Mutex
		// What is here can be lost at any time. It is in memory because it
		// speaks of this process: what there is to look at, what it does at
		// the moment, and secrets, which are in no row.
		dirty      map[engine.ID]struct{}    // tasks to look at
		known      map[engine.ID]bool        // tasks that were looked at whole
		pulls      map[string]*pull          // ended, by child
		environ    map[engine.ID]environment // made ready
		surrounded map[engine.ID]engine.ID   // sandboxes that are listened in, and the container by which
		hurry      map[string]chan struct{}  // shippers that linger, by child
		whole      time.Time                 // when all tasks were last looked at
	}
}

// loopName is the loop's.
const loopName = "task/run"

const (
	period    = time.Second
	wholeLook = time.Minute // between two looks at all tasks
	maxSteps  = 64          // tasks worked on at once
	maxRounds = 64          // of plan and apply before rows are written
)

// New returns a runner, which does nothing before its loop runs.
func New(c Config) *Runner {
	r := &Runner{Config: c, children: loop.NewChildren(c.Log), born: time.Now()}
	r.children.Ended = r.ended
	r.mu.dirty, r.mu.known = map[engine.ID]struct{}{}, map[engine.ID]bool{}
	r.mu.pulls, r.mu.environ = map[string]*pull{}, map[engine.ID]environment{}
	r.mu.surrounded, r.mu.hurry = map[engine.ID]engine.ID{}, map[string]chan struct{}{}
	return r
}

// Loops are the runner's background work.
func (r *Runner) Loops() []loop.Loop {
	return []loop.Loop{{Name: loopName, Does: "starts, watches and stops the containers of tasks", Period: period,
		Run: r.run, Children: r.children}}
}

// Run has a task run. It is PROVISIONING once the transaction is done. Errors:
// engine.ErrInvalid, engine.ErrUnsupported, store.ErrExists.
func (r *Runner) Run(tx *store.Tx, t *Task) error {
	if err := t.Validate(); err != nil {
		return err
	}
	if err := r.offers(t); err != nil {
		return err
	}
	if err := specs.Insert(tx, t); err != nil {
		return err
	}
	now := r.Clock.Now()
	row := &taskRow{ID: t.ID, State: Provisioning, Desired: Running, Created: now, Due: now, Version: 1}
	if t.TaskRole != "" {
		row.Credentials = ids.UUID()
	}
	if err := tasks.Insert(tx, row); err != nil {
		return err
	}
	for i := range t.Containers {
		if err := containers.Insert(tx, &containerRow{Task: t.ID, Name: t.Containers[i].Name, State: ContainerPending}); err != nil {
			return err
		}
	}
	tx.OnCommit(func() { r.poke(t.ID) })
	return nil
}

// offers tells whether the runner has the functions that a task needs.
func (r *Runner) offers(t *Task) error {
	if t.TaskRole != "" && r.Credentials == nil {
		return unsupported("task roles")
	}
	for _, v := range t.Volumes {
		if v.Host != "" && !r.HostPaths {
			return unsupported("volume %s: folders of the machine", v.Name)
		}
	}
	for i := range t.Containers {
		c := &t.Containers[i]
		switch {
		case len(c.Secrets) > 0 && r.Secret == nil:
			return unsupported("container %s: secrets", c.Name)
		case len(c.EnvironmentFiles) > 0 && r.File == nil:
			return unsupported("container %s: environment files", c.Name)
		case c.Log.Driver == driverAWSLogs && r.PutLogs == nil:
			return unsupported("container %s: log driver %s", c.Name, driverAWSLogs)
		case c.RepositoryCredentials != "" && r.Auth == nil:
			return unsupported("container %s: repository credentials", c.Name)
		}
	}
	return nil
}

// Stop has a task stopped. Of several stops the first one's code and reason
// count. Errors: store.ErrNotFound.
func (r *Runner) Stop(tx *store.Tx, id engine.ID, code, reason string) error {
	row, err := tasks.Get(tx, store.K(string(id)))
	if err != nil || row.Desired == Stopped {
		return err
	}
	row.Desired, row.StopCode, row.StoppedReason, row.Due = Stopped, code, reason, r.Clock.Now()
	tx.OnCommit(func() { r.poke(id) })
	return tasks.Put(tx, row)
}

// Proceed lets a Registered task leave ACTIVATING or DEACTIVATING; in another
// state it does nothing. Errors: store.ErrNotFound.
func (r *Runner) Proceed(tx *store.Tx, id engine.ID) error {
	row, err := tasks.Get(tx, store.K(string(id)))
	if err != nil || row.State != Activating && row.State != Deactivating {
		return err
	}
	row.Proceeded, row.Due = row.State, r.Clock.Now()
	tx.OnCommit(func() { r.poke(id) })
	return tasks.Put(tx, row)
}

// Get tells of a task. Errors: store.ErrNotFound.
func (r *Runner) Get(tx *store.Tx, id engine.ID) (*Status, error) {
	rows, err := load(tx, id)
	if err != nil {
		return nil, err
	}
	return rows.status(), nil
}

// Delete forgets a task that is STOPPED. Errors: store.ErrNotFound,
// engine.ErrState.
func (r *Runner) Delete(tx *store.Tx, id engine.ID) error {
	key := store.K(string(id))
	row, err := tasks.Get(tx, key)
	if err != nil {
		return err
	}
	if row.State != Stopped {
		return fmt.Errorf("task: delete %s, which is %s: %w", id, row.State, engine.ErrState)
	}
	spec, err := specs.Get(tx, key)
	if err != nil {
		return err
	}
	for i := range spec.Containers {
		key := store.K(string(id), spec.Containers[i].Name)
		if err := errors.Join(containers.Delete(tx, key), healths.Delete(tx, key), cursors.Delete(tx, key)); err != nil {
			return err
		}
	}
	return errors.Join(tasks.Delete(tx, key), specs.Delete(tx, key))
}

// poke has the loop look at a task.
func (r *Runner) poke(id engine.ID) {
	r.mu.Lock()
	r.mu.dirty[id] = struct{}{}
	r.mu.Unlock()
	r.Wake(loopName)
}

// Children are called by what they do and for whom: "pull/<task>/<container>".
func childName(parts ...string) string { return strings.Join(parts, "/") }

// ended is told of children that have ended: who waits for them is looked at
// again.
func (r *Runner) ended(key string, err error) {
	what, rest, _ := strings.Cut(key, "/")
	id, _, _ := strings.Cut(rest, "/")
	if err != nil {
		r.Log.Warn("work on a task failed", "child", key, "err", err)
	}
	switch what {
	case "task":
		r.mu.Lock()
		n := len(r.mu.dirty)
		r.mu.Unlock()
		if n > 0 {
			r.Wake(loopName)
		}
	case "pull", "logs", "health":
		r.poke(engine.ID(id))
	}
}

// run is the loop: it finds the tasks for which there is something to do, and
// has each looked after by a child.
func (r *Runner) run(ctx context.Context) (string, error) {
	r.children.Start("events", r.follow)
	err := r.lookAtAll(ctx)
	if dueErr := r.lookAtDue(ctx); err == nil {
		err = dueErr
	}
	r.mu.Lock()
	var todo []engine.ID
	for id := range r.mu.dirty {
		todo = append(todo, id)
	}
	r.mu.Unlock()
	n := 0
	steps := 0
	for _, k := range r.children.Keys() {
		if strings.HasPrefix(k, "task/") {
			steps++
		}
	}
	for _, id := range todo {
		if steps+n >= maxSteps {
			break // Ended wakes the loop for the others
		}
		r.mu.Lock()
		delete(r.mu.dirty, id)
		r.mu.Unlock()
		if r.children.Start(childName("task", string(id)), func(ctx context.Context) error { return r.step(ctx, id) }) {
			n++
			continue
		}
		r.mu.Lock()
		r.mu.dirty[id] = struct{}{} // its child runs: when it has ended, again
		r.mu.Unlock()
	}
	return fmt.Sprintf("%d tasks looked after", n), err
}

// lookAtAll marks all tasks now and then, and removes what is nobody's.
func (r *Runner) lookAtAll(ctx context.Context) error {
	now := r.Clock.Now()
	r.mu.Lock()
	recent := !r.mu.whole.IsZero() && now.Sub(r.mu.whole) < wholeLook
	r.mu.Unlock()
	if recent {
		return nil
	}
	if err := r.sweep(ctx); err != nil {
		return err
	}
	if err := r.mark(ctx, func(tx *store.Tx) ([]store.Key, error) { return keys(live.ScanKeys(tx, store.Range{})) }); err != nil {
		return err
	}
	r.mu.Lock()
	r.mu.whole = now
	r.mu.Unlock()
	return nil
}

// lookAtDue marks the tasks whose time has come.
func (r *Runner) lookAtDue(ctx context.Context) error {
	now := r.Clock.Now()
	return r.mark(ctx, func(tx *store.Tx) ([]store.Key, error) {
		return keys(due.ScanKeys(tx, store.Range{To: store.K(now.Add(time.Nanosecond))}))
	})
}

func keys(seq func(func(store.Key, error) bool)) (all []store.Key, err error) {
	for k, err := range seq {
		if err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

func (r *Runner) mark(ctx context.Context, find func(tx *store.Tx) ([]store.Key, error)) error {
	var found []engine.ID
	err := r.Store.View(ctx, func(tx *store.Tx) error {
		found = found[:0]
		all, err := find(tx)
		if err != nil {
			return err
		}
		for _, k := range all {
			row, err := tasks.Get(tx, k)
			if err != nil {
				return err
			}
			found = append(found, row.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, id := range found {
		r.mu.dirty[id] = struct{}{}
	}
	return nil
}

// follow marks the tasks whose containers have started or ended.
func (r *Runner) follow(ctx context.Context) error {
	return r.Engine.Events(ctx, 0, func(e engine.Event) error {
		if e.Labels[labelService] == serviceTask {
			r.poke(engine.ID(e.Labels[labelTask]))
		}
		return nil
	})
}

// The labels of the runner's containers.
const (
	labelService   = "service"
	labelTask      = "task"
	labelContainer = "container"
	serviceTask    = "task"
)

// sweep removes containers and folders that belong to no task: rows come before
// containers, so these are of a state that is gone.
func (r *Runner) sweep(ctx context.Context) error {
	all, err := r.Engine.List(ctx)
	if err != nil {
		return fmt.Errorf("task: list containers: %w", err)
	}
	folders := r.taskFolders()
	for _, c := range all {
		if c.Labels[labelService] == serviceTask && c.Labels[labelTask] != "" {
			folders[engine.ID(c.Labels[labelTask])] = append(folders[engine.ID(c.Labels[labelTask])], c.ID)
		}
	}
	for id, ids := range folders {
		stopped, err := r.over(ctx, id)
		if err != nil {
			return err
		}
		if !stopped {
			continue
		}
		for _, c := range ids {
			if err := r.Engine.Remove(ctx, c); err != nil {
				return fmt.Errorf("task: remove %s, which is nobody's: %w", c, err)
			}
		}
		if err := r.removeFolder(id); err != nil {
			return err
		}
	}
	return nil
}

// over tells whether a task is stopped or gone.
func (r *Runner) over(ctx context.Context, id engine.ID) (over bool, err error) {
	err = r.Store.View(ctx, func(tx *store.Tx) error {
		row, err := get(tx, tasks, store.K(string(id)))
		over = row == nil || row.State == Stopped
		return err
	})
	return over, err
}

// childOf takes a child's name apart.
func childOf(key string) (what string, task engine.ID, container string) {
	what, rest, _ := strings.Cut(key, "/")
	id, container, _ := strings.Cut(rest, "/")
	return what, engine.ID(id), container
}
