//go:build linux && amd64

package embedded

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// follow waits until a container's output holds a text.
func follow(t testing.TB, d engine.Engine, id engine.ID, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	found := errors.New("found")
	var b strings.Builder
	err := d.Logs(ctx, id, engine.LogQuery{Follow: true}, func(f engine.Frame) error {
		b.Write(f.Data)
		if strings.Contains(b.String(), text) {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		t.Fatalf("no %q in %q: %v", text, b.String(), err)
	}
	return b.String()
}

func inputOf(t testing.TB, d engine.Engine, id engine.ID) io.WriteCloser {
	t.Helper()
	in, err := d.Input(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func write(t testing.TB, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

// What a program finds when it has a terminal: as with docker run -t.
func TestTerminal(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, user := range []uint32{0, 993} {
		spec := enginetest.Spec(`tty; tty <&1; tty <&2; stat -c '%u %g %a' /dev/pts/0; echo to-tty > /dev/tty; echo to-console > /dev/console
stat -c %t:%T /dev/console; ps -o tty= 2>/dev/null; test -e /dev/ptmx && echo ptmx; touch /dev/x || echo ro; echo err >&2; trap 'stty size' WINCH
hear() { a=; until test "$a"; do read a; done; }; hear; echo "got $a"; hear; exit 4`) // the signal ends a read
		spec.TTY, spec.User = true, engine.User{UID: user, GID: user}
		id := started(t, d, spec)
		if err := d.Resize(context.Background(), id, engine.Size{Rows: 40, Columns: 100}); err != nil {
			t.Fatal(err)
		}
		follow(t, d, id, "err\r\n")
		in := inputOf(t, d, id)
		write(t, in, "hello\n")
		follow(t, d, id, "got hello\r\n")
		if err := in.Close(); err != nil { // does not hang up
			t.Fatal(err)
		}
		if err := d.Resize(context.Background(), id, engine.Size{Rows: 41, Columns: 101}); err != nil {
			t.Fatal(err)
		}
		in = inputOf(t, d, id)
		write(t, in, "bye\n")
		exit, err := d.Wait(context.Background(), id)
		out, errs := output(t, d, id)
		if err != nil || exit.Code != 4 || errs != "" {
			t.Errorf("%+v, %v, %q, %q", exit, err, out, errs)
		}
		for _, want := range []string{"/dev/pts/0\r\n/dev/pts/0\r\n/dev/pts/0\r\n", fmt.Sprintf("%d 5 620\r\n", user), "to-tty\r\n", "to-console\r\n",
			"88:0\r\n", "ptmx\r\n", "ro\r\n", "err\r\n", "41 101\r\n"} {
			if !strings.Contains(out, want) {
				t.Errorf("as %d: no %q in %q", user, want, out)
			}
		}
	}
}

// What a program writes just before its end, more than the terminal holds at
// once, is in the log.
func TestTerminalDrained(t *testing.T) {
	t.Parallel()
	d := open(t)
	r := sh(t, d, "i=0; while test $i -lt 3000; do i=$((i+1)); echo line $i of the output; done", func(s *engine.Spec) { s.TTY = true })
	var want strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&want, "line %d of the output\r\n", i+1)
	}
	if r.out != want.String() || r.Code != 0 {
		t.Errorf("%+v, %d bytes of %d, ends in %q", r.Exit, len(r.out), want.Len(), r.out[max(0, len(r.out)-100):])
	}
}

// The end of the session tells its foreground: children of a terminal's program
// do not hold its exit up, and the log ends with it.
func TestTerminalLeft(t *testing.T) {
	t.Parallel()
	d := open(t)
	r := sh(t, d, "sleep 1000 & sleep 1000 & echo left; exit 3", func(s *engine.Spec) { s.TTY = true })
	if r.Code != 3 || r.out != "left\r\n" {
		t.Errorf("%+v %q", r.Exit, r.out)
	}
}

func TestExecTerminal(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, tty := range []bool{false, true} {
		spec := enginetest.Spec("exec sleep 1000")
		spec.TTY, spec.Rlimits = tty, []engine.Rlimit{{Name: "nofile", Soft: 77, Hard: 88}}
		id := started(t, d, spec)
		var out bytes.Buffer
		exit, err := d.Exec(context.Background(), id, engine.ExecSpec{TTY: true, Size: engine.Size{Rows: 10, Columns: 20},
			User:    &engine.User{UID: 993, GID: 990},
			Command: []string{"/bin/sh", "-c", "stty size; stat -c %u:%g $(tty); echo x > /dev/tty; ulimit -n; head -c 300000 /dev/zero | tr '\\0' a; exit 3"}},
			engine.Streams{Stdout: &out})
		if err != nil || exit.Code != 3 {
			t.Errorf("%+v, %v", exit, err)
		}
		if want := "10 20\r\n993:5\r\nx\r\n77\r\n" + strings.Repeat("a", 300000); out.String() != want {
			t.Errorf("wrote %.200q (%d bytes of %d)", out.String(), out.Len(), len(want))
		}
	}
}

// Exec's capabilities: the container's, or all.
func TestExecPrivileged(t *testing.T) {
	t.Parallel()
	d := open(t)
	id := started(t, d, enginetest.Spec("exec sleep 1000"))
	for _, c := range []struct {
		privileged bool
		uid        uint32
		want       string
	}{
		{false, 0, "CapEff:\t00000000a80425fb\n"}, {true, 0, "CapEff:\t000001ffffffffff\n"}, {true, 993, "CapEff:\t0000000000000000\n"},
	} {
		var out bytes.Buffer
		_, err := d.Exec(context.Background(), id, engine.ExecSpec{Command: []string{"grep", "CapEff", "/proc/self/status"},
			Privileged: c.privileged, User: &engine.User{UID: c.uid}}, engine.Streams{Stdout: &out})
		if err != nil || out.String() != c.want {
			t.Errorf("%+v: %q, %v", c, out.String(), err)
		}
	}
}

// The input of a container outlives the process that writes it, and what is
// written meanwhile is not lost.
func TestInput(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := enginetest.Spec("cat /dev/stdin | wc -c; exit 4")
	spec.Stdin, spec.User = true, engine.User{UID: 993, GID: 990}
	id, err := d.Create(context.Background(), spec)
	if err == nil {
		err = d.Start(context.Background(), id)
	}
	if err != nil {
		t.Fatal(err)
	}
	in := inputOf(t, d, id)
	write(t, in, strings.Repeat("x", 300000)) // more than a pipe holds
	if err := d.Close(); err != nil {         // as at the end of this process
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("x")); err == nil {
		t.Error("wrote after the engine was closed")
	}
	again, err := Open(Config{Data: d.cfg.Data})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	in = inputOf(t, again, id)
	write(t, in, "yyy")
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err == nil {
		t.Error("closed twice")
	}
	exit, err := again.Wait(context.Background(), id)
	if out, _ := output(t, again, id); err != nil || exit.Code != 4 || out != "300003\n" {
		t.Errorf("%+v, %v, %q", exit, err, out)
	}
	if err := again.Remove(context.Background(), id); err != nil {
		t.Error(err)
	}
}

// A program that closes its input does not block who writes.
func TestInputNotRead(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := enginetest.Spec("exec <&-; echo closed; exec sleep 1000")
	spec.Stdin = true
	id := started(t, d, spec)
	follow(t, d, id, "closed\n")
	in := inputOf(t, d, id)
	if _, err := in.Write(make([]byte, 1<<20)); !errors.Is(err, unix.EPIPE) {
		t.Errorf("wrote to nobody: %v", err)
	}
	// and one who waits for a program that does not read can be let go
	spec.Command[2] = "exec sleep 1000"
	id = started(t, d, spec)
	in = inputOf(t, d, id)
	done := make(chan error, 1)
	go func() {
		_, err := in.Write(make([]byte, 1<<20))
		done <- err
	}()
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("wrote to nobody: %v", err)
	}
}

// fakeTypist is a main process of its own, which starts containers with a lot to
// say and types into them until it is killed.
func fakeTypist(dir string) int {
	d, err := Open(Config{Data: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for _, tty := range []bool{true, false} {
		for n := range talkers {
			spec := enginetest.Spec(`stty -echo 2>/dev/null; echo ready; i=0; while read x; do test "$x" = end && exit 42; i=$((i+1)); echo $i $x ` + strings.Repeat("y", 200) + `; done; exit 9`)
			spec.ID, spec.TTY, spec.Stdin = engine.ID(fmt.Sprintf("%v-%d", tty, n)), tty, true
			_, err := d.Create(context.Background(), spec)
			if err == nil {
				err = d.Start(context.Background(), spec.ID)
			}
			heard := errors.New("heard")
			if err == nil {
				err = d.Logs(context.Background(), spec.ID, engine.LogQuery{Follow: true}, func(engine.Frame) error { return heard })
			}
			var in io.Writer
			if errors.Is(err, heard) {
				in, err = d.Input(context.Background(), spec.ID)
			}
			if err != nil {
				fmt.Println(err)
				return 1
			}
			go func() {
				for i := 1; ; i++ {
					if _, err := fmt.Fprintf(in, "line%d\n", i); err != nil {
						fmt.Println(err)
					}
				}
			}()
		}
	}
	fmt.Println("ready")
	select {}
}

const talkers = 3

// Main is killed while it types into terminals and pipes and their programs
// answer as fast as they can: what was typed is answered, what was answered is in
// the log, and the next main types on.
func TestMainKilledTyping(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	cmd := exec.Command("/proc/self/exe", "typist", d.cfg.Data)
	said, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(said).ReadString('\n'); line != "ready\n" {
		t.Fatalf("main: %q, %v", line, err)
	}
	all, err := d.List(ctx)
	if err != nil || len(all) != 2*talkers {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, c := range all {
		follow(t, d, c.ID, "\n100 line100 ")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, c := range all {
		in := inputOf(t, d, c.ID)
		write(t, in, "\nend\n") // main may have been killed within a line
		exit, err := d.Wait(ctx, c.ID)
		if err != nil || exit.Code != 42 {
			t.Errorf("%s: %+v, %v", c.ID, exit, err)
		}
		out, _ := output(t, d, c.ID)
		lines := strings.Split(strings.TrimPrefix(strings.ReplaceAll(out, "\r\n", "\n"), "ready\n"), "\n")
		for i, line := range lines {
			want := fmt.Sprintf("%d line%d %s", i+1, i+1, strings.Repeat("y", 200))
			if i >= len(lines)-3 || line == want {
				continue // the last may be part of a line, and then the end
			}
			t.Fatalf("%s: line %d of %d is %q", c.ID, i, len(lines), line)
		}
		if err := d.Remove(ctx, c.ID); err != nil {
			t.Error(err)
		}
	}
}

// Another run has an input, a terminal and a /dev of its own; what belongs to the
// run before does nothing to it.
func TestTerminalAgain(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx := context.Background()
	for _, tty := range []bool{false, true} {
		spec := enginetest.Spec("cat /proc/sys/net/ipv4/tcp_syn_retries; stat -f -c %b*%S /dev/shm; test -c /dev/loop-control && echo device; read line; echo heard $line; read line; exit 3")
		spec.TTY, spec.Stdin, spec.Init = tty, true, true
		spec.Devices, spec.ShmSize = []engine.Device{{Source: "/dev/loop-control"}}, 1<<20
		spec.Sysctls = map[string]string{"net.ipv4.tcp_syn_retries": "3"}
		id, err := d.Create(ctx, spec)
		if err != nil {
			t.Fatal(err)
		}
		var old io.WriteCloser
		want := ""
		for _, word := range []string{"first", "second"} {
			if err := d.Start(ctx, id); err != nil {
				t.Fatal(err)
			}
			in := inputOf(t, d, id)
			if old != nil {
				_, _ = old.Write([]byte("old\n"))
				_ = old.Close()
			}
			old = in
			write(t, in, word+"\n")
			follow(t, d, id, "heard "+word)
			if !tty {
				if err := in.Close(); err != nil {
					t.Fatal(err)
				}
			} else if err := d.Resize(ctx, id, engine.Size{Rows: 1, Columns: 2}); err != nil {
				t.Error(err)
			}
			if tty {
				write(t, in, "end\n")
			}
			if exit, err := d.Wait(ctx, id); err != nil || exit.Code != 3 {
				t.Errorf("%+v, %v", exit, err)
			}
			want += "3\n256*4096\ndevice\nheard " + word + "\n"
		}
		out, _ := output(t, d, id)
		if !tty && out != want || strings.Count(out, "device") != 2 {
			t.Errorf("terminal %v: %q", tty, out)
		}
		if err := d.Remove(ctx, id); err != nil {
			t.Error(err)
		}
	}
}

// Whatever containers are made of, the supervisor keeps nothing of them open.
func TestDescriptors(t *testing.T) {
	d := open(t)
	round := func() {
		for i, change := range []func(*engine.Spec){
			func(s *engine.Spec) { s.TTY = true }, func(s *engine.Spec) { s.Stdin = true }, func(s *engine.Spec) { s.Init = true },
			func(s *engine.Spec) { s.Devices = []engine.Device{{Source: "/dev/null", Target: "/dev/mine"}} }, privileged,
			func(s *engine.Spec) { s.Init, s.Command = true, []string{"/no/such"} }, func(s *engine.Spec) { s.TTY, s.Command = true, []string{"/no/such"} },
			func(s *engine.Spec) { s.Sysctls = map[string]string{"net.core.nonsense": "1"} },
			func(s *engine.Spec) { s.Devices = []engine.Device{{Source: "/dev/none"}} },
		} {
			spec := enginetest.Spec("exec sleep 1000")
			change(&spec)
			ctx := context.Background()
			id, err := d.Create(ctx, spec)
			if err != nil && i < 8 {
				t.Fatal(err)
			}
			if err := d.Start(ctx, id); err == nil {
				for _, tty := range []bool{true, false} {
					if _, err := d.Exec(ctx, id, engine.ExecSpec{Command: []string{"true"}, TTY: tty}, engine.Streams{}); err != nil {
						t.Fatal(err)
					}
					if _, err := d.Exec(ctx, id, engine.ExecSpec{Command: []string{"/no/such"}, TTY: tty}, engine.Streams{}); err == nil {
						t.Fatal("executed nothing")
					}
				}
				if in, err := d.Input(ctx, id); err == nil {
					write(t, in, "x\n")
				}
			}
			if err := d.Remove(ctx, id); err != nil {
				t.Fatal(err)
			}
		}
	}
	count := func(pid int) int {
		all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	for range 3 {
		round()
	}
	supervisor := supervisorPid(t, d)
	before, own := count(supervisor), count(os.Getpid())
	for range 10 {
		round()
	}
	// a few namespaces more or less are kept for later
	await(t, "all is closed", func() bool { return count(supervisor) <= before+12 && count(os.Getpid()) <= own+4 })
}
