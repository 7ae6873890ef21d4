// Package engine runs containers: processes with a root of their own, limits
// that limit, walls that hold, a network, logs and an exit that is told. It is
// neutral: a driver does the work (internal/engine/embedded: Linux, no
// daemon), and enginetest is the suite that every driver passes.
//
// A container's life:
//
//	Create -> created -> Start -> running <-> frozen
//	                       ^         |
//	                       |   exits, is signalled, or runs out of memory
//	                       |         v
//	                       +----- exited -> Remove -> gone
//
// Create makes everything but the process, so a caller can Listen inside the
// container's network before its program runs. An exited container keeps its
// exit, its logs and its files until Remove, whatever happens to the caller's
// process, and can be started again with the same files, network and limits.
package engine

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
)

// The errors that callers tell apart; drivers wrap them.
var (
	// ErrNotFound: no container has that id (never made, or removed).
	ErrNotFound = errors.New("no such container")
	// ErrExists: Create with an id that is in use.
	ErrExists = errors.New("container exists")
	// ErrState: the container's state does not allow it, such as Start of
	// a running one or Attach to one that has exited.
	ErrState = errors.New("not possible in the container's state")
	// ErrUnsupported: this driver, or this machine, cannot do it. The text
	// says what is lacking.
	ErrUnsupported = errors.New("not supported")
	// ErrInvalid: the specification makes no sense; the text says why.
	ErrInvalid = errors.New("invalid specification")
	// ErrPort: Start of a container with a port (Network.Ports) that another
	// container or a program of the machine has. The text is Docker's: "Bind for
	// 0.0.0.0:8080 failed: port is already allocated".
	ErrPort = errors.New("port is already allocated")
)

// ID names a container: 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', the first
// a letter or digit.
type ID string

// Engine runs containers. All methods are safe for concurrent use. A ctx that
// ends stops the waiting, not what has been asked for.
type Engine interface {
	// Info says what the driver can do on this machine, and how to mend
	// what it cannot.
	Info(ctx context.Context) (Capabilities, error)
	// Images are the driver's images. Where it has none (Capabilities.Images),
	// every method answers ErrUnsupported.
	Images() Images

	// Create makes a container that is ready to start. Errors: ErrExists,
	// ErrInvalid, ErrNotFound (the image), ErrUnsupported.
	Create(ctx context.Context, spec Spec) (ID, error)
	// Start runs the command, for the first time or again after an exit. It
	// returns once the program has been executed, or with the reason why it
	// could not be (a *StartError when the fault is the command's: not found,
	// not executable).
	Start(ctx context.Context, id ID) error
	// Launch is Create, ListenAll and Start at once, in less time than the three
	// take. After an error there is no container.
	Launch(ctx context.Context, spec Spec, sockets ...Socket) (ID, []Listening, error)
	// Signal sends a signal to the container's first process. To a frozen
	// container SIGKILL comes through, the others when it thaws.
	Signal(ctx context.Context, id ID, sig syscall.Signal) error
	// Wait returns the exit, waiting for it where need be.
	Wait(ctx context.Context, id ID) (Exit, error)
	// Remove kills what runs and forgets the container: its exit, its logs,
	// its listeners. Removing what is not there is no error.
	Remove(ctx context.Context, id ID) error

	// Update changes the limits of a container, in whatever state: of one that has
	// exited, those of its next run. Its Limits replace the old ones whole.
	Update(ctx context.Context, id ID, limits Limits) error
	// Freeze stops every process of the container where it stands, or lets
	// them go on. It returns once that is so. It is idempotent.
	Freeze(ctx context.Context, id ID, frozen bool) error
	// Attach mounts into a running (or created) container.
	Attach(ctx context.Context, id ID, mount Mount) error

	// Listen opens a listening stream socket inside the container's
	// network: "tcp", "tcp4" or "tcp6" and an address such as
	// "127.0.0.1:9001". Whoever connects is in that container. The listener
	// ends with the container's removal, and lives in this process: after a
	// restart, Listen again.
	Listen(ctx context.Context, id ID, network, address string) (net.Listener, error)
	// ListenPacket is Listen for "udp", "udp4" and "udp6".
	ListenPacket(ctx context.Context, id ID, network, address string) (net.PacketConn, error)
	// ListenAll opens several sockets inside at once, which takes hardly longer
	// than one. It opens all, in their order, or none.
	ListenAll(ctx context.Context, id ID, sockets ...Socket) ([]Listening, error)

	// SetFirewall replaces the security groups of a network (see
	// Network.Name) for the containers that it has and will have.
	SetFirewall(ctx context.Context, network string, groups []SecurityGroup) error

	// Connect makes these the named networks that a container is on, in whatever
	// state it is, and those of the containers in its sandbox. What is alike stays,
	// with its connections; a network that goes is out of reach at once, and its
	// address free. Only what Network says of NetworkNamed and NetworkNone can be
	// changed. Errors: ErrExists (an address is another's), ErrPort, ErrInvalid.
	// After an error it has the networks that it had.
	Connect(ctx context.Context, id ID, links []Link) error

	// Input is the standard input of a container whose Spec.Stdin is set, or
	// its terminal's. Writing blocks while the program does not read. Closing
	// it ends the program's input for good, but a terminal's; where the
	// caller's process ends without closing, the input stays open.
	Input(ctx context.Context, id ID) (io.WriteCloser, error)
	// Resize sets the size of the terminal of a container whose Spec.TTY is
	// set.
	Resize(ctx context.Context, id ID, size Size) error
	// Exec runs one more program in a running container and waits for it.
	// When ctx ends, the program is killed.
	Exec(ctx context.Context, id ID, spec ExecSpec, streams Streams) (Exit, error)
	// ReadFiles gives a file or folder of a container, in whatever state, as a
	// tar archive whose names begin with the last part of the path. Links on
	// the way are followed within the container.
	ReadFiles(ctx context.Context, id ID, path string) (io.ReadCloser, error)
	// WriteFiles unpacks a tar archive into a folder of a container, in
	// whatever state. Nothing outside of the container can be reached by it.
	WriteFiles(ctx context.Context, id ID, path string, archive io.Reader) error
	// Changes lists what a container, in whatever state, has changed of the files of
	// its image, by path. What is mounted does not count.
	Changes(ctx context.Context, id ID) ([]Change, error)
	// Written is how many bytes the files have by which it has changed it.
	Written(ctx context.Context, id ID) (int64, error)
	// Commit makes an image of a container's image and its Changes, as they are at
	// the moment: freeze one that runs, if they are to belong together.
	Commit(ctx context.Context, id ID, spec CommitSpec) (Image, error)
	// Stats reads the counters of a container that has not exited.
	Stats(ctx context.Context, id ID) (Stats, error)
	// Logs gives what the container wrote, from a cursor on. Everything
	// written before the call is given. With Follow it goes on until the
	// container has exited and all is given, ctx ends, or fn fails (its
	// error is returned).
	Logs(ctx context.Context, id ID, q LogQuery, fn func(Frame) error) error
	// Events tells what happened after a cursor, in order, and goes on
	// until ctx ends or fn fails. At least once: what happened to a
	// container is told again to a reader with an older cursor until the
	// container is removed. The zero cursor tells everything still known.
	Events(ctx context.Context, after Cursor, fn func(Event) error) error
	// List tells of all containers that are not removed: what a caller
	// finds again after it was killed.
	List(ctx context.Context) ([]Status, error)
	// Inspect tells of one.
	Inspect(ctx context.Context, id ID) (Status, error)

	// Close lets go of the engine. The containers run on.
	Close() error
}

// Capabilities is what a driver can do on this machine.
type Capabilities struct {
	Driver  string // "embedded", "docker", ...
	Version string // of what runs the containers, where that is another process
	Runs    bool   // containers can run at all
	Cgroups int    // the cgroup version that limits go through; 0 = no limits
	// Limits and abilities that hold here.
	MemoryLimit, CPULimit, PidsLimit, OOMDetection bool
	Freeze, Exec, Attach, UserNamespaces, Seccomp  bool
	// Terminals: Spec.TTY, ExecSpec.TTY and Resize. Init: Spec.Init.
	Terminals, Init bool
	// Listen: sockets inside a container's network.
	Listen bool
	// Outside: sandboxes reach the outside world (NetworkNAT).
	Outside bool
	// NamedNetworks, Ports, Firewall: NetworkNamed, Network.Ports, and
	// SetFirewall with Network.Groups.
	NamedNetworks, Ports, Firewall bool
	// Images: containers can be made of images.
	Images bool
	// Groups: Spec.Group. Populate: Mount.Populate.
	Groups, Populate bool
	// CPUSet: Limits.CPUs and Mems, of these lists where they are known.
	CPUSet     bool
	CPUs, Mems string
	// Layers: Changes, Written and Commit, of containers of images.
	Layers bool
	// Disks: MountDisk, and Root.Size.
	Disks bool
	// Missing lists what is off, why, and the command that mends it.
	Missing []Missing
}

// Socket is where to listen inside a container: as in Listen and ListenPacket.
type Socket struct {
	Network, Address string
	// Apart keeps the port free for the container's own programs, which may
	// listen at it on all addresses: whoever connects to exactly this address
	// comes here all the same. Of one of LocalAddresses only, not in NetworkHost;
	// those of a call take the place of those of the calls before.
	Apart bool
}

// Packets says whether it is a packet socket.
func (s Socket) Packets() bool { return strings.HasPrefix(s.Network, "udp") }

// Listening is an open Socket: one of Listener and Packets is set.
type Listening struct {
	Listener net.Listener
	Packets  net.PacketConn
}

// Close closes it.
func (l Listening) Close() error {
	if l.Packets != nil {
		return l.Packets.Close()
	}
	return l.Listener.Close()
}

// Missing is an ability that this machine lacks.
type Missing struct {
	What string // such as "memory limit"
	Why  string // such as "the memory controller is not mounted"
	Mend string // a command or a sentence; empty when nothing can be done
}

// StartError is the command's fault: it cannot be executed.
type StartError struct {
	Step string        // what failed: "execve", "chdir", ...
	Path string        // the program or folder
	Err  syscall.Errno // ENOENT, EACCES, ENOEXEC, ...
}

func (e *StartError) Error() string { return e.Step + " " + e.Path + ": " + e.Err.Error() }

// Unwrap returns the system's error number.
func (e *StartError) Unwrap() error { return e.Err }
