package iam

import (
	"context"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const (
	maxClients     = 100
	maxThumbprints = 5
)

// oidc loads an OpenID Connect provider by ARN.
func (s *Service) oidc(tx *store.Tx, account, providerARN string) (*oidcRow, error) {
	a, err := arn.Parse(providerARN)
	address, ok := strings.CutPrefix(a.Resource, "oidc-provider/")
	if err != nil || !ok {
		return nil, invalidInput("Invalid ARN: %s", providerARN)
	}
	missing := noSuchEntity("OpenIDConnect Provider not found for arn %s", providerARN)
	if a.Account != account {
		return nil, missing
	}
	r, err := oidcs.Get(tx, store.K(account, address))
	return found(r, err, missing)
}

// issuerAddress is an issuer's URL without its scheme, as ARNs and condition
// keys have it; a slash at the end belongs to it. http is for issuers on this
// machine only.
func issuerAddress(issuer string) (address string, plain bool, err error) {
	u, perr := url.Parse(issuer)
	if perr != nil || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", false, validationError("Invalid Open ID Connect Provider URL")
	}
	switch {
	case u.Scheme == "https":
	case u.Scheme == "http" && loopback(u.Hostname()):
		plain = true
	default:
		return "", false, validationError("Invalid Open ID Connect Provider URL")
	}
	return u.Host + u.EscapedPath(), plain, nil
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && a.IsLoopback()
}

// CreateOpenIDConnectProvider makes an issuer of web identities known.
// Thumbprints are kept and shown; what secures the issuer's keys is TLS, as AWS
// does with issuers whose certificates a public authority signed.
func (s *Service) CreateOpenIDConnectProvider(ctx context.Context, sc auth.Scope, in *api.CreateOpenIDConnectProviderInput) (*api.CreateOpenIDConnectProviderOutput, error) {
	address, plain, err := issuerAddress(wire.Value(in.Url))
	if err != nil {
		return nil, err
	}
	if err := checkClients(in.ClientIDList); err != nil {
		return nil, err
	}
	if err := checkThumbprints(in.ThumbprintList); err != nil {
		return nil, err
	}
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	r := &oidcRow{
		Account: sc.Account, URL: address, HTTP: plain, Clients: in.ClientIDList, Thumbprints: in.ThumbprintList, Created: s.now(), Tags: tags,
	}
	err = s.update(ctx, func(tx *store.Tx) error {
		return added(tx, oidcs, r, sc.Account, oidcQuota, alreadyExists("Provider with url %s already exists.", wire.Value(in.Url)))
	})
	return &api.CreateOpenIDConnectProviderOutput{OpenIDConnectProviderArn: wire.Ptr(r.arn()), Tags: tagList(r.Tags)}, err
}

func checkClients(ids []string) error {
	if len(ids) > maxClients {
		return limitExceeded("Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: %d", maxClients)
	}
	return nil
}

func checkThumbprints(list []string) error {
	if len(list) > maxThumbprints {
		return invalidInput("Thumbprint list must contain fewer than %d entries.", maxThumbprints)
	}
	return nil
}

// GetOpenIDConnectProvider describes a provider.
func (s *Service) GetOpenIDConnectProvider(ctx context.Context, sc auth.Scope, in *api.GetOpenIDConnectProviderInput) (*api.GetOpenIDConnectProviderOutput, error) {
	var out api.GetOpenIDConnectProviderOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := s.oidc(tx, sc.Account, wire.Value(in.OpenIDConnectProviderArn))
		if err != nil {
			return err
		}
		out = api.GetOpenIDConnectProviderOutput{
			Url: wire.Ptr(r.URL), ClientIDList: append([]string{}, r.Clients...), ThumbprintList: append([]string{}, r.Thumbprints...),
			CreateDate: wire.Ptr(r.Created), Tags: tagList(r.Tags),
		}
		return nil
	})
	return &out, err
}

// ListOpenIDConnectProviders lists the ARNs of all providers.
func (s *Service) ListOpenIDConnectProviders(ctx context.Context, sc auth.Scope, _ *api.ListOpenIDConnectProvidersInput) (*api.ListOpenIDConnectProvidersOutput, error) {
	out := &api.ListOpenIDConnectProvidersOutput{OpenIDConnectProviderList: []api.OpenIDConnectProviderListEntry{}}
	err := s.view(ctx, func(tx *store.Tx) error {
		for r, err := range oidcs.Scan(tx, store.Range{Prefix: store.K(sc.Account)}) {
			if err != nil {
				return err
			}
			out.OpenIDConnectProviderList = append(out.OpenIDConnectProviderList, api.OpenIDConnectProviderListEntry{Arn: wire.Ptr(r.arn())})
		}
		return nil
	})
	return out, err
}

func (s *Service) editOIDC(ctx context.Context, sc auth.Scope, arn *string, fn func(r *oidcRow) error) error {
	return s.update(ctx, func(tx *store.Tx) error {
		r, err := s.oidc(tx, sc.Account, wire.Value(arn))
		if err != nil {
			return err
		}
		if err := fn(r); err != nil {
			return err
		}
		return oidcs.Put(tx, r)
	})
}

// AddClientIDToOpenIDConnectProvider adds an audience; one that is there stays.
func (s *Service) AddClientIDToOpenIDConnectProvider(ctx context.Context, sc auth.Scope, in *api.AddClientIDToOpenIDConnectProviderInput) (*api.AddClientIDToOpenIDConnectProviderOutput, error) {
	return &api.AddClientIDToOpenIDConnectProviderOutput{}, s.editOIDC(ctx, sc, in.OpenIDConnectProviderArn, func(r *oidcRow) error {
		if !slices.Contains(r.Clients, wire.Value(in.ClientID)) {
			r.Clients = append(r.Clients, wire.Value(in.ClientID))
		}
		return checkClients(r.Clients)
	})
}

// RemoveClientIDFromOpenIDConnectProvider removes an audience; it does no harm if
// there is none such.
func (s *Service) RemoveClientIDFromOpenIDConnectProvider(ctx context.Context, sc auth.Scope, in *api.RemoveClientIDFromOpenIDConnectProviderInput) (*api.RemoveClientIDFromOpenIDConnectProviderOutput, error) {
	return &api.RemoveClientIDFromOpenIDConnectProviderOutput{}, s.editOIDC(ctx, sc, in.OpenIDConnectProviderArn, func(r *oidcRow) error {
		r.Clients = slices.DeleteFunc(r.Clients, func(c string) bool { return c == wire.Value(in.ClientID) })
		return nil
	})
}

// UpdateOpenIDConnectProviderThumbprint replaces the list of thumbprints.
func (s *Service) UpdateOpenIDConnectProviderThumbprint(ctx context.Context, sc auth.Scope, in *api.UpdateOpenIDConnectProviderThumbprintInput) (*api.UpdateOpenIDConnectProviderThumbprintOutput, error) {
	return &api.UpdateOpenIDConnectProviderThumbprintOutput{}, s.editOIDC(ctx, sc, in.OpenIDConnectProviderArn, func(r *oidcRow) error {
		r.Thumbprints = in.ThumbprintList
		return checkThumbprints(r.Thumbprints)
	})
}

// DeleteOpenIDConnectProvider deletes a provider; who still trusts it trusts
// nobody.
func (s *Service) DeleteOpenIDConnectProvider(ctx context.Context, sc auth.Scope, in *api.DeleteOpenIDConnectProviderInput) (*api.DeleteOpenIDConnectProviderOutput, error) {
	return &api.DeleteOpenIDConnectProviderOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.oidc(tx, sc.Account, wire.Value(in.OpenIDConnectProviderArn))
		if err != nil {
			return err
		}
		return oidcs.Delete(tx, store.K(r.Account, r.URL))
	})
}
