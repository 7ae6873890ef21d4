package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"skerry/internal/engine"
)

// patience is how long a condition may take on a busy machine.
const patience = 20 * time.Second

// Run is the contract suite. The engine is empty at the start and at the end.
func Run(t *testing.T, e engine.Engine) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"Exit", (*suite).exit}, {"Logs", (*suite).logs}, {"Follow", (*suite).follow},
		{"Signal", (*suite).signal}, {"Kill", (*suite).kill}, {"States", (*suite).states},
		{"NotFound", (*suite).notFound}, {"Invalid", (*suite).invalid}, {"StartError", (*suite).startError},
		{"Freeze", (*suite).freeze}, {"KillFrozen", (*suite).killFrozen}, {"Events", (*suite).events},
		{"List", (*suite).list}, {"Listen", (*suite).listen}, {"Launch", (*suite).launch}, {"Exec", (*suite).exec}, {"Env", (*suite).env},
		{"Stats", (*suite).stats}, {"Many", (*suite).many}, {"Restart", (*suite).restart}, {"Files", (*suite).files},
		{"Input", (*suite).input}, {"InputClosed", (*suite).inputClosed}, {"Terminal", (*suite).terminal},
		{"ExecTerminal", (*suite).execTerminal}, {"ExecLeaves", (*suite).execLeaves}, {"ExecEnds", (*suite).execEnds},
		{"Stop", (*suite).stop}, {"Init", (*suite).init},
		{"Layers", (*suite).layers}, {"CPUs", (*suite).cpus}, {"Seccomp", (*suite).seccomp}, {"Groups", (*suite).groups}, {"Networks", (*suite).networks}, {"Connect", (*suite).connect}, {"Ports", (*suite).ports}, {"Firewall", (*suite).firewall},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
			defer cancel()
			c.test(&suite{T: t, ctx: ctx, e: e})
		})
	}
	if left, err := e.List(context.Background()); err != nil || len(left) > 0 {
		t.Errorf("left over after the suite: %v, %v", left, err)
	}
}

type suite struct {
	*testing.T
	ctx context.Context
	e   engine.Engine
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) is(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Fatalf("got error %v, want %v", err, want)
	}
}

// Spec is a specification of a shell script on the machine's own folders.
func Spec(script string) engine.Spec {
	return engine.Spec{
		Account: "000000000000", Root: engine.Root{Host: &engine.HostRoot{}},
		Command: []string{"/bin/sh", "-c", script},
		Env:     []string{"PATH=/usr/local/bin:/usr/bin:/bin", "GREETING=good morning"},
	}
}

func (s *suite) create(script string) engine.ID {
	s.Helper()
	id, err := s.e.Create(s.ctx, Spec(script))
	s.must(err)
	s.Cleanup(func() { s.must(s.e.Remove(context.Background(), id)) })
	return id
}

func (s *suite) start(script string) engine.ID {
	s.Helper()
	id := s.create(script)
	s.must(s.e.Start(s.ctx, id))
	return id
}

// output reads what a container wrote so far.
func (s *suite) output(id engine.ID, stream engine.Stream) string {
	s.Helper()
	var b strings.Builder
	s.must(s.e.Logs(s.ctx, id, engine.LogQuery{}, func(f engine.Frame) error {
		if f.Stream == stream {
			b.Write(f.Data)
		}
		return nil
	}))
	return b.String()
}

// ready waits for the output to hold a text.
func (s *suite) ready(id engine.ID, text string) {
	s.Helper()
	found := errors.New("found")
	var b strings.Builder
	err := s.e.Logs(s.ctx, id, engine.LogQuery{Follow: true}, func(f engine.Frame) error {
		b.Write(f.Data)
		if strings.Contains(b.String(), text) {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		s.Fatalf("no %q in %q: %v", text, b.String(), err)
	}
}

func (s *suite) exit() {
	id := s.start(scriptCode)
	exit, err := s.e.Wait(s.ctx, id)
	s.must(err)
	if exit.Code != 3 || exit.Signal != 0 || exit.OOM || exit.Finished.Before(exit.Started) {
		s.Errorf("exit %+v", exit)
	}
	st, err := s.e.Inspect(s.ctx, id)
	s.must(err)
	if st.State != engine.Exited || st.Exit == nil || st.Exit.Code != 3 || st.Pid != 0 {
		s.Errorf("status %+v", st)
	}
}

func (s *suite) logs() {
	id := s.start(scriptCode)
	_, err := s.e.Wait(s.ctx, id)
	s.must(err)
	if out, errs := s.output(id, engine.Stdout), s.output(id, engine.Stderr); out != "out\n" || errs != "err\n" {
		s.Errorf("output %q, %q", out, errs)
	}
	var frames []engine.Frame
	s.must(s.e.Logs(s.ctx, id, engine.LogQuery{}, func(f engine.Frame) error { frames = append(frames, f); return nil }))
	if len(frames) != 2 {
		s.Fatalf("%d frames", len(frames))
	}
	n := 0
	s.must(s.e.Logs(s.ctx, id, engine.LogQuery{From: frames[0].Next}, func(f engine.Frame) error { n++; return nil }))
	if n != 1 {
		s.Errorf("%d frames from the first's cursor, want 1", n)
	}
	if age := time.Since(frames[0].Time); age < -time.Second || age > patience {
		s.Errorf("a frame's time is %v ago", age)
	}
	boom := errors.New("boom")
	s.is(s.e.Logs(s.ctx, id, engine.LogQuery{}, func(engine.Frame) error { return boom }), boom)
}

func (s *suite) follow() {
	id := s.start(scriptTick)
	s.ready(id, "tick 3\n")
	done := make(chan error, 1)
	go func() {
		done <- s.e.Logs(s.ctx, id, engine.LogQuery{Follow: true}, func(engine.Frame) error { return nil })
	}()
	s.must(s.e.Signal(s.ctx, id, syscall.SIGKILL))
	s.must(<-done) // the end of the container is the end of its log
}

func (s *suite) signal() {
	id := s.start(scriptWait)
	s.ready(id, "ready")
	// the shell sets its trap just after it says that it is ready
	for {
		if err := s.e.Signal(s.ctx, id, syscall.SIGTERM); !errors.Is(err, engine.ErrState) { // the one before did it
			s.must(err)
		}
		ctx, cancel := context.WithTimeout(s.ctx, 100*time.Millisecond)
		exit, err := s.e.Wait(ctx, id)
		cancel()
		if err == nil {
			if exit.Code != 7 {
				s.Errorf("exit %+v", exit)
			}
			return
		}
		s.is(err, context.DeadlineExceeded)
	}
}

func (s *suite) kill() {
	id := s.start(scriptWait)
	s.must(s.e.Signal(s.ctx, id, syscall.SIGKILL))
	exit, err := s.e.Wait(s.ctx, id)
	s.must(err)
	if exit.Code != 137 || exit.Signal != 9 || exit.OOM {
		s.Errorf("exit %+v", exit)
	}
}

func (s *suite) states() {
	id := s.create(scriptTrue)
	s.is(s.e.Signal(s.ctx, id, syscall.SIGTERM), engine.ErrState)
	s.is(s.e.Freeze(s.ctx, id, true), engine.ErrState)
	st, err := s.e.Inspect(s.ctx, id)
	s.must(err)
	if st.State != engine.Created || !st.Started.IsZero() {
		s.Errorf("status %+v", st)
	}
	s.is(s.e.Start(s.ctx, s.start(scriptWait)), engine.ErrState)
	s.must(s.e.Start(s.ctx, id))
	_, err = s.e.Wait(s.ctx, id)
	s.must(err)
	s.is(s.e.Signal(s.ctx, id, syscall.SIGTERM), engine.ErrState)
	s.must(s.e.Update(s.ctx, id, engine.Limits{})) // of the next run
	_, err = s.e.Stats(s.ctx, id)
	s.is(err, engine.ErrState)
	spec := Spec(scriptTrue)
	spec.ID = id
	_, err = s.e.Create(s.ctx, spec)
	s.is(err, engine.ErrExists)
}

func (s *suite) notFound() {
	const id = "nobody"
	s.is(s.e.Start(s.ctx, id), engine.ErrNotFound)
	s.is(s.e.Signal(s.ctx, id, syscall.SIGTERM), engine.ErrNotFound)
	s.is(s.e.Update(s.ctx, id, engine.Limits{}), engine.ErrNotFound)
	s.is(s.e.Freeze(s.ctx, id, true), engine.ErrNotFound)
	s.is(s.e.Logs(s.ctx, id, engine.LogQuery{}, func(engine.Frame) error { return nil }), engine.ErrNotFound)
	_, err := s.e.Wait(s.ctx, id)
	s.is(err, engine.ErrNotFound)
	_, err = s.e.Listen(s.ctx, id, "tcp", "127.0.0.1:1")
	s.is(err, engine.ErrNotFound)
	_, err = s.e.Inspect(s.ctx, id)
	s.is(err, engine.ErrNotFound)
	_, err = s.e.Exec(s.ctx, id, engine.ExecSpec{Command: []string{"true"}}, engine.Streams{})
	s.is(err, engine.ErrNotFound)
	s.must(s.e.Remove(s.ctx, id))
}

func (s *suite) invalid() {
	for name, change := range map[string]func(*engine.Spec){
		"no command": func(p *engine.Spec) { p.Command = nil },
		"bad id":     func(p *engine.Spec) { p.ID = "../x" },
		"no root":    func(p *engine.Spec) { p.Root = engine.Root{} },
		"mount":      func(p *engine.Spec) { p.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "tmp"}} },
		"root mount": func(p *engine.Spec) { p.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/x/.."}} },
		"user":       func(p *engine.Spec) { p.User.UID = 1 << 20 },
		"zero byte":  func(p *engine.Spec) { p.Env = []string{"A=\x00"} },
		"network":    func(p *engine.Spec) { p.Network.Mode = "all" },
		"memory":     func(p *engine.Spec) { p.Limits.Memory = -1 },
		"processors": func(p *engine.Spec) { p.Limits.CPU = 1e300 },
		"no number":  func(p *engine.Spec) { p.Limits.CPU = math.NaN() },
		"swap alone": func(p *engine.Spec) { p.Limits.Swap = 1 << 20 },
		"group name": func(p *engine.Spec) { p.Group.Name = "../x" },
		"no group":   func(p *engine.Spec) { p.Group.Limits.CPU = 1 },
		"group":      func(p *engine.Spec) { p.Group = engine.Group{Name: "x", Limits: engine.Limits{Memory: -1}} },
	} {
		spec := Spec(scriptTrue)
		change(&spec)
		if id, err := s.e.Create(s.ctx, spec); !errors.Is(err, engine.ErrInvalid) {
			s.Errorf("%s: %q, %v", name, id, err)
		}
	}
}

func (s *suite) startError() {
	spec := Spec(scriptTrue)
	spec.Command = []string{"/no/such/program"}
	id, err := s.e.Create(s.ctx, spec)
	s.must(err)
	defer func() { s.must(s.e.Remove(s.ctx, id)) }()
	err = s.e.Start(s.ctx, id)
	var fault *engine.StartError
	if !errors.As(err, &fault) || fault.Err != syscall.ENOENT || fault.Path != "/no/such/program" {
		s.Fatalf("start: %v", err)
	}
}

func (s *suite) freeze() {
	id := s.start(scriptTick)
	s.ready(id, "tick 1\n")
	s.must(s.e.Freeze(s.ctx, id, true))
	s.must(s.e.Freeze(s.ctx, id, true))
	st, err := s.e.Inspect(s.ctx, id)
	s.must(err)
	if st.State != engine.Frozen {
		s.Errorf("state %s", st.State)
	}
	before := s.output(id, engine.Stdout)
	ctx, cancel := context.WithTimeout(s.ctx, 150*time.Millisecond)
	defer cancel()
	_, err = s.e.Wait(ctx, id) // only to let time pass
	s.is(err, context.DeadlineExceeded)
	if after := s.output(id, engine.Stdout); after != before {
		s.Errorf("a frozen container wrote %q", strings.TrimPrefix(after, before))
	}
	s.must(s.e.Freeze(s.ctx, id, false))
	s.ready(id, fmt.Sprintf("tick %d\n", strings.Count(before, "\n")+2))
}

func (s *suite) killFrozen() {
	id := s.start(scriptWait)
	s.must(s.e.Freeze(s.ctx, id, true))
	s.must(s.e.Signal(s.ctx, id, syscall.SIGKILL))
	exit, err := s.e.Wait(s.ctx, id)
	s.must(err)
	if exit.Signal != 9 {
		s.Errorf("exit %+v", exit)
	}
}

// take reads n events.
func (s *suite) take(after engine.Cursor, n int) (events []engine.Event) {
	s.Helper()
	enough := errors.New("enough")
	err := s.e.Events(s.ctx, after, func(e engine.Event) error {
		if events = append(events, e); len(events) == n {
			return enough
		}
		return nil
	})
	s.is(err, enough)
	return events
}

func (s *suite) events() {
	spec := Spec(scriptCode)
	spec.Labels = map[string]string{"task": "t1"}
	id, err := s.e.Create(s.ctx, spec)
	s.must(err)
	defer func() { s.must(s.e.Remove(context.Background(), id)) }()
	s.must(s.e.Start(s.ctx, id))
	all := s.take(0, 2)
	if all[0].Kind != engine.EventStarted || all[1].Kind != engine.EventExited || all[1].ID != id ||
		all[1].Exit == nil || all[1].Exit.Code != 3 || all[1].Labels["task"] != "t1" {
		s.Errorf("events %+v", all)
	}
	if again := s.take(all[0].Cursor, 1); again[0].Kind != engine.EventExited || again[0].Cursor != all[1].Cursor {
		s.Errorf("after the first: %+v", again)
	}
	next := s.start(scriptTrue)
	if live := s.take(all[1].Cursor, 2); live[1].ID != next {
		s.Errorf("after the last: %+v", live)
	}
}

func (s *suite) list() {
	a, b := s.start(scriptWait), s.create(scriptTrue)
	all, err := s.e.List(s.ctx)
	s.must(err)
	if len(all) != 2 || all[0].ID != a || all[0].State != engine.Running || all[1].ID != b || all[1].State != engine.Created {
		s.Errorf("list %+v", all)
	}
}

func (s *suite) listen() {
	if can, err := s.e.Info(s.ctx); err != nil || !can.Listen {
		s.must(err)
		_, err := s.e.Listen(s.ctx, s.create(scriptTrue), "tcp", "127.0.0.1:9001")
		s.is(err, engine.ErrUnsupported)
		return
	}
	id := s.create(scriptHello)
	l, err := s.e.Listen(s.ctx, id, "tcp", "127.0.0.1:9001")
	s.must(err)
	defer l.Close()
	s.must(s.e.Start(s.ctx, id))
	c, err := l.Accept()
	s.must(err)
	defer c.Close()
	b := make([]byte, 9)
	n, err := c.Read(b)
	s.must(err)
	if string(b[:n]) != "hello" {
		s.Errorf("heard %q", b[:n])
	}
	_, err = c.Write([]byte("welcome"))
	s.must(err)
	exit, err := s.e.Wait(s.ctx, id)
	s.must(err)
	if out := s.output(id, engine.Stdout); exit.Code != 0 || out != "welcome\n" {
		s.Errorf("exit %+v, output %q, %q", exit, out, s.output(id, engine.Stderr))
	}
	other := s.create(scriptTrue)
	p, err := s.e.ListenPacket(s.ctx, other, "udp", "127.0.0.1:53")
	s.must(err)
	s.must(p.Close())
	all, err := s.e.ListenAll(s.ctx, other, engine.Socket{Network: "udp4", Address: "169.254.169.253:53"},
		engine.Socket{Network: "tcp4", Address: "127.0.0.1:9002"})
	s.must(err)
	if len(all) != 2 || all[0].Packets == nil || all[1].Listener == nil {
		s.Fatalf("listening %+v", all)
	}
	for _, l := range all {
		s.must(l.Close())
	}
}

func (s *suite) launch() {
	id, _, err := s.e.Launch(s.ctx, Spec(scriptCode))
	s.must(err)
	defer func() { s.must(s.e.Remove(context.Background(), id)) }()
	exit, err := s.e.Wait(s.ctx, id)
	s.must(err)
	if exit.Code != 3 {
		s.Errorf("exit %+v", exit)
	}
	bad := Spec(scriptTrue)
	bad.ID, bad.Command = "launch-bad", []string{"/no/such/program"}
	_, _, err = s.e.Launch(s.ctx, bad)
	s.is(err, syscall.ENOENT)
	_, err = s.e.Inspect(s.ctx, bad.ID)
	s.is(err, engine.ErrNotFound)
	place := engine.Socket{Network: "tcp4", Address: "127.0.0.1:9001"}
	other, opened, err := s.e.Launch(s.ctx, Spec(scriptHello), place)
	if can, fault := s.e.Info(s.ctx); fault != nil || !can.Listen {
		s.must(fault)
		s.is(err, engine.ErrUnsupported)
		return
	}
	s.must(err)
	defer func() { s.must(s.e.Remove(context.Background(), other)) }()
	if len(opened) != 1 || opened[0].Listener == nil {
		s.Fatalf("listening %+v", opened)
	}
	c, err := opened[0].Listener.Accept() // the program may have called before
	s.must(err)
	defer c.Close()
	b := make([]byte, 9)
	n, err := c.Read(b)
	s.must(err)
	if string(b[:n]) != "hello" {
		s.Errorf("heard %q", b[:n])
	}
}

func (s *suite) exec() {
	id := s.start(scriptWait)
	var out, errs bytes.Buffer
	exit, err := s.e.Exec(s.ctx, id, engine.ExecSpec{Command: []string{"/bin/sh", "-c", scriptCat}},
		engine.Streams{Stdin: strings.NewReader("through"), Stdout: &out, Stderr: &errs})
	s.must(err)
	if exit.Code != 5 || out.String() != "through" || errs.Len() > 0 {
		s.Errorf("exit %+v, output %q, %q", exit, out.String(), errs.String())
	}
	exit, err = s.e.Exec(s.ctx, id, engine.ExecSpec{Command: []string{"/bin/sh", "-c", scriptCode}}, engine.Streams{})
	s.must(err)
	if exit.Code != 3 {
		s.Errorf("exit %+v", exit)
	}
	_, err = s.e.Exec(s.ctx, id, engine.ExecSpec{Command: []string{"/no/such/program"}}, engine.Streams{})
	s.is(err, syscall.ENOENT)
	if strings.Contains(s.output(id, engine.Stdout), "out") {
		s.Error("Exec's output is in the container's log")
	}
}

func (s *suite) env() {
	id := s.start(scriptEnv)
	_, err := s.e.Wait(s.ctx, id)
	s.must(err)
	if out := s.output(id, engine.Stdout); out != "good morning" {
		s.Errorf("output %q", out)
	}
}

func (s *suite) stats() {
	id := s.start(scriptWait)
	st, err := s.e.Stats(s.ctx, id)
	s.must(err)
	if st.Pids < 1 || st.Time.IsZero() {
		s.Errorf("stats %+v", st)
	}
	can, err := s.e.Info(s.ctx)
	s.must(err)
	if err := s.e.Update(s.ctx, id, engine.Limits{Pids: 64}); can.PidsLimit {
		s.must(err)
	} else {
		s.is(err, engine.ErrUnsupported) // a limit that nobody keeps is not taken
	}
}

func (s *suite) many() {
	const n = 24
	errs := make(chan error, n)
	for i := range n {
		go func() {
			spec := Spec(scriptCode)
			spec.ID = engine.ID(fmt.Sprintf("many-%d", i))
			errs <- func() error {
				id, err := s.e.Create(s.ctx, spec)
				if err != nil {
					return err
				}
				if err := s.e.Start(s.ctx, id); err != nil {
					return err
				}
				exit, err := s.e.Wait(s.ctx, id)
				if err == nil && exit.Code != 3 {
					err = fmt.Errorf("%s: exit %+v", id, exit)
				}
				return errors.Join(err, s.e.Remove(s.ctx, id))
			}()
		}()
	}
	for range n {
		s.must(<-errs)
	}
}
