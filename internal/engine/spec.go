package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// Spec is what a container is made of.
type Spec struct {
	ID      ID     // empty: the engine makes one
	Account string // whose it is; namespaces are recycled only within one account
	Labels  map[string]string

	Root     Root
	Command  []string // program and arguments; without a '/' the program is looked up in Env's PATH
	Env      []string // NAME=value
	Dir      string   // working directory; empty is "/"
	User     User
	Hostname string // empty is the id
	TTY      bool   // stdin, stdout and stderr are a pseudo-terminal; its output is all Stdout
	Stdin    bool   // stdin is open for Engine.Input; else it is empty
	Init     bool   // a small init of the engine's is process 1, which reaps orphans and passes signals on

	Mounts  []Mount // in this order
	Devices []Device
	ShmSize int64 // of /dev/shm in bytes; zero is 64 MiB
	Network Network
	Limits  Limits
	Group   Group
	Rlimits []Rlimit // clamped to what the engine itself may have
	// Sysctls of the container's own namespaces: net.*, kernel.shm*, kernel.msg*,
	// kernel.sem, kernel.domainname, fs.mqueue.*. Others are ErrInvalid.
	Sysctls  map[string]string
	Security Security
	// LogFiles keeps the log's size: at most so many segments of LogSize bytes.
	// Zero is 16 of 16 MiB.
	LogFiles int
	LogSize  int64
}

// Root is the container's file system: one of Image, Host.
type Root struct {
	Image string    // the name or id of an image that Engine.Images has
	Host  *HostRoot // made of the machine's own folders
	// Writable gives a root that can be written, and is thrown away when the
	// container is removed. The default is read-only.
	Writable bool
	// Size ends what may be written to the root, in bytes; zero is no limit.
	// ErrUnsupported where the machine has no way to keep it.
	Size int64
}

// HostRoot is a prepared root: the machine's own system folders, read-only,
// and what is given here. Roots that are alike are made once and shared, so
// keep what differs from container to container in Env and Mounts.
type HostRoot struct {
	// Folders of the machine that appear at the same place, read-only.
	// Missing ones are left out. Nil means SystemFolders.
	Folders []string
	// Files that are made, such as /etc/resolv.conf. /etc/passwd, group,
	// hosts, resolv.conf and nsswitch.conf are there unless given.
	Files []File
	// Dirs are made empty: places for Mounts and Attach. There are always
	// /tmp, /var/task, /var/runtime, /opt, /mnt, /run, /home, /root.
	Dirs []string
}

// SystemFolders are the machine's folders that a program needs in order to run:
// programs, libraries, certificates, the loader's cache; nothing of the
// machine's own set-up.
var SystemFolders = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	"/etc/alternatives", "/etc/ca-certificates", "/etc/fonts", "/etc/java-11-openjdk", "/etc/java-17-openjdk",
	"/etc/java-21-openjdk", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
	"/etc/mime.types", "/etc/pki/ca-trust", "/etc/pki/tls/certs", "/etc/protocols", "/etc/python3",
	"/etc/python3.11", "/etc/python3.12", "/etc/python3.13", "/etc/services", "/etc/ssl/certs",
	"/etc/ssl/openssl.cnf", "/etc/timezone",
}

// File is a small file of a prepared root.
type File struct {
	Path    string
	Content []byte
	Mode    fs.FileMode // zero is 0644
}

// User is who the command runs as, in the container's own numbers (0 to 65534).
type User struct {
	// Name is "user", "user:group", "uid" or "uid:gid", as in an image's
	// configuration. Names are looked up in the root's /etc/passwd and
	// /etc/group when the container is created (or the Exec started), and the
	// user's other groups come with it. When set, UID and GID are ignored.
	Name     string
	UID, GID uint32
	Groups   []uint32
	// Further groups, by name or number, of an image's root.
	Further []string
}

// MountKind says what is mounted.
type MountKind string

// The kinds of mount.
const (
	MountBind  MountKind = "bind"  // a folder or file of the machine
	MountTmpfs MountKind = "tmpfs" // empty, in memory, charged to the container
	// MountDisk is a file system of Size bytes on the machine's disk, empty at
	// each start as a MountTmpfs is, and not charged to the container's memory. One
	// with a Source lasts as long as the Group, whose containers share it.
	MountDisk MountKind = "disk"
)

// Mount is something mounted into a container. The target must exist in a
// read-only prepared root (see HostRoot.Dirs); in the root of an image it is
// made where it is missing.
type Mount struct {
	Kind     MountKind
	Source   string // bind: an absolute path on the machine; disk: its name in the Group
	Target   string // an absolute path in the container
	ReadOnly bool
	NoExec   bool
	// Owned maps the machine's uid and gid n to the container's n, so that
	// a folder written by the engine's user is root's own inside. Without
	// it the machine's files appear as nobody's: readable where all may
	// read, never writable unless all may write. Bind only.
	Owned bool
	// Populate fills an empty Source with what the image has at the target, as
	// Docker does for a new volume. A bind that is Owned, or a Group's disk.
	Populate bool
	Size     int64       // tmpfs, disk: bytes, then ENOSPC; zero is half the memory limit (tmpfs only)
	Mode     fs.FileMode // tmpfs, disk: of its top folder; zero is 01777
}

// Device is a device of the machine that a container may use, or a folder of
// them.
type Device struct {
	Source      string // on the machine, such as /dev/fuse
	Target      string // in the container, below /dev; empty is the same
	Permissions string // of r, w and m; empty is all
}

// Limits end what a container may use. Zero is no limit, but see Pids.
type Limits struct {
	Memory int64 // bytes; beyond it a process is killed
	Swap   int64 // bytes of swap beside Memory; zero is none, negative is no limit
	// MemoryReserve is the soft limit in bytes, under which the machine
	// presses the container when memory is short.
	MemoryReserve int64
	CPU           float64 // processors, 0.5 is half of one; a hard quota
	CPUShares     int64   // weight against others when the machine is busy; 1024 is usual
	Pids          int64   // processes and threads; zero is 1024, negative is no limit
	// CPUs and Mems are the processors and memory nodes that a container uses, such
	// as "0-2,7"; empty is all. Not of a Group.
	CPUs, Mems string
}

// Group bounds what containers use together, such as those of a task.
type Group struct {
	// Name is what they have in common: 1 to 64 of the characters of an ID; empty
	// is no group. The first container with the name makes it; the later ones are of
	// the same account and repeat its limits (ErrInvalid); it is gone with the last.
	Name string
	// Limits bound the sum; zero is no limit, for Pids too. Who is killed for memory is
	// one container, whose exit says so.
	Limits Limits
}

// DefaultPids is Limits.Pids when nothing is said.
const DefaultPids = 1024

// Rlimit is a process limit, by its name in setrlimit(2) without RLIMIT_,
// lower case: "nofile", "core", "nproc", "stack", ...
type Rlimit struct {
	Name       string
	Soft, Hard uint64
}

// Security changes the default walls: Docker's 14 capabilities, its seccomp
// profile, no new privileges.
type Security struct {
	AddCapabilities, DropCapabilities []string // "NET_ADMIN", "ALL"; with or without CAP_
	// AllowNewPrivileges lets setuid programs and file capabilities work.
	AllowNewPrivileges bool
	// SeccompUnconfined lets all system calls through.
	SeccompUnconfined bool
	// Seccomp is a profile in Docker's JSON in place of its default one. It has to let
	// through what a start does: chdir, close_range, umask, rt_sigprocmask, execve
	// and, with AllowNewPrivileges, prctl, capset, setgroups, setresuid, setresgid.
	Seccomp string
	// Privileged gives all capabilities, all devices, writable /proc and /sys,
	// no seccomp and the machine's own user ids, whatever else is said here. It
	// is no wall.
	Privileged bool
}

// ExecSpec is a program to run in a running container. What is zero is as in
// the container's Spec.
type ExecSpec struct {
	Command    []string
	Env        []string // nil: the container's
	Dir        string
	User       *User
	TTY        bool // a pseudo-terminal; its output is all stdout
	Size       Size // of the terminal
	Privileged bool // all capabilities
}

// Size is a terminal's, in characters.
type Size struct{ Rows, Columns uint16 }

// Validate checks a Spec for faults that no driver accepts. Its errors are
// ErrInvalid.
func (s *Spec) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("engine: %w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch {
	case s.ID != "" && !s.ID.Valid():
		return bad("id %q", s.ID)
	case len(s.Command) == 0 || s.Command[0] == "":
		return bad("no command")
	case (s.Root.Image == "") == (s.Root.Host == nil):
		return bad("the root is either an image or the host's folders")
	case s.Dir != "" && !path.IsAbs(s.Dir):
		return bad("working directory %q is not absolute", s.Dir)
	case s.User.UID > maxID || s.User.GID > maxID:
		return bad("user %d:%d is over %d", s.User.UID, s.User.GID, maxID)
	case s.Group.Limits.Pids < 0:
		return bad("negative limit")
	case s.Group.Limits.CPUs != "" || s.Group.Limits.Mems != "":
		return bad("processors of a group")
	case s.Group.Name != "" && !ID(s.Group.Name).Valid() || s.Group.Name == "" && s.Group.Limits != Limits{}:
		return bad("group %q", s.Group.Name)
	case len(s.Security.Seccomp) > maxProfile:
		return bad("a seccomp profile of %d bytes", len(s.Security.Seccomp))
	case len(s.Hostname) > 64 || strings.ContainsRune(s.Hostname, 0):
		return bad("host name %q", s.Hostname)
	}
	if err := errors.Join(s.Limits.Validate(), s.Group.Limits.Validate()); err != nil {
		return err
	}
	if err := s.Network.Validate(); err != nil {
		return err
	}
	if err := s.validateProcess(); err != nil {
		return err
	}
	for _, text := range append(append([]string{s.Dir}, s.Command...), s.Env...) {
		if strings.ContainsRune(text, 0) {
			return bad("a zero byte in %q", text)
		}
	}
	for _, m := range s.Mounts {
		if err := m.Validate(); err != nil {
			return err
		}
		if m.Kind == MountDisk && m.Source != "" && s.Group.Name == "" {
			return bad("the disk %s of no group", m.Source)
		}
	}
	return nil
}

const maxID = 65534

// maxProfile is the most bytes of a seccomp profile.
const maxProfile = 1 << 20

// maxCPU is more processors than any machine has, and less than what kernels take.
const maxCPU = 1 << 20

// Validate checks limits for faults that no driver accepts. Its errors are
// ErrInvalid.
func (l *Limits) Validate() error {
	switch {
	case l.Memory < 0 || l.CPU < 0 || l.CPUShares < 0 || l.MemoryReserve < 0:
		return fmt.Errorf("engine: %w: negative limit", ErrInvalid)
	case !(l.CPU <= maxCPU): // nor NaN
		return fmt.Errorf("engine: %w: a limit of %g processors", ErrInvalid, l.CPU)
	case l.Swap != 0 && l.Memory == 0:
		return fmt.Errorf("engine: %w: a limit of swap without one of memory", ErrInvalid)
	}
	for _, list := range [][2]string{{"cpus", l.CPUs}, {"mems", l.Mems}} {
		if _, err := ParseCPUs(list[1]); err != nil {
			return fmt.Errorf("engine: %w: Invalid value %s for cpuset %s", ErrInvalid, list[1], list[0])
		}
	}
	return nil
}

// Validate checks a mount; its errors are ErrInvalid.
func (m *Mount) Validate() error {
	switch {
	case !path.IsAbs(m.Target) || path.Clean(m.Target) == "/" || strings.ContainsRune(m.Target, 0):
		return fmt.Errorf("engine: %w: mount target %q", ErrInvalid, m.Target)
	case m.Kind == MountBind && (!path.IsAbs(m.Source) || strings.ContainsRune(m.Source, 0)):
		return fmt.Errorf("engine: %w: mount source %q", ErrInvalid, m.Source)
	case m.Kind == MountDisk && m.Source != "" && !ID(m.Source).Valid():
		return fmt.Errorf("engine: %w: disk %q", ErrInvalid, m.Source)
	case m.Kind != MountBind && m.Kind != MountTmpfs && m.Kind != MountDisk:
		return fmt.Errorf("engine: %w: mount kind %q", ErrInvalid, m.Kind)
	case m.Size < 0 || m.Kind == MountDisk && m.Size == 0:
		return fmt.Errorf("engine: %w: mount size %d", ErrInvalid, m.Size)
	}
	return nil
}

// Valid says whether the id is well formed.
func (id ID) Valid() bool {
	if len(id) == 0 || len(id) > 64 {
		return false
	}
	for i, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return true
}
