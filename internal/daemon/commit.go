package daemon

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"skerry/internal/engine"
)

// changes answers GET /containers/{id}/changes: docker diff.
func (d *Daemon) changes(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	all, err := d.engine.Changes(c.Context(), engine.ID(row.ID))
	if err != nil {
		return filesFault(err)
	}
	if all == nil {
		all = []engine.Change{}
	}
	return c.ok(all)
}

// filesFault explains that a container's files are gone: the engine has lost it, with
// the machine's last run.
func filesFault(err error) error {
	if errors.Is(err, engine.ErrNotFound) {
		return conflict("the container's files were lost with the machine's last run; it begins anew with its next start")
	}
	return err
}

// commit answers POST /commit: an image of a container.
func (d *Daemon) commit(c *call) error {
	var in *container.Config
	if err := c.body(&in); err != nil {
		return err
	}
	if in == nil {
		in = &container.Config{}
	}
	row, err := d.find(c.Context(), c.query.Get("container"))
	if err != nil {
		return err
	}
	spec := engine.CommitSpec{Author: c.query.Get("author"), Comment: c.query.Get("comment")}
	if spec.Name = c.query.Get("repo"); spec.Name != "" {
		if tag := c.query.Get("tag"); tag != "" {
			spec.Name += ":" + tag
		}
		spec.Name = withTag(spec.Name)
	}
	cfg, _, err := row.config()
	if err != nil {
		return err
	}
	if err := applyChanges(in, c.query["changes"]); err != nil {
		return err
	}
	own := imageConfig(cfg)
	mergeImage(in, &own)
	spec.Config, spec.CreatedBy = imageConfig(in), strings.Join(cfg.Cmd, " ")
	i, err := d.commitOf(c.Context(), row.ID, spec, c.query.Get("pause") == "" || c.flag("pause"))
	if err != nil {
		return filesFault(err)
	}
	d.tell(row, events.ActionCommit, map[string]string{"comment": spec.Comment, "imageID": i.ID, "imageRef": spec.Name})
	return c.created(container.CommitResponse{ID: i.ID})
}

// commitOf makes the image, while the container stands still if that is wanted and it
// runs.
func (d *Daemon) commitOf(ctx context.Context, id string, spec engine.CommitSpec, still bool) (i engine.Image, err error) {
	defer d.locks.lock(id)() // nobody pauses it or starts it meanwhile
	row, err := d.find(ctx, id)
	if err != nil {
		return i, err
	}
	if row.Removing {
		return i, conflict("You cannot commit container %s which is being removed", row.ID)
	}
	if still && row.State == container.StateRunning {
		err := d.engine.Freeze(ctx, engine.ID(id), true)
		if err == nil {
			defer func() { err = errors.Join(err, d.thaw(ctx, id)) }()
		} else if !errors.Is(err, engine.ErrState) { // it has just ended
			return i, err
		}
	}
	return d.engine.Commit(ctx, engine.ID(id), spec)
}

// thaw lets a container go on that stood still.
func (d *Daemon) thaw(ctx context.Context, id string) error {
	err := d.engine.Freeze(context.WithoutCancel(ctx), engine.ID(id), false)
	if errors.Is(err, engine.ErrState) || errors.Is(err, engine.ErrNotFound) {
		return nil
	}
	return err
}

// letGo lets a container go on that no client has paused: the server was killed
// while it made an image of it.
func (d *Daemon) letGo(ctx context.Context, id string) error {
	if d.locks.holds(id) {
		return nil // somebody is at it
	}
	defer d.locks.lock(id)()
	row, err := d.find(ctx, id)
	if err != nil || row.State != container.StateRunning {
		return err
	}
	return d.thaw(ctx, id)
}

// imageConfig is what an image says whose containers are like one of that
// configuration.
func imageConfig(c *container.Config) engine.ImageConfig {
	i := engine.ImageConfig{
		Entrypoint: c.Entrypoint, Command: c.Cmd, Env: c.Env, Dir: c.WorkingDir, User: c.User, Labels: c.Labels,
		StopSignal: c.StopSignal, Shell: c.Shell, OnBuild: c.OnBuild,
	}
	for p := range c.ExposedPorts {
		i.Ports = append(i.Ports, p.String())
	}
	for v := range c.Volumes {
		i.Volumes = append(i.Volumes, v)
	}
	slices.Sort(i.Ports)
	slices.Sort(i.Volumes)
	if h := c.Healthcheck; h != nil && len(h.Test) > 0 {
		i.Health = &engine.ImageHealth{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, Start: h.StartPeriod, StartEvery: h.StartInterval, Retries: h.Retries}
	}
	return i
}

// sizes are how much a container has written, and that with its image. What is not
// known is zero.
func (d *Daemon) sizes(ctx context.Context, row *containerRow) (written, all int64, err error) {
	written, err = d.engine.Written(ctx, engine.ID(row.ID))
	if errors.Is(err, engine.ErrNotFound) || errors.Is(err, engine.ErrUnsupported) || errors.Is(err, engine.ErrState) {
		err = nil
	}
	if err != nil {
		return 0, 0, err
	}
	i, err := d.engine.Images().Get(ctx, row.Image)
	if err != nil && !errors.Is(err, engine.ErrNotFound) && !errors.Is(err, engine.ErrUnsupported) {
		return 0, 0, err
	}
	return written, i.Size + written, nil
}
