//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// unified makes a folder of version 2 beside the machine's, with the memory
// controller, and skips where that has none.
func unified(t *testing.T) (folder string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	m, err := FindMounts("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if m.V2 == "" {
		t.Skip("version 2 is not mounted")
	}
	b, err := os.ReadFile(filepath.Join(m.V2, "cgroup.subtree_control"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range v2Controllers {
		if !strings.Contains(" "+strings.TrimSpace(string(b))+" ", " "+c+" ") {
			t.Skipf("the %s controller is not of version 2 here", c)
		}
	}
	folder = filepath.Join(m.V2, fmt.Sprintf("skerry-test-%d-outer", os.Getpid()))
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeAt(-1, folder); err != nil {
			t.Error(err)
		}
	})
	return folder
}

// within opens a tree in a folder that it takes for the root.
func within(t *testing.T, folder string) *Tree {
	t.Helper()
	tr, err := Open(Mounts{V2: folder}, "engine", 2)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

// In a container, the root that the engine sees has processes in it, itself too.
func TestProcessesInRoot(t *testing.T) {
	folder := unified(t)
	outer := &Group{tree: &Tree{Version: 2, v2: open(t, filepath.Dir(folder))}, name: filepath.Base(folder)}
	cmd := child(t, outer, "exec sleep 1000")
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	tr := within(t, folder)
	for _, c := range v2Controllers {
		if !tr.Controllers[c] {
			t.Errorf("no %s controller", c)
		}
	}
	g, err := tr.Create(Limits{Memory: 32 << 20, CPU: 0.5, Pids: 10})
	if err != nil {
		t.Fatal(err)
	}
	in := child(t, g, "exit 3")
	if err := in.Wait(); in.ProcessState.ExitCode() != 3 {
		t.Errorf("a process in the group: %v", err)
	}
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(folder, "init", "cgroup.procs"))
	if err != nil || strings.TrimSpace(string(b)) != strconv.Itoa(cmd.Process.Pid) {
		t.Errorf("the process %d is not in the folder beside: %q, %v", cmd.Process.Pid, b, err)
	}
}

// What a group reserves it keeps when others want memory.
func TestReserveHolds(t *testing.T) {
	folder := unified(t)
	tr := within(t, folder)
	if err := os.WriteFile(filepath.Join(folder, "memory.max"), []byte("67108864"), 0); err != nil {
		t.Fatal(err)
	}
	file := func(mib int) string {
		f, err := os.CreateTemp("/var/tmp", "skerry-test-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(f.Name()) })
		if err := errors.Join(f.Truncate(int64(mib)<<20), f.Close()); err != nil {
			t.Fatal(err)
		}
		return f.Name()
	}
	kept := func(l Limits) int64 {
		t.Helper()
		held, much := file(24), file(160)
		g, err := tr.Create(l)
		if err != nil {
			t.Fatal(err)
		}
		other, err := tr.Create(Limits{})
		if err != nil {
			t.Fatal(err)
		}
		// the pages of a file, read by nobody else, are the group's
		for _, c := range []struct {
			group  *Group
			script string
		}{{g, "dd if=" + held + " of=/dev/null bs=1M"}, {other, "dd if=" + much + " of=/dev/null bs=1M; dd if=" + much + " of=/dev/null bs=1M"}} {
			if err := child(t, c.group, c.script+" 2>/dev/null").Wait(); err != nil {
				t.Fatal(err)
			}
		}
		n := g.number("memory", "memory.current")
		for _, g := range []*Group{g, other} {
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
		}
		return n
	}
	without, with := kept(Limits{}), kept(Limits{Reserve: 32 << 20})
	if without > 12<<20 || with < 20<<20 {
		t.Errorf("of 24 MiB, %d bytes were kept without a reserve, %d with one", without, with)
	}
}

// The folders above reserve what the groups in them do together.
func TestReserveAbove(t *testing.T) {
	tr := within(t, unified(t))
	low := func(name string) int64 {
		t.Helper()
		s, err := read(tr.v2, name+"/memory.low")
		if err != nil {
			t.Fatal(err)
		}
		n, _ := strconv.ParseInt(s, 10, 64)
		return n >> 20
	}
	g, err := tr.Create(Limits{Reserve: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	p, err := tr.Parent(Limits{Reserve: 4 << 20})
	if err != nil {
		t.Fatal(err)
	}
	in, err := p.Create(Limits{Reserve: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if a, b, c := low("."), low(p.Name()), low(in.name); a != 24 || b != 16 || c != 16 {
		t.Errorf("reserved %d, %d, %d MiB", a, b, c)
	}
	if err := in.Set(Limits{Reserve: 2 << 20}); err != nil {
		t.Fatal(err)
	}
	if a, b := low("."), low(p.Name()); a != 12 || b != 4 {
		t.Errorf("after a change: %d, %d MiB", a, b)
	}
	if err := errors.Join(g.Remove(), p.Close(), in.Remove()); err != nil {
		t.Fatal(err)
	}
	if n := low("."); n != 0 {
		t.Errorf("%d MiB are left reserved", n)
	}
}

// A signal would end the kernel's check of a filter.
func TestDevicesAmongSignals(t *testing.T) {
	tr := tree(t, 2)
	if !tr.Controllers["devices"] {
		t.Skip("this kernel has no filters of devices")
	}
	g, err := tr.Create(Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var many []Device
	for i := range uint32(60) {
		many = append(many, Device{false, 10, i, "rw"})
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			default:
				_ = unix.Kill(os.Getpid(), unix.SIGURG)
				time.Sleep(50 * time.Microsecond)
			}
		}
	}()
	for range 200 {
		if err := g.AllowDevices(many); err != nil {
			t.Error(err)
			break
		}
	}
	close(done)
	<-ended
	if err := g.Remove(); err != nil {
		t.Error(err)
	}
}

func open(t *testing.T, folder string) int {
	t.Helper()
	f, err := os.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return int(f.Fd())
}
