package task

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"skerry/internal/engine"
)

// model is an engine as plan knows it, with what it must never be asked for.
type model struct {
	t    *testing.T
	rand *rand.Rand
	now  time.Time
	spec *Task
	// disk is what is committed; a crash goes back to it.
	disk *view
	real map[string]*modelContainer
	log  []string
}

type modelContainer struct {
	there     bool
	state     engine.State
	started   time.Time
	exit      *engine.Exit
	starts    int
	signalled bool
	ended     time.Time
}

var conditions = []Condition{OnStart, OnComplete, OnSuccess, OnHealthy}

// randomTask draws a task of up to five containers with dependencies.
func randomTask(r *rand.Rand) *Task {
	t := &Task{ID: "task", Network: Network{Mode: AWSVPC}, Registered: r.IntN(3) == 0}
	for i := range 1 + r.IntN(5) {
		c := Container{Name: fmt.Sprint("c", i), Image: "i", Essential: i == 0 || r.IntN(2) == 0}
		if r.IntN(3) == 0 {
			c.StartTimeout = time.Duration(1+r.IntN(60)) * time.Second
		}
		if r.IntN(4) == 0 {
			c.Restart = &RestartPolicy{Ignored: []int{0}, Period: time.Duration(1+r.IntN(60)) * time.Second}
		}
		for j := range i {
			d := Dependency{fmt.Sprint("c", j), conditions[r.IntN(len(conditions))]}
			on := &t.Containers[j]
			switch {
			case r.IntN(3) > 0:
				continue
			case d.Condition == OnHealthy:
				on.Health = &HealthCheck{Command: []string{"CMD", "true"}}
			case d.Condition != OnStart && on.Essential:
				d.Condition = OnStart
			}
			c.DependsOn = append(c.DependsOn, d)
		}
		if i > 0 && r.IntN(5) == 0 {
			c.VolumesFrom = []VolumesFrom{{Container: fmt.Sprint("c", r.IntN(i))}}
		}
		t.Containers = append(t.Containers, c)
	}
	r.Shuffle(len(t.Containers), func(i, j int) { t.Containers[i], t.Containers[j] = t.Containers[j], t.Containers[i] })
	return t
}

func newModel(t *testing.T, seed uint64) *model {
	r := rand.New(rand.NewPCG(seed, 1))
	m := &model{t: t, rand: r, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), spec: randomTask(r), real: map[string]*modelContainer{}}
	if err := m.spec.Validate(); err != nil {
		t.Fatal(err)
	}
	rows := &rows{spec: m.spec, task: &taskRow{ID: m.spec.ID, State: Provisioning, Desired: Running, Created: m.now}, healths: map[string]*healthRow{}, cursors: map[string]*cursorRow{}}
	for _, c := range m.spec.Containers {
		rows.containers = append(rows.containers, &containerRow{Task: m.spec.ID, Name: c.Name, State: ContainerPending})
		m.real[c.Name] = &modelContainer{}
	}
	m.disk = &view{rows: rows}
	return m
}

// load is what a process reads: a copy.
func (m *model) load() *view {
	v := &view{rows: m.disk.rows.copy()}
	v.healths, v.cursors = m.disk.healths, m.disk.cursors
	return v
}

func (m *model) fail(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\n%+v\n%v", fmt.Sprintf(format, args...), m.spec.Containers, m.log)
}

// look shows the model to plan.
func (m *model) look(v *view) {
	v.now, v.seen = m.now, map[string]seen{}
	for _, spec := range m.spec.Containers {
		name, c := spec.Name, m.real[spec.Name]
		s := seen{there: c.there, state: c.state, started: c.started, exit: c.exit}
		if row := v.row(name); row.State == ContainerPending && m.rand.IntN(2) == 0 {
			s.pull = &pull{image: engine.Image{ID: "sha256:1"}, began: m.now, ended: m.now}
			if m.rand.IntN(60) == 0 {
				s.pull.err = fmt.Errorf("CannotPullContainerError: no")
			}
		}
		v.seen[name] = s
	}
}

// apply does what plan asks for, and refuses what it must never ask for.
func (m *model) apply(v *view, a action) {
	m.log = append(m.log, fmt.Sprintf("%s %s", a.verb, a.container))
	c := m.real[a.container]
	switch a.verb {
	case doPrepare:
		v.prepared = true
	case doClean:
		for name, c := range m.real {
			if c.there {
				m.fail("cleaned before %s was removed", name)
			}
		}
		v.cleaned = true
	case doCreate:
		if c.there || c.starts > 0 {
			m.fail("%s is created twice", a.container)
		}
		m.dependencies(v, a.container)
		c.there, c.state = true, engine.Created
		row := v.row(a.container)
		row.State, row.Created = ContainerCreated, m.now
	case doStart:
		if v.task.Desired != Running {
			m.fail("%s is started though the task stops", a.container)
		}
		if row := v.row(a.container); c.starts > 0 && c.starts != m.disk.row(a.container).Restarts {
			m.fail("%s is started %d times, %d restarts are on disk, %d decided", a.container, c.starts+1, m.disk.row(a.container).Restarts, row.Restarts)
		}
		if !c.there || running(c.state) {
			m.fail("%s is started and is %+v", a.container, c)
		}
		c.starts++
		c.state, c.started, c.exit = engine.Running, m.now, nil
	case doSignal, doKill:
		for i := range m.spec.Containers {
			other := &m.spec.Containers[i]
			for _, d := range other.dependencies() {
				if d.Container == a.container && running(m.real[other.Name].state) {
					m.fail("%s is stopped before %s", a.container, other.Name)
				}
			}
		}
		if a.verb == doKill {
			if m.now.Before(c.ended) {
				m.fail("%s is killed before its time", a.container)
			}
			m.exit(a.container, 137)
			return
		}
		row := v.row(a.container)
		row.Signalled, row.KillAt = true, m.now.Add(30*time.Second)
		if !c.signalled {
			c.ended = row.KillAt
		}
		c.signalled = true
		if m.rand.IntN(2) == 0 {
			m.exit(a.container, 0)
		}
	case doRemove:
		c.there, c.state = false, ""
	}
}

// dependencies checks that a container may be made now.
func (m *model) dependencies(v *view, name string) {
	for _, d := range v.container(name).dependencies() {
		on := m.real[d.Container]
		ok := on.starts > 0
		switch d.Condition {
		case onCreate:
			ok = on.there
		case OnComplete:
			ok = on.state == engine.Exited
		case OnSuccess:
			ok = on.state == engine.Exited && on.exit.Code == 0
		case OnHealthy:
			ok = v.healthOf(v.row(d.Container)) == Healthy
		}
		if !ok {
			m.fail("%s is made, though %s is not %s: %+v", name, d.Container, d.Condition, on)
		}
	}
}

func (m *model) exit(name string, code int) {
	c := m.real[name]
	if running(c.state) {
		c.state, c.exit = engine.Exited, &engine.Exit{Code: code, Started: c.started, Finished: m.now}
	}
}

// happen is what containers do by themselves.
func (m *model) happen() {
	m.now = m.now.Add(time.Duration(m.rand.IntN(15_000)) * time.Millisecond)
	for _, spec := range m.spec.Containers {
		name, c := spec.Name, m.real[spec.Name]
		if running(c.state) && m.rand.IntN(12) == 0 {
			m.exit(name, m.rand.IntN(2))
			m.log = append(m.log, "exit "+name)
		}
		row := m.disk.row(name)
		if running(c.state) && row.State == ContainerRunning && m.spec.find(name).Health != nil && m.rand.IntN(4) == 0 {
			m.disk.healths[name] = &healthRow{Run: row.Started, Health: []Health{Healthy, Unhealthy}[m.rand.IntN(2)]}
		}
	}
}

// TestPlan runs random tasks in a model of the engine that checks every request,
// with crashes that forget what was not committed.
func TestPlan(t *testing.T) {
	for seed := range uint64(1500) {
		m := newModel(t, seed)
		var past []State
		for range 600 {
			m.happen()
			if m.rand.IntN(80) == 0 && m.disk.task.Desired == Running {
				m.disk.task.Desired, m.disk.task.StopCode = Stopped, UserInitiated
				m.log = append(m.log, "stop")
			}
			if s := m.disk.task.State; (s == Activating || s == Deactivating) && m.rand.IntN(3) == 0 {
				m.disk.task.Proceeded = s
			}
			v := m.load()
			crashed := false
			for range 1 + m.rand.IntN(8) {
				m.look(v)
				v.observe()
				todo, _ := v.plan()
				if len(todo) == 0 {
					break
				}
				for _, a := range todo {
					if crashed = crashed || m.rand.IntN(5+int(seed%30)) == 0; crashed {
						break
					}
					m.apply(v, a)
				}
			}
			if crashed {
				m.log = append(m.log, "crash")
				continue
			}
			for _, s := range v.trail {
				past = append(past, s.State)
			}
			v.trail, v.hold = nil, false
			m.disk = v
			if v.task.State == Stopped {
				break
			}
			if v.task.Desired == Running && m.now.Sub(m.disk.task.Created) > time.Hour {
				m.disk.task.Desired, m.disk.task.StopCode = Stopped, UserInitiated
			}
		}
		if m.disk.task.State != Stopped {
			m.fail("seed %d: the task is %s at the end", seed, m.disk.task.State)
		}
		if !slices.IsSortedFunc(past, func(a, b State) int { return slices.Index(order, a) - slices.Index(order, b) }) {
			m.fail("seed %d: states %v", seed, past)
		}
		if m.disk.task.StopCode == "" {
			m.fail("seed %d: stopped for no reason", seed)
		}
		for name, c := range m.real {
			if c.there {
				m.fail("seed %d: %s is left over", seed, name)
			}
		}
	}
}
