package docker

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"skerry/internal/engine"
)

// Changes lists what a container has changed ("Get changes on a container's filesystem").
func (d *Driver) Changes(ctx context.Context, id engine.ID) (out []engine.Change, err error) {
	if _, err := d.inspect(ctx, id); err != nil {
		return nil, err
	}
	if err := d.do(ctx, http.MethodGet, at(id, "/changes"), nil, nil, &out); err != nil {
		return nil, fmt.Errorf("engine: changes of %s: %w", id, err)
	}
	return out, nil
}

// Written is how much that is.
func (d *Driver) Written(ctx context.Context, id engine.ID) (int64, error) {
	if _, err := d.inspect(ctx, id); err != nil {
		return 0, err
	}
	var got struct{ SizeRw int64 }
	if err := d.do(ctx, http.MethodGet, at(id, "/json"), url.Values{"size": {"1"}}, nil, &got); err != nil {
		return 0, fmt.Errorf("engine: size of %s: %w", id, err)
	}
	return got.SizeRw, nil
}

// Commit makes an image of a container ("Create a new image from a container").
// Docker completes a configuration that says nothing by the container's.
func (d *Driver) Commit(ctx context.Context, id engine.ID, spec engine.CommitSpec) (engine.Image, error) {
	c, err := d.inspect(ctx, id)
	if err != nil {
		return engine.Image{}, err
	}
	query := url.Values{"container": {c.ID}, "pause": {"0"}, "author": {spec.Author}, "comment": {spec.Comment}}
	if spec.Name != "" {
		repository, tag := split(spec.Name)
		query.Set("repo", repository)
		query.Set("tag", tag)
	}
	var made struct {
		ID string `json:"Id"`
	}
	if err := d.do(ctx, http.MethodPost, "/commit", query, spec.Config.Docker(), &made); err != nil {
		return engine.Image{}, fmt.Errorf("engine: commit %s: %w", id, err)
	}
	return d.Images().Get(ctx, made.ID)
}
