package task

import (
	"errors"
	"net/netip"
	"time"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// taskRow is what has become of a task. The runner writes it, but for Desired,
// StopCode, StoppedReason and Proceeded, which are the owner's as well.
type taskRow struct {
	ID    engine.ID
	State State

	Desired                 State
	StopCode, StoppedReason string
	Proceeded               State // the last state that the owner has let the task leave

	Version                                    int64
	Created, PullStarted, PullStopped, Started time.Time
	Stopping, ExecutionStopped, Stopped        time.Time
	WasActive                                  bool      // it has been ACTIVATING
	Credentials                                string    // id of its role's, in their path
	Due                                        time.Time // when there is something to do; zero: at an event
}

// containerRow is what has become of a container. Only the runner writes it.
type containerRow struct {
	Task       engine.ID
	Name       string
	State      ContainerState
	Image      string // id
	Digest     string
	StopSignal string   // the image's
	Volumes    []string // the image's
	ExitCode   *int
	Reason     string
	OOM        bool
	Created    time.Time
	Started    time.Time
	Finished   time.Time
	Restarts   int
	Exit       time.Time // the last exit that was seen
	Address    netip.Addr
	Ports      []engine.Port
	Signalled  bool
	KillAt     time.Time
	Killed     bool
}

// healthRow is what a container's health checks say. Only its checker writes it.
type healthRow struct {
	Task    engine.ID
	Name    string
	Run     time.Time // of the program that it is about
	Health  Health
	Since   time.Time
	Failing int // in a row
	Code    int
	Output  string
}

// cursorRow is how far a container's output has been sent. Only its shipper
// writes it.
type cursorRow struct {
	Task   engine.ID
	Name   string
	Cursor engine.Cursor
	Held   held // read before the cursor, and not sent
	Sent   int  // events of what follows that are sent already
	Done   bool // the container has ended and all is sent, or nobody wants it
}

// volumeRow is a shared volume of an account.
type volumeRow struct {
	Account, Name, Driver string
	Labels                map[string]string
	Created               time.Time
}

var (
	// due finds tasks by the time when there is something to do.
	due = store.NewIndex("due", func(r *taskRow) []store.Key {
		if r.Due.IsZero() {
			return nil
		}
		return []store.Key{store.K(r.Due)}
	})
	// live finds tasks that are not stopped.
	live = store.NewIndex("live", func(r *taskRow) []store.Key {
		if r.State == Stopped {
			return nil
		}
		return []store.Key{store.K(true)}
	})
	tasks      = store.NewTable("task/tasks", func(r *taskRow) store.Key { return store.K(string(r.ID)) }, due, live)
	specs      = store.NewTable("task/specs", func(t *Task) store.Key { return store.K(string(t.ID)) })
	containers = store.NewTable("task/containers", func(r *containerRow) store.Key { return store.K(string(r.Task), r.Name) })
	healths    = store.NewTable("task/healths", func(r *healthRow) store.Key { return store.K(string(r.Task), r.Name) })
	cursors    = store.NewTable("task/cursors", func(r *cursorRow) store.Key { return store.K(string(r.Task), r.Name) })
	volumes    = store.NewTable("task/volumes", func(r *volumeRow) store.Key { return store.K(r.Account, r.Name) })
)

// get is Table.Get where there need not be a row.
func get[R any](tx *store.Tx, t *store.Table[R], key store.Key) (*R, error) {
	row, err := t.Get(tx, key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return row, err
}

// rows are all that is stored of a task.
type rows struct {
	spec       *Task
	task       *taskRow
	containers []*containerRow // in the order of the specification
	healths    map[string]*healthRow
	cursors    map[string]*cursorRow
}

// load reads a task. Without one, the error is store.ErrNotFound.
func load(tx *store.Tx, id engine.ID) (*rows, error) {
	key := store.K(string(id))
	spec, err := specs.Get(tx, key)
	if err != nil {
		return nil, err
	}
	r := &rows{spec: spec, healths: map[string]*healthRow{}, cursors: map[string]*cursorRow{}}
	if r.task, err = tasks.Get(tx, key); err != nil {
		return nil, err
	}
	for i := range spec.Containers {
		name := spec.Containers[i].Name
		key := store.K(string(id), name)
		c, err := containers.Get(tx, key)
		if err != nil {
			return nil, err
		}
		r.containers = append(r.containers, c)
		h, err := get(tx, healths, key)
		if err != nil {
			return nil, err
		}
		if h != nil {
			r.healths[name] = h
		}
		cur, err := get(tx, cursors, key)
		if err != nil {
			return nil, err
		}
		if cur != nil {
			r.cursors[name] = cur
		}
	}
	return r, nil
}

// healthOf is a container's health as far as it is that of the program that runs.
func (r *rows) healthOf(c *containerRow) Health {
	h := r.healths[c.Name]
	if h == nil || c.State != ContainerRunning && c.State != ContainerStopped || !h.Run.Equal(c.Started) {
		return Unknown
	}
	return h.Health
}

// status is what others see of a task.
func (r *rows) status() *Status {
	t := r.task
	s := &Status{
		Task: *r.spec, State: t.State, Desired: t.Desired, Version: t.Version, Address: r.spec.Network.Address,
		Created: t.Created, PullStarted: t.PullStarted, PullStopped: t.PullStopped, Started: t.Started,
		Stopping: t.Stopping, ExecutionStopped: t.ExecutionStopped, Stopped: t.Stopped,
		StopCode: t.StopCode, StoppedReason: t.StoppedReason,
	}
	byName := map[string]Health{}
	for i, c := range r.containers {
		cs := ContainerStatus{
			Name: c.Name, ID: containerID(t.ID, c.Name), State: c.State, Image: c.Image, ImageDigest: c.Digest,
			ExitCode: c.ExitCode, Reason: c.Reason, OOM: c.OOM, Created: c.Created, Started: c.Started, Finished: c.Finished,
			Restarts: c.Restarts, Address: c.Address, Ports: c.Ports, Health: r.healthOf(c),
		}
		if h := r.healths[c.Name]; h != nil && cs.Health != Unknown {
			cs.HealthSince, cs.HealthOutput, cs.HealthCode = h.Since, h.Output, h.Code
		}
		if l := r.spec.Containers[i].Log; l.Driver == driverAWSLogs {
			cs.LogStream = streamOf(r.spec, &r.spec.Containers[i]).Name
		}
		if s.Address == (netip.Addr{}) && r.spec.Network.Mode == AWSVPC {
			s.Address = c.Address
		}
		byName[c.Name] = cs.Health
		s.Status = append(s.Status, cs)
	}
	s.Health = taskHealth(r.spec, func(name string) Health { return byName[name] })
	return s
}
