package ecr

import (
	"fmt"
	"strings"
	"testing"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
)

// at runs a part of a test in another account and region.
func (h *harness) at(account, region string, f func()) {
	was := h.scope
	h.scope = rootOf(account, region)
	f()
	h.scope = was
}

func (h *harness) replicateTo(filters []string, to ...destination) {
	h.t.Helper()
	rule := api.ReplicationRule{}
	for _, d := range to {
		rule.Destinations = append(rule.Destinations, api.ReplicationDestination{Region: &d.Region, RegistryId: &d.Account})
	}
	for _, f := range filters {
		rule.RepositoryFilters = append(rule.RepositoryFilters, api.RepositoryFilter{Filter: &f, FilterType: new("PREFIX_MATCH")})
	}
	do(h, h.PutReplicationConfiguration, &api.PutReplicationConfigurationInput{ReplicationConfiguration: &api.ReplicationConfiguration{Rules: []api.ReplicationRule{rule}}})
}

// copies are the states of an image's copies, once none is under way.
func (h *harness) copies(name, tag string) string {
	h.t.Helper()
	var got []string
	h.until("copies of "+name, func() bool {
		got = nil
		for _, s := range do(h, h.DescribeImageReplicationStatus, &api.DescribeImageReplicationStatusInput{RepositoryName: &name, ImageId: &api.ImageIdentifier{ImageTag: &tag}}).ReplicationStatuses {
			if *s.Status == "IN_PROGRESS" {
				return false
			}
			code := ""
			if s.FailureCode != nil {
				code = " " + *s.FailureCode
			}
			got = append(got, *s.RegistryId+" "+*s.Region+" "+*s.Status+code)
		}
		return true
	})
	return strings.Join(got, ", ")
}

func TestReplication(t *testing.T) {
	h := newHarness(t)
	h.create("prod/app", "dev/app")
	to := destination{account, "us-east-1"}
	refuse(h, h.PutReplicationConfiguration, &api.PutReplicationConfigurationInput{ReplicationConfiguration: &api.ReplicationConfiguration{
		Rules: []api.ReplicationRule{{Destinations: []api.ReplicationDestination{{Region: new(region), RegistryId: new(account)}}}}}}, "InvalidParameterException", "")
	refuse(h, h.PutReplicationConfiguration, &api.PutReplicationConfigurationInput{ReplicationConfiguration: &api.ReplicationConfiguration{Rules: []api.ReplicationRule{{}}}}, "ValidationException", "")
	one := h.image("prod/app", "before", []byte("before"), "before")
	h.replicateTo([]string{"prod"}, to)
	got := do(h, h.DescribeRegistry, &api.DescribeRegistryInput{}).ReplicationConfiguration.Rules[0]
	is(h, "rule", *got.Destinations[0].Region+*got.RepositoryFilters[0].Filter, "us-east-1prod")
	// The destination replicates back: copies are not copied on.
	h.at(account, "us-east-1", func() { h.replicateTo(nil, destination{account, region}) })

	two := h.image("prod/app", "1", []byte("layer"), "v1", "latest")
	h.put("prod/app", h.index(one, two), "list")
	h.image("dev/app", "2", []byte("layer"), "v1")
	is(h, "image", h.copies("prod/app", "v1"), account+" us-east-1 COMPLETE")
	is(h, "index", h.copies("prod/app", "list"), account+" us-east-1 COMPLETE")
	is(h, "of no rule", h.copies("dev/app", "v1"), "")
	is(h, "from before", h.copies("prod/app", "before"), "")
	h.at(account, "us-east-1", func() {
		is(h, "there", h.tagsLeft("prod/app", "ANY"), "- latest list v1")
		is(h, "pull", h.pull(h.scope, "GET", "/v2/"+account+"/us-east-1/prod/app/manifests/v1"), 200)
		is(h, "copies of a copy", h.copies("prod/app", "v1"), "")
		refuse(h, h.DescribeRepositories, &api.DescribeRepositoriesInput{RepositoryNames: []string{"dev/app"}}, "RepositoryNotFoundException", "")
	})
	// A tag that moves is copied too.
	h.image("prod/app", "3", []byte("layer 3"), "latest")
	is(h, "moved", h.copies("prod/app", "latest"), account+" us-east-1 COMPLETE")
	h.at(account, "us-east-1", func() { is(h, "there", h.tagsLeft("prod/app", "ANY"), "- latest list v1") })

	// The destination's tag is another's, for ever.
	h.at(account, "us-east-1", func() {
		do(h, h.PutImageTagMutability, &api.PutImageTagMutabilityInput{RepositoryName: new("prod/app"), ImageTagMutability: new("IMMUTABLE")})
	})
	h.image("prod/app", "4", []byte("layer 4"), "latest")
	is(h, "refused", h.copies("prod/app", "latest"), account+" us-east-1 FAILED ImageTagAlreadyExistsException")
}

// Another account's registry must let the source copy, and make repositories.
func TestReplicationToAnotherAccount(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	h.replicateTo(nil, destination{other, region})
	h.image("app", "1", []byte("layer"), "v1")
	is(h, "without a policy", h.copies("app", "v1"), other+" "+region+" FAILED AccessDeniedException")
	policy := func(actions string) {
		h.at(other, region, func() {
			do(h, h.PutRegistryPolicy, &api.PutRegistryPolicyInput{PolicyText: new(fmt.Sprintf(
				`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::%s:root"},"Action":[%s],"Resource":"arn:aws:ecr:%s:%s:repository/*"}]}`,
				account, actions, region, other))})
		})
	}
	policy(`"ecr:ReplicateImage"`)
	h.image("app", "2", []byte("layer"), "v2")
	is(h, "without the repository", h.copies("app", "v2"), other+" "+region+" FAILED AccessDeniedException")
	policy(`"ecr:ReplicateImage","ecr:CreateRepository"`)
	h.at(other, region, func() {
		do(h, h.CreateRepositoryCreationTemplate, &api.CreateRepositoryCreationTemplateInput{Prefix: new("ROOT"), AppliedFor: []string{"REPLICATION"}, ImageTagMutability: new("IMMUTABLE")})
	})
	h.image("app", "3", []byte("layer"), "v3")
	is(h, "with all", h.copies("app", "v3"), other+" "+region+" COMPLETE")
	h.at(other, region, func() {
		is(h, "there", h.tagsLeft("app", "ANY"), "v3")
		is(h, "by the template", *do(h, h.DescribeRepositories, &api.DescribeRepositoriesInput{}).Repositories[0].ImageTagMutability, "IMMUTABLE")
	})
}

func TestTemplates(t *testing.T) {
	h := newHarness(t)
	role := "arn:aws:iam::" + account + ":role/path/maker"
	create := &api.CreateRepositoryCreationTemplateInput{Prefix: new("prod"), AppliedFor: []string{"CREATE_ON_PUSH"}, Description: new("d"),
		ImageTagMutability: new("IMMUTABLE"), LifecyclePolicy: new(keepTwo), ResourceTags: []api.Tag{{Key: new("a"), Value: new("b")}}}
	refuse(h, h.CreateRepositoryCreationTemplate, create, "ValidationException", "A custom role is required for repository creation templates with resource tags")
	create.CustomRoleArn = &role
	do(h, h.CreateRepositoryCreationTemplate, create)
	refuse(h, h.CreateRepositoryCreationTemplate, create, "TemplateAlreadyExistsException", "")
	refuse(h, h.CreateRepositoryCreationTemplate, &api.CreateRepositoryCreationTemplateInput{Prefix: new("x"), AppliedFor: []string{"REPLICATION"}, LifecyclePolicy: new("{}")}, "InvalidParameterException", "")
	refuse(h, h.CreateRepositoryCreationTemplate, &api.CreateRepositoryCreationTemplateInput{Prefix: new("x"), AppliedFor: []string{"REPLICATION"}, RepositoryPolicy: new("{}")}, "InvalidParameterException", "")
	do(h, h.CreateRepositoryCreationTemplate, &api.CreateRepositoryCreationTemplateInput{Prefix: new("ROOT"), AppliedFor: []string{"PULL_THROUGH_CACHE"}})
	is(h, "templates", len(do(h, h.DescribeRepositoryCreationTemplates, &api.DescribeRepositoryCreationTemplatesInput{}).RepositoryCreationTemplates), 2)
	is(h, "one", *do(h, h.DescribeRepositoryCreationTemplates, &api.DescribeRepositoryCreationTemplatesInput{Prefixes: []string{"prod"}}).RepositoryCreationTemplates[0].Description, "d")

	session := "arn:aws:sts::" + account + ":assumed-role/maker/ecr"
	user := h.scope
	user.Principal = auth.Principal{Kind: auth.User, Account: account, ARN: "arn:aws:iam::" + account + ":user/u", Name: "u"}
	allow := func(actions string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[` + actions + `],"Resource":"*"}]}`
	}
	push := func(name string) int { return h.pull(user, "POST", "/v2/"+name+"/blobs/uploads/") }
	h.identity = map[string]string{user.Principal.ARN: allow(`"ecr:InitiateLayerUpload"`), session: allow(`"ecr:CreateRepository"`)}
	is(h, "caller may not create", push("prod/app"), 403)
	h.identity[user.Principal.ARN] = allow(`"ecr:InitiateLayerUpload","ecr:CreateRepository"`)
	is(h, "role may not tag", push("prod/app"), 403)
	h.identity[session] = allow(`"ecr:CreateRepository","ecr:TagResource"`)
	is(h, "no template", push("dev/app"), 404)
	is(h, "created", push("prod/app"), 202)
	is(h, "again", push("prod/app"), 202)
	r := do(h, h.DescribeRepositories, &api.DescribeRepositoriesInput{RepositoryNames: []string{"prod/app"}}).Repositories[0]
	is(h, "mutability", *r.ImageTagMutability, "IMMUTABLE")
	is(h, "tags", *do(h, h.ListTagsForResource, &api.ListTagsForResourceInput{ResourceArn: r.RepositoryArn}).Tags[0].Value, "b")
	is(h, "lifecycle", *do(h, h.GetLifecyclePolicy, &api.GetLifecyclePolicyInput{RepositoryName: r.RepositoryName}).LifecyclePolicyText, keepTwo)

	out := do(h, h.UpdateRepositoryCreationTemplate, &api.UpdateRepositoryCreationTemplateInput{Prefix: new("prod"), ImageTagMutability: new("MUTABLE"), LifecyclePolicy: new("")}).RepositoryCreationTemplate
	is(h, "updated", *out.ImageTagMutability+fmt.Sprint(out.LifecyclePolicy == nil)+*out.Description, "MUTABLEtrued")
	do(h, h.DeleteRepositoryCreationTemplate, &api.DeleteRepositoryCreationTemplateInput{Prefix: new("prod")})
	refuse(h, h.DeleteRepositoryCreationTemplate, &api.DeleteRepositoryCreationTemplateInput{Prefix: new("prod")}, "TemplateNotFoundException", "")
	refuse(h, h.UpdateRepositoryCreationTemplate, &api.UpdateRepositoryCreationTemplateInput{Prefix: new("prod")}, "TemplateNotFoundException", "")
	is(h, "without the template", push("prod/other"), 404)
}
