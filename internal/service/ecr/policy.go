package ecr

import (
	"context"
	"slices"
	"strings"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// SetRepositoryPolicy says who else may use a repository. A policy that would keep
// its author from setting another one needs force.
func (s *Service) SetRepositoryPolicy(ctx context.Context, sc auth.Scope, in *api.SetRepositoryPolicyInput) (*api.SetRepositoryPolicyOutput, error) {
	text, id := wire.Value(in.PolicyText), repoOf(sc, in.RegistryId, in.RepositoryName)
	if !repositoryPolicy(text) {
		return nil, invalid("PolicyText", "Invalid repository policy provided")
	}
	const action = "ecr:SetRepositoryPolicy"
	d := auth.Evaluate(auth.Evaluation{Scope: sc, Access: auth.Access{Action: action, Resource: id.ARN(), Owner: id.Account, Policy: text}})
	if d.Effect == auth.ExplicitDeny && !wire.Value(in.Force) {
		return nil, invalid("PolicyText", "The policy would prevent the caller from setting a repository policy in the future; use force to set it anyway")
	}
	row, err := s.change(ctx, id, func(row *registry.Repository) error {
		row.Policy = text
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.SetRepositoryPolicyOutput{RegistryId: &row.Repo.Account, RepositoryName: &row.Repo.Name, PolicyText: &row.Policy}, nil
}

// repositoryPolicy tells whether a text can be a repository's policy: its
// statements have principals, and no resource, which is the repository.
func repositoryPolicy(text string) bool {
	p, err := auth.ParsePolicy(text)
	return err == nil && !slices.ContainsFunc(p.Statements, func(s auth.Statement) bool {
		return s.Principal == nil && s.NotPrincipal == nil || s.Resource != nil || s.NotResource != nil
	})
}

func noPolicy(id registry.Repo) error {
	return &api.RepositoryPolicyNotFoundException{Message: new("Repository policy does not exist for the repository with name '" + id.Name + "' in the registry with id '" + id.Account + "'")}
}

// GetRepositoryPolicy returns a repository's policy.
func (s *Service) GetRepositoryPolicy(ctx context.Context, sc auth.Scope, in *api.GetRepositoryPolicyInput) (*api.GetRepositoryPolicyOutput, error) {
	out := &api.GetRepositoryPolicyOutput{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		row, err := s.Registry.Repository(tx, repoOf(sc, in.RegistryId, in.RepositoryName))
		if err != nil {
			return err
		}
		if row.Policy == "" {
			return noPolicy(row.Repo)
		}
		out.RegistryId, out.RepositoryName, out.PolicyText = &row.Repo.Account, &row.Repo.Name, &row.Policy
		return nil
	})
}

// DeleteRepositoryPolicy removes a repository's policy.
func (s *Service) DeleteRepositoryPolicy(ctx context.Context, sc auth.Scope, in *api.DeleteRepositoryPolicyInput) (*api.DeleteRepositoryPolicyOutput, error) {
	var text string
	row, err := s.change(ctx, repoOf(sc, in.RegistryId, in.RepositoryName), func(row *registry.Repository) error {
		if text = row.Policy; text == "" {
			return noPolicy(row.Repo)
		}
		row.Policy = ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteRepositoryPolicyOutput{RegistryId: &row.Repo.Account, RepositoryName: &row.Repo.Name, PolicyText: &text}, nil
}

// changeRegistry alters the row of the caller's registry.
func (s *Service) changeRegistry(ctx context.Context, sc auth.Scope, f func(tx *store.Tx, row *registryRow) error) error {
	return s.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := registryOf(tx, sc.Account, sc.Region)
		if err != nil {
			return err
		}
		if err := f(tx, row); err != nil {
			return err
		}
		return registries.Put(tx, row)
	})
}

// viewRegistry reads the row of the caller's registry.
func (s *Service) viewRegistry(ctx context.Context, sc auth.Scope) (row *registryRow, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		row, err = registryOf(tx, sc.Account, sc.Region)
		return err
	})
	return row, err
}

// PutRegistryPolicy says what other registries and accounts may do in this one.
func (s *Service) PutRegistryPolicy(ctx context.Context, sc auth.Scope, in *api.PutRegistryPolicyInput) (*api.PutRegistryPolicyOutput, error) {
	text := wire.Value(in.PolicyText)
	p, err := auth.ParsePolicy(text)
	if err != nil || p.CheckResource() != nil {
		return nil, invalid("PolicyText", "Invalid registry policy provided")
	}
	err = s.changeRegistry(ctx, sc, func(_ *store.Tx, row *registryRow) error {
		for _, st := range p.Statements {
			for _, a := range slices.Concat(st.Action, st.NotAction) {
				known := func(v1 string) bool { return strings.EqualFold(a, v1) }
				if row.setting(policyScope) == "V1" && !slices.ContainsFunc(v1Actions, known) ||
					!strings.HasPrefix(strings.ToLower(a), "ecr:") {
					return invalid("PolicyText", "Invalid registry policy provided")
				}
			}
		}
		row.Policy = text
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.PutRegistryPolicyOutput{RegistryId: &sc.Account, PolicyText: &text}, nil
}

func noRegistryPolicy(sc auth.Scope) error {
	return &api.RegistryPolicyNotFoundException{Message: new("Registry policy does not exist in the registry with id '" + sc.Account + "'")}
}

// GetRegistryPolicy returns the registry's policy.
func (s *Service) GetRegistryPolicy(ctx context.Context, sc auth.Scope, _ *api.GetRegistryPolicyInput) (*api.GetRegistryPolicyOutput, error) {
	row, err := s.viewRegistry(ctx, sc)
	if err != nil {
		return nil, err
	}
	if row.Policy == "" {
		return nil, noRegistryPolicy(sc)
	}
	return &api.GetRegistryPolicyOutput{RegistryId: &sc.Account, PolicyText: &row.Policy}, nil
}

// DeleteRegistryPolicy removes the registry's policy.
func (s *Service) DeleteRegistryPolicy(ctx context.Context, sc auth.Scope, _ *api.DeleteRegistryPolicyInput) (*api.DeleteRegistryPolicyOutput, error) {
	var text string
	err := s.changeRegistry(ctx, sc, func(_ *store.Tx, row *registryRow) error {
		if text = row.Policy; text == "" {
			return noRegistryPolicy(sc)
		}
		row.Policy = ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteRegistryPolicyOutput{RegistryId: &sc.Account, PolicyText: &text}, nil
}
