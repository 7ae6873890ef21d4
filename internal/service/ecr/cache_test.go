package ecr

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/registry"
)

// outside has the registry's client find an upstream's host elsewhere.
type outside struct {
	hosts map[string]string // address by host
	asked []string
}

// RoundTrip implements http.RoundTripper.
func (o *outside) RoundTrip(r *http.Request) (*http.Response, error) {
	to, ok := o.hosts[r.URL.Host]
	if !ok {
		return http.DefaultTransport.RoundTrip(r) // the cloud itself
	}
	o.asked = append(o.asked, r.URL.Path)
	if to == "" {
		return nil, fmt.Errorf("no route to %s", r.URL.Host)
	}
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host = "http", to
	return http.DefaultTransport.RoundTrip(r)
}

func TestCacheRules(t *testing.T) {
	h := newHarness(t)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) }))
	t.Cleanup(upstream.Close)
	h.Registry.Client = &http.Client{Transport: &outside{hosts: map[string]string{"quay.io": strings.TrimPrefix(upstream.URL, "http://"), "registry.k8s.io": ""}}}
	create := func(prefix, host string) *api.CreatePullThroughCacheRuleInput {
		return &api.CreatePullThroughCacheRuleInput{EcrRepositoryPrefix: &prefix, UpstreamRegistryUrl: &host}
	}
	out := do(h, h.CreatePullThroughCacheRule, create("quay", "quay.io"))
	is(h, "rule", *out.UpstreamRegistry+*out.UpstreamRepositoryPrefix+*out.RegistryId, "quayROOT"+account)
	do(h, h.CreatePullThroughCacheRule, create("k8s", "registry.k8s.io"))
	refuse(h, h.CreatePullThroughCacheRule, create("quay", "quay.io"), "PullThroughCacheRuleAlreadyExistsException", "")
	refuse(h, h.CreatePullThroughCacheRule, create("x", "169.254.169.254"), "UnsupportedUpstreamRegistryException", "")
	refuse(h, h.CreatePullThroughCacheRule, create("x", "quay.io.evil.example"), "UnsupportedUpstreamRegistryException", "")
	refuse(h, h.CreatePullThroughCacheRule, create("x", account+".dkr.ecr."+region+".amazonaws.com"), "ValidationException", "")
	wrong := create("x", "quay.io")
	wrong.UpstreamRegistry = new("k8s")
	refuse(h, h.CreatePullThroughCacheRule, wrong, "UnsupportedUpstreamRegistryException", "")
	secret := create("x", "registry-1.docker.io")
	secret.CredentialArn = new("arn:aws:secretsmanager:eu-west-1:123456789012:secret:ecr-pullthroughcache/x")
	refuse(h, h.CreatePullThroughCacheRule, secret, "SecretNotFoundException", "")
	refuse(h, h.UpdatePullThroughCacheRule, &api.UpdatePullThroughCacheRuleInput{EcrRepositoryPrefix: new("quay"), CredentialArn: secret.CredentialArn}, "SecretNotFoundException", "")
	refuse(h, h.UpdatePullThroughCacheRule, &api.UpdatePullThroughCacheRuleInput{EcrRepositoryPrefix: new("quay"), CustomRoleArn: new("arn:x")}, "ValidationException", "")
	is(h, "rules", len(do(h, h.DescribePullThroughCacheRules, &api.DescribePullThroughCacheRulesInput{}).PullThroughCacheRules), 2)
	refuse(h, h.DescribePullThroughCacheRules, &api.DescribePullThroughCacheRulesInput{EcrRepositoryPrefixes: []string{"none"}}, "PullThroughCacheRuleNotFoundException", "")
	is(h, "quay", *do(h, h.ValidatePullThroughCacheRule, &api.ValidatePullThroughCacheRuleInput{EcrRepositoryPrefix: new("quay")}).IsValid, true)
	bad := do(h, h.ValidatePullThroughCacheRule, &api.ValidatePullThroughCacheRuleInput{EcrRepositoryPrefix: new("k8s")})
	is(h, "k8s", fmt.Sprint(*bad.IsValid, " ", *bad.Failure), "false The upstream registry could not be reached")
	do(h, h.DeletePullThroughCacheRule, &api.DeletePullThroughCacheRuleInput{EcrRepositoryPrefix: new("quay")})
	refuse(h, h.DeletePullThroughCacheRule, &api.DeletePullThroughCacheRuleInput{EcrRepositoryPrefix: new("quay")}, "PullThroughCacheRuleNotFoundException", "")
}

// The rule with the longest prefix decides, and prefixes are of whole names.
func TestUpstream(t *testing.T) {
	h := newHarness(t)
	for prefix, host := range map[string]string{"ROOT": "quay.io", "hub": "registry-1.docker.io", "hub/deep": "ghcr.io"} {
		in := &api.CreatePullThroughCacheRuleInput{EcrRepositoryPrefix: &prefix, UpstreamRegistryUrl: &host}
		if prefix == "hub/deep" {
			in.UpstreamRepositoryPrefix = new("org")
		}
		do(h, h.CreatePullThroughCacheRule, in)
	}
	for name, want := range map[string]string{
		"hub/library/nginx": "https://registry-1.docker.io library/nginx", "hub/deep/app": "https://ghcr.io org/app",
		"hubs/x": "https://quay.io hubs/x", "prometheus/node": "https://quay.io prometheus/node",
	} {
		up, err := h.upstream(t.Context(), h.repo(name))
		h.must(err)
		is(h, name, up.Base+" "+up.Name, want)
	}
	up, err := h.upstream(t.Context(), registry.Repo{Account: other, Region: region, Name: "hub/x"})
	if up != nil || err != nil {
		t.Errorf("of another registry: %v, %v", up, err)
	}
}

// An image of another registry of the cloud is pulled through by who may import,
// as the account that has the rule: the other's policy decides.
func TestPullThroughOfThisCloud(t *testing.T) {
	h := newHarness(t)
	h.at(other, "us-east-1", func() {
		h.create("base/app")
		h.image("base/app", "1", []byte("a layer"), "v1")
	})
	h.at(account, "us-east-1", func() { h.create("mine") })
	do(h, h.CreatePullThroughCacheRule, &api.CreatePullThroughCacheRuleInput{EcrRepositoryPrefix: new("far"), UpstreamRegistryUrl: new(other + ".dkr.ecr.us-east-1.amazonaws.com"), UpstreamRepositoryPrefix: new("base")})
	do(h, h.CreateRepositoryCreationTemplate, &api.CreateRepositoryCreationTemplateInput{Prefix: new("far"), AppliedFor: []string{"PULL_THROUGH_CACHE"}, ImageTagMutability: new("MUTABLE"), Description: new("x"), LifecyclePolicy: new(keepTwo)})
	path := "/v2/far/app/manifests/v1"
	is(h, "without the other's policy", h.pull(h.scope, "GET", path), 404)
	h.at(other, "us-east-1", func() {
		do(h, h.SetRepositoryPolicy, &api.SetRepositoryPolicyInput{RepositoryName: new("base/app"), PolicyText: new(
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + account + `:root"},"Action":["ecr:BatchGetImage","ecr:GetDownloadUrlForLayer"]}]}`)})
	})
	user := h.scope
	user.Principal = auth.Principal{Kind: auth.User, Account: account, ARN: "arn:aws:iam::" + account + ":user/u", Name: "u"}
	allow := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["ecr:BatchGetImage"%s],"Resource":"*"}]}`
	h.identity = map[string]string{user.Principal.ARN: fmt.Sprintf(allow, "")}
	refuse(h, h.DescribeRepositories, &api.DescribeRepositoriesInput{RepositoryNames: []string{"far/app"}}, "RepositoryNotFoundException", "")
	is(h, "may not import", h.pull(user, "GET", path), 403)
	h.identity[user.Principal.ARN] = fmt.Sprintf(allow, `,"ecr:BatchImportUpstreamImage","ecr:CreateRepository","ecr:GetDownloadUrlForLayer"`)
	is(h, "manifest", h.pull(user, "GET", path), 200)
	is(h, "layer", h.pull(user, "GET", "/v2/far/app/blobs/"+registry.Digest([]byte("a layer"))), 200)
	is(h, "kept", h.tagsLeft("far/app", "ANY"), "v1")
	is(h, "by the template", *do(h, h.GetLifecyclePolicy, &api.GetLifecyclePolicyInput{RepositoryName: new("far/app")}).LifecyclePolicyText, keepTwo)
	h.at(other, "us-east-1", func() {
		do(h, h.DeleteRepository, &api.DeleteRepositoryInput{RepositoryName: new("base/app"), Force: new(true)})
	})
	is(h, "without the upstream", h.pull(user, "GET", path), 200)
}
