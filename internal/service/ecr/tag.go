package ecr

import (
	"context"
	"maps"
	"slices"
	"strings"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// The limits of tags ("Tagging a private repository in Amazon ECR"), the last two
// in characters.
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// checkTags adds tags to those there.
func checkTags(have map[string]string, add []api.Tag) (map[string]string, error) {
	all := maps.Clone(have)
	if all == nil && len(add) > 0 {
		all = map[string]string{}
	}
	seen := map[string]bool{}
	for _, t := range add {
		k, v := wire.Value(t.Key), wire.Value(t.Value)
		switch {
		case k == "" || len([]rune(k)) > maxTagKey || len([]rune(v)) > maxTagValue:
			return nil, &api.InvalidTagParameterException{Message: new("Tag keys have 1 to 128 characters, and tag values at most 256")}
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			return nil, &api.InvalidTagParameterException{Message: new("Tag keys starting with 'aws:' are reserved for system use")}
		case seen[k]:
			return nil, &api.InvalidTagParameterException{Message: new("Duplicate tag key '" + k + "'")}
		}
		seen[k], all[k] = true, v
	}
	if len(all) > maxTags {
		return nil, &api.TooManyTagsException{Message: new("The list of tags on the repository is over the limit. The maximum number of tags that can be applied to a repository is 50")}
	}
	return all, nil
}

func tagList(tags map[string]string) []api.Tag {
	out := []api.Tag{}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		out = append(out, api.Tag{Key: &k, Value: new(tags[k])})
	}
	return out
}

// repoOfARN reads a repository's ARN.
func repoOfARN(text string) (registry.Repo, bool) {
	a, err := arn.Parse(text)
	if err != nil || a.Service != "ecr" {
		return registry.Repo{}, false
	}
	name, ok := strings.CutPrefix(a.Resource, "repository/")
	return registry.Repo{Account: a.Account, Region: a.Region, Name: name}, ok && name != ""
}

// taggable returns the repository of an ARN, which is of the caller's region.
func taggable(sc auth.Scope, resource *string) (registry.Repo, error) {
	id, ok := repoOfARN(wire.Value(resource))
	if !ok || id.Region != sc.Region {
		return id, invalid("resourceArn", "Invalid ARN")
	}
	return id, nil
}

// TagResource adds tags to a repository.
func (s *Service) TagResource(ctx context.Context, sc auth.Scope, in *api.TagResourceInput) (*api.TagResourceOutput, error) {
	id, err := taggable(sc, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, id, func(row *registry.Repository) error {
		tags, err := checkTags(row.Tags, in.Tags)
		if err == nil {
			row.Tags = tags
		}
		return err
	})
	return &api.TagResourceOutput{}, err
}

// UntagResource removes tags of a repository.
func (s *Service) UntagResource(ctx context.Context, sc auth.Scope, in *api.UntagResourceInput) (*api.UntagResourceOutput, error) {
	id, err := taggable(sc, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	_, err = s.change(ctx, id, func(row *registry.Repository) error {
		for _, k := range in.TagKeys {
			delete(row.Tags, k)
		}
		return nil
	})
	return &api.UntagResourceOutput{}, err
}

// ListTagsForResource lists a repository's tags.
func (s *Service) ListTagsForResource(ctx context.Context, sc auth.Scope, in *api.ListTagsForResourceInput) (*api.ListTagsForResourceOutput, error) {
	id, err := taggable(sc, in.ResourceArn)
	if err != nil {
		return nil, err
	}
	out := &api.ListTagsForResourceOutput{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		row, err := s.Registry.Repository(tx, id)
		if err == nil {
			out.Tags = tagList(row.Tags)
		}
		return err
	})
}
