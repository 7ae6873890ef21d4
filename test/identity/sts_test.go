package identity

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	iamapi "skerry/internal/api/iam"
	api "skerry/internal/api/sts"
	"skerry/internal/auth"
)

const (
	mayAssume = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:*","Resource":"*"}}`
	mayRead   = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject"],"Resource":"*"}}`
	getOnly   = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}}`
)

func trust(principal, more string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":%s,"Action":["sts:AssumeRole","sts:TagSession","sts:SetSourceIdentity"]%s}}`, principal, more)
}

const toAccount = `{"AWS":"arn:aws:iam::` + account + `:root"}`

// Who may assume: the trust policy decides together with the caller's policies.
func TestWhoMayAssume(t *testing.T) {
	b := newBench(t)
	allowed, plain := b.user("allowed", mayAssume), b.user("plain", "")
	open := b.role("open", trust(toAccount, ""), mayRead)
	named := b.role("named", trust(`{"AWS":"arn:aws:iam::`+account+`:user/plain"}`, ""), mayRead)
	service := b.role("service", trust(`{"Service":"lambda.amazonaws.com"}`, ""), mayRead)
	lambda := auth.ServiceScope("lambda.amazonaws.com", account, "us-east-1", "", "r", began)
	other := auth.ServiceScope("ec2.amazonaws.com", account, "us-east-1", "", "r", began)
	for _, c := range []struct {
		name string
		sc   auth.Scope
		role string
		text string // of AccessDenied; empty for success
	}{
		{"account trusted, policy allows", allowed, open, ""},
		{"account trusted, no policy", plain, open, "User: arn:aws:iam::123456789012:user/plain is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::123456789012:role/open"},
		{"user named in the trust policy needs no policy", plain, named, ""},
		{"policy without trust", allowed, named, "is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::123456789012:role/named"},
		{"service", lambda, service, ""},
		{"another service", other, service, "is not authorized to perform: sts:AssumeRole"},
		{"root", b.root, open, "Roles may not be assumed by root accounts."},
		{"no such role", allowed, "arn:aws:iam::123456789012:role/none", "is not authorized to perform: sts:AssumeRole"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := b.assume(c.sc, &api.AssumeRoleInput{RoleArn: &c.role})
			if c.text != "" {
				b.wantCode(err, "AccessDenied", c.text)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			sc := b.as(*out.Credentials.AccessKeyId)
			if !b.may(sc, "s3:GetObject") || b.may(sc, "s3:DeleteObject") {
				t.Error("the session has not the role's rights")
			}
			name := c.role[strings.LastIndexByte(c.role, '/')+1:]
			if got := *out.AssumedRoleUser.Arn; got != "arn:aws:sts::123456789012:assumed-role/"+name+"/work" {
				t.Error(got)
			}
			who := do[api.GetCallerIdentityOutput](b, sc, "sts", "GetCallerIdentity", &api.GetCallerIdentityInput{})
			if *who.Arn != *out.AssumedRoleUser.Arn || *who.UserId != *out.AssumedRoleUser.AssumedRoleId || !strings.HasPrefix(*who.UserId, "AROA") {
				t.Errorf("caller identity %s %s", *who.Arn, *who.UserId)
			}
		})
	}
}

func TestExternalID(t *testing.T) {
	b := newBench(t)
	u := b.user("u", mayAssume)
	r := b.role("r", trust(toAccount, `,"Condition":{"StringEquals":{"sts:ExternalId":"secret-7"}}`), "")
	_, err := b.assume(u, &api.AssumeRoleInput{RoleArn: &r})
	b.wantCode(err, "AccessDenied", "sts:AssumeRole")
	_, err = b.assume(u, &api.AssumeRoleInput{RoleArn: &r, ExternalId: ptr("other")})
	b.wantCode(err, "AccessDenied", "sts:AssumeRole")
	b.assumed(u, &api.AssumeRoleInput{RoleArn: &r, ExternalId: ptr("secret-7")})
}

func TestDurations(t *testing.T) {
	b := newBench(t)
	u := b.user("u", mayAssume)
	r := b.role("r", trust(toAccount, ""), mayAssume) // at most two hours
	out, chained := b.assumed(u, &api.AssumeRoleInput{RoleArn: &r})
	if got := out.Credentials.Expiration.Sub(began); got != time.Hour {
		t.Errorf("default %v", got)
	}
	out, _ = b.assumed(u, &api.AssumeRoleInput{RoleArn: &r, DurationSeconds: ptr(int32(7200))})
	if got := out.Credentials.Expiration.Sub(began); got != 2*time.Hour {
		t.Errorf("two hours: %v", got)
	}
	_, err := b.assume(u, &api.AssumeRoleInput{RoleArn: &r, DurationSeconds: ptr(int32(7201))})
	b.wantCode(err, "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	_, err = b.assume(chained, &api.AssumeRoleInput{RoleArn: &r, DurationSeconds: ptr(int32(3601))})
	b.wantCode(err, "ValidationError", "1 hour session limit for roles assumed by role chaining")
	b.assumed(chained, &api.AssumeRoleInput{RoleArn: &r, DurationSeconds: ptr(int32(3600))})
}

func TestSessionPolicies(t *testing.T) {
	b := newBench(t)
	u := b.user("u", mayAssume)
	r := b.role("r", trust(toAccount, ""), mayRead)
	out, inline := b.assumed(u, &api.AssumeRoleInput{RoleArn: &r, Policy: ptr(getOnly)})
	if out.PackedPolicySize == nil || *out.PackedPolicySize < 1 || *out.PackedPolicySize > 10 {
		t.Errorf("packed size %v", out.PackedPolicySize)
	}
	if !b.may(inline, "s3:GetObject") || b.may(inline, "s3:PutObject") {
		t.Error("an inline session policy does not limit")
	}
	_, managed := b.assumed(u, &api.AssumeRoleInput{RoleArn: &r, PolicyArns: []api.PolicyDescriptorType{{Arn: ptr("arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess")}}})
	if !b.may(managed, "s3:GetObject") || b.may(managed, "s3:PutObject") {
		t.Error("a managed session policy does not limit")
	}
	for _, c := range []struct {
		in   api.AssumeRoleInput
		code string
	}{
		{api.AssumeRoleInput{Policy: ptr(`{"Version":`)}, "MalformedPolicyDocument"},
		{api.AssumeRoleInput{Policy: ptr(trust(toAccount, ""))}, "MalformedPolicyDocument"},
		{api.AssumeRoleInput{Policy: ptr(strings.Replace(getOnly, " ", "", 1) + strings.Repeat(" ", 2048))}, "PackedPolicyTooLarge"},
		{api.AssumeRoleInput{PolicyArns: []api.PolicyDescriptorType{{Arn: ptr("arn:aws:iam::aws:policy/NoSuchPolicy")}}}, "ValidationError"},
	} {
		c.in.RoleArn = &r
		_, err := b.assume(u, &c.in)
		b.wantCode(err, c.code, "")
	}
}

func TestTagsAndSourceIdentity(t *testing.T) {
	b := newBench(t)
	u := b.user("u", mayAssume)
	r := b.role("r", trust(toAccount, ""), mayAssume)
	do[iamapi.TagRoleOutput](b, b.root, "iam", "TagRole", &iamapi.TagRoleInput{RoleName: ptr("r"), Tags: []iamapi.Tag{{Key: ptr("Team"), Value: ptr("role")}, {Key: ptr("kept"), Value: ptr("yes")}}})
	_, first := b.assumed(u, &api.AssumeRoleInput{
		RoleArn: &r, Tags: []api.Tag{{Key: ptr("team"), Value: ptr("mine")}, {Key: ptr("brief"), Value: ptr("x")}},
		TransitiveTagKeys: []string{"team"}, SourceIdentity: ptr("anna"),
	})
	tags := first.Principal.Tags
	if tags["team"] != "mine" || tags["kept"] != "yes" || tags["brief"] != "x" || len(tags) != 3 {
		t.Errorf("tags %v", tags)
	}
	out, second := b.assumed(first, &api.AssumeRoleInput{RoleArn: &r})
	tags = second.Principal.Tags
	if tags["team"] != "mine" || tags["kept"] != "yes" || len(tags) != 2 {
		t.Errorf("tags of the chained session %v", tags)
	}
	if second.Principal.Session.SourceIdentity != "anna" || *out.SourceIdentity != "anna" {
		t.Error("the source identity did not stay")
	}
	_, err := b.assume(first, &api.AssumeRoleInput{RoleArn: &r, SourceIdentity: ptr("otto")})
	b.wantCode(err, "AccessDenied", "source identity")
	_, err = b.assume(first, &api.AssumeRoleInput{RoleArn: &r, Tags: []api.Tag{{Key: ptr("TEAM"), Value: ptr("x")}}})
	b.wantCode(err, "InvalidParameterValue", "conflicts with a transitive tag key")
	_, err = b.assume(u, &api.AssumeRoleInput{RoleArn: &r, TransitiveTagKeys: []string{"none"}})
	b.wantCode(err, "InvalidParameterValue", "must be included in the requested tags")
	_, err = b.assume(u, &api.AssumeRoleInput{RoleArn: &r, Tags: []api.Tag{{Key: ptr("k"), Value: ptr("")}, {Key: ptr("K"), Value: ptr("")}}})
	b.wantCode(err, "InvalidParameterValue", "Duplicate tag keys")

	untagged := b.role("untagged", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":`+toAccount+`,"Action":"sts:AssumeRole"}}`, "")
	_, err = b.assume(u, &api.AssumeRoleInput{RoleArn: &untagged, Tags: []api.Tag{{Key: ptr("k"), Value: ptr("v")}}})
	b.wantCode(err, "AccessDenied", "sts:TagSession")
	_, err = b.assume(u, &api.AssumeRoleInput{RoleArn: &untagged, SourceIdentity: ptr("anna")})
	b.wantCode(err, "AccessDenied", "sts:SetSourceIdentity")
}

// Deleting a role or user ends its sessions; taking a policy away counts at once.
func TestRightsEndAtOnce(t *testing.T) {
	b := newBench(t)
	u := b.user("u", mayAssume)
	r := b.role("r", trust(toAccount, ""), mayRead)
	out, session := b.assumed(u, &api.AssumeRoleInput{RoleArn: &r})
	if !b.may(session, "s3:GetObject") {
		t.Fatal("no rights at first")
	}
	do[iamapi.DeleteRolePolicyOutput](b, b.root, "iam", "DeleteRolePolicy", &iamapi.DeleteRolePolicyInput{RoleName: ptr("r"), PolicyName: ptr("r")})
	if b.may(session, "s3:GetObject") {
		t.Error("rights after the policy was deleted")
	}
	do[iamapi.DeleteRoleOutput](b, b.root, "iam", "DeleteRole", &iamapi.DeleteRoleInput{RoleName: ptr("r")})
	if _, err := b.Credential(b.ctx, *out.Credentials.AccessKeyId); !errors.Is(err, auth.ErrNoCredential) {
		t.Errorf("credential of a deleted role's session: %v", err)
	}
	// A successor of the same name does not bring the session back to life.
	b.role("r", trust(toAccount, ""), mayRead)
	if _, err := b.Credential(b.ctx, *out.Credentials.AccessKeyId); !errors.Is(err, auth.ErrNoCredential) {
		t.Errorf("credential after the role was made anew: %v", err)
	}
}

func TestSessionToken(t *testing.T) {
	b := newBench(t)
	u := b.user("u", mayRead)
	out := do[api.GetSessionTokenOutput](b, u, "sts", "GetSessionToken", &api.GetSessionTokenInput{})
	if got := out.Credentials.Expiration.Sub(began); got != 12*time.Hour {
		t.Errorf("lasts %v", got)
	}
	s := b.as(*out.Credentials.AccessKeyId)
	if !b.may(s, "s3:GetObject") || b.may(s, "s3:DeleteObject") || s.Principal.Kind != auth.User {
		t.Error("the session has not the user's rights")
	}
	_, err := call[api.GetSessionTokenOutput](b, s, "sts", "GetSessionToken", &api.GetSessionTokenInput{})
	b.wantCode(err, "AccessDenied", "Cannot call GetSessionToken with session credentials")
	_, err = call[iamapi.GetUserOutput](b, s, "iam", "GetUser", &iamapi.GetUserInput{})
	b.wantCode(err, "InvalidClientTokenId", "")
	long := do[api.GetSessionTokenOutput](b, b.root, "sts", "GetSessionToken", &api.GetSessionTokenInput{DurationSeconds: ptr(int32(7200))})
	if got := long.Credentials.Expiration.Sub(began); got != time.Hour {
		t.Errorf("of root: %v", got)
	}
	_, err = call[api.GetSessionTokenOutput](b, u, "sts", "GetSessionToken", &api.GetSessionTokenInput{SerialNumber: ptr("arn:aws:iam::123456789012:mfa/none"), TokenCode: ptr("123456")})
	b.wantCode(err, "AccessDenied", "MultiFactorAuthentication failed")
}

func TestFederationToken(t *testing.T) {
	b := newBench(t)
	u := b.user("u", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","sts:GetFederationToken"],"Resource":"*"}}`)
	plain := b.user("plain", mayRead)
	_, err := call[api.GetFederationTokenOutput](b, plain, "sts", "GetFederationToken", &api.GetFederationTokenInput{Name: ptr("guest")})
	b.wantCode(err, "AccessDenied", "on resource: arn:aws:sts::123456789012:federated-user/guest")
	for _, c := range []struct {
		name     string
		by       auth.Scope
		policy   *string
		get, put bool
	}{
		{"without a policy: nothing", u, nil, false, false},
		{"what both allow", u, ptr(getOnly), true, false},
		{"no more than the user may", u, ptr(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`), true, true},
		{"of root", b.root, ptr(getOnly), true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := do[api.GetFederationTokenOutput](b, c.by, "sts", "GetFederationToken", &api.GetFederationTokenInput{Name: ptr("guest"), Policy: c.policy})
			s := b.as(*out.Credentials.AccessKeyId)
			if got := b.may(s, "s3:GetObject"); got != c.get {
				t.Errorf("get: %v", got)
			}
			if got := b.may(s, "s3:PutObject"); got != c.put {
				t.Errorf("put: %v", got)
			}
			if b.may(s, "s3:DeleteObject") {
				t.Error("delete is allowed")
			}
			if *out.FederatedUser.Arn != "arn:aws:sts::123456789012:federated-user/guest" || *out.FederatedUser.FederatedUserId != "123456789012:guest" {
				t.Errorf("%s %s", *out.FederatedUser.Arn, *out.FederatedUser.FederatedUserId)
			}
			_, err := call[iamapi.ListUsersOutput](b, s, "iam", "ListUsers", &iamapi.ListUsersInput{})
			b.wantCode(err, "InvalidClientTokenId", "")
		})
	}
}

func TestAccessKeyInfo(t *testing.T) {
	b := newBench(t)
	u := b.user("u", "")
	for _, c := range []struct{ key, account, code string }{
		{u.Principal.AccessKey, account, ""},
		{"ASIAQNZGKIQY56JQ7WML", "029608264753", ""},
		{"AKIA0000000000000000", "", "ValidationError"},
	} {
		out, err := call[api.GetAccessKeyInfoOutput](b, b.root, "sts", "GetAccessKeyInfo", &api.GetAccessKeyInfoInput{AccessKeyId: &c.key})
		b.wantCode(err, c.code, "")
		if err == nil && *out.Account != c.account {
			t.Errorf("%s: %s", c.key, *out.Account)
		}
	}
}

// Sessions are there after a restart, end in time, and are removed an hour later.
func TestSessionsLastAndEnd(t *testing.T) {
	dir := t.TempDir()
	b := benchAt(t, dir, nil)
	u := b.user("u", mayAssume)
	r := b.role("r", trust(toAccount, ""), mayRead)
	out, _ := b.assumed(u, &api.AssumeRoleInput{RoleArn: &r})
	if err := b.db.Close(); err != nil {
		t.Fatal(err)
	}
	b = benchAt(t, dir, nil)
	key := *out.Credentials.AccessKeyId
	c, err := b.Credential(b.ctx, key)
	if err != nil || c.Secret != *out.Credentials.SecretAccessKey || c.Token != *out.Credentials.SessionToken || !c.Expires.Equal(began.Add(time.Hour)) {
		t.Fatalf("after the restart: %+v, %v", c, err)
	}
	if !b.may(b.scope(c.Principal), "s3:GetObject") {
		t.Error("the session lost its rights")
	}
	b.clock.Advance(time.Hour + 59*time.Minute)
	if report, err := b.SweepLoop().Run(b.ctx); err != nil || report != "0 removed" {
		t.Fatal(report, err)
	}
	if _, err := b.Credential(b.ctx, key); err != nil {
		t.Errorf("an ended session must still be known: %v", err)
	}
	b.clock.Advance(2 * time.Minute)
	if report, err := b.SweepLoop().Run(b.ctx); err != nil || report != "1 removed" {
		t.Fatal(report, err)
	}
	if _, err := b.Credential(b.ctx, key); !errors.Is(err, auth.ErrNoCredential) {
		t.Errorf("a removed session: %v", err)
	}
}

// A trust policy means the one who had the name when it was written: not a
// successor, but still the same one under another name.
func TestTrustPinsItsPrincipals(t *testing.T) {
	b := newBench(t)
	b.user("anna", mayAssume)
	r := b.role("r", trust(`{"AWS":"arn:aws:iam::`+account+`:user/anna"}`, ""), "")
	do[iamapi.UpdateUserOutput](b, b.root, "iam", "UpdateUser", &iamapi.UpdateUserInput{UserName: ptr("anna"), NewUserName: ptr("anne")})
	key := do[iamapi.CreateAccessKeyOutput](b, b.root, "iam", "CreateAccessKey", &iamapi.CreateAccessKeyInput{UserName: ptr("anne")})
	renamed := b.as(*key.AccessKey.AccessKeyId)
	b.assumed(renamed, &api.AssumeRoleInput{RoleArn: &r})
	successor := b.user("anna", mayAssume)
	_, err := b.assume(successor, &api.AssumeRoleInput{RoleArn: &r})
	b.wantCode(err, "AccessDenied", "sts:AssumeRole")
	role := do[iamapi.GetRoleOutput](b, b.root, "iam", "GetRole", &iamapi.GetRoleInput{RoleName: ptr("r")}).Role
	if !strings.Contains(*role.AssumeRolePolicyDocument, renamed.Principal.ID) {
		t.Errorf("GetRole shows %s, not the unique id", *role.AssumeRolePolicyDocument)
	}
	do[iamapi.UpdateAssumeRolePolicyOutput](b, b.root, "iam", "UpdateAssumeRolePolicy",
		&iamapi.UpdateAssumeRolePolicyInput{RoleName: ptr("r"), PolicyDocument: ptr(trust(`{"AWS":"arn:aws:iam::`+account+`:user/anna"}`, ""))})
	b.assumed(successor, &api.AssumeRoleInput{RoleArn: &r})
	_, err = b.assume(renamed, &api.AssumeRoleInput{RoleArn: &r})
	b.wantCode(err, "AccessDenied", "sts:AssumeRole")
}

// Calls from inside carry no signature whose age is checked: the session's end
// stops them all the same.
func TestEndedSessionInside(t *testing.T) {
	b := newBench(t)
	r := b.role("r", trust(`{"Service":"lambda.amazonaws.com"}`, ""), `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iam:*","Resource":"*"}}`)
	_, session := b.assumed(auth.ServiceScope("lambda.amazonaws.com", account, "us-east-1", "", "r", began), &api.AssumeRoleInput{RoleArn: &r})
	do[iamapi.ListUsersOutput](b, session, "iam", "ListUsers", &iamapi.ListUsersInput{})
	b.clock.Advance(time.Hour)
	_, err := call[iamapi.ListUsersOutput](b, session, "iam", "ListUsers", &iamapi.ListUsersInput{})
	b.wantCode(err, "ExpiredToken", "expired")
}

// Root has access keys, too, for itself.
func TestRootAccessKey(t *testing.T) {
	b := newBench(t)
	key := do[iamapi.CreateAccessKeyOutput](b, b.root, "iam", "CreateAccessKey", &iamapi.CreateAccessKeyInput{})
	if p := b.as(*key.AccessKey.AccessKeyId).Principal; p.Kind != auth.Root || p.ARN != "arn:aws:iam::123456789012:root" {
		t.Errorf("%+v", p)
	}
	do[iamapi.DeleteAccessKeyOutput](b, b.root, "iam", "DeleteAccessKey", &iamapi.DeleteAccessKeyInput{AccessKeyId: key.AccessKey.AccessKeyId})
}

// Between accounts both sides must allow.
func TestAcrossAccounts(t *testing.T) {
	b := newBench(t)
	const foreign = "210987654321"
	local := b.user("local", mayAssume)
	weak := b.user("weak", "")
	away := b.scope(auth.Principal{Kind: auth.Root, Account: foreign, ARN: "arn:aws:iam::" + foreign + ":root", ID: foreign})
	make := func(name, principal string) *string {
		out := do[iamapi.CreateRoleOutput](b, away, "iam", "CreateRole", &iamapi.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: ptr(trust(principal, ""))})
		return out.Role.Arn
	}
	open, named, shut := make("open", toAccount), make("named", `{"AWS":"arn:aws:iam::`+account+`:user/weak"}`), make("shut", `{"AWS":"`+foreign+`"}`)
	_, s := b.assumed(local, &api.AssumeRoleInput{RoleArn: open})
	if s.Principal.Account != foreign {
		t.Errorf("the session is of account %s", s.Principal.Account)
	}
	_, err := b.assume(local, &api.AssumeRoleInput{RoleArn: shut})
	b.wantCode(err, "AccessDenied", "sts:AssumeRole")
	_, err = b.assume(weak, &api.AssumeRoleInput{RoleArn: named}) // named, but without a policy of its own
	b.wantCode(err, "AccessDenied", "sts:AssumeRole")
}

// The account's password policy may let users change their own password; a deny
// still wins.
func TestUsersMayChangeTheirPassword(t *testing.T) {
	b := newBench(t)
	free := b.user("free", "")
	barred := b.user("barred", `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"iam:ChangePassword","Resource":"*"}}`)
	for _, u := range []string{"free", "barred"} {
		do[iamapi.CreateLoginProfileOutput](b, b.root, "iam", "CreateLoginProfile", &iamapi.CreateLoginProfileInput{UserName: &u, Password: ptr("First-one1")})
	}
	change := func(sc auth.Scope) error {
		_, err := call[iamapi.ChangePasswordOutput](b, sc, "iam", "ChangePassword", &iamapi.ChangePasswordInput{OldPassword: ptr("First-one1"), NewPassword: ptr("Second-one2")})
		return err
	}
	b.wantCode(change(free), "AccessDenied", "iam:ChangePassword")
	do[iamapi.UpdateAccountPasswordPolicyOutput](b, b.root, "iam", "UpdateAccountPasswordPolicy", &iamapi.UpdateAccountPasswordPolicyInput{AllowUsersToChangePassword: ptr(true)})
	b.wantCode(change(free), "", "")
	b.wantCode(change(barred), "AccessDenied", "explicit deny")
}
