package iam

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
)

// The simulators: what they decide, by which statements, and what they miss.
func TestSimulate(t *testing.T) {
	b := newBench(t)
	const (
		bucketPolicy = `{"Version":"2012-10-17","Statement":{"Sid":"Partner","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::210987654321:user/pat"},"Action":"s3:GetObject","Resource":"*"}}`
		needsMFA     = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}}}`
		lines        = "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {\"Effect\": \"Allow\", \"Action\": \"s3:Get*\", \"Resource\": \"arn:aws:s3:::a/*\"}\n  ]\n}"
	)
	pat := ptr("arn:aws:iam::210987654321:user/pat")
	for _, c := range []struct {
		name string
		in   api.SimulateCustomPolicyInput
		want string
	}{
		{"allowed, with the statement's place", api.SimulateCustomPolicyInput{PolicyInputList: []string{lines}, ResourceArns: []string{"arn:aws:s3:::a/b"}}, "allowed PolicyInputList.1/none@4:5"},
		{"another resource", api.SimulateCustomPolicyInput{PolicyInputList: []string{lines}, ResourceArns: []string{"arn:aws:s3:::b/b"}}, "implicitDeny"},
		{"a deny wins, and is what matched", api.SimulateCustomPolicyInput{PolicyInputList: []string{allowS3, strings.ReplaceAll(denyS3, "DeleteObject", "*")}}, "explicitDeny PolicyInputList.2/none@1:38"},
		{"a missing key", api.SimulateCustomPolicyInput{PolicyInputList: []string{needsMFA}}, "implicitDeny missing aws:MultiFactorAuthPresent"},
		{"a key given", api.SimulateCustomPolicyInput{PolicyInputList: []string{needsMFA}, ContextEntries: []api.ContextEntry{{ContextKeyName: ptr("AWS:multifactorauthpresent"), ContextKeyValues: []string{"true"}}}}, "allowed PolicyInputList.1/none@1:37"},
		{"across accounts, both sides", api.SimulateCustomPolicyInput{PolicyInputList: []string{allowS3}, ResourcePolicy: ptr(bucketPolicy), ResourceOwner: ptr("arn:aws:iam::123456789012:root"), CallerArn: pat}, "allowed ResourcePolicy/resource@1:37 PolicyInputList.1/none@1:38"},
		{"across accounts, one side", api.SimulateCustomPolicyInput{PolicyInputList: []string{denyS3}, ResourcePolicy: ptr(bucketPolicy), ResourceOwner: ptr("arn:aws:iam::123456789012:root"), CallerArn: pat}, "implicitDeny"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.in.ActionNames = []string{"s3:GetObject"}
			var got []string
			for _, r := range must(b.SimulateCustomPolicy(b.ctx, b.root, &c.in))(t).EvaluationResults {
				got = append(got, *r.EvalDecision)
				for _, m := range r.MatchedStatements {
					got = append(got, fmt.Sprintf("%s/%s@%d:%d", *m.SourcePolicyId, *m.SourcePolicyType, *m.StartPosition.Line, *m.StartPosition.Column))
				}
				if len(r.MissingContextValues) > 0 {
					got = append(got, "missing "+strings.Join(r.MissingContextValues, ","))
				}
			}
			if s := strings.Join(got, " "); s != c.want {
				t.Errorf("got  %s\nwant %s", s, c.want)
			}
		})
	}
	_, err := b.SimulateCustomPolicy(b.ctx, b.root, &api.SimulateCustomPolicyInput{ActionNames: []string{"s3:x"}, ResourcePolicy: ptr(bucketPolicy)})
	wantCode(t, err, "InvalidInput")
	_, err = b.SimulatePrincipalPolicy(b.ctx, b.root, &api.SimulatePrincipalPolicyInput{ActionNames: []string{"s3:x"}, PolicySourceArn: ptr("arn:aws:iam::123456789012:user/none")})
	wantText(t, err, "NoSuchEntity: The user with name none cannot be found.")
}

func TestSimulateExclusions(t *testing.T) {
	b := newBench(t)
	edge := must(b.CreatePolicy(b.ctx, b.root, &api.CreatePolicyInput{PolicyName: ptr("edge"), PolicyDocument: ptr(strings.ReplaceAll(allowS3, "s3:*", "s3:Get*"))}))(t).Policy.Arn
	u := must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: ptr("u"), PermissionsBoundary: edge}))(t).User
	must(b.PutUserPolicy(b.ctx, b.root, &api.PutUserPolicyInput{UserName: ptr("u"), PolicyName: ptr("own"), PolicyDocument: ptr(allowS3)}))(t)
	inline := api.PolicyIdentifier{InlinePolicyIdentifier: &api.InlinePolicyIdentifierType{PolicyName: ptr("own"), AttachmentType: ptr("user"), AttachmentName: ptr("u")}}
	for _, c := range []struct {
		action, want string
		except       []api.PolicyIdentifier
	}{
		{"s3:GetObject", "allowed", nil},
		{"s3:PutObject", "implicitDeny", nil},
		{"s3:PutObject", "allowed", []api.PolicyIdentifier{{PolicyType: ptr("permission-boundary"), PolicyArn: edge}}},
		{"s3:GetObject", "implicitDeny", []api.PolicyIdentifier{inline}},
	} {
		out := must(b.SimulatePrincipalPolicy(b.ctx, b.root, &api.SimulatePrincipalPolicyInput{
			PolicySourceArn: u.Arn, ActionNames: []string{c.action}, PolicyExclusionList: c.except,
		}))(t)
		if got := *out.EvaluationResults[0].EvalDecision; got != c.want {
			t.Errorf("%s without %d policies: %s, want %s", c.action, len(c.except), got, c.want)
		}
	}
}

// While many look permissions up, one who changes them sees each change with the
// answer, never the state before.
func TestRevokedAtOnce(t *testing.T) {
	b := newBench(t)
	must(b.CreateRole(b.ctx, b.root, &api.CreateRoleInput{RoleName: ptr("r"), AssumeRolePolicyDocument: ptr(lambdaMay)}))(t)
	role, err := b.Role(b.ctx, "arn:aws:iam::"+testAccount+":role/r")
	if err != nil {
		t.Fatal(err)
	}
	who := auth.Principal{Kind: auth.AssumedRole, Account: testAccount, ID: role.ID + ":s"}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := b.Policies(b.ctx, who); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	look := func() int {
		p, err := b.Policies(b.ctx, who)
		if err != nil {
			t.Fatal(err)
		}
		return len(p.Identity)
	}
	for range 50 {
		must(b.PutRolePolicy(b.ctx, b.root, &api.PutRolePolicyInput{RoleName: ptr("r"), PolicyName: ptr("p"), PolicyDocument: ptr(allowS3)}))(t)
		if look() != 1 {
			t.Error("a policy that was put does not count")
		}
		must(b.DeleteRolePolicy(b.ctx, b.root, &api.DeleteRolePolicyInput{RoleName: ptr("r"), PolicyName: ptr("p")}))(t)
		if look() != 0 {
			t.Error("a policy that was deleted still counts")
		}
	}
	close(stop)
	readers.Wait()
}

// Of many who create the same name at once, one succeeds.
func TestOneOfMany(t *testing.T) {
	b := newBench(t)
	var wg sync.WaitGroup
	made := make(chan string, 16)
	for i := range 16 {
		wg.Go(func() {
			name := ptr([]string{"same", "SAME", "Same", "sAme"}[i%4])
			if _, err := b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: name}); err == nil {
				made <- *name
			} else {
				wantErr := fmt.Sprintf("EntityAlreadyExists: User with name %s already exists.", *name)
				if err.Error() != wantErr {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if len(made) != 1 {
		t.Errorf("%d users of one name", len(made))
	}
}

func FuzzSSHKey(f *testing.F) {
	f.Add("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ== a@b")
	f.Add("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----")
	f.Fuzz(func(t *testing.T, text string) {
		blob, err := parseSSHKey(text)
		if err == nil && sshPublic(blob) == nil && !strings.Contains(text, "BEGIN") {
			t.Errorf("%q is taken for a key and is none", text)
		}
	})
}
