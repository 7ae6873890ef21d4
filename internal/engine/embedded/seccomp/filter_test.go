//go:build linux && amd64

package seccomp

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// run interprets a filter as the kernel does.
func run(t *testing.T, prog []unix.SockFilter, arch, nr uint32, args ...uint64) (result uint32, steps int) {
	t.Helper()
	data := make([]uint32, 16)
	data[0], data[1] = nr, arch
	for i, a := range args {
		data[4+2*i], data[5+2*i] = uint32(a), uint32(a>>32)
	}
	var a uint32
	for pc := 0; ; pc++ {
		steps++
		in := prog[pc]
		jump := func(yes bool) {
			if yes {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			a = data[in.K/4]
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			a &= in.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(a == in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(a >= in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(a > in.K)
		case unix.BPF_RET | unix.BPF_K:
			return in.K, steps
		default:
			t.Fatalf("instruction %d: code %#x", pc, in.Code)
		}
	}
}

var docker = []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID",
	"CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE"}

func TestDefault(t *testing.T) {
	prog, err := Default(docker)
	if err != nil {
		t.Fatal(err)
	}
	const eperm, enosys = errno | uint32(unix.EPERM), errno | uint32(unix.ENOSYS)
	for _, c := range []struct {
		name string
		nr   uint32
		args []uint64
		want uint32
	}{
		{"read", unix.SYS_READ, nil, allow},
		{"execve", unix.SYS_EXECVE, nil, allow},
		{"close_range", unix.SYS_CLOSE_RANGE, nil, allow},
		{"futex", unix.SYS_FUTEX, nil, allow},
		{"mount", unix.SYS_MOUNT, nil, eperm},
		{"unshare", unix.SYS_UNSHARE, nil, eperm},
		{"setns", unix.SYS_SETNS, nil, eperm},
		{"bpf", unix.SYS_BPF, nil, eperm},
		{"keyctl", unix.SYS_KEYCTL, nil, eperm},
		{"kexec", unix.SYS_KEXEC_LOAD, nil, eperm},
		{"init_module", unix.SYS_INIT_MODULE, nil, eperm},
		{"open_by_handle_at", unix.SYS_OPEN_BY_HANDLE_AT, nil, eperm},
		{"clone thread", unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allow},
		{"clone userns", unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER}, eperm},
		{"clone3", unix.SYS_CLONE3, nil, enosys},
		{"socket inet", unix.SYS_SOCKET, []uint64{unix.AF_INET}, allow},
		{"socket vsock", unix.SYS_SOCKET, []uint64{unix.AF_VSOCK}, eperm},
		{"personality linux", unix.SYS_PERSONALITY, []uint64{0}, allow},
		{"personality query", unix.SYS_PERSONALITY, []uint64{0xffffffff}, allow},
		{"personality other", unix.SYS_PERSONALITY, []uint64{0x1234}, eperm},
		{"personality high word", unix.SYS_PERSONALITY, []uint64{1 << 40}, eperm},
		{"newer than the profile", 900, nil, enosys},
		{"x32", 0x40000000, nil, enosys},
	} {
		if got, _ := run(t, prog, unix.AUDIT_ARCH_X86_64, c.nr, c.args...); got != c.want {
			t.Errorf("%s: %#x, want %#x", c.name, got, c.want)
		}
	}
	if got, _ := run(t, prog, unix.AUDIT_ARCH_I386, unix.SYS_READ); got != enosys {
		t.Errorf("32-bit call: %#x", got)
	}
	longest := 0
	for nr := range uint32(500) {
		_, steps := run(t, prog, unix.AUDIT_ARCH_X86_64, nr)
		longest = max(longest, steps)
	}
	if longest > 24 {
		t.Errorf("the longest way has %d instructions", longest)
	}
	t.Logf("%d instructions, longest way %d", len(prog), longest)
}

func TestProfile(t *testing.T) {
	const eperm, enosys = errno | uint32(unix.EPERM), errno | uint32(unix.ENOSYS)
	type try struct {
		nr   uint32
		args []uint64
		want uint32
	}
	for _, c := range []struct {
		profile string
		tries   []try
	}{
		{`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod","no_such_call"],"action":"SCMP_ACT_ERRNO","errnoRet":99},{"name":"mount","action":"SCMP_ACT_KILL_PROCESS"},
			{"names":["socket"],"action":"SCMP_ACT_ERRNO","args":[{"index":0,"value":16,"op":"SCMP_CMP_EQ"}]}]}`,
			[]try{{unix.SYS_READ, nil, allow}, {unix.SYS_CHMOD, nil, errno | 99}, {unix.SYS_MOUNT, nil, unix.SECCOMP_RET_KILL_PROCESS}, {unix.SYS_SOCKET, []uint64{16}, eperm},
				{unix.SYS_SOCKET, []uint64{2}, allow}, {900, nil, allow}, {x32 | unix.SYS_CHMOD, nil, enosys}, {x32 | 900, nil, enosys}}},
		{`{"defaultAction":"SCMP_ACT_KILL","syscalls":[{"names":["read","exit_group"],"action":"SCMP_ACT_ALLOW"},{"names":["write"],"action":"SCMP_ACT_LOG"},
			{"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}}]}`,
			[]try{{unix.SYS_READ, nil, allow}, {unix.SYS_WRITE, nil, unix.SECCOMP_RET_LOG}, {unix.SYS_CLOSE, nil, unix.SECCOMP_RET_KILL_THREAD}, {unix.SYS_MOUNT, nil, unix.SECCOMP_RET_KILL_THREAD}, {900, nil, enosys}}},
		{`{"defaultAction":"SCMP_ACT_ALLOW"}`, []try{{0, nil, allow}, {900, nil, allow}, {x32, nil, enosys}}},
	} {
		prog, err := Profile(c.profile, docker)
		if err != nil {
			t.Fatalf("%s: %v", c.profile, err)
		}
		for _, x := range c.tries {
			if got, _ := run(t, prog, unix.AUDIT_ARCH_X86_64, x.nr, x.args...); got != x.want {
				t.Errorf("%s: call %#x%v: %#x, want %#x", c.profile, x.nr, x.args, got, x.want)
			}
		}
	}
	if prog, err := Profile(`{}`, docker); prog != nil || err != nil {
		t.Errorf("%v, %v", prog, err)
	}
	for _, bad := range []string{``, `x`, `{"defaultAction":"SCMP_ACT_WHAT"}`, `{"defaultAction":"SCMP_ACT_ERRNO"}`, `{"defaultAction":"SCMP_ACT_NOTIFY","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW"}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"op":"SCMP_CMP_EQ"}]}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"op":"SCMP_CMP_ODD"}]}]}`,
		`{"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG"]}`} {
		if _, err := Profile(bad, docker); err == nil {
			t.Errorf("%s is no profile", bad)
		}
	}
}

func TestCapabilities(t *testing.T) {
	prog, err := Default(append(slices.Clone(docker), "CAP_SYS_ADMIN"))
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := run(t, prog, unix.AUDIT_ARCH_X86_64, unix.SYS_MOUNT); got != allow {
		t.Errorf("mount with SYS_ADMIN: %#x", got)
	}
}

// The comparisons against plain Go, at and around their values.
func TestCompare(t *testing.T) {
	const v = uint64(7)<<32 | 9
	for _, x := range []uint64{0, 8, 9, 10, v - 1, v, v + 1, 6<<32 | 9, 8<<32 | 9, 7<<32 | 10, 8 << 32} {
		for _, c := range []struct {
			op   string
			want bool
		}{
			{"SCMP_CMP_EQ", x == v}, {"SCMP_CMP_NE", x != v}, {"SCMP_CMP_GT", x > v},
			{"SCMP_CMP_GE", x >= v}, {"SCMP_CMP_LT", x < v}, {"SCMP_CMP_LE", x <= v},
		} {
			code := decide([]rule{{allow, []condition{{arg: 2, op: specs.LinuxSeccompOperator(c.op), value: v}, {arg: 0, op: specs.OpEqualTo, value: 1}}}}, errno)
			if got, _ := run(t, code, 0, 0, 1, 0, x); (got == allow) != c.want {
				t.Errorf("%#x %s %#x: %#x", x, c.op, v, got)
			}
			if got, _ := run(t, code, 0, 0, 2, 0, x); got == allow {
				t.Errorf("%#x %s %#x: the second condition was not looked at", x, c.op, v)
			}
		}
	}
}

func BenchmarkDefault(b *testing.B) {
	for range b.N {
		if _, err := Default(docker); err != nil {
			b.Fatal(err)
		}
	}
}
