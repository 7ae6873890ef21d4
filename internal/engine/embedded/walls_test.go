//go:build linux && amd64

package embedded

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

func TestSyscallsBlocked(t *testing.T) {
	t.Parallel()
	d := open(t)
	r := run(t, d, probeSpec(t, "syscalls"))
	lines := strings.Fields(r.out)
	if len(lines) < 30 {
		t.Fatalf("%+v %q %q", r.Exit, r.out, r.errs)
	}
	for i := 0; i+1 < len(lines); i += 2 {
		if lines[i+1] != "1" { // EPERM
			t.Errorf("%s: error %s", lines[i], lines[i+1])
		}
	}
}

// Without the filter the capabilities and the namespaces' owners hold.
func TestNoMountWithoutFilter(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, script := range []string{"mount -t tmpfs none /tmp", "mount --bind /usr /mnt", "mount -o remount,rw /",
		"umount /proc/sys", "umount /dev/shm", "mknod /dev/shm/x c 1 3"} {
		r := sh(t, d, script, func(s *engine.Spec) {
			s.Security.SeccompUnconfined = true
		})
		if r.Code == 0 {
			t.Errorf("%q succeeded", script)
		}
	}
}

// status reads fields of /proc/self/status inside.
func status(t *testing.T, d engine.Engine, change ...func(*engine.Spec)) map[string]string {
	t.Helper()
	fields := map[string]string{}
	for line := range strings.Lines(sh(t, d, "exec cat /proc/self/status", change...).out) {
		k, v, _ := strings.Cut(line, ":")
		fields[k] = strings.TrimSpace(v)
	}
	return fields
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, c := range []struct {
		name   string
		change func(*engine.Spec)
		want   map[string]string
	}{
		{"root", func(*engine.Spec) {}, map[string]string{"CapEff": "00000000a80425fb", "CapPrm": "00000000a80425fb",
			"CapBnd": "00000000a80425fb", "CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1", "Seccomp": "2", "Uid": "0\t0\t0\t0"}},
		{"user", func(s *engine.Spec) { s.User = engine.User{UID: 993, GID: 990, Groups: []uint32{5, 7}} },
			map[string]string{"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapBnd": "00000000a80425fb",
				"Uid": "993\t993\t993\t993", "Gid": "990\t990\t990\t990", "Groups": "5 7"}},
		{"none", func(s *engine.Spec) { s.Security.DropCapabilities = []string{"ALL"} },
			map[string]string{"CapEff": "0000000000000000", "CapBnd": "0000000000000000"}},
		{"one", func(s *engine.Spec) {
			s.Security = engine.Security{DropCapabilities: []string{"ALL"}, AddCapabilities: []string{"CAP_CHOWN"}, AllowNewPrivileges: true}
		}, map[string]string{"CapEff": "0000000000000001", "NoNewPrivs": "0", "Seccomp": "2"}},
		{"unconfined", func(s *engine.Spec) { s.Security.SeccompUnconfined = true }, map[string]string{"Seccomp": "0", "NoNewPrivs": "1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := status(t, d, c.change)
			for k, v := range c.want {
				if got[k] != v {
					t.Errorf("%s is %q, want %q", k, got[k], v)
				}
			}
		})
	}
	spec := enginetest.Spec("true")
	spec.Security.AddCapabilities = []string{"FLY"}
	if _, err := d.Create(context.Background(), spec); err == nil {
		t.Error("an unknown capability was taken")
	}
}

// A setuid program gives nothing: no_new_privs, and nosuid mounts.
func TestNoNewPrivileges(t *testing.T) {
	t.Parallel()
	d := open(t)
	r := sh(t, d, "test -u /usr/bin/su && su -c id", func(s *engine.Spec) { s.User = engine.User{UID: 993, GID: 990} })
	if r.Code == 0 || strings.Contains(r.out, "uid=0") {
		t.Errorf("%+v %q", r.Exit, r.out)
	}
}

func TestUserNamespace(t *testing.T) {
	t.Parallel()
	d := open(t)
	a := sh(t, d, "cat /proc/self/uid_map /proc/self/gid_map")
	f := strings.Fields(a.out)
	if len(f) != 6 || f[0] != "0" || f[1] == "0" || f[2] != "65536" || f[1] != f[4] {
		t.Fatalf("maps %q", a.out)
	}
	x, y := started(t, d, enginetest.Spec("sleep 1000")), started(t, d, enginetest.Spec("sleep 1000"))
	owner := func(id engine.ID) string {
		st, err := d.Inspect(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", st.Pid))
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(b))[1]
	}
	if owner(x) == owner(y) {
		t.Error("two containers share a range of user ids")
	}
}

func TestFileSystem(t *testing.T) {
	t.Parallel()
	d := open(t)
	secret := t.TempDir() + "/secret"
	if err := os.WriteFile(secret, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, script string }{
		{"read-only root", "touch /x 2>/dev/null"}, {"read-only usr", "touch /usr/x 2>/dev/null"},
		{"read-only etc", "touch /etc/x 2>/dev/null"}, {"read-only dev", "touch /dev/x 2>/dev/null"},
		{"read-only sys", "find /sys -maxdepth 3 -type f -writable 2>/dev/null | head -200 | while read f; do (echo x > $f) 2>/dev/null && exit 9; done; exit 1"},
		{"sysctl", "echo 1 > /proc/sys/kernel/hostname"}, {"sysrq", "echo h > /proc/sysrq-trigger"},
		{"kcore", "test -s /proc/kcore || head -c1 /proc/kcore | grep ."},
		{"keys", "grep . /proc/keys"}, {"timer_list", "grep . /proc/timer_list"}, {"firmware", "ls /sys/firmware | grep ."},
		{"the machine's users", "grep -q . /etc/shadow"}, {"the machine's files", "test -e " + filepath.Dir(secret)},
		{"the machine's root folder", "ls -A /root | grep ."}, {"the machine's home", "ls -A /home | grep ."},
		{"old root", "ls / | grep -x r"}, {"mounts of the machine", "grep -E '/dev/shm/|skerry-engine' /proc/self/mountinfo"},
		{"block device", "mknod /tmp/b b 8 0 && head -c1 /tmp/b"}, {"kmsg", "test -e /dev/kmsg"}, {"mem", "test -e /dev/mem"},
		{"char device", "mknod /tmp/m c 1 1"}, {"cgroup", "test -e /sys/fs/cgroup/memory/tasks"},
		{"dmesg", "dmesg"},
	} {
		r := sh(t, d, c.script, func(s *engine.Spec) {
			s.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/tmp", Size: 1 << 20}}
		})
		if r.Code == 0 || r.Code == 9 {
			t.Errorf("%s: %q succeeded: %q", c.name, c.script, r.out)
		}
	}
	for _, c := range []struct{ name, script string }{
		{"null", "echo x > /dev/null"}, {"zero", "head -c1 /dev/zero"}, {"urandom", "head -c1 /dev/urandom"},
		{"tmp", "echo x > /tmp/x && test -s /tmp/x"}, {"shm", "echo x > /dev/shm/x"}, {"pts", "test -e /dev/pts/ptmx"},
		{"stdout", "echo x > /dev/stdout"}, {"stderr", "echo x > /dev/stderr"}, {"meminfo", "grep -q MemTotal /proc/meminfo"},
		{"sys", "test -d /sys/class/net/lo"}, {"task dir", "test -d /var/task"}, {"name", `test "$(cat /proc/sys/kernel/hostname)" = me`},
		{"hosts", "grep -q localhost /etc/hosts"}, {"resolver", "grep -q 169.254.169.253 /etc/resolv.conf"},
		{"given file", `test "$(cat /etc/greeting)" = hello`}, {"loader", "ldd /bin/sh >/dev/null || true; /usr/bin/env true"},
		{"certificates", "test -d /etc/ssl/certs"},
	} {
		for _, user := range []uint32{0, 993} {
			r := sh(t, d, c.script, func(s *engine.Spec) {
				s.User, s.Hostname = engine.User{UID: user, GID: user}, "me"
				s.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/tmp", Size: 1 << 20}}
				s.Root.Host.Files = []engine.File{{Path: "/etc/greeting", Content: []byte("hello")}}
			})
			if r.Code != 0 {
				t.Errorf("%s as %d: %q: %+v %q", c.name, user, c.script, r.Exit, r.errs)
			}
		}
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	d := open(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/code", []byte("print"), 0o644); err != nil {
		t.Fatal(err)
	}
	with := func(m engine.Mount) func(*engine.Spec) {
		m.Kind, m.Source, m.Target = engine.MountBind, dir, "/var/task"
		return func(s *engine.Spec) { s.Mounts = append(s.Mounts, m) }
	}
	if r := sh(t, d, "cat /var/task/code && ! touch /var/task/x 2>/dev/null", with(engine.Mount{ReadOnly: true})); r.Code != 0 || r.out != "print" {
		t.Errorf("read-only: %+v %q %q", r.Exit, r.out, r.errs)
	}
	if r := sh(t, d, "echo in > /var/task/x; stat -c %u /var/task/x /var/task/code", with(engine.Mount{Owned: true})); r.out != "0\n0\n" {
		t.Errorf("owned: %+v %q %q", r.Exit, r.out, r.errs)
	}
	st, err := os.Stat(dir + "/x")
	if err != nil || fmt.Sprint(st.Sys()) == "" {
		t.Fatalf("written inside: %v", err)
	}
	if r := sh(t, d, "! echo in > /var/task/code; stat -c %u /var/task/code", with(engine.Mount{})); r.out != "65534\n" || r.Code != 0 {
		t.Errorf("not owned: %+v %q %q", r.Exit, r.out, r.errs)
	}
	spec := enginetest.Spec("true")
	with(engine.Mount{})(&spec)
	spec.Mounts[0].Source = dir + "/missing"
	if _, err := d.Create(context.Background(), spec); err == nil {
		t.Error("a source that does not exist was taken")
	}
}

// A program that a link in the root points elsewhere stays inside.
func TestLinkedTarget(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := enginetest.Spec("cat /proc/self/mountinfo")
	spec.Mounts = []engine.Mount{{Kind: engine.MountTmpfs, Target: "/dev/fd/../root/opt", Size: 1 << 20}}
	id, err := d.Create(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Remove(context.Background(), id) }()
	_ = d.Start(context.Background(), id) // it may fail, but must not mount on the machine
	if b, _ := os.ReadFile("/proc/self/mountinfo"); strings.Contains(string(b), " /opt ") {
		t.Error("mounted on the machine")
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	d := open(t)
	ctx := context.Background()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/code", []byte("attached"), 0o644); err != nil {
		t.Fatal(err)
	}
	id := started(t, d, enginetest.Spec("while ! test -e /var/task/code; do sleep 0.01; done; cat /var/task/code; ! touch /var/task/x"))
	m := engine.Mount{Kind: engine.MountBind, Source: dir, Target: "/var/task", ReadOnly: true}
	if err := d.Attach(ctx, id, m); err != nil {
		t.Fatal(err)
	}
	exit, err := d.Wait(ctx, id)
	if err != nil || exit.Code != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
	if out, _ := output(t, d, id); out != "attached" {
		t.Errorf("output %q", out)
	}
	if err := d.Attach(ctx, id, m); err == nil {
		t.Error("attached to a container that has exited")
	}
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	d := open(t)
	r := sh(t, d, "ls -d /proc/[0-9]*; echo $$")
	if r.out != "/proc/1\n1\n" {
		t.Errorf("sees %q", r.out)
	}
	if r := sh(t, d, fmt.Sprintf("kill -0 %d", os.Getpid())); r.Code == 0 {
		t.Error("reaches the machine's processes")
	}
	if r := sh(t, d, "ls /proc/self/fd | wc -l; ls -l /proc/self/fd"); !strings.HasPrefix(r.out, "4\n") { // and ls's own
		t.Errorf("inherited descriptors: %q", r.out)
	}
	if r := sh(t, d, "cat /proc/self/cgroup"); strings.Contains(r.out, "skerry") {
		t.Errorf("sees its place in the machine's cgroups: %q", r.out)
	}
	// shared memory and semaphores of the machine
	if r := sh(t, d, "cat /proc/sysvipc/shm | wc -l; ls /dev/mqueue | wc -l"); r.out != "1\n0\n" {
		t.Errorf("shared memory: %q", r.out)
	}
}

func TestNetworkWalls(t *testing.T) {
	t.Parallel()
	d := open(t)
	needs(t, d, "way to the outside", func(c engine.Capabilities) bool { return c.Outside })
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	victim := enginetest.Spec("sleep 1000")
	victim.Network.Mode = engine.NetworkNAT
	other := started(t, d, victim)
	inside, err := d.Listen(context.Background(), other, "tcp", "0.0.0.0:80")
	if err != nil {
		t.Fatal(err)
	}
	defer inside.Close()
	st, err := d.Inspect(context.Background(), other)
	if err != nil || !st.Address.IsValid() {
		t.Fatalf("%+v, %v", st, err)
	}
	targets := []string{st.Address.String() + ":80", fmt.Sprintf("127.0.0.1:%d", port)}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if ip := a.(*net.IPNet).IP.To4(); ip != nil {
			targets = append(targets, fmt.Sprintf("%s:%d", ip, port))
		}
	}
	tried := fmt.Sprintf("tried %d\n", len(targets))
	for _, mode := range []engine.NetworkMode{engine.NetworkNone, engine.NetworkNAT} {
		spec := probeSpec(t, append([]string{"dial"}, targets...)...)
		spec.Network.Mode = mode
		if r := run(t, d, spec); r.out != tried {
			t.Errorf("%s: %q %q", mode, r.out, r.errs)
		}
	}
	own := fmt.Sprintf("127.0.0.1:%d", port)
	spec := probeSpec(t, "dial", own)
	spec.Network.Mode = engine.NetworkHost
	if r := run(t, d, spec); r.out != "reached "+own+"\ntried 1\n" {
		t.Errorf("the machine's own network: %q %q", r.out, r.errs)
	}
}

// An address of every sandbox: who connects to a listener is in that sandbox.
func TestListenOnLocalAddress(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := probeSpec(t, "dial", "169.254.169.253:53")
	id, err := d.Create(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Remove(context.Background(), id) }()
	l, err := d.Listen(context.Background(), id, "tcp", "169.254.169.253:53")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Accept(); err == nil {
		t.Error("the listener lives on after the container")
	}
}
