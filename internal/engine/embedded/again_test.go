//go:build linux && amd64

package embedded

import (
	"context"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

func startAgain(t *testing.T, d *Driver, id engine.ID) engine.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := d.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	exit, err := d.Wait(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return exit
}

func killSupervisor(t *testing.T, d *Driver) {
	t.Helper()
	pid := supervisorPid(t, d)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the supervisor is gone", func() bool { return reaped(pid) })
	d.dropIdle()
}

// A container runs again with what it had: files, owners, mounts, address, limits;
// also when the supervisor has been killed in between.
func TestAgain(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx := context.Background()
	withImages(t, d, map[string][]string{"i": {busybox(t)}})
	volume := t.TempDir()
	spec := inImage("i", `echo run >> /runs; echo run >> /volume/runs; echo tmp >> /scratch/runs; chown 7:8 /runs; echo more >> /etc/resolv.conf; echo more >> /etc/hosts
wc -l < /runs; wc -l < /volume/runs; wc -l < /scratch/runs; grep -c more /etc/resolv.conf; grep -c more /etc/hosts; stat -c %u:%g /runs; cat /attached/file
grep -c . /etc/mtab > /dev/null && sleep 0.0; head -n 100 /etc/hosts | grep 10.254; exit 3`)
	spec.Labels = map[string]string{"task": "t"}
	spec.Network.Mode = engine.NetworkNAT
	spec.Limits.Memory = 64 << 20
	spec.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: volume, Target: "/volume", Owned: true}, {Kind: engine.MountTmpfs, Target: "/scratch", Size: 1 << 20}}
	id, err := d.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	attached := layer(t, tree{"file": "attached\n"})
	if err := d.Attach(ctx, id, engine.Mount{Kind: engine.MountBind, Source: attached, Target: "/attached", ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	var address string
	for n := 1; n <= 4; n++ {
		if n == 4 { // with another range of user ids, perhaps
			killSupervisor(t, d)
			started(t, d, enginetest.Spec("sleep 1000"))
		}
		before, _ := output(t, d, id)
		if exit := startAgain(t, d, id); exit.Code != 3 {
			t.Fatalf("run %d: %+v", n, exit)
		}
		out, errs := output(t, d, id)
		lines := strings.Split(strings.TrimPrefix(out, before), "\n")
		count := string(rune('0' + n))
		if len(lines) != 9 {
			t.Fatalf("run %d: %q %q", n, lines, errs)
		}
		if got, want := strings.Join(lines[:7], " "), count+" "+count+" 1 "+count+" 1 7:8 attached"; got != want {
			t.Errorf("run %d: %q, want %q; %s", n, got, want, errs)
		}
		if address != "" && n < 4 && lines[7] != address {
			t.Errorf("run %d: address %q, want %q", n, lines[7], address)
		}
		address = lines[7]
	}
	if err := d.Remove(ctx, id); err != nil {
		t.Error(err)
	}
}

// A run that the supervisor's end has cut off is told as lost, whatever the exit of
// the run before.
func TestAgainSupervisorKilled(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	withImages(t, d, map[string][]string{"i": {busybox(t)}})
	id, err := d.Create(ctx, inImage("i", "test -e /ran && exec sleep 1000; echo > /ran; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Remove(ctx, id) }()
	if exit := startAgain(t, d, id); exit.Code != 3 {
		t.Fatalf("%+v", exit)
	}
	killSupervisor(t, d)
	if exit, err := d.Wait(ctx, id); err != nil || exit.Code != 3 {
		t.Errorf("an exit of before: %+v, %v", exit, err)
	}
	if err := d.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	killSupervisor(t, d)
	if exit, err := d.Wait(ctx, id); err != nil || exit.Code != -1 || !strings.Contains(exit.Reason, "lost") {
		t.Errorf("a run that was lost: %+v, %v", exit, err)
	}
	if err := d.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	if st, err := d.Inspect(ctx, id); err != nil || st.State != engine.Running || st.Image != "sha256:i" {
		t.Errorf("%+v, %v", st, err)
	}
}
