package daemon

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"

	"skerry/internal/engine"
)

// getImage returns an image, or Docker's fault.
func (d *Daemon) getImage(ctx context.Context, name string) (engine.Image, error) {
	i, err := d.engine.Images().Get(ctx, name)
	if errors.Is(err, engine.ErrNotFound) {
		return i, notFound("No such image: %s", withTag(name))
	}
	return i, err
}

// listImages answers GET /images/json.
func (d *Daemon) listImages(c *call) error {
	f, err := c.filters("before", "dangling", "label", "label!", "reference", "since", "until")
	if err != nil {
		return err
	}
	all, err := d.engine.Images().List(c.Context())
	if errors.Is(err, engine.ErrUnsupported) {
		all, err = nil, nil // a driver without images has none
	}
	if err != nil {
		return err
	}
	fits, err := d.imageMatcher(c.Context(), f)
	if err != nil {
		return err
	}
	used := map[string]int64{}
	rows, err := d.all(c.Context())
	if err != nil {
		return err
	}
	for _, row := range rows {
		used[row.Image]++
	}
	out := []image.Summary{}
	_, shared := sharing(all)
	for _, i := range all {
		names := i.Names
		if len(f["reference"]) > 0 {
			names = slices.DeleteFunc(slices.Clone(names), func(n string) bool {
				return !slices.ContainsFunc(f["reference"], func(p string) bool { return referenceFits(p, n) })
			})
		}
		if !fits(i) || len(f["reference"]) > 0 && len(names) == 0 {
			continue
		}
		s := image.Summary{
			ID: i.ID, RepoTags: orEmpty(names), RepoDigests: orEmpty(i.Digests), Created: i.Created.Unix(), Size: i.Size, SharedSize: -1,
			Labels: i.Config.Labels, Containers: used[i.ID],
		}
		if c.flag("shared-size") {
			s.SharedSize = shared[i.ID]
		}
		if c.minor < 43 && len(names) == 0 {
			s.RepoTags = []string{"<none>:<none>"}
			if len(i.Digests) == 0 {
				s.RepoDigests = []string{"<none>@<none>"}
			}
		}
		out = append(out, s)
	}
	return c.ok(out)
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (d *Daemon) imageMatcher(ctx context.Context, f filters) (func(engine.Image) bool, error) {
	edge := func(word string) (t time.Time, err error) {
		if len(f[word]) > 0 {
			var i engine.Image
			i, err = d.getImage(ctx, f[word][0])
			t = i.Created
		}
		return t, err
	}
	before, err := edge("before")
	if err != nil {
		return nil, err
	}
	since, err := edge("since")
	if err != nil {
		return nil, err
	}
	until, err := f.before(d.clock.Now().Add(time.Hour))
	if err != nil {
		return nil, err
	}
	dangling, err := f.flag("dangling", false)
	if err != nil {
		return nil, err
	}
	return func(i engine.Image) bool {
		return (before.IsZero() || i.Created.Before(before)) && (since.IsZero() || i.Created.After(since)) && i.Created.Before(until) &&
			(len(f["dangling"]) == 0 || (len(i.Names) == 0) == dangling) && f.labels(i.Config.Labels)
	}, nil
}

// referenceFits compares a name with a pattern: a repository, a name with a tag,
// or either with * and ?.
func referenceFits(pattern, name string) bool {
	repository := name
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		repository = name[:i]
	}
	return globFits(pattern, name) || globFits(pattern, repository)
}

// globFits matches * (no slash) and ? against a text.
func globFits(pattern, text string) bool {
	if pattern == "" {
		return text == ""
	}
	switch pattern[0] {
	case '*':
		for i := 0; i <= len(text); i++ {
			if globFits(pattern[1:], text[i:]) {
				return true
			}
			if i < len(text) && text[i] == '/' {
				return false
			}
		}
		return false
	case '?':
		return text != "" && text[0] != '/' && globFits(pattern[1:], text[1:])
	}
	return text != "" && text[0] == pattern[0] && globFits(pattern[1:], text[1:])
}

// imageView is an image as inspect shows it, with the fields of older clients.
type imageView struct {
	image.InspectResponse
	Parent        string
	DockerVersion string
	VirtualSize   int64 `json:",omitempty"`
	GraphDriver   map[string]any

	// of the container that the image was made from; docker-compose 1 reads it
	ContainerConfig *dockerspec.DockerOCIImageConfig `json:",omitempty"`
}

// inspectImage answers GET /images/{name}/json.
func (d *Daemon) inspectImage(c *call) error {
	i, err := d.getImage(c.Context(), c.vars["name"])
	if err != nil {
		return err
	}
	v := imageView{GraphDriver: map[string]any{"Name": driverName, "Data": nil}}
	v.ID, v.RepoTags, v.RepoDigests, v.Created, v.Author = i.ID, orEmpty(i.Names), orEmpty(i.Digests), stamp(i.Created), i.Config.Author
	v.Architecture, v.Variant, v.Os, v.Size = i.Platform.Architecture, i.Platform.Variant, i.Platform.OS, i.Size
	v.RootFS = image.RootFS{Type: "layers", Layers: i.Layers}
	if c.minor < 44 {
		v.VirtualSize = i.Size
	}
	if n := len(i.History); n > 0 {
		v.Comment = i.History[n-1].Comment
	}
	cfg := &dockerspec.DockerOCIImageConfig{}
	cfg.User, cfg.Env, cfg.Entrypoint, cfg.Cmd, cfg.WorkingDir = i.Config.User, i.Config.Env, i.Config.Entrypoint, i.Config.Command, i.Config.Dir
	cfg.Labels, cfg.StopSignal, cfg.Shell, cfg.OnBuild = i.Config.Labels, i.Config.StopSignal, i.Config.Shell, i.Config.OnBuild
	cfg.ExposedPorts, cfg.Volumes = setOf(i.Config.Ports), setOf(i.Config.Volumes)
	if h := i.Config.Health; h != nil {
		cfg.Healthcheck = &dockerspec.HealthcheckConfig{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, StartPeriod: h.Start, StartInterval: h.StartEvery, Retries: h.Retries,
		}
	}
	v.Config = cfg
	if c.minor < 45 {
		v.ContainerConfig = cfg
	}
	return c.ok(v)
}

func setOf(words []string) map[string]struct{} {
	if len(words) == 0 {
		return nil
	}
	out := map[string]struct{}{}
	for _, w := range words {
		out[w] = struct{}{}
	}
	return out
}

// imageHistory answers GET /images/{name}/history, the newest step first. The
// sizes of steps are not known apart: the last one that made a layer has them
// all.
func (d *Daemon) imageHistory(c *call) error {
	i, err := d.getImage(c.Context(), c.vars["name"])
	if err != nil {
		return err
	}
	out := []image.HistoryResponseItem{}
	sized := false
	for n := len(i.History) - 1; n >= 0; n-- {
		h := i.History[n]
		item := image.HistoryResponseItem{ID: "<missing>", Created: h.Created.Unix(), CreatedBy: h.CreatedBy, Comment: h.Comment, Tags: []string{}}
		if len(out) == 0 {
			item.ID, item.Tags = i.ID, orEmpty(i.Names)
		}
		if !h.Empty && !sized {
			item.Size, sized = i.Size, true
		}
		out = append(out, item)
	}
	return c.ok(out)
}

// tagImage answers POST /images/{name}/tag.
func (d *Daemon) tagImage(c *call) error {
	repo, tag := c.query.Get("repo"), c.query.Get("tag")
	if repo == "" {
		return badRequest("invalid reference format")
	}
	if strings.Contains(repo, "@") {
		return badRequest("refusing to create a tag with a digest reference")
	}
	if tag == "" {
		tag = "latest"
	}
	i, err := d.getImage(c.Context(), c.vars["name"])
	if err != nil {
		return err
	}
	if err := d.engine.Images().Tag(c.Context(), i.ID, repo+":"+tag); err != nil {
		return err
	}
	d.tellThing(events.ImageEventType, events.ActionTag, i.ID, map[string]string{"name": repo + ":" + tag})
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// removeImage answers DELETE /images/{name}.
func (d *Daemon) removeImage(c *call) error {
	name, force := c.vars["name"], c.flag("force")
	i, err := d.getImage(c.Context(), name)
	if err != nil {
		return err
	}
	rows, err := d.all(c.Context())
	if err != nil {
		return err
	}
	last := len(i.Names) <= 1 || isID(name, i)
	for _, row := range rows {
		if row.Image != i.ID || !last {
			continue
		}
		short := strings.TrimPrefix(i.ID, "sha256:")[:12]
		switch {
		case row.running() && isID(name, i):
			return conflict("conflict: unable to delete %s (cannot be forced) - image is being used by running container %s", short, row.ID[:12])
		case !force && isID(name, i):
			return conflict("conflict: unable to delete %s (must be forced) - image is being used by stopped container %s", short, row.ID[:12])
		case !force:
			return conflict("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s", name, row.ID[:12], short)
		}
	}
	if isID(name, i) && len(i.Names) > 1 && !force {
		return conflict("conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", strings.TrimPrefix(i.ID, "sha256:")[:12])
	}
	gone, err := d.engine.Images().Remove(c.Context(), name, force)
	if err != nil {
		return err
	}
	return c.ok(d.tellRemoved(gone))
}

// isID tells whether an image was asked for by its id.
func isID(name string, i engine.Image) bool {
	return strings.HasPrefix(i.ID, name) || strings.HasPrefix(i.ID, "sha256:"+name)
}

// tellRemoved publishes what went and makes the answer of it.
func (d *Daemon) tellRemoved(gone engine.Removed) []image.DeleteResponse {
	out := []image.DeleteResponse{}
	for _, n := range gone.Names {
		out = append(out, image.DeleteResponse{Untagged: n})
		d.tellThing(events.ImageEventType, events.ActionUnTag, n, map[string]string{"name": n})
	}
	for _, id := range gone.Images {
		out = append(out, image.DeleteResponse{Deleted: id})
		d.tellThing(events.ImageEventType, events.ActionDelete, id, map[string]string{"name": id})
	}
	return out
}

// pruneImages answers POST /images/prune: those without a name, or with
// dangling=false those that no container uses.
func (d *Daemon) pruneImages(c *call) error {
	f, err := c.filters("dangling", "label", "label!", "until")
	if err != nil {
		return err
	}
	dangling, err := f.flag("dangling", true)
	if err != nil {
		return err
	}
	var gone engine.Removed
	var freed int64
	if len(f["label"])+len(f["label!"])+len(f["until"]) == 0 {
		gone, freed, err = d.engine.Images().Prune(c.Context(), !dangling)
	} else {
		gone, freed, err = d.pruneSome(c.Context(), f, dangling)
	}
	if err != nil {
		return err
	}
	return c.ok(image.PruneReport{ImagesDeleted: d.tellRemoved(gone), SpaceReclaimed: uint64(freed)})
}

// pruneSome removes the images that the filters mean and no container uses.
func (d *Daemon) pruneSome(ctx context.Context, f filters, dangling bool) (gone engine.Removed, freed int64, err error) {
	until, err := f.before(d.clock.Now())
	if err != nil {
		return gone, 0, err
	}
	all, err := d.engine.Images().List(ctx)
	if err != nil {
		return gone, 0, err
	}
	containers, err := d.engine.List(ctx)
	if err != nil {
		return gone, 0, err
	}
	for _, i := range all {
		used := slices.ContainsFunc(containers, func(s engine.Status) bool { return s.Image == i.ID })
		if used || dangling && len(i.Names) > 0 || !i.Created.Before(until) || !f.labels(i.Config.Labels) {
			continue
		}
		r, err := d.engine.Images().Remove(ctx, i.ID, true)
		if errors.Is(err, engine.ErrNotFound) {
			continue // somebody was faster
		}
		if err != nil {
			return gone, freed, err
		}
		gone.Names, gone.Images, freed = append(gone.Names, r.Names...), append(gone.Images, r.Images...), freed+i.Size
	}
	return gone, freed, nil
}
