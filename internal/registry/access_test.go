package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"skerry/internal/auth"
	"skerry/internal/store"
)

// govern has the policies decide, as the gateway does.
func (c *client) govern(identity string) {
	c.t.Helper()
	var docs []auth.Document
	if identity != "" {
		p, err := auth.ParsePolicy(identity)
		c.must(err)
		docs = []auth.Document{{Source: "test", Policy: p}}
	}
	c.Authorise = func(_ context.Context, sc auth.Scope, needs []auth.Access) error {
		for _, need := range needs {
			d := auth.Evaluate(auth.Evaluation{Scope: sc, Access: need, Policies: auth.Policies{Identity: docs}})
			if !d.Allowed() {
				return Refuse("User: " + sc.Principal.ARN + " is not authorized to perform: " + need.Action + " on resource: " + need.Resource + " " + d.Reason(need.Action))
			}
		}
		return nil
	}
}

func user(account, name string) auth.Principal {
	return auth.Principal{Kind: auth.User, Account: account, Name: name, ARN: "arn:aws:iam::" + account + ":user/" + name}
}

func allow(actions string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":[` + actions + `],"Resource":"*"}]}`
}

func TestWhoHasNoPasswordIsAskedForOne(t *testing.T) {
	c := newClient(t)
	good := c.password
	for _, bad := range []string{"", "wrong", good + "x"} {
		c.password = bad
		a := c.ask("GET", "/v2/", nil).fails(401, "UNAUTHORIZED")
		if h := a.header.Get("Www-Authenticate"); h != `Basic realm="`+c.server.URL+`/",service="ecr.amazonaws.com"` {
			t.Fatal(h)
		}
		c.ask("GET", "/v2/_catalog", nil).is(401)
		c.ask("PUT", "/v2/a/manifests/v1", strings.NewReader("{}")).is(401)
	}
	c.password = ""
	c.ask("GET", "/v2/", nil, "Authorization", "Bearer "+base64.StdEncoding.EncodeToString([]byte("AWS:"+good))).is(200)
	c.ask("GET", "/v2/", nil, "Authorization", "Bearer x").is(401)
	c.ask("GET", "/v2/", nil, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("root:"+good))).is(401)
	c.password = good
	c.clock.Advance(TokenLife)
	if a := c.ask("GET", "/v2/", nil).fails(403, "DENIED"); !bytes.Contains(a.body, []byte("Your authorization token has expired. Reauthenticate and try again.")) {
		t.Fatalf("%s", a.body)
	}
}

func TestPasswordIsForItsRegion(t *testing.T) {
	c := newClient(t)
	c.create(&Repository{Repo: Repo{account, "us-east-1", "a"}})
	c.ask("GET", "/v2/"+account+"/us-east-1/a/tags/list", nil).fails(403, "DENIED")
}

// TestEveryEndpointIsAuthorised walks through all endpoints without a permission,
// and then with that of AWS's page alone.
func TestEveryEndpointIsAuthorised(t *testing.T) {
	for _, e := range []struct{ method, path, action string }{
		{"GET", "/v2/a/blobs/LAYER", `"ecr:GetDownloadUrlForLayer"`},
		{"HEAD", "/v2/a/blobs/LAYER", `"ecr:BatchCheckLayerAvailability"`},
		{"DELETE", "/v2/a/blobs/LOOSE", `"ecr:BatchDeleteImage"`},
		{"GET", "/v2/a/manifests/v1", `"ecr:BatchGetImage"`},
		{"HEAD", "/v2/a/manifests/v1", `"ecr:BatchGetImage"`},
		{"PUT", "/v2/a/manifests/v2", `"ecr:PutImage"`},
		{"DELETE", "/v2/a/manifests/v1", `"ecr:BatchDeleteImage"`},
		{"GET", "/v2/a/tags/list", `"ecr:ListImages"`},
		{"GET", "/v2/a/referrers/LAYER", `"ecr:BatchGetImage"`},
		{"GET", "/v2/_catalog", `"ecr:DescribeRepositories"`},
		{"POST", "/v2/a/blobs/uploads/", `"ecr:InitiateLayerUpload"`},
		{"POST", "/v2/a/blobs/uploads/?digest=BODY", `"ecr:InitiateLayerUpload","ecr:UploadLayerPart","ecr:CompleteLayerUpload"`},
		{"PATCH", "UPLOAD", `"ecr:UploadLayerPart"`},
		{"GET", "UPLOAD", `"ecr:UploadLayerPart"`},
		{"PUT", "UPLOAD?digest=BODY", `"ecr:UploadLayerPart","ecr:CompleteLayerUpload"`},
		{"DELETE", "UPLOAD", `"ecr:UploadLayerPart"`},
	} {
		t.Run(e.method+" "+e.path, func(t *testing.T) {
			c := newClient(t)
			c.repo("a")
			body := c.tagged("a", "v1", "one", nil)
			path := strings.NewReplacer("LAYER", Digest([]byte("layer one")), "LOOSE", c.push("a", []byte("loose")).Digest,
				"BODY", Digest(body), "UPLOAD", c.start("a")).Replace(e.path)
			c.login(user(account, "ann"))
			actions := strings.Split(e.action, ",")
			for i := range actions { // each of them is needed
				c.govern(allow(strings.Join(append([]string{`"ecr:None"`}, append(append([]string{}, actions[:i]...), actions[i+1:]...)...), ",")))
				if a := c.ask(e.method, path, bytes.NewReader(body)); a.status != 403 {
					t.Fatalf("without %s: %d %s", actions[i], a.status, a.body)
				} else if want := strings.Trim(actions[i], `"`); e.method != "HEAD" && !bytes.Contains(a.body, []byte("User: arn:aws:iam::"+account+":user/ann is not authorized to perform: "+want+" on resource: arn:aws:ecr:")) {
					t.Fatalf("%s", a.body)
				}
			}
			c.govern(allow(e.action))
			if a := c.ask(e.method, path, bytes.NewReader(body)); a.status >= 300 {
				t.Fatalf("with it: %d %s", a.status, a.body)
			}
		})
	}
}

func TestRepositoryPolicyDecidesToo(t *testing.T) {
	c := newClient(t)
	r := c.repo("shared")
	c.tagged("shared", "v1", "one", nil)
	const stranger = "999999999999"
	policy := func(text string) {
		c.must(c.update(func(tx *store.Tx) error {
			row, err := c.Repository(tx, r)
			if err != nil {
				return err
			}
			row.Policy = text
			return c.PutRepository(tx, row)
		}))
	}
	pull := func() *answer { return c.ask("GET", "/v2/"+account+"/"+region+"/shared/manifests/v1", nil) }
	c.login(user(stranger, "eve"))
	c.govern(allow(`"ecr:*"`))
	pull().fails(403, "DENIED") // another account needs the repository's word
	policy(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + stranger + `"},"Action":"ecr:BatchGetImage"}]}`)
	pull().is(200)
	c.govern("") // and its own account's
	pull().fails(403, "DENIED")
	c.login(user(account, "ann"))
	c.govern(allow(`"ecr:*"`))
	pull().is(200)
	policy(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"ecr:BatchGetImage"}]}`)
	if a := pull().fails(403, "DENIED"); !bytes.Contains(a.body, []byte("with an explicit deny in a resource-based policy")) {
		t.Fatalf("%s", a.body)
	}
}

func TestMountNeedsTheSource(t *testing.T) {
	c := newClient(t)
	c.repo("to")
	c.repo("secret")
	d := c.push("secret", []byte("layer"))
	c.login(user(account, "ann"))
	c.govern(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"ecr:*","Resource":"arn:aws:ecr:*:*:repository/to"}]}`)
	c.ask("POST", "/v2/to/blobs/uploads/?mount="+d.Digest+"&from=secret", nil).is(202)
	c.ask("POST", "/v2/to/blobs/uploads/?mount="+d.Digest, nil).is(202)
	c.govern(allow(`"ecr:*"`))
	c.ask("POST", "/v2/to/blobs/uploads/?mount="+d.Digest+"&from=secret", nil).is(201)
}

func TestLinkToALayer(t *testing.T) {
	c := newClient(t)
	r := c.repo("team/a")
	d := c.push("team/a", []byte("layer"))
	link, err := c.Tokens.Link(t.Context(), r, d.Digest)
	c.must(err)
	c.password = ""
	if a := c.ask("GET", link, nil).is(200); string(a.body) != "layer" {
		t.Fatalf("%q", a.body)
	}
	other := c.world.blob(r, []byte("other"))
	c.ask("GET", strings.Replace(link, d.Digest, other.Digest, 1), nil).fails(403, "DENIED")
	c.ask("DELETE", link, nil).is(401)
	c.clock.Advance(LinkLife)
	c.ask("GET", link, nil).fails(403, "DENIED")
}

func TestNamesOfTheRegistry(t *testing.T) {
	c := newClient(t)
	const elsewhere = "111122223333"
	c.create(&Repository{Repo: Repo{elsewhere, region, "app"}})
	here := c.repo("app")
	c.tagged("app", "v1", "one", nil)
	c.ask("GET", "/v2/app/manifests/v1", nil).is(200)
	c.ask("GET", "/v2/"+account+"/"+region+"/app/manifests/v1", nil).is(200)
	c.ask("GET", "/v2/"+elsewhere+"/"+region+"/app/manifests/v1", nil).is(404)
	for _, domain := range []string{"localhost:4566", "localhost", "amazonaws.com", "localhost.localstack.cloud:4566"} {
		c.host = account + ".dkr.ecr." + region + "." + domain
		c.ask("GET", "/v2/app/manifests/v1", nil).is(200)
		c.host = elsewhere + ".dkr.ecr." + region + "." + domain
		c.ask("GET", "/v2/app/manifests/v1", nil).is(404)
	}
	c.host = ""
	// An upload that begins under one name goes on under it.
	l := c.start(account + "/" + region + "/app")
	if !strings.HasPrefix(l, "/v2/"+account+"/"+region+"/app/blobs/uploads/") {
		t.Fatal(l)
	}
	if got := c.URI(here); got != "localhost:4566/"+account+"/"+region+"/app" {
		t.Fatal(got)
	}
	c.Named = func() bool { return true }
	if got := c.URI(here); got != account+".dkr.ecr."+region+".localhost:4566/app" {
		t.Fatal(got)
	}
	if got := c.Endpoint(account, region); got != "http://"+account+".dkr.ecr."+region+".localhost:4566" {
		t.Fatal(got)
	}
}

func TestSignedPathsOfAPIGatewayAreNotOurs(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/v2/apis", nil)
	if !IsRequest(r) {
		t.Error("/v2/apis without a signature is the registry's")
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x")
	if IsRequest(r) {
		t.Error("a signed request is not the registry's")
	}
	if IsRequest(httptest.NewRequest(http.MethodGet, "/v2x", nil)) || IsRequest(httptest.NewRequest(http.MethodGet, "/v2/apis?X-Amz-Signature=x", nil)) {
		t.Error("taken for the registry's")
	}
}

func TestMissingRepositoryIsMadeOnPush(t *testing.T) {
	c := newClient(t)
	c.Use(Hooks{Missing: func(ctx context.Context, sc auth.Scope, r Repo) error {
		if strings.HasPrefix(r.Name, "no/") {
			return repositoryNotFound(r)
		}
		return c.Store.Update(ctx, func(tx *store.Tx) error { return c.CreateRepository(tx, &Repository{Repo: r}) })
	}})
	c.tagged("made", "v1", "one", nil)
	c.ask("GET", "/v2/made/manifests/v1", nil).is(200)
	c.ask("POST", "/v2/no/x/blobs/uploads/", nil).fails(404, "NAME_UNKNOWN")
	c.ask("GET", "/v2/other/tags/list", nil).fails(404, "NAME_UNKNOWN") // a pull makes none
}
