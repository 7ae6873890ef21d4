//go:build linux && amd64

package spawn

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// parked is a child that waits, whose output is a file's; ran is what Run returns.
func parked(t *testing.T, low *Low, out *os.File) (table *Table, ran chan error, pid *int) {
	t.Helper()
	table = NewTable(64)
	table.Add("stdout", unix.SYS_DUP3, File(int(out.Fd())), 1, 0)
	if err := table.Park(); err != nil {
		t.Fatal(err)
	}
	ran, pid = make(chan error, 1), new(int)
	go func() {
		var fd int
		var err error
		*pid, fd, err = table.Run(Clone{Low: low})
		if fd >= 0 {
			unix.Close(fd)
		}
		ran <- err
	}()
	if _, err := table.Parked(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ran:
		t.Fatalf("the child did not wait: %v", err)
	default:
	}
	return table, ran, pid
}

func lowPipe(t *testing.T) (low *Low, r, w *os.File) {
	t.Helper()
	low, err := reserved()
	if err != nil {
		t.Fatal(err)
	}
	if r, w, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return low, r, w
}

// A child that waits goes on with what it is told then, while garbage is collected
// and more of them wait than there are low numbers for at once.
func TestPark(t *testing.T) {
	low, r, w := lowPipe(t)
	var tables []*Table
	var rans []chan error
	var pids []*int
	for range 2 * lowRanges {
		table, ran, pid := parked(t, low, w)
		tables, rans, pids = append(tables, table), append(rans, ran), append(pids, pid)
	}
	_ = w.Close()
	for i, table := range tables {
		rest := &Table{}
		rest.Add("close", unix.SYS_CLOSE_RANGE, 3, ^uintptr(0), 0)
		rest.Add("execve", unix.SYS_EXECVE, rest.String("/bin/sh"),
			rest.Strings([]string{"sh", "-c", "echo $WORD"}), rest.Strings([]string{"WORD=told", "PATH=/bin:/usr/bin"}))
		runtime.GC()
		if err := table.Continue(rest); err != nil {
			t.Fatal(err)
		}
		if err := <-rans[i]; err != nil {
			t.Fatal(err)
		}
		table.Leave()
		if s := wait(t, *pids[i]); s.ExitStatus() != 0 {
			t.Fatalf("the program ended with %v", s)
		}
	}
	said, err := io.ReadAll(r)
	if n := strings.Count(string(said), "told\n"); err != nil || n != len(tables) {
		t.Fatalf("%d of %d children said what they were told: %q, %v", n, len(tables), said, err)
	}
}

// What fails in the rest is told by its name, as in any table.
func TestParkError(t *testing.T) {
	low, _, w := lowPipe(t)
	table, ran, pid := parked(t, low, w)
	rest := &Table{}
	rest.Add("chdir", unix.SYS_CHDIR, rest.String("/no such folder"))
	if err := table.Continue(rest); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if err := <-ran; !errors.As(err, &e) || e.Name != "chdir" || e.Errno != unix.ENOENT {
		t.Fatalf("the error is %v", err)
	}
	wait(t, *pid)
	if err := table.Continue(rest); !errors.Is(err, ErrGone) {
		t.Fatalf("a child that is gone went on: %v", err)
	}
	table.Leave()
	_ = w.Close()
}

// A child that waits has none of its parent's descriptors but those that it uses: what
// others wait for the end of, it does not hold.
func TestParkHoldsNothing(t *testing.T) {
	low, _, w := lowPipe(t)
	defer w.Close()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	table, ran, pid := parked(t, low, w)
	_ = write.Close()
	if said, err := io.ReadAll(read); err != nil || len(said) > 0 { // there is an end
		t.Fatalf("%q, %v", said, err)
	}
	table.Drop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	table.Leave()
	wait(t, *pid)
}

// A child that is dropped exits, and so does one that is killed while it waits.
func TestParkDrop(t *testing.T) {
	low, r, w := lowPipe(t)
	table, ran, pid := parked(t, low, w)
	table.Drop()
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	table.Leave()
	if s := wait(t, *pid); !s.Exited() || s.ExitStatus() != 0 {
		t.Fatalf("it ended with %v", s)
	}
	table, ran, pid = parked(t, low, w)
	if err := unix.PidfdSendSignal(int(*table.park.pidfd), unix.SIGKILL, nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	if s := wait(t, *pid); s.Signal() != unix.SIGKILL {
		t.Fatalf("it ended with %v", s)
	}
	table.Leave()
	_ = w.Close()
	if said, err := io.ReadAll(r); err != nil || len(said) > 0 {
		t.Fatalf("it said %q, %v", said, err)
	}
}

// One that fails before it waits is not waited for.
func TestParkEarly(t *testing.T) {
	low, _, w := lowPipe(t)
	defer w.Close()
	table := NewTable(64)
	table.Add("chdir", unix.SYS_CHDIR, table.String("/no such folder"))
	if err := table.Park(); err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() {
		pid, fd, err := table.Run(Clone{Low: low})
		if err == nil || pid == 0 {
			err = errors.Join(errors.New("no child"), err)
		} else {
			unix.Close(fd)
			wait(t, pid)
		}
		ran <- err
	}()
	if _, err := table.Parked(); !errors.Is(err, ErrGone) {
		t.Fatalf("it is said to wait: %v", err)
	}
	var e *Error
	if err := <-ran; !errors.As(err, &e) || e.Name != "chdir" {
		t.Fatalf("the error is %v", err)
	}
	table.Leave()
}
