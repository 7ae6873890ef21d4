package ecr

import (
	"context"
	"errors"
	"slices"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// maxTemplates is how many repository creation templates a registry may have
// ("Amazon ECR service quotas").
const maxTemplates = 100

// CreateRepositoryCreationTemplate says how repositories are made that a push, a
// copy or a pull wants.
func (s *Service) CreateRepositoryCreationTemplate(ctx context.Context, sc auth.Scope, in *api.CreateRepositoryCreationTemplateInput) (*api.CreateRepositoryCreationTemplateOutput, error) {
	now := s.Clock.Now()
	row := &templateRow{Account: sc.Account, Region: sc.Region, Prefix: wire.Value(in.Prefix), Mutability: registry.Mutable, Created: now, Updated: now}
	if err := row.set((*api.UpdateRepositoryCreationTemplateInput)(in)); err != nil {
		return nil, err
	}
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		n := 0
		for _, err := range templates.Scan(tx, store.Range{Prefix: store.K(sc.Account, sc.Region)}) {
			if err != nil {
				return err
			}
			n++
		}
		if n >= maxTemplates {
			return &api.LimitExceededException{Message: new("The registry has the maximum of 100 repository creation templates")}
		}
		return templates.Insert(tx, row)
	})
	if errors.Is(err, store.ErrExists) {
		return nil, &api.TemplateAlreadyExistsException{Message: new("The repository creation template with prefix '" + row.Prefix + "' already exists in the registry with id '" + sc.Account + "'")}
	}
	if err != nil {
		return nil, err
	}
	return &api.CreateRepositoryCreationTemplateOutput{RegistryId: &sc.Account, RepositoryCreationTemplate: row.describe()}, nil
}

// set takes over what an input says.
func (r *templateRow) set(in *api.UpdateRepositoryCreationTemplateInput) error {
	if e := in.EncryptionConfiguration; e != nil {
		if err := checkEncryption(wire.Value(e.EncryptionType), wire.Value(e.KmsKey)); err != nil {
			return err
		}
	}
	if in.ResourceTags != nil {
		tags, err := checkTags(nil, in.ResourceTags)
		if err != nil {
			return err
		}
		r.Tags = tags
	}
	if in.ImageTagMutability != nil || in.ImageTagMutabilityExclusionFilters != nil {
		kind, exclusions, err := mutability(in.ImageTagMutability, in.ImageTagMutabilityExclusionFilters)
		if err != nil {
			return err
		}
		r.Mutability, r.Exclusions = kind, exclusions
	}
	if in.RepositoryPolicy != nil {
		if *in.RepositoryPolicy != "" && !repositoryPolicy(*in.RepositoryPolicy) {
			return invalid("RepositoryPolicy", "Invalid repository policy provided")
		}
		r.Policy = *in.RepositoryPolicy
	}
	if in.LifecyclePolicy != nil {
		if *in.LifecyclePolicy != "" {
			if err := checkLifecycle(*in.LifecyclePolicy); err != nil {
				return err
			}
		}
		r.Lifecycle = *in.LifecyclePolicy
	}
	if in.AppliedFor != nil {
		r.AppliedFor = slices.Compact(slices.Sorted(slices.Values(in.AppliedFor)))
	}
	if in.Description != nil {
		r.Description = *in.Description
	}
	if in.CustomRoleArn != nil {
		r.Role = *in.CustomRoleArn
	}
	switch {
	case len(r.AppliedFor) == 0:
		return refused("appliedFor must have at least one value")
	case len(r.Tags) > 0 && r.Role == "":
		return refused("A custom role is required for repository creation templates with resource tags")
	}
	return nil
}

func (r *templateRow) describe() *api.RepositoryCreationTemplate {
	out := &api.RepositoryCreationTemplate{
		Prefix: &r.Prefix, Description: &r.Description, ImageTagMutability: &r.Mutability, ImageTagMutabilityExclusionFilters: filtersOf(r.Exclusions),
		EncryptionConfiguration: &api.EncryptionConfigurationForRepositoryCreationTemplate{EncryptionType: new(api.EncryptionTypeAes256)},
		ResourceTags:            tagList(r.Tags), AppliedFor: r.AppliedFor, CreatedAt: &r.Created, UpdatedAt: &r.Updated,
	}
	for _, p := range []struct {
		to   **string
		text *string
	}{{&out.RepositoryPolicy, &r.Policy}, {&out.LifecyclePolicy, &r.Lifecycle}, {&out.CustomRoleArn, &r.Role}} {
		if *p.text != "" {
			*p.to = p.text
		}
	}
	return out
}

// template returns a template by its prefix.
func template(tx *store.Tx, sc auth.Scope, prefix string) (*templateRow, error) {
	row, err := templates.Get(tx, store.K(sc.Account, sc.Region, prefix))
	if errors.Is(err, store.ErrNotFound) {
		return nil, &api.TemplateNotFoundException{Message: new("The repository creation template with prefix '" + prefix + "' does not exist in the registry with id '" + sc.Account + "'")}
	}
	return row, err
}

// DescribeRepositoryCreationTemplates lists the templates with the prefixes given,
// or all.
func (s *Service) DescribeRepositoryCreationTemplates(ctx context.Context, sc auth.Scope, in *api.DescribeRepositoryCreationTemplatesInput) (*api.DescribeRepositoryCreationTemplatesOutput, error) {
	last, err := readToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	n := limit(in.MaxResults, 100)
	out := &api.DescribeRepositoryCreationTemplatesOutput{RegistryId: &sc.Account, RepositoryCreationTemplates: []api.RepositoryCreationTemplate{}}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		r := store.Range{Prefix: store.K(sc.Account, sc.Region)}
		if last != "" {
			r.After = store.K(sc.Account, sc.Region, last)
		}
		for row, err := range templates.Scan(tx, r) {
			if err != nil {
				return err
			}
			if len(in.Prefixes) > 0 && !slices.Contains(in.Prefixes, row.Prefix) {
				continue
			}
			if len(out.RepositoryCreationTemplates) == n {
				out.NextToken = writeToken(*out.RepositoryCreationTemplates[n-1].Prefix)
				return nil
			}
			out.RepositoryCreationTemplates = append(out.RepositoryCreationTemplates, *row.describe())
		}
		return nil
	})
}

// UpdateRepositoryCreationTemplate changes what is given of a template.
func (s *Service) UpdateRepositoryCreationTemplate(ctx context.Context, sc auth.Scope, in *api.UpdateRepositoryCreationTemplateInput) (*api.UpdateRepositoryCreationTemplateOutput, error) {
	var row *templateRow
	err := s.Store.Update(ctx, func(tx *store.Tx) (err error) {
		if row, err = template(tx, sc, wire.Value(in.Prefix)); err != nil {
			return err
		}
		if err := row.set(in); err != nil {
			return err
		}
		row.Updated = s.Clock.Now()
		return templates.Put(tx, row)
	})
	if err != nil {
		return nil, err
	}
	return &api.UpdateRepositoryCreationTemplateOutput{RegistryId: &sc.Account, RepositoryCreationTemplate: row.describe()}, nil
}

// DeleteRepositoryCreationTemplate removes a template.
func (s *Service) DeleteRepositoryCreationTemplate(ctx context.Context, sc auth.Scope, in *api.DeleteRepositoryCreationTemplateInput) (*api.DeleteRepositoryCreationTemplateOutput, error) {
	var row *templateRow
	err := s.Store.Update(ctx, func(tx *store.Tx) (err error) {
		if row, err = template(tx, sc, wire.Value(in.Prefix)); err != nil {
			return err
		}
		return templates.Delete(tx, store.K(sc.Account, sc.Region, row.Prefix))
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteRepositoryCreationTemplateOutput{RegistryId: &sc.Account, RepositoryCreationTemplate: row.describe()}, nil
}
