package image

import (
	"context"
	"errors"
	"fmt"

	"skerry/internal/engine"
	"skerry/internal/engine/image/remote"
)

// Pull implements engine.Images.
func (s *Store) Pull(ctx context.Context, name string, o engine.PullOptions) (engine.Image, error) {
	n, err := ParseName(name)
	if err != nil {
		return engine.Image{}, faultf(engine.ErrInvalid, "%w: %.300q", err, name)
	}
	i, err := s.pull(ctx, n, o)
	if err != nil {
		return engine.Image{}, about(err, "pull %s", n.Familiar())
	}
	return i, nil
}

func (s *Store) pull(ctx context.Context, n Name, o engine.PullOptions) (i engine.Image, err error) {
	say := func(format string, args ...any) {
		if o.Progress != nil {
			o.Progress(engine.Progress{Status: fmt.Sprintf(format, args...)})
		}
	}
	repo, err := s.remote.Repository(n.Host, n.Path, o.Auth, false)
	if err != nil {
		return i, err
	}
	mediaType, digest, body, err := repo.Resolve(ctx, n.Reference())
	if err != nil {
		return i, refused(err, n)
	}
	say("Pulling from %s", n.Repository())
	old, _ := s.Get(ctx, n.String()) // whatever the fault, the new one is taken
	a, release, err := s.take(ctx, repo, mediaType, body, o.Platform, o.Progress)
	defer release()
	if err != nil {
		return i, err
	}
	by := n
	by.Tag, by.Digest = "", digest
	a.digests = []Name{by}
	if n.Digest == "" {
		a.names = []Name{n}
	}
	if i, err = s.record(ctx, a); err != nil {
		return i, err
	}
	say("Digest: %s", digest)
	if old.ID == i.ID {
		say("Status: Image is up to date for %s", n.Familiar())
	} else {
		say("Status: Downloaded newer image for %s", n.Familiar())
	}
	return i, nil
}

// refused says in Docker's words why a registry has not told what a name means.
func refused(err error, n Name) error {
	var e *remote.Error
	if !errors.As(err, &e) {
		return err
	}
	switch {
	case errors.Is(err, remote.ErrDenied), e.Code == "DENIED", e.Code == "UNAUTHORIZED":
		return faultf(engine.ErrNotFound, "pull access denied for %s, repository does not exist or may require 'docker login': %w", n.Repository(), err)
	case e.Code == "NAME_UNKNOWN":
		return faultf(engine.ErrNotFound, "repository %s not found: %w", n.Repository(), err)
	case errors.Is(err, remote.ErrNotFound):
		return faultf(engine.ErrNotFound, "manifest for %s not found: %w", n.Familiar(), err)
	}
	return err
}

// Ensure implements engine.Images.
func (s *Store) Ensure(ctx context.Context, name string, o engine.PullOptions) (engine.Image, error) {
	i, err := s.Get(ctx, name)
	wanted := o.Platform == engine.Platform{} || o.Platform.OS == i.Platform.OS && o.Platform.Architecture == i.Platform.Architecture &&
		(o.Platform.Variant == "" || o.Platform.Variant == i.Platform.Variant)
	if err == nil && wanted || err != nil && !errors.Is(err, engine.ErrNotFound) {
		return i, err
	}
	return s.Pull(ctx, name, o)
}
