package sts

import (
	"context"
	"errors"
	"time"

	api "skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/ids"
	"skerry/internal/wire"
)

const (
	userDuration = 12 * time.Hour
	rootDuration = time.Hour
)

// longTerm refuses callers who come with temporary credentials or are neither
// user nor root.
func longTerm(sc auth.Scope, operation string) error {
	p := sc.Principal
	if (p.Kind == auth.User || p.Kind == auth.Root) && p.Session.Expires.IsZero() {
		return nil
	}
	return accessDenied("Cannot call %s with session credentials", operation)
}

// userLimit is how long a session of a user or of root lasts: twelve hours, of
// root one, if the request does not ask for less or more.
func userLimit(sc auth.Scope, asked *int32) time.Duration {
	d := userDuration
	if asked != nil {
		d = time.Duration(*asked) * time.Second
	}
	if sc.Principal.Kind == auth.Root {
		d = min(d, rootDuration)
	}
	return d
}

// sessionTokenRule needs no permission, as the page "GetSessionToken" says.
func (s *Service) sessionTokenRule(_ context.Context, sc auth.Scope, _ *api.GetSessionTokenInput) ([]auth.Access, error) {
	return nil, longTerm(sc, "GetSessionToken")
}

// GetSessionToken begins a session of the user who calls, with MFA if the request
// has a code.
func (s *Service) GetSessionToken(ctx context.Context, sc auth.Scope, in *api.GetSessionTokenInput) (*api.GetSessionTokenOutput, error) {
	p := sc.Principal
	r := &sessionRow{Kind: uint8(p.Kind), Account: p.Account, ARN: p.ARN, ID: p.ID, Name: p.Name, Tags: p.Tags, Parent: p.ID}
	if in.SerialNumber != nil || in.TokenCode != nil {
		if err := s.d.Identities.CheckMFA(ctx, p, wire.Value(in.SerialNumber), wire.Value(in.TokenCode), true); err != nil {
			return nil, err
		}
		r.MFA = true
	}
	credentials, err := s.begin(ctx, r, userLimit(sc, in.DurationSeconds))
	return &api.GetSessionTokenOutput{Credentials: credentials}, err
}

func federatedARN(account, name string) string {
	return arn.New("sts", "", account, "federated-user/"+name).String()
}

func (s *Service) federationRule(_ context.Context, sc auth.Scope, in *api.GetFederationTokenInput) ([]auth.Access, error) {
	if err := longTerm(sc, "GetFederationToken"); err != nil {
		return nil, err
	}
	a := auth.Access{Action: "sts:GetFederationToken", Resource: federatedARN(sc.Account, wire.Value(in.Name)), Context: map[string][]string{}}
	for _, t := range in.Tags {
		a.Context["aws:RequestTag/"+wire.Value(t.Key)] = []string{wire.Value(t.Value)}
		a.Context["aws:TagKeys"] = append(a.Context["aws:TagKeys"], wire.Value(t.Key))
	}
	return also(a, len(in.Tags) > 0, false), nil
}

// GetFederationToken begins a session of somebody for whom the caller vouches,
// who may do what both the caller and the session policies allow.
func (s *Service) GetFederationToken(ctx context.Context, sc auth.Scope, in *api.GetFederationTokenInput) (*api.GetFederationTokenOutput, error) {
	p, name := sc.Principal, wire.Value(in.Name)
	r := &sessionRow{
		Kind: uint8(auth.FederatedUser), Account: p.Account, Name: name, Parent: p.ID, Limited: true,
		ARN: federatedARN(p.Account, name), ID: p.Account + ":" + name,
	}
	if err := r.tag(in.Tags, nil, nil); err != nil {
		return nil, err
	}
	packed, err := s.limit(ctx, r, in.Policy, in.PolicyArns, len(in.Tags) > 0)
	if err != nil {
		return nil, err
	}
	credentials, err := s.begin(ctx, r, userLimit(sc, in.DurationSeconds))
	if err != nil {
		return nil, err
	}
	return &api.GetFederationTokenOutput{
		Credentials: credentials, PackedPolicySize: packed,
		FederatedUser: &api.FederatedUser{Arn: wire.Ptr(r.ARN), FederatedUserId: wire.Ptr(r.ID)},
	}, nil
}

// GetCallerIdentity tells who calls; everybody may know that.
func (s *Service) GetCallerIdentity(_ context.Context, sc auth.Scope, _ *api.GetCallerIdentityInput) (*api.GetCallerIdentityOutput, error) {
	p := sc.Principal
	return &api.GetCallerIdentityOutput{UserId: wire.Ptr(p.ID), Account: wire.Ptr(p.Account), Arn: wire.Ptr(p.ARN)}, nil
}

func (s *Service) accessKeyRule(context.Context, auth.Scope, *api.GetAccessKeyInfoInput) ([]auth.Access, error) {
	return []auth.Access{{Action: "sts:GetAccessKeyInfo", Resource: "*"}}, nil
}

// GetAccessKeyInfo tells the account of an access key. The id carries it, so the
// key need not exist.
func (s *Service) GetAccessKeyInfo(ctx context.Context, _ auth.Scope, in *api.GetAccessKeyInfoInput) (*api.GetAccessKeyInfoOutput, error) {
	id := wire.Value(in.AccessKeyId)
	c, err := s.Credential(ctx, id)
	if err == nil {
		return &api.GetAccessKeyInfoOutput{Account: wire.Ptr(c.Principal.Account)}, nil
	}
	if !errors.Is(err, auth.ErrNoCredential) {
		return nil, err
	}
	account, ok := ids.AccessKeyAccount(id)
	if !ok {
		return nil, validationError("The access key ID %s is not valid.", id)
	}
	return &api.GetAccessKeyInfoOutput{Account: wire.Ptr(account)}, nil
}
