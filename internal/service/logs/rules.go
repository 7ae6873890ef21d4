package logs

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/op"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// The resource of an action on a group is the group's ARN with ":log-stream:" and
// no stream behind it, so that both of the usual ways to write a policy's
// resource match, log-group:name:* and log-group:name:log-stream:*. Only the
// actions on tags name the bare ARN ("CloudWatch Logs resources and operations").

// groupName returns the name in a log group's name or ARN; false if it is another
// account's or region's.
func groupName(sc auth.Scope, identifier string) (string, bool) {
	if !strings.HasPrefix(identifier, "arn:") {
		return identifier, true
	}
	a, err := arn.Parse(identifier)
	if err != nil || a.Service != "logs" || a.Account != sc.Account || a.Region != sc.Region {
		return "", false
	}
	name, ok := strings.CutPrefix(a.Resource, "log-group:")
	name = strings.TrimSuffix(name, ":*")
	return name, ok && name != "" && !strings.Contains(name, ":")
}

// onGroup is the rule of an action on a group that the input names.
func onGroup[I any](s *Service, action string, name func(*I) *string) op.Rule[I] {
	return func(ctx context.Context, sc auth.Scope, in *I) ([]auth.Access, error) {
		return s.access(ctx, sc, action, wire.Value(name(in)), ":log-stream:", nil)
	}
}

// onStream is the rule of an action on a stream.
func onStream[I any](s *Service, action string, names func(*I) (group, stream *string)) op.Rule[I] {
	return func(ctx context.Context, sc auth.Scope, in *I) ([]auth.Access, error) {
		g, st := names(in)
		return s.access(ctx, sc, action, wire.Value(g), ":log-stream:"+wire.Value(st), nil)
	}
}

// onAll is the rule of an action that has no resource.
func onAll[I any](action string) op.Rule[I] {
	return func(context.Context, auth.Scope, *I) ([]auth.Access, error) {
		return []auth.Access{{Action: action, Resource: "*"}}, nil
	}
}

// mayListGroups is the rule of actions on no group in particular.
func mayListGroups[I any](action string) op.Rule[I] {
	return func(_ context.Context, sc auth.Scope, _ *I) ([]auth.Access, error) {
		return []auth.Access{{Action: action, Resource: arn.New("logs", sc.Region, sc.Account, "log-group::log-stream:").String()}}, nil
	}
}

// access describes an action on a group, which need not exist. suffix is what
// follows the group's ARN.
func (s *Service) access(ctx context.Context, sc auth.Scope, action, identifier, suffix string, context map[string][]string) ([]auth.Access, error) {
	name, ok := groupName(sc, identifier)
	if !ok {
		// A group elsewhere: it does not exist here, but who may not ask for it is
		// not told so.
		return []auth.Access{{Action: action, Resource: identifier + suffix}}, nil
	}
	a := auth.Access{
		Action:   action,
		Resource: arn.New("logs", sc.Region, sc.Account, "log-group:"+name+suffix).String(),
		Context:  context,
	}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		g, err := groups.Get(tx, store.K(sc.Account, sc.Region, name))
		if err == nil && len(g.Tags) > 0 {
			a.Context = maps.Clone(context)
			if a.Context == nil {
				a.Context = map[string][]string{}
			}
			for k, v := range g.Tags {
				a.Context["aws:ResourceTag/"+k] = []string{v}
			}
		} else if err != nil && err != store.ErrNotFound {
			return err
		}
		a.Policy, err = resourcePolicy(tx, sc, name)
		return err
	})
	return []auth.Access{a}, err
}

// resourcePolicy joins the account's resource policies and the group's into one
// document, as all of them apply.
func resourcePolicy(tx *store.Tx, sc auth.Scope, name string) (string, error) {
	var documents []string
	for _, scope := range []string{"", arn.New("logs", sc.Region, sc.Account, "log-group:"+name).String()} {
		for row, err := range policies.Scan(tx, store.Range{Prefix: store.K(sc.Account, sc.Region, scope)}) {
			if err != nil {
				return "", err
			}
			documents = append(documents, row.Document)
		}
	}
	switch len(documents) {
	case 0:
		return "", nil
	case 1:
		return documents[0], nil
	}
	joined := struct {
		Version   string
		Statement []json.RawMessage
	}{Version: "2012-10-17"}
	for _, d := range documents {
		var one struct{ Statement json.RawMessage }
		if json.Unmarshal([]byte(d), &one) != nil {
			continue // cannot be: it was checked when it was put
		}
		var many []json.RawMessage
		if json.Unmarshal(one.Statement, &many) != nil {
			many = []json.RawMessage{one.Statement}
		}
		joined.Statement = append(joined.Statement, many...)
	}
	b, err := json.Marshal(joined)
	return string(b), err
}

// requestTags are the condition keys of the tags that a request brings.
func requestTags(tags map[string]string) map[string][]string {
	if len(tags) == 0 {
		return nil
	}
	context := map[string][]string{"aws:TagKeys": slices.Sorted(maps.Keys(tags))}
	for k, v := range tags {
		context["aws:RequestTag/"+k] = []string{v}
	}
	return context
}

func (s *Service) mayCreateGroup(ctx context.Context, sc auth.Scope, in *logs.CreateLogGroupInput) ([]auth.Access, error) {
	context := requestTags(in.Tags)
	all, err := s.access(ctx, sc, "logs:CreateLogGroup", wire.Value(in.LogGroupName), ":log-stream:", context)
	if err == nil && len(in.Tags) > 0 {
		tag := all[0]
		tag.Action = "logs:TagResource"
		tag.Resource = strings.TrimSuffix(tag.Resource, ":log-stream:")
		all = append(all, tag)
	}
	return all, err
}

func (s *Service) mayTagResource(ctx context.Context, sc auth.Scope, in *logs.TagResourceInput) ([]auth.Access, error) {
	return s.access(ctx, sc, "logs:TagResource", wire.Value(in.ResourceArn), "", requestTags(in.Tags))
}

func (s *Service) mayUntagResource(ctx context.Context, sc auth.Scope, in *logs.UntagResourceInput) ([]auth.Access, error) {
	return s.access(ctx, sc, "logs:UntagResource", wire.Value(in.ResourceArn), "", map[string][]string{"aws:TagKeys": in.TagKeys})
}

func (s *Service) mayListTags(ctx context.Context, sc auth.Scope, in *logs.ListTagsForResourceInput) ([]auth.Access, error) {
	return s.access(ctx, sc, "logs:ListTagsForResource", wire.Value(in.ResourceArn), "", nil)
}

func (s *Service) mayTagGroup(ctx context.Context, sc auth.Scope, in *logs.TagLogGroupInput) ([]auth.Access, error) {
	return s.access(ctx, sc, "logs:TagLogGroup", wire.Value(in.LogGroupName), ":log-stream:", requestTags(in.Tags))
}

func (s *Service) mayUntagGroup(ctx context.Context, sc auth.Scope, in *logs.UntagLogGroupInput) ([]auth.Access, error) {
	return s.access(ctx, sc, "logs:UntagLogGroup", wire.Value(in.LogGroupName), ":log-stream:", map[string][]string{"aws:TagKeys": in.Tags})
}

func (s *Service) mayTail(ctx context.Context, sc auth.Scope, in *logs.StartLiveTailInput) ([]auth.Access, error) {
	var all []auth.Access
	for _, id := range in.LogGroupIdentifiers {
		one, err := s.access(ctx, sc, "logs:StartLiveTail", id, ":log-stream:", nil)
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	return all, nil
}
