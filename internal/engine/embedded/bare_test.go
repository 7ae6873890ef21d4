//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// bareFolders are the folders, by inode, of containers that were made ahead and wait.
func bareFolders(d *Driver) map[uint64]bool {
	found := map[uint64]bool{}
	all, _ := filepath.Glob(filepath.Join(d.cfg.Run, "containers", ".bare*")) // the pattern is right
	for _, dir := range all {
		if n, ok := inode(dir); ok {
			found[n] = true
		}
	}
	return found
}

func inode(path string) (uint64, bool) {
	var st syscall.Stat_t
	err := syscall.Stat(path, &st)
	return st.Ino, err == nil
}

// created makes a container and says whether it had been made ahead.
func created(t *testing.T, d *Driver, spec engine.Spec) (id engine.ID, ahead bool) {
	t.Helper()
	bares := bareFolders(d)
	id, err := d.Create(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := inode(filepath.Join(d.cfg.Run, "containers", string(id)))
	return id, bares[n]
}

func remove(t *testing.T, d *Driver, id engine.ID) {
	t.Helper()
	if err := d.Remove(context.Background(), id); err != nil {
		t.Fatal(err)
	}
}

// fromBare makes a container that had been made ahead.
func fromBare(t *testing.T, d *Driver, spec engine.Spec) (id engine.ID) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); ; {
		id, ahead := created(t, d, spec)
		if ahead {
			return id
		}
		remove(t, d, id)
		if time.Now().After(deadline) {
			t.Fatal("not within a minute: a container is made ahead")
		}
		await(t, "something is made ahead", func() bool { return len(bareFolders(d)) > 0 })
	}
}

// finished starts a container and returns what it has said.
func finished(t *testing.T, d *Driver, id engine.ID) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	if err := d.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Wait(ctx, id); err != nil {
		t.Fatal(err)
	}
	out, errs := output(t, d, id)
	remove(t, d, id)
	return out + errs
}

// A container that was made ahead has the walls, mounts, descriptors and limits of one
// that was not, and its own name, environment, folder and mounts.
func TestBareWalls(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := enginetest.Spec(`grep -E '^(Cap|Seccomp|NoNewPrivs|Groups|Uid|Gid|SigBlk|SigIgn|SigCgt|Umask)' /proc/self/status | sed 's/[0-9]\{9,\}/N/g'
cut -d' ' -f5- /proc/self/mountinfo | sed 's/[0-9]\{9,\}/N/g' | sort
cat /proc/self/cgroup /proc/self/limits /proc/self/uid_map | sed 's/[0-9]\{9,\}/N/g'
ls -1 /proc/self/fd /proc/sys/kernel /dev /opt /tmp; pwd; env | sort; id; cat /opt/file; umask; echo $$; cat /proc/1/comm
cat /proc/net/dev | cut -d: -f1; stat -c '%a %s' /tmp; df -k /tmp | tail -n 1 | cut -c1-40`)
	spec.Dir = "/opt"
	spec.Network.Mode = engine.NetworkNAT
	spec.User = engine.User{UID: 993, GID: 990, Groups: []uint32{5}}
	spec.Rlimits = []engine.Rlimit{{Name: "nofile", Soft: 100, Hard: 200}}
	spec.Limits = engine.Limits{Memory: 64 << 20, Pids: 50}
	spec.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: layer(t, tree{"file": "bound\n"}), Target: "/opt", ReadOnly: true},
		{Kind: engine.MountTmpfs, Target: "/tmp", Size: 1 << 20}}
	first, ahead := created(t, d, spec)
	if ahead {
		t.Fatal("the first one was made ahead")
	}
	usual := finished(t, d, first)
	if !strings.Contains(usual, "bound\n") || strings.Contains(usual, "rror") {
		t.Fatalf("it says %s", usual)
	}
	if other := finished(t, d, fromBare(t, d, spec)); other != usual {
		t.Errorf("made ahead, it finds\n%s\nin place of\n%s", other, usual)
	}
	spec.Command[2] = "echo $GREETING; pwd; hostname; cat /opt/file"
	spec.Env = append(spec.Env, "GREETING=good evening")
	spec.Dir = "/usr"
	spec.Mounts[0].Source = layer(t, tree{"file": "another\n"})
	id := fromBare(t, d, spec)
	if out, want := finished(t, d, id), "good evening\n/usr\n"+string(id)+"\nanother\n"; out != want {
		t.Errorf("it says %q, not %q", out, want)
	}
}

// Its limits are its own, not those of the one that it was made like.
func TestBareLimits(t *testing.T) {
	t.Parallel()
	d := open(t)
	needs(t, d, "pids limit", func(c engine.Capabilities) bool { return c.PidsLimit })
	spec := probeSpec(t, "processes", "100")
	spec.Limits.Pids = 40
	if out := finished(t, d, fromBare(t, d, spec)); out == "after 100 false\n" {
		t.Errorf("under a limit of 40: %q", out)
	}
	spec.Limits.Pids = 0
	if out := finished(t, d, fromBare(t, d, spec)); out != "after 100 false\n" {
		t.Errorf("under the usual limit: %q", out)
	}
}

// No other account gets it, nor one that wants other walls.
func TestBareApart(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := enginetest.Spec("true")
	remove(t, d, fromBare(t, d, spec))
	for what, change := range map[string]func(*engine.Spec){
		"account":    func(s *engine.Spec) { s.Account = "111111111111" },
		"user":       func(s *engine.Spec) { s.User.UID = 7 },
		"capability": func(s *engine.Spec) { s.Security.DropCapabilities = []string{"KILL"} },
		"network":    func(s *engine.Spec) { s.Network.Mode = engine.NetworkNAT },
		"file":       func(s *engine.Spec) { s.Root.Host.Files = []engine.File{{Path: "/x", Content: []byte("x")}} },
		"limit":      func(s *engine.Spec) { s.Rlimits = []engine.Rlimit{{Name: "core", Soft: 1, Hard: 1}} },
		"profile":    func(s *engine.Spec) { s.Security.Seccomp = `{"defaultAction":"SCMP_ACT_ALLOW"}` },
		"terminal":   func(s *engine.Spec) { s.TTY = true },
		"device":     func(s *engine.Spec) { s.Devices = []engine.Device{{Source: "/dev/null", Target: "/dev/mine"}} },
	} {
		other := spec
		other.Root.Host = &engine.HostRoot{}
		change(&other)
		id, ahead := created(t, d, other)
		if ahead {
			t.Errorf("one of another %s got it", what)
		}
		remove(t, d, id)
	}
}

// What is wrong with a program, its folder or a mount is told as usual, and a
// container that is removed before its start leaves nothing.
func TestBareErrors(t *testing.T) {
	t.Parallel()
	d := open(t)
	good := enginetest.Spec("true")
	for what, change := range map[string]func(*engine.Spec){
		"program": func(s *engine.Spec) { s.Command = []string{"/no/such"} },
		"name":    func(s *engine.Spec) { s.Command = []string{"no-such"} },
		"folder":  func(s *engine.Spec) { s.Dir = "/no/such" },
		"mount": func(s *engine.Spec) {
			s.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/no/such", Size: 1 << 20}}
		},
	} {
		bad := good
		change(&bad)
		told := func(id engine.ID) string {
			err := d.Start(context.Background(), id)
			if err == nil {
				t.Fatalf("%s: it has started", what)
			}
			_, started := errors.AsType[*engine.StartError](err)
			exit, _ := d.Wait(context.Background(), id)
			remove(t, d, id)
			return fmt.Sprint(strings.ReplaceAll(err.Error(), string(id), "ID"), started, exit.Code)
		}
		usual, err := d.Create(context.Background(), bad)
		if err != nil {
			t.Fatal(err)
		}
		want := told(usual)
		if got := told(fromBare(t, d, bad)); got != want || !strings.Contains(got, "no such file") {
			t.Errorf("%s: %s, not %s", what, got, want)
		}
	}
	remove(t, d, fromBare(t, d, good))
	onlyThose(t, d)
}

// waiting are the processes of containers that wait, when there are no others.
func waiting(t *testing.T, supervisor int) (pids []int) {
	t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is right
	for _, path := range all {
		b, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil && len(f) > 1 && f[0] != "Z" && f[1] == strconv.Itoa(supervisor) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// One that is killed while it waits is missed by nobody, and those that wait end with
// their supervisor.
func TestBareKilled(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := enginetest.Spec("echo here")
	remove(t, d, fromBare(t, d, spec))
	supervisor := supervisorPid(t, d)
	var pids []int
	await(t, "some wait", func() bool { pids = waiting(t, supervisor); return len(pids) > 0 })
	for _, pid := range pids {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	await(t, "they are gone", func() bool {
		for _, pid := range pids {
			if !reaped(pid) {
				return false
			}
		}
		return true
	})
	if out := finished(t, d, fromBare(t, d, spec)); out != "here\n" {
		t.Errorf("it says %q", out)
	}
	await(t, "some wait again", func() bool { pids = waiting(t, supervisor); return len(pids) > 0 })
	killSupervisor(t, d)
	await(t, "they have ended with it", func() bool {
		for _, pid := range pids {
			if !reaped(pid) {
				return false
			}
		}
		return true
	})
	id, err := d.Create(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if out := finished(t, d, id); out != "here\n" {
		t.Errorf("under the next supervisor, it says %q", out)
	}
}
