package task

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"skerry/internal/engine"
)

// seen is what the engine and this process know of a container.
type seen struct {
	there   bool // the engine has it
	state   engine.State
	started time.Time
	exit    *engine.Exit
	address netip.Addr
	ports   []engine.Port

	pulling bool
	pull    *pull // has ended
}

// pull is how the fetching of an image went.
type pull struct {
	image        engine.Image
	digest       string
	began, ended time.Time
	err          error
}

// view is a task as it is decided about: observe and plan are functions of it
// alone. observe changes its rows, plan does not.
type view struct {
	*rows
	seen map[string]seen
	now  time.Time
	// prepared and cleaned tell that what Provisioning and Deprovisioning
	// are there for is done.
	prepared, cleaned bool
	// hold tells that what was decided must be on disk before anything is
	// done: a restart, so that it is counted once, and that a container is
	// removed, so that it is not made again.
	hold bool
	// trail is the task at each of its state's changes.
	trail []*Status
}

// verb is something to be done.
type verb string

const (
	doPrepare verb = "prepare" // the task's volumes and variables
	doPull    verb = "pull"
	doCreate  verb = "create"
	doStart   verb = "start" // for the first time, or again
	doSignal  verb = "signal"
	doKill    verb = "kill"
	doRemove  verb = "remove"
	doClean   verb = "clean" // remove the task's folders
)

// action is something to be done with a container, or, without one, the task.
type action struct {
	verb      verb
	container string
}

// row returns a container's row; nil when there is none.
func (v *view) row(name string) *containerRow {
	for _, c := range v.containers {
		if c.Name == name {
			return c
		}
	}
	return nil
}

// observe brings the rows up to what is seen.
func (v *view) observe() {
	for i, c := range v.containers {
		v.observeContainer(&v.spec.Containers[i], c)
	}
	for v.abandon() { // one abandoned may be what others wait for
	}
	v.observeTask()
}

// observeContainer takes in what the engine says of a container.
func (v *view) observeContainer(spec *Container, c *containerRow) {
	s := v.seen[c.Name]
	if c.State == ContainerStopped {
		return
	}
	if p := s.pull; p != nil && c.State == ContainerPending {
		v.observePull(c, p)
	}
	switch {
	case !s.there:
		if c.State == ContainerCreated || c.State == ContainerRunning {
			v.stopContainer(c, nil, "ContainerVanishedError: No container matching saved ID found", v.now)
		}
	case c.State == ContainerPending || c.State == ContainerPulled:
		// made by a process that was killed before it could say so
		c.State, c.Created = ContainerCreated, v.now
		fallthrough
	default:
		c.Address, c.Ports = s.address, s.ports
		if running(s.state) && c.State == ContainerRunning && !s.started.Equal(c.Started) {
			c.Started = s.started // again
		}
		if running(s.state) && c.State == ContainerCreated {
			c.State, c.Started = ContainerRunning, s.started
		}
		if s.state == engine.Exited && s.exit != nil && !s.exit.Finished.Equal(c.Exit) {
			v.observeExit(spec, c, s.exit)
		}
	}
}

func running(s engine.State) bool { return s == engine.Running || s == engine.Frozen }

func (v *view) observePull(c *containerRow, p *pull) {
	if v.task.PullStarted.IsZero() || p.began.Before(v.task.PullStarted) {
		v.task.PullStarted = p.began
	}
	if p.ended.After(v.task.PullStopped) {
		v.task.PullStopped = p.ended
	}
	if p.err != nil {
		reason := p.err.Error()
		v.stopContainer(c, nil, reason, v.now)
		v.stop(FailedToStart, reason)
		return
	}
	c.State, c.Image, c.Digest = ContainerPulled, p.image.ID, p.digest
	c.StopSignal, c.Volumes = p.image.Config.StopSignal, p.image.Config.Volumes
}

// observeExit takes in an exit, and decides whether the container starts again.
func (v *view) observeExit(spec *Container, c *containerRow, exit *engine.Exit) {
	c.Exit, c.Finished, c.OOM = exit.Finished, exit.Finished, exit.OOM
	if !exit.Started.IsZero() {
		c.Started = exit.Started
	}
	var code *int
	reason := exit.Reason
	if exit.Code >= 0 {
		n := exit.Code
		code = &n
	}
	if exit.OOM {
		reason = "OutOfMemoryError: Container killed due to memory usage"
	}
	if v.task.Desired == Running && restarts(spec, code, exit) {
		c.Restarts++
		c.ExitCode, c.Reason, c.State = code, reason, ContainerRunning
		v.hold = true
		return
	}
	v.stopContainer(c, code, reason, exit.Finished)
}

// restarts tells whether a container that has ended is started again.
func restarts(spec *Container, code *int, exit *engine.Exit) bool {
	p := spec.Restart
	if p == nil || code == nil || slices.Contains(p.Ignored, *code) {
		return false
	}
	period := p.Period
	if period == 0 {
		period = DefaultRestartPeriod
	}
	return exit.Finished.Sub(exit.Started) >= period
}

// stopContainer notes that a container has ended for good, or will never start.
func (v *view) stopContainer(c *containerRow, code *int, reason string, at time.Time) {
	c.State, c.ExitCode, c.Reason, c.Finished = ContainerStopped, code, reason, at
}

// stop has the task stopped, unless it is already being.
func (v *view) stop(code, reason string) {
	if v.task.Desired != Stopped {
		v.task.Desired, v.task.StopCode, v.task.StoppedReason = Stopped, code, reason
	}
}

// observeTask draws the consequences for the task.
func (v *view) observeTask() {
	t := v.task
	for i, c := range v.containers {
		if c.State != ContainerStopped || !v.spec.Containers[i].Essential {
			continue
		}
		if t.ExecutionStopped.IsZero() && !c.Started.IsZero() {
			t.ExecutionStopped = c.Finished
		}
		if c.Started.IsZero() && !t.WasActive {
			v.stop(FailedToStart, "Task failed to start")
		} else {
			v.stop(EssentialExited, essentialReason)
		}
	}
	if t.Desired == Stopped && before(t.State, Stopping) || t.State == Stopping {
		v.dropUnstarted()
	}
	for v.advance() {
		t.Version++
		v.trail = append(v.trail, v.status())
	}
}

// before tells whether a state comes before another.
func before(a, b State) bool { return slices.Index(order, a) < slices.Index(order, b) }

var order = []State{Provisioning, Pending, Activating, Running, Deactivating, Stopping, Deprovisioning, Stopped}

// dropUnstarted ends the containers of a task that stops which were never
// started, or wait to be started again.
func (v *view) dropUnstarted() {
	for _, c := range v.containers {
		switch s := v.seen[c.Name]; {
		case c.State == ContainerStopped || running(s.state):
		case c.State != ContainerRunning:
			v.stopContainer(c, nil, "", v.now)
		case s.exit != nil && s.exit.Finished.Equal(c.Exit):
			v.stopContainer(c, c.ExitCode, c.Reason, c.Finished)
			c.Restarts-- // it was decided, and does not happen
		}
	}
}

// advance moves the task to its next state if it is time, and tells whether it
// was.
func (v *view) advance() bool {
	t := v.task
	stop := t.Desired == Stopped
	to := t.State
	switch t.State {
	case Provisioning:
		switch {
		case stop:
			to = Stopping
		case v.prepared:
			to = Pending
		}
	case Pending:
		switch {
		case stop:
			to = Stopping
		case v.all(func(c *containerRow) bool { return c.State == ContainerRunning || c.State == ContainerStopped }):
			to, t.WasActive = Activating, true
		}
	case Activating:
		switch {
		case stop:
			to = Deactivating
		case !v.spec.Registered || t.Proceeded == Activating:
			to, t.Started = Running, v.now
		}
	case Running:
		if stop {
			to = Deactivating
		}
	case Deactivating:
		if !v.spec.Registered || t.Proceeded == Deactivating {
			to = Stopping
		}
	case Stopping:
		if v.all(func(c *containerRow) bool { return c.State == ContainerStopped }) {
			to = Deprovisioning
		}
	case Deprovisioning:
		if v.cleaned {
			to, t.Stopped = Stopped, v.now
		}
	}
	if to == Stopping && t.State != Stopping {
		t.Stopping = v.now
	}
	if to == Deprovisioning && t.State != Deprovisioning {
		v.hold = true
	}
	changed := to != t.State
	t.State = to
	return changed
}

func (v *view) all(ok func(*containerRow) bool) bool {
	for _, c := range v.containers {
		if !ok(c) {
			return false
		}
	}
	return true
}

// plan says what is to be done now, in this order, and when to look again though
// nothing happens (zero: never). It is pure.
func (v *view) plan() (todo []action, again time.Time) {
	if v.hold {
		return nil, time.Time{}
	}
	sooner := func(at time.Time) {
		if !at.IsZero() && (again.IsZero() || at.Before(again)) {
			again = at
		}
	}
	switch {
	case v.task.Desired == Running && v.task.State == Provisioning:
		todo = append(todo, action{verb: doPrepare})
	case v.task.Desired == Running:
		for i, c := range v.containers {
			todo = append(todo, v.planUp(&v.spec.Containers[i], c, sooner)...)
		}
	case v.task.State == Stopping:
		for i := len(v.containers) - 1; i >= 0; i-- {
			todo = append(todo, v.planDown(v.containers[i], sooner)...)
		}
	case v.task.State == Deprovisioning:
		todo = v.planRemoval()
	}
	return todo, again
}

// planUp brings a container up.
func (v *view) planUp(spec *Container, c *containerRow, sooner func(time.Time)) []action {
	s := v.seen[c.Name]
	switch c.State {
	case ContainerPending:
		if !s.pulling && s.pull == nil {
			return []action{{doPull, c.Name}}
		}
	case ContainerPulled:
		wait, until, _ := v.waits(spec)
		sooner(until)
		if !wait {
			return []action{{doCreate, c.Name}}
		}
	case ContainerCreated:
		if s.state == engine.Created {
			return []action{{doStart, c.Name}}
		}
	case ContainerRunning:
		if s.state == engine.Exited && s.exit != nil && s.exit.Finished.Equal(c.Exit) {
			return []action{{doStart, c.Name}}
		}
	}
	return nil
}

// planDown ends a container, once nothing that depends on it runs.
func (v *view) planDown(c *containerRow, sooner func(time.Time)) []action {
	if c.State != ContainerRunning || !running(v.seen[c.Name].state) {
		return nil
	}
	for i := range v.spec.Containers {
		other := &v.spec.Containers[i]
		if v.containers[i].State == ContainerStopped {
			continue
		}
		for _, d := range other.dependencies() {
			if d.Container == c.Name {
				return nil
			}
		}
	}
	switch {
	case !c.Signalled:
		return []action{{doSignal, c.Name}}
	case c.Killed:
	case !v.now.Before(c.KillAt):
		return []action{{doKill, c.Name}}
	default:
		sooner(c.KillAt)
	}
	return nil
}

// planRemoval removes what is left of a task whose output has been sent.
func (v *view) planRemoval() (todo []action) {
	left := false
	for i, c := range v.containers {
		if !v.seen[c.Name].there {
			continue
		}
		left = true
		if v.spec.Containers[i].Log.Driver == driverAWSLogs && !c.Started.IsZero() {
			if cur := v.cursors[c.Name]; cur == nil || !cur.Done {
				continue
			}
		}
		todo = append(todo, action{doRemove, c.Name})
	}
	if !left {
		todo = append(todo, action{verb: doClean})
	}
	return todo
}

// dependencies of a container, with those that links and volumes imply.
func (c *Container) dependencies() []Dependency {
	all := slices.Clone(c.DependsOn)
	for _, f := range c.VolumesFrom {
		all = append(all, Dependency{f.Container, onCreate})
	}
	for _, l := range c.Links {
		name, _, _ := strings.Cut(l, ":")
		all = append(all, Dependency{name, OnStart})
	}
	return all
}

// waits tells whether a container has to wait for others, until when at most, or
// why it waits in vain.
func (v *view) waits(spec *Container) (wait bool, until time.Time, vain error) {
	for _, d := range spec.dependencies() {
		on := v.row(d.Container)
		limit := v.container(d.Container).StartTimeout
		fail := func(format string) error {
			return fmt.Errorf("dependency graph: "+format, d.Container, spec.Name)
		}
		switch {
		case on.State == ContainerStopped && on.Started.IsZero():
			return true, until, fail("failed to resolve container ordering dependency [%s] for target [%s] because dependency will never start")
		case d.Condition == OnSuccess && on.State == ContainerStopped && (on.ExitCode == nil || *on.ExitCode != 0):
			return true, until, fail("failed to resolve container ordering dependency [%s] for target [%s] as dependency did not exit successfully.")
		case d.Condition == OnHealthy && on.State == ContainerStopped && v.healthOf(on) != Healthy:
			return true, until, fail("failed to resolve container ordering dependency [%s] for target [%s] as dependency has ended and is not healthy.")
		case v.resolved(d, on):
			continue
		}
		wait = true
		if limit <= 0 || on.Started.IsZero() || d.Condition == OnStart || d.Condition == onCreate {
			continue
		}
		at := on.Started.Add(limit)
		if !v.now.Before(at) {
			return true, until, fail("container ordering dependency [%s] for target [%s] has timed out.")
		}
		if until.IsZero() || at.Before(until) {
			until = at
		}
	}
	return wait, until, nil
}

// container returns the specification of a container, which exists.
func (v *view) container(name string) *Container {
	i := slices.IndexFunc(v.spec.Containers, func(c Container) bool { return c.Name == name })
	return &v.spec.Containers[i]
}

// resolved tells whether a dependency is as it should be.
func (v *view) resolved(d Dependency, on *containerRow) bool {
	started := on.State == ContainerRunning || on.State == ContainerStopped && !on.Started.IsZero()
	switch d.Condition {
	case onCreate:
		return started || on.State == ContainerCreated
	case OnStart:
		return started
	case OnComplete:
		return on.State == ContainerStopped && on.ExitCode != nil
	case OnSuccess:
		return on.State == ContainerStopped && on.ExitCode != nil && *on.ExitCode == 0
	case OnHealthy:
		return v.healthOf(on) == Healthy
	}
	return false
}

// abandon ends the containers that wait in vain. 143 is what the agent reports
// for them.
func (v *view) abandon() (any bool) {
	if v.task.Desired != Running {
		return false
	}
	for i, c := range v.containers {
		if c.State != ContainerPulled {
			continue
		}
		if _, _, vain := v.waits(&v.spec.Containers[i]); vain != nil {
			code := 143
			v.stopContainer(c, &code, "CannotStartContainerError: "+vain.Error(), v.now)
			any = true
		}
	}
	return any
}
