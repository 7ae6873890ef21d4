package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"time"

	"skerry/internal/engine"
)

// has skips what the engine cannot do here.
func (s *suite) has(what string, ask func(engine.Capabilities) bool) {
	s.Helper()
	can, err := s.e.Info(s.ctx)
	s.must(err)
	if !ask(can) {
		s.Skipf("the engine has no %s: %v", what, can.Missing)
	}
}

// startSpec is start with a changed specification.
func (s *suite) startSpec(script string, change func(*engine.Spec)) engine.ID {
	s.Helper()
	spec := Spec(script)
	change(&spec)
	id, err := s.e.Create(s.ctx, spec)
	s.must(err)
	s.Cleanup(func() { s.must(s.e.Remove(context.Background(), id)) })
	s.must(s.e.Start(s.ctx, id))
	return id
}

func (s *suite) write(w io.Writer, text string) {
	s.Helper()
	_, err := io.WriteString(w, text)
	s.must(err)
}

func (s *suite) input() {
	id := s.startSpec(scriptCat, func(p *engine.Spec) { p.Stdin = true })
	in, err := s.e.Input(s.ctx, id)
	s.must(err)
	s.write(in, "one\n") // a line, since some drivers log nothing less
	s.ready(id, "one\n")
	second, err := s.e.Input(s.ctx, id)
	s.must(err)
	s.write(second, "two\n")
	s.ready(id, "one\ntwo\n")
	s.must(in.Close()) // the end, whoever else writes
	exit, err := s.e.Wait(s.ctx, id)
	s.must(err)
	if exit.Code != 5 {
		s.Errorf("exit %+v", exit)
	}
	s.until("writing to an input that has ended fails", func() bool {
		_, err := second.Write([]byte("three"))
		return err != nil
	})
	_, err = s.e.Input(s.ctx, id)
	s.is(err, engine.ErrState)
	// without Stdin it is empty from the start
	id = s.start(scriptCat)
	_, err = s.e.Wait(s.ctx, id)
	s.must(err)
	_, err = s.e.Input(s.ctx, s.create(scriptCat))
	s.is(err, engine.ErrState)
	_, err = s.e.Input(s.ctx, "nobody")
	s.is(err, engine.ErrNotFound)
}

// inputClosed ends an input before the program reads it.
func (s *suite) inputClosed() {
	spec := Spec(scriptCat)
	spec.Stdin = true
	id, err := s.e.Create(s.ctx, spec)
	s.must(err)
	defer func() { s.must(s.e.Remove(context.Background(), id)) }()
	in, err := s.e.Input(s.ctx, id)
	s.must(err)
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(in, "early")
		wrote <- err
	}()
	s.must(s.e.Start(s.ctx, id))
	s.must(<-wrote)
	s.must(in.Close())
	_, err = s.e.Wait(s.ctx, id)
	s.must(err)
	if out := s.output(id, engine.Stdout); out != "early" {
		s.Errorf("output %q", out)
	}
}

func (s *suite) terminal() {
	s.has("terminals", func(c engine.Capabilities) bool { return c.Terminals })
	id := s.startSpec(scriptTerminal, func(p *engine.Spec) { p.TTY = true })
	s.must(s.e.Resize(s.ctx, id, engine.Size{Rows: 33, Columns: 99}))
	in, err := s.e.Input(s.ctx, id)
	s.must(err)
	s.write(in, "hello\n")
	s.ready(id, "heard hello 33 99\r\n")
	s.must(in.Close())
	again, err := s.e.Input(s.ctx, id)
	s.must(err)
	s.write(again, "bye\n")
	exit, err := s.e.Wait(s.ctx, id)
	s.must(err)
	out, errs := s.output(id, engine.Stdout), s.output(id, engine.Stderr)
	if exit.Code != 6 || !strings.Contains(out, "terminal\r\n") || errs != "" {
		s.Errorf("exit %+v, output %q, %q", exit, out, errs)
	}
	s.is(s.e.Resize(s.ctx, id, engine.Size{}), engine.ErrState)
	s.is(s.e.Resize(s.ctx, s.create(scriptTrue), engine.Size{}), engine.ErrState)
	s.is(s.e.Resize(s.ctx, "nobody", engine.Size{}), engine.ErrNotFound)
}

func (s *suite) execTerminal() {
	s.has("terminals", func(c engine.Capabilities) bool { return c.Terminals })
	id := s.start(scriptWait)
	sizes := make(chan engine.Size)
	in, typed := io.Pipe()
	out := &seen{changed: make(chan struct{}, 1)}
	type end struct {
		engine.Exit
		error
	}
	done := make(chan end, 1)
	go func() {
		exit, err := s.e.Exec(s.ctx, id, engine.ExecSpec{Command: []string{"/bin/sh", "-c", scriptTerminal}, TTY: true,
			Size: engine.Size{Rows: 11, Columns: 22}}, engine.Streams{Stdin: in, Stdout: out, Resize: sizes})
		done <- end{exit, err}
	}()
	s.write(typed, "hello\n")
	out.until(s, "terminal\r\n")
	out.until(s, "heard hello 11 22\r\n")
	sizes <- engine.Size{Rows: 12, Columns: 23}
	out.until(s, "size 12 23\r\n")
	s.write(typed, "bye\n")
	e := <-done
	s.must(e.error)
	s.must(typed.Close())
	if e.Code != 6 {
		s.Errorf("exit %+v, output %q", e.Exit, out.text())
	}
}

// execLeaves starts what goes on after the program, and holds its output.
func (s *suite) execLeaves() {
	id := s.start(scriptWait)
	begin := time.Now()
	var out bytes.Buffer
	exit, err := s.e.Exec(s.ctx, id, engine.ExecSpec{Command: []string{"/bin/sh", "-c", scriptLeave}}, engine.Streams{Stdout: &out})
	s.must(err)
	if exit.Code != 4 || out.String() != "left\n" || time.Since(begin) > patience {
		s.Errorf("exit %+v, output %q after %v", exit, out.String(), time.Since(begin))
	}
}

// execEnds kills a program by the end of its context.
func (s *suite) execEnds() {
	id := s.start(scriptWait)
	ctx, cancel := context.WithCancel(s.ctx)
	out := &seen{changed: make(chan struct{}, 1)}
	done := make(chan error, 1)
	go func() {
		_, err := s.e.Exec(ctx, id, engine.ExecSpec{Command: []string{"/bin/sh", "-c", scriptSilent}}, engine.Streams{Stdout: out})
		done <- err
	}()
	out.until(s, "silent\n") // a program that writes would notice that nobody reads
	cancel()
	s.is(<-done, context.Canceled)
	s.until("the program has been killed", func() bool {
		st, err := s.e.Stats(s.ctx, id)
		s.must(err)
		return st.Pids <= 2 // the shell's own and its sleep
	})
}

func (s *suite) stop() {
	id := s.start(scriptWait)
	s.ready(id, "ready")
	var exit engine.Exit
	s.until("the trap is set", func() bool { // the shell sets it just after it says that it is ready
		var err error
		ctx, cancel := context.WithTimeout(s.ctx, time.Second)
		defer cancel()
		exit, err = engine.Stop(ctx, s.e, id, 0, -1)
		return err == nil
	})
	if exit.Code != 7 {
		s.Errorf("exit %+v", exit)
	}
	exit, err := engine.Stop(s.ctx, s.e, id, 0, time.Minute) // it is stopped already
	s.must(err)
	if exit.Code != 7 {
		s.Errorf("exit %+v", exit)
	}
	id = s.start(scriptWait)
	exit, err = engine.Stop(s.ctx, s.e, id, syscall.SIGUSR1, 10*time.Millisecond) // to the first process that is nothing
	s.must(err)
	if exit.Signal != 9 {
		s.Errorf("exit %+v", exit)
	}
	_, err = engine.Stop(s.ctx, s.e, s.create(scriptTrue), 0, 0)
	s.is(err, engine.ErrState)
	_, err = engine.Stop(s.ctx, s.e, "nobody", 0, 0)
	s.is(err, engine.ErrNotFound)
}

func (s *suite) init() {
	s.has("init", func(c engine.Capabilities) bool { return c.Init })
	with := func(p *engine.Spec) { p.Init = true }
	id := s.startSpec(scriptCode, with)
	exit, err := s.e.Wait(s.ctx, id)
	s.must(err)
	if out := s.output(id, engine.Stdout); exit.Code != 3 || out != "out\n" {
		s.Errorf("exit %+v, output %q", exit, out)
	}
	id = s.startSpec(scriptOrphan, with)
	s.ready(id, "reaped\n")
	if out := s.output(id, engine.Stdout); strings.HasPrefix(out, "process 1\n") {
		s.Errorf("the command is process 1: %q", out)
	}
	// a signal that nobody handles ends the program, which it would not were
	// the program process 1
	exit, err = engine.Stop(s.ctx, s.e, id, 0, -1)
	s.must(err)
	if exit.Code != 128+15 {
		s.Errorf("exit %+v", exit)
	}
	spec := Spec("")
	spec.Init, spec.Command = true, []string{"/no/such/program"}
	id, err = s.e.Create(s.ctx, spec)
	s.must(err)
	defer func() { s.must(s.e.Remove(s.ctx, id)) }()
	// either the start fails or, where the init has started well, its exit says so
	var fault *engine.StartError
	if err = s.e.Start(s.ctx, id); err == nil {
		exit, err = s.e.Wait(s.ctx, id)
		s.must(err)
		if exit.Code != 127 {
			s.Errorf("exit %+v", exit)
		}
	} else if !errors.As(err, &fault) || fault.Err != syscall.ENOENT {
		s.Errorf("start: %v", err)
	}
}

// until asks again until a condition holds.
func (s *suite) until(what string, ok func() bool) {
	s.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			s.Fatalf("not in time: %s", what)
		}
		s.must(pause(s.ctx))
	}
}

// A seccomp profile of one's own takes the place of the default one.
func (s *suite) seccomp() {
	s.able("seccomp", func(c engine.Capabilities) bool { return c.Seccomp })
	script := `mkdir /tmp/made 2>/tmp/why && echo made; grep -o 'File exists' /tmp/why; echo text > /tmp/file && cat /tmp/file`
	run := func(security engine.Security) string {
		s.Helper()
		spec := Spec(script)
		spec.Security = security
		spec.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/tmp"}}
		id, err := s.e.Create(s.ctx, spec)
		s.must(err)
		s.Cleanup(func() { s.must(s.e.Remove(context.Background(), id)) })
		s.must(s.e.Start(s.ctx, id))
		_, err = s.e.Wait(s.ctx, id)
		s.must(err)
		return s.output(id, engine.Stdout)
	}
	const profile = `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":17}]}`
	if got := run(engine.Security{}); got != "made\ntext\n" {
		s.Errorf("by the default one: %q", got)
	}
	for _, privileges := range []bool{false, true} {
		if got := run(engine.Security{Seccomp: profile, AllowNewPrivileges: privileges}); got != "File exists\ntext\n" {
			s.Errorf("by one of its own: %q", got)
		}
	}
	spec := Spec(script)
	spec.Security.Seccomp = `{"defaultAction":"SCMP_ACT_WHAT"}`
	_, err := s.e.Create(s.ctx, spec)
	s.is(err, engine.ErrInvalid)
}
