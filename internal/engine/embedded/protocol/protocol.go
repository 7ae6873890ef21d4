//go:build linux

// Package protocol is what main and supervisor say to each other: one request
// and its answers at a time on a unix socket, as JSON behind a length, with
// descriptors beside it. A client uses several connections for several
// requests at once.
package protocol

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// The requests.
const (
	OpInfo     = "info"
	OpCreate   = "create"
	OpStart    = "start"
	OpLaunch   = "launch" // create, listen and start; the answer comes with a descriptor for each socket
	OpSignal   = "signal"
	OpWait     = "wait"
	OpRemove   = "remove"
	OpUpdate   = "update"
	OpFreeze   = "freeze"
	OpAttach   = "attach"
	OpConnect  = "connect" // with Links
	OpListen   = "listen"  // the answer comes with a descriptor for each socket
	OpExec     = "exec"    // comes with three descriptors, or is answered with the terminal's; the second answer is the exit
	OpInput    = "input"   // the answer comes with a descriptor
	OpEndInput = "end input"
	OpResize   = "resize"
	OpRoot     = "root"  // the answer comes with a descriptor (O_PATH)
	OpLayer    = "layer" // the answer comes with a descriptor (O_PATH), if anything can have been written
	OpStats    = "stats"
	OpLog      = "log" // how far the log reaches, everything written included; with After waits for more
	OpEvents   = "events"
	OpList     = "list"
	OpInspect  = "inspect"
	OpFirewall = "firewall" // with Network and Groups
	OpUpgrade  = "upgrade"  // comes with a program's descriptor; the supervisor goes on as that
	OpShutdown = "shutdown" // kills all containers, removes everything, and ends the supervisor
)

// Request is one of them, with what it needs.
type Request struct {
	Op      string
	ID      engine.ID              `json:",omitempty"`
	Spec    *engine.Spec           `json:",omitempty"`
	Image   string                 `json:",omitempty"` // create, launch: the id of the root's image
	Layers  []string               `json:",omitempty"` // create: the folders of its layers, the lowest first
	Limits  *engine.Limits         `json:",omitempty"`
	Mount   *engine.Mount          `json:",omitempty"`
	Exec    *engine.ExecSpec       `json:",omitempty"`
	Signal  int                    `json:",omitempty"`
	Frozen  bool                   `json:",omitempty"`
	Sockets []engine.Socket        `json:",omitempty"`
	After   engine.Cursor          `json:",omitempty"`
	Wait    bool                   `json:",omitempty"`
	Size    engine.Size            `json:",omitzero"`
	Run     uint64                 `json:",omitempty"` // of the input that ends
	Network string                 `json:",omitempty"` // of OpFirewall
	Links   []engine.Link          `json:",omitempty"`
	Groups  []engine.SecurityGroup `json:",omitempty"`
}

// Reply is an answer.
type Reply struct {
	Error  *Error               `json:",omitempty"`
	ID     engine.ID            `json:",omitempty"`
	Info   *engine.Capabilities `json:",omitempty"`
	Exit   *engine.Exit         `json:",omitempty"`
	Stats  *engine.Stats        `json:",omitempty"`
	Status *engine.Status       `json:",omitempty"`
	Event  *engine.Event        `json:",omitempty"`
	Log    *Log                 `json:",omitempty"`
	Root   *Root                `json:",omitempty"`
	Run    uint64               `json:",omitempty"` // whose input this is
	Pid    int                  `json:",omitempty"` // of the program that OpExec started
	More   bool                 `json:",omitempty"` // another answer follows
}

// Root says what a container's root is.
type Root struct {
	Base     uint32 // the machine's id of the container's 0
	ReadOnly bool   // all of it
	// of OpLayer: what is below
	Image  string   `json:",omitempty"`
	Layers []string `json:",omitempty"` // folders, the lowest first
}

// Log says how far a container's log reaches.
type Log struct {
	First, End engine.Cursor // what is still kept
	Exited     bool
}

// Error is an error that keeps its kind over the wire.
type Error struct {
	Kind  string // of kinds, or "start"
	Text  string
	Step  string
	Path  string
	Errno int
}

var kinds = map[string]error{
	"not found": engine.ErrNotFound, "exists": engine.ErrExists, "state": engine.ErrState,
	"unsupported": engine.ErrUnsupported, "invalid": engine.ErrInvalid, "port": engine.ErrPort,
}

// FromError makes an error ready for the wire.
func FromError(err error) *Error {
	if err == nil {
		return nil
	}
	e := &Error{Text: err.Error()}
	var start *engine.StartError
	if errors.As(err, &start) {
		e.Kind, e.Step, e.Path, e.Errno = "start", start.Step, start.Path, int(start.Err)
		return e
	}
	for k, is := range kinds {
		if errors.Is(err, is) {
			e.Kind = k
		}
	}
	return e
}

// remote is an error of the other side: its text, and its kind by Unwrap.
type remote struct {
	text string
	kind error
}

func (r *remote) Error() string { return r.text }
func (r *remote) Unwrap() error { return r.kind }

// Err makes it an error again.
func (e *Error) Err() error {
	if e == nil {
		return nil
	}
	if e.Kind == "start" {
		return &remote{e.Text, &engine.StartError{Step: e.Step, Path: e.Path, Err: syscall.Errno(e.Errno)}}
	}
	return &remote{e.Text, kinds[e.Kind]}
}

// MaxSockets is how many sockets one request can open: what Receive has space for.
const MaxSockets = 16

// maxMessage is the most that one message may have, in bytes.
const maxMessage = 16 << 20

// Conn sends and receives messages. It is for one goroutine at a time.
type Conn struct {
	*net.UnixConn
	buf    []byte
	unread []byte // of buf
}

// usualBuffer holds most messages; one that a longer message needed is not kept.
const usualBuffer = 8 << 10

// NewConn wraps a connection.
func NewConn(c *net.UnixConn) *Conn { return &Conn{UnixConn: c} }

// Peer is who is at the other end, which for the one that has connected is the one
// that listens; nil if that cannot be known.
func (c *Conn) Peer() (cred *unix.Ucred) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	if err := raw.Control(func(fd uintptr) {
		cred, _ = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil
	}
	return cred
}

// Send sends a message with descriptors, which stay the caller's.
func (c *Conn) Send(msg any, fds ...int) error {
	text, err := json.Marshal(msg)
	if err != nil {
		return fmt.Errorf("protocol: %w", err)
	}
	if len(text) > maxMessage {
		return fmt.Errorf("protocol: a message of %d bytes: %w", len(text), engine.ErrInvalid)
	}
	out := append(binary.LittleEndian.AppendUint32(make([]byte, 0, len(text)+4), uint32(len(text))), text...)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix(out, rights, nil)
	if err == nil && n < len(out) {
		_, err = c.Write(out[n:])
	}
	return err
}

// Receive reads a message and its descriptors, which become the caller's. Most
// messages come in one read, with their length. (One with descriptors is sent when
// the other side waits for it, so they belong to no other.)
func (c *Conn) Receive(msg any) (fds []int, err error) {
	const head = 4
	if fds, err = c.fill(head, nil); err != nil {
		return closeAll(fds), err
	}
	size := int(binary.LittleEndian.Uint32(c.unread))
	if size > maxMessage {
		return closeAll(fds), fmt.Errorf("protocol: a message of %d bytes", size)
	}
	if fds, err = c.fill(head+size, fds); err != nil {
		return closeAll(fds), err
	}
	body := c.unread[head : head+size]
	c.unread = c.unread[head+size:]
	if err := json.Unmarshal(body, msg); err != nil {
		return closeAll(fds), fmt.Errorf("protocol: %w", err)
	}
	return fds, nil
}

// fill reads until so many bytes are there.
func (c *Conn) fill(want int, fds []int) ([]int, error) {
	if len(c.unread) >= want {
		return fds, nil
	}
	if len(c.buf) < want || len(c.buf) > usualBuffer {
		c.buf = append(make([]byte, 0, max(want, usualBuffer)), c.unread...)
		c.buf = c.buf[:cap(c.buf)]
	} else {
		copy(c.buf, c.unread)
	}
	got := len(c.unread)
	var oob [16 + 4*MaxSockets]byte
	for got < want {
		n, oobn, _, _, err := c.ReadMsgUnix(c.buf[got:], oob[:])
		if oobn > 0 {
			fds = append(fds, rights(oob[:oobn])...)
		}
		if err == nil && n == 0 {
			err = io.EOF
			if got > 0 {
				err = io.ErrUnexpectedEOF
			}
		}
		if err != nil {
			return fds, err
		}
		got += n
	}
	c.unread = c.buf[:got]
	return fds, nil
}

func rights(oob []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, m := range messages {
		if got, err := unix.ParseUnixRights(&m); err == nil {
			fds = append(fds, got...)
		}
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd) // Go asks for MSG_CMSG_CLOEXEC as well
	}
	return fds
}

func closeAll(fds []int) []int {
	for _, fd := range fds {
		unix.Close(fd)
	}
	return nil
}

// Config is what main tells the supervisor at its start.
type Config struct {
	Data    string // the engine's folder for what lasts: socket, logs
	Run     string // its folder for what lives as long as the machine runs
	Name    string // of its cgroup and its router
	Cgroups int    // 1 or 2; 0 chooses
	// Linger is how long a supervisor that has no containers goes on without
	// anybody connected.
	Linger time.Duration
}

// DiskFolder is where an engine's folder has the templates of disks.
func DiskFolder(data string) string { return filepath.Join(data, "disks") }

// Command is the argument by which a program is started as supervisor.
const Command = "engine-supervisor"
