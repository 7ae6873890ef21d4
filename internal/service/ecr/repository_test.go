package ecr

import (
	"fmt"
	"strings"
	"testing"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
)

func TestRepositories(t *testing.T) {
	h := newHarness(t)
	got := do(h, h.CreateRepository, &api.CreateRepositoryInput{RepositoryName: new("team/app"), Tags: []api.Tag{{Key: new("k"), Value: new("v")}}}).Repository
	is(h, "ARN", *got.RepositoryArn, "arn:aws:ecr:eu-west-1:123456789012:repository/team/app")
	is(h, "mutability", *got.ImageTagMutability, "MUTABLE")
	is(h, "encryption", *got.EncryptionConfiguration.EncryptionType, "AES256")
	is(h, "registry", *got.RegistryId, account)
	if !strings.HasSuffix(*got.RepositoryUri, "/team/app") {
		t.Error(*got.RepositoryUri)
	}
	refuse(h, h.CreateRepository, &api.CreateRepositoryInput{RepositoryName: new("team/app")}, "RepositoryAlreadyExistsException",
		"The repository with name 'team/app' already exists in the registry with id '123456789012'")
	refuse(h, h.CreateRepository, &api.CreateRepositoryInput{RepositoryName: new("keyed"), EncryptionConfiguration: &api.EncryptionConfiguration{EncryptionType: new("KMS")}},
		"KmsException", "")
	refuse(h, h.CreateRepository, &api.CreateRepositoryInput{RepositoryName: new("theirs"), RegistryId: new(other)}, "InvalidParameterException", "")
	refuse(h, h.DescribeRepositories, &api.DescribeRepositoriesInput{RepositoryNames: []string{"none"}}, "RepositoryNotFoundException",
		"The repository with name 'none' does not exist in the registry with id '123456789012'")
	refuse(h, h.DeleteRepository, &api.DeleteRepositoryInput{RepositoryName: new("none")}, "RepositoryNotFoundException", "")

	for i := range 5 {
		h.create(fmt.Sprintf("page/%d", i))
	}
	var names []string
	in := &api.DescribeRepositoriesInput{MaxResults: new(int32(4))}
	for pages := 1; ; pages++ {
		out := do(h, h.DescribeRepositories, in)
		for _, r := range out.Repositories {
			names = append(names, *r.RepositoryName)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			is(h, "pages", pages, 2)
			break
		}
	}
	is(h, "names", strings.Join(names, " "), "page/0 page/1 page/2 page/3 page/4 team/app")
	refuse(h, h.DescribeRepositories, &api.DescribeRepositoriesInput{NextToken: new("%%%")}, "InvalidParameterException", "Invalid parameter at 'nextToken' failed to satisfy constraint: 'Invalid token'")

	h.image("team/app", "1", []byte("layer"), "v1")
	refuse(h, h.DeleteRepository, &api.DeleteRepositoryInput{RepositoryName: new("team/app")}, "RepositoryNotEmptyException",
		"The repository with name 'team/app' in registry with id '123456789012' cannot be deleted because it still contains images")
	do(h, h.DeleteRepository, &api.DeleteRepositoryInput{RepositoryName: new("team/app"), Force: new(true)})
	do(h, h.DeleteRepository, &api.DeleteRepositoryInput{RepositoryName: new("page/0")})
	is(h, "left", len(do(h, h.DescribeRepositories, &api.DescribeRepositoriesInput{}).Repositories), 4)
}

func TestTagMutability(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	filter := func(texts ...string) (out []api.ImageTagMutabilityExclusionFilter) {
		for _, s := range texts {
			out = append(out, api.ImageTagMutabilityExclusionFilter{Filter: &s, FilterType: new("WILDCARD")})
		}
		return out
	}
	put := func(kind string, filters ...string) *api.PutImageTagMutabilityInput {
		return &api.PutImageTagMutabilityInput{RepositoryName: new("app"), ImageTagMutability: &kind, ImageTagMutabilityExclusionFilters: filter(filters...)}
	}
	refuse(h, h.PutImageTagMutability, put("IMMUTABLE_WITH_EXCLUSION"), "InvalidParameterException",
		"Invalid parameter at 'imageTagMutabilityExclusionFilters' failed to satisfy constraint: 'ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as IMMUTABLE_WITH_EXCLUSION'")
	refuse(h, h.PutImageTagMutability, put("IMMUTABLE", "a*"), "InvalidParameterException", "")
	refuse(h, h.PutImageTagMutability, put("IMMUTABLE_WITH_EXCLUSION", "a*b*c*"), "InvalidParameterException", "")

	one, two := h.manifest("app", "1", []byte("layer")), h.manifest("app", "2", []byte("layer"))
	for _, tag := range []string{"v1", "latest"} {
		h.put("app", one, tag)
	}
	try := func(tag string) error {
		_, err := told(h.PutImage)(t.Context(), h.scope, &api.PutImageInput{RepositoryName: new("app"), ImageManifest: &two, ImageTag: &tag})
		return err
	}
	for _, c := range []struct {
		in       *api.PutImageTagMutabilityInput
		v1, last bool
	}{
		{put("IMMUTABLE"), false, false},
		{put("IMMUTABLE_WITH_EXCLUSION", "lat*"), false, true},
		{put("MUTABLE_WITH_EXCLUSION", "v*"), false, true},
		{put("MUTABLE"), true, true},
	} {
		do(h, h.PutImageTagMutability, put("MUTABLE"))
		for _, tag := range []string{"v1", "latest"} {
			if m := do(h, h.BatchGetImage, &api.BatchGetImageInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{{ImageTag: &tag}}}); *m.Images[0].ImageManifest != one {
				h.put("app", one, tag)
			}
		}
		out := do(h, h.PutImageTagMutability, c.in)
		is(h, "filters", len(out.ImageTagMutabilityExclusionFilters), len(c.in.ImageTagMutabilityExclusionFilters))
		is(h, *c.in.ImageTagMutability+" v1", try("v1") == nil, c.v1)
		is(h, *c.in.ImageTagMutability+" latest", try("latest") == nil, c.last)
	}
	do(h, h.PutImageTagMutability, put("IMMUTABLE"))
	refuse(h, h.PutImage, &api.PutImageInput{RepositoryName: new("app"), ImageManifest: &one, ImageTag: new("v1")}, "ImageTagAlreadyExistsException",
		"The image tag 'v1' already exists in the 'app' repository and cannot be overwritten because the tag is immutable.")
}

func TestTags(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	resource := new("arn:aws:ecr:eu-west-1:123456789012:repository/app")
	tag := func(k, v string) []api.Tag { return []api.Tag{{Key: &k, Value: &v}} }
	do(h, h.TagResource, &api.TagResourceInput{ResourceArn: resource, Tags: tag("a", "1")})
	do(h, h.TagResource, &api.TagResourceInput{ResourceArn: resource, Tags: append(tag("b", "2"), tag("a", "3")...)})
	list := func() string {
		var s []string
		for _, t := range do(h, h.ListTagsForResource, &api.ListTagsForResourceInput{ResourceArn: resource}).Tags {
			s = append(s, *t.Key+"="+*t.Value)
		}
		return strings.Join(s, " ")
	}
	is(h, "tags", list(), "a=3 b=2")
	do(h, h.UntagResource, &api.UntagResourceInput{ResourceArn: resource, TagKeys: []string{"a", "none"}})
	is(h, "tags", list(), "b=2")
	refuse(h, h.TagResource, &api.TagResourceInput{ResourceArn: resource, Tags: tag("aws:x", "")}, "InvalidTagParameterException", "")
	refuse(h, h.TagResource, &api.TagResourceInput{ResourceArn: resource, Tags: append(tag("x", ""), tag("x", "")...)}, "InvalidTagParameterException", "")
	var many []api.Tag
	for i := range 50 {
		many = append(many, tag(fmt.Sprint("k", i), "")...)
	}
	refuse(h, h.TagResource, &api.TagResourceInput{ResourceArn: resource, Tags: many}, "TooManyTagsException", "")
	refuse(h, h.TagResource, &api.TagResourceInput{ResourceArn: new("arn:aws:s3:::b"), Tags: many[:1]}, "InvalidParameterException",
		"Invalid parameter at 'resourceArn' failed to satisfy constraint: 'Invalid ARN'")
	refuse(h, h.ListTagsForResource, &api.ListTagsForResourceInput{ResourceArn: new("arn:aws:ecr:eu-west-1:123456789012:repository/none")}, "RepositoryNotFoundException", "")
}

func TestPolicies(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	allow := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + other + `"},"Action":"ecr:BatchGetImage"}]}`
	refuse(h, h.GetRepositoryPolicy, &api.GetRepositoryPolicyInput{RepositoryName: new("app")}, "RepositoryPolicyNotFoundException",
		"Repository policy does not exist for the repository with name 'app' in the registry with id '123456789012'")
	for _, bad := range []string{"{}", "text", strings.Replace(allow, `"Action"`, `"Resource":"*","Action"`, 1), strings.Replace(allow, `"Principal":{"AWS":"`+other+`"},`, "", 1)} {
		refuse(h, h.SetRepositoryPolicy, &api.SetRepositoryPolicyInput{RepositoryName: new("app"), PolicyText: &bad}, "InvalidParameterException",
			"Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided'")
	}
	lockout := `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"ecr:*"}]}`
	refuse(h, h.SetRepositoryPolicy, &api.SetRepositoryPolicyInput{RepositoryName: new("app"), PolicyText: &lockout}, "InvalidParameterException", "")
	do(h, h.SetRepositoryPolicy, &api.SetRepositoryPolicyInput{RepositoryName: new("app"), PolicyText: &lockout, Force: new(true)})
	do(h, h.SetRepositoryPolicy, &api.SetRepositoryPolicyInput{RepositoryName: new("app"), PolicyText: &allow})
	is(h, "policy", *do(h, h.GetRepositoryPolicy, &api.GetRepositoryPolicyInput{RepositoryName: new("app")}).PolicyText, allow)

	// The other account's root may pull now, and not push.
	h.image("app", "1", []byte("layer"), "v1")
	is(h, "pull", h.pull(rootOf(other, region), "GET", "/v2/"+account+"/"+region+"/app/manifests/v1"), 200)
	is(h, "push", h.pull(rootOf(other, region), "POST", "/v2/"+account+"/"+region+"/app/blobs/uploads/"), 403)
	is(h, "deleted", *do(h, h.DeleteRepositoryPolicy, &api.DeleteRepositoryPolicyInput{RepositoryName: new("app")}).PolicyText, allow)
	is(h, "pull", h.pull(rootOf(other, region), "GET", "/v2/"+account+"/"+region+"/app/manifests/v1"), 403)
	refuse(h, h.DeleteRepositoryPolicy, &api.DeleteRepositoryPolicyInput{RepositoryName: new("app")}, "RepositoryPolicyNotFoundException", "")
}

// The registry's policy is about all actions in its second version, and about what
// other registries cause in its first.
func TestRegistryPolicy(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	h.image("app", "1", []byte("layer"), "v1")
	refuse(h, h.GetRegistryPolicy, &api.GetRegistryPolicyInput{}, "RegistryPolicyNotFoundException", "Registry policy does not exist in the registry with id '123456789012'")
	statement := func(action string) *string {
		return new(`{"Version":"2012-10-17","Statement":[{"Sid":"x","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + other + `:root"},"Action":["` + action + `"],"Resource":"arn:aws:ecr:eu-west-1:` + account + `:repository/*"}]}`)
	}
	refuse(h, h.PutRegistryPolicy, &api.PutRegistryPolicyInput{PolicyText: statement("s3:GetObject")}, "InvalidParameterException",
		"Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid registry policy provided'")
	do(h, h.PutRegistryPolicy, &api.PutRegistryPolicyInput{PolicyText: statement("ecr:BatchGetImage")})
	pull := func() int {
		return h.pull(rootOf(other, region), "GET", "/v2/"+account+"/"+region+"/app/manifests/v1")
	}
	is(h, "V2", pull(), 200)
	do(h, h.PutAccountSetting, &api.PutAccountSettingInput{Name: new("REGISTRY_POLICY_SCOPE"), Value: new("V1")})
	is(h, "V1", pull(), 403)
	refuse(h, h.PutRegistryPolicy, &api.PutRegistryPolicyInput{PolicyText: statement("ecr:BatchGetImage")}, "InvalidParameterException", "")
	do(h, h.PutRegistryPolicy, &api.PutRegistryPolicyInput{PolicyText: statement("ecr:ReplicateImage")})
	is(h, "policy", *do(h, h.GetRegistryPolicy, &api.GetRegistryPolicyInput{}).PolicyText, *statement("ecr:ReplicateImage"))
	do(h, h.DeleteRegistryPolicy, &api.DeleteRegistryPolicyInput{})
	refuse(h, h.DeleteRegistryPolicy, &api.DeleteRegistryPolicyInput{}, "RegistryPolicyNotFoundException", "")

	needs, err := h.mayCreate(t.Context(), h.scope, &api.CreateRepositoryInput{RepositoryName: new("x"), Tags: []api.Tag{{Key: new("a"), Value: new("b")}}})
	h.must(err)
	is(h, "needs", fmt.Sprint(needs[0].Action, " ", needs[1].Action, " ", needs[0].Context["aws:RequestTag/a"]), "ecr:CreateRepository ecr:TagResource [b]")
}

func TestAccountSettings(t *testing.T) {
	h := newHarness(t)
	get := func(name string) string {
		return *do(h, h.GetAccountSetting, &api.GetAccountSettingInput{Name: &name}).Value
	}
	is(h, "mounting", get("BLOB_MOUNTING"), "ENABLED")
	is(h, "scan", get("BASIC_SCAN_TYPE_VERSION"), "AWS_NATIVE")
	refuse(h, h.GetAccountSetting, &api.GetAccountSettingInput{Name: new("X")}, "InvalidParameterException", "")
	refuse(h, h.PutAccountSetting, &api.PutAccountSettingInput{Name: new("BASIC_SCAN_TYPE_VERSION"), Value: new("CLAIR")}, "InvalidParameterException", "")

	h.create("a", "b")
	d := h.layer("a", []byte("a layer"))
	mount := "/v2/b/blobs/uploads/?mount=" + d.Digest + "&from=a"
	do(h, h.PutAccountSetting, &api.PutAccountSettingInput{Name: new("BLOB_MOUNTING"), Value: new("DISABLED")})
	is(h, "mounting", get("BLOB_MOUNTING"), "DISABLED")
	is(h, "mount", h.pull(h.scope, "POST", mount), 202)
	do(h, h.PutAccountSetting, &api.PutAccountSettingInput{Name: new("BLOB_MOUNTING"), Value: new("ENABLED")})
	is(h, "mount", h.pull(h.scope, "POST", mount), 201)
}

func TestPullTimeExclusions(t *testing.T) {
	h := newHarness(t)
	h.create("app")
	h.image("app", "1", []byte("layer"), "v1")
	role := "arn:aws:iam::" + account + ":role/scanner"
	do(h, h.RegisterPullTimeUpdateExclusion, &api.RegisterPullTimeUpdateExclusionInput{PrincipalArn: &role})
	refuse(h, h.RegisterPullTimeUpdateExclusion, &api.RegisterPullTimeUpdateExclusionInput{PrincipalArn: &role}, "ExclusionAlreadyExistsException", "")
	is(h, "list", do(h, h.ListPullTimeUpdateExclusions, &api.ListPullTimeUpdateExclusionsInput{}).PullTimeUpdateExclusions[0], role)

	session := h.scope
	session.Principal = auth.Principal{Kind: auth.AssumedRole, Account: account, Role: role, ARN: "arn:aws:sts::" + account + ":assumed-role/scanner/x"}
	get := &api.BatchGetImageInput{RepositoryName: new("app"), ImageIds: []api.ImageIdentifier{{ImageTag: new("v1")}}}
	_, err := h.BatchGetImage(t.Context(), session, get)
	h.must(err)
	pulled := func() bool {
		return do(h, h.DescribeImages, &api.DescribeImagesInput{RepositoryName: new("app")}).ImageDetails[0].LastRecordedPullTime != nil
	}
	is(h, "counted", pulled(), false)
	do(h, h.DeregisterPullTimeUpdateExclusion, &api.DeregisterPullTimeUpdateExclusionInput{PrincipalArn: &role})
	refuse(h, h.DeregisterPullTimeUpdateExclusion, &api.DeregisterPullTimeUpdateExclusionInput{PrincipalArn: &role}, "ExclusionNotFoundException", "")
	_, err = h.BatchGetImage(t.Context(), session, get)
	h.must(err)
	is(h, "counted", pulled(), true)
}

func TestSigning(t *testing.T) {
	h := newHarness(t)
	refuse(h, h.GetSigningConfiguration, &api.GetSigningConfigurationInput{}, "SigningConfigurationNotFoundException", "")
	refuse(h, h.PutSigningConfiguration, &api.PutSigningConfigurationInput{SigningConfiguration: &api.SigningConfiguration{Rules: []api.SigningRule{{SigningProfileArn: new("arn:x")}}}}, "ValidationException", "")
	do(h, h.PutSigningConfiguration, &api.PutSigningConfigurationInput{SigningConfiguration: &api.SigningConfiguration{Rules: []api.SigningRule{}}})
	is(h, "rules", len(do(h, h.GetSigningConfiguration, &api.GetSigningConfigurationInput{}).SigningConfiguration.Rules), 0)
	do(h, h.DeleteSigningConfiguration, &api.DeleteSigningConfigurationInput{})
	refuse(h, h.DeleteSigningConfiguration, &api.DeleteSigningConfigurationInput{}, "SigningConfigurationNotFoundException", "")
	h.create("app")
	h.image("app", "1", []byte("layer"), "v1")
	out := do(h, h.DescribeImageSigningStatus, &api.DescribeImageSigningStatusInput{RepositoryName: new("app"), ImageId: &api.ImageIdentifier{ImageTag: new("v1")}})
	is(h, "statuses", len(out.SigningStatuses), 0)
	refuse(h, h.DescribeImageSigningStatus, &api.DescribeImageSigningStatusInput{RepositoryName: new("app"), ImageId: &api.ImageIdentifier{ImageTag: new("v2")}}, "ImageNotFoundException",
		"The image with imageId {imageDigest:'null', imageTag:'v2'} does not exist within the repository with name 'app' in the registry with id '123456789012'")
}
