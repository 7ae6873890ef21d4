//go:build linux && amd64

package pid1

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// run runs the program outside of any container, where it is an ordinary
// process but does the same. It returns what it reported.
func run(t *testing.T, places []string, command ...string) (*exec.Cmd, []byte, *strings.Builder) {
	t.Helper()
	fd, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	file := os.NewFile(uintptr(fd), "init")
	out := new(strings.Builder)
	cmd := exec.Command("/proc/self/fd/4")
	cmd.Args = Args(places, command)
	cmd.Env = []string{"A=b"}
	cmd.ExtraFiles = []*os.File{w, file}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	report := make([]byte, 8)
	n, _ := r.Read(report)
	return cmd, report[:n], out
}

func TestProgram(t *testing.T) {
	for _, c := range []struct {
		places  []string
		command []string
		code    int
		out     string
	}{
		{[]string{"/bin/sh"}, []string{"sh", "-c", "exit 5"}, 5, ""},
		{[]string{"/bin/sh"}, []string{"sh", "-c", "kill -9 $$"}, 137, ""},
		{[]string{"/bin/sh"}, []string{"sh", "-c", "kill -TERM $$"}, 143, ""},
		{[]string{"/no/such/sh", "/bin/sh"}, []string{"sh", "-c", `echo "$0 $1 $A"`, "--", "x"}, 0, "-- x b\n"},
		// its signal mask is empty, its process group its own
		{[]string{"/bin/sh"}, []string{"sh", "-c", `grep SigBlk /proc/self/status; test $$ = $(ps -o pgid= $$) && echo own`}, 0, "SigBlk:\t0000000000000000\nown\n"},
		{[]string{"/bin/sh"}, []string{"sh", "-c", "test -e /proc/$$/fd/0 && ! test -e /proc/$$/fd/3 && echo closed"}, 0, "closed\n"},
	} {
		cmd, report, out := run(t, c.places, c.command...)
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() != c.code || len(report) > 0 || out.String() != c.out {
			t.Errorf("%q: %v, reported %v, wrote %q", c.command, cmd.ProcessState, report, out)
		}
	}
}

func TestNotExecuted(t *testing.T) {
	for _, c := range []struct {
		places []string
		errno  syscall.Errno
	}{{[]string{"/no/such/program"}, syscall.ENOENT}, {[]string{"/no/such/program", "/etc/passwd"}, syscall.EACCES}, {[]string{""}, syscall.ENOENT}} {
		cmd, report, _ := run(t, c.places, "x")
		_ = cmd.Wait()
		if len(report) != 4 || syscall.Errno(report[0]) != c.errno || cmd.ProcessState.ExitCode() != 127 {
			t.Errorf("%q: %v, reported %v", c.places, cmd.ProcessState, report)
		}
	}
}

// Every signal that can be caught is passed on.
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGQUIT, 34, 64} {
		cmd, _, _ := run(t, []string{"/bin/sleep"}, "sleep", "1000")
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() != 128+int(sig) {
			t.Errorf("%v: %v", sig, cmd.ProcessState)
		}
	}
}

func TestSealed(t *testing.T) {
	fd, err := Open()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.Pwrite(fd, []byte("x"), 0); !errors.Is(err, unix.EPERM) {
		t.Errorf("written: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Size > 4096 {
		t.Errorf("%d bytes, %v", st.Size, err)
	}
}
