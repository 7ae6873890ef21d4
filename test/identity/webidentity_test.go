package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	iamapi "skerry/internal/api/iam"
	api "skerry/internal/api/sts"
	"skerry/internal/auth"
)

// issuer is an OpenID Connect issuer on this machine.
type issuer struct {
	*httptest.Server
	t       *testing.T
	keys    atomic.Pointer[jose.JSONWebKeySet]
	fetches atomic.Int32
	fails   atomic.Bool
}

func newIssuer(t *testing.T, keys ...jose.JSONWebKey) *issuer {
	i := &issuer{t: t}
	i.publish(keys...)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /realm/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		if i.fails.Load() {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.name(), "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		i.fetches.Add(1)
		_ = json.NewEncoder(w).Encode(i.keys.Load())
	})
	i.Server = httptest.NewServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) name() string    { return i.URL + "/realm" }
func (i *issuer) address() string { return strings.TrimPrefix(i.name(), "http://") }

func (i *issuer) publish(keys ...jose.JSONWebKey) {
	set := &jose.JSONWebKeySet{}
	for _, k := range keys {
		set.Keys = append(set.Keys, k.Public())
	}
	i.keys.Store(set)
}

func sign(t *testing.T, alg jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newKey(t *testing.T, id string, alg jose.SignatureAlgorithm) jose.JSONWebKey {
	t.Helper()
	var key crypto.PrivateKey
	var err error
	if strings.HasPrefix(string(alg), "ES") {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	} else {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: key, KeyID: id, Algorithm: string(alg), Use: "sig"}
}

// webBench is a cloud that knows an issuer, with a role that trusts subject
// "repo:a" for audience "app".
func webBench(t *testing.T, keys ...jose.JSONWebKey) (*bench, *issuer, string) {
	b, i := newBench(t), newIssuer(t, keys...)
	provider := do[iamapi.CreateOpenIDConnectProviderOutput](b, b.root, "iam", "CreateOpenIDConnectProvider",
		&iamapi.CreateOpenIDConnectProviderInput{Url: ptr(i.name()), ClientIDList: []string{"app"}})
	role := b.role("web", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Federated":"`+*provider.OpenIDConnectProviderArn+
		`"},"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession"],"Condition":{"StringLike":{"`+i.address()+`:sub":"repo:*"},"StringEquals":{"`+i.address()+`:aud":"app"}}}}`, mayRead)
	return b, i, role
}

func (b *bench) claims(i *issuer, change func(map[string]any)) map[string]any {
	now := b.clock.Now()
	c := map[string]any{"iss": i.name(), "sub": "repo:a", "aud": "app", "iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix()}
	if change != nil {
		change(c)
	}
	return c
}

func (b *bench) withToken(role, token string) (*api.AssumeRoleWithWebIdentityOutput, error) {
	return call[api.AssumeRoleWithWebIdentityOutput](b, auth.NewScope(auth.Principal{}, "us-east-1", auth.Request{Time: b.clock.Now()}),
		"sts", "AssumeRoleWithWebIdentity", &api.AssumeRoleWithWebIdentityInput{RoleArn: &role, RoleSessionName: ptr("ci"), WebIdentityToken: &token})
}

func TestWebIdentity(t *testing.T) {
	rs, es, stranger := newKey(t, "r", jose.RS256), newKey(t, "e", jose.ES256), newKey(t, "r", jose.RS256)
	b, i, role := webBench(t, rs, es)
	other := b.role("other", trust(`{"Service":"lambda.amazonaws.com"}`, ""), "")
	secret := []byte(strings.Repeat("k", 64))
	for _, c := range []struct {
		name   string
		role   string
		key    any
		alg    jose.SignatureAlgorithm
		id     string
		change func(map[string]any)
		code   string
		text   string
	}{
		{"RS256", role, rs.Key, jose.RS256, "r", nil, "", ""},
		{"RS512", role, rs.Key, jose.RS512, "r", nil, "", ""},
		{"ES256", role, es.Key, jose.ES256, "e", nil, "", ""},
		{"audience by azp", role, rs.Key, jose.RS256, "r", func(c map[string]any) { c["aud"], c["azp"] = []string{"x", "y"}, "app" }, "", ""},
		{"signed by a stranger", role, stranger.Key, jose.RS256, "r", nil, "InvalidIdentityToken", "signature"},
		{"unknown key", role, rs.Key, jose.RS256, "nobody", nil, "InvalidIdentityToken", "signature"},
		{"key of another kind", role, rs.Key, jose.RS256, "e", nil, "InvalidIdentityToken", "signature"},
		{"signed with a shared secret", role, secret, jose.HS256, "r", nil, "InvalidIdentityToken", "not a valid JWT"},
		{"ended", role, rs.Key, jose.RS256, "r", func(c map[string]any) { c["exp"] = began.Unix() }, "ExpiredTokenException", "Token expired"},
		{"without an end", role, rs.Key, jose.RS256, "r", func(c map[string]any) { delete(c, "exp") }, "InvalidIdentityToken", "exp"},
		{"from the future", role, rs.Key, jose.RS256, "r", func(c map[string]any) { c["iat"] = began.Add(time.Hour).Unix() }, "InvalidIdentityToken", "not valid yet"},
		{"for another audience", role, rs.Key, jose.RS256, "r", func(c map[string]any) { c["aud"] = "other" }, "InvalidIdentityToken", "Incorrect token audience"},
		{"given to another by azp", role, rs.Key, jose.RS256, "r", func(c map[string]any) { c["azp"] = "other" }, "InvalidIdentityToken", "Incorrect token audience"},
		{"of another issuer", role, rs.Key, jose.RS256, "r", func(c map[string]any) { c["iss"] = "https://elsewhere.example.com" }, "InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://elsewhere.example.com"},
		{"of a subject that is not trusted", role, rs.Key, jose.RS256, "r", func(c map[string]any) { c["sub"] = "user:b" }, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		{"for a role that does not trust the issuer", other, rs.Key, jose.RS256, "r", nil, "AccessDenied", "Not authorized"},
		{"for no role", role + "x", rs.Key, jose.RS256, "r", nil, "AccessDenied", "Not authorized"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := b.withToken(c.role, sign(t, c.alg, c.key, c.id, b.claims(i, c.change)))
			if c.code != "" {
				b.wantCode(err, c.code, c.text)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			sc := b.as(*out.Credentials.AccessKeyId)
			if !b.may(sc, "s3:GetObject") || *out.SubjectFromWebIdentityToken != "repo:a" || *out.Audience != "app" || *out.Provider != i.name() {
				t.Errorf("%+v", out)
			}
			if sc.Principal.Session.Federated == "" || sc.Principal.Session.Context[i.address()+":sub"] != "repo:a" {
				t.Errorf("session %+v", sc.Principal.Session)
			}
		})
	}
	for _, bad := range []string{"abcd", "a.b.c", strings.Repeat("x", 5000)} {
		_, err := b.withToken(role, bad)
		b.wantCode(err, "InvalidIdentityToken", "not a valid JWT")
	}
}

func TestWebIdentityTags(t *testing.T) {
	key := newKey(t, "r", jose.RS256)
	b, i, role := webBench(t, key)
	tags := func(principal map[string]any, transitive ...string) func(map[string]any) {
		return func(c map[string]any) {
			c["https://aws.amazon.com/tags"] = map[string]any{"principal_tags": principal, "transitive_tag_keys": transitive}
		}
	}
	out, err := b.withToken(role, sign(t, jose.RS256, key.Key, "r", b.claims(i, tags(map[string]any{"team": []string{"sea"}}, "team"))))
	if err != nil {
		t.Fatal(err)
	}
	if sc := b.as(*out.Credentials.AccessKeyId); sc.Principal.Tags["team"] != "sea" {
		t.Errorf("tags %v", sc.Principal.Tags)
	}
	_, err = b.withToken(role, sign(t, jose.RS256, key.Key, "r", b.claims(i, tags(map[string]any{"team": "sea"}))))
	b.wantCode(err, "InvalidIdentityToken", "malformed")
	_, err = b.withToken(role, sign(t, jose.RS256, key.Key, "r", b.claims(i, func(c map[string]any) { c["https://aws.amazon.com/source_identity"] = "anna" })))
	b.wantCode(err, "AccessDenied", "Not authorized") // the trust policy has no sts:SetSourceIdentity
}

// Keys are fetched once and again when a token names a new one; an issuer that
// is down says so.
func TestIssuerKeys(t *testing.T) {
	first, second := newKey(t, "1", jose.ES256), newKey(t, "2", jose.ES256)
	b, i, role := webBench(t, first)
	token := func(k jose.JSONWebKey) string {
		return sign(t, jose.ES256, k.Key, k.KeyID, b.claims(i, nil))
	}
	i.fails.Store(true)
	_, err := b.withToken(role, token(first))
	b.wantCode(err, "IDPCommunicationError", "Couldn't retrieve verification key")
	i.fails.Store(false)
	for range 3 {
		if _, err := b.withToken(role, token(first)); err != nil {
			t.Fatal(err)
		}
	}
	if n := i.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	i.publish(first, second)
	_, err = b.withToken(role, token(second))
	b.wantCode(err, "InvalidIdentityToken", "signature") // not more than one fetch in ten seconds
	b.clock.Advance(11 * time.Second)
	if _, err := b.withToken(role, token(second)); err != nil {
		t.Fatal(err)
	}
	i.publish(second) // the first is withdrawn: after an hour it counts no more
	b.clock.Advance(time.Hour)
	_, err = b.withToken(role, token(first))
	b.wantCode(err, "InvalidIdentityToken", "signature")
}
