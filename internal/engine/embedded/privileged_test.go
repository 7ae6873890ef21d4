//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/cgroup"
	"skerry/internal/engine/embedded/pid1"
	"skerry/internal/engine/enginetest"
)

func privileged(s *engine.Spec) { s.Security.Privileged = true }

// What docker run --privileged can do, and a container otherwise cannot.
func TestPrivileged(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, c := range []struct{ name, script string }{
		{"mount", "mount -t tmpfs none /mnt && touch /mnt/x"}, {"bind", "mount --bind /usr/bin /mnt && test -e /mnt/sh"},
		{"umount", "umount /dev/shm"}, {"proc", "mount -t proc none /mnt && test -e /mnt/1"},
		{"link", "ip link add v0 type veth peer name v1 && ip link set v0 up"},
		{"sysctl", "echo 1 > /proc/sys/net/ipv4/ip_forward && cat /proc/sys/net/ipv4/ip_forward"},
		{"hostname", "hostname other && test $(hostname) = other"},
		{"sys", "grep ' /sys ' /proc/self/mountinfo | grep -q ' rw,'"},
		{"nothing masked", "grep -q . /proc/timer_list && ! grep -q ' /proc/' /proc/self/mountinfo"},
		{"node", "mkdir /dev/own && mknod /dev/own/null c 1 3 && echo x > /dev/own/null"},
		{"devices", "test -b /dev/loop0 || test -c /dev/fuse"}, {"device", "test ! -e /dev/fuse || exec 3<>/dev/fuse"},
		{"raw", "grep -q 'Seccomp:.0' /proc/self/status && grep -q 'NoNewPrivs:.0' /proc/self/status"},
		{"the machine's ids", `test "$(awk '{print $1, $2}' /proc/self/uid_map)" = "0 0"`},
		{"terminals", "test -c /dev/pts/ptmx && echo x > /dev/shm/x"},
	} {
		if r := sh(t, d, c.script, privileged); r.Code != 0 {
			t.Errorf("%s: %q: %+v %q %q", c.name, c.script, r.Exit, r.out, r.errs)
		}
		if c.name == "terminals" || c.name == "device" {
			continue
		}
		if r := sh(t, d, c.script); r.Code == 0 {
			t.Errorf("%s: without: %q succeeded", c.name, c.script)
		}
	}
	// what it still has of its own
	if r := sh(t, d, "ls -d /proc/[0-9]*; hostname; ls /sys/class/net", privileged, func(s *engine.Spec) { s.Hostname = "own" }); r.out != "/proc/1\nown\nlo\n" {
		t.Errorf("%+v %q %q", r.Exit, r.out, r.errs)
	}
	r := sh(t, d, "grep CapEff /proc/self/status", privileged, func(s *engine.Spec) { s.User = engine.User{UID: 993} })
	if r.out != "CapEff:\t0000000000000000\n" {
		t.Errorf("a user: %q", r.out)
	}
	// and its mounts and names are not the machine's
	if name, err := os.Hostname(); err != nil || name == "other" {
		t.Errorf("the machine is called %s, %v", name, err)
	}
}

// A folder of the machine belongs to whom it belongs there.
func TestPrivilegedMount(t *testing.T) {
	t.Parallel()
	d := open(t)
	dir := t.TempDir()
	if err := os.Chown(dir, 1234, 1234); err != nil {
		t.Fatal(err)
	}
	r := sh(t, d, "stat -c %u /mnt; echo x > /mnt/x; mknod /mnt/null c 1 3; echo x > /mnt/null", privileged, func(s *engine.Spec) {
		s.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: dir, Target: "/mnt", Owned: true}}
	})
	var st unix.Stat_t
	if err := unix.Stat(dir+"/x", &st); r.Code != 0 || r.out != "1234\n" || err != nil || st.Uid != 0 {
		t.Errorf("%+v %q %q, %v of %d", r.Exit, r.out, r.errs, err, st.Uid)
	}
}

func TestPrivilegedExec(t *testing.T) {
	t.Parallel()
	d := open(t)
	spec := enginetest.Spec("exec sleep 1000")
	privileged(&spec)
	spec.TTY = true
	id := started(t, d, spec)
	exit, err := d.Exec(context.Background(), id, engine.ExecSpec{Command: []string{"/bin/sh", "-c", "mount -t tmpfs none /mnt && test -t 0"}, TTY: true}, engine.Streams{})
	if err != nil || exit.Code != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
}

// SYS_ADMIN mounts what is its own, and takes no wall away.
func TestMountCapability(t *testing.T) {
	t.Parallel()
	d := open(t)
	with := func(s *engine.Spec) { s.Security.AddCapabilities = []string{"SYS_ADMIN"} }
	for _, script := range []string{"mount -t tmpfs none /mnt && touch /mnt/x && umount /mnt", "mount --bind /usr/bin /mnt && test -e /mnt/sh", "hostname other"} {
		if r := sh(t, d, script, with); r.Code != 0 {
			t.Errorf("%q: %+v %q", script, r.Exit, r.errs)
		}
		if r := sh(t, d, script); r.Code == 0 {
			t.Errorf("%q succeeded without", script)
		}
	}
	for _, unconfined := range []bool{false, true} {
		for _, script := range []string{"umount /proc/sys", "umount /proc/timer_list", "umount -l /proc", "umount /dev/mqueue; ls -d /dev/mqueue/r",
			"mount -o remount,rw /", "mount -o remount,bind,rw /proc/sys", "mount -o remount,bind,dev /tmp",
			"mount -t proc none /mnt && cat /mnt/timer_list", "mount -t sysfs none /mnt", "mount --bind /proc /mnt && umount /mnt/sys",
			"mknod /dev/shm/x c 1 3", "mount -t tmpfs none /mnt && mknod /mnt/x c 1 3 && echo > /mnt/x",
			"echo 1 > /proc/sys/kernel/panic", "mount -t cgroup none /mnt -o memory", "mount -t ext4 /dev/loop0 /mnt"} {
			r := sh(t, d, script, with, func(s *engine.Spec) { s.Security.SeccompUnconfined = unconfined })
			if r.Code == 0 {
				t.Errorf("%q succeeded: %q", script, r.out)
			}
		}
	}
	spec := enginetest.Spec("exec sleep 1000")
	with(&spec)
	id := started(t, d, spec)
	if err := d.Attach(context.Background(), id, engine.Mount{Kind: engine.MountBind, Source: t.TempDir(), Target: "/opt"}); err != nil {
		t.Error(err)
	}
	exit, err := d.Exec(context.Background(), id, engine.ExecSpec{Command: []string{"mount", "-t", "tmpfs", "none", "/mnt"}, TTY: true}, engine.Streams{})
	if err != nil || exit.Code != 0 {
		t.Errorf("%+v, %v", exit, err)
	}
}

func TestCapabilitySets(t *testing.T) {
	t.Parallel()
	d := open(t)
	for _, c := range []struct {
		add, drop []string
		want      string
	}{
		{nil, []string{"ALL"}, "0000000000000000"}, {[]string{"net_admin"}, []string{"all"}, "0000000000001000"},
		{[]string{"ALL"}, nil, "000001ffffffffff"}, {[]string{"ALL"}, []string{"CAP_SYS_ADMIN", "CHOWN"}, "000001ffffdffffe"},
		{[]string{"SYS_TIME"}, []string{"CHOWN"}, "00000000aa0425fa"}, {[]string{"ALL"}, []string{"ALL"}, "000001ffffffffff"},
	} {
		got := status(t, d, func(s *engine.Spec) { s.Security.AddCapabilities, s.Security.DropCapabilities = c.add, c.drop })
		if got["CapEff"] != c.want || got["CapBnd"] != c.want || got["CapInh"] != "0000000000000000" {
			t.Errorf("add %v, drop %v: %s, bounding %s", c.add, c.drop, got["CapEff"], got["CapBnd"])
		}
	}
}

func TestDevices(t *testing.T) {
	t.Parallel()
	d := open(t)
	const device = "/dev/net/tun"
	if _, err := os.Stat(device); err != nil {
		t.Skip(err)
	}
	with := func(devices ...engine.Device) func(*engine.Spec) { return func(s *engine.Spec) { s.Devices = devices } }
	for _, version := range versions(t) {
		d := open(t, func(c *Config) { c.Cgroups = version })
		for _, c := range []struct {
			name, script string
			devices      []engine.Device
			ok           bool
		}{
			{"none", "test -e /dev/net/tun", nil, false},
			{"given", "exec 3<>/dev/net/tun", []engine.Device{{Source: device}}, true},
			{"elsewhere", "exec 3<>/dev/mine", []engine.Device{{Source: device, Target: "/dev/mine"}}, true},
			{"folder", "exec 3<>/dev/some/tun", []engine.Device{{Source: "/dev/net", Target: "/dev/some"}}, true},
			{"to read", "exec 3</dev/net/tun", []engine.Device{{Source: device, Permissions: "r"}}, true},
			{"not to write", "exec 3>/dev/net/tun", []engine.Device{{Source: device, Permissions: "r"}}, false},
			{"to write", "exec 3>/dev/net/tun", []engine.Device{{Source: device, Permissions: "w"}}, true},
			{"not to read", "exec 3</dev/net/tun", []engine.Device{{Source: device, Permissions: "wm"}}, false},
			{"the usual", "echo x > /dev/null && head -c1 /dev/urandom && exec 3<>/dev/ptmx", []engine.Device{{Source: device}}, true},
			{"read-only", "touch /dev/x", []engine.Device{{Source: device}}, false},
			{"others", "exec 3<>/mnt/fuse", []engine.Device{{Source: device}}, false},
		} {
			r := sh(t, d, c.script, with(c.devices...), func(s *engine.Spec) {
				s.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: "/dev", Target: "/mnt"}}
			})
			if (r.Code == 0) != c.ok {
				t.Errorf("version %d, %s: %q: %+v %q", version, c.name, c.script, r.Exit, r.errs)
			}
		}
	}
	// the next container that takes the same group has not the same devices
	if r := sh(t, d, "exec 3<>/mnt/net/tun", privileged, with(), func(s *engine.Spec) {
		s.Mounts = []engine.Mount{{Kind: engine.MountBind, Source: "/dev", Target: "/mnt"}}
	}); r.Code != 0 {
		t.Errorf("privileged: %+v %q", r.Exit, r.errs)
	}
	for _, dev := range []engine.Device{{Source: "/dev/missing"}, {Source: "/etc/passwd"}, {Source: device, Permissions: "x"},
		{Source: device, Target: "/x"}, {Source: device, Target: "/dev/../x"}, {Source: "net/tun"}} {
		spec := enginetest.Spec("true")
		spec.Devices = []engine.Device{dev}
		if _, err := d.Create(context.Background(), spec); !errors.Is(err, engine.ErrInvalid) {
			t.Errorf("%+v: %v", dev, err)
		}
	}
	await(t, "the groups of devices are gone", func() bool {
		left, _ := filepath.Glob(fmt.Sprintf("/sys/fs/cgroup/devices/%s/c[0-9]*", d.cfg.Name))
		return len(left) == 0
	})
}

func TestSysctls(t *testing.T) {
	t.Parallel()
	d := open(t)
	outside := func(name string) string {
		b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	settings := map[string]string{"net.ipv4.ip_unprivileged_port_start": "80", "net.core.somaxconn": "321", "kernel.shmmax": "123456",
		"kernel.msgmax": "7777", "net.ipv4.tcp_syn_retries": "3", "fs.mqueue.msg_max": "77", "kernel.domainname": "inside.test", "kernel.sem": "1 2 3 4"}
	if r := sh(t, d, "test -e /proc/sys/net/core/somaxconn"); r.Code != 0 {
		delete(settings, "net.core.somaxconn") // a kernel as old as 6.1 shows it to the machine's user namespace only
	}
	before := map[string]string{}
	var script strings.Builder
	for name := range settings {
		before[name] = outside(name)
		fmt.Fprintf(&script, "echo %s $(cat /proc/sys/%s)\n", name, strings.ReplaceAll(name, ".", "/"))
	}
	r := sh(t, d, script.String(), func(s *engine.Spec) { s.Sysctls = settings })
	for name, value := range settings {
		if !strings.Contains(r.out, name+" "+value+"\n") {
			t.Errorf("no %s = %s inside: %q %q", name, value, r.out, r.errs)
		}
		if now := outside(name); now != before[name] {
			t.Errorf("%s is %s outside, was %s", name, now, before[name])
		}
	}
	// not the next one's of the same account
	if r := sh(t, d, "cat /proc/sys/net/ipv4/tcp_syn_retries"); r.out == "3\n" {
		t.Error("a setting is left in the network for the next container")
	}
	for name, text := range map[string]string{"kernel.panic": `sysctl "kernel.panic" is not in a separate kernel namespace`, "vm.swappiness": "is not in a separate kernel namespace",
		"kernel.hostname": `conflicts with the OCI "hostname" field`, "net.../../kernel/panic": `sysctl "net.../../kernel/panic"`, "net..x": "sysctl", "kernel.shmmax.x": "not in a separate"} {
		spec := enginetest.Spec("true")
		spec.Sysctls = map[string]string{name: "1"}
		if _, err := d.Create(context.Background(), spec); !errors.Is(err, engine.ErrInvalid) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
	}
	spec := enginetest.Spec("true")
	spec.Sysctls = map[string]string{"net.core.somaxconn": "1"}
	spec.Network.Mode = engine.NetworkHost
	if _, err := d.Create(context.Background(), spec); !errors.Is(err, engine.ErrInvalid) || !strings.Contains(err.Error(), "not allowed in host network namespace") {
		t.Errorf("the machine's network: %v", err)
	}
	other := enginetest.Spec("exec sleep 1000")
	other.Network.Mode = engine.NetworkHost
	spec.Network = engine.Network{Sandbox: string(started(t, d, other))}
	if _, err := d.Create(context.Background(), spec); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("the network of a container in the machine's network: %v", err)
	}
	spec.Network, spec.Sysctls = engine.Network{}, map[string]string{"net.core.nonsense": "1"}
	id, err := d.Create(context.Background(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(context.Background(), id); !errors.Is(err, engine.ErrInvalid) || !strings.Contains(err.Error(), "net.core.nonsense") {
		t.Errorf("start: %v", err)
	}
	if err := d.Remove(context.Background(), id); err != nil {
		t.Error(err)
	}
}

// A setuid program of an image, run by a user: it works only where new privileges
// are allowed, and then it is the container's root, not the machine's.
func TestNewPrivileges(t *testing.T) {
	t.Parallel()
	d := open(t)
	fd, err := pid1.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	program := make([]byte, 8192) // a program that needs nothing else
	n, err := unix.Pread(fd, program, 0)
	if err != nil {
		t.Fatal(err)
	}
	setuid := layer(t, tree{"setuid": string(program[:n])})
	if err := os.Chmod(setuid+"/setuid", 0o755|os.ModeSetuid); err != nil {
		t.Fatal(err)
	}
	withImages(t, d, map[string][]string{"i": {busybox(t), setuid}})
	for _, c := range []struct {
		name string
		sec  engine.Security
		euid int64 // of the container; -1: the machine's root
	}{
		{"usual", engine.Security{}, 993}, {"allowed", engine.Security{AllowNewPrivileges: true}, 0},
		{"privileged", engine.Security{Privileged: true}, -1},
	} {
		spec := inImage("i", "")
		spec.Command = []string{"/setuid", "/bin/sleep", "--", "sleep", "1000"}
		spec.User, spec.Security = engine.User{UID: 993, GID: 993}, c.sec
		id := started(t, d, spec)
		st, err := d.Inspect(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		number := func(file, name string) (n []int64) {
			text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", st.Pid, file))
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.Lines(string(text)) {
				if f := strings.Fields(line); f[0] == name {
					for _, w := range f[1:] {
						i, _ := strconv.ParseInt(w, 10, 64)
						n = append(n, i)
					}
				}
			}
			return n
		}
		base := number("uid_map", "0")[0]
		want := base + c.euid
		if c.euid < 0 {
			want = 0
		}
		if uid := number("status", "Uid:"); uid[0] != base+993 || uid[1] != want || c.euid < 0 != (base == 0) {
			t.Errorf("%s: user ids %v of base %d", c.name, uid, base)
		}
	}
}

// Images, too, for the privileged and for those with terminals.
func TestPrivilegedImage(t *testing.T) {
	t.Parallel()
	d := open(t)
	withImages(t, d, map[string][]string{"i": {busybox(t)}})
	for _, writable := range []bool{true, false} {
		spec := inImage("i", "touch /new; mkdir /dev/d; mount -t tmpfs none /tmp && echo mounted; test -t 1 && stat -c %u:%g /bin/busybox /dev/console /")
		spec.Root.Writable = writable
		spec.TTY, spec.Security.Privileged = true, true
		r := run(t, d, spec)
		if want := "mounted\r\n0:0\r\n0:5\r\n0:0\r\n"; !strings.HasSuffix(r.out, want) || (r.out == want) != writable {
			t.Errorf("writable %v: %+v %q", writable, r.Exit, r.out)
		}
		spec.Security.Privileged = false
		r = run(t, d, spec)
		if !strings.Contains(r.out, "mkdir: can't create directory '/dev/d'") || strings.Contains(r.out, "mounted") {
			t.Errorf("writable %v, not privileged: %+v %q", writable, r.Exit, r.out)
		}
	}
}

// A program of an image finds its limits where it looks for them, and cannot
// change them.
func TestLimitsSeen(t *testing.T) {
	t.Parallel()
	t.Run("v1", func(t *testing.T) {
		limitsSeen(t, 1, "cat memory/memory.limit_in_bytes; cat cpu/cpu.cfs_quota_us; grep ' /sys/fs/cgroup/memory ' /proc/self/mountinfo | cut -d' ' -f4; ls memory | grep -c '^c[0-9]'; echo 1 > memory/memory.limit_in_bytes || echo no",
			"67108864\n50000\n/\n0\nno\n")
	})
	t.Run("v2", func(t *testing.T) {
		limitsSeen(t, 2, "cat memory.max cpu.max; grep ' /sys/fs/cgroup ' /proc/self/mountinfo | cut -d' ' -f4; ls | grep -c '^c[0-9]'; echo 1 > memory.max || echo no",
			"67108864\n50000 100000\n/\n0\nno\n")
	})
}

// versions are those of the control groups that are mounted here.
func versions(t *testing.T) (all []int) {
	t.Helper()
	m, err := cgroup.FindMounts("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if len(m.V1) > 0 {
		all = append(all, 1)
	}
	if m.V2 != "" {
		all = append(all, 2)
	}
	return all
}

// limitsSeen runs a script in the groups that a container of an image sees.
func limitsSeen(t *testing.T, version int, script, want string) {
	t.Helper()
	if !slices.Contains(versions(t), version) {
		t.Skip("not mounted here")
	}
	d := open(t, func(c *Config) { c.Cgroups = version })
	withImages(t, d, map[string][]string{"i": {busybox(t)}})
	spec := inImage("i", "cd /sys/fs/cgroup; "+script)
	if c, err := d.Info(context.Background()); err != nil {
		t.Fatal(err)
	} else if c.MemoryLimit && c.CPULimit {
		spec.Limits = engine.Limits{Memory: 64 << 20, CPU: 0.5}
	} else if version == 2 { // the folder is there without its limits
		spec.Command[2] = "cd /sys/fs/cgroup; head -n 1 cgroup.procs; grep ' /sys/fs/cgroup ' /proc/self/mountinfo | cut -d' ' -f4; echo 0 > cgroup.procs || echo no"
		want = "1\n/\nno\n"
	} else {
		t.Skipf("no limits: %v", c.Missing)
	}
	for _, user := range []uint32{0, 993} {
		spec.User = engine.User{UID: user, GID: user}
		if r := run(t, d, spec); r.out != want {
			t.Errorf("user %d: %q, want %q; %s", user, r.out, want, r.errs)
		}
	}
	if r := sh(t, d, "ls -A /sys/fs/cgroup"); r.out != "" {
		t.Errorf("of the machine's folders: %q", r.out)
	}
}
