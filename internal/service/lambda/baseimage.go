package lambda

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"skerry/internal/engine"
)

// Where AWS publishes the images of its runtimes ("Working with Lambda container
// images"), and what starts a runtime in them.
const (
	baseImages = "public.ecr.aws/lambda/"
	baseEntry  = "/var/runtime/bootstrap"
)

// How long a base image may take to come, and for how long one that did not come
// is not asked for again.
const (
	basePatience = 5 * time.Minute
	baseRetry    = time.Minute
)

// baseImage names the published image of a runtime; empty if there is none.
func baseImage(runtime string) string {
	for _, language := range []string{"python", "nodejs"} {
		if version, ok := strings.CutPrefix(runtime, language); ok {
			return baseImages + language + ":" + strings.TrimSuffix(version, ".x")
		}
	}
	return ""
}

// published is the interpreter of a runtime out of AWS's own image, for a machine
// that lacks it. lack says so, and is what is answered, with what went wrong, if
// the image cannot be had either.
func (s *Service) published(ctx context.Context, name string, lack *missing) (*interpreter, error) {
	ref := baseImage(name)
	s.found.Lock()
	failed := s.found.failed[name]
	s.found.Unlock()
	if ref == "" || failed.lack != nil && s.Clock.Now().Sub(failed.at) < baseRetry {
		if failed.lack != nil {
			lack = failed.lack
		}
		return nil, lack
	}
	pulling, cancel := context.WithTimeout(ctx, basePatience)
	defer cancel()
	image, err := s.Engine.Images().Ensure(pulling, ref, engine.PullOptions{})
	if err == nil {
		i := &interpreter{runtime: name, image: image.ID, command: []string{baseEntry}, env: map[string]string{}}
		for _, v := range image.Config.Env {
			if key, value, ok := strings.Cut(v, "="); ok && (key == "PATH" || key == "LD_LIBRARY_PATH") {
				i.env[key] = value
			}
		}
		return i, nil
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if !errors.Is(err, engine.ErrUnsupported) {
		lack = &missing{name, fmt.Sprintf("%s Its image %s could not be had instead: %v", lack.text, ref, err)}
		s.found.Lock()
		s.found.failed[name] = noImage{lack, s.Clock.Now()}
		s.found.Unlock()
	}
	return nil, lack
}

// noImage is why an image was not to be had, and when.
type noImage struct {
	lack *missing
	at   time.Time
}
