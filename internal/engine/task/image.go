package task

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"skerry/internal/engine"
)

// fetch sees that a container's image is here, as a child of the loop: it may
// take minutes.
func (r *Runner) fetch(ctx context.Context, t *Task, c *Container) error {
	p := &pull{began: r.Clock.Now()}
	p.image, p.err = r.image(ctx, t, c)
	if ctx.Err() != nil {
		return nil
	}
	p.ended = r.Clock.Now()
	p.digest = digestOf(p.image, c.Image)
	r.mu.Lock()
	r.mu.pulls[childName("pull", string(t.ID), c.Name)] = p
	r.mu.Unlock()
	return nil
}

// image finds or fetches an image. Its errors are worded as tasks show them.
func (r *Runner) image(ctx context.Context, t *Task, c *Container) (engine.Image, error) {
	images := r.Engine.Images()
	if t.Pull == PullOnce || t.Pull == PullCached {
		if i, err := images.Get(ctx, c.Image); err == nil {
			return i, nil
		}
	}
	var o engine.PullOptions
	var err error
	if r.Auth != nil {
		if o.Auth, err = r.Auth(ctx, t, c); err != nil {
			return engine.Image{}, &initError{what: "unable to pull secrets or registry auth: execution resource retrieval failed", err: err}
		}
	}
	i, err := images.Pull(ctx, c.Image, o)
	if err == nil {
		return i, nil
	}
	if t.Pull == PullDefault {
		if i, missing := images.Get(ctx, c.Image); missing == nil {
			return i, nil
		}
	}
	if errors.Is(err, engine.ErrUnsupported) {
		return i, fmt.Errorf("CannotPullContainerError: this engine has no images: %w", err)
	}
	return i, fmt.Errorf("CannotPullContainerError: %w", err)
}

// digestOf is the manifest's digest by which an image came under a name.
func digestOf(i engine.Image, name string) string {
	repository, _, _ := strings.Cut(name, "@")
	if at := strings.LastIndexByte(repository, ':'); at > strings.LastIndexByte(repository, '/') {
		repository = repository[:at]
	}
	for _, d := range i.Digests {
		of, digest, _ := strings.Cut(d, "@")
		if of == repository || strings.HasSuffix(of, "/"+repository) || strings.HasSuffix(repository, "/"+of) {
			return digest
		}
	}
	return ""
}

// initError is a fault of what a task needs before its containers, as Fargate
// words it.
type initError struct {
	what string
	err  error
}

func (e *initError) Error() string {
	return "ResourceInitializationError: " + e.what + ": " + e.err.Error()
}

func (e *initError) Unwrap() error { return e.err }
