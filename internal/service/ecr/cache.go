package ecr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// maxCaches is how many pull-through cache rules a registry may have ("Amazon ECR
// service quotas").
const maxCaches = 50

// upstreams are the registries that a rule can name, by the host of each ("Sync an
// upstream registry with an Amazon ECR private registry").
var upstreams = []struct {
	name string
	host *regexp.Regexp
}{
	{api.UpstreamRegistryEcrPublic, regexp.MustCompile(`^public\.ecr\.aws$`)},
	{api.UpstreamRegistryQuay, regexp.MustCompile(`^quay\.io$`)},
	{api.UpstreamRegistryK8s, regexp.MustCompile(`^registry\.k8s\.io$`)},
	{api.UpstreamRegistryDockerHub, regexp.MustCompile(`^registry-1\.docker\.io$`)},
	{api.UpstreamRegistryGithubContainerRegistry, regexp.MustCompile(`^ghcr\.io$`)},
	{api.UpstreamRegistryAzureContainerRegistry, regexp.MustCompile(`^[a-z0-9]+\.azurecr\.io$`)},
	{api.UpstreamRegistryGitlabContainerRegistry, regexp.MustCompile(`^registry\.gitlab\.com$`)},
	{api.UpstreamRegistryChainguard, regexp.MustCompile(`^cgr\.dev$`)},
	{api.UpstreamRegistryEcr, ecrHost},
}

// ecrHost is the host of a registry of this cloud.
var ecrHost = regexp.MustCompile(`^([0-9]{12})\.dkr[.-]ecr\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.(?:amazonaws\.com|on\.aws|localhost)(?::[0-9]+)?$`)

// CreatePullThroughCacheRule has the images of an upstream registry appear under a
// prefix.
func (s *Service) CreatePullThroughCacheRule(ctx context.Context, sc auth.Scope, in *api.CreatePullThroughCacheRuleInput) (*api.CreatePullThroughCacheRuleOutput, error) {
	if err := own(sc, in.RegistryId); err != nil {
		return nil, err
	}
	if in.CredentialArn != nil {
		return nil, noSecret(*in.CredentialArn)
	}
	now := s.Clock.Now()
	row := &cacheRow{
		Account: sc.Account, Region: sc.Region, Prefix: wire.Value(in.EcrRepositoryPrefix), URL: wire.Value(in.UpstreamRegistryUrl),
		UpstreamPrefix: root, Role: wire.Value(in.CustomRoleArn), Created: now, Updated: now,
	}
	if in.UpstreamRepositoryPrefix != nil {
		row.UpstreamPrefix = *in.UpstreamRepositoryPrefix
	}
	for _, u := range upstreams {
		if u.host.MatchString(row.URL) {
			row.Registry = u.name
		}
	}
	if row.Registry == "" || in.UpstreamRegistry != nil && *in.UpstreamRegistry != row.Registry {
		return nil, &api.UnsupportedUpstreamRegistryException{Message: new("The specified upstream registry '" + row.URL + "' isn't supported")}
	}
	if row.Role != "" && row.Registry != api.UpstreamRegistryEcr {
		return nil, refused("A custom role can be specified for the upstream registry 'ecr' only")
	}
	if m := ecrHost.FindStringSubmatch(row.URL); m != nil && m[1] == sc.Account && m[2] == sc.Region {
		return nil, refused("The upstream registry cannot be the registry itself")
	}
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		n := 0
		for _, err := range caches.Scan(tx, store.Range{Prefix: store.K(sc.Account, sc.Region)}) {
			if err != nil {
				return err
			}
			n++
		}
		if n >= maxCaches {
			return &api.LimitExceededException{Message: new(fmt.Sprintf("The registry has the maximum of %d pull through cache rules", maxCaches))}
		}
		return caches.Insert(tx, row)
	})
	if errors.Is(err, store.ErrExists) {
		return nil, &api.PullThroughCacheRuleAlreadyExistsException{Message: new("A pull through cache rule with prefix '" + row.Prefix + "' already exists in the registry with id '" + sc.Account + "'")}
	}
	if err != nil {
		return nil, err
	}
	d := row.describe()
	return &api.CreatePullThroughCacheRuleOutput{
		EcrRepositoryPrefix: d.EcrRepositoryPrefix, UpstreamRegistryUrl: d.UpstreamRegistryUrl, CreatedAt: d.CreatedAt, RegistryId: d.RegistryId,
		UpstreamRegistry: d.UpstreamRegistry, CustomRoleArn: d.CustomRoleArn, UpstreamRepositoryPrefix: d.UpstreamRepositoryPrefix,
	}, nil
}

// noSecret refuses credentials, as there is nothing that keeps them.
func noSecret(arn string) error {
	return &api.SecretNotFoundException{Message: new("The ARN of the secret specified in the pull through cache rule was not found: '" + arn + "'. There is no AWS Secrets Manager here.")}
}

func (r *cacheRow) describe() api.PullThroughCacheRule {
	out := api.PullThroughCacheRule{
		EcrRepositoryPrefix: &r.Prefix, UpstreamRegistryUrl: &r.URL, CreatedAt: &r.Created, UpdatedAt: &r.Updated, RegistryId: &r.Account,
		UpstreamRegistry: &r.Registry, UpstreamRepositoryPrefix: &r.UpstreamPrefix,
	}
	if r.Role != "" {
		out.CustomRoleArn = &r.Role
	}
	return out
}

// cache returns a rule by its prefix.
func cache(tx *store.Tx, sc auth.Scope, prefix string) (*cacheRow, error) {
	row, err := caches.Get(tx, store.K(sc.Account, sc.Region, prefix))
	if errors.Is(err, store.ErrNotFound) {
		return nil, &api.PullThroughCacheRuleNotFoundException{Message: new("The pull through cache rule with prefix '" + prefix + "' does not exist in the registry with id '" + sc.Account + "'")}
	}
	return row, err
}

// DescribePullThroughCacheRules lists the rules with the prefixes given, or all.
func (s *Service) DescribePullThroughCacheRules(ctx context.Context, sc auth.Scope, in *api.DescribePullThroughCacheRulesInput) (*api.DescribePullThroughCacheRulesOutput, error) {
	if err := own(sc, in.RegistryId); err != nil {
		return nil, err
	}
	last, err := readToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	n := limit(in.MaxResults, 100)
	out := &api.DescribePullThroughCacheRulesOutput{PullThroughCacheRules: []api.PullThroughCacheRule{}}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		for _, p := range in.EcrRepositoryPrefixes {
			row, err := cache(tx, sc, p)
			if err != nil {
				return err
			}
			out.PullThroughCacheRules = append(out.PullThroughCacheRules, row.describe())
		}
		if len(in.EcrRepositoryPrefixes) > 0 {
			return nil
		}
		r := store.Range{Prefix: store.K(sc.Account, sc.Region)}
		if last != "" {
			r.After = store.K(sc.Account, sc.Region, last)
		}
		for row, err := range caches.Scan(tx, r) {
			if err != nil {
				return err
			}
			if len(out.PullThroughCacheRules) == n {
				out.NextToken = writeToken(*out.PullThroughCacheRules[n-1].EcrRepositoryPrefix)
				return nil
			}
			out.PullThroughCacheRules = append(out.PullThroughCacheRules, row.describe())
		}
		return nil
	})
}

// UpdatePullThroughCacheRule gives a rule another role.
func (s *Service) UpdatePullThroughCacheRule(ctx context.Context, sc auth.Scope, in *api.UpdatePullThroughCacheRuleInput) (*api.UpdatePullThroughCacheRuleOutput, error) {
	if err := own(sc, in.RegistryId); err != nil {
		return nil, err
	}
	if in.CredentialArn != nil {
		return nil, noSecret(*in.CredentialArn)
	}
	var d api.PullThroughCacheRule
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := cache(tx, sc, wire.Value(in.EcrRepositoryPrefix))
		if err != nil {
			return err
		}
		if in.CustomRoleArn != nil && row.Registry != api.UpstreamRegistryEcr {
			return refused("A custom role can be specified for the upstream registry 'ecr' only")
		}
		if in.CustomRoleArn != nil {
			row.Role = *in.CustomRoleArn
		}
		row.Updated = s.Clock.Now()
		d = row.describe()
		return caches.Put(tx, row)
	})
	if err != nil {
		return nil, err
	}
	return &api.UpdatePullThroughCacheRuleOutput{
		EcrRepositoryPrefix: d.EcrRepositoryPrefix, RegistryId: d.RegistryId, UpdatedAt: d.UpdatedAt, CustomRoleArn: d.CustomRoleArn, UpstreamRepositoryPrefix: d.UpstreamRepositoryPrefix,
	}, nil
}

// DeletePullThroughCacheRule removes a rule. What was pulled through it stays.
func (s *Service) DeletePullThroughCacheRule(ctx context.Context, sc auth.Scope, in *api.DeletePullThroughCacheRuleInput) (*api.DeletePullThroughCacheRuleOutput, error) {
	if err := own(sc, in.RegistryId); err != nil {
		return nil, err
	}
	var d api.PullThroughCacheRule
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := cache(tx, sc, wire.Value(in.EcrRepositoryPrefix))
		if err != nil {
			return err
		}
		d = row.describe()
		return caches.Delete(tx, store.K(row.Account, row.Region, row.Prefix))
	})
	if err != nil {
		return nil, err
	}
	return &api.DeletePullThroughCacheRuleOutput{
		EcrRepositoryPrefix: d.EcrRepositoryPrefix, UpstreamRegistryUrl: d.UpstreamRegistryUrl, CreatedAt: d.CreatedAt, RegistryId: d.RegistryId,
		CustomRoleArn: d.CustomRoleArn, UpstreamRepositoryPrefix: d.UpstreamRepositoryPrefix,
	}, nil
}

// probeTime is how long an upstream has to answer when a rule is validated.
const probeTime = 10 * time.Second

// ValidatePullThroughCacheRule asks a rule's upstream whether it is there.
func (s *Service) ValidatePullThroughCacheRule(ctx context.Context, sc auth.Scope, in *api.ValidatePullThroughCacheRuleInput) (*api.ValidatePullThroughCacheRuleOutput, error) {
	if err := own(sc, in.RegistryId); err != nil {
		return nil, err
	}
	var row *cacheRow
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		row, err = cache(tx, sc, wire.Value(in.EcrRepositoryPrefix))
		return err
	})
	if err != nil {
		return nil, err
	}
	d := row.describe()
	out := &api.ValidatePullThroughCacheRuleOutput{
		EcrRepositoryPrefix: d.EcrRepositoryPrefix, RegistryId: d.RegistryId, UpstreamRegistryUrl: d.UpstreamRegistryUrl,
		CustomRoleArn: d.CustomRoleArn, UpstreamRepositoryPrefix: d.UpstreamRepositoryPrefix, IsValid: new(true),
	}
	if failure := s.probe(ctx, row); failure != "" {
		*out.IsValid, out.Failure = false, &failure
	}
	return out, nil
}

// probe tells what is wrong with an upstream.
func (s *Service) probe(ctx context.Context, row *cacheRow) string {
	if row.Registry == api.UpstreamRegistryEcr {
		return "" // this cloud's own
	}
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+row.URL+"/v2/", nil)
	if err != nil {
		return "The upstream registry's URL is invalid"
	}
	resp, err := s.Registry.Client.Do(req)
	if err != nil {
		s.Log.Info("ecr: upstream", "registry", row.URL, "error", err)
		return "The upstream registry could not be reached"
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		return "The upstream registry answers " + resp.Status
	}
	return ""
}

// upstream returns where a repository's images come from (registry.Hooks): the
// rule with the longest prefix decides.
func (s *Service) upstream(ctx context.Context, id registry.Repo) (*registry.Upstream, error) {
	var best *cacheRow
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		best = nil
		for row, err := range caches.Scan(tx, store.Range{Prefix: store.K(id.Account, id.Region)}) {
			if err != nil {
				return err
			}
			if under(row.Prefix, id.Name) && (best == nil || best.Prefix == root || row.Prefix != root && len(row.Prefix) > len(best.Prefix)) {
				best = row
			}
		}
		return nil
	})
	if err != nil || best == nil {
		return nil, err
	}
	name := id.Name
	if best.Prefix != root {
		name = strings.TrimPrefix(name, strings.TrimSuffix(best.Prefix, "/")+"/")
	}
	if best.UpstreamPrefix != root {
		name = strings.TrimSuffix(best.UpstreamPrefix, "/") + "/" + name
	}
	m := ecrHost.FindStringSubmatch(best.URL)
	if m == nil {
		return &registry.Upstream{Base: "https://" + best.URL, Name: name}, nil
	}
	return s.sibling(ctx, best, registry.Repo{Account: m[1], Region: m[2], Name: name})
}

// sibling is an upstream in this cloud. It is asked as the rule's role, or as the
// account that has the rule; the upstream's policies decide.
func (s *Service) sibling(ctx context.Context, row *cacheRow, to registry.Repo) (*registry.Upstream, error) {
	p := auth.Principal{Kind: auth.Root, Account: row.Account, ARN: "arn:aws:iam::" + row.Account + ":root", ID: row.Account}
	if row.Role != "" {
		as, err := roleScope(auth.NewScope(p, to.Region, auth.Request{ID: ids.UUID(), Time: s.Clock.Now()}), row.Account, row.Role)
		if err != nil {
			return nil, registry.Refuse(err.Error())
		}
		p = as.Principal
	}
	password, _, err := s.Registry.Tokens.Mint(ctx, p, to.Region)
	if err != nil {
		return nil, err
	}
	return &registry.Upstream{
		Base: s.Endpoint, Name: to.Account + "/" + to.Region + "/" + to.Name, User: tokenUser, Password: password,
	}, nil
}

// mayImport says whether a caller may have an image of an upstream stored
// (registry.Hooks).
func (s *Service) mayImport(ctx context.Context, sc auth.Scope, id registry.Repo) error {
	row, err := s.repository(ctx, id)
	if err != nil {
		return err
	}
	actions := []string{"ecr:BatchImportUpstreamImage"}
	if row == nil {
		actions = append(actions, "ecr:CreateRepository")
	}
	return s.Registry.Authorise(ctx, sc, registry.Needs(id, row, actions...))
}

// fetched makes the repository of what an upstream has given (registry.Hooks).
func (s *Service) fetched(ctx context.Context, sc auth.Scope, id registry.Repo) error {
	row, err := s.repository(ctx, id)
	if err != nil || row != nil {
		return err
	}
	return s.createFor(ctx, sc, id, api.RCTAppliedForPullThroughCache)
}

// repository returns a repository's row; nil if there is none.
func (s *Service) repository(ctx context.Context, id registry.Repo) (row *registry.Repository, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		row, err = s.Registry.Repository(tx, id)
		return err
	})
	if registry.CodeOf(err) == registry.RepositoryNotFound {
		return nil, nil
	}
	return row, err
}
