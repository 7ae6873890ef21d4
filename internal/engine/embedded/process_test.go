//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// Two containers on one processor share it by their weights.
func TestCPUShares(t *testing.T) {
	d := open(t)
	needs(t, d, "cpu limit", func(c engine.Capabilities) bool { return c.CPULimit })
	var ids [2]engine.ID
	for i, shares := range []int64{2048, 256} {
		spec := enginetest.Spec("")
		spec.Command = []string{"taskset", "-c", "0", "/bin/sh", "-c", "while :; do :; done"}
		spec.Limits.CPUShares = shares
		ids[i] = started(t, d, spec)
	}
	used := func() (all [2]time.Duration) {
		for i, id := range ids {
			st, err := d.Stats(context.Background(), id)
			if err != nil {
				t.Fatal(err)
			}
			all[i] = st.CPU
		}
		return all
	}
	begin := used()
	var ms [2]time.Duration
	await(t, "they have used a second", func() bool {
		now := used()
		ms = [2]time.Duration{now[0] - begin[0], now[1] - begin[1]}
		return ms[0]+ms[1] > time.Second
	})
	if ms[0] < 4*ms[1] {
		t.Errorf("8 to 1 gave %v to %v", ms[0], ms[1])
	}
}

// groupFile reads a file of a running container's control group.
func groupFile(t *testing.T, d engine.Engine, id engine.ID, controller, file string) string {
	t.Helper()
	st, err := d.Inspect(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", st.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if f[1] == controller { // none in version 2
			text, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", controller, f[2], file))
			if err != nil {
				t.Fatal(err)
			}
			return strings.TrimSpace(string(text))
		}
	}
	t.Fatalf("no %s in %s", controller, b)
	return ""
}

// The soft limit is the kernel's to keep; it is told. Package cgroup has the test
// of version 2's effect.
func TestMemoryReserve(t *testing.T) {
	d := open(t)
	needs(t, d, "memory limit", memory)
	controller, file := "memory", "memory.soft_limit_in_bytes"
	if c, _ := d.Info(context.Background()); c.Cgroups == 2 {
		controller, file = "", "memory.low"
	}
	spec := enginetest.Spec("exec sleep 1000")
	spec.Limits.MemoryReserve, spec.Limits.Memory = 32<<20, 64<<20
	id := started(t, d, spec)
	if got := groupFile(t, d, id, controller, file); got != fmt.Sprint(32<<20) {
		t.Errorf("soft limit %s", got)
	}
	if err := d.Update(context.Background(), id, engine.Limits{MemoryReserve: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	if got := groupFile(t, d, id, controller, file); got != fmt.Sprint(16<<20) {
		t.Errorf("soft limit %s after the update", got)
	}
	// a group that is used again has not the old one's
	if err := d.Remove(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		id = started(t, d, enginetest.Spec("exec sleep 1000"))
		if got := groupFile(t, d, id, controller, file); len(got) < 15 && got != "0" {
			t.Errorf("soft limit %s of one without", got)
		}
	}
}

func TestShmSize(t *testing.T) {
	t.Parallel()
	d := open(t)
	for size, fits := range map[int64]bool{0: true, 1 << 20: false, 128 << 20: true} {
		r := sh(t, d, "head -c 2000000 /dev/zero > /dev/shm/x", func(s *engine.Spec) { s.ShmSize = size })
		if (r.Code == 0) != fits || !fits && !strings.Contains(r.errs, "No space left") {
			t.Errorf("2 MB in %d: %+v %q", size, r.Exit, r.errs)
		}
	}
	if r := sh(t, d, "stat -f -c %b*%S /dev/shm"); r.out != "16384*4096\n" {
		t.Errorf("without: %q", r.out)
	}
	spec := enginetest.Spec("true")
	spec.ShmSize = -1
	if _, err := d.Create(context.Background(), spec); !errors.Is(err, engine.ErrInvalid) {
		t.Error(err)
	}
}

func TestRlimitNames(t *testing.T) {
	t.Parallel()
	d := open(t)
	with := func(l ...engine.Rlimit) func(*engine.Spec) { return func(s *engine.Spec) { s.Rlimits = l } }
	// all names reach the kernel under their own
	var all []engine.Rlimit
	for i, name := range engine.RlimitNames {
		l := engine.Rlimit{Name: strings.ToUpper(name), Soft: uint64(1000 + i), Hard: uint64(2000 + i)}
		switch name {
		case "as", "data", "stack", "rss", "fsize", "memlock":
			l.Soft, l.Hard = l.Soft<<20, l.Hard<<20
		case "nice", "rtprio": // the machine's own is less
			l.Soft, l.Hard = 0, 0
		}
		all = append(all, l)
	}
	r := sh(t, d, "cat /proc/self/limits", with(all...))
	for i, row := range []string{"Max cpu time", "Max file size", "Max data size", "Max stack size", "Max core file size", "Max resident set",
		"Max processes", "Max open files", "Max locked memory", "Max address space", "Max file locks", "Max pending signals",
		"Max msgqueue size", "Max nice priority", "Max realtime priority", "Max realtime timeout"} {
		want := all[i]
		var own unix.Rlimit
		if err := unix.Getrlimit(i, &own); err != nil {
			t.Fatal(err)
		}
		want.Hard = min(want.Hard, own.Max)
		want.Soft = min(want.Soft, want.Hard)
		_, after, _ := strings.Cut(r.out, row)
		f := strings.Fields(after)
		if len(f) < 2 || f[0] != fmt.Sprint(want.Soft) || f[1] != fmt.Sprint(want.Hard) {
			t.Errorf("%s: %.60q, want %d and %d", row, after, want.Soft, want.Hard)
		}
	}
	// and they bite
	if r := sh(t, d, "exec 3</etc/passwd 4</etc/passwd; exec 5</etc/passwd 6</etc/passwd; echo open", with(engine.Rlimit{Name: "nofile", Soft: 6, Hard: 6})); r.Code == 0 {
		t.Errorf("more files than allowed: %q", r.out)
	}
	if r := sh(t, d, "head -c 3000000 /dev/zero > /tmp/x", with(engine.Rlimit{Name: "fsize", Soft: 1 << 20, Hard: 1 << 20}), func(s *engine.Spec) {
		s.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/tmp", Size: 8 << 20}}
	}); r.Code == 0 {
		t.Errorf("a longer file than allowed: %+v", r.Exit)
	}
	if r := sh(t, d, "while :; do :; done", with(engine.Rlimit{Name: "cpu", Soft: 1, Hard: 1})); r.Code != 137 && r.Code != 152 || r.OOM {
		t.Errorf("more processor time than allowed: %+v", r.Exit)
	}
	if r := sh(t, d, "ulimit -n", with(engine.Rlimit{Name: "nofile", Soft: math.MaxUint64, Hard: math.MaxUint64})); r.Code != 0 {
		t.Errorf("unlimited: %+v %q", r.Exit, r.errs)
	}
	for name, l := range map[string]engine.Rlimit{"invalid ulimit type: speed": {Name: "speed"},
		"ulimit soft limit must be less than or equal to hard limit: 2 > 1": {Name: "core", Soft: 2, Hard: 1}} {
		spec := enginetest.Spec("true")
		with(l)(&spec)
		if _, err := d.Create(context.Background(), spec); !errors.Is(err, engine.ErrInvalid) || !strings.Contains(err.Error(), name) {
			t.Error(err)
		}
	}
}

// A core is written only where the limit lets it.
func TestCore(t *testing.T) {
	t.Parallel()
	d := open(t)
	pattern, err := os.ReadFile("/proc/sys/kernel/core_pattern")
	if err != nil || strings.ContainsAny(string(pattern), "|/") {
		t.Skipf("cores of this machine go to %s", pattern)
	}
	for limit, written := range map[uint64]bool{0: false, 64 << 20: true} {
		r := sh(t, d, "cd /tmp; sh -c 'kill -SEGV $$'; ls -A", func(s *engine.Spec) {
			if limit > 0 {
				s.Rlimits = []engine.Rlimit{{Name: "core", Soft: limit, Hard: limit}}
			}
			s.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/tmp", Size: 32 << 20}}
		})
		if strings.Contains(r.out, "core") != written {
			t.Errorf("with %d: %q %q", limit, r.out, r.errs)
		}
	}
}

// A log keeps what its size lets it, the newest.
func TestLogSize(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := enginetest.Spec("i=0; while test $i -lt 2000; do i=$((i+1)); echo this is line $i; done")
	spec.LogFiles, spec.LogSize = 3, 4096
	id := started(t, d, spec)
	if _, err := d.Wait(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	out, _ := output(t, d, id)
	if !strings.HasSuffix(out, "this is line 2000\n") || len(out) > 3*4096 || len(out) < 4096 {
		t.Errorf("%d bytes, ends in %q", len(out), out[max(0, len(out)-40):])
	}
	files, err := filepath.Glob(d.cfg.Data + "/logs/" + string(id) + "/*")
	if err != nil || len(files) != 3 {
		t.Errorf("%d files, %v", len(files), err)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Size() > 4096 {
			t.Errorf("%s has %d bytes, %v", f, st.Size(), err)
		}
	}
	spec.LogFiles = -1
	if _, err := d.Create(context.Background(), spec); !errors.Is(err, engine.ErrInvalid) {
		t.Error(err)
	}
}

// Somebody's SIGKILL, at memory's edge, is not taken for the kernel's.
func TestKilledNearMemoryLimit(t *testing.T) {
	t.Parallel()
	d := open(t)
	needs(t, d, "memory limit", memory)
	spec := probeSpec(t, "hold", "32")
	spec.Limits.Memory = 128 << 20
	id := started(t, d, spec)
	follow(t, d, id, "used")
	if err := d.Signal(context.Background(), id, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit, err := d.Wait(context.Background(), id); err != nil || exit.Code != 137 || exit.OOM || exit.Memory < 32<<20 {
		t.Errorf("%+v, %v", exit, err)
	}
}

// TestExecNumber kills a program of Exec by the number that is told of it.
func TestExecNumber(t *testing.T) {
	t.Parallel()
	d := open(t)
	id := started(t, d, enginetest.Spec("sleep 1000"))
	exit, err := d.Exec(t.Context(), id, engine.ExecSpec{Command: []string{"/bin/sh", "-c", "exec sleep 1000"}}, engine.Streams{Started: func(pid int) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}})
	if err != nil || exit.Signal != 9 {
		t.Errorf("%+v, %v", exit, err)
	}
}
