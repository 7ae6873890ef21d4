// Package docker is the engine's driver for machines on which Skerry does not
// run containers itself: it speaks the Docker Engine API over plain HTTP, to
// Docker, or to whatever else serves that API (Podman, Skerry's own socket).
//
// Containers bear the label skerry.id; their Docker name is the engine's id. A
// prepared root is an image of its files and empty folders, made at the first
// need, into which the machine's folders are mounted, so the daemon has to be on
// this machine for those.
//
// What Docker cannot do answers engine.ErrUnsupported: sockets inside a
// container (Listen), mounting into a running one (Attach), named networks with
// addresses chosen by the caller, security groups, disks of a size. Sandboxes
// are shared with a container that exists. Further differences:
//
//   - The cursor of an event is its time in nanoseconds; the cursor of a log is
//     the number of the line.
//   - How a container ended is told by Docker as a code alone: 129 to 159 is
//     taken for a signal.
//   - A program of Exec is killed at the context's end only where its process
//     can be seen from here.
//   - The input of a container without a terminal ends when its first writer
//     does, also when this process is killed. A log keeps whole lines.
//   - Spec.Rlimits, Sysctls and the like are checked by Docker at Start.
package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"skerry/internal/engine"
)

// The labels of containers.
const (
	labelID      = "skerry.id"
	labelAccount = "skerry.account"
	labelKey     = "skerry.label." // before the engine's own labels
)

// DefaultSocket is where Docker listens unless told otherwise.
const DefaultSocket = "/var/run/docker.sock"

// version is of the API: what Docker 20.10 speaks, the oldest of which all that
// is used here is known.
const version = "v1.41"

// Driver is an engine that uses Docker.
type Driver struct {
	socket string
	http   http.Client

	making sync.Mutex // one prepared root at a time
	roots  map[string]bool
}

// Open returns the engine behind a socket's path. It does not connect yet.
func Open(socket string) *Driver {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Driver{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 16}}, roots: map[string]bool{}}
}

// Close lets go of the daemon.
func (d *Driver) Close() error {
	d.http.CloseIdleConnections()
	return nil
}

// fault is an answer that is an error.
type fault struct {
	status  int
	message string
}

func (f *fault) Error() string { return "docker: " + f.message }

// Is gives the engine's kind of an error.
func (f *fault) Is(target error) bool {
	switch target {
	case engine.ErrNotFound:
		return f.status == http.StatusNotFound
	case fs.ErrNotExist: // in a container that is there
		return f.status == http.StatusNotFound && strings.Contains(f.message, "Could not find the file")
	case engine.ErrInvalid:
		return f.status == http.StatusBadRequest
	case engine.ErrExists:
		return f.status == http.StatusConflict && strings.Contains(f.message, "already in use")
	case engine.ErrState:
		return f.status == http.StatusConflict && !strings.Contains(f.message, "already in use")
	case engine.ErrUnsupported:
		return f.status == http.StatusNotImplemented
	}
	return false
}

// request is one to the daemon.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         io.Reader
	kind         string // of the body
}

func (d *Driver) new(ctx context.Context, r request) (*http.Request, error) {
	u := url.URL{Scheme: "http", Host: "docker", Path: "/" + version + r.path, RawQuery: r.query.Encode()}
	q, err := http.NewRequestWithContext(ctx, r.method, u.String(), r.body)
	if err != nil {
		return nil, fmt.Errorf("docker: %w", err)
	}
	for name, values := range r.header {
		q.Header[name] = values
	}
	if r.kind != "" {
		q.Header.Set("Content-Type", r.kind)
	}
	return q, nil
}

// send returns the answer to a request, if it is a good one.
func (d *Driver) send(ctx context.Context, r request) (*http.Response, error) {
	q, err := d.new(ctx, r)
	if err != nil {
		return nil, err
	}
	a, err := d.http.Do(q)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	if a.StatusCode < 300 {
		return a, nil
	}
	defer a.Body.Close()
	return nil, readFault(a)
}

// unreachable is the fault of a daemon that does not answer.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("docker: %w", err)
}

// notModified is the message of an answer 304: it is so already.
const notModified = "not modified"

func readFault(a *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(a.Body, 64<<10))
	f := &fault{status: a.StatusCode, message: notModified}
	if a.StatusCode == http.StatusNotModified {
		return f
	}
	var m struct{ Message string }
	if json.Unmarshal(b, &m) == nil && m.Message != "" {
		f.message = m.Message
	} else {
		f.message = a.Status + " " + strings.TrimSpace(string(b))
	}
	return errors.Join(f, err)
}

// do sends in as JSON unless it is nil, and reads the answer into out unless that
// is nil.
func (d *Driver) do(ctx context.Context, method, path string, query url.Values, in, out any) error {
	r := request{method: method, path: path, query: query}
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("docker: %w", err)
		}
		r.body, r.kind = strings.NewReader(string(b)), "application/json"
	}
	a, err := d.send(ctx, r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if out == nil {
		_, err = io.Copy(io.Discard, a.Body)
	} else {
		err = json.NewDecoder(a.Body).Decode(out)
	}
	if err != nil {
		return fmt.Errorf("docker: %s %s: %w", method, path, err)
	}
	return nil
}

// Info asks the daemon what it can do.
func (d *Driver) Info(ctx context.Context) (engine.Capabilities, error) {
	c := engine.Capabilities{Driver: "docker"}
	var info struct {
		MemoryLimit, CPUCfsQuota, PidsLimit bool
		CPUSet                              bool
		CgroupVersion, OSType               string
		SecurityOptions                     []string
		InitBinary                          string
	}
	if err := d.do(ctx, http.MethodGet, "/info", nil, nil, &info); err != nil {
		c.Missing = []engine.Missing{{What: "containers", Why: err.Error(), Mend: "start Docker, or name its socket: --engine docker=/path/to/docker.sock"}}
		return c, nil
	}
	c.Runs, c.Images, c.Exec, c.Freeze, c.Outside, c.Terminals, c.Ports = true, true, true, true, true, true, true
	c.Layers, c.CPUSet = true, info.CPUSet
	c.Init = info.InitBinary != ""
	c.MemoryLimit, c.CPULimit, c.PidsLimit, c.OOMDetection = info.MemoryLimit, info.CPUCfsQuota, info.PidsLimit, info.MemoryLimit
	c.Cgroups = 1
	if info.CgroupVersion == "2" {
		c.Cgroups = 2
	}
	for _, o := range info.SecurityOptions {
		c.Seccomp = c.Seccomp || strings.HasPrefix(o, "name=seccomp")
		c.UserNamespaces = c.UserNamespaces || strings.HasPrefix(o, "name=userns")
	}
	return c, nil
}

func unsupported(what string) error {
	return fmt.Errorf("docker: %s: %w", what, engine.ErrUnsupported)
}

// found answers ErrNotFound for a container that is not there, and else that
// something cannot be done.
func (d *Driver) found(ctx context.Context, id engine.ID, what string) error {
	if _, err := d.inspect(ctx, id); err != nil {
		return err
	}
	return unsupported(what)
}

// Listen cannot be done: Docker gives no way into a container's network before
// its program runs.
func (d *Driver) Listen(ctx context.Context, id engine.ID, _, _ string) (net.Listener, error) {
	return nil, d.found(ctx, id, "sockets inside")
}

// ListenPacket cannot be done.
func (d *Driver) ListenPacket(ctx context.Context, id engine.ID, _, _ string) (net.PacketConn, error) {
	return nil, d.found(ctx, id, "sockets inside")
}

// ListenAll cannot be done.
func (d *Driver) ListenAll(ctx context.Context, id engine.ID, _ ...engine.Socket) ([]engine.Listening, error) {
	return nil, d.found(ctx, id, "sockets inside")
}

// Launch creates and starts; it cannot be done with sockets.
func (d *Driver) Launch(ctx context.Context, spec engine.Spec, sockets ...engine.Socket) (engine.ID, []engine.Listening, error) {
	if len(sockets) > 0 {
		return "", nil, unsupported("sockets inside")
	}
	return engine.Launch(ctx, d, spec)
}

// Attach cannot be done.
func (d *Driver) Attach(ctx context.Context, id engine.ID, _ engine.Mount) error {
	return d.found(ctx, id, "mounting into a container")
}

// Connect answers that named networks are not for this driver.
func (d *Driver) Connect(context.Context, engine.ID, []engine.Link) error {
	return unsupported("named networks")
}

// SetFirewall cannot be done.
func (d *Driver) SetFirewall(context.Context, string, []engine.SecurityGroup) error {
	return unsupported("security groups")
}
