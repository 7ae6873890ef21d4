package cloud

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"time"

	iamapi "skerry/internal/api/iam"
	s3api "skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/gateway/gatewaytest"
	"skerry/internal/listen"
	"skerry/internal/op"
	"skerry/internal/wire"
)

// assembled returns a cloud that serves on a port of its own, without loops.
func assembled(t *testing.T) *Cloud {
	t.Helper()
	cl := &Cloud{started: time.Now(), log: slog.New(slog.DiscardHandler), resets: make(chan struct{}, 1)}
	cl.config = Config{Listen: "127.0.0.1:0", Data: t.TempDir(), Account: DefaultAccount, Region: DefaultRegion, Durability: "relaxed", Log: cl.log}
	t.Cleanup(func() {
		if err := cl.close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := cl.open(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", cl.config.Listen)
	if err != nil {
		t.Fatal(err)
	}
	cl.endpoint = "http://" + l.Addr().String()
	cl.server = listen.New(cl.doors(), http.HandlerFunc(cl.serveAWS), cl.authority, cl.log)
	if err := cl.build(); err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := cl.server.Serve(l); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Log(err)
		}
	}()
	cl.parts.Load().loops.Start()
	return cl
}

// Every operation of every service, in every protocol: unsigned, wrongly signed,
// denied by policy, malformed. The count is printed with -v.
func TestEveryOperationRefuses(t *testing.T) {
	cl := assembled(t)
	ctx, g := context.Background(), cl.parts.Load().gateway
	admin := directory{}.root(RootKey{testKey, testSecret}, cl.config.Account)
	sc := auth.NewScope(admin.Principal, cl.config.Region, auth.Request{ID: "test", Time: time.Now(), Secure: true})
	name := wire.Ptr("stranger")
	user, err := op.Call[iamapi.CreateUserOutput](ctx, g, sc, "iam", "CreateUser", &iamapi.CreateUserInput{UserName: name})
	if err != nil {
		t.Fatal(err)
	}
	key, err := op.Call[iamapi.CreateAccessKeyOutput](ctx, g, sc, "iam", "CreateAccessKey", &iamapi.CreateAccessKeyInput{UserName: name})
	if err != nil {
		t.Fatal(err)
	}
	stranger := auth.Credential{AccessKey: *key.AccessKey.AccessKeyId, Secret: *key.AccessKey.SecretAccessKey}
	stranger.Principal = auth.Principal{Kind: auth.User, Account: cl.config.Account, ARN: *user.User.Arn, ID: *user.User.UserId, Name: *name}
	values := map[string]string{
		"Bucket": "refusals", "Key": "key", "CopySource": "refusals/key", // of s3
		"layerDigest": "sha256:0a", "CompleteLayerUpload.member": "sha256:0a", // of ecr
		"signingProfileArn": "arn:aws:signer:us-east-1:000000000000:/signing-profiles/name",
	}
	if _, err := g.Call(ctx, sc, "s3", "CreateBucket", &s3api.CreateBucketInput{Bucket: wire.Ptr("refusals")}); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
	before := g.Failures()
	count := gatewaytest.Run(t, gatewaytest.Cloud{
		Endpoint: cl.endpoint, Services: cl.parts.Load().services, Admin: admin, Stranger: stranger, Values: values, Now: time.Now,
	})
	if count.Checks() < 3*count.Operations {
		t.Errorf("only %d checks of %d operations", count.Checks(), count.Operations)
	}
	if n := g.Failures() - before; n != 0 {
		t.Errorf("%d faults of ours", n)
	}
}
