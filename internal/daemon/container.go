package daemon

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// containerName is what a container may be called.
var containerName = regexp.MustCompile(`^/?[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

func sortNewest(rows []*containerRow) {
	slices.SortFunc(rows, func(a, b *containerRow) int {
		if c := b.Created.Compare(a.Created); c != 0 {
			return c
		}
		return cmp.Compare(a.ID, b.ID)
	})
}

// listContainers answers GET /containers/json.
func (d *Daemon) listContainers(c *call) error {
	f, err := c.filters("ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "label!", "name", "network", "publish", "since", "status", "volume")
	if err != nil {
		return err
	}
	limit, err := c.number("limit", 0)
	if err != nil {
		return err
	}
	rows, err := d.all(c.Context())
	if err != nil {
		return err
	}
	everything := c.flag("all") || limit > 0 || len(f["status"]) > 0 || len(f["exited"]) > 0
	match, err := d.matcher(c.Context(), f)
	if err != nil {
		return err
	}
	out := []summary{}
	for _, row := range rows {
		if !everything && !row.running() && row.State != container.StateRestarting {
			continue
		}
		s, err := d.summarise(c.Context(), row)
		if err != nil {
			return err
		}
		if !match(row, s) {
			continue
		}
		if c.flag("size") {
			if s.SizeRw, s.SizeRootFs, err = d.sizes(c.Context(), row); err != nil {
				return err
			}
		}
		if out = append(out, *s); limit > 0 && len(out) == limit {
			break
		}
	}
	return c.ok(out)
}

// matcher makes one function of the filters of a list.
func (d *Daemon) matcher(ctx context.Context, f filters) (func(*containerRow, *summary) bool, error) {
	edge := func(word string) (time.Time, error) {
		if len(f[word]) == 0 {
			return time.Time{}, nil
		}
		row, err := d.find(ctx, f[word][0])
		if err != nil {
			return time.Time{}, err
		}
		return row.Created, nil
	}
	before, err := edge("before")
	if err != nil {
		return nil, err
	}
	since, err := edge("since")
	if err != nil {
		return nil, err
	}
	images := map[string]bool{}
	for _, name := range f["ancestor"] {
		if i, err := d.engine.Images().Get(ctx, name); err == nil {
			images[i.ID] = true
		}
	}
	for _, s := range f["status"] {
		if err := container.ValidateContainerState(container.ContainerState(s)); err != nil {
			return nil, badRequest("%v", err)
		}
	}
	return func(row *containerRow, s *summary) bool {
		return (before.IsZero() || row.Created.Before(before)) && (since.IsZero() || row.Created.After(since)) &&
			(len(f["ancestor"]) == 0 || images[row.Image]) && f.labels(s.Labels) &&
			f.any("id", func(v string) bool { return strings.HasPrefix(row.ID, v) }) &&
			f.any("name", func(v string) bool { return nameFits(v, row.Name) }) &&
			f.any("status", func(v string) bool { return string(row.State) == v }) &&
			f.any("exited", func(v string) bool {
				return strconv.Itoa(row.ExitCode) == v && !row.running() && row.State != container.StateCreated
			}) &&
			f.any("health", func(v string) bool { return string(healthStatus(row)) == v }) &&
			f.any("network", func(v string) bool {
				return slices.ContainsFunc(append(row.nets(), row.Net), func(n netRow) bool { return n.ID == v || n.Name == v })
			}) &&
			f.any("volume", func(v string) bool {
				return slices.ContainsFunc(row.Mounts, func(m mountRow) bool { return m.Name == v || m.Target == v || m.Source == v })
			}) &&
			f.any("publish", func(v string) bool {
				return slices.ContainsFunc(s.Ports, func(p portSummary) bool { return p.PublicPort != 0 && portFits(v, p) })
			}) &&
			f.any("expose", func(v string) bool {
				return slices.ContainsFunc(s.Ports, func(p portSummary) bool { return portFits(v, p) })
			}) &&
			f.any("is-task", func(v string) bool { return v == "false" }) && f.any("isolation", func(v string) bool { return v == "default" })
	}, nil
}

// nameFits compares a name with a filter, a regular expression.
func nameFits(pattern, name string) bool {
	if pattern == name || pattern == "/"+name {
		return true
	}
	re, err := regexp.Compile(pattern)
	return err == nil && (re.MatchString("/"+name) || re.MatchString(name))
}

func portFits(text string, p portSummary) bool {
	text, protocol, given := strings.Cut(text, "/")
	from, to, ranged := strings.Cut(text, "-")
	low, err := strconv.Atoi(from)
	high := low
	if ranged {
		high, _ = strconv.Atoi(to)
	}
	return err == nil && (!given || protocol == p.Type) && int(p.PrivatePort) >= low && int(p.PrivatePort) <= high
}

// renameContainer answers POST /containers/{id}/rename.
func (d *Daemon) renameContainer(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	name := c.query.Get("name")
	if name == "" {
		return badRequest("Neither old nor new names may be empty")
	}
	if !containerName.MatchString(name) {
		return badRequest("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	name = strings.TrimPrefix(name, "/")
	if name == row.Name {
		return badRequest("Renaming a container with the same name as its current name")
	}
	old := row.Name
	defer d.locks.lock(row.ID)()
	row, _, err = d.rewrite(c.Context(), row.ID, func(tx *store.Tx, row *containerRow) error {
		row.Name = name
		return nameFree(tx, name)
	})
	if err != nil {
		return err
	}
	d.tell(row, events.ActionRename, map[string]string{"oldName": "/" + old})
	return c.done()
}

// nameFree refuses a name that another container has.
func nameFree(tx *store.Tx, name string) error {
	other, err := named(tx, name)
	if err != nil {
		return err
	}
	if other != nil {
		return conflict("Conflict. The container name \"/%s\" is already in use by container \"%s\". You have to remove (or rename) that container to be able to reuse that name.", name, other.ID)
	}
	return nil
}

// removeContainer answers DELETE /containers/{id}.
func (d *Daemon) removeContainer(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	if c.flag("link") {
		return unsupported("links")
	}
	if err := d.remove(c.Context(), row.ID, c.flag("force"), c.flag("v")); err != nil {
		return err
	}
	return c.done()
}

// remove takes a container away; with force one that runs, with volumes its
// anonymous ones.
func (d *Daemon) remove(ctx context.Context, id string, force, volumes bool) error {
	sub := d.bus.subscribe(time.Time{})
	defer sub.end()
	row, err := d.find(ctx, id)
	if err != nil {
		return err
	}
	if row.running() || row.State == container.StateRestarting {
		if !force {
			state := string(row.State)
			return conflict("cannot remove container \"/%s\": container is %s: stop the container before removing or force remove", row.Name, state)
		}
		if _, err := d.markStopped(ctx, id); err != nil {
			return err
		}
		if gone, err := d.kill(ctx, sub, row); err != nil || !gone {
			return errors.Join(err, conflict("cannot remove container \"/%s\": could not kill it", row.Name))
		}
	}
	ctx = context.WithoutCancel(ctx)
	if row.running() {
		d.readers.wait(ctx, id) // the row is of before the kill
	}
	defer d.locks.lock(id)()
	row, err = d.note(ctx, id, func(row *containerRow) error {
		if row.running() {
			return conflict("cannot remove container \"/%s\": container is running: stop the container before removing or force remove", row.Name)
		}
		row.Removing, row.Volumes = true, row.Volumes || volumes
		return nil
	})
	if missing(err) {
		return nil // --rm was faster
	}
	if err != nil {
		return err
	}
	return d.drop(ctx, row, row.Volumes)
}

// finish ends a removal that was begun: by --rm, or before the server was
// killed.
func (d *Daemon) finish(ctx context.Context, id string) error {
	d.readers.wait(ctx, id)
	ctx = context.WithoutCancel(ctx)
	defer d.locks.lock(id)()
	row, err := d.find(ctx, id)
	if missing(err) || err == nil && (!row.Removing || row.running()) {
		return nil
	}
	if err != nil {
		return err
	}
	return d.drop(ctx, row, row.Volumes)
}

// drop takes away what a container is: the engine's part first, so that a
// crash leaves a row by which it is found again. The container's lock is held.
func (d *Daemon) drop(ctx context.Context, row *containerRow, withVolumes bool) error {
	if err := d.engine.Remove(ctx, engine.ID(row.ID)); err != nil && !errors.Is(err, engine.ErrUnsupported) {
		return err
	}
	d.keepers.End(namesKey(row.ID))
	left, err := d.release(ctx, func(tx *store.Tx) (gone []string, err error) {
		if ok, err := containers.Has(tx, store.K(row.ID)); err != nil || !ok {
			return nil, err
		}
		for exec, err := range byContainer.Scan(tx, store.Range{Prefix: store.K(row.ID)}) {
			if err != nil {
				return nil, err
			}
			if err := execs.Delete(tx, store.K(exec.ID)); err != nil {
				return nil, err
			}
		}
		if err := containers.Delete(tx, store.K(row.ID)); err != nil {
			return nil, err
		}
		for _, m := range row.Mounts {
			if withVolumes && m.Type == "volume" {
				ok, err := d.dropAnonymous(tx, m.Name)
				if err != nil {
					return nil, err
				}
				if ok {
					gone = append(gone, m.Name)
				}
			}
		}
		return gone, nil
	})
	if err != nil {
		return err
	}
	d.late.swap(row.ID, d.late.get(row.ID), nil)
	if err := d.dropFolders(left); err != nil {
		d.log.Warn("docker: cannot remove a volume's files", "container", row.ID, "err", err)
	}
	d.tell(row, events.ActionDestroy, nil)
	d.wake(containerLoop)
	return nil
}

// pruneContainers answers POST /containers/prune.
func (d *Daemon) pruneContainers(c *call) error {
	f, err := c.filters("label", "label!", "until")
	if err != nil {
		return err
	}
	until, err := f.before(d.clock.Now())
	if err != nil {
		return err
	}
	rows, err := d.all(c.Context())
	if err != nil {
		return err
	}
	report := container.PruneReport{ContainersDeleted: []string{}}
	for _, row := range rows {
		cfg, _, err := row.config()
		if err != nil {
			return err
		}
		if row.running() || row.State == container.StateRestarting || !row.Created.Before(until) || !f.labels(cfg.Labels) {
			continue
		}
		err = d.remove(c.Context(), row.ID, false, false)
		if code, _ := status(err); err != nil && code != http.StatusConflict {
			return err
		}
		if err == nil {
			report.ContainersDeleted = append(report.ContainersDeleted, row.ID)
		}
	}
	return c.ok(report)
}

// updateContainer answers POST /containers/{id}/update.
func (d *Daemon) updateContainer(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	var in container.UpdateConfig
	if err := c.body(&in); err != nil {
		return err
	}
	if err := refuse(&container.Config{}, &container.HostConfig{Resources: in.Resources}); err != nil {
		return err
	}
	if len(in.Devices) > 0 || len(in.Ulimits) > 0 {
		return unsupported("updating devices and ulimits")
	}
	ctx := context.WithoutCancel(c.Context())
	defer d.locks.lock(row.ID)()
	_, err = d.change(ctx, row.ID, func(row *containerRow) error { return d.update(ctx, row, &in) })
	if err != nil {
		return err
	}
	d.tell(row, events.ActionUpdate, nil)
	return c.ok(container.UpdateResponse{Warnings: []string{}})
}
