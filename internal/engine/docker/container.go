package docker

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"skerry/internal/engine"
)

// container is what Docker tells of one ("Inspect a container").
type container struct {
	ID      string `json:"Id"`
	Name    string
	Created time.Time
	Image   string
	State   struct {
		Status     string
		OOMKilled  bool
		Pid        int
		ExitCode   int
		Error      string
		StartedAt  time.Time
		FinishedAt time.Time
	}
	Config struct {
		Labels      map[string]string
		Env         []string
		WorkingDir  string
		Tty         bool
		OpenStdin   bool
		Healthcheck *struct{}
	}
	NetworkSettings struct {
		IPAddress string
		Ports     map[string][]struct{ HostIP, HostPort string }
	}
}

func (c *container) id() engine.ID { return engine.ID(c.Config.Labels[labelID]) }

func (c *container) labels() map[string]string {
	var out map[string]string
	for name, value := range c.Config.Labels {
		if own, ok := strings.CutPrefix(name, labelKey); ok {
			if out == nil {
				out = map[string]string{}
			}
			out[own] = value
		}
	}
	return out
}

func (c *container) state() engine.State {
	switch c.State.Status {
	case "running", "restarting", "removing":
		return engine.Running
	case "paused":
		return engine.Frozen
	case "exited", "dead":
		return engine.Exited
	}
	return engine.Created
}

func (c *container) exit() engine.Exit {
	return exitOf(c.State.ExitCode, c.State.OOMKilled, c.State.Error, c.State.StartedAt, c.State.FinishedAt)
}

func exitOf(code int, oom bool, reason string, started, finished time.Time) engine.Exit {
	e := engine.Exit{Code: code, Reason: reason, Started: started, Finished: finished, OOM: oom && code == 137}
	if code > 128 && code < 160 {
		e.Signal = code - 128
	}
	return e
}

func (c *container) status() engine.Status {
	s := engine.Status{ID: c.id(), Account: c.Config.Labels[labelAccount], Labels: c.labels(), State: c.state(), Pid: c.State.Pid,
		Created: c.Created, Image: c.Image}
	if c.State.StartedAt.Year() > 1 {
		s.Started = c.State.StartedAt
	}
	s.Address, _ = netip.ParseAddr(c.NetworkSettings.IPAddress)
	if s.State == engine.Exited {
		e := c.exit()
		s.Exit, s.Pid = &e, 0
	}
	for name, all := range c.NetworkSettings.Ports {
		port, protocol, _ := strings.Cut(name, "/")
		inside, _ := strconv.ParseUint(port, 10, 16)
		for _, at := range all {
			host, _ := strconv.ParseUint(at.HostPort, 10, 16)
			address, _ := netip.ParseAddr(at.HostIP)
			if address.Is6() {
				continue // the same port again
			}
			s.Ports = append(s.Ports, engine.Port{Protocol: protocol, Container: uint16(inside), Host: uint16(host), Address: address})
		}
	}
	slices.SortFunc(s.Ports, func(a, b engine.Port) int { return int(a.Container) - int(b.Container) })
	return s
}

func at(id engine.ID, rest string) string { return "/containers/" + url.PathEscape(string(id)) + rest }

// inspect tells of a container that this driver has made.
func (d *Driver) inspect(ctx context.Context, id engine.ID) (*container, error) {
	c := &container{}
	if !id.Valid() {
		return nil, fmt.Errorf("engine: %s: %w", id, engine.ErrNotFound)
	}
	if err := d.do(ctx, http.MethodGet, at(id, "/json"), nil, nil, c); err != nil {
		return nil, fmt.Errorf("engine: %s: %w", id, err)
	}
	if c.id() != id {
		return nil, fmt.Errorf("engine: %s: %w", id, engine.ErrNotFound)
	}
	return c, nil
}

// must is a container in one of some states.
func (d *Driver) must(ctx context.Context, id engine.ID, what string, states ...engine.State) (*container, error) {
	c, err := d.inspect(ctx, id)
	if err != nil {
		return nil, err
	}
	if s := c.state(); !slices.Contains(states, s) {
		return nil, fmt.Errorf("engine: %s %s, which is %s: %w", what, id, s, engine.ErrState)
	}
	return c, nil
}

// Start runs the command.
func (d *Driver) Start(ctx context.Context, id engine.ID) error {
	c, err := d.must(ctx, id, "start", engine.Created, engine.Exited)
	if err != nil {
		return err
	}
	err = d.do(ctx, http.MethodPost, at(id, "/start"), nil, nil, nil)
	if f, ok := errors.AsType[*fault](err); ok {
		if f.status == http.StatusNotModified {
			return fmt.Errorf("engine: start %s, which is running: %w", id, engine.ErrState)
		}
		err = startError(f, c)
	}
	if err != nil {
		return fmt.Errorf("engine: start %s: %w", id, err)
	}
	return nil
}

// startFault is how runc and crun say that a program cannot be executed, and
// Docker that a port is taken.
var startFault = regexp.MustCompile(`exec: "([^"]*)"|exec (?:container process )?['"\x60]([^'"\x60]*)|open executable: ([^:]*)`)

// startError makes a fault of the command, or of a port, out of Docker's words.
func startError(f *fault, c *container) error {
	switch {
	case strings.Contains(f.message, "port is already allocated") || strings.Contains(f.message, "address already in use"):
		return fmt.Errorf("%w: %w", f, engine.ErrPort)
	case f.status != http.StatusBadRequest && f.status != http.StatusInternalServerError && f.status != http.StatusNotFound:
		return f
	}
	errno := syscall.Errno(0)
	for text, n := range map[string]syscall.Errno{
		"no such file or directory": syscall.ENOENT, "executable file not found": syscall.ENOENT, "No such file or directory": syscall.ENOENT,
		"permission denied": syscall.EACCES, "Permission denied": syscall.EACCES, "exec format error": syscall.ENOEXEC,
		"not a directory": syscall.ENOTDIR, "is a directory": syscall.EACCES,
	} {
		if strings.Contains(f.message, text) {
			errno = n
		}
	}
	if errno == 0 {
		return f
	}
	step, program := "execve", ""
	if m := startFault.FindStringSubmatch(f.message); m != nil {
		program = m[1] + m[2] + m[3]
	}
	if strings.Contains(f.message, "chdir") {
		step, program = "chdir", c.Config.WorkingDir
	}
	return &engine.StartError{Step: step, Path: program, Err: errno}
}

// Signal sends a signal to the first process.
func (d *Driver) Signal(ctx context.Context, id engine.ID, sig syscall.Signal) error {
	c, err := d.must(ctx, id, "signal", engine.Running, engine.Frozen)
	if err != nil {
		return err
	}
	err = d.do(ctx, http.MethodPost, at(id, "/kill"), url.Values{"signal": {strconv.Itoa(int(sig))}}, nil, nil)
	if err == nil && sig == syscall.SIGKILL && c.state() == engine.Frozen {
		if thaw := d.Freeze(ctx, id, false); !errors.Is(thaw, engine.ErrState) { // or Docker has done so
			err = thaw
		}
	}
	if err != nil {
		return fmt.Errorf("engine: signal %s: %w", id, err)
	}
	return nil
}

// pollPeriod is how often a container is asked for that has not been started yet.
const pollPeriod = 50 * time.Millisecond

// Wait returns the exit.
func (d *Driver) Wait(ctx context.Context, id engine.ID) (engine.Exit, error) {
	for {
		c, err := d.inspect(ctx, id)
		if err != nil {
			return engine.Exit{}, err
		}
		switch c.state() {
		case engine.Exited:
			return c.exit(), nil
		case engine.Created:
			select {
			case <-time.After(pollPeriod):
			case <-ctx.Done():
				return engine.Exit{}, ctx.Err()
			}
		default:
			if err := d.do(ctx, http.MethodPost, at(id, "/wait"), url.Values{"condition": {"not-running"}}, nil, nil); err != nil {
				if ctx.Err() != nil {
					err = ctx.Err()
				}
				return engine.Exit{}, fmt.Errorf("engine: wait for %s: %w", id, err)
			}
		}
	}
}

// Remove kills what runs and forgets the container.
func (d *Driver) Remove(ctx context.Context, id engine.ID) error {
	if _, err := d.inspect(ctx, id); errors.Is(err, engine.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	err := d.do(ctx, http.MethodDelete, at(id, ""), url.Values{"force": {"1"}, "v": {"1"}}, nil, nil)
	if errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	if f, ok := errors.AsType[*fault](err); ok && strings.Contains(f.message, "is already in progress") {
		return d.do(ctx, http.MethodPost, at(id, "/wait"), url.Values{"condition": {"removed"}}, nil, nil)
	}
	return err
}

// Update changes limits.
func (d *Driver) Update(ctx context.Context, id engine.ID, l engine.Limits) error {
	if l.Memory < 0 || l.CPU < 0 || l.CPUShares < 0 || l.MemoryReserve < 0 {
		return fmt.Errorf("engine: %w: negative limit", engine.ErrInvalid)
	}
	if _, err := d.must(ctx, id, "update", engine.Created, engine.Running, engine.Frozen, engine.Exited); err != nil {
		return err
	}
	if err := d.do(ctx, http.MethodPost, at(id, "/update"), nil, limitsOf(l), nil); err != nil {
		return fmt.Errorf("engine: update %s: %w", id, err)
	}
	return nil
}

// Freeze stops every process, or lets them go on.
func (d *Driver) Freeze(ctx context.Context, id engine.ID, frozen bool) error {
	c, err := d.must(ctx, id, "freeze", engine.Running, engine.Frozen)
	if err != nil {
		return err
	}
	if (c.state() == engine.Frozen) == frozen {
		return nil
	}
	verb := "/unpause"
	if frozen {
		verb = "/pause"
	}
	if err := d.do(ctx, http.MethodPost, at(id, verb), nil, nil, nil); err != nil {
		return fmt.Errorf("engine: freeze %s: %w", id, err)
	}
	return nil
}

// Inspect tells of a container.
func (d *Driver) Inspect(ctx context.Context, id engine.ID) (engine.Status, error) {
	c, err := d.inspect(ctx, id)
	if err != nil {
		return engine.Status{}, err
	}
	return c.status(), nil
}

// all are the containers that this driver has made, the oldest first.
func (d *Driver) all(ctx context.Context) ([]*container, error) {
	var list []struct {
		Labels map[string]string
	}
	query := url.Values{"all": {"1"}, "filters": {`{"label":["` + labelID + `"]}`}}
	if err := d.do(ctx, http.MethodGet, "/containers/json", query, nil, &list); err != nil {
		return nil, err
	}
	var out []*container
	for _, l := range list {
		c, err := d.inspect(ctx, engine.ID(l.Labels[labelID]))
		if errors.Is(err, engine.ErrNotFound) {
			continue // gone meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b *container) int { return a.Created.Compare(b.Created) })
	return out, nil
}

// List tells of all containers.
func (d *Driver) List(ctx context.Context) ([]engine.Status, error) {
	all, err := d.all(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]engine.Status, len(all))
	for i, c := range all {
		out[i] = c.status()
	}
	return out, nil
}

// Stats reads the counters.
func (d *Driver) Stats(ctx context.Context, id engine.ID) (engine.Stats, error) {
	if _, err := d.must(ctx, id, "stats of", engine.Created, engine.Running, engine.Frozen); err != nil {
		return engine.Stats{}, err
	}
	var s struct {
		Read   time.Time
		Memory struct {
			Usage    int64 `json:"usage"`
			MaxUsage int64 `json:"max_usage"`
		} `json:"memory_stats"`
		CPU struct {
			Usage struct {
				Total int64 `json:"total_usage"`
			} `json:"cpu_usage"`
			Throttling struct {
				Time int64 `json:"throttled_time"`
			} `json:"throttling_data"`
		} `json:"cpu_stats"`
		Pids struct {
			Current int64 `json:"current"`
		} `json:"pids_stats"`
		Networks map[string]struct {
			Received int64 `json:"rx_bytes"`
			Sent     int64 `json:"tx_bytes"`
		} `json:"networks"`
	}
	query := url.Values{"stream": {"0"}, "one-shot": {"1"}}
	if err := d.do(ctx, http.MethodGet, at(id, "/stats"), query, nil, &s); err != nil {
		return engine.Stats{}, fmt.Errorf("engine: stats of %s: %w", id, err)
	}
	out := engine.Stats{Time: s.Read, Memory: s.Memory.Usage, MemoryPeak: s.Memory.MaxUsage, CPU: time.Duration(s.CPU.Usage.Total),
		Throttled: time.Duration(s.CPU.Throttling.Time), Pids: s.Pids.Current}
	for _, n := range s.Networks {
		out.Received += n.Received
		out.Sent += n.Sent
	}
	return out, nil
}
