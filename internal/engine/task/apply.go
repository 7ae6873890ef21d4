package task

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// apply does what plan says, and notes how it went. Its error is one of this
// process or of the engine as a whole; what a container is at fault for is noted
// at the container.
func (r *Runner) apply(ctx context.Context, v *view, a action) error {
	switch a.verb {
	case doPrepare:
		return r.applyPrepare(ctx, v)
	case doClean:
		if err := r.removeFolder(v.task.ID); err != nil {
			return err
		}
		v.cleaned = true
		return nil
	}
	c, spec := v.row(a.container), v.container(a.container)
	id := containerID(v.task.ID, a.container)
	switch a.verb {
	case doPull:
		t := v.spec
		r.children.Start(childName("pull", string(t.ID), spec.Name), func(ctx context.Context) error { return r.fetch(ctx, t, spec) })
		return nil
	case doCreate:
		return r.applyCreate(ctx, v, spec, c)
	case doStart:
		return r.applyStart(ctx, v, spec, c)
	case doSignal:
		r.thaw(ctx, v, c.Name)
		err := r.Engine.Signal(ctx, id, stopSignal(c.StopSignal))
		if err != nil && !gone(err) {
			return err
		}
		c.Signalled, c.KillAt = true, v.now.Add(spec.stopTimeout())
		return nil
	case doKill:
		if err := r.Engine.Signal(ctx, id, syscall.SIGKILL); err != nil && !gone(err) {
			return err
		}
		c.Killed = true
		return nil
	case doRemove:
		if err := r.Engine.Remove(ctx, id); err != nil {
			return err
		}
		r.unsurround(v, id)
		return nil
	}
	panic("task: nobody knows how to " + string(a.verb))
}

// gone tells whether a container cannot be signalled because it has ended.
func gone(err error) bool {
	return errors.Is(err, engine.ErrState) || errors.Is(err, engine.ErrNotFound)
}

func (c *Container) stopTimeout() time.Duration {
	if c.StopTimeout > 0 {
		return c.StopTimeout
	}
	return DefaultStopTimeout
}

// stopSignal reads an image's STOPSIGNAL: a name or a number.
func stopSignal(name string) syscall.Signal {
	if n, err := strconv.Atoi(name); err == nil && n > 0 && n < 65 {
		return syscall.Signal(n)
	}
	name = strings.ToUpper(name)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if s := unix.SignalNum(name); s != 0 {
		return s
	}
	return syscall.SIGTERM
}

// thaw lets a container go on that was held back for its log, so that it hears
// the signal.
func (r *Runner) thaw(ctx context.Context, v *view, name string) {
	if v.seen[name].state == engine.Frozen {
		_ = r.Engine.Freeze(ctx, containerID(v.task.ID, name), false) // else SIGKILL comes through
	}
}

func (r *Runner) applyCreate(ctx context.Context, v *view, spec *Container, c *containerRow) error {
	s, err := r.spec(ctx, v, spec, c)
	if err == nil {
		if _, err = r.Engine.Create(ctx, s); errors.Is(err, engine.ErrExists) {
			if _, missing := r.Engine.Inspect(ctx, s.ID); missing == nil {
				err = nil // made by a process that was killed
			}
		}
	}
	if err == nil {
		if err = r.surround(ctx, v, c.Name); err != nil {
			_ = r.Engine.Remove(context.WithoutCancel(ctx), s.ID)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var early *initError
	switch {
	case errors.As(err, &early):
		v.stopContainer(c, nil, err.Error(), v.now)
		v.stop(FailedToStart, err.Error())
	case err != nil:
		v.stopContainer(c, nil, "CannotCreateContainerError: "+err.Error(), v.now)
	default:
		c.State, c.Created = ContainerCreated, v.now
	}
	return nil
}

func (r *Runner) applyStart(ctx context.Context, v *view, spec *Container, c *containerRow) error {
	err := r.surround(ctx, v, c.Name) // again, when this process did not create it
	if errors.Is(err, engine.ErrState) {
		err = nil // it has ended, and starts once more: attend does it then
	}
	if err == nil && spec.Log.Driver == driverAWSLogs && c.Started.IsZero() && r.OpenLog != nil {
		if err = r.OpenLog(ctx, v.spec, streamOf(v.spec, spec)); err != nil {
			err = fmt.Errorf("failed to initialize logging driver: %w", err)
		}
	}
	if err == nil {
		if err = r.Engine.Start(ctx, containerID(v.task.ID, c.Name)); errors.Is(err, engine.ErrState) {
			err = nil // it runs, or has ended: the next look tells
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		code, reason := startFault(err)
		v.stopContainer(c, code, "CannotStartContainerError: "+reason, v.now)
	}
	return nil
}

// startFault words why a program could not be executed, with the exit code that
// Docker gives for it.
func startFault(err error) (code *int, reason string) {
	var fault *engine.StartError
	if !errors.As(err, &fault) {
		return nil, err.Error()
	}
	n := 126
	text := fault.Err.Error()
	if fault.Err == syscall.ENOENT {
		n = 127
		if !strings.Contains(fault.Path, "/") {
			text = "executable file not found in $PATH"
		}
	}
	if fault.Step == "chdir" {
		return &n, fmt.Sprintf("unable to start container process: chdir to cwd (%q): %s", fault.Path, text)
	}
	return &n, fmt.Sprintf("unable to start container process: exec: %q: %s", fault.Path, text)
}
