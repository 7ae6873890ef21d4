package sts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	api "skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// signatures are the algorithms that AWS accepts of OpenID Connect issuers.
var signatures = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}

// Claims under these names carry session tags and the source identity.
const (
	tagsClaim   = "https://aws.amazon.com/tags"
	sourceClaim = "https://aws.amazon.com/source_identity"
)

// identity is a verified token.
type identity struct {
	provider auth.Provider
	claims   map[string]any
	subject  string
	audience string
	tags     []api.Tag
	passedOn []string // keys of transitive tags
	source   string
}

// AssumeRoleWithWebIdentity begins a session of a role for whom an OpenID Connect
// issuer vouches. It needs no signature: the token is the proof.
func (s *Service) AssumeRoleWithWebIdentity(ctx context.Context, sc auth.Scope, in *api.AssumeRoleWithWebIdentityInput) (*api.AssumeRoleWithWebIdentityOutput, error) {
	if in.ProviderId != nil {
		return nil, validationError("ProviderId is for OAuth 2.0 access tokens, which are not supported.")
	}
	a, err := arn.Parse(wire.Value(in.RoleArn))
	if err != nil || a.Service != "iam" {
		return nil, validationError("Request ARN is invalid")
	}
	who, err := s.verify(ctx, a.Account, wire.Value(in.WebIdentityToken))
	if err != nil {
		return nil, err
	}
	role, err := s.trusts(ctx, sc, who, in)
	if err != nil {
		return nil, err
	}
	duration, err := roleDuration(role, in.DurationSeconds, false)
	if err != nil {
		return nil, err
	}
	r := roleSession(role, wire.Value(in.RoleSessionName))
	r.Federated, r.SourceIdentity = who.provider.ARN, who.source
	r.Context = map[string]string{who.provider.Address + ":aud": who.audience, who.provider.Address + ":sub": who.subject}
	if err := r.tag(who.tags, who.passedOn, nil); err != nil {
		return nil, err
	}
	packed, err := s.limit(ctx, r, in.Policy, in.PolicyArns, len(who.tags) > 0)
	if err != nil {
		return nil, err
	}
	credentials, err := s.begin(ctx, r, duration)
	if err != nil {
		return nil, err
	}
	out := &api.AssumeRoleWithWebIdentityOutput{
		Credentials: credentials, AssumedRoleUser: r.assumed(), PackedPolicySize: packed, SubjectFromWebIdentityToken: wire.Ptr(who.subject),
		Provider: wire.Ptr(who.provider.Issuer), Audience: wire.Ptr(who.audience),
	}
	if who.source != "" {
		out.SourceIdentity = wire.Ptr(who.source)
	}
	return out, nil
}

// trusts asks the role's trust policy about a verified token.
func (s *Service) trusts(ctx context.Context, sc auth.Scope, who identity, in *api.AssumeRoleWithWebIdentityInput) (auth.Role, error) {
	refused := accessDenied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
	role, err := s.d.Identities.Role(ctx, wire.Value(in.RoleArn))
	if errors.Is(err, auth.ErrUnknown) {
		return role, refused
	}
	if err != nil {
		return role, err
	}
	scope := sc
	scope.Account = role.Account
	scope.Principal = auth.Principal{Kind: auth.Identity, Account: role.Account, Session: auth.Session{Federated: who.provider.ARN}}
	access := auth.Access{
		Action: "sts:AssumeRoleWithWebIdentity", Resource: role.ARN, Owner: role.Account, Policy: role.Trust, Strict: true,
		Context: trustContext(role, wire.Value(in.RoleSessionName), "", who.source),
	}
	for claim, value := range who.claims {
		if texts := claimTexts(value); texts != nil {
			access.Context[who.provider.Address+":"+claim] = texts
		}
	}
	access.Context[who.provider.Address+":aud"] = []string{who.audience}
	for _, t := range who.tags {
		access.Context["aws:RequestTag/"+*t.Key] = []string{*t.Value}
		access.Context["aws:TagKeys"] = append(access.Context["aws:TagKeys"], *t.Key)
	}
	for _, need := range also(access, len(who.tags) > 0, who.source != "") {
		if !auth.Evaluate(auth.Evaluation{Scope: scope, Access: need}).Allowed() {
			return role, refused
		}
	}
	return role, nil
}

// claimTexts turns a claim into the values of a condition key; nil if it has no
// such form.
func claimTexts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case bool:
		return []string{strconv.FormatBool(v)}
	case float64:
		return []string{strconv.FormatFloat(v, 'f', -1, 64)}
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// verify checks a token: the issuer is known to the account, the signature is by
// one of the issuer's keys, and time and audience fit.
func (s *Service) verify(ctx context.Context, account, token string) (identity, error) {
	parsed, err := jwt.ParseSigned(token, signatures)
	if err != nil {
		return identity{}, invalidToken("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	var unproven jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&unproven); err != nil || unproven.Issuer == "" {
		return identity{}, invalidToken("Missing a required claim: iss")
	}
	provider, err := s.d.Identities.Provider(ctx, account, unproven.Issuer)
	if errors.Is(err, auth.ErrUnknown) {
		return identity{}, invalidToken("No OpenIDConnect provider found in your account for %s", unproven.Issuer)
	}
	if err != nil {
		return identity{}, err
	}
	key, err := s.issuers.key(ctx, provider.Issuer, parsed.Headers[0].KeyID)
	if err != nil {
		s.d.Log.Info("keys of an identity provider", "issuer", provider.Issuer, "error", err)
		return identity{}, awserr.New(http.StatusBadRequest, "IDPCommunicationError",
			"Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements")
	}
	var claims jwt.Claims
	var all map[string]any
	if key == nil || parsed.Claims(key, &claims, &all) != nil {
		return identity{}, invalidToken("Couldn't verify the signature of the token with the keys of %s", provider.Issuer)
	}
	who := identity{provider: provider, claims: all, subject: claims.Subject}
	if err := who.check(claims, s.d.Clock.Now()); err != nil {
		return identity{}, err
	}
	return who, who.readClaims()
}

// leeway is how far the issuer's clock may be ahead.
const leeway = 5 * time.Minute

// check holds time, subject and audience of a token against what is expected.
func (who *identity) check(c jwt.Claims, now time.Time) error {
	switch {
	case c.Expiry == nil || c.IssuedAt == nil:
		return invalidToken("Missing a required claim: exp and iat must be there")
	case !now.Before(c.Expiry.Time()):
		return awserr.New(http.StatusBadRequest, "ExpiredTokenException",
			"Token expired: current date/time %d must be before the expiration date/time %d", now.Unix(), c.Expiry.Time().Unix())
	case c.IssuedAt.Time().After(now.Add(leeway)) || c.NotBefore != nil && c.NotBefore.Time().After(now.Add(leeway)):
		return invalidToken("The token is not valid yet")
	case c.Subject == "":
		return invalidToken("Missing a required claim: sub")
	}
	// A token for several audiences names in azp the one that it was given to.
	accepted := []string(c.Audience)
	if azp, ok := who.claims["azp"].(string); ok && azp != "" {
		accepted = []string{azp}
	}
	for _, aud := range accepted {
		if slices.Contains(who.provider.Clients, aud) {
			who.audience = aud
			return nil
		}
	}
	return invalidToken("Incorrect token audience")
}

// readClaims reads session tags and source identity from a verified token.
func (who *identity) readClaims() error {
	who.source, _ = who.claims[sourceClaim].(string)
	raw, ok := who.claims[tagsClaim]
	if !ok {
		return nil
	}
	text, err := json.Marshal(raw)
	if err != nil {
		return fmt.Errorf("sts: tags of a token: %w", err)
	}
	var tags struct {
		Principal  map[string][]string `json:"principal_tags"`
		Transitive []string            `json:"transitive_tag_keys"`
	}
	if err := json.Unmarshal(text, &tags); err != nil {
		return invalidToken("The claim %s is malformed", tagsClaim)
	}
	for k, values := range tags.Principal {
		if len(values) != 1 {
			return invalidToken("The claim %s is malformed", tagsClaim)
		}
		who.tags = append(who.tags, api.Tag{Key: wire.Ptr(k), Value: wire.Ptr(values[0])})
	}
	who.passedOn = tags.Transitive
	return nil
}
