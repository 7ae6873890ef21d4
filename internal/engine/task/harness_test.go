package task

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/base/ids"
	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/loop"
	"skerry/internal/store"
)

// world is a runner over an engine, and what goes on around it.
type world struct {
	*Runner
	t      testing.TB
	fake   *enginetest.Fake
	clock  *clock.Fake
	db     *store.DB
	loops  *loop.Driver
	config Config
	data   string // of the embedded engine

	mu      sync.Mutex
	trail   map[engine.ID][]State // as told by Changed
	told    map[engine.ID]*Status
	logs    map[string][]string // by stream
	noLogs  bool                // the sink fails
	refused int                 // how often it did
	secrets map[string]string
	files   map[string]string
}

// patience of tests with conditions.
const testPatience = 20 * time.Second

// newWorld returns a world with a fake engine.
func newWorld(t testing.TB) *world {
	fake := enginetest.NewFake(programs)
	fake.Restarts = true
	fake.Pullable = map[string]engine.Image{}
	for _, name := range []string{"app", "other"} {
		fake.Pullable[name] = engine.Image{ID: "sha256:" + name, Names: []string{name + ":latest"}, Digests: []string{name + "@sha256:d"},
			Config: engine.ImageConfig{Command: []string{"exit", "0"}, Env: []string{"FROM=image", "IMAGE=yes"}}}
	}
	w := &world{t: t, fake: fake, clock: clock.NewFake(time.Now())}
	return w.build(Config{Engine: fake, Clock: w.clock})
}

func (w *world) build(c Config) *world {
	w.t.Helper()
	var err error
	if w.db, err = store.Open(w.t.TempDir(), store.Options{Relaxed: true}); err != nil {
		w.t.Fatal(err)
	}
	w.trail, w.told = map[engine.ID][]State{}, map[engine.ID]*Status{}
	w.logs, w.secrets, w.files = map[string][]string{}, map[string]string{}, map[string]string{}
	c.Store, c.Log, c.Dir, c.HostPaths = w.db, slog.New(slog.NewTextHandler(testWriter{}, nil)), w.t.TempDir(), true
	c.Wake = func(name string) { w.loops.Wake(name) }
	c.Changed, c.PutLogs, c.Secret, c.File = w.changed, w.putLogs, w.secret, w.file
	c.Credentials = func(_ context.Context, t *Task) (Credentials, error) {
		return Credentials{RoleARN: t.TaskRole, AccessKeyID: "ASIA", SecretAccessKey: "s", Token: "t", Expiration: time.Unix(2e9, 0)}, nil
	}
	w.config = c
	w.start()
	w.t.Cleanup(func() {
		w.stop()
		if err := w.db.Close(); err != nil {
			w.t.Error(err)
		}
	})
	return w
}

// start starts a runner, as a new process would.
func (w *world) start() {
	w.Runner = New(w.config)
	w.loops = loop.NewDriver(w.config.Clock, w.config.Log, w.Loops()...)
	w.loops.Start()
}

func (w *world) stop() {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	if err := w.loops.Stop(ctx); err != nil {
		w.t.Errorf("%v: %v", err, w.children.Keys())
	}
}

type testWriter struct{}

func (testWriter) Write(b []byte) (int, error) {
	if testing.Verbose() {
		_, _ = os.Stderr.Write(b)
	}
	return len(b), nil
}

func (w *world) changed(tx *store.Tx, s *Status) error {
	tx.OnCommit(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.told[s.ID] != nil && w.told[s.ID].Version > s.Version {
			return // two commits at once: their callbacks have no order
		}
		w.told[s.ID] = s
		if n := len(w.trail[s.ID]); n == 0 || w.trail[s.ID][n-1] != s.State {
			w.trail[s.ID] = append(w.trail[s.ID], s.State)
		}
	})
	return nil
}

func (w *world) putLogs(_ context.Context, b LogBatch) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.noLogs {
		w.refused++
		return errors.New("ResourceNotFoundException: The specified log stream does not exist.")
	}
	for _, e := range b.Events {
		w.logs[b.Stream.Name] = append(w.logs[b.Stream.Name], e.Message)
	}
	return nil
}

func (w *world) log(stream string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.logs[stream]...)
}

func (w *world) secret(_ context.Context, _ *Task, from string) (string, error) {
	if v, ok := w.secrets[from]; ok {
		return v, nil
	}
	return "", errors.New("ResourceNotFoundException: Secrets Manager can't find the specified secret.")
}

func (w *world) file(_ context.Context, _ *Task, name string) ([]byte, error) {
	if v, ok := w.files[name]; ok {
		return []byte(v), nil
	}
	return nil, errors.New("NoSuchKey: The specified key does not exist.")
}

// task makes a task of containers.
func task(all ...Container) *Task {
	t := &Task{ID: engine.ID(ids.Hex(32)), Account: "000000000000", Region: "us-east-1", Network: Network{Mode: AWSVPC}, Containers: all}
	t.ARN = "arn:aws:ecs:us-east-1:000000000000:task/default/" + string(t.ID)
	for i := range t.Containers {
		if t.Containers[i].Image == "" {
			t.Containers[i].Image = "app"
		}
	}
	return t
}

// begin has a task run.
func (w *world) begin(t *Task) *Task {
	w.t.Helper()
	if err := w.db.Update(context.Background(), func(tx *store.Tx) error { return w.Run(tx, t) }); err != nil {
		w.t.Fatal(err)
	}
	return t
}

func (w *world) halt(t *Task, reason string) {
	w.t.Helper()
	if err := w.db.Update(context.Background(), func(tx *store.Tx) error { return w.Stop(tx, t.ID, UserInitiated, reason) }); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) status(t *Task) *Status {
	w.t.Helper()
	s, err := w.statusOf(context.Background(), t.ID)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// until waits for a condition; with step, the fake clock goes on meanwhile.
func (w *world) until(t *Task, step time.Duration, what string, ok func(s *Status) bool) *Status {
	w.t.Helper()
	for end := time.Now().Add(testPatience); ; {
		s := w.status(t)
		if ok(s) {
			return s
		}
		if time.Now().After(end) {
			w.t.Fatalf("waited for: %s; it is %+v", what, s)
		}
		if w.clock != nil {
			w.clock.Advance(step)
		}
		time.Sleep(200 * time.Microsecond)
	}
}

func (w *world) reaches(t *Task, state State) *Status {
	w.t.Helper()
	return w.until(t, 10*time.Millisecond, string(state), func(s *Status) bool {
		if s.State == Stopped && state != Stopped {
			w.t.Fatalf("it has stopped: %s %s %+v", s.StopCode, s.StoppedReason, s.Status)
		}
		return s.State == state
	})
}

// empty checks that the engine has nothing left.
func (w *world) empty() {
	w.t.Helper()
	left, err := w.Engine.List(context.Background())
	if err != nil || len(left) > 0 {
		w.t.Errorf("left over: %v, %v", left, err)
	}
	if dirs := w.taskFolders(); len(dirs) > 0 {
		w.t.Errorf("folders left over: %v", dirs)
	}
}

// written is how much a container has written.
func (w *world) written(id engine.ID) int64 {
	st, err := w.Engine.Inspect(context.Background(), id)
	if err != nil {
		return 0
	}
	return st.LogBytes
}

func (s *Status) of(name string) ContainerStatus {
	for _, c := range s.Status {
		if c.Name == name {
			return c
		}
	}
	return ContainerStatus{}
}

func code(c ContainerStatus) int {
	if c.ExitCode == nil {
		return -1000
	}
	return *c.ExitCode
}

// programs of the fake engine, by name.
var programs = map[string]enginetest.Program{
	"exit": func(_ context.Context, p *enginetest.Process) int {
		n, _ := strconv.Atoi(p.Args[1])
		return n
	},
	"oom": func(context.Context, *enginetest.Process) int { return enginetest.OutOfMemory },
	// wait ends with 0 when it is told to.
	"wait": func(ctx context.Context, p *enginetest.Process) int {
		select {
		case sig := <-p.Signals:
			fmt.Fprintln(p.Stdout, "got", sig)
			return 0
		case <-ctx.Done():
			return 1
		}
	},
	"stubborn": func(ctx context.Context, _ *enginetest.Process) int { <-ctx.Done(); return 1 },
	"echo": func(_ context.Context, p *enginetest.Process) int {
		for _, a := range p.Args[1:] {
			fmt.Fprintln(p.Stdout, a)
		}
		return 0
	},
	"say-and-wait": func(ctx context.Context, p *enginetest.Process) int {
		fmt.Fprintln(p.Stdout, p.Args[1])
		<-ctx.Done()
		return 1
	},
	"env": func(_ context.Context, p *enginetest.Process) int {
		for _, e := range p.Env {
			if strings.HasPrefix(e, p.Args[1]) {
				fmt.Fprintln(p.Stdout, e)
			}
		}
		return 0
	},
	// once ends with 1 the first time, and then waits: its volume knows.
	"once": func(ctx context.Context, p *enginetest.Process) int {
		mark := filepath.Join(p.Mounts()[0].Source, "mark")
		if _, err := os.Stat(mark); err != nil {
			_ = os.WriteFile(mark, nil, 0o600)
			return 1
		}
		<-ctx.Done()
		return 0
	},
	// has ends with 0 if there is a file in its volume.
	"has": func(_ context.Context, p *enginetest.Process) int {
		if _, err := os.Stat(filepath.Join(p.Mounts()[0].Source, p.Args[1])); err != nil {
			return 1
		}
		return 0
	},
	"touch": func(_ context.Context, p *enginetest.Process) int {
		if os.WriteFile(filepath.Join(p.Mounts()[0].Source, p.Args[1]), nil, 0o600) != nil {
			return 1
		}
		return 0
	},
	// get prints what an address inside answers; the variable names it.
	"get": func(ctx context.Context, p *enginetest.Process) int {
		env := map[string]string{}
		for _, e := range p.Env {
			k, v, _ := strings.Cut(e, "=")
			env[k] = v
		}
		hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return p.Dial(ctx, network, address)
		}}}
		for _, path := range p.Args[1:] {
			url := os.Expand(path, func(k string) string { return env[k] })
			q, _ := http.NewRequestWithContext(ctx, "GET", url, nil)
			a, err := hc.Do(q)
			if err != nil {
				fmt.Fprintln(p.Stderr, err)
				return 1
			}
			b, _ := io.ReadAll(a.Body)
			_ = a.Body.Close()
			fmt.Fprintln(p.Stdout, a.StatusCode, string(b))
		}
		return 0
	},
}
