//go:build linux && amd64

package embedded

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/network"
	"skerry/internal/engine/enginetest"
)

// fakeMain is a main process of its own: it starts two containers and waits to
// be killed.
func fakeMain(dir string) int {
	d, err := Open(Config{Data: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for id, script := range map[engine.ID]string{
		"ticks": "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.01; done",
		"ends":  "while ! test -e /var/task/go; do sleep 0.01; done; echo the end; exit 42",
	} {
		spec := enginetest.Spec(script)
		spec.ID, spec.Labels = id, map[string]string{"task": string(id)}
		spec.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: dir + "/task", Target: "/var/task"}}
		if _, err = d.Create(context.Background(), spec); err == nil {
			err = d.Start(context.Background(), id)
		}
		if err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("ready")
	select {}
}

// killedMain runs fakeMain and kills it once its containers run.
func killedMain(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(dir+"/task", 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "main", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("main: %q, %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

func TestMainKilled(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	killedMain(t, d.cfg.Data)
	// one ends while there is no main
	if err := os.WriteFile(d.cfg.Data+"/task/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	await(t, "the exit record is written", func() bool {
		_, err := os.Stat(filepath.Join(d.cfg.Run, "containers/ends/exit.json"))
		return err == nil
	})

	all, err := d.List(ctx)
	if err != nil || len(all) != 2 {
		t.Fatalf("list: %+v, %v", all, err)
	}
	exit, err := d.Wait(ctx, "ends")
	if err != nil || exit.Code != 42 {
		t.Errorf("the one that ended: %+v, %v", exit, err)
	}
	if out, _ := output(t, d, "ends"); out != "the end\n" {
		t.Errorf("its output: %q", out)
	}
	var events []string
	enough := errors.New("enough")
	if err := d.Events(ctx, 0, func(e engine.Event) error {
		events = append(events, e.Labels["task"]+" "+string(e.Kind))
		if e.Kind == engine.EventExited {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) || len(events) != 3 {
		t.Errorf("events %q, %v", events, err)
	}
	// the other's output has no gap
	last := 0
	if err := d.Logs(ctx, "ticks", engine.LogQuery{Follow: true}, func(f engine.Frame) error {
		for line := range strings.Lines(string(f.Data)) {
			var n int
			if _, err := fmt.Sscanf(line, "tick %d", &n); err != nil || n != last+1 {
				t.Errorf("after tick %d: %q", last, line)
			}
			last = n
		}
		if last > 50 {
			return enough
		}
		return nil
	}); !errors.Is(err, enough) {
		t.Error(err)
	}
	if err := d.Remove(ctx, "ends"); err != nil {
		t.Error(err)
	}
	spec := enginetest.Spec("true")
	spec.ID = "ticks"
	if _, err := d.Create(ctx, spec); !errors.Is(err, engine.ErrExists) {
		t.Errorf("started twice: %v", err)
	}
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within twenty seconds: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// supervisorPid asks the socket who is at its other end.
func supervisorPid(t testing.TB, d *Driver) int {
	t.Helper()
	c, err := d.connect(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	peer := c.Peer()
	if peer == nil {
		t.Fatal("who listens is not to be known")
	}
	return int(peer.Pid)
}

func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || strings.Contains(string(b), ") Z ")
}

// reaped is more than gone: a process whose threads are still ending may hold
// its socket.
func reaped(pid int) bool {
	_, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	return err != nil
}

func TestSupervisorKilled(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	spec := enginetest.Spec("echo hello; exec sleep 1000")
	spec.Labels = map[string]string{"task": "a"}
	id, err := d.Create(ctx, spec)
	if err == nil {
		err = d.Start(ctx, id)
	}
	if err != nil {
		t.Fatal(err)
	}
	done := sh(t, d, "exit 7") // and one that was removed
	if done.Code != 7 {
		t.Errorf("%+v", done.Exit)
	}
	frozen := started(t, d, enginetest.Spec("sleep 1000"))
	if err := d.Freeze(ctx, frozen, true); err != nil {
		t.Fatal(err)
	}
	await(t, "output", func() bool { out, _ := output(t, d, id); return out == "hello\n" })
	st, err := d.Inspect(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	pid := supervisorPid(t, d)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the supervisor is gone", func() bool { return reaped(pid) })

	exit, err := d.Wait(ctx, id) // starts the next one
	if err != nil || exit.Code != -1 || exit.Reason == "" {
		t.Errorf("%+v, %v", exit, err)
	}
	await(t, "what was left of it is killed", func() bool { return gone(st.Pid) })
	if in, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/0", supervisorPid(t, d))); in != os.DevNull {
		t.Errorf("the next supervisor's own input is %q, %v", in, err)
	}
	if out, _ := output(t, d, id); out != "hello\n" {
		t.Errorf("its output: %q", out)
	}
	if all, err := d.List(ctx); err != nil || len(all) != 2 || all[0].Labels["task"] != "a" {
		t.Errorf("%+v, %v", all, err)
	}
	if r := sh(t, d, "exit 5"); r.Code != 5 {
		t.Errorf("the next container: %+v", r.Exit)
	}
	if err := d.Remove(ctx, id); err != nil {
		t.Error(err)
	}
}

// An engine that nobody needs goes away by itself; what has exited is told by
// the next one.
func TestLinger(t *testing.T) {
	d := open(t, func(c *Config) { c.Linger = 50 * time.Millisecond })
	ctx := context.Background()
	id, err := d.Create(ctx, enginetest.Spec("echo hello; exit 9"))
	if err == nil {
		err = d.Start(ctx, id)
	}
	if err == nil {
		_, err = d.Wait(ctx, id)
	}
	if err != nil {
		t.Fatal(err)
	}
	pid := supervisorPid(t, d)
	d.dropIdle()
	await(t, "the supervisor has ended", func() bool { return gone(pid) })
	exit, err := d.Wait(ctx, id)
	if err != nil || exit.Code != 9 {
		t.Errorf("%+v, %v", exit, err)
	}
	if out, _ := output(t, d, id); out != "hello\n" {
		t.Errorf("output %q", out)
	}
}

// An engine whose folder has been removed ends, with its containers.
func TestAbandoned(t *testing.T) {
	d := open(t, func(c *Config) { c.Linger = 50 * time.Millisecond })
	started(t, d, enginetest.Spec("sleep 1000"))
	pid := supervisorPid(t, d)
	d.dropIdle()
	if err := os.Remove(d.cfg.Data + "/socket"); err != nil {
		t.Fatal(err)
	}
	await(t, "the supervisor has ended", func() bool { return reaped(pid) })
	await(t, "nothing is left", func() bool {
		for _, n := range census(t, d.cfg.Name) {
			if n > 0 {
				return false
			}
		}
		return true
	})
}

func TestSocketIsPrivate(t *testing.T) {
	t.Parallel()
	d := open(t)
	if _, err := d.Info(context.Background()); err != nil {
		t.Fatal(err)
	}
	st, err := os.Stat(d.cfg.Data + "/socket")
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func TestNotRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to stop being it")
	}
	dir := t.TempDir()
	for p := dir; p != "/"; p = filepath.Dir(p) {
		_ = os.Chmod(p, 0o755) // of the test's own folders; /tmp cannot be harmed by it
		if p == os.TempDir() {
			_ = os.Chmod(p, 0o1777)
			break
		}
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/program", text, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(dir+"/program", "probe", "info", "0")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "not root") || !strings.Contains(string(out), "sudo skerry up") {
		t.Errorf("%s, %v", out, err)
	}
}

// census counts what an engine of that name has made on this machine.
func census(t *testing.T, name string) map[string]int {
	t.Helper()
	n := map[string]int{}
	count := func(path, text string) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		n[path] = strings.Count(string(b), text)
	}
	count("/proc/self/mountinfo", name)
	count("/proc/net/dev", network.LinkName(name))
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	tables, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		if table.Name == network.LinkName(name) || table.Name == "skerry" || table.Name == "groups" { // the latter are routers' own
			n["nftables"]++
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/", "/run/", "/dev/shm/"} {
		found, _ := filepath.Glob(pattern + name)
		n[pattern] = len(found)
	}
	return n
}

// Containers of all kinds, killed mains and killed supervisors: afterwards the
// machine is as it was.
func TestNothingLeft(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("short")
	}
	var pids sync.Map
	var name, data string
	t.Run("use", func(t *testing.T) {
		d := open(t)
		name, data = d.cfg.Name, d.cfg.Data
		ctx := context.Background()
		withImages(t, d, map[string][]string{"i": {busybox(t)}})
		for round := range 4 {
			var wait sync.WaitGroup
			for worker := range 5 {
				wait.Go(func() {
					for i := range 10 {
						spec := enginetest.Spec([]string{"exit 3", "sleep 1000", "/bin/sleep 1000 & exec sleep 1000", "exec /no/such"}[i%4])
						spec.Account = fmt.Sprint(worker % 2)
						spec.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/tmp", Size: 1 << 20}}
						switch {
						case i%2 == 0:
							spec.Network.Mode = engine.NetworkNAT
						case i%4 == 1:
							spec.Network = withNamed(fmt.Sprint("network", worker%3), fmt.Sprintf("10.%d.%d.%d", round, worker, i+1))
							spec.Network.Groups = []string{"sg"}
							spec.Network.Ports = []engine.Port{{Container: 80}}
						}
						spec.TTY, spec.Stdin, spec.Init = i%3 == 0, i%3 == 1, i%4 > 1
						spec.Security.Privileged = worker == 0 && i == 4
						if worker > 2 {
							spec.Group = engine.Group{Name: fmt.Sprint("group", worker), Limits: engine.Limits{Memory: 256 << 20}}
							spec.Mounts = append(spec.Mounts, engine.Mount{Kind: engine.MountDisk, Source: "shared", Target: "/mnt", Size: 8 << 20})
						}
						if worker == 1 {
							spec.Devices = []engine.Device{{Source: "/dev/null", Target: "/dev/mine"}}
						}
						id, err := d.Create(ctx, spec)
						if err != nil {
							t.Error(err)
							return
						}
						if i == 9 {
							continue // never started
						}
						if err := d.Start(ctx, id); err != nil {
							t.Error(err)
							return
						}
						if st, err := d.Inspect(ctx, id); err == nil && st.Pid > 0 {
							pids.Store(st.Pid, true)
						}
						if i%3 == 0 {
							_ = d.Freeze(ctx, id, true) // some have ended
						}
						if i == 4 {
							if _, err := d.Wait(ctx, id); err == nil {
								_ = d.Start(ctx, id) // again
							}
						}
						if i < 7 {
							if err := d.Remove(ctx, id); err != nil {
								t.Error(err)
							}
						}
					}
				})
			}
			wait.Wait()
			onlyThose(t, d)
			if round < 3 {
				pid := supervisorPid(t, d)
				if err := unix.Kill(pid, unix.SIGKILL); err != nil {
					t.Fatal(err)
				}
				await(t, "the supervisor is gone", func() bool { return reaped(pid) })
				d.dropIdle()
			}
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		left := 0
		after := census(t, name)
		after["loop devices"] = loops(t, data)
		for _, n := range after {
			left += n
		}
		if left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("left over: %v", after)
			break
		}
	}
	pids.Range(func(pid, _ any) bool {
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)); strings.Contains(string(b), "sleep\x001000") {
			t.Errorf("process %d is left", pid)
		}
		return true
	})
}

// onlyThose checks that there is a folder of what was written, and a record, for
// containers that are there, and no others.
func onlyThose(t *testing.T, d *Driver) {
	t.Helper()
	await(t, "what was removed has left no files", func() bool {
		all, err := d.List(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		known := map[string]bool{}
		for _, c := range all {
			known[string(c.ID)] = true
		}
		for _, dir := range []string{filepath.Join(d.cfg.Data, "containers"), filepath.Join(d.cfg.Run, "containers"), filepath.Join(d.cfg.Data, "logs")} {
			entries, _ := os.ReadDir(dir)
			for _, e := range entries {
				if !known[e.Name()] && !strings.HasPrefix(e.Name(), ".spare") && !strings.HasPrefix(e.Name(), ".bare") {
					return false
				}
			}
		}
		return true
	})
}
