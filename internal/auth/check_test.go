package auth_test

import (
	"errors"
	"strings"
	"testing"

	"skerry/internal/auth"
)

// The texts are those that IAM answers.
func TestMalformedPolicies(t *testing.T) {
	statement := func(s string) string { return `{"Version":"2012-10-17","Statement":` + s + `}` }
	identity := func(p *auth.Policy) error { return p.CheckIdentity() }
	trust := func(p *auth.Policy) error { return p.CheckTrust() }
	resource := func(p *auth.Policy) error { return p.CheckResource() }
	tests := []struct {
		doc   string
		check func(*auth.Policy) error
		want  string // "" = valid
	}{
		{"", identity, "Syntax errors in policy."},
		{"[]", identity, "Syntax errors in policy."},
		{policy(allowAll) + "x", identity, "Syntax errors in policy."},
		{`{"Version":"2013-10-17","Statement":` + allowAll + `}`, identity, "Syntax errors in policy."},
		{`{"Version":"2012-10-17","Version":"2012-10-17","Statement":` + allowAll + `}`, identity, "Syntax errors in policy."},
		{`{"Statement":` + allowAll + `}`, identity, "Policy document must be version 2012-10-17 or greater."},
		{`{"Version":"2012-10-17"}`, identity, "Syntax errors in policy."},
		{statement(`[]`), identity, "Syntax errors in policy."},
		{statement(`{"Effect":"allow","Action":"*","Resource":"*"}`), identity, "Syntax errors in policy."},
		{statement(`{"Effect":"Allow","Action":"*","Resource":"*","Extra":1}`), identity, "Syntax errors in policy."},
		{statement(`{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}`), identity, "Syntax errors in policy."},
		{statement(`{"Effect":"Allow","Resource":"*"}`), identity, "Policy statement must contain actions."},
		{statement(`{"Effect":"Allow","Action":[],"Resource":"*"}`), identity, "Policy statement must contain actions."},
		{statement(`{"Effect":"Allow","Action":"*"}`), identity, "Policy statement must contain resources."},
		{statement(`{"Effect":"Allow","Action":"invalid","Resource":"*"}`), identity, "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."},
		{statement(`{"Effect":"Allow","Action":"a:b:c","Resource":"*"}`), identity, "Actions/Condition can contain only one colon."},
		{statement(`{"Effect":"Allow","Action":"a a:b","Resource":"*"}`), identity, "Vendor a a is not valid"},
		{statement(`{"Effect":"Allow","Action":"s3:*","Resource":"bucket"}`), identity, `Resource bucket must be in ARN format or "*".`},
		{statement(`{"Effect":"Allow","Action":"s3:*","Resource":"arn:error:s3:::b"}`), identity, `Partition "error" is not valid for resource "arn:error:s3:::b".`},
		{statement(`{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws"}`), identity, "Resource vendor must be fully qualified and cannot contain regexes."},
		{statement(`{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:us-east-1::b"}`), identity, "Resource arn:aws:s3:us-east-1::b can not contain region information."},
		{statement(`{"Effect":"Allow","Action":"iam:*","Resource":"arn:aws:iam::123456789012:cat"}`), identity,
			`IAM resource path must either be "*" or start with user/, federated-user/, role/, group/, instance-profile/, mfa/, server-certificate/, policy/, sms-mfa/, saml-provider/, oidc-provider/, report/, access-report/.`},
		{statement(`{"Sid":"a b","Effect":"Allow","Action":"*","Resource":"*"}`), identity, "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"},
		{policy(denyAll, denyAll), identity, "Statement IDs (SID) in a single policy must be unique."},
		{byPrincipal("Allow", `"*"`), identity, "Policy document should not specify a principal."},
		{statement(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringIs":{"a:b":"c"}}}`), identity, "Syntax errors in policy."},
		{statement(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NullIfExists":{"a:b":"true"}}}`), identity, "Syntax errors in policy."},
		{statement(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"b":"c"}}}`), identity, "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."},
		{statement(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"DateEquals":{"a:b":"noon"}}}`), identity, "The policy failed legacy parsing"},
		{policy(allowAll), identity, ""},
		{byPrincipal("Allow", `{"AWS":"arn:aws:iam::123456789012:user/ann"}`), resource, ""},
		{policy(allowAll), resource, "Missing required field Principal"},
		{byPrincipal("Allow", `{"AWS":"ann"}`), resource, `Invalid principal in policy: "AWS":"ann"`},
		{byPrincipal("Allow", `{"AWS":"arn:aws:iam::123456789012:user/*"}`), resource, `Invalid principal in policy: "AWS":"arn:aws:iam::123456789012:user/*"`},
		{byPrincipal("Allow", `{"Service":"lambda"}`), resource, `Invalid principal in policy: "SERVICE":"lambda"`},
		{byPrincipal("Allow", `{"Robot":"*"}`), resource, "Syntax errors in policy."},
		{byPrincipal("Allow", `"*"`), trust, "Has prohibited field Resource"},
		{statement(`{"Effect":"Allow","Principal":"*","Action":"s3:*"}`), trust, "AssumeRole policy may only specify STS AssumeRole actions."},
		{statement(`{"Effect":"Allow","Action":"sts:AssumeRole"}`), trust, "Missing required field Principal"},
		{statement(`{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}`), trust, ""},
	}
	for _, tt := range tests {
		p, err := auth.ParsePolicy(tt.doc)
		if err == nil {
			err = tt.check(p)
		}
		got := ""
		if pe, ok := errors.AsType[*auth.PolicyError](err); ok {
			got = pe.Reason
		}
		if got != tt.want {
			t.Errorf("%s\n got %q\nwant %q", tt.doc, got, tt.want)
		}
	}
}

func TestHostilePolicies(t *testing.T) {
	for _, doc := range []string{strings.Repeat("[", 1e6), strings.Repeat(`{"a":`, 1e5), strings.Repeat(" ", 2<<20)} {
		if _, err := auth.ParsePolicy(doc); err == nil {
			t.Errorf("%.20s... is a policy", doc)
		}
	}
}
