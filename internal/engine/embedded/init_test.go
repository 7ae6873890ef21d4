//go:build linux && amd64

package embedded

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// What of an init can be seen in the container: little.
func TestInit(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, c := range []struct {
		name, script, out string
		code              int
		change            func(*engine.Spec)
	}{
		{"exit", "exit 9", "", 9, nil},
		{"signal", "kill -KILL $$", "", 137, nil},
		{"name", "tr '\\0' ' ' < /proc/1/cmdline", "init /bin/sh -- /bin/sh -c tr '\\0' ' ' < /proc/1/cmdline ", 0, nil},
		{"environment", "echo $GREETING", "good morning\n", 0, nil},
		{"as the user", "stat -c %u /proc/1", "993\n", 0, func(s *engine.Spec) { s.User = engine.User{UID: 993, GID: 990} }},
		{"walls", "grep -h -e CapEff -e NoNewPrivs -e Seccomp: /proc/1/status", "CapEff:\t00000000a80425fb\nNoNewPrivs:\t1\nSeccomp:\t2\n", 0, nil},
		{"not to be changed", "(echo x > /proc/1/exe) 2>/dev/null || echo no", "no\n", 0, nil},
		{"descriptors", "ls -l /proc/1/fd | grep -c ' [3-9] -> '", "0\n", 1, nil},
		{"terminal", "ps -o pgid=,tpgid= $$ | { read a b; test $a = $b && test $a != 1 && echo foreground; }", "foreground\r\n", 0,
			func(s *engine.Spec) { s.TTY = true }},
		{"input", "cat; echo end", "end\n", 0, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := sh(t, d, c.script, func(s *engine.Spec) {
				s.Init = true
				if c.change != nil {
					c.change(s)
				}
			})
			if r.Code != c.code || r.out != c.out || r.OOM {
				t.Errorf("%+v, %q, %q", r.Exit, r.out, r.errs)
			}
		})
	}
}

// What is typed goes to the program, not to the init.
func TestInitInterrupted(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := enginetest.Spec("echo ready; exec sleep 1000")
	spec.Init, spec.TTY = true, true
	id := started(t, d, spec)
	follow(t, d, id, "ready")
	write(t, inputOf(t, d, id), "\x03")
	if exit, err := d.Wait(context.Background(), id); err != nil || exit.Code != 130 {
		t.Errorf("%+v, %v", exit, err)
	}
}

// Memory that runs out is told through an init as well.
func TestInitOutOfMemory(t *testing.T) {
	t.Parallel()
	d := open(t)
	needs(t, d, "memory limit", memory)
	spec := probeSpec(t, "memory", "256")
	spec.Limits.Memory, spec.Init = 128<<20, true
	if r := run(t, d, spec); r.Code != 137 || !r.OOM {
		t.Errorf("%+v %q", r.Exit, r.errs)
	}
}

// Many orphans at once: none stays a zombie, and the exit is not taken for one
// of theirs.
func TestInitReaps(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := enginetest.Spec(`for i in 1 2 3 4 5; do sh -c 'for j in 1 2 3 4 5 6 7 8 9 10; do (exit 7) & done'; done; echo done; exec sleep 1000`)
	spec.Init = true
	id := started(t, d, spec)
	follow(t, d, id, "done")
	await(t, "the orphans are reaped", func() bool {
		var out bytes.Buffer
		if _, err := d.Exec(context.Background(), id, engine.ExecSpec{Command: []string{"/bin/sh", "-c", "cat /proc/[0-9]*/stat"}},
			engine.Streams{Stdout: &out}); err != nil {
			t.Fatal(err)
		}
		return !strings.Contains(out.String(), ") Z ") && strings.Count(out.String(), "\n") <= 4
	})
	if st, err := d.Inspect(context.Background(), id); err != nil || st.State != engine.Running {
		t.Errorf("%+v, %v", st, err)
	}
}
