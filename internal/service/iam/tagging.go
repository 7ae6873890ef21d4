package iam

import (
	"context"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/wire"
)

// The tag operations of the eight kinds of resources that have tags.

// TagInstanceProfile adds tags, or overwrites their values.
func (s *Service) TagInstanceProfile(ctx context.Context, sc auth.Scope, in *api.TagInstanceProfileInput) (*api.TagInstanceProfileOutput, error) {
	return &api.TagInstanceProfileOutput{}, s.tag(ctx, s.profileTags(sc, in.InstanceProfileName), in.Tags)
}

// UntagInstanceProfile removes tags; keys that are not there do no harm.
func (s *Service) UntagInstanceProfile(ctx context.Context, sc auth.Scope, in *api.UntagInstanceProfileInput) (*api.UntagInstanceProfileOutput, error) {
	return &api.UntagInstanceProfileOutput{}, s.untag(ctx, s.profileTags(sc, in.InstanceProfileName), in.TagKeys)
}

// ListInstanceProfileTags lists the tags, a page at a time.
func (s *Service) ListInstanceProfileTags(ctx context.Context, sc auth.Scope, in *api.ListInstanceProfileTagsInput) (*api.ListInstanceProfileTagsOutput, error) {
	tags, next, err := s.tags(ctx, s.profileTags(sc, in.InstanceProfileName), listing{in.Marker, in.MaxItems})
	return &api.ListInstanceProfileTagsOutput{Tags: tags, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// TagMFADevice adds tags, or overwrites their values.
func (s *Service) TagMFADevice(ctx context.Context, sc auth.Scope, in *api.TagMFADeviceInput) (*api.TagMFADeviceOutput, error) {
	return &api.TagMFADeviceOutput{}, s.tag(ctx, s.mfaTags(sc, in.SerialNumber), in.Tags)
}

// UntagMFADevice removes tags; keys that are not there do no harm.
func (s *Service) UntagMFADevice(ctx context.Context, sc auth.Scope, in *api.UntagMFADeviceInput) (*api.UntagMFADeviceOutput, error) {
	return &api.UntagMFADeviceOutput{}, s.untag(ctx, s.mfaTags(sc, in.SerialNumber), in.TagKeys)
}

// ListMFADeviceTags lists the tags, a page at a time.
func (s *Service) ListMFADeviceTags(ctx context.Context, sc auth.Scope, in *api.ListMFADeviceTagsInput) (*api.ListMFADeviceTagsOutput, error) {
	tags, next, err := s.tags(ctx, s.mfaTags(sc, in.SerialNumber), listing{in.Marker, in.MaxItems})
	return &api.ListMFADeviceTagsOutput{Tags: tags, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// TagOpenIDConnectProvider adds tags, or overwrites their values.
func (s *Service) TagOpenIDConnectProvider(ctx context.Context, sc auth.Scope, in *api.TagOpenIDConnectProviderInput) (*api.TagOpenIDConnectProviderOutput, error) {
	return &api.TagOpenIDConnectProviderOutput{}, s.tag(ctx, s.oidcTags(sc, in.OpenIDConnectProviderArn), in.Tags)
}

// UntagOpenIDConnectProvider removes tags; keys that are not there do no harm.
func (s *Service) UntagOpenIDConnectProvider(ctx context.Context, sc auth.Scope, in *api.UntagOpenIDConnectProviderInput) (*api.UntagOpenIDConnectProviderOutput, error) {
	return &api.UntagOpenIDConnectProviderOutput{}, s.untag(ctx, s.oidcTags(sc, in.OpenIDConnectProviderArn), in.TagKeys)
}

// ListOpenIDConnectProviderTags lists the tags, a page at a time.
func (s *Service) ListOpenIDConnectProviderTags(ctx context.Context, sc auth.Scope, in *api.ListOpenIDConnectProviderTagsInput) (*api.ListOpenIDConnectProviderTagsOutput, error) {
	tags, next, err := s.tags(ctx, s.oidcTags(sc, in.OpenIDConnectProviderArn), listing{in.Marker, in.MaxItems})
	return &api.ListOpenIDConnectProviderTagsOutput{Tags: tags, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// TagPolicy adds tags, or overwrites their values.
func (s *Service) TagPolicy(ctx context.Context, sc auth.Scope, in *api.TagPolicyInput) (*api.TagPolicyOutput, error) {
	return &api.TagPolicyOutput{}, s.tag(ctx, s.policyTags(sc, in.PolicyArn), in.Tags)
}

// UntagPolicy removes tags; keys that are not there do no harm.
func (s *Service) UntagPolicy(ctx context.Context, sc auth.Scope, in *api.UntagPolicyInput) (*api.UntagPolicyOutput, error) {
	return &api.UntagPolicyOutput{}, s.untag(ctx, s.policyTags(sc, in.PolicyArn), in.TagKeys)
}

// ListPolicyTags lists the tags, a page at a time.
func (s *Service) ListPolicyTags(ctx context.Context, sc auth.Scope, in *api.ListPolicyTagsInput) (*api.ListPolicyTagsOutput, error) {
	tags, next, err := s.tags(ctx, s.policyTags(sc, in.PolicyArn), listing{in.Marker, in.MaxItems})
	return &api.ListPolicyTagsOutput{Tags: tags, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// TagRole adds tags, or overwrites their values.
func (s *Service) TagRole(ctx context.Context, sc auth.Scope, in *api.TagRoleInput) (*api.TagRoleOutput, error) {
	return &api.TagRoleOutput{}, s.tag(ctx, s.roleTags(sc, in.RoleName), in.Tags)
}

// UntagRole removes tags; keys that are not there do no harm.
func (s *Service) UntagRole(ctx context.Context, sc auth.Scope, in *api.UntagRoleInput) (*api.UntagRoleOutput, error) {
	return &api.UntagRoleOutput{}, s.untag(ctx, s.roleTags(sc, in.RoleName), in.TagKeys)
}

// ListRoleTags lists the tags, a page at a time.
func (s *Service) ListRoleTags(ctx context.Context, sc auth.Scope, in *api.ListRoleTagsInput) (*api.ListRoleTagsOutput, error) {
	tags, next, err := s.tags(ctx, s.roleTags(sc, in.RoleName), listing{in.Marker, in.MaxItems})
	return &api.ListRoleTagsOutput{Tags: tags, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// TagSAMLProvider adds tags, or overwrites their values.
func (s *Service) TagSAMLProvider(ctx context.Context, sc auth.Scope, in *api.TagSAMLProviderInput) (*api.TagSAMLProviderOutput, error) {
	return &api.TagSAMLProviderOutput{}, s.tag(ctx, s.samlTags(sc, in.SAMLProviderArn), in.Tags)
}

// UntagSAMLProvider removes tags; keys that are not there do no harm.
func (s *Service) UntagSAMLProvider(ctx context.Context, sc auth.Scope, in *api.UntagSAMLProviderInput) (*api.UntagSAMLProviderOutput, error) {
	return &api.UntagSAMLProviderOutput{}, s.untag(ctx, s.samlTags(sc, in.SAMLProviderArn), in.TagKeys)
}

// ListSAMLProviderTags lists the tags, a page at a time.
func (s *Service) ListSAMLProviderTags(ctx context.Context, sc auth.Scope, in *api.ListSAMLProviderTagsInput) (*api.ListSAMLProviderTagsOutput, error) {
	tags, next, err := s.tags(ctx, s.samlTags(sc, in.SAMLProviderArn), listing{in.Marker, in.MaxItems})
	return &api.ListSAMLProviderTagsOutput{Tags: tags, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// TagServerCertificate adds tags, or overwrites their values.
func (s *Service) TagServerCertificate(ctx context.Context, sc auth.Scope, in *api.TagServerCertificateInput) (*api.TagServerCertificateOutput, error) {
	return &api.TagServerCertificateOutput{}, s.tag(ctx, s.certTags(sc, in.ServerCertificateName), in.Tags)
}

// UntagServerCertificate removes tags; keys that are not there do no harm.
func (s *Service) UntagServerCertificate(ctx context.Context, sc auth.Scope, in *api.UntagServerCertificateInput) (*api.UntagServerCertificateOutput, error) {
	return &api.UntagServerCertificateOutput{}, s.untag(ctx, s.certTags(sc, in.ServerCertificateName), in.TagKeys)
}

// ListServerCertificateTags lists the tags, a page at a time.
func (s *Service) ListServerCertificateTags(ctx context.Context, sc auth.Scope, in *api.ListServerCertificateTagsInput) (*api.ListServerCertificateTagsOutput, error) {
	tags, next, err := s.tags(ctx, s.certTags(sc, in.ServerCertificateName), listing{in.Marker, in.MaxItems})
	return &api.ListServerCertificateTagsOutput{Tags: tags, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// TagUser adds tags, or overwrites their values.
func (s *Service) TagUser(ctx context.Context, sc auth.Scope, in *api.TagUserInput) (*api.TagUserOutput, error) {
	return &api.TagUserOutput{}, s.tag(ctx, s.userTags(sc, in.UserName), in.Tags)
}

// UntagUser removes tags; keys that are not there do no harm.
func (s *Service) UntagUser(ctx context.Context, sc auth.Scope, in *api.UntagUserInput) (*api.UntagUserOutput, error) {
	return &api.UntagUserOutput{}, s.untag(ctx, s.userTags(sc, in.UserName), in.TagKeys)
}

// ListUserTags lists the tags, a page at a time.
func (s *Service) ListUserTags(ctx context.Context, sc auth.Scope, in *api.ListUserTagsInput) (*api.ListUserTagsOutput, error) {
	tags, next, err := s.tags(ctx, s.userTags(sc, in.UserName), listing{in.Marker, in.MaxItems})
	return &api.ListUserTagsOutput{Tags: tags, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}
