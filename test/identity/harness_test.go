package identity

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	iamapi "skerry/internal/api/iam"
	api "skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
	"skerry/internal/gateway"
	"skerry/internal/op"
	"skerry/internal/service/iam"
	"skerry/internal/service/sts"
	"skerry/internal/store"
)

const account = "123456789012"

var began = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// bench is sts with the real iam behind the real gateway, which authorises.
type bench struct {
	*sts.Service
	t     testing.TB
	ctx   context.Context
	clock *clock.Fake
	gate  *gateway.Gateway
	root  auth.Scope
	db    *store.DB
	iam   *iam.Service
}

func newBench(t testing.TB) *bench { return benchAt(t, t.TempDir(), http.DefaultClient) }

func benchAt(t testing.TB, dir string, client *http.Client) *bench {
	t.Helper()
	db, err := store.Open(dir, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, ctx: t.Context(), clock: clock.NewFake(began), db: db}
	t.Cleanup(func() { _ = db.Close() })
	log := slog.New(slog.DiscardHandler)
	if b.iam, err = iam.New(iam.Deps{Store: db, Clock: b.clock, Log: log, Services: b.services}); err != nil {
		t.Fatal(err)
	}
	b.Service = sts.New(sts.Deps{Store: db, Clock: b.clock, Log: log, Identities: b.iam, HTTP: client})
	b.gate, err = gateway.New(gateway.Config{
		Services: b.services(), Directory: b.Service, Region: "us-east-1", Clock: b.clock, Log: log,
		EncodeDenial: b.EncodeDenial, Used: b.iam.Used,
	})
	if err != nil {
		t.Fatal(err)
	}
	b.root = b.scope(iam.RootUser(account))
	return b
}

func (b *bench) services() []op.Service {
	return []op.Service{b.iam.Service(), b.Service.Service(), servers()}
}

func (b *bench) scope(p auth.Principal) auth.Scope {
	return auth.NewScope(p, "us-east-1", auth.Request{Time: b.clock.Now(), ID: "test"})
}

// as is the scope of whoever has an access key.
func (b *bench) as(accessKey string) auth.Scope {
	b.t.Helper()
	c, err := b.Credential(b.ctx, accessKey)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.scope(c.Principal)
}

// call goes through the gateway's authorisation.
func call[O any](b *bench, sc auth.Scope, service, operation string, in any) (*O, error) {
	return op.Call[O](b.ctx, b.gate, sc, service, operation, in)
}

// do is a call that has to succeed.
func do[O any](b *bench, sc auth.Scope, service, operation string, in any) *O {
	b.t.Helper()
	out, err := call[O](b, sc, service, operation, in)
	if err != nil {
		b.t.Fatalf("%s: %v", operation, err)
	}
	return out
}

func (b *bench) wantCode(err error, code, text string) {
	b.t.Helper()
	if awserr.Code(err) != code || code != "" && !strings.Contains(err.Error(), text) || code == "" && err != nil {
		b.t.Fatalf("error %v, want %s with %q", err, code, text)
	}
}

// user makes a user with an inline policy and an access key.
func (b *bench) user(name, policy string) auth.Scope {
	b.t.Helper()
	do[iamapi.CreateUserOutput](b, b.root, "iam", "CreateUser", &iamapi.CreateUserInput{UserName: &name})
	if policy != "" {
		do[iamapi.PutUserPolicyOutput](b, b.root, "iam", "PutUserPolicy", &iamapi.PutUserPolicyInput{UserName: &name, PolicyName: &name, PolicyDocument: &policy})
	}
	key := do[iamapi.CreateAccessKeyOutput](b, b.root, "iam", "CreateAccessKey", &iamapi.CreateAccessKeyInput{UserName: &name})
	return b.as(*key.AccessKey.AccessKeyId)
}

// role makes a role with a trust policy and an inline policy.
func (b *bench) role(name, trust, policy string) string {
	b.t.Helper()
	out := do[iamapi.CreateRoleOutput](b, b.root, "iam", "CreateRole", &iamapi.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust, MaxSessionDuration: ptr(int32(7200))})
	if policy != "" {
		do[iamapi.PutRolePolicyOutput](b, b.root, "iam", "PutRolePolicy", &iamapi.PutRolePolicyInput{RoleName: &name, PolicyName: &name, PolicyDocument: &policy})
	}
	return *out.Role.Arn
}

func (b *bench) assume(sc auth.Scope, in *api.AssumeRoleInput) (*api.AssumeRoleOutput, error) {
	if in.RoleSessionName == nil {
		in.RoleSessionName = ptr("work")
	}
	return call[api.AssumeRoleOutput](b, sc, "sts", "AssumeRole", in)
}

func (b *bench) assumed(sc auth.Scope, in *api.AssumeRoleInput) (*api.AssumeRoleOutput, auth.Scope) {
	b.t.Helper()
	out, err := b.assume(sc, in)
	if err != nil {
		b.t.Fatal(err)
	}
	return out, b.as(*out.Credentials.AccessKeyId)
}

// may asks whether a caller may do an action on everything of the own account.
func (b *bench) may(sc auth.Scope, action string) bool {
	b.t.Helper()
	p, err := b.Policies(b.ctx, sc.Principal)
	if err != nil {
		b.t.Fatal(err)
	}
	return auth.Evaluate(auth.Evaluation{Scope: sc, Access: auth.Access{Action: action, Resource: "*"}, Policies: p}).Allowed()
}

func ptr[T any](v T) *T { return &v }
