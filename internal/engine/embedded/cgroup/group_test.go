//go:build linux

package cgroup

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func tree(t testing.TB, version int) *Tree {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	m, err := FindMounts("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	tr, err := Open(m, fmt.Sprintf("skerry-test-%d", os.Getpid()), version)
	if errors.Is(err, ErrNone) {
		t.Skipf("version %d: %v", version, err)
	}
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

// child starts a shell in the group, in the way of its version.
func child(t testing.TB, g *Group, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", script)
	folder, err := g.Folder()
	if err != nil {
		t.Fatal(err)
	}
	if folder > 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: folder}
		defer unix.Close(folder)
	}
	join, err := g.Join()
	if err != nil {
		t.Fatal(err)
	}
	for i, fd := range join {
		if fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3); err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "tasks")
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		cmd.Args[2] = fmt.Sprintf("echo 0 >&%d; ", 3+i) + cmd.Args[2]
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func populated(g *Group) bool {
	if g.tree.Version == 2 {
		return g.field("freezer", "cgroup.events", "populated") == 1
	}
	s, _ := g.read("freezer", "cgroup.procs")
	return s != ""
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within ten seconds: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestFreezeAndKill(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			g, err := tree(t, version).Create(Limits{})
			if err != nil {
				t.Fatal(err)
			}
			cmd := child(t, g, "while :; do :; done")
			eventually(t, "the process is in the group", func() bool { return populated(g) })
			state := func() string {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
				var pid int
				var name, state string
				fmt.Sscan(string(b), &pid, &name, &state)
				return state
			}
			for range 2 {
				if err := g.Freeze(true); err != nil {
					t.Fatal(err)
				}
				// it is counted as frozen a moment before it leaves the processor
				eventually(t, "it does not run", func() bool { return state() != "R" })
				if err := g.Freeze(false); err != nil {
					t.Fatal(err)
				}
				eventually(t, "it runs", func() bool { return state() == "R" })
			}
			if err := g.Freeze(true); err != nil {
				t.Fatal(err)
			}
			if err := g.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil || cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Errorf("ended with %v", err)
			}
			if err := g.Remove(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestUnsupportedLimit(t *testing.T) {
	tr := tree(t, 2)
	if tr.Controllers["memory"] {
		t.Skip("this machine's version 2 has the memory controller")
	}
	if _, err := tr.Create(Limits{Memory: 1 << 20}); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("a limit that nobody keeps: %v", err)
	}
	if names, err := tr.Names(); err != nil || len(names) > 0 {
		t.Errorf("left over: %v, %v", names, err)
	}
}

// What is written for each limit, in both versions, on files of a plain folder.
func TestFiles(t *testing.T) {
	limits := Limits{Memory: 128 << 20, Swap: 32 << 20, Reserve: 64 << 20, CPU: 0.5, Shares: 512, Pids: 100}
	for version, want := range map[int]map[string][2]string{
		1: {"memory.limit_in_bytes": {"134217728", "-1"}, "memory.memsw.limit_in_bytes": {"167772160", "-1"},
			"memory.soft_limit_in_bytes": {"67108864", "-1"}, "cpu.cfs_quota_us": {"50000", "-1"},
			"cpu.shares": {"512", "1024"}, "pids.max": {"100", "max"}},
		2: {"memory.max": {"134217728", "max"}, "memory.swap.max": {"33554432", "max"}, "memory.low": {"67108864", "0"},
			"cpu.max": {"50000 100000", "max 100000"}, "cpu.weight": {"20", "100"}, "pids.max": {"100", "max"}},
	} {
		dir := t.TempDir()
		fd, err := openFolder(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		all := map[string]bool{"memory": true, "cpu": true, "pids": true}
		tr := &Tree{Version: version, Controllers: all, v2: fd, path: dir, v1: []hierarchy{{dir, fd, "memory"}},
			of: map[string]int{"memory": 0, "cpu": 0, "pids": 0}}
		if err := os.Mkdir(filepath.Join(dir, "g"), 0o755); err != nil {
			t.Fatal(err)
		}
		check := func(i int) {
			t.Helper()
			for file, value := range want {
				b, err := os.ReadFile(filepath.Join(dir, "g", file))
				if err != nil || string(b) != value[i] {
					t.Errorf("v%d %s: %q, %v, want %q", version, file, b, err, value[i])
				}
				if err := os.WriteFile(filepath.Join(dir, "g", file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, "g", "cgroup.subtree_control"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for file := range want {
			for _, g := range []string{".", "g"} {
				if err := os.WriteFile(filepath.Join(dir, g, file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		g := tr.Group("g")
		if err := g.Set(limits); err != nil {
			t.Fatal(err)
		}
		check(0)
		if err := g.Set(Limits{}); err != nil {
			t.Fatal(err)
		}
		check(1)
		p := &Parent{group: g}
		if version == 2 {
			if err := p.delegate(); err != nil {
				t.Error(err)
			}
		}
		p.group.limits.CPU = 0.5
		in := &Group{tree: tr, name: "g", parent: p}
		if err := in.Set(Limits{CPU: 4}); err != nil {
			t.Error(err)
		}
		file := map[int]string{1: "cpu.cfs_quota_us", 2: "cpu.max"}[version]
		if b, _ := os.ReadFile(filepath.Join(dir, "g", file)); !strings.HasPrefix(string(b), "50000") {
			t.Errorf("v%d: a quota above its parent's: %q", version, b)
		}
	}
}

// A parent is there as long as a group in it, on the machine's real trees.
func TestParent(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run(fmt.Sprintf("v%d", version), func(t *testing.T) {
			tr := tree(t, version)
			l := Limits{}
			if tr.Controllers["memory"] {
				l.Memory = 32 << 20
			}
			p, err := tr.Parent(l)
			if err != nil {
				t.Fatal(err)
			}
			var in [2]*Group
			for i := range in {
				if in[i], err = p.Create(Limits{}); err != nil {
					t.Fatal(err)
				}
			}
			if names, err := tr.Names(); err != nil || len(names) != 3 || names[2] != p.Name() {
				t.Errorf("%q, %v", names, err)
			}
			cmd := child(t, in[0], "exec sleep 1000")
			eventually(t, "the process is in the group", func() bool { return populated(in[0]) })
			if err := p.Close(); err != nil {
				t.Error(err)
			}
			if err := in[0].Kill(); err != nil {
				t.Error(err)
			}
			_ = cmd.Wait()
			for i, g := range in {
				if names, _ := tr.Names(); !slices.Contains(names, p.Name()) {
					t.Errorf("the parent is gone before group %d", i)
				}
				if err := tr.Release(g); err != nil {
					t.Error(err)
				}
			}
			if names, err := tr.Names(); err != nil || len(names) > 0 {
				t.Errorf("left over: %q, %v", names, err)
			}
		})
	}
}

// A used group begins anew: no process, no count, the limits of its new user.
func TestUsedAgain(t *testing.T) {
	tr := tree(t, 1)
	a, err := tr.Create(Limits{Memory: 64 << 20, Pids: 10})
	if err != nil {
		t.Fatal(err)
	}
	cmd := child(t, a, "i=0; while test $i -lt 300000; do i=$((i+1)); done")
	eventually(t, "the process is in the group", func() bool { return populated(a) })
	if err := a.reset(); err == nil {
		t.Fatal("a group with a process was taken back")
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if s := a.Stats(); s.CPU == 0 {
		t.Errorf("counted nothing: %+v", s)
	}
	if err := tr.Release(a); err != nil {
		t.Fatal(err)
	}
	b, err := tr.Create(Limits{Memory: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if b != a {
		t.Skip("more was charged to it than a used group may have")
	}
	if s := b.Stats(); s.CPU != 0 || s.Peak > maxCharge {
		t.Errorf("begins with %+v", s)
	}
	if m, p := b.number("memory", "memory.limit_in_bytes"), b.number("pids", "pids.max"); m != 32<<20 || p != 0 {
		t.Errorf("limits %d, %d", m, p)
	}
	if err := b.Remove(); err != nil {
		t.Error(err)
	}
}

func BenchmarkFreezeThaw(b *testing.B) {
	for _, version := range []int{1, 2} {
		b.Run(fmt.Sprintf("v%d", version), func(b *testing.B) {
			g, err := tree(b, version).Create(Limits{})
			if err != nil {
				b.Fatal(err)
			}
			cmd := child(b, g, "exec sleep 1000")
			for !populated(g) {
				time.Sleep(time.Millisecond)
			}
			b.ResetTimer()
			for range b.N {
				if err := errors.Join(g.Freeze(true), g.Freeze(false)); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			_ = g.Kill()
			_ = cmd.Wait()
			if err := g.Remove(); err != nil {
				b.Error(err)
			}
		})
	}
}

func BenchmarkCreate(b *testing.B) {
	tr := tree(b, 0)
	for range b.N {
		g, err := tr.Create(Limits{Memory: 128 << 20, CPU: 0.5, Pids: 1024})
		if err != nil {
			b.Fatal(err)
		}
		if err := g.Remove(); err != nil {
			b.Fatal(err)
		}
	}
}
