//go:build linux && amd64

package supervisor

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/seccomp"
)

// capabilityNames by number.
var capabilityNames = []string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
	"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
	"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
	"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
	"CHECKPOINT_RESTORE",
}

// defaultCapabilities are Docker's 14.
const defaultCapabilities = 0xa80425fb

// allCapabilities are those that this program knows.
const allCapabilities = 1<<41 - 1

// maskedPaths are hidden, readOnlyPaths cannot be written: Docker's.
var (
	maskedPaths = []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
		"/sys/devices/virtual/powercap"}
	readOnlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// walls is what is the same for all containers: the paths that this machine
// has, and the filters that have been compiled.
type walls struct {
	maskedFiles, maskedFolders, readOnly []string
	own                                  uint64 // this process's capabilities

	filters *filters
}

type filters struct {
	mu     sync.Mutex
	byCaps map[uint64][]unix.SockFilter
}

func findWalls() (walls, error) {
	w := walls{filters: &filters{byCaps: map[uint64][]unix.SockFilter{}}}
	for _, p := range maskedPaths {
		st, err := os.Stat(p)
		switch {
		case err != nil:
		case st.IsDir():
			w.maskedFolders = append(w.maskedFolders, p)
		default:
			w.maskedFiles = append(w.maskedFiles, p)
		}
	}
	for _, p := range readOnlyPaths {
		if _, err := os.Stat(p); err == nil {
			w.readOnly = append(w.readOnly, p)
		}
	}
	var own [2]unix.CapUserData
	if err := unix.Capget(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &own[0]); err != nil {
		return w, fmt.Errorf("supervisor: capabilities: %w", err)
	}
	w.own = uint64(own[1].Permitted)<<32 | uint64(own[0].Permitted)
	_, err := w.filter(defaultCapabilities)
	return w, err
}

// filter returns the seccomp filter for a set of capabilities.
func (w *walls) filter(caps uint64) ([]unix.SockFilter, error) {
	w.filters.mu.Lock()
	defer w.filters.mu.Unlock()
	if f := w.filters.byCaps[caps]; f != nil {
		return f, nil
	}
	f, err := seccomp.Default(namesOf(caps))
	if err == nil {
		w.filters.byCaps[caps] = f
	}
	return f, err
}

func namesOf(caps uint64) (names []string) {
	for i, n := range capabilityNames {
		if caps>>i&1 == 1 {
			names = append(names, "CAP_"+n)
		}
	}
	return names
}

// bounds are one container's.
type bounds struct {
	caps          uint64
	filter        []unix.SockFilter // nil: none
	newPrivileges bool
	privileged    bool // no walls
	mounts        bool // it may mount in a namespace of its own
}

func (b bounds) has(name string) bool {
	return b.caps>>slices.Index(capabilityNames, name)&1 == 1
}

func (w *walls) bounds(s engine.Security) (b bounds, err error) {
	if s.Privileged {
		return bounds{caps: allCapabilities & w.own, newPrivileges: true, privileged: true}, nil
	}
	b.newPrivileges = s.AllowNewPrivileges
	if b.caps, err = capabilities(s.AddCapabilities, s.DropCapabilities); err != nil {
		return b, err
	}
	b.mounts = b.has("SYS_ADMIN")
	switch {
	case s.SeccompUnconfined:
	case s.Seccomp != "":
		if b.filter, err = seccomp.Profile(s.Seccomp, namesOf(b.caps)); err != nil {
			err = fmt.Errorf("engine: %w: Decoding seccomp profile failed: %w", engine.ErrInvalid, err)
		}
	default:
		b.filter, err = w.filter(b.caps)
	}
	return b, err
}

// capabilities combines what is added and dropped as Docker does: all but the
// dropped ones when ALL are added, those that are added when ALL are dropped, and
// else the usual ones without the dropped and with the added.
func capabilities(add, drop []string) (uint64, error) {
	added, allAdded, err := capabilitySet(add)
	if err != nil {
		return 0, err
	}
	dropped, allDropped, err := capabilitySet(drop)
	switch {
	case err != nil:
		return 0, err
	case allAdded:
		return allCapabilities &^ dropped, nil
	case allDropped:
		return added, nil
	}
	return defaultCapabilities&^dropped | added, nil
}

// capabilitySet resolves names; ALL is told apart.
func capabilitySet(names []string) (set uint64, all bool, err error) {
	for _, n := range names {
		n = strings.TrimPrefix(strings.ToUpper(n), "CAP_")
		if n == "ALL" {
			all = true
			continue
		}
		i := slices.Index(capabilityNames, n)
		if i < 0 {
			return 0, false, fmt.Errorf("engine: %w: unknown capability: %q", engine.ErrInvalid, "CAP_"+n)
		}
		set |= 1 << i
	}
	return set, all, nil
}

// rlimits resolves the limits of a container: nofile as Docker has it unless
// given, and none above what this process may have itself.
func rlimits(given []engine.Rlimit) (map[int]unix.Rlimit, error) {
	all := map[int]unix.Rlimit{unix.RLIMIT_NOFILE: {Cur: 1024, Max: 65535}, unix.RLIMIT_CORE: {Cur: 0, Max: 0}}
	for _, r := range given {
		n := slices.Index(engine.RlimitNames, strings.ToLower(r.Name))
		if n < 0 || r.Soft > r.Hard {
			return nil, fmt.Errorf("engine: %w: rlimit %s %d:%d", engine.ErrInvalid, r.Name, r.Soft, r.Hard)
		}
		all[n] = unix.Rlimit{Cur: r.Soft, Max: r.Hard}
	}
	for n, l := range all {
		var own unix.Rlimit
		if err := unix.Getrlimit(n, &own); err != nil {
			return nil, fmt.Errorf("supervisor: rlimit %d: %w", n, err)
		}
		l.Max = min(l.Max, own.Max)
		l.Cur = min(l.Cur, l.Max)
		all[n] = l
	}
	return all, nil
}
