package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"
	"sync"
	"syscall"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"skerry/internal/base/ids"
	"skerry/internal/engine"
	"skerry/internal/store"
)

// createExec answers POST /containers/{id}/exec.
func (d *Daemon) createExec(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	var in container.ExecCreateRequest
	if err := c.body(&in); err != nil {
		return err
	}
	switch {
	case len(in.Cmd) == 0:
		return badRequest("No exec command specified")
	case row.State == container.StatePaused:
		return conflict("Container %s is paused, unpause the container before exec", row.ID)
	case row.State == container.StateRestarting:
		return conflict("Container %s is restarting, wait until the container is running", row.ID)
	case !row.running():
		return conflict("container %s is not running", row.ID)
	}
	text, err := json.Marshal(in)
	if err != nil {
		return err
	}
	x := &execRow{ID: ids.Hex(64), Container: row.ID, Config: text}
	err = d.db.Update(c.Context(), func(tx *store.Tx) error { return execs.Put(tx, x) })
	if err != nil {
		return err
	}
	d.tell(row, events.Action("exec_create: "+strings.Join(in.Cmd, " ")), map[string]string{"execID": x.ID})
	return c.created(container.ExecCreateResponse{ID: x.ID})
}

func getExec(tx *store.Tx, id string) (*execRow, *container.ExecCreateRequest, error) {
	x, err := execs.Get(tx, store.K(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, notFound("No such exec instance: %s", id)
	}
	if err != nil {
		return nil, nil, err
	}
	cfg := new(container.ExecCreateRequest)
	if err := json.Unmarshal(x.Config, cfg); err != nil {
		return nil, nil, fmt.Errorf("daemon: exec %s: %w", id, err)
	}
	return x, cfg, nil
}

// claimExec notes that a program is started, which happens once.
func (d *Daemon) claimExec(ctx context.Context, id string) (x *execRow, cfg *container.ExecCreateRequest, row *containerRow, err error) {
	err = d.db.Update(ctx, func(tx *store.Tx) error {
		if x, cfg, err = getExec(tx, id); err != nil {
			return err
		}
		if x.Started {
			return conflict("exec %s has already run", id)
		}
		if row, err = containers.Get(tx, store.K(x.Container)); err != nil {
			return err
		}
		if row.State != container.StateRunning {
			return conflict("container %s is not running", row.ID)
		}
		x.Started, x.Running = true, true
		return execs.Put(tx, x)
	})
	return x, cfg, row, err
}

// startExec answers POST /exec/{id}/start. The program is a child of a loop: it
// goes on when the client leaves.
func (d *Daemon) startExec(c *call) error {
	var in container.ExecStartRequest
	if err := c.body(&in); err != nil {
		return err
	}
	x, cfg, row, err := d.claimExec(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	t := d.terms.add(x.ID)
	spec := engine.ExecSpec{Command: cfg.Cmd, Dir: cfg.WorkingDir, TTY: cfg.Tty, Privileged: cfg.Privileged}
	if len(cfg.Env) > 0 || cfg.Tty {
		if spec.Env, err = execEnv(row, cfg); err != nil {
			return err
		}
	}
	if cfg.User != "" {
		_, h, err := row.config()
		if err != nil {
			return err
		}
		spec.User = &engine.User{Name: cfg.User, Further: h.GroupAdd}
	}
	if size := in.ConsoleSize; size != nil {
		spec.Size = engine.Size{Rows: uint16(size[0]), Columns: uint16(size[1])}
	}
	streams := engine.Streams{Resize: t, Started: func(pid int) { d.terms.started(x.ID, pid) }}
	d.tell(row, events.Action("exec_start: "+strings.Join(cfg.Cmd, " ")), map[string]string{"execID": x.ID})
	if in.Detach {
		if !d.runExec(x, spec, streams, nil) {
			return errors.New("daemon: the server stops")
		}
		c.w.WriteHeader(200)
		return nil
	}
	kind := multiplied
	if cfg.Tty {
		kind = rawStream
	}
	w, err := c.hijack(kind)
	if err != nil {
		d.endExec(x.ID, engine.Exit{Code: 126})
		return err
	}
	defer w.end()
	m := &mux{w: w, raw: cfg.Tty}
	if cfg.AttachStdin {
		streams.Stdin = w
	}
	if cfg.AttachStdout {
		streams.Stdout = m.stream(engine.Stdout)
	}
	if cfg.AttachStderr {
		streams.Stderr = m.stream(engine.Stderr)
	}
	ended := make(chan error, 1)
	if !d.runExec(x, spec, streams, ended) {
		return nil
	}
	if err := <-ended; err != nil {
		text := execFault(err, cfg.Cmd[0])
		_, _ = io.WriteString(m.stream(engine.Stderr), text+"\r\n") // as Docker says it, into the stream
	}
	return nil
}

// runExec runs a program as a child of the loop; false when the server stops.
func (d *Daemon) runExec(x *execRow, spec engine.ExecSpec, s engine.Streams, ended chan<- error) bool {
	return d.running.Start(x.ID, func(ctx context.Context) error {
		exit, err := d.engine.Exec(ctx, engine.ID(x.Container), spec, s)
		if err != nil {
			exit.Code = execCode(err)
		}
		d.endExec(x.ID, exit)
		if ended != nil {
			ended <- err
		}
		return nil
	})
}

// endExec notes how a program ended.
func (d *Daemon) endExec(id string, exit engine.Exit) {
	d.terms.remove(id)
	ctx := context.Background()
	err := d.db.Update(ctx, func(tx *store.Tx) error {
		x, err := execs.Get(tx, store.K(id))
		if errors.Is(err, store.ErrNotFound) {
			return nil // gone with its container
		}
		if err != nil {
			return err
		}
		x.Running, x.Exit = false, &exit.Code
		return execs.Put(tx, x)
	})
	if errors.Is(err, store.ErrNoSpace) {
		d.terms.end(id, exit.Code)
		return
	}
	if err != nil {
		d.log.Error("docker: cannot note the end of an exec", "id", id, "err", err)
	}
}

// execCode is the exit code of a program that could not be run, as a shell has
// it.
func execCode(err error) int {
	var s *engine.StartError
	if errors.As(err, &s) && (s.Err == syscall.ENOENT || s.Err == syscall.ENOTDIR) {
		return 127
	}
	return 126
}

func execFault(err error, program string) string {
	var s *engine.StartError
	if errors.As(err, &s) {
		if s.Step == "chdir" {
			return fmt.Sprintf("OCI runtime exec failed: exec failed: unable to start container process: chdir to cwd (%q) set in config.json failed: %v", s.Path, s.Err)
		}
		if s.Err == syscall.ENOENT {
			return fmt.Sprintf("OCI runtime exec failed: exec failed: unable to start container process: exec: %q: executable file not found in $PATH", program)
		}
		return fmt.Sprintf("OCI runtime exec failed: exec failed: unable to start container process: exec: %q: %v", program, s.Err)
	}
	_, text := status(err)
	return text
}

// execEnv is the container's environment with what is given besides.
func execEnv(row *containerRow, cfg *container.ExecCreateRequest) ([]string, error) {
	spec, err := row.spec()
	if err != nil {
		return nil, err
	}
	given := cfg.Env
	if cfg.Tty {
		given = append([]string{"TERM=xterm"}, given...)
	}
	i := engine.ImageConfig{Env: spec.Env}
	return i.Environ(given), nil
}

// resizeExec answers POST /exec/{id}/resize.
func (d *Daemon) resizeExec(c *call) error {
	size, err := c.size()
	if err != nil {
		return err
	}
	err = d.db.View(c.Context(), func(tx *store.Tx) error {
		x, _, err := getExec(tx, c.vars["id"])
		if err == nil && !x.Running {
			err = conflict("exec process is not running: %s", x.ID)
		}
		return err
	})
	if err != nil {
		return err
	}
	d.terms.resize(c.vars["id"], size)
	c.w.WriteHeader(200)
	return nil
}

// inspectExec answers GET /exec/{id}/json.
func (d *Daemon) inspectExec(c *call) error {
	var x *execRow
	var cfg *container.ExecCreateRequest
	err := d.db.View(c.Context(), func(tx *store.Tx) (err error) { x, cfg, err = getExec(tx, c.vars["id"]); return err })
	if err != nil {
		return err
	}
	if code, ok := d.terms.late()[x.ID]; ok && x.Running {
		x.Running, x.Exit = false, &code
	}
	return c.ok(container.ExecInspectResponse{
		ID: x.ID, Running: x.Running, ExitCode: x.Exit, OpenStdin: cfg.AttachStdin, OpenStdout: cfg.AttachStdout, OpenStderr: cfg.AttachStderr,
		ContainerID: x.Container, Pid: d.terms.pid(x.ID), CanRemove: x.Exit != nil, DetachKeys: []byte(cfg.DetachKeys),
		ProcessConfig: &container.ExecProcessConfig{Tty: cfg.Tty, Entrypoint: cfg.Cmd[0], Arguments: cfg.Cmd[1:], Privileged: &cfg.Privileged, User: cfg.User},
	})
}

// execsOf lists the programs of a container that run or will.
func (d *Daemon) execsOf(ctx context.Context, id string) (all []string, err error) {
	err = d.db.View(ctx, func(tx *store.Tx) error {
		all = nil
		for x, err := range byContainer.Scan(tx, store.Range{Prefix: store.K(id)}) {
			if err != nil {
				return err
			}
			if x.Exit == nil {
				all = append(all, x.ID)
			}
		}
		return nil
	})
	return all, err
}

// endExecs forgets the programs of a run that is over. Those that ended with it
// stay until the next one, for clients that ask for their code.
func (d *Daemon) endExecs(ctx context.Context, id string) error {
	return d.db.Update(ctx, func(tx *store.Tx) error {
		for x, err := range byContainer.Scan(tx, store.Range{Prefix: store.K(id)}) {
			if err != nil {
				return err
			}
			if x.Exit != nil || !x.Started {
				if err := execs.Delete(tx, store.K(x.ID)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// terminals are the programs that run: the ways to resize them, and their numbers
// on the machine.
type terminals struct {
	mu   sync.Mutex
	set  map[string]chan engine.Size
	pids map[string]int
	ends map[string]int // codes that the disk has no room for
}

// add makes the way of one. It holds the last size only.
func (t *terminals) add(id string) <-chan engine.Size {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.set == nil {
		t.set, t.pids = map[string]chan engine.Size{}, map[string]int{}
	}
	t.set[id] = make(chan engine.Size, 1)
	return t.set[id]
}

func (t *terminals) has(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.set[id] != nil
}

func (t *terminals) remove(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.set, id)
	delete(t.pids, id)
}

func (t *terminals) started(id string, pid int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.set[id] != nil {
		t.pids[id] = pid
	}
}

// end keeps an exit code until it is written; forget says that those are.
func (t *terminals) end(id string, code int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ends == nil {
		t.ends = map[string]int{}
	}
	t.ends[id] = code
}

func (t *terminals) late() map[string]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return maps.Clone(t.ends)
}

func (t *terminals) forget(ends map[string]int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for id := range ends {
		delete(t.ends, id)
	}
}

func (t *terminals) pid(id string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.pids[id]
}

func (t *terminals) resize(id string, s engine.Size) {
	t.mu.Lock()
	defer t.mu.Unlock()
	ch := t.set[id]
	if ch == nil {
		return
	}
	select {
	case <-ch: // nobody took the one before
	default:
	}
	ch <- s
}
