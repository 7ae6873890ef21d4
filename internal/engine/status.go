package engine

import (
	"io"
	"net/netip"
	"time"
)

// State is where a container is in its life.
type State string

// The states.
const (
	Created State = "created"
	Running State = "running"
	Frozen  State = "frozen"
	Exited  State = "exited"
)

// Status is what is known of a container.
type Status struct {
	ID       ID
	Account  string
	Labels   map[string]string
	State    State
	Pid      int        // on the machine; zero when it does not run
	Address  netip.Addr // where it has one of its own
	Image    string     // the id of the image of its root
	Ports    []Port     // published, with the machine's ports that were chosen
	Created  time.Time
	Started  time.Time // zero when it never was
	Exit     *Exit     // when exited
	LogBytes int64     // written so far; as a Cursor it is the log's end
}

// Exit is how a container, or a program run by Exec, ended.
type Exit struct {
	Code     int           // as in a shell: 128+n when ended by signal n; -1 when unknown
	Signal   int           // the signal that ended it, or zero
	OOM      bool          // killed because the memory limit was reached
	Reason   string        // the engine's own reason, such as that it lost the container
	Started  time.Time     // of the program
	Finished time.Time     //
	CPU      time.Duration // user and system time of all its processes
	Memory   int64         // the most memory in use at once, in bytes; zero when unknown
}

// Stats are a container's counters.
type Stats struct {
	Time       time.Time
	Memory     int64         // bytes in use
	MemoryPeak int64         // the most in use at once
	CPU        time.Duration // used since the start
	Throttled  time.Duration // waited because of the CPU quota
	Pids       int64         // processes and threads
	OOMKills   int64         // processes killed for memory
	// Network traffic in bytes as the container sees it, loopback left out.
	Received, Sent int64
}

// Cursor is a place in a container's log or in the engine's events. It can be
// kept and used after restarts. The zero cursor is the beginning.
type Cursor uint64

// Stream says where a frame came from.
type Stream uint8

// The streams.
const (
	Stdout Stream = 1
	Stderr Stream = 2
)

// Frame is a piece of a container's output as it was read, not a line: a line
// may be in several frames, and several lines in one. At most 64 KiB.
type Frame struct {
	Time   time.Time
	Stream Stream
	Data   []byte // valid until the function that gets it returns
	Next   Cursor // the place behind this frame
}

// LogQuery says which of the logs are wanted.
type LogQuery struct {
	From   Cursor
	Follow bool
}

// Streams are an Exec's input and output. Nil is nothing.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Resize         <-chan Size // of an ExecSpec.TTY
	// Started is told the number that the program has on the machine, once it
	// runs; drivers to which it is not known do not call it.
	Started func(pid int)
}

// ChangeKind says what became of a file.
type ChangeKind uint8

// The kinds of change, by Docker's numbers.
const (
	Modified ChangeKind = 0
	Added    ChangeKind = 1
	Deleted  ChangeKind = 2
)

// Change is a file or folder that is not as the image has it. A folder in which
// something has changed has changed.
type Change struct {
	Path string
	Kind ChangeKind
}

// EventKind says what happened.
type EventKind string

// The kinds of event.
const (
	EventStarted EventKind = "started"
	EventExited  EventKind = "exited"
)

// Event is something that happened to a container.
type Event struct {
	Cursor Cursor // give it to Events to get what comes after
	Time   time.Time
	Kind   EventKind
	ID     ID
	Labels map[string]string
	Exit   *Exit // when exited
}
