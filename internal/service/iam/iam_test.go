package iam

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/store"
)

const (
	allowS3   = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
	denyS3    = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"s3:DeleteObject","Resource":"*"}]}`
	lambdaMay = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
)

// Every built operation has its structs in the schema, and none is there twice.
func TestOperations(t *testing.T) {
	b := newBench(t)
	seen := map[string]bool{}
	svc := b.Service.Service()
	for _, o := range svc.Operations {
		model := svc.API.Operation(o.Name)
		if model == nil || !model.Built() {
			t.Errorf("%s is not in the schema", o.Name)
			continue
		}
		if o.In != reflect.TypeOf(model.In).Elem() || o.Out != reflect.TypeOf(model.Out).Elem() {
			t.Errorf("%s: handler and schema disagree", o.Name)
		}
		if seen[o.Name] {
			t.Errorf("%s is there twice", o.Name)
		}
		seen[o.Name] = true
	}
	t.Logf("%d of %d operations", len(seen), len(svc.API.Operations))
}

// Every rule names an IAM action and an ARN or "*", also for an input without
// anything in it.
func TestRules(t *testing.T) {
	b := newBench(t)
	for _, o := range b.Service.Service().Operations {
		list, err := o.Access(b.ctx, b.root, reflect.New(o.In).Interface())
		if err != nil {
			wantCode(t, err, "ValidationError") // the provider's URL is missing
			continue
		}
		if len(list) == 0 || list[0].Action != "iam:"+o.Name {
			t.Errorf("%s: %+v", o.Name, list)
		}
	}
}

func TestRuleResourcesAndKeys(t *testing.T) {
	b := newBench(t)
	must(b.CreatePolicy(b.ctx, b.root, &api.CreatePolicyInput{PolicyName: ptr("edge"), PolicyDocument: ptr(allowS3)}))(t)
	edge := "arn:aws:iam::" + testAccount + ":policy/edge"
	must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{
		UserName: ptr("Anna"), Path: ptr("/staff/"), PermissionsBoundary: &edge, Tags: []api.Tag{{Key: ptr("team"), Value: ptr("a")}},
	}))(t)
	must(b.CreateRole(b.ctx, b.root, &api.CreateRoleInput{RoleName: ptr("worker"), Path: ptr("/jobs/"), AssumeRolePolicyDocument: ptr(lambdaMay)}))(t)
	key := must(b.CreateAccessKey(b.ctx, b.root, &api.CreateAccessKeyInput{UserName: ptr("Anna")}))(t).AccessKey.AccessKeyId
	for _, c := range []struct {
		op   string
		in   any
		want string
	}{
		{"GetUser", &api.GetUserInput{UserName: ptr("anna")}, "iam:GetUser arn:aws:iam::123456789012:user/staff/Anna [aws:ResourceTag/team=a iam:PermissionsBoundary=" + edge + " iam:ResourceTag/team=a]"},
		{"GetUser", &api.GetUserInput{UserName: ptr("nobody")}, "iam:GetUser arn:aws:iam::123456789012:user/nobody []"},
		{"CreateUser", &api.CreateUserInput{UserName: ptr("x"), Path: ptr("/p/"), Tags: []api.Tag{{Key: ptr("k"), Value: ptr("v")}}}, "iam:CreateUser arn:aws:iam::123456789012:user/p/x [aws:RequestTag/k=v aws:TagKeys=k]"},
		{"AttachRolePolicy", &api.AttachRolePolicyInput{RoleName: ptr("worker"), PolicyArn: &edge}, "iam:AttachRolePolicy arn:aws:iam::123456789012:role/jobs/worker [iam:PolicyARN=" + edge + "]"},
		{"ListUsers", &api.ListUsersInput{}, "iam:ListUsers arn:aws:iam::123456789012:user/ []"},
		{"ListRoles", &api.ListRolesInput{PathPrefix: ptr("/jobs/")}, "iam:ListRoles arn:aws:iam::123456789012:role/jobs/ []"},
		{"ListPolicies", &api.ListPoliciesInput{}, "iam:ListPolicies policy path / []"},
		{"ListVirtualMFADevices", &api.ListVirtualMFADevicesInput{}, "iam:ListVirtualMFADevices arn:aws:iam::123456789012:mfa/ []"},
		{"ListOpenIDConnectProviders", &api.ListOpenIDConnectProvidersInput{}, "iam:ListOpenIDConnectProviders arn:aws:iam::123456789012:oidc-provider/* []"},
		{"GetAccessKeyLastUsed", &api.GetAccessKeyLastUsedInput{AccessKeyId: key}, "iam:GetAccessKeyLastUsed arn:aws:iam::123456789012:user/staff/Anna [aws:ResourceTag/team=a iam:PermissionsBoundary=" + edge + " iam:ResourceTag/team=a]"},
		{"GetAccessKeyLastUsed", &api.GetAccessKeyLastUsedInput{AccessKeyId: ptr("AKIANOBODYHASTHISKEY")}, "iam:GetAccessKeyLastUsed arn:aws:iam::123456789012:user/* []"},
		{"UpdateUser", &api.UpdateUserInput{UserName: ptr("nobody"), NewUserName: ptr("b")}, "iam:UpdateUser arn:aws:iam::123456789012:user/nobody [];iam:UpdateUser arn:aws:iam::123456789012:user/b []"},
		{"AddRoleToInstanceProfile", &api.AddRoleToInstanceProfileInput{InstanceProfileName: ptr("ip"), RoleName: ptr("worker")}, "iam:AddRoleToInstanceProfile arn:aws:iam::123456789012:instance-profile/ip [];iam:PassRole arn:aws:iam::123456789012:role/jobs/worker [iam:PassedToService=ec2.amazonaws.com]"},
		{"CreateServiceLinkedRole", &api.CreateServiceLinkedRoleInput{AWSServiceName: ptr("elasticloadbalancing.amazonaws.com")}, "iam:CreateServiceLinkedRole arn:aws:iam::123456789012:role/aws-service-role/elasticloadbalancing.amazonaws.com/AWSServiceRoleForElasticLoadBalancing [iam:AWSServiceName=elasticloadbalancing.amazonaws.com]"},
		{"CreateOpenIDConnectProvider", &api.CreateOpenIDConnectProviderInput{Url: ptr("https://id.example.com/x")}, "iam:CreateOpenIDConnectProvider arn:aws:iam::123456789012:oidc-provider/id.example.com/x []"},
	} {
		for _, o := range b.Service.Service().Operations {
			if o.Name != c.op {
				continue
			}
			list, err := o.Access(b.ctx, b.root, c.in)
			if err != nil {
				t.Errorf("%s: %v", c.op, err)
				continue
			}
			var got []string
			for _, a := range list {
				got = append(got, fmt.Sprintf("%s %s [%s]", a.Action, a.Resource, contextText(a.Context)))
			}
			if s := strings.Join(got, ";"); s != c.want {
				t.Errorf("%s:\n got %s\nwant %s", c.op, s, c.want)
			}
		}
	}
}

func contextText(m map[string][]string) string {
	s := strings.TrimSuffix(strings.TrimPrefix(fmt.Sprint(m), "map["), "]") // fmt sorts the keys
	return strings.NewReplacer(":[", "=", "]", "").Replace(s)
}

// Sessions of GetSessionToken without MFA and of federated users may not call
// IAM.
func TestLimitedSessions(t *testing.T) {
	b := newBench(t)
	sc := b.root
	sc.Principal.Session.Expires = testTime.Add(1)
	list := func(sc auth.Scope) error {
		for _, o := range b.Service.Service().Operations {
			if o.Name == "ListUsers" {
				_, err := o.Access(b.ctx, sc, &api.ListUsersInput{})
				return err
			}
		}
		return errors.New("no ListUsers")
	}
	wantCode(t, list(sc), "InvalidClientTokenId")
	sc.Principal.Session.MFA = true
	wantCode(t, list(sc), "")
	sc.Principal.Kind = auth.FederatedUser
	wantCode(t, list(sc), "InvalidClientTokenId")
}

func TestCatalogue(t *testing.T) {
	b := newBench(t)
	if err := b.managed.check(); err != nil {
		t.Fatal(err)
	}
	ids := map[string]bool{}
	for _, r := range b.managed.list {
		if ids[r.ID] || len(r.ID) != 21 {
			t.Errorf("%s: id %s", r.Name, r.ID)
		}
		ids[r.ID] = true
	}
	for service, l := range linkedServices() {
		if b.managed.policy(l.policy) == nil {
			t.Errorf("%s: policy %s is not in the catalogue", service, l.policy)
		}
	}
	t.Logf("%d AWS managed policies", len(ids))
}

// What is answered is read back by anybody at once, and a commit in between never
// leaves a stale permission behind.
func TestDirectoryForgets(t *testing.T) {
	b := newBench(t)
	must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: ptr("u")}))(t)
	must(b.CreateGroup(b.ctx, b.root, &api.CreateGroupInput{GroupName: ptr("g")}))(t)
	must(b.AddUserToGroup(b.ctx, b.root, &api.AddUserToGroupInput{GroupName: ptr("g"), UserName: ptr("u")}))(t)
	who := b.as("u").Principal
	count := func() int {
		p, err := b.Policies(b.ctx, who)
		if err != nil {
			t.Fatal(err)
		}
		return len(p.Identity)
	}
	if count() != 0 {
		t.Fatal("policies out of nothing")
	}
	must(b.PutGroupPolicy(b.ctx, b.root, &api.PutGroupPolicyInput{GroupName: ptr("g"), PolicyName: ptr("p"), PolicyDocument: ptr(allowS3)}))(t)
	must(b.PutUserPolicy(b.ctx, b.root, &api.PutUserPolicyInput{UserName: ptr("u"), PolicyName: ptr("p"), PolicyDocument: ptr(denyS3)}))(t)
	for range 2 { // read, and remembered
		if count() != 2 {
			t.Fatal("want both policies")
		}
	}
	must(b.RemoveUserFromGroup(b.ctx, b.root, &api.RemoveUserFromGroupInput{GroupName: ptr("g"), UserName: ptr("u")}))(t)
	if count() != 1 {
		t.Fatal("the group's policy still counts")
	}
	key := must(b.CreateAccessKey(b.ctx, b.root, &api.CreateAccessKeyInput{UserName: ptr("u")}))(t).AccessKey
	c, err := b.Credential(b.ctx, *key.AccessKeyId)
	if err != nil || c.Secret != *key.SecretAccessKey || c.Inactive || c.Principal.ARN != "arn:aws:iam::123456789012:user/u" {
		t.Fatalf("%+v, %v", c, err)
	}
	must(b.UpdateAccessKey(b.ctx, b.root, &api.UpdateAccessKeyInput{UserName: ptr("u"), AccessKeyId: key.AccessKeyId, Status: ptr("Inactive")}))(t)
	if c, _ := b.Credential(b.ctx, *key.AccessKeyId); !c.Inactive {
		t.Fatal("the key is still active")
	}
	must(b.DeleteAccessKey(b.ctx, b.root, &api.DeleteAccessKeyInput{UserName: ptr("u"), AccessKeyId: key.AccessKeyId}))(t)
	if _, err := b.Credential(b.ctx, *key.AccessKeyId); !errors.Is(err, auth.ErrNoCredential) {
		t.Fatalf("deleted key: %v", err)
	}
}

// A reader that raced with a commit must not leave what it read to later ones.
func TestDirectoryRace(t *testing.T) {
	d := newDirectory()
	got, _ := recall(d, &d.who, "x", func() (int, error) {
		d.drop() // the commit happens while the old value is being read
		return 1, nil
	})
	if got != 1 {
		t.Fatal(got)
	}
	if got, _ = recall(d, &d.who, "x", func() (int, error) { return 2, nil }); got != 2 {
		t.Fatalf("stale value %d", got)
	}
}

func BenchmarkDirectory(b *testing.B) {
	db, err := store.Open(b.TempDir(), store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	s, err := New(Deps{Store: db})
	if err != nil {
		b.Fatal(err)
	}
	row := &roleRow{entity: entity{Account: testAccount, Name: "r", ID: "AROA1", Inline: []inline{{"p", allowS3}}}}
	ctx := context.Background()
	if err := s.update(ctx, func(tx *store.Tx) error { return roles.Put(tx, row) }); err != nil {
		b.Fatal(err)
	}
	p := auth.Principal{Kind: auth.AssumedRole, Account: testAccount, ID: "AROA1:x"}
	b.Run("remembered", func(b *testing.B) {
		for b.Loop() {
			if _, err := s.Policies(ctx, p); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			s.directory.drop()
			if _, err := s.Policies(ctx, p); err != nil {
				b.Fatal(err)
			}
		}
	})
}
