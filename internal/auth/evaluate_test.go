package auth_test

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"skerry/internal/auth"
)

const (
	here  = "123456789012"
	there = "111122223333"
)

var now = time.Date(2026, 8, 7, 12, 0, 0, 0, time.UTC)

func user(name string) auth.Principal {
	return auth.Principal{Kind: auth.User, Account: here, ARN: "arn:aws:iam::" + here + ":user/" + name, ID: "AIDAEXAMPLEEXAMPLE123", Name: name}
}

func session(role string) auth.Principal {
	return auth.Principal{
		Kind: auth.AssumedRole, Account: here, ARN: "arn:aws:sts::" + here + ":assumed-role/" + role + "/s1",
		Role: "arn:aws:iam::" + here + ":role/path/" + role, ID: "AROAEXAMPLEEXAMPLE123:s1", Name: role,
		Session: auth.Session{Issued: now.Add(-time.Minute), Expires: now.Add(time.Hour)},
	}
}

func root() auth.Principal {
	return auth.Principal{Kind: auth.Root, Account: here, ARN: "arn:aws:iam::" + here + ":root", ID: here}
}

func parse(t testing.TB, text string) *auth.Policy {
	t.Helper()
	p, err := auth.ParsePolicy(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return p
}

// docs makes documents of statements (without the policy around them).
func docs(t testing.TB, statements ...string) []auth.Document {
	t.Helper()
	out := []auth.Document{}
	for _, s := range statements {
		out = append(out, auth.Document{Source: "p", Policy: parse(t, policy(s))})
	}
	return out
}

func policy(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

const (
	allowAll = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	denyAll  = `{"Sid":"No","Effect":"Deny","Action":"*","Resource":"*"}`
	nothing  = `{"Effect":"Allow","Action":"none:None","Resource":"*"}`
)

func byPrincipal(effect, principal string) string {
	return policy(`{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"s3:*","Resource":"*"}`)
}

func TestEvaluationLogic(t *testing.T) {
	aws := func(name string) string { return `{"AWS":"` + name + `"}` }
	userARN, roleARN := user("ann").ARN, session("r").Role
	tests := []struct {
		name                        string
		p                           auth.Principal
		identity, boundary, session string // "" = none
		resource, owner             string
		strict, acl                 bool
		want                        auth.Effect
		layer                       auth.Layer
	}{
		{name: "nothing allows", p: user("ann"), want: auth.ImplicitDeny, layer: auth.IdentityPolicy},
		{name: "identity allows", p: user("ann"), identity: allowAll, want: auth.Allow, layer: auth.IdentityPolicy},
		{name: "identity denies", p: user("ann"), identity: allowAll + "," + denyAll, want: auth.ExplicitDeny, layer: auth.IdentityPolicy},
		{name: "boundary lacks", p: user("ann"), identity: allowAll, boundary: nothing, want: auth.ImplicitDeny, layer: auth.Boundary},
		{name: "boundary alone", p: user("ann"), boundary: allowAll, want: auth.ImplicitDeny, layer: auth.IdentityPolicy},
		{name: "boundary denies", p: user("ann"), identity: allowAll, boundary: denyAll, want: auth.ExplicitDeny, layer: auth.Boundary},
		{name: "session lacks", p: session("r"), identity: allowAll, session: nothing, want: auth.ImplicitDeny, layer: auth.SessionPolicy},
		{name: "session denies", p: session("r"), identity: allowAll, session: denyAll, want: auth.ExplicitDeny, layer: auth.SessionPolicy},
		{name: "all agree", p: session("r"), identity: allowAll, boundary: allowAll, session: allowAll, want: auth.Allow, layer: auth.IdentityPolicy},
		{name: "resource alone, user", p: user("ann"), resource: byPrincipal("Allow", aws(userARN)), want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "user grant ignores boundary", p: user("ann"), boundary: nothing, resource: byPrincipal("Allow", aws(userARN)), want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "role grant alone", p: session("r"), resource: byPrincipal("Allow", aws(roleARN)), want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "role grant within boundary", p: session("r"), boundary: nothing, resource: byPrincipal("Allow", aws(roleARN)), want: auth.ImplicitDeny, layer: auth.Boundary},
		{name: "role grant within session", p: session("r"), session: nothing, resource: byPrincipal("Allow", aws(roleARN)), want: auth.ImplicitDeny, layer: auth.SessionPolicy},
		{name: "session grant ignores session policy", p: session("r"), session: nothing, resource: byPrincipal("Allow", aws(session("r").ARN)), want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "unique id of role", p: session("r"), resource: byPrincipal("Allow", aws("AROAEXAMPLEEXAMPLE123")), want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "account grant delegates only", p: user("ann"), resource: byPrincipal("Allow", aws(here)), want: auth.ImplicitDeny, layer: auth.IdentityPolicy},
		{name: "everyone", p: user("ann"), resource: byPrincipal("Allow", `"*"`), want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "everyone, anonymous", p: auth.Principal{}, resource: byPrincipal("Allow", aws("*")), owner: here, want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "anonymous", p: auth.Principal{}, resource: byPrincipal("Allow", aws(here)), owner: here, want: auth.ImplicitDeny, layer: auth.ResourcePolicy},
		{name: "anonymous by ACL", p: auth.Principal{}, acl: true, owner: here, want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "ACL against deny", p: auth.Principal{}, acl: true, owner: here, resource: byPrincipal("Deny", `"*"`), want: auth.ExplicitDeny, layer: auth.ResourcePolicy},
		{name: "resource denies", p: user("ann"), identity: allowAll, resource: byPrincipal("Deny", aws("arn:aws:iam::"+here+":root")), want: auth.ExplicitDeny, layer: auth.ResourcePolicy},
		{name: "root", p: root(), want: auth.Allow},
		{name: "root denied by resource", p: root(), resource: byPrincipal("Deny", `"*"`), want: auth.ExplicitDeny, layer: auth.ResourcePolicy},
		{name: "root elsewhere", p: root(), owner: there, want: auth.ImplicitDeny, layer: auth.ResourcePolicy},
		{name: "other account, both", p: user("ann"), identity: allowAll, owner: there, resource: byPrincipal("Allow", aws(here)), want: auth.Allow, layer: auth.IdentityPolicy},
		{name: "other account, identity only", p: user("ann"), identity: allowAll, owner: there, want: auth.ImplicitDeny, layer: auth.ResourcePolicy},
		{name: "other account, resource only", p: user("ann"), owner: there, resource: byPrincipal("Allow", aws(userARN)), want: auth.ImplicitDeny, layer: auth.IdentityPolicy},
		{name: "other account, boundary", p: user("ann"), identity: allowAll, boundary: nothing, owner: there, resource: byPrincipal("Allow", aws(userARN)), want: auth.ImplicitDeny, layer: auth.Boundary},
		{name: "strict, identity only", p: user("ann"), identity: allowAll, strict: true, want: auth.ImplicitDeny, layer: auth.ResourcePolicy},
		{name: "strict, by account", p: user("ann"), identity: allowAll, strict: true, resource: byPrincipal("Allow", aws(here)), want: auth.Allow, layer: auth.IdentityPolicy},
		{name: "strict, account alone", p: user("ann"), strict: true, resource: byPrincipal("Allow", aws(here)), want: auth.ImplicitDeny, layer: auth.IdentityPolicy},
		{name: "strict, by name", p: user("ann"), strict: true, resource: byPrincipal("Allow", aws(userARN)), want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "service", p: auth.Principal{Kind: auth.Service, Service: "s3.amazonaws.com"}, resource: byPrincipal("Allow", `{"Service":"s3.amazonaws.com"}`), want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "other service", p: auth.Principal{Kind: auth.Service, Service: "sns.amazonaws.com"}, resource: byPrincipal("Allow", `{"Service":"s3.amazonaws.com"}`), want: auth.ImplicitDeny, layer: auth.ResourcePolicy},
		{name: "federated", p: auth.Principal{Kind: auth.Identity, Session: auth.Session{Federated: "accounts.google.com"}}, strict: true, owner: here, resource: byPrincipal("Allow", `{"Federated":"accounts.google.com"}`), want: auth.Allow, layer: auth.ResourcePolicy},
		{name: "federated, account named", p: auth.Principal{Kind: auth.Identity, Account: here, Session: auth.Session{Federated: "accounts.google.com"}}, strict: true, owner: here, resource: byPrincipal("Allow", aws(here)), want: auth.ImplicitDeny, layer: auth.ResourcePolicy},
		{name: "canonical user", p: user("ann"), identity: allowAll, owner: there, resource: byPrincipal("Allow", `{"CanonicalUser":"`+auth.CanonicalUser(here)+`"}`), want: auth.Allow, layer: auth.IdentityPolicy},
		{name: "NotPrincipal spares", p: user("ann"), identity: allowAll, resource: policy(`{"Effect":"Deny","NotPrincipal":{"AWS":["` + userARN + `","` + here + `"]},"Action":"*","Resource":"*"}`), want: auth.Allow, layer: auth.IdentityPolicy},
		{name: "NotPrincipal denies others", p: user("bob"), identity: allowAll, resource: policy(`{"Effect":"Deny","NotPrincipal":{"AWS":["` + userARN + `","` + here + `"]},"Action":"*","Resource":"*"}`), want: auth.ExplicitDeny, layer: auth.ResourcePolicy},
		{name: "unreadable resource policy", p: user("ann"), identity: allowAll, resource: `{`, want: auth.ImplicitDeny, layer: auth.ResourcePolicy},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := auth.Evaluation{
				Scope:  auth.NewScope(tt.p, "us-east-1", auth.Request{Time: now}),
				Access: auth.Access{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/k", Owner: tt.owner, Policy: tt.resource, Strict: tt.strict, ACL: tt.acl},
			}
			for text, to := range map[string]*[]auth.Document{tt.identity: &e.Policies.Identity, tt.boundary: &e.Policies.Boundary, tt.session: &e.Policies.Session} {
				if text != "" {
					*to = docs(t, text)
				}
			}
			// Texts may be equal among the layers, which a map would lose.
			if tt.boundary != "" {
				e.Policies.Boundary = docs(t, tt.boundary)
			}
			if tt.session != "" {
				e.Policies.Session = docs(t, tt.session)
			}
			if tt.identity != "" {
				e.Policies.Identity = docs(t, tt.identity)
			}
			for _, explain := range []bool{false, true} {
				e.Explain = explain
				d := auth.Evaluate(e)
				if d.Effect != tt.want || d.Layer != tt.layer {
					t.Fatalf("got %d by %q, want %d by %q (explain %v)", d.Effect, d.Layer, tt.want, tt.layer, explain)
				}
				if d.Effect == auth.ExplicitDeny && (d.Deciding == nil || !d.Deciding.Statement.Deny) {
					t.Fatalf("an explicit deny names no statement")
				}
			}
		})
	}
}

// The statements are those of the AWS pages "IAM JSON policy elements" and
// "Example policies", shortened.
func TestStatements(t *testing.T) {
	ctx := func(kv ...string) map[string][]string {
		m := map[string][]string{}
		for i := 0; i < len(kv); i += 2 {
			m[kv[i]] = append(m[kv[i]], kv[i+1])
		}
		return m
	}
	allow := func(rest string) string { return `{"Effect":"Allow",` + rest + `}` }
	cond := func(c string) string { return allow(`"Action":"*","Resource":"*","Condition":` + c) }
	tagged := user("ann")
	tagged.Tags = map[string]string{"Project": "blue", "star": "*"}
	tests := []struct {
		name, statement  string
		p                auth.Principal
		action, resource string
		context          map[string][]string
		want             bool
	}{
		{"action wildcard", allow(`"Action":"s3:Get*","Resource":"*"`), user("ann"), "s3:GetObject", "*", nil, true},
		{"action without case", allow(`"Action":"S3:getobject","Resource":"*"`), user("ann"), "s3:GetObject", "*", nil, true},
		{"NotAction", allow(`"NotAction":"iam:*","Resource":"*"`), user("ann"), "s3:GetObject", "*", nil, true},
		{"NotAction hits", allow(`"NotAction":"iam:*","Resource":"*"`), user("ann"), "iam:ListUsers", "*", nil, false},
		{"NotResource", allow(`"Action":"s3:*","NotResource":["arn:aws:s3:::hr","arn:aws:s3:::hr/*"]`), user("ann"), "s3:GetObject", "arn:aws:s3:::b/k", nil, true},
		{"NotResource hits", allow(`"Action":"s3:*","NotResource":["arn:aws:s3:::hr","arn:aws:s3:::hr/*"]`), user("ann"), "s3:GetObject", "arn:aws:s3:::hr/k", nil, false},
		{"NotResource with unknown variable", allow(`"Action":"s3:*","NotResource":"arn:aws:s3:::${aws:PrincipalTag/none}"`), user("ann"), "s3:GetObject", "arn:aws:s3:::hr/k", nil, false},
		{"resource spans slashes", allow(`"Action":"*","Resource":"arn:aws:s3:::b/*/x"`), user("ann"), "s3:GetObject", "arn:aws:s3:::b/1/2/x", nil, true},
		{"resource spans no colon", allow(`"Action":"*","Resource":"arn:aws:sqs:*:q"`), user("ann"), "sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:q", nil, false},
		{"resource completes", allow(`"Action":"*","Resource":"arn:aws:sqs"`), user("ann"), "sqs:SendMessage", "arn:aws:sqs:us-east-1:123456789012:q", nil, true},
		{"question mark", allow(`"Action":"*","Resource":"arn:aws:s3:::b?"`), user("ann"), "s3:ListBucket", "arn:aws:s3:::b1", nil, true},
		{"question mark is a character", allow(`"Action":"*","Resource":"arn:aws:s3:::b/?"`), user("ann"), "s3:GetObject", "arn:aws:s3:::b/é", nil, true},
		{"star resource needs star", allow(`"Action":"*","Resource":"arn:aws:s3:::b"`), user("ann"), "s3:ListAllMyBuckets", "*", nil, false},
		{"variable", allow(`"Action":"*","Resource":"arn:aws:s3:::b/${aws:username}/*"`), user("ann"), "s3:GetObject", "arn:aws:s3:::b/ann/k", nil, true},
		{"variable, another's", allow(`"Action":"*","Resource":"arn:aws:s3:::b/${aws:username}/*"`), user("ann"), "s3:GetObject", "arn:aws:s3:::b/bob/k", nil, false},
		{"variable's star is plain", allow(`"Action":"*","Resource":"arn:aws:s3:::b/${aws:PrincipalTag/star}"`), tagged, "s3:GetObject", "arn:aws:s3:::b/any", nil, false},
		{"variable unknown", allow(`"Action":"*","Resource":"arn:aws:s3:::b/${aws:username}*"`), session("r"), "s3:GetObject", "arn:aws:s3:::b/k", nil, false},
		{"variable default", allow(`"Action":"*","Resource":"arn:aws:s3:::b/${aws:username, 'guest'}/*"`), session("r"), "s3:GetObject", "arn:aws:s3:::b/guest/k", nil, true},
		{"plain star", allow(`"Action":"*","Resource":"arn:aws:s3:::b/${*}"`), user("ann"), "s3:GetObject", "arn:aws:s3:::b/k", nil, false},
		{"plain star itself", allow(`"Action":"*","Resource":"arn:aws:s3:::b/${*}"`), user("ann"), "s3:GetObject", "arn:aws:s3:::b/*", nil, true},
		{"tag variable in condition", cond(`{"StringEquals":{"aws:ResourceTag/project":"${aws:PrincipalTag/Project}"}}`), tagged, "ec2:StartInstances", "*", ctx("aws:ResourceTag/Project", "blue"), true},
		{"StringEquals", cond(`{"StringEquals":{"s3:prefix":["","home/"]}}`), user("ann"), "s3:ListBucket", "*", ctx("s3:prefix", ""), true},
		{"StringEquals has no wildcards", cond(`{"StringEquals":{"s3:prefix":"h*"}}`), user("ann"), "s3:ListBucket", "*", ctx("s3:prefix", "home/"), false},
		{"StringEquals absent", cond(`{"StringEquals":{"s3:prefix":"x"}}`), user("ann"), "s3:ListBucket", "*", nil, false},
		{"StringNotEquals absent", cond(`{"StringNotEquals":{"s3:prefix":"x"}}`), user("ann"), "s3:ListBucket", "*", nil, true},
		{"IfExists absent", cond(`{"StringEqualsIfExists":{"s3:prefix":"x"}}`), user("ann"), "s3:ListBucket", "*", nil, true},
		{"IfExists present", cond(`{"StringEqualsIfExists":{"s3:prefix":"x"}}`), user("ann"), "s3:ListBucket", "*", ctx("s3:prefix", "y"), false},
		{"ignore case", cond(`{"StringEqualsIgnoreCase":{"aws:username":"ANN"}}`), user("ann"), "s3:ListBucket", "*", nil, true},
		{"not ignore case", cond(`{"StringNotEqualsIgnoreCase":{"aws:username":"ANN"}}`), user("ann"), "s3:ListBucket", "*", nil, false},
		{"StringLike", cond(`{"StringLike":{"s3:prefix":"home/*"}}`), user("ann"), "s3:ListBucket", "*", ctx("s3:prefix", "home/a"), true},
		{"StringNotLike", cond(`{"StringNotLike":{"s3:prefix":"home/*"}}`), user("ann"), "s3:ListBucket", "*", ctx("s3:prefix", "home/a"), false},
		{"numeric", cond(`{"NumericLessThanEquals":{"s3:max-keys":"10"}}`), user("ann"), "s3:ListBucket", "*", ctx("s3:max-keys", "10"), true},
		{"numeric, unquoted", cond(`{"NumericGreaterThan":{"s3:max-keys":10}}`), user("ann"), "s3:ListBucket", "*", ctx("s3:max-keys", "10"), false},
		{"numeric not", cond(`{"NumericNotEquals":{"s3:max-keys":"10"}}`), user("ann"), "s3:ListBucket", "*", ctx("s3:max-keys", "11"), true},
		{"date", cond(`{"DateGreaterThan":{"aws:CurrentTime":"2026-08-01T00:00:00Z"},"DateLessThan":{"aws:CurrentTime":"2026-09-01T00:00:00Z"}}`), user("ann"), "a:B", "*", nil, true},
		{"epoch", cond(`{"DateLessThan":{"aws:EpochTime":"1000000000"}}`), user("ann"), "a:B", "*", nil, false},
		{"bool", cond(`{"Bool":{"aws:SecureTransport":"true"}}`), user("ann"), "a:B", "*", nil, false},
		{"bool, unquoted", cond(`{"Bool":{"aws:SecureTransport":false}}`), user("ann"), "a:B", "*", nil, true},
		{"MFA absent for long-term keys", cond(`{"BoolIfExists":{"aws:MultiFactorAuthPresent":"false"}}`), user("ann"), "a:B", "*", nil, true},
		{"binary", cond(`{"BinaryEquals":{"key:bin":"QmluYXJ5"}}`), user("ann"), "a:B", "*", ctx("key:bin", "QmluYXJ5"), true},
		{"address", cond(`{"IpAddress":{"aws:SourceIp":["203.0.113.0/24","2001:DB8:1234:5678::/64"]}}`), user("ann"), "a:B", "*", ctx("aws:SourceIp", "203.0.113.9"), true},
		{"address 6", cond(`{"IpAddress":{"aws:SourceIp":["203.0.113.0/24","2001:DB8:1234:5678::/64"]}}`), user("ann"), "a:B", "*", ctx("aws:SourceIp", "2001:db8:1234:5678::1"), true},
		{"not address", cond(`{"NotIpAddress":{"aws:SourceIp":"203.0.113.0/24"}}`), user("ann"), "a:B", "*", ctx("aws:SourceIp", "203.0.113.9"), false},
		{"ARN", cond(`{"ArnLike":{"aws:SourceArn":"arn:aws:sns:*:123456789012:t-*"}}`), user("ann"), "a:B", "*", ctx("aws:SourceArn", "arn:aws:sns:us-east-1:123456789012:t-1"), true},
		{"ARN spans no colon", cond(`{"ArnEquals":{"aws:SourceArn":"arn:aws:sns:*:t-1"}}`), user("ann"), "a:B", "*", ctx("aws:SourceArn", "arn:aws:sns:us-east-1:123456789012:t-1"), false},
		{"ARN not", cond(`{"ArnNotLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/path/r"}}`), session("r"), "a:B", "*", nil, false},
		{"Null true", cond(`{"Null":{"aws:TokenIssueTime":"true"}}`), user("ann"), "a:B", "*", nil, true},
		{"Null false", cond(`{"Null":{"aws:TokenIssueTime":"false"}}`), session("r"), "a:B", "*", nil, true},
		{"ForAllValues", cond(`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`), user("ann"), "a:B", "*", ctx("aws:TagKeys", "a", "aws:TagKeys", "b"), true},
		{"ForAllValues one over", cond(`{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}`), user("ann"), "a:B", "*", ctx("aws:TagKeys", "a", "aws:TagKeys", "c"), false},
		{"ForAllValues absent", cond(`{"ForAllValues:StringEquals":{"aws:TagKeys":["a"]}}`), user("ann"), "a:B", "*", nil, true},
		{"ForAllValues not", cond(`{"ForAllValues:StringNotEquals":{"aws:TagKeys":["x"]}}`), user("ann"), "a:B", "*", ctx("aws:TagKeys", "a", "aws:TagKeys", "x"), false},
		{"ForAnyValue", cond(`{"ForAnyValue:StringEquals":{"aws:TagKeys":["a","b"]}}`), user("ann"), "a:B", "*", ctx("aws:TagKeys", "c", "aws:TagKeys", "b"), true},
		{"ForAnyValue absent", cond(`{"ForAnyValue:StringEquals":{"aws:TagKeys":["a"]}}`), user("ann"), "a:B", "*", nil, false},
		{"ForAnyValue not, absent", cond(`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a"]}}`), user("ann"), "a:B", "*", nil, false},
		{"ForAnyValue not", cond(`{"ForAnyValue:StringNotEquals":{"aws:TagKeys":["a"]}}`), user("ann"), "a:B", "*", ctx("aws:TagKeys", "a", "aws:TagKeys", "b"), true},
		{"keys without case", cond(`{"StringEquals":{"AWS:UserName":"ann"}}`), user("ann"), "a:B", "*", nil, true},
		{"conditions are joined by and", cond(`{"StringEquals":{"aws:username":"ann","s3:prefix":"x"}}`), user("ann"), "a:B", "*", nil, false},
		{"userid of a session", cond(`{"StringLike":{"aws:userId":"AROAEXAMPLEEXAMPLE123:*"}}`), session("r"), "a:B", "*", nil, true},
		{"resource account", cond(`{"StringEquals":{"aws:ResourceAccount":"${aws:PrincipalAccount}"}}`), user("ann"), "a:B", "*", nil, true},
		{"negated with unknown variable", cond(`{"StringNotEquals":{"aws:username":"${aws:PrincipalTag/none}"}}`), user("ann"), "a:B", "*", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := auth.Evaluate(auth.Evaluation{
				Scope:    auth.NewScope(tt.p, "us-east-1", auth.Request{Time: now}),
				Access:   auth.Access{Action: tt.action, Resource: tt.resource, Context: tt.context},
				Policies: auth.Policies{Identity: docs(t, tt.statement)},
			})
			if d.Allowed() != tt.want {
				t.Fatalf("allowed is %v", d.Allowed())
			}
		})
	}
}

func TestOldVersionHasNoVariables(t *testing.T) {
	p := parse(t, `{"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::${aws:username}"}}`)
	e := auth.Evaluation{Scope: auth.NewScope(user("ann"), "", auth.Request{}), Policies: auth.Policies{Identity: []auth.Document{{Policy: p}}}}
	for resource, want := range map[string]bool{"arn:aws:s3:::ann": false, "arn:aws:s3:::${aws:username}": true} {
		e.Access = auth.Access{Action: "s3:ListBucket", Resource: resource}
		if auth.Evaluate(e).Allowed() != want {
			t.Errorf("%s: allowed is %v", resource, !want)
		}
	}
}

func TestExplanation(t *testing.T) {
	p := parse(t, "{\"Version\":\"2012-10-17\",\n \"Statement\":[\n  {\"Sid\":\"One\",\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":\"*\"},\n"+
		"  {\"Sid\":\"Two\",\"Effect\":\"Deny\",\"Action\":\"s3:Put*\",\"Resource\":\"*\",\"Condition\":{\"StringNotEquals\":{\"s3:x-amz-acl\":\"private\"}}}]}")
	d := auth.Evaluate(auth.Evaluation{
		Scope:    auth.NewScope(user("ann"), "", auth.Request{}),
		Access:   auth.Access{Action: "s3:PutObject", Resource: "arn:aws:s3:::b/k"},
		Policies: auth.Policies{Identity: []auth.Document{{Source: "mine", Policy: p}}},
		Explain:  true,
	})
	if d.Effect != auth.ExplicitDeny || d.Deciding.Source != "mine" || d.Deciding.Statement.SID != "Two" {
		t.Fatalf("%+v", d)
	}
	if len(d.Matched) != 2 || len(d.Missing) != 1 || d.Missing[0] != "s3:x-amz-acl" {
		t.Fatalf("matched %d, missing %v", len(d.Matched), d.Missing)
	}
	if s := d.Matched[0].Statement; s.Start != (auth.Position{Line: 3, Column: 3}) || s.End.Line != 3 {
		t.Errorf("the first statement is at %v to %v", s.Start, s.End)
	}
	if got := d.Reason("s3:PutObject"); got != "with an explicit deny in an identity-based policy" {
		t.Error(got)
	}
}

// random makes a random statement of a small world, so that statements overlap.
func random(r *rand.Rand) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	s := `{"Effect":"` + pick("Allow", "Allow", "Deny") + `",` +
		pick(`"Action":`, `"Action":`, `"NotAction":`) + pick(`"*"`, `"s3:*"`, `"s3:Get*"`, `"s3:PutObject"`, `["s3:GetObject","iam:*"]`) + `,` +
		pick(`"Resource":`, `"Resource":`, `"NotResource":`) + pick(`"*"`, `"arn:aws:s3:::b/*"`, `"arn:aws:s3:::b/${aws:username}"`, `"arn:aws:s3:::b/${aws:PrincipalTag/t}"`)
	if r.IntN(2) == 0 {
		s += `,"Condition":{"` + pick("", "ForAllValues:", "ForAnyValue:") + pick("StringEquals", "StringNotEquals", "StringLike") + pick("", "IfExists") +
			`":{"` + pick("aws:username", "aws:PrincipalTag/t", "s3:prefix") + `":` + pick(`"ann"`, `["a*","b"]`, `"${aws:username}"`) + `}}`
	}
	return s + "}"
}

// A deny never widens what is allowed, an allow never narrows it, and the order
// of statements and policies never matters.
func TestProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	ask := func(action, resource string, statements []string) bool {
		half := len(statements) / 2
		var list []auth.Document
		for _, part := range [][]string{statements[:half], statements[half:]} {
			if len(part) > 0 {
				list = append(list, auth.Document{Policy: parse(t, policy(part...))})
			}
		}
		return auth.Evaluate(auth.Evaluation{
			Scope:    auth.NewScope(user("ann"), "us-east-1", auth.Request{Time: now}),
			Access:   auth.Access{Action: action, Resource: resource, Context: map[string][]string{"s3:prefix": {"ann", "b"}}},
			Policies: auth.Policies{Identity: list},
		}).Allowed()
	}
	for range 1000 {
		statements := make([]string, 1+r.IntN(5))
		for i := range statements {
			statements[i] = random(r)
		}
		action := []string{"s3:GetObject", "s3:PutObject", "iam:ListUsers"}[r.IntN(3)]
		resource := []string{"arn:aws:s3:::b/ann", "arn:aws:s3:::c/x", "*"}[r.IntN(3)]
		before := ask(action, resource, statements)
		more := random(r)
		after := ask(action, resource, append(statements[:len(statements):len(statements)], more))
		deny := strings.HasPrefix(more, `{"Effect":"Deny"`)
		if deny && after && !before || !deny && before && !after {
			t.Fatalf("%s on %s: %v, and %v with %s\n%s", action, resource, before, after, more, strings.Join(statements, "\n"))
		}
		r.Shuffle(len(statements), func(i, j int) { statements[i], statements[j] = statements[j], statements[i] })
		if ask(action, resource, statements) != before {
			t.Fatalf("order matters for %s on %s\n%s", action, resource, strings.Join(statements, "\n"))
		}
	}
}

func BenchmarkEvaluate(b *testing.B) {
	e := auth.Evaluation{
		Scope:  auth.NewScope(user("ann"), "us-east-1", auth.Request{Time: now, SourceIP: "127.0.0.1"}),
		Access: auth.Access{Action: "dynamodb:GetItem", Resource: "arn:aws:dynamodb:us-east-1:123456789012:table/t"},
		Policies: auth.Policies{Identity: docs(b, `{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":"arn:aws:s3:::b/*"}`,
			`{"Effect":"Deny","Action":"iam:*","Resource":"*"}`,
			`{"Effect":"Allow","Action":["dynamodb:GetItem","dynamodb:PutItem"],"Resource":"arn:aws:dynamodb:*:*:table/${aws:username, 't'}","Condition":{"IpAddress":{"aws:SourceIp":"127.0.0.0/8"}}}`)},
	}
	b.ReportAllocs()
	for b.Loop() {
		auth.Evaluate(e)
	}
}

func FuzzParsePolicy(f *testing.F) {
	f.Add(policy(allowAll))
	f.Add(byPrincipal("Allow", `{"AWS":["*","123456789012"],"Service":"s3.amazonaws.com"}`))
	f.Add(policy(`{"Effect":"Deny","NotAction":"a:b","NotResource":"arn:aws:s3:::${aws:username, 'x'}${*","Condition":{"ForAnyValue:StringLikeIfExists":{"a:b":["*"]},"Null":{"c:d":true}}}`))
	f.Fuzz(func(t *testing.T, doc string) {
		p, err := auth.ParsePolicy(doc)
		if err != nil {
			return
		}
		_, _, _ = p.CheckIdentity(), p.CheckResource(), p.CheckTrust()
		auth.Evaluate(auth.Evaluation{
			Scope:    auth.NewScope(user("ann"), "", auth.Request{}),
			Access:   auth.Access{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/k", Policy: doc},
			Policies: auth.Policies{Identity: []auth.Document{{Policy: p}}},
			Explain:  true,
		})
	})
}

// The keys that tell how a request to S3 was signed, as in the page "Amazon S3
// Signature Version 4 authentication specific policy keys".
func TestSigningKeys(t *testing.T) {
	request := auth.Request{Time: now, Auth: auth.Method{Type: "REST-QUERY-STRING", Version: "AWS4-HMAC-SHA256", SignedAt: now.Add(-11 * time.Minute), ContentSHA: "UNSIGNED-PAYLOAD"}}
	for condition, want := range map[string]bool{
		`{"NumericGreaterThan":{"s3:signatureAge":"600000"}}`:                        true,
		`{"NumericGreaterThan":{"s3:signatureAge":"700000"}}`:                        false,
		`{"StringEquals":{"s3:signatureversion":"AWS4-HMAC-SHA256"}}`:                true,
		`{"StringNotEquals":{"s3:authType":"REST-HEADER"}}`:                          true,
		`{"StringNotEquals":{"s3:x-amz-content-sha256":"UNSIGNED-PAYLOAD"}}`:         false,
		`{"DateLessThan":{"aws:TokenIssueTime":"2026-08-07T12:00:00Z"}}`:             true,
		`{"Bool":{"aws:MultiFactorAuthPresent":"false"}}`:                            true,
		`{"NumericLessThan":{"aws:MultiFactorAuthAge":"3600"}}`:                      false,
		`{"StringEquals":{"aws:PrincipalType":"AssumedRole"}}`:                       true,
		`{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::123456789012:role/path/r"}}`: true,
	} {
		d := auth.Evaluate(auth.Evaluation{
			Scope:    auth.NewScope(session("r"), "us-east-1", request),
			Access:   auth.Access{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/k"},
			Policies: auth.Policies{Identity: docs(t, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":`+condition+`}`)},
		})
		if d.Allowed() != want {
			t.Errorf("%s: allowed is %v", condition, d.Allowed())
		}
	}
}

// A boundary, a session policy and a denying resource policy only ever narrow.
func TestLayersOnlyNarrow(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 800 {
		e := auth.Evaluation{
			Scope:    auth.NewScope(session("r"), "us-east-1", auth.Request{Time: now}),
			Access:   auth.Access{Action: "s3:GetObject", Resource: "arn:aws:s3:::b/ann", Context: map[string][]string{"s3:prefix": {"ann"}}},
			Policies: auth.Policies{Identity: docs(t, random(r), random(r))},
		}
		if r.IntN(2) == 0 {
			e.Access.Policy = byPrincipal("Allow", `{"AWS":"`+session("r").Role+`"}`)
		}
		before := auth.Evaluate(e)
		extra := docs(t, random(r))
		switch r.IntN(3) {
		case 0:
			e.Policies.Boundary = extra
		case 1:
			e.Policies.Session = extra
		case 2:
			e.Access.Policy = byPrincipal("Deny", `{"AWS":["`+session("r").Role+`"]}`)
		}
		if after := auth.Evaluate(e); after.Allowed() && !before.Allowed() {
			t.Fatalf("widened: %+v", e)
		}
	}
}

// The cache of parsed policies stays small, whatever is parsed.
func TestManyPolicies(t *testing.T) {
	pad := strings.Repeat(" ", 10_000)
	for i := range 1000 {
		doc := policy(`{"Sid":"s` + strconv.Itoa(i) + `","Effect":"Allow","Action":"*","Resource":"*"}` + pad)
		if p := parse(t, doc); p.Statements[0].SID != "s"+strconv.Itoa(i) {
			t.Fatal("another policy")
		}
	}
	if n := auth.CachedForTest(); n > 9<<20 {
		t.Errorf("%d bytes are kept", n)
	}
}
