package sts

import (
	"context"
	"log/slog"
	"net/http"

	api "skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/op"
	"skerry/internal/store"
)

// Identities is what sts asks of iam. The Directory is that of long-term keys.
type Identities interface {
	auth.Directory
	// Role returns a role by ARN, or auth.ErrUnknown.
	Role(ctx context.Context, arn string) (auth.Role, error)
	// ManagedPolicy returns a managed policy by ARN, or auth.ErrUnknown.
	ManagedPolicy(ctx context.Context, account, arn string) (auth.Document, error)
	// Provider returns the account's provider for an issuer, or auth.ErrUnknown.
	Provider(ctx context.Context, account, issuer string) (auth.Provider, error)
	// Exists tells whether the user or role with a unique id is still there.
	Exists(ctx context.Context, id string) (bool, error)
	// CheckMFA checks a code of a user's MFA device and, with use, spends it.
	CheckMFA(ctx context.Context, user auth.Principal, serial, code string, use bool) error
}

// Deps is what the service needs.
type Deps struct {
	Store      *store.DB
	Clock      clock.Clock
	Log        *slog.Logger
	Identities Identities
	// HTTP fetches the keys of OpenID Connect issuers; http.DefaultClient if nil.
	HTTP *http.Client
}

// Service is AWS Security Token Service.
type Service struct {
	d       Deps
	issuers *issuers
	recent  recent
	sealer  sealer
}

// New makes the service.
func New(d Deps) *Service {
	if d.HTTP == nil {
		d.HTTP = http.DefaultClient
	}
	return &Service{d: d, issuers: newIssuers(d.HTTP, d.Clock)}
}

// Service returns the schema and every operation with its rule.
func (s *Service) Service() op.Service {
	return op.Service{API: api.Schema, Operations: []op.Operation{
		op.New("AssumeRole", s.assumeRoleRule, s.AssumeRole),
		op.New("AssumeRoleWithWebIdentity", op.NoPermission[api.AssumeRoleWithWebIdentityInput], s.AssumeRoleWithWebIdentity),
		op.New("GetSessionToken", s.sessionTokenRule, s.GetSessionToken),
		op.New("GetFederationToken", s.federationRule, s.GetFederationToken),
		op.New("GetCallerIdentity", op.NoPermission[api.GetCallerIdentityInput], s.GetCallerIdentity),
		op.New("GetAccessKeyInfo", s.accessKeyRule, s.GetAccessKeyInfo),
		op.New("DecodeAuthorizationMessage", s.decodeRule, s.DecodeAuthorizationMessage),
	}}
}
