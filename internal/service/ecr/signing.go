package ecr

import (
	"context"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/store"
)

// PutSigningConfiguration says which pushed images AWS Signer signs. As there is
// no AWS Signer, and so no profile that a rule could name, a configuration has no
// rules.
func (s *Service) PutSigningConfiguration(ctx context.Context, sc auth.Scope, in *api.PutSigningConfigurationInput) (*api.PutSigningConfigurationOutput, error) {
	if len(in.SigningConfiguration.Rules) > 0 {
		return nil, refused("The signing profile '%s' does not exist: there is no AWS Signer here", *in.SigningConfiguration.Rules[0].SigningProfileArn)
	}
	err := s.changeRegistry(ctx, sc, func(_ *store.Tx, row *registryRow) error {
		row.Signing = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.PutSigningConfigurationOutput{SigningConfiguration: &api.SigningConfiguration{Rules: []api.SigningRule{}}}, nil
}

func noSigning(sc auth.Scope) error {
	return &api.SigningConfigurationNotFoundException{Message: new("Signing configuration does not exist in the registry with id '" + sc.Account + "'")}
}

// GetSigningConfiguration returns the configuration that was put.
func (s *Service) GetSigningConfiguration(ctx context.Context, sc auth.Scope, _ *api.GetSigningConfigurationInput) (*api.GetSigningConfigurationOutput, error) {
	row, err := s.viewRegistry(ctx, sc)
	if err != nil {
		return nil, err
	}
	if !row.Signing {
		return nil, noSigning(sc)
	}
	return &api.GetSigningConfigurationOutput{RegistryId: &sc.Account, SigningConfiguration: &api.SigningConfiguration{Rules: []api.SigningRule{}}}, nil
}

// DeleteSigningConfiguration removes the configuration.
func (s *Service) DeleteSigningConfiguration(ctx context.Context, sc auth.Scope, _ *api.DeleteSigningConfigurationInput) (*api.DeleteSigningConfigurationOutput, error) {
	err := s.changeRegistry(ctx, sc, func(_ *store.Tx, row *registryRow) error {
		if !row.Signing {
			return noSigning(sc)
		}
		row.Signing = false
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteSigningConfigurationOutput{RegistryId: &sc.Account, SigningConfiguration: &api.SigningConfiguration{Rules: []api.SigningRule{}}}, nil
}

// DescribeImageSigningStatus tells how far AWS Signer is with an image: no rule
// has it sign any.
func (s *Service) DescribeImageSigningStatus(ctx context.Context, sc auth.Scope, in *api.DescribeImageSigningStatusInput) (*api.DescribeImageSigningStatusOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	out := &api.DescribeImageSigningStatusOutput{RegistryId: &id.Account, RepositoryName: &id.Name, SigningStatuses: []api.ImageSigningStatus{}}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		m, err := s.image(tx, id, in.ImageId)
		if err == nil {
			out.ImageId = &api.ImageIdentifier{ImageDigest: &m.Digest, ImageTag: in.ImageId.ImageTag}
		}
		return err
	})
}
