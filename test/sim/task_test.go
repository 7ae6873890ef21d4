package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"skerry/internal/base/clock"
	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/engine/task"
	"skerry/internal/loop"
	"skerry/internal/store"
	"skerry/internal/store/pebblekv"
)

// owned is what a task's owner keeps of it, written by Config.Changed.
type owned struct {
	ID      string
	State   task.State
	Version int64
	Lines   int // of its output, written by Config.PutLogs
}

var owneds = store.NewTable("sim/owned", func(o *owned) store.Key { return store.K(o.ID) })

// yard is an engine, the tasks that were asked for, and what their programs have
// seen. It outlives the crashes of the runner.
type yard struct {
	rand  *rand.Rand
	clock *clock.Fake
	fake  *enginetest.Fake
	dir   string
	n     int

	mu    sync.Mutex
	runs  map[string]int // of programs, by task and container
	acked map[engine.ID]*task.Task
	stops map[engine.ID]bool // acknowledged
}

var errCrashed = errors.New("the server has crashed")

// life is one life of the runner. What a crashed one asks of the engine is not
// done.
type life struct {
	*enginetest.Fake
	*task.Runner
	yard    *yard
	db      *store.DB
	loops   *loop.Driver
	crashed atomic.Bool
}

func (l *life) cut(do func() error) error {
	if l.crashed.Load() {
		return errCrashed
	}
	return do()
}

// Create implements engine.Engine.
func (l *life) Create(ctx context.Context, s engine.Spec) (id engine.ID, err error) {
	err = l.cut(func() error { id, err = l.Fake.Create(ctx, s); return err })
	return id, err
}

// Start implements engine.Engine.
func (l *life) Start(ctx context.Context, id engine.ID) error {
	return l.cut(func() error { return l.Fake.Start(ctx, id) })
}

// Signal implements engine.Engine.
func (l *life) Signal(ctx context.Context, id engine.ID, sig syscall.Signal) error {
	return l.cut(func() error { return l.Fake.Signal(ctx, id, sig) })
}

// Remove implements engine.Engine.
func (l *life) Remove(ctx context.Context, id engine.ID) error {
	return l.cut(func() error { return l.Fake.Remove(ctx, id) })
}

func newYard(t *testing.T, seed uint64) *yard {
	y := &yard{rand: rand.New(rand.NewPCG(seed, 3)), clock: clock.NewFake(time.Now()), dir: t.TempDir(),
		runs: map[string]int{}, acked: map[engine.ID]*task.Task{}, stops: map[engine.ID]bool{}}
	y.fake = enginetest.NewFake(map[string]enginetest.Program{
		"exit": func(_ context.Context, p *enginetest.Process) int {
			fmt.Fprintln(p.Stdout, "a line")
			code, _ := strconv.Atoi(p.Args[1])
			if y.run(p) == 1 && len(p.Args) > 2 {
				code, _ = strconv.Atoi(p.Args[2])
			}
			return code
		},
		"wait": func(ctx context.Context, p *enginetest.Process) int {
			y.run(p)
			select {
			case <-p.Signals:
				return 0
			case <-ctx.Done():
				return 1
			}
		},
	})
	y.fake.Pullable = map[string]engine.Image{"i": {ID: "sha256:i", Names: []string{"i"}}}
	return y
}

// run counts a run of a program.
func (y *yard) run(p *enginetest.Process) int {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.runs[string(p.Spec.ID)]++
	return y.runs[string(p.Spec.ID)]
}

func (y *yard) live(fs vfs.FS) (*life, error) {
	driver, err := pebblekv.Open("data", pebblekv.Options{FS: fs, MemTable: 64 << 10})
	if err != nil {
		return nil, err
	}
	l := &life{Fake: y.fake, yard: y, db: store.New(driver)}
	quiet := slog.New(slog.DiscardHandler)
	l.Runner = task.New(task.Config{Store: l.db, Engine: l, Clock: y.clock, Log: quiet, Dir: y.dir, Wake: func(n string) { l.loops.Wake(n) },
		Changed: func(tx *store.Tx, s *task.Status) error {
			o, err := ownedOf(tx, s.ID)
			if err != nil {
				return err
			}
			if o.Version >= s.Version {
				return fmt.Errorf("version %d of %s after %d", s.Version, s.ID, o.Version)
			}
			o.State, o.Version = s.State, s.Version
			return owneds.Put(tx, o)
		},
		PutLogs: func(ctx context.Context, b task.LogBatch) error {
			return l.db.Update(ctx, func(tx *store.Tx) error {
				o, err := ownedOf(tx, b.Task.ID)
				if err != nil {
					return err
				}
				o.Lines += len(b.Events)
				return errors.Join(owneds.Put(tx, o), b.Advance(tx))
			})
		}})
	l.loops = loop.NewDriver(y.clock, quiet, l.Loops()...)
	l.loops.Start()
	return l, nil
}

func ownedOf(tx *store.Tx, id engine.ID) (*owned, error) {
	o, err := owneds.Get(tx, store.K(string(id)))
	if errors.Is(err, store.ErrNotFound) {
		return &owned{ID: string(id)}, nil
	}
	return o, err
}

func (l *life) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return errors.Join(l.loops.Stop(ctx), l.db.Close())
}

// draw makes a task: it ends by itself, or waits to be stopped.
func (y *yard) draw() *task.Task {
	y.n++
	t := &task.Task{ID: engine.ID(fmt.Sprintf("t%06d", y.n)), Account: "000000000000", Network: task.Network{Mode: task.AWSVPC},
		Volumes: []task.Volume{{Name: "v"}}}
	main := task.Container{Name: "main", Image: "i", Essential: true, Command: []string{"exit", "7"}, Mounts: []task.MountPoint{{Volume: "v", Path: "/v"}},
		Log: task.Log{Driver: "awslogs", Options: map[string]string{"awslogs-group": "g"}}}
	switch y.rand.IntN(4) {
	case 0:
		main.Command = []string{"wait"}
	case 1: // once more after its first run
		main.Command = []string{"exit", "7", "1"}
		main.Restart = &task.RestartPolicy{Ignored: []int{7}, Period: time.Nanosecond}
	case 2:
		main.DependsOn = []task.Dependency{{Container: "init", Condition: task.OnSuccess}}
		t.Containers = append(t.Containers, task.Container{Name: "init", Image: "i", Command: []string{"exit", "0"}})
	}
	t.Containers = append(t.Containers, main)
	return t
}

// ask has a task run, or one that runs be stopped.
func (l *life) ask() {
	y := l.yard
	t := y.draw()
	err := l.db.Update(context.Background(), func(tx *store.Tx) error { return l.Run(tx, t) })
	y.mu.Lock()
	defer y.mu.Unlock()
	if err == nil && !l.crashed.Load() {
		y.acked[t.ID] = t
	}
}

func (l *life) end(id engine.ID) {
	y := l.yard
	err := l.db.Update(context.Background(), func(tx *store.Tx) error { return l.Stop(tx, id, task.UserInitiated, "enough") })
	y.mu.Lock()
	defer y.mu.Unlock()
	if err == nil && !l.crashed.Load() {
		y.stops[id] = true
	}
}

// TestTasks runs tasks on a runner that crashes at any change of its disk, over an
// engine that goes on. In the end every task that was accepted has run as often as
// its rows say, its output is written once, its owner knows of all, and nothing is
// left over.
func TestTasks(t *testing.T) {
	first, n := uint64(1), (*seedsFlag+1)/2
	if *seedFlag != 0 {
		first, n = *seedFlag, 1
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			y := newYard(t, seed)
			fs := vfs.NewCrashableMem()
			for range lives {
				fs = y.until(t, fs)
			}
			y.rest(t, fs)
			if t.Failed() {
				t.Fatalf("run again by: go test ./test/sim -run Tasks -seed %d", seed)
			}
		})
	}
}

// until lives until a crash; it returns the disk after it.
func (y *yard) until(t *testing.T, fs *vfs.MemFS) *vfs.MemFS {
	var after *vfs.MemFS
	var l *life
	dead := make(chan struct{})
	made := make(chan struct{})
	seed := y.rand.Uint64()
	d := newDisk(fs, 20+y.rand.Int64N(150), func() {
		select {
		case <-made:
			l.crashed.Store(true)
		default: // while it starts
		}
		after = afterCrash(fs, seed)
		close(dead)
	})
	var err error
	l, err = y.live(d)
	if err != nil {
		t.Fatal(err)
	}
	close(made)
	for crashed := false; !crashed; {
		select {
		case <-dead:
			crashed = true
		default:
			if y.rand.IntN(6) == 0 {
				l.ask()
			}
			y.mu.Lock()
			ids := maps.Clone(y.acked)
			y.mu.Unlock()
			for id := range ids {
				if y.rand.IntN(40*len(ids)) == 0 {
					l.end(id)
				}
			}
			y.clock.Advance(50 * time.Millisecond)
			time.Sleep(100 * time.Microsecond)
		}
	}
	l.crashed.Store(true)
	if err := l.stop(); err != nil {
		t.Logf("stop after the crash: %v", err) // of no account
	}
	return after
}

// rest lives a last time, until nothing is to be done.
func (y *yard) rest(t *testing.T, fs *vfs.MemFS) {
	l, err := y.live(fs)
	if err != nil {
		t.Fatal(err)
	}
	for id, one := range y.acked {
		if one.Containers[len(one.Containers)-1].Command[0] == "wait" {
			l.end(id)
		}
	}
	for end := time.Now().Add(60 * time.Second); ; {
		left := ""
		if err := l.db.View(t.Context(), func(tx *store.Tx) error {
			left = ""
			for id := range y.acked {
				if s, err := l.Get(tx, id); err != nil {
					return fmt.Errorf("%s was accepted and is gone: %w", id, err)
				} else if s.State != task.Stopped {
					left = fmt.Sprintf("%s is %s: %+v", id, s.State, s.Status)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if left == "" {
			break
		}
		if time.Now().After(end) {
			t.Fatal(left)
		}
		y.clock.Advance(100 * time.Millisecond)
		time.Sleep(200 * time.Microsecond)
	}
	if err := l.db.View(t.Context(), func(tx *store.Tx) error { return y.check(t, l, tx) }); err != nil {
		t.Error(err)
	}
	if err := l.stop(); err != nil {
		t.Error(err)
	}
}

func (y *yard) check(t *testing.T, l *life, tx *store.Tx) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	for id := range y.acked {
		s, err := l.Get(tx, id)
		if err != nil {
			return err
		}
		o, err := ownedOf(tx, id)
		if err != nil {
			return err
		}
		if o.State != s.State || o.Version != s.Version {
			t.Errorf("%s is %s in version %d; its owner has %+v", id, s.State, s.Version, o)
		}
		if y.stops[id] && s.StopCode == "" {
			t.Errorf("%s was stopped: %+v", id, s)
		}
		main := s.Containers[len(s.Containers)-1]
		for _, c := range s.Status {
			runs := y.runs[string(c.ID)]
			if started := !c.Started.IsZero(); started && runs != 1+c.Restarts || !started && runs != 0 {
				t.Errorf("%s of %s ran %d times: %+v", c.Name, id, runs, c)
			}
			if c.Name == "main" && main.Command[0] == "exit" && o.Lines != runs {
				t.Errorf("%s wrote %d lines, and %d were written", id, runs, o.Lines)
			}
		}
	}
	left, err := y.fake.List(context.Background())
	for _, c := range left {
		if y.acked[engine.ID(c.Labels["task"])] != nil {
			t.Errorf("left over: %+v", c)
		}
	}
	dirs, _ := os.ReadDir(filepath.Join(y.dir, "tasks"))
	for _, d := range dirs {
		if y.acked[engine.ID(d.Name())] != nil {
			t.Errorf("left over: %s", d.Name())
		}
	}
	t.Logf("%d tasks, %d programs run", len(y.acked), len(y.runs))
	return err
}
