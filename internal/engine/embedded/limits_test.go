//go:build linux && amd64

package embedded

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// needs skips where the machine lacks something, and says so.
func needs(t *testing.T, d *Driver, what string, has func(engine.Capabilities) bool) {
	t.Helper()
	c, err := d.Info(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !has(c) {
		t.Skipf("this machine has no %s: %v", what, c.Missing)
	}
}

func memory(c engine.Capabilities) bool { return c.MemoryLimit && c.OOMDetection }

func TestMemoryLimit(t *testing.T) {
	t.Parallel()
	d := open(t)
	needs(t, d, "memory limit", memory)
	for _, c := range []struct {
		name  string
		args  []string
		limit int64
		code  int
		oom   bool
	}{
		{"under", []string{"memory", "32"}, 128 << 20, 0, false},
		{"over", []string{"memory", "256"}, 128 << 20, 137, true},
		{"none", []string{"memory", "256"}, 0, 0, false},
		// the program goes on when one of its children is killed
		{"child", []string{"memory-child", "256"}, 128 << 20, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec := probeSpec(t, c.args...)
			spec.Limits.Memory = c.limit
			r := run(t, d, spec)
			if r.Code != c.code || r.OOM != c.oom {
				t.Errorf("exit %+v, %q %q", r.Exit, r.out, r.errs)
			}
			// the counter may be a batch of pages over
			if c.limit > 0 && (r.Memory <= 0 || r.Memory > c.limit+1<<20) {
				t.Errorf("most memory %d, limit %d", r.Memory, c.limit)
			}
		})
	}
}

// A kill that has nothing to do with memory is not taken for one that has.
func TestKilledIsNotOutOfMemory(t *testing.T) {
	t.Parallel()
	d := open(t)
	r := sh(t, d, "sleep 1000 & kill -9 $!; exit 137", func(s *engine.Spec) { s.Limits.Memory = 64 << 20 })
	if r.Code != 137 || r.OOM {
		t.Errorf("exit %+v", r.Exit)
	}
}

func TestTmpfsEnds(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := probeSpec(t, "fill", "64")
	spec.Mounts = append(spec.Mounts, engine.Mount{Kind: engine.MountTmpfs, Target: "/tmp", Size: 16 << 20})
	if r := run(t, d, spec); r.out != "wrote 17 true\n" {
		t.Errorf("16 MiB: %q %q", r.out, r.errs)
	}
	spec.Mounts[1].Size = 128 << 20
	if r := run(t, d, spec); r.out != "wrote 64 false\n" {
		t.Errorf("128 MiB: %q %q", r.out, r.errs)
	}
	needs(t, d, "memory limit", memory)
	spec.Limits.Memory = 48 << 20 // what is in it is charged
	if r := run(t, d, spec); !r.OOM {
		t.Errorf("64 MiB of files in 48 MiB of memory: %+v %q", r.Exit, r.out)
	}
}

func TestPidsLimit(t *testing.T) {
	t.Parallel()
	d := open(t)
	needs(t, d, "pids limit", func(c engine.Capabilities) bool { return c.PidsLimit })
	spec := probeSpec(t, "processes", "100")
	spec.Limits.Pids = 40
	r := run(t, d, spec)
	var n int
	var again bool
	if _, err := fmt.Sscan(strings.TrimPrefix(r.out, "after"), &n, &again); err != nil || n >= 40 || n < 10 || !again {
		t.Errorf("under a limit of 40: %q %q", r.out, r.errs)
	}
	spec.Limits.Pids = 0 // 1,024
	if r := run(t, d, spec); r.out != "after 100 false\n" {
		t.Errorf("under the usual limit: %q %q", r.out, r.errs)
	}
}

func TestCPUQuota(t *testing.T) {
	d := open(t)
	needs(t, d, "cpu limit", func(c engine.Capabilities) bool { return c.CPULimit })
	spec := probeSpec(t, "spin", "1000")
	spec.Limits.CPU = 0.2
	r := run(t, d, spec)
	var ms int
	if _, err := fmt.Sscan(r.out, &ms); err != nil || ms > 320 || ms < 50 {
		t.Errorf("a fifth of a processor gave %d ms of a second: %q", ms, r.errs)
	}
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	d := open(t)
	needs(t, d, "memory limit", memory)
	ctx := context.Background()
	id := started(t, d, enginetest.Spec("sleep 1000"))
	if err := d.Update(ctx, id, engine.Limits{Memory: 64 << 20, CPU: 0.5}); err != nil {
		t.Fatal(err)
	}
	script := []string{"/bin/sh", "-c", `head -c 200m /dev/zero | tail -c 199m | wc -c`}
	var out strings.Builder
	if _, err := d.Exec(ctx, id, engine.ExecSpec{Command: script}, engine.Streams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), fmt.Sprint(199<<20)) {
		t.Error("the new limit does not bite")
	}
	st, err := d.Stats(ctx, id)
	if err != nil || st.OOMKills == 0 {
		t.Errorf("stats %+v, %v", st, err)
	}
	if err := d.Update(ctx, id, engine.Limits{}); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if _, err := d.Exec(ctx, id, engine.ExecSpec{Command: script}, engine.Streams{Stdout: &out}); err != nil {
		t.Fatal(err)
	}
	if out.String() != fmt.Sprintln(199<<20) {
		t.Errorf("without limit: %q", out.String())
	}
}

func TestRlimits(t *testing.T) {
	d := open(t)
	r := sh(t, d, "ulimit -Sn; ulimit -Hn; ulimit -c")
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("1024\n%d\n0\n", min(own.Max, 65535)); r.out != want {
		t.Errorf("usual limits: %q", r.out)
	}
	r = sh(t, d, "ulimit -Sn; ulimit -Hn", func(s *engine.Spec) {
		s.Rlimits = []engine.Rlimit{{Name: "nofile", Soft: 99, Hard: 1 << 40}} // clamped, not refused
	})
	if !strings.HasPrefix(r.out, "99\n") || r.Code != 0 {
		t.Errorf("limits: %q %+v", r.out, r.Exit)
	}
}

func TestFrozenUsesNothing(t *testing.T) {
	d := open(t)
	ctx := context.Background()
	id := started(t, d, enginetest.Spec("while :; do :; done"))
	if err := d.Freeze(ctx, id, true); err != nil {
		t.Fatal(err)
	}
	a, err := d.Stats(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	wait, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	_, _ = d.Wait(wait, id) // to let time pass
	b, err := d.Stats(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if used := b.CPU - a.CPU; used > 5*time.Millisecond {
		t.Errorf("used %v while frozen", used)
	}
}
