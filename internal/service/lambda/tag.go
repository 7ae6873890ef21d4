package lambda

import (
	"context"
	"maps"
	"strings"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/store"
)

const maxTags = 50

// taggedName reads the resource of the tag operations, which is a function's ARN.
func taggedName(resource *string) (*string, error) {
	if !strings.HasPrefix(deref(resource), "arn:aws:lambda:") || !strings.Contains(*resource, ":function:") {
		return nil, invalid("Tags are supported on functions only: %s", deref(resource))
	}
	return resource, nil
}

// TagResource adds tags to a function.
func (s *Service) TagResource(ctx context.Context, sc auth.Scope, in *api.TagResourceInput) (*api.TagResourceOutput, error) {
	name, err := taggedName(in.Resource)
	if err != nil {
		return nil, err
	}
	err = s.editFunction(ctx, sc, name, func(_ *store.Tx, f *functionRow) error {
		tags := maps.Clone(f.Tags)
		if tags == nil {
			tags = map[string]string{}
		}
		maps.Copy(tags, in.Tags)
		if len(tags) > maxTags {
			return invalid("The number of tags exceeds the limit of %d", maxTags)
		}
		for k := range in.Tags {
			if strings.HasPrefix(strings.ToLower(k), "aws:") {
				return invalid("System tags cannot be added/updated/deleted: %s", k)
			}
		}
		f.Tags = tags
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.TagResourceOutput{}, nil
}

// UntagResource removes tags.
func (s *Service) UntagResource(ctx context.Context, sc auth.Scope, in *api.UntagResourceInput) (*api.UntagResourceOutput, error) {
	name, err := taggedName(in.Resource)
	if err != nil {
		return nil, err
	}
	err = s.editFunction(ctx, sc, name, func(_ *store.Tx, f *functionRow) error {
		for _, k := range in.TagKeys {
			delete(f.Tags, k)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.UntagResourceOutput{}, nil
}

// ListTags tells a function's tags.
func (s *Service) ListTags(ctx context.Context, sc auth.Scope, in *api.ListTagsInput) (*api.ListTagsOutput, error) {
	name, err := taggedName(in.Resource)
	if err != nil {
		return nil, err
	}
	r, err := parseRef(sc, name, nil)
	if err != nil {
		return nil, err
	}
	out := &api.ListTagsOutput{Tags: map[string]string{}}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		f, err := getFunction(tx, r)
		if err == nil {
			maps.Copy(out.Tags, f.Tags)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
