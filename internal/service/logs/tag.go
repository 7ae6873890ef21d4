package logs

import (
	"context"
	"maps"
	"slices"
	"strings"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// maxTags is how many tags a log group may have.
const maxTags = 50

// checkTags tells whether new tags may join those there.
func checkTags(have, add map[string]string) error {
	for k := range add {
		if strings.HasPrefix(strings.ToLower(k), "aws:") {
			return invalid("aws: prefixed tag key names are not allowed for external use.")
		}
	}
	all := maps.Clone(have)
	if all == nil {
		all = map[string]string{}
	}
	maps.Copy(all, add)
	if len(all) > maxTags {
		return &logs.TooManyTagsException{Message: new("The log group can have no more than 50 tags.")}
	}
	return nil
}

// hasTags tells whether tags pass all filters, whose values may begin with ! for
// not, and may begin and end with an asterisk.
func hasTags(tags map[string]string, filters []logs.TagFilter) bool {
	for _, f := range filters {
		v, ok := tags[wire.Value(f.Key)]
		if !ok || len(f.Values) > 0 && !slices.ContainsFunc(f.Values, func(want string) bool { return tagMatches(want, v) }) {
			return false
		}
	}
	return true
}

func tagMatches(want, v string) bool {
	want, not := strings.CutPrefix(want, "!")
	text, before := strings.CutPrefix(want, "*")
	text, behind := strings.CutSuffix(text, "*")
	var is bool
	switch {
	case before && behind:
		is = strings.Contains(v, text)
	case before:
		is = strings.HasSuffix(v, text)
	case behind:
		is = strings.HasPrefix(v, text)
	default:
		is = v == text
	}
	return is != not
}

func (s *Service) tag(ctx context.Context, sc auth.Scope, identifier string, tags map[string]string) error {
	return s.change(ctx, sc, identifier, func(g *groupRow) error {
		if err := checkTags(g.Tags, tags); err != nil {
			return err
		}
		if g.Tags == nil {
			g.Tags = map[string]string{}
		}
		maps.Copy(g.Tags, tags)
		return nil
	})
}

func (s *Service) untag(ctx context.Context, sc auth.Scope, identifier string, keys []string) error {
	return s.change(ctx, sc, identifier, func(g *groupRow) error {
		for _, k := range keys {
			delete(g.Tags, k)
		}
		return nil
	})
}

func (s *Service) tags(ctx context.Context, sc auth.Scope, identifier string) (map[string]string, error) {
	name, _ := groupName(sc, identifier)
	tags := map[string]string{}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		g, err := group(tx, sc, name)
		if err == nil && g.Tags != nil {
			tags = g.Tags
		}
		return err
	})
	return tags, err
}

// TagResource adds tags to a log group, by its ARN.
func (s *Service) TagResource(ctx context.Context, sc auth.Scope, in *logs.TagResourceInput) (*logs.TagResourceOutput, error) {
	return &logs.TagResourceOutput{}, s.tag(ctx, sc, wire.Value(in.ResourceArn), in.Tags)
}

// UntagResource removes tags of a log group, by its ARN.
func (s *Service) UntagResource(ctx context.Context, sc auth.Scope, in *logs.UntagResourceInput) (*logs.UntagResourceOutput, error) {
	return &logs.UntagResourceOutput{}, s.untag(ctx, sc, wire.Value(in.ResourceArn), in.TagKeys)
}

// ListTagsForResource lists a log group's tags, by its ARN.
func (s *Service) ListTagsForResource(ctx context.Context, sc auth.Scope, in *logs.ListTagsForResourceInput) (*logs.ListTagsForResourceOutput, error) {
	tags, err := s.tags(ctx, sc, wire.Value(in.ResourceArn))
	return &logs.ListTagsForResourceOutput{Tags: tags}, err
}

// TagLogGroup is the older form of TagResource.
func (s *Service) TagLogGroup(ctx context.Context, sc auth.Scope, in *logs.TagLogGroupInput) (*logs.TagLogGroupOutput, error) {
	return &logs.TagLogGroupOutput{}, s.tag(ctx, sc, wire.Value(in.LogGroupName), in.Tags)
}

// UntagLogGroup is the older form of UntagResource.
func (s *Service) UntagLogGroup(ctx context.Context, sc auth.Scope, in *logs.UntagLogGroupInput) (*logs.UntagLogGroupOutput, error) {
	return &logs.UntagLogGroupOutput{}, s.untag(ctx, sc, wire.Value(in.LogGroupName), in.Tags)
}

// ListTagsLogGroup is the older form of ListTagsForResource.
func (s *Service) ListTagsLogGroup(ctx context.Context, sc auth.Scope, in *logs.ListTagsLogGroupInput) (*logs.ListTagsLogGroupOutput, error) {
	tags, err := s.tags(ctx, sc, wire.Value(in.LogGroupName))
	return &logs.ListTagsLogGroupOutput{Tags: tags}, err
}
