package iam

import (
	"fmt"
	"strings"
	"testing"
	"time"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/store"
)

// The quotas, each filled to the brim and then exceeded. Page: "IAM and AWS STS
// quotas".
func TestQuotas(t *testing.T) {
	b := newBench(t)
	must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: ptr("u")}))(t)
	must(b.CreateRole(b.ctx, b.root, &api.CreateRoleInput{RoleName: ptr("r"), AssumeRolePolicyDocument: ptr(lambdaMay)}))(t)
	filler := func(n int) *string { // a policy of n characters that count
		head, tail := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:`, `","Resource":"*"}]}`
		return ptr(head + strings.Repeat("x", n-len(head)-len(tail)) + tail + strings.Repeat(" \n", 500))
	}
	attach := func(i int) error {
		name := fmt.Sprintf("p%d", i)
		if _, err := b.CreatePolicy(b.ctx, b.root, &api.CreatePolicyInput{PolicyName: &name, PolicyDocument: ptr(allowS3)}); err != nil {
			return err
		}
		_, err := b.AttachRolePolicy(b.ctx, b.root, &api.AttachRolePolicyInput{RoleName: ptr("r"), PolicyArn: ptr("arn:aws:iam::" + testAccount + ":policy/" + name)})
		return err
	}
	join := func(i int) error {
		name := fmt.Sprintf("g%d", i)
		if _, err := b.CreateGroup(b.ctx, b.root, &api.CreateGroupInput{GroupName: &name}); err != nil {
			return err
		}
		_, err := b.AddUserToGroup(b.ctx, b.root, &api.AddUserToGroupInput{GroupName: &name, UserName: ptr("u")})
		return err
	}
	tag := func(i int) error {
		_, err := b.TagUser(b.ctx, b.root, &api.TagUserInput{UserName: ptr("u"), Tags: []api.Tag{{Key: ptr(fmt.Sprint(i)), Value: ptr("")}}})
		return err
	}
	inline := func(i int) error {
		_, err := b.PutRolePolicy(b.ctx, b.root, &api.PutRolePolicyInput{RoleName: ptr("r"), PolicyName: ptr(fmt.Sprint(i)), PolicyDocument: filler(1024)})
		return err
	}
	for _, c := range []struct {
		name string
		fits int
		add  func(int) error
		text string
	}{
		{"managed policies", 10, attach, "LimitExceeded: Cannot exceed quota for PoliciesPerRole: 10"},
		{"groups", 10, join, "LimitExceeded: Cannot exceed quota for GroupsPerUser: 10"},
		{"tags", 50, tag, "LimitExceeded: The number of tags has reached the maximum limit."},
		{"inline policies of a role", 10, inline, "LimitExceeded: Maximum policy size of 10240 bytes exceeded for role r"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.fits {
				if err := c.add(i); err != nil {
					t.Fatalf("%d: %v", i, err)
				}
			}
			wantText(t, c.add(c.fits), c.text)
		})
	}
	wantText(t, second(b.CreatePolicy(b.ctx, b.root, &api.CreatePolicyInput{PolicyName: ptr("big"), PolicyDocument: filler(6145)})), "LimitExceeded: Cannot exceed quota for PolicySize: 6144")
	must(b.CreatePolicy(b.ctx, b.root, &api.CreatePolicyInput{PolicyName: ptr("big"), PolicyDocument: filler(6144)}))(t)
}

// An account's quotas hold; a name that is taken is told as that.
func TestAccountQuotas(t *testing.T) {
	b := newBench(t)
	err := b.update(b.ctx, func(tx *store.Tx) error {
		for i := range groupQuota.most {
			name := fmt.Sprint("g", i)
			if err := groups.Insert(tx, &groupRow{entity{Account: testAccount, Name: name, Path: "/", ID: name}}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	create := func(name string) error {
		return second(b.CreateGroup(b.ctx, b.root, &api.CreateGroupInput{GroupName: &name}))
	}
	wantText(t, create("more"), "LimitExceeded: Cannot exceed quota for GroupsPerAccount: 300")
	wantCode(t, create("G7"), "EntityAlreadyExists")
	must(b.DeleteGroup(b.ctx, b.root, &api.DeleteGroupInput{GroupName: ptr("g7")}))(t)
	wantCode(t, create("more"), "")
}

func second[O any](_ *O, err error) error { return err }

func TestTags(t *testing.T) {
	b := newBench(t)
	tags := func(kv ...string) (out []api.Tag) {
		for i := 0; i < len(kv); i += 2 {
			out = append(out, api.Tag{Key: &kv[i], Value: &kv[i+1]})
		}
		return out
	}
	_, err := b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: ptr("u"), Tags: tags("k", "1", "K", "2")})
	wantText(t, err, "InvalidInput: Duplicate tag keys found. Please note that Tag keys are case insensitive.")
	_, err = b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: ptr("u"), Tags: tags("aws:x", "1")})
	wantCode(t, err, "InvalidInput")
	must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: ptr("u"), Tags: tags("Team", "1")}))(t)
	must(b.TagUser(b.ctx, b.root, &api.TagUserInput{UserName: ptr("u"), Tags: tags("team", "2", "b", "")}))(t)
	var got []string
	in := &api.ListUserTagsInput{UserName: ptr("u"), MaxItems: ptr(int32(1))}
	for {
		out := must(b.ListUserTags(b.ctx, b.root, in))(t)
		for _, tg := range out.Tags {
			got = append(got, *tg.Key+"="+*tg.Value)
		}
		if in.Marker = out.Marker; in.Marker == nil {
			break
		}
	}
	if s := strings.Join(got, " "); s != "team=2 b=" {
		t.Errorf("tags %s", s)
	}
	must(b.UntagUser(b.ctx, b.root, &api.UntagUserInput{UserName: ptr("u"), TagKeys: []string{"TEAM", "none"}}))(t)
	if out := must(b.ListUserTags(b.ctx, b.root, &api.ListUserTagsInput{UserName: ptr("u")}))(t); len(out.Tags) != 1 {
		t.Errorf("%d tags left", len(out.Tags))
	}
	_, err = b.ListUserTags(b.ctx, b.root, &api.ListUserTagsInput{UserName: ptr("u"), Marker: ptr("nonsense")})
	wantText(t, err, "ValidationError: Invalid Marker.")
}

// Lists come in pages, in the order of names without regard to case; a deleted
// item at the marker loses nothing.
func TestPages(t *testing.T) {
	b := newBench(t)
	must(b.CreateGroup(b.ctx, b.root, &api.CreateGroupInput{GroupName: ptr("g")}))(t)
	for _, n := range []string{"b", "A", "d", "C", "e"} {
		must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: &n}))(t)
		must(b.AddUserToGroup(b.ctx, b.root, &api.AddUserToGroupInput{GroupName: ptr("g"), UserName: &n}))(t)
	}
	var got []string
	in := &api.GetGroupInput{GroupName: ptr("g"), MaxItems: ptr(int32(2))}
	for range 10 {
		out := must(b.GetGroup(b.ctx, b.root, in))(t)
		for _, u := range out.Users {
			got = append(got, *u.UserName)
		}
		if (out.Marker != nil) != *out.IsTruncated {
			t.Error("Marker and IsTruncated disagree")
		}
		if in.Marker = out.Marker; in.Marker == nil {
			break
		}
		must(b.RemoveUserFromGroup(b.ctx, b.root, &api.RemoveUserFromGroupInput{GroupName: ptr("g"), UserName: ptr(got[len(got)-1])}))(t)
	}
	if s := strings.Join(got, ""); s != "AbCde" {
		t.Errorf("got %s", s)
	}
}

func TestEntitiesForPolicy(t *testing.T) {
	b := newBench(t)
	arn := *must(b.CreatePolicy(b.ctx, b.root, &api.CreatePolicyInput{PolicyName: ptr("p"), PolicyDocument: ptr(allowS3)}))(t).Policy.Arn
	must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: ptr("bounded"), Path: ptr("/x/"), PermissionsBoundary: &arn}))(t)
	must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: ptr("both"), PermissionsBoundary: &arn}))(t)
	must(b.AttachUserPolicy(b.ctx, b.root, &api.AttachUserPolicyInput{UserName: ptr("both"), PolicyArn: &arn}))(t)
	must(b.CreateGroup(b.ctx, b.root, &api.CreateGroupInput{GroupName: ptr("g")}))(t)
	must(b.AttachGroupPolicy(b.ctx, b.root, &api.AttachGroupPolicyInput{GroupName: ptr("g"), PolicyArn: &arn}))(t)
	must(b.CreateRole(b.ctx, b.root, &api.CreateRoleInput{RoleName: ptr("r"), AssumeRolePolicyDocument: ptr(lambdaMay)}))(t)
	must(b.AttachRolePolicy(b.ctx, b.root, &api.AttachRolePolicyInput{RoleName: ptr("r"), PolicyArn: &arn}))(t)
	for _, c := range []struct {
		in   api.ListEntitiesForPolicyInput
		want string
	}{
		{api.ListEntitiesForPolicyInput{}, "g:g r:r u:both u:bounded"},
		{api.ListEntitiesForPolicyInput{EntityFilter: ptr("Role")}, "r:r"},
		{api.ListEntitiesForPolicyInput{PolicyUsageFilter: ptr("PermissionsBoundary")}, "u:both u:bounded"},
		{api.ListEntitiesForPolicyInput{PolicyUsageFilter: ptr("PermissionsPolicy")}, "g:g r:r u:both"},
		{api.ListEntitiesForPolicyInput{PathPrefix: ptr("/x/")}, "u:bounded"},
	} {
		c.in.PolicyArn = &arn
		out := must(b.ListEntitiesForPolicy(b.ctx, b.root, &c.in))(t)
		var got []string
		for _, g := range out.PolicyGroups {
			got = append(got, "g:"+*g.GroupName)
		}
		for _, r := range out.PolicyRoles {
			got = append(got, "r:"+*r.RoleName)
		}
		for _, u := range out.PolicyUsers {
			got = append(got, "u:"+*u.UserName)
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%+v: %s, want %s", c.in, s, c.want)
		}
	}
	p := must(b.GetPolicy(b.ctx, b.root, &api.GetPolicyInput{PolicyArn: &arn}))(t).Policy
	if *p.AttachmentCount != 3 || *p.PermissionsBoundaryUsageCount != 2 {
		t.Errorf("counts %d %d", *p.AttachmentCount, *p.PermissionsBoundaryUsageCount)
	}
	_, err := b.DeletePolicy(b.ctx, b.root, &api.DeletePolicyInput{PolicyArn: &arn})
	wantText(t, err, "DeleteConflict: Cannot delete a policy attached to entities.")
}

// What belongs to AWS is nobody's to change.
func TestProtected(t *testing.T) {
	b := newBench(t)
	linked := must(b.CreateServiceLinkedRole(b.ctx, b.root, &api.CreateServiceLinkedRoleInput{AWSServiceName: ptr("elasticloadbalancing.amazonaws.com")}))(t).Role
	name, admin := linked.RoleName, ptr("arn:aws:iam::aws:policy/AdministratorAccess")
	for op, err := range map[string]error{
		"DeleteRole":             second(b.DeleteRole(b.ctx, b.root, &api.DeleteRoleInput{RoleName: name})),
		"AttachRolePolicy":       second(b.AttachRolePolicy(b.ctx, b.root, &api.AttachRolePolicyInput{RoleName: name, PolicyArn: admin})),
		"PutRolePolicy":          second(b.PutRolePolicy(b.ctx, b.root, &api.PutRolePolicyInput{RoleName: name, PolicyName: ptr("x"), PolicyDocument: ptr(allowS3)})),
		"UpdateAssumeRolePolicy": second(b.UpdateAssumeRolePolicy(b.ctx, b.root, &api.UpdateAssumeRolePolicyInput{RoleName: name, PolicyDocument: ptr(lambdaMay)})),
	} {
		if err == nil || err.Error() != "UnmodifiableEntity: Cannot perform the operation on the protected role 'AWSServiceRoleForElasticLoadBalancing' - this role is only modifiable by AWS" {
			t.Errorf("%s: %v", op, err)
		}
	}
	must(b.UpdateRoleDescription(b.ctx, b.root, &api.UpdateRoleDescriptionInput{RoleName: name, Description: ptr("mine")}))(t)
	_, err := b.DeletePolicy(b.ctx, b.root, &api.DeletePolicyInput{PolicyArn: admin})
	wantCode(t, err, "AccessDenied")
	_, err = b.TagPolicy(b.ctx, b.root, &api.TagPolicyInput{PolicyArn: admin})
	wantCode(t, err, "AccessDenied")
	must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: ptr("u")}))(t)
	_, err = b.AttachUserPolicy(b.ctx, b.root, &api.AttachUserPolicyInput{UserName: ptr("u"), PolicyArn: ptr("arn:aws:iam::aws:policy/aws-service-role/AWSElasticLoadBalancingServiceRolePolicy")})
	wantText(t, err, "NoSuchEntity: Policy arn:aws:iam::aws:policy/aws-service-role/AWSElasticLoadBalancingServiceRolePolicy does not exist or is not attachable.")
}

// The last use of a key is told at once, and is on disk after the loop has run.
func TestUse(t *testing.T) {
	b := newBench(t)
	must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: ptr("u")}))(t)
	key := must(b.CreateAccessKey(b.ctx, b.root, &api.CreateAccessKeyInput{UserName: ptr("u")}))(t).AccessKey.AccessKeyId
	last := func() *api.AccessKeyLastUsed {
		return must(b.GetAccessKeyLastUsed(b.ctx, b.root, &api.GetAccessKeyLastUsedInput{AccessKeyId: key}))(t).AccessKeyLastUsed
	}
	if l := last(); *l.ServiceName != "N/A" || *l.Region != "N/A" || l.LastUsedDate != nil {
		t.Errorf("unused: %+v", l)
	}
	b.Used(auth.Principal{Kind: auth.User, AccessKey: *key}, "s3:GetObject", "eu-central-1", testTime.Add(time.Minute))
	b.Used(auth.Principal{Kind: auth.User, AccessKey: "AKIANOBODYHASTHISKEY"}, "s3:GetObject", "eu-central-1", testTime)
	for _, when := range []string{"before", "after"} {
		if l := last(); *l.ServiceName != "s3" || *l.Region != "eu-central-1" || !l.LastUsedDate.Equal(testTime.Add(time.Minute)) {
			t.Errorf("%s the loop: %+v", when, l)
		}
		if report, err := b.FlushLoop().Run(b.ctx); err != nil {
			t.Fatal(report, err)
		}
	}
	if s := b.written(); s != 1 {
		t.Errorf("%d rows written, want that of the key that exists", s)
	}
}

// written counts what the loop has written.
func (b *bench) written() (n int) {
	b.t.Helper()
	err := b.view(b.ctx, func(tx *store.Tx) (err error) {
		n, err = count(uses.Scan(tx, store.Range{}))
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return n
}

// The report is made once in four hours.
func TestCredentialReport(t *testing.T) {
	b := newBench(t)
	_, err := b.GetCredentialReport(b.ctx, b.root, nil)
	wantCode(t, err, "ReportNotPresent")
	must(b.GenerateCredentialReport(b.ctx, b.root, nil))(t)
	report := string(must(b.GetCredentialReport(b.ctx, b.root, nil))(t).Content)
	want := strings.Join(reportColumns, ",") + "\n<root_account>,arn:aws:iam::123456789012:root,N/A,not_supported,no_information,not_supported,not_supported,false," +
		"false,N/A,N/A,N/A,N/A,false,N/A,N/A,N/A,N/A,false,N/A,false,N/A"
	if report != want {
		t.Errorf("report\n%s\nwant\n%s", report, want)
	}
	b.clock.Advance(4 * time.Hour)
	_, err = b.GetCredentialReport(b.ctx, b.root, nil)
	wantCode(t, err, "ReportExpired")
}

const metadata = `<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="https://idp.example.com" validUntil="2030-01-01T00:00:00Z">` +
	`<IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><KeyDescriptor use="signing"><KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#">` +
	`<X509Data><X509Certificate>AAAA</X509Certificate></X509Data></KeyInfo></KeyDescriptor></IDPSSODescriptor></EntityDescriptor>`

func TestSAMLProviders(t *testing.T) {
	b := newBench(t)
	_, err := b.CreateSAMLProvider(b.ctx, b.root, &api.CreateSAMLProviderInput{Name: ptr("idp"), SAMLMetadataDocument: ptr("<x/>")})
	wantText(t, err, "InvalidInput: Could not parse metadata")
	arn := must(b.CreateSAMLProvider(b.ctx, b.root, &api.CreateSAMLProviderInput{Name: ptr("idp"), SAMLMetadataDocument: ptr(metadata)}))(t).SAMLProviderArn
	_, err = b.CreateSAMLProvider(b.ctx, b.root, &api.CreateSAMLProviderInput{Name: ptr("idp"), SAMLMetadataDocument: ptr(metadata)})
	wantCode(t, err, "EntityAlreadyExists")
	got := must(b.GetSAMLProvider(b.ctx, b.root, &api.GetSAMLProviderInput{SAMLProviderArn: arn}))(t)
	if got.ValidUntil.Year() != 2030 || *got.SAMLMetadataDocument != metadata {
		t.Errorf("%+v", got)
	}
	must(b.UpdateSAMLProvider(b.ctx, b.root, &api.UpdateSAMLProviderInput{SAMLProviderArn: arn, SAMLMetadataDocument: ptr(strings.Replace(metadata, "2030", "2031", 1))}))(t)
	if l := must(b.ListSAMLProviders(b.ctx, b.root, nil))(t).SAMLProviderList; len(l) != 1 || l[0].ValidUntil.Year() != 2031 {
		t.Errorf("%+v", l)
	}
	must(b.DeleteSAMLProvider(b.ctx, b.root, &api.DeleteSAMLProviderInput{SAMLProviderArn: arn}))(t)
	_, err = b.GetSAMLProvider(b.ctx, b.root, &api.GetSAMLProviderInput{SAMLProviderArn: arn})
	wantText(t, err, "NoSuchEntity: Manifest not found for arn "+*arn)
}

func TestIssuerURLs(t *testing.T) {
	b := newBench(t)
	const head = "arn:aws:iam::123456789012:oidc-provider/"
	for _, c := range []struct{ url, arn, code string }{
		{"https://id.example.com", head + "id.example.com", ""},
		{"https://id.example.com/", head + "id.example.com/", ""}, // another one: issuers are compared to the letter
		{"https://id.example.com/realm/x", head + "id.example.com/realm/x", ""},
		{"http://127.0.0.1:8080/realm", head + "127.0.0.1:8080/realm", ""},
		{"http://id.example.com", "", "ValidationError"},
		{"https://id.example.com?x=1", "", "ValidationError"},
		{"https://user@id.example.com", "", "ValidationError"},
		{"id.example.com", "", "ValidationError"},
		{"https://id.example.com", "", "EntityAlreadyExists"},
	} {
		out, err := b.CreateOpenIDConnectProvider(b.ctx, b.root, &api.CreateOpenIDConnectProviderInput{Url: &c.url})
		wantCode(t, err, c.code)
		if err == nil && *out.OpenIDConnectProviderArn != c.arn {
			t.Errorf("%s: %s", c.url, *out.OpenIDConnectProviderArn)
		}
		if p, err := b.Provider(b.ctx, testAccount, c.url); c.code == "" && (err != nil || p.ARN != c.arn) {
			t.Errorf("%s as an issuer: %+v, %v", c.url, p, err)
		}
	}
}
