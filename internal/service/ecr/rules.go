package ecr

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/op"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// The actions, resources and condition keys are those of "Actions, resources, and
// condition keys for Amazon Elastic Container Registry".

// named is how an input names a repository: by its registry, which is the caller's
// if it is not given, and its name.
type named struct{ registry, name *string }

func (n named) repo(sc auth.Scope) registry.Repo { return repoOf(sc, n.registry, n.name) }

// repoOf returns the repository that an input means.
func repoOf(sc auth.Scope, registryID, name *string) registry.Repo {
	r := registry.Repo{Account: sc.Account, Region: sc.Region, Name: wire.Value(name)}
	if registryID != nil {
		r.Account = *registryID
	}
	return r
}

// onAll is the rule of an action that has no resource.
func onAll[I any](action string) op.Rule[I] {
	return func(context.Context, auth.Scope, *I) ([]auth.Access, error) {
		return []auth.Access{{Action: action, Resource: "*"}}, nil
	}
}

// withRole is the rule of an action that has no resource and gives a role to ECR.
func withRole[I any](action string, role func(*I) *string) op.Rule[I] {
	return func(_ context.Context, _ auth.Scope, in *I) ([]auth.Access, error) {
		needs := []auth.Access{{Action: action, Resource: "*"}}
		if r := wire.Value(role(in)); r != "" {
			needs = append(needs, auth.Access{Action: "iam:PassRole", Resource: r, Context: map[string][]string{"iam:PassedToService": {principal}}})
		}
		return needs, nil
	}
}

// principal is the service's.
const principal = "ecr.amazonaws.com"

// onRepository is the rule of an action on a repository that the input names. It
// need not exist.
func onRepository[I any](s *Service, action string, name func(*I) named) op.Rule[I] {
	return func(ctx context.Context, sc auth.Scope, in *I) ([]auth.Access, error) {
		return s.access(ctx, name(in).repo(sc), action, nil)
	}
}

// access describes an action on a repository, with further condition keys.
func (s *Service) access(ctx context.Context, r registry.Repo, action string, keys map[string][]string) ([]auth.Access, error) {
	var needs []auth.Access
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		row, err := s.Registry.Repository(tx, r)
		if err != nil && registry.CodeOf(err) != registry.RepositoryNotFound {
			return err
		}
		if err != nil {
			row = nil
		}
		needs = registry.Needs(r, row, action)
		for i := range needs {
			maps.Copy(needs[i].Context, keys)
		}
		return s.underPolicy(tx, needs)
	})
	return needs, err
}

// UnderRegistryPolicy adds the policies of the registries to what is asked on
// their repositories.
func (s *Service) UnderRegistryPolicy(ctx context.Context, needs []auth.Access) error {
	return s.Store.View(ctx, func(tx *store.Tx) error { return s.underPolicy(tx, needs) })
}

func (s *Service) underPolicy(tx *store.Tx, needs []auth.Access) error {
	for i := range needs {
		a, err := arn.Parse(needs[i].Resource)
		if err != nil || a.Service != "ecr" {
			continue
		}
		row, err := registryOf(tx, a.Account, a.Region)
		if err != nil {
			return err
		}
		if row.Policy != "" && row.covers(needs[i].Action) {
			needs[i].Policy = join(needs[i].Policy, row.Policy)
		}
	}
	return nil
}

// covers tells whether the registry's policy is about an action: in its first
// version, only about what other registries and upstreams cause. Page: "Private
// registry permissions in Amazon ECR".
func (r *registryRow) covers(action string) bool {
	return r.setting(policyScope) == "V2" || slices.Contains(v1Actions, action)
}

var v1Actions = []string{"ecr:ReplicateImage", "ecr:CreateRepository", "ecr:BatchImportUpstreamImage"}

// join makes one policy of two, as both apply.
func join(a, b string) string {
	if a == "" {
		return b
	}
	joined := struct {
		Version   string
		Statement []json.RawMessage
	}{Version: "2012-10-17"}
	for _, d := range []string{a, b} {
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
	out, err := json.Marshal(joined)
	if err != nil {
		return a
	}
	return string(out)
}

// requestTags are the condition keys of the tags that a request brings.
func requestTags(tags []api.Tag) map[string][]string {
	if len(tags) == 0 {
		return nil
	}
	keys := map[string][]string{}
	for _, t := range tags {
		k := wire.Value(t.Key)
		keys["aws:RequestTag/"+k] = []string{wire.Value(t.Value)}
		keys["aws:TagKeys"] = append(keys["aws:TagKeys"], k)
	}
	return keys
}

func (s *Service) mayCreate(ctx context.Context, sc auth.Scope, in *api.CreateRepositoryInput) ([]auth.Access, error) {
	keys := requestTags(in.Tags)
	needs, err := s.access(ctx, repoOf(sc, in.RegistryId, in.RepositoryName), "ecr:CreateRepository", keys)
	if err == nil && len(in.Tags) > 0 {
		tag := needs[0]
		tag.Action = "ecr:TagResource"
		needs = append(needs, tag)
	}
	return needs, err
}

func (s *Service) mayDescribe(ctx context.Context, sc auth.Scope, in *api.DescribeRepositoriesInput) ([]auth.Access, error) {
	names := in.RepositoryNames
	if len(names) == 0 {
		names = []string{"*"}
	}
	var needs []auth.Access
	for _, n := range names {
		one, err := s.access(ctx, repoOf(sc, in.RegistryId, &n), "ecr:DescribeRepositories", nil)
		if err != nil {
			return nil, err
		}
		needs = append(needs, one...)
	}
	return needs, nil
}

func (s *Service) mayGetScanning(ctx context.Context, sc auth.Scope, in *api.BatchGetRepositoryScanningConfigurationInput) ([]auth.Access, error) {
	var needs []auth.Access
	for _, n := range in.RepositoryNames {
		one, err := s.access(ctx, repoOf(sc, nil, &n), "ecr:BatchGetRepositoryScanningConfiguration", nil)
		if err != nil {
			return nil, err
		}
		needs = append(needs, one...)
	}
	return needs, nil
}

// onARN is the access to a repository by its ARN.
func (s *Service) onARN(ctx context.Context, action string, resource *string, keys map[string][]string) ([]auth.Access, error) {
	r, ok := repoOfARN(wire.Value(resource))
	if !ok {
		return []auth.Access{{Action: action, Resource: wire.Value(resource), Context: keys}}, nil
	}
	return s.access(ctx, r, action, keys)
}

func (s *Service) mayTag(ctx context.Context, _ auth.Scope, in *api.TagResourceInput) ([]auth.Access, error) {
	return s.onARN(ctx, "ecr:TagResource", in.ResourceArn, requestTags(in.Tags))
}

func (s *Service) mayUntag(ctx context.Context, _ auth.Scope, in *api.UntagResourceInput) ([]auth.Access, error) {
	return s.onARN(ctx, "ecr:UntagResource", in.ResourceArn, map[string][]string{"aws:TagKeys": in.TagKeys})
}

func (s *Service) mayListTags(ctx context.Context, _ auth.Scope, in *api.ListTagsForResourceInput) ([]auth.Access, error) {
	return s.onARN(ctx, "ecr:ListTagsForResource", in.ResourceArn, nil)
}

// roleScope is who a role of the account is, when ECR acts with it.
func roleScope(sc auth.Scope, account, role string) (auth.Scope, error) {
	a, err := arn.Parse(role)
	if err != nil || a.Service != "iam" || a.Account != account {
		return sc, errors.New("ecr: not a role of the account: " + role)
	}
	name := a.Resource[lastSlash(a.Resource)+1:]
	p := auth.Principal{
		Kind: auth.AssumedRole, Account: account, Role: role, Name: name,
		ARN: arn.New("sts", "", account, "assumed-role/"+name+"/ecr").String(),
	}
	out := auth.NewScope(p, sc.Region, sc.Request)
	return out, nil
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}
