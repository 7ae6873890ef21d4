package iam

import (
	"context"
	"encoding/xml"
	"strings"
	"time"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

func (s *Service) saml(tx *store.Tx, account, providerARN string) (*samlRow, error) {
	a, err := arn.Parse(providerARN)
	name, ok := strings.CutPrefix(a.Resource, "saml-provider/")
	if err != nil || !ok {
		return nil, invalidInput("Invalid ARN: %s", providerARN)
	}
	missing := noSuchEntity("Manifest not found for arn %s", providerARN)
	if a.Account != account {
		return nil, missing
	}
	r, err := samls.Get(tx, store.K(account, name))
	return found(r, err, missing)
}

// samlValidity reads metadata of an identity provider and returns until when it
// holds: what it says itself or, if it does not, a hundred years.
func samlValidity(document string, now time.Time) (time.Time, error) {
	var m struct {
		XMLName    xml.Name
		EntityID   string     `xml:"entityID,attr"`
		ValidUntil *time.Time `xml:"validUntil,attr"`
		IDP        *struct {
			Keys []struct {
				Certificate string `xml:"KeyInfo>X509Data>X509Certificate"`
			} `xml:"KeyDescriptor"`
		} `xml:"IDPSSODescriptor"`
	}
	err := xml.Unmarshal([]byte(document), &m)
	if err != nil || m.XMLName.Local != "EntityDescriptor" || m.EntityID == "" || m.IDP == nil || len(m.IDP.Keys) == 0 {
		return time.Time{}, invalidInput("Could not parse metadata")
	}
	if m.ValidUntil != nil {
		return m.ValidUntil.UTC(), nil
	}
	return now.AddDate(100, 0, 0), nil
}

// CreateSAMLProvider keeps the metadata of a SAML identity provider.
func (s *Service) CreateSAMLProvider(ctx context.Context, sc auth.Scope, in *api.CreateSAMLProviderInput) (*api.CreateSAMLProviderOutput, error) {
	if in.AssertionEncryptionMode != nil || in.AddPrivateKey != nil {
		return nil, invalidInput("Encrypted SAML assertions are not supported.")
	}
	now := s.now()
	until, err := samlValidity(wire.Value(in.SAMLMetadataDocument), now)
	if err != nil {
		return nil, err
	}
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	r := &samlRow{
		Account: sc.Account, Name: wire.Value(in.Name), Document: wire.Value(in.SAMLMetadataDocument), UUID: ids.Unique("ASP", 21),
		Created: now, ValidUntil: until, Tags: tags,
	}
	err = s.update(ctx, func(tx *store.Tx) error {
		return added(tx, samls, r, sc.Account, samlQuota, alreadyExists("SAMLProvider with name %s already exists.", r.Name))
	})
	return &api.CreateSAMLProviderOutput{SAMLProviderArn: wire.Ptr(r.arn()), Tags: tagList(r.Tags)}, err
}

// GetSAMLProvider returns a provider's metadata.
func (s *Service) GetSAMLProvider(ctx context.Context, sc auth.Scope, in *api.GetSAMLProviderInput) (*api.GetSAMLProviderOutput, error) {
	var out api.GetSAMLProviderOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := s.saml(tx, sc.Account, wire.Value(in.SAMLProviderArn))
		if err != nil {
			return err
		}
		out = api.GetSAMLProviderOutput{
			SAMLMetadataDocument: wire.Ptr(r.Document), SAMLProviderUUID: wire.Ptr(r.UUID), CreateDate: wire.Ptr(r.Created),
			ValidUntil: wire.Ptr(r.ValidUntil), Tags: tagList(r.Tags),
		}
		return nil
	})
	return &out, err
}

// ListSAMLProviders lists all providers.
func (s *Service) ListSAMLProviders(ctx context.Context, sc auth.Scope, _ *api.ListSAMLProvidersInput) (*api.ListSAMLProvidersOutput, error) {
	out := &api.ListSAMLProvidersOutput{SAMLProviderList: []api.SAMLProviderListEntry{}}
	err := s.view(ctx, func(tx *store.Tx) error {
		for r, err := range samls.Scan(tx, store.Range{Prefix: store.K(sc.Account)}) {
			if err != nil {
				return err
			}
			out.SAMLProviderList = append(out.SAMLProviderList, api.SAMLProviderListEntry{
				Arn: wire.Ptr(r.arn()), CreateDate: wire.Ptr(r.Created), ValidUntil: wire.Ptr(r.ValidUntil),
			})
		}
		return nil
	})
	return out, err
}

// UpdateSAMLProvider replaces a provider's metadata.
func (s *Service) UpdateSAMLProvider(ctx context.Context, sc auth.Scope, in *api.UpdateSAMLProviderInput) (*api.UpdateSAMLProviderOutput, error) {
	if in.AssertionEncryptionMode != nil || in.AddPrivateKey != nil || in.RemovePrivateKey != nil {
		return nil, invalidInput("Encrypted SAML assertions are not supported.")
	}
	return &api.UpdateSAMLProviderOutput{SAMLProviderArn: in.SAMLProviderArn}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.saml(tx, sc.Account, wire.Value(in.SAMLProviderArn))
		if err != nil || in.SAMLMetadataDocument == nil {
			return err
		}
		if r.ValidUntil, err = samlValidity(*in.SAMLMetadataDocument, s.now()); err != nil {
			return err
		}
		r.Document = *in.SAMLMetadataDocument
		return samls.Put(tx, r)
	})
}

// DeleteSAMLProvider deletes a provider.
func (s *Service) DeleteSAMLProvider(ctx context.Context, sc auth.Scope, in *api.DeleteSAMLProviderInput) (*api.DeleteSAMLProviderOutput, error) {
	return &api.DeleteSAMLProviderOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.saml(tx, sc.Account, wire.Value(in.SAMLProviderArn))
		if err != nil {
			return err
		}
		return samls.Delete(tx, store.K(r.Account, r.Name))
	})
}
