//go:build linux && amd64

package spawn

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// reserved are the low numbers of this process, which it has once.
var reserved = sync.OnceValues(ReserveLow)

// speaker is a table whose child writes what a script says to a file of this process,
// after it has used others.
func speaker(to *os.File, script string, others ...int) *Table {
	t := NewTable(16)
	for _, fd := range others {
		t.Add("other", unix.SYS_FCNTL, File(fd), unix.F_GETFD)
	}
	t.Add("stdout", unix.SYS_DUP3, File(int(to.Fd())), 1, 0)
	t.Add("close", unix.SYS_CLOSE_RANGE, 3, ^uintptr(0), 0)
	t.Add("sigmask", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, Keep(t, new(uint64)), 0, 8)
	t.Add("execve", unix.SYS_EXECVE, t.String("/bin/sh"), t.Strings([]string{"sh", "-c", script}), t.Strings(nil))
	return t
}

// listen runs a speaker and returns what it says.
func listen(t *testing.T, l *Low, script string, others ...int) string {
	r, w, err := os.Pipe()
	if err != nil {
		t.Error(err)
		return ""
	}
	defer r.Close()
	pid, pidfd, err := speaker(w, script, others...).Run(Clone{Low: l})
	_ = w.Close()
	if err != nil {
		t.Error(err)
		return ""
	}
	unix.Close(pidfd)
	text, err := io.ReadAll(r)
	if ws := wait(t, pid); err != nil || ws.ExitStatus() != 0 {
		t.Errorf("%v %v", err, ws)
	}
	return strings.TrimSpace(string(text))
}

// A child of a process with many descriptors has no space for them, unless its table
// uses more than fit, and uses the right ones in either case.
func TestLow(t *testing.T) {
	l, err := reserved()
	if err != nil {
		t.Fatal(err)
	}
	if len(l.free) == 0 {
		t.Fatal("no range is free")
	}
	ranges := len(l.free)
	var many []int
	for range 2000 {
		fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		many = append(many, fd)
	}
	const size = "while read name value; do test $name = FDSize: && echo $value; done < /proc/self/status; true"
	for _, c := range []struct {
		what  string
		low   *Low
		files []int
		small bool
	}{{"low", l, many[:20], true}, {"more than fit", l, many[:lowRange], false}, {"none kept", nil, many[:20], false}} {
		var n int
		fmt.Sscan(listen(t, c.low, size, c.files...), &n)
		if n == 0 || n < 1000 != c.small {
			t.Errorf("%s: space for %d descriptors", c.what, n)
		}
	}
	var all sync.WaitGroup
	for i := range 4 * lowRanges {
		all.Go(func() {
			if got := listen(t, l, fmt.Sprint("echo ", i), many[i]); got != fmt.Sprint(i) {
				t.Errorf("%q, want %d", got, i)
			}
		})
	}
	all.Wait()
	if len(l.free) != ranges {
		t.Errorf("%d ranges are free, of %d", len(l.free), ranges)
	}
}
