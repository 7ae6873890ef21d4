//go:build linux && amd64

package spawn

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func wait(t testing.TB, pid int) unix.WaitStatus {
	t.Helper()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, unix.WALL, nil)
		if err == nil {
			return ws
		}
		if err != unix.EINTR {
			t.Fatalf("wait for %d: %v", pid, err)
		}
	}
}

func program(script string) *Table {
	t := &Table{}
	t.Add("sigmask", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, Keep(t, new(uint64)), 0, 8)
	t.Add("execve", unix.SYS_EXECVE, t.String("/bin/sh"), t.Strings([]string{"sh", "-c", script}), t.Strings([]string{"A=b"}))
	return t
}

func TestRun(t *testing.T) {
	pid, fd, err := program(`test "$A" = b && exit 4`).Run(Clone{})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if ws := wait(t, pid); ws.ExitStatus() != 4 {
		t.Errorf("status %v", ws)
	}
}

func TestError(t *testing.T) {
	tab := &Table{}
	tab.Add("tolerated", unix.SYS_CHDIR, tab.String("/no/such/folder"))
	tab.Tolerate(syscall.ENOENT)
	tab.Add("whatever", unix.SYS_CHDIR, tab.String("/etc/passwd"))
	tab.TolerateAny()
	tab.Add("folder", unix.SYS_CHDIR, tab.String("/etc/passwd"))
	tab.Tolerate(syscall.ENOENT)
	tab.Add("execve", unix.SYS_EXECVE, tab.String("/bin/true"), tab.Strings([]string{"true"}), tab.Strings(nil))
	pid, fd, err := tab.Run(Clone{})
	var fault *Error
	if !errors.As(err, &fault) || fault.Name != "folder" || fault.Errno != syscall.ENOTDIR {
		t.Fatalf("error %v", err)
	}
	unix.Close(fd)
	if ws := wait(t, pid); ws.ExitStatus() != 127 {
		t.Errorf("status %v", ws)
	}
	if _, err := os.Stat("table.go"); err != nil {
		t.Errorf("the child's chdir moved the parent: %v", err)
	}
}

// A result is used by a later call: open, write, with the descriptors shared.
func TestResult(t *testing.T) {
	path := t.TempDir() + "/f"
	tab := &Table{}
	fd := tab.Add("open", unix.SYS_OPENAT, ^uintptr(99), tab.String(path), unix.O_CREAT|unix.O_WRONLY, 0o600)
	tab.Add("write", unix.SYS_WRITE, 0, tab.String("hello"), 5)
	tab.Use(0, fd)
	pid, pidfd, err := tab.Run(Clone{Silent: true})
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(pidfd)
	if ws := wait(t, pid); ws.ExitStatus() != 0 {
		t.Errorf("status %v", ws)
	}
	if b, _ := os.ReadFile(path); string(b) != "hello" {
		t.Errorf("wrote %q", b)
	}
}

// Many at once beside a busy collector: rules 4 to 6.
func TestConcurrent(t *testing.T) {
	stop := make(chan struct{})
	var wg, rubbish sync.WaitGroup
	rubbish.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = strings.Repeat("x", 1<<16)
				runtime.GC()
			}
		}
	})
	for range 4 {
		wg.Go(func() {
			for i := range 50 {
				pid, fd, err := program("exit " + string(rune('0'+i%10))).Run(Clone{})
				if err != nil {
					t.Error(err)
					return
				}
				unix.Close(fd)
				if ws := wait(t, pid); ws.ExitStatus() != i%10 {
					t.Errorf("status %v, want %d", ws, i%10)
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	rubbish.Wait()
}

// A child that is stuck in the table does not hold the process up: rule 6.
func TestStuckChild(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	done := make(chan error, 1)
	go func() {
		tab := &Table{}
		tab.Add("read", unix.SYS_READ, uintptr(p[0]), Keep(tab, new([8]byte)), 1)
		pid, fd, err := tab.Run(Clone{})
		if err == nil {
			unix.Close(fd)
			wait(t, pid)
		}
		done <- err
	}()
	for range 20 {
		runtime.GC() // stops the world, so it would wait for a thread that holds its processor
	}
	select {
	case err := <-done:
		t.Fatalf("the child did not wait: %v", err)
	default:
	}
	if _, err := unix.Write(p[1], []byte{1}); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	unix.Close(p[1])
}

func BenchmarkRun(b *testing.B) {
	for range b.N {
		tab := &Table{}
		tab.Add("execve", unix.SYS_EXECVE, tab.String("/bin/true"), tab.Strings([]string{"true"}), tab.Strings(nil))
		pid, fd, err := tab.Run(Clone{})
		if err != nil {
			b.Fatal(err)
		}
		unix.Close(fd)
		wait(b, pid)
	}
}
