package cloud

import (
	"context"
	"errors"
	"strings"
	"time"

	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/engine"
	"skerry/internal/engine/image"
	"skerry/internal/engine/image/unpack"
	"skerry/internal/loop"
	"skerry/internal/registry"
	"skerry/internal/store"
)

const unpackLoopName = "registry/unpack"

// unpackLoop returns the loop that tells the engine of the registry's images.
func (p *parts) unpackLoop() loop.Loop {
	return loop.Loop{
		Name: unpackLoopName, Does: "unpacks the images that were pushed, and gives up those that have gone",
		Period: time.Minute, Deadline: time.Hour, Run: p.registry.Tell,
	}
}

// unpack has the engine unpack an image that was pushed, so that its first
// container starts at once, and forget one that has gone. The image gets no tag by
// that: whoever runs it by one finds all layers here.
func (c *Cloud) unpack(p *parts) func(ctx context.Context, n registry.Notice) error {
	return func(ctx context.Context, n registry.Notice) error {
		name := p.registry.URI(n.Repo) + "@" + n.Digest
		if n.Gone {
			_, err := c.engine.Images().Remove(ctx, name, false)
			return beyond(err)
		}
		runs, err := p.runs(ctx, n)
		if err != nil || !runs {
			return err
		}
		root := auth.Principal{Kind: auth.Root, Account: n.Repo.Account, ARN: arn.New("iam", "", n.Repo.Account, "root").String(), ID: n.Repo.Account}
		password, _, err := p.registry.Tokens.Mint(ctx, root, n.Repo.Region)
		if err != nil {
			return err
		}
		_, err = c.engine.Images().Pull(ctx, name, engine.PullOptions{Auth: engine.Auth{Username: "AWS", Password: password}})
		return beyond(err)
	}
}

// beyond drops the errors that another try would not change: no engine, an image
// that is for another machine or none at all, one that a container uses.
func beyond(err error) error {
	for _, e := range []error{engine.ErrUnsupported, engine.ErrNotFound, engine.ErrInvalid, engine.ErrState, unpack.ErrInvalid, image.ErrUnsupportedImage} {
		if errors.Is(err, e) {
			return nil
		}
	}
	return err
}

// runs tells whether a manifest is of an image that can run, and still there.
func (p *parts) runs(ctx context.Context, n registry.Notice) (yes bool, err error) {
	err = p.registry.Store.View(ctx, func(tx *store.Tx) error {
		m, err := p.registry.Manifest(tx, n.Repo, n.Digest, "")
		if err != nil {
			return err
		}
		// Of an index, each image was pushed by itself.
		yes = m.Config != nil && (m.Config.MediaType == "application/vnd.oci.image.config.v1+json" ||
			strings.HasPrefix(m.Config.MediaType, "application/vnd.docker.container.image."))
		return nil
	})
	if code := registry.CodeOf(err); code == registry.ImageNotFound || code == registry.RepositoryNotFound {
		return false, nil
	}
	return yes, err
}
