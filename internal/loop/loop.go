// Package loop drives background work. A Loop takes no input: what there is to do,
// it reads from rows. It runs when its period has ended or when it was woken,
// never twice at once; wakes coalesce, never block, and count from before the
// start. It does not retry inside: its next run is the retry. A run that fails or
// panics is told in the status and does not end the loop.
//
// Work that must run side by side, such as pollers of event sources or deliveries,
// is a Children of a loop.
package loop

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"skerry/internal/base/clock"
)

// Loop is background work, described.
type Loop struct {
	Name string // its owner's package and a noun, such as "s3/lifecycle"
	Does string // what it does, for the status page
	// Period is the time from the end of a run to the next one, counted anew by a
	// run that a wake has caused; 0 means that only wakes cause runs.
	Period time.Duration
	// Deadline ends a run's context; 0 means one minute, negative none.
	Deadline time.Duration
	// Run does what there is to do and reports it in a few words. It returns when
	// its context ends.
	Run func(ctx context.Context) (report string, err error)
	// Children, if set, are stopped and waited for with the loop.
	Children *Children
}

// Status is what a loop has done.
type Status struct {
	Name, Does  string
	Period      time.Duration
	Running     bool
	Runs        int64 // ended ones
	Failures    int64 // of those, runs that returned an error or panicked
	Panics      int64
	Last        time.Time // when the last run began; zero if none has ended
	Duration    time.Duration
	Report      string
	Error       string // of the last run
	LastFailure time.Time
	Next        time.Time // when the period ends; zero if there is none
	Children    []string  // keys of those that run
}

// Driver runs loops.
type Driver struct {
	clock  clock.Clock
	log    *slog.Logger
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		loops   map[string]*running
		started bool
	}
}

// running is a loop and where it stands.
type running struct {
	Loop
	wake chan struct{}
	mu   struct {
		sync.Mutex
		Status
	}
}

// NewDriver returns a driver of loops, which do not run before Start. log is told
// when the outcome of a loop changes from success to failure or back.
func NewDriver(c clock.Clock, log *slog.Logger, loops ...Loop) *Driver {
	d := &Driver{clock: c, log: log}
	d.ctx, d.cancel = context.WithCancel(context.Background())
	d.mu.loops = map[string]*running{}
	for _, l := range loops {
		d.Add(l)
	}
	return d
}

// Add gives the driver one more loop, before Start. It panics on a name given
// twice.
func (d *Driver) Add(l Loop) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.loops[l.Name] != nil || l.Run == nil || d.mu.started {
		panic("loop: " + l.Name + " is added twice, too late or without Run")
	}
	if l.Deadline == 0 {
		l.Deadline = time.Minute
	}
	r := &running{Loop: l, wake: make(chan struct{}, 1)}
	r.mu.Name, r.mu.Does, r.mu.Period = l.Name, l.Does, l.Period
	d.mu.loops[l.Name] = r
}

// Start lets the loops run, each at once for the first time.
func (d *Driver) Start() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mu.started {
		return
	}
	d.mu.started = true
	for _, r := range d.mu.loops {
		d.wg.Go(func() { d.drive(r) })
	}
}

// Wake has a loop run as soon as it can: at once, or when the run that is under
// way has ended. It never blocks, and panics on a name that was not added.
func (d *Driver) Wake(name string) {
	d.mu.Lock()
	r := d.mu.loops[name]
	d.mu.Unlock()
	if r == nil {
		panic("loop: nobody is called " + name)
	}
	select {
	case r.wake <- struct{}{}:
	default: // one is waiting already, and will see what this one would
	}
}

// Waker returns Wake for one loop, as a function to be handed out.
func (d *Driver) Waker(name string) func() { return func() { d.Wake(name) } }

// Stop cancels the runs and waits until they and all children have ended, or until
// ctx ends: then the error names those that still run.
func (d *Driver) Stop(ctx context.Context) error {
	d.cancel()
	done := make(chan struct{})
	go func() { d.wg.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	var late []string
	for _, s := range d.Status() {
		if s.Running || len(s.Children) > 0 {
			late = append(late, s.Name)
		}
	}
	return fmt.Errorf("loop: stop: %w; still running: %s", ctx.Err(), strings.Join(late, ", "))
}

// Status returns where the loops stand, by name.
func (d *Driver) Status() []Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := make([]Status, 0, len(d.mu.loops))
	for _, r := range d.mu.loops {
		r.mu.Lock()
		s := r.mu.Status
		r.mu.Unlock()
		if r.Children != nil {
			s.Children = r.Children.Keys()
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b Status) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// drive is the life of one loop.
func (d *Driver) drive(r *running) {
	if r.Children != nil {
		defer r.Children.stop()
	}
	for d.ctx.Err() == nil {
		d.once(r)
		var end <-chan time.Time
		if r.Period > 0 {
			end = d.clock.After(r.Period)
		}
		select {
		case <-r.wake:
		case <-end:
		case <-d.ctx.Done():
		}
	}
}

// once is one run, with its record.
func (d *Driver) once(r *running) {
	select { // a wake that came before this run is answered by it
	case <-r.wake:
	default:
	}
	began := d.clock.Now()
	r.mu.Lock()
	r.mu.Running = true
	r.mu.Unlock()

	report, err := d.run(r)
	if err != nil && d.ctx.Err() != nil {
		err = nil // it was stopped
	}

	r.mu.Lock()
	defer r.mu.Unlock()
	s := &r.mu.Status
	before := s.Error
	now := d.clock.Now()
	s.Running, s.Last, s.Duration, s.Report, s.Error = false, began, now.Sub(began), report, ""
	s.Runs++
	if r.Period > 0 {
		s.Next = now.Add(r.Period)
	}
	var p *panicked
	if errors.As(err, &p) {
		s.Panics++
	}
	if err != nil {
		s.Failures, s.Error, s.LastFailure = s.Failures+1, err.Error(), began
	}
	switch {
	case p != nil:
		d.log.Error("loop panicked", "loop", r.Name, "panic", p.value, "stack", string(p.stack))
	case s.Error != "" && s.Error != before:
		d.log.Warn("loop failed", "loop", r.Name, "err", s.Error)
	case s.Error == "" && before != "":
		d.log.Info("loop works again", "loop", r.Name, "report", report)
	}
}

type panicked struct {
	value any
	stack []byte
}

func (p *panicked) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// run calls Run under its deadline, which the driver's clock tells.
func (d *Driver) run(r *running) (report string, err error) {
	ctx, cancel := context.WithCancelCause(d.ctx)
	defer cancel(nil)
	if r.Deadline > 0 {
		end := d.clock.After(r.Deadline)
		go func() {
			select {
			case <-end:
				cancel(fmt.Errorf("deadline of %v: %w", r.Deadline, context.DeadlineExceeded))
			case <-ctx.Done():
			}
		}()
	}
	defer func() {
		if v := recover(); v != nil {
			report, err = "", &panicked{v, debug.Stack()}
		} else if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
	}()
	return r.Run(ctx)
}
