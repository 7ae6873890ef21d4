//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// grouped is a container of a group.
func grouped(spec engine.Spec, l engine.Limits) engine.Spec {
	spec.Group = engine.Group{Name: "task", Limits: l}
	return spec
}

// Containers of a group share its memory. The one that is killed for it says so,
// and the others go on.
func TestGroupMemory(t *testing.T) {
	d := open(t)
	needs(t, d, "memory limit", memory)
	limits := engine.Limits{Memory: 160 << 20}
	holds := grouped(enginetest.Spec("dd if=/dev/zero of=/dev/shm/f bs=1M count=64 2>/dev/null && echo held; exec sleep 1000"), limits)
	holds.ShmSize = 96 << 20
	small := started(t, d, holds)
	await(t, "it holds its memory", func() bool { out, _ := output(t, d, small); return out == "held\n" })
	uses := func(mib int) engine.Spec {
		return grouped(enginetest.Spec(fmt.Sprintf("exec dd if=/dev/zero of=/dev/null bs=%dM count=1", mib)), limits)
	}
	for mib, code := range map[int]int{32: 0, 140: 137} { // each below the limit by itself
		if r := run(t, d, uses(mib)); r.Code != code || r.OOM != (code == 137) {
			t.Errorf("%d MiB beside 64 of 160: %+v %q", mib, r.Exit, r.errs)
		}
	}
	own := uses(64)
	own.Limits.Memory = 32 << 20 // its own limit holds as well
	if r := run(t, d, own); !r.OOM {
		t.Errorf("over its own limit: %+v", r.Exit)
	}
	if st, err := d.Inspect(context.Background(), small); err != nil || st.State != engine.Running {
		t.Errorf("the other is %+v, %v", st, err)
	}
}

// Containers of a group share its processors, and are counted together.
func TestGroupCPU(t *testing.T) {
	d := open(t)
	needs(t, d, "cpu limit", func(c engine.Capabilities) bool { return c.CPULimit })
	limits := engine.Limits{CPU: 0.2}
	begin := time.Now()
	var ids []engine.ID
	for range 2 {
		spec := grouped(enginetest.Spec("while :; do :; done"), limits)
		spec.Limits.CPU = 0.5 // more than the group has
		ids = append(ids, started(t, d, spec))
	}
	var used, wall time.Duration
	await(t, "they have run for a second and a half", func() bool {
		used, wall = 0, time.Since(begin)
		for _, id := range ids {
			st, err := d.Stats(context.Background(), id)
			if err != nil {
				t.Fatal(err)
			}
			used += st.CPU
		}
		return wall > 1500*time.Millisecond
	})
	if share := float64(used) / float64(wall); share > 0.3 {
		t.Errorf("two in a group of a fifth of a processor used %.2f", share)
	}
}

func TestGroupPids(t *testing.T) {
	d := open(t)
	needs(t, d, "pids limit", func(c engine.Capabilities) bool { return c.PidsLimit })
	limits := engine.Limits{Pids: 40}
	first := started(t, d, grouped(enginetest.Spec("i=0; while test $i -lt 20; do sleep 1000 & i=$((i+1)); done; echo all; wait"), limits))
	await(t, "it has its processes", func() bool { out, _ := output(t, d, first); return out == "all\n" })
	r := run(t, d, grouped(probeSpec(t, "processes", "100"), limits))
	var n int
	var again bool
	if _, err := fmt.Sscanf(r.out, "after %d %t", &n, &again); err != nil || n >= 20 || !again {
		t.Errorf("beside 21 of 40: %q %q", r.out, r.errs)
	}
}

// A group outlasts neither its containers nor a killed supervisor; a container
// that is started again is in it.
func TestGroupEnds(t *testing.T) {
	d := open(t)
	needs(t, d, "memory limit", memory)
	groups := func() int {
		found, err := filepath.Glob("/sys/fs/cgroup/*/" + d.cfg.Name + "/p[0-9]*")
		unified, err2 := filepath.Glob("/sys/fs/cgroup/" + d.cfg.Name + "/p[0-9]*")
		if err := errors.Join(err, err2); err != nil {
			t.Fatal(err)
		}
		return len(found) + len(unified)
	}
	ctx := context.Background()
	limits := engine.Limits{Memory: 96 << 20}
	var ids []engine.ID
	for range 2 {
		ids = append(ids, started(t, d, grouped(probeSpec(t, "hold", "64"), limits)))
	}
	exits := 0
	await(t, "one of two is killed", func() bool {
		exits = 0
		for _, id := range ids {
			if st, err := d.Inspect(ctx, id); err != nil {
				t.Fatal(err)
			} else if st.Exit != nil && st.Exit.OOM {
				exits++
			}
		}
		return exits > 0
	})
	if groups() == 0 {
		t.Error("no group was made")
	}
	pid := supervisorPid(t, d)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the supervisor is gone", func() bool { return reaped(pid) })
	d.dropIdle()
	if _, err := d.Wait(ctx, ids[0]); err != nil { // starts the next one
		t.Fatal(err)
	}
	if n := groups(); n != 0 {
		t.Errorf("%d groups are left of a killed supervisor", n)
	}
	if err := d.Start(ctx, ids[0]); err != nil {
		t.Fatal(err)
	}
	if r := run(t, d, grouped(probeSpec(t, "memory", "90"), limits)); !r.OOM {
		if st, err := d.Inspect(ctx, ids[0]); err != nil || st.Exit == nil || !st.Exit.OOM {
			t.Errorf("neither was killed: %+v, %+v, %v", r.Exit, st, err)
		}
	}
	for _, id := range ids {
		if err := d.Remove(ctx, id); err != nil {
			t.Error(err)
		}
	}
	await(t, "the group is gone", func() bool { return groups() == 0 })
}

// What a privileged container makes in its own control group goes with it.
func TestGroupsOfPrivileged(t *testing.T) {
	d := open(t)
	c, err := d.Info(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	mount, procs := "cgroup2", "cgroup.procs"
	if c.Cgroups == 1 {
		needs(t, d, "memory limit", memory)
		mount, procs = "cgroup -o memory", "tasks"
	}
	r := sh(t, d, "mkdir -p /tmp/g && mount -t "+mount+" none /tmp/g && mkdir -p /tmp/g/a/b && echo $$ >/tmp/g/a/b/"+procs+" && echo made",
		func(s *engine.Spec) {
			s.Security.Privileged = true
			s.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/tmp"}}
		})
	if r.out != "made\n" {
		t.Fatalf("%+v %q %q", r.Exit, r.out, r.errs)
	}
	await(t, "they are gone", func() bool {
		left, _ := filepath.Glob("/sys/fs/cgroup/memory/" + d.cfg.Name + "/*/*/b")
		unified, _ := filepath.Glob("/sys/fs/cgroup/" + d.cfg.Name + "/*/*/b")
		return len(left)+len(unified) == 0
	})
}
