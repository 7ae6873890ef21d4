package identity

import (
	"context"
	"strings"
	"testing"

	"skerry/internal/api/ec2"
	api "skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/op"
)

// servers is a service of EC2's protocol, which encodes its refusals.
func servers() op.Service {
	rule := func(context.Context, auth.Scope, *ec2.DescribeInstancesInput) ([]auth.Access, error) {
		return []auth.Access{{Action: "ec2:DescribeInstances", Resource: "*", Context: map[string][]string{"ec2:Region": {"us-east-1"}}}}, nil
	}
	return op.Service{API: ec2.Schema, Operations: []op.Operation{
		op.New("DescribeInstances", rule, func(context.Context, auth.Scope, *ec2.DescribeInstancesInput) (*ec2.DescribeInstancesOutput, error) {
			return &ec2.DescribeInstancesOutput{}, nil
		}),
	}}
}

func TestAuthorizationMessage(t *testing.T) {
	b := newBench(t)
	reader := b.user("reader", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:DecodeAuthorizationMessage","Resource":"*"}}`)
	denied := b.user("denied", `{"Version":"2012-10-17","Statement":{"Sid":"NoServers","Effect":"Deny","Action":"ec2:*","Resource":"*"}}`)
	for _, c := range []struct {
		who  auth.Scope
		want []string
	}{
		{reader, []string{`"allowed":false,"explicitDeny":false,"matchedStatements":{"items":[]},"failures":{"items":[]}`, `"name":"reader","arn":"arn:aws:iam::123456789012:user/reader"},"action":"ec2:DescribeInstances","resource":"*","conditions":{"items":[{"key":"ec2:Region","values":{"items":[{"value":"us-east-1"}]}}]}`}},
		{denied, []string{`"explicitDeny":true`, `"statementId":"NoServers","effect":"DENY"`, `"actions":{"items":[{"value":"ec2:*"}]}`}},
	} {
		_, err := call[ec2.DescribeInstancesOutput](b, c.who, "ec2", "DescribeInstances", &ec2.DescribeInstancesInput{})
		b.wantCode(err, "UnauthorizedOperation", "You are not authorized to perform this operation. User: ")
		_, message, found := strings.Cut(err.Error(), "Encoded authorization failure message: ")
		if !found {
			t.Fatal(err)
		}
		out := do[api.DecodeAuthorizationMessageOutput](b, reader, "sts", "DecodeAuthorizationMessage", &api.DecodeAuthorizationMessageInput{EncodedMessage: &message})
		for _, w := range c.want {
			if !strings.Contains(*out.DecodedMessage, w) {
				t.Errorf("message %s lacks %s", *out.DecodedMessage, w)
			}
		}
		_, err = call[api.DecodeAuthorizationMessageOutput](b, denied, "sts", "DecodeAuthorizationMessage", &api.DecodeAuthorizationMessageInput{EncodedMessage: &message})
		b.wantCode(err, "AccessDenied", "sts:DecodeAuthorizationMessage")
		foreign := b.scope(auth.Principal{Kind: auth.Root, Account: "210987654321", ID: "210987654321"})
		for _, try := range []struct {
			sc   auth.Scope
			text string
		}{{foreign, message}, {reader, message[1:]}, {reader, "%"}, {reader, strings.ToUpper(message)}} {
			_, err = call[api.DecodeAuthorizationMessageOutput](b, try.sc, "sts", "DecodeAuthorizationMessage", &api.DecodeAuthorizationMessageInput{EncodedMessage: &try.text})
			b.wantCode(err, "InvalidAuthorizationMessageException", "")
		}
	}
}
