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

// own refuses the registry of another account, where only its owner may act.
func own(sc auth.Scope, registryID *string) error {
	if registryID != nil && *registryID != sc.Account {
		return invalid("registryId", "The registry with id '%s' is not the caller's", *registryID)
	}
	return nil
}

// CreateRepository makes a repository.
func (s *Service) CreateRepository(ctx context.Context, sc auth.Scope, in *api.CreateRepositoryInput) (*api.CreateRepositoryOutput, error) {
	if err := own(sc, in.RegistryId); err != nil {
		return nil, err
	}
	tags, err := checkTags(nil, in.Tags)
	if err != nil {
		return nil, err
	}
	row := &registry.Repository{Repo: repoOf(sc, in.RegistryId, in.RepositoryName), Encryption: api.EncryptionTypeAes256, Tags: tags}
	if e := in.EncryptionConfiguration; e != nil {
		if err := checkEncryption(wire.Value(e.EncryptionType), wire.Value(e.KmsKey)); err != nil {
			return nil, err
		}
	}
	if row.Mutability, row.Exclusions, err = mutability(in.ImageTagMutability, in.ImageTagMutabilityExclusionFilters); err != nil {
		return nil, err
	}
	if c := in.ImageScanningConfiguration; c != nil {
		row.ScanOnPush = wire.Value(c.ScanOnPush)
	}
	if err := s.Store.Update(ctx, func(tx *store.Tx) error { return s.Registry.CreateRepository(tx, row) }); err != nil {
		return nil, err
	}
	return &api.CreateRepositoryOutput{Repository: s.describe(row)}, nil
}

// checkEncryption refuses keys, as there are none to encrypt with.
func checkEncryption(kind, key string) error {
	if kind == api.EncryptionTypeAes256 && key == "" {
		return nil
	}
	if kind == api.EncryptionTypeAes256 {
		return invalid("encryptionConfiguration", "KMS key should not be provided when encryption type is AES256")
	}
	return &api.KmsException{Message: new("The KMS key cannot be used: there is no AWS KMS here."), KmsError: new("NotFoundException")}
}

// The limits of exclusion filters ("Preventing image tags from being overwritten
// in Amazon ECR").
const maxFilterWildcards = 2

// mutability reads what an input says of it.
func mutability(given *string, filters []api.ImageTagMutabilityExclusionFilter) (kind string, exclusions []string, err error) {
	kind = registry.Mutable
	if given != nil {
		kind = *given
	}
	with := kind == registry.MutableWithExclusion || kind == registry.ImmutableWithExclusion
	if with && len(filters) == 0 {
		return "", nil, invalid("imageTagMutabilityExclusionFilters", "ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as %s", kind)
	}
	if !with && filters != nil {
		return "", nil, invalid("imageTagMutabilityExclusionFilters", "ImageTagMutabilityExclusionFilters can't be provided when imageTagMutability is set as %s", kind)
	}
	for _, f := range filters {
		text := wire.Value(f.Filter)
		if strings.Count(text, "*") > maxFilterWildcards {
			return "", nil, invalid("imageTagMutabilityExclusionFilters", "Filter '%s' has more than %d wildcards", text, maxFilterWildcards)
		}
		exclusions = append(exclusions, text)
	}
	return kind, exclusions, nil
}

func filtersOf(exclusions []string) (out []api.ImageTagMutabilityExclusionFilter) {
	for _, f := range exclusions {
		out = append(out, api.ImageTagMutabilityExclusionFilter{Filter: &f, FilterType: new(api.ImageTagMutabilityExclusionFilterTypeWildcard)})
	}
	return out
}

// describe is a repository as the API shows it.
func (s *Service) describe(row *registry.Repository) *api.Repository {
	encryption := row.Encryption
	if encryption == "" {
		encryption = api.EncryptionTypeAes256
	}
	return &api.Repository{
		RepositoryArn: new(row.Repo.ARN()), RegistryId: &row.Repo.Account, RepositoryName: &row.Repo.Name,
		RepositoryUri: new(s.Registry.URI(row.Repo)), CreatedAt: &row.Created, ImageTagMutability: &row.Mutability,
		ImageTagMutabilityExclusionFilters: filtersOf(row.Exclusions),
		ImageScanningConfiguration:         &api.ImageScanningConfiguration{ScanOnPush: &row.ScanOnPush},
		EncryptionConfiguration:            &api.EncryptionConfiguration{EncryptionType: &encryption},
	}
}

// DescribeRepositories lists the repositories named, or all by name.
func (s *Service) DescribeRepositories(ctx context.Context, sc auth.Scope, in *api.DescribeRepositoriesInput) (*api.DescribeRepositoriesOutput, error) {
	if len(in.RepositoryNames) > 0 && (in.NextToken != nil || in.MaxResults != nil) {
		return nil, invalid("repositoryNames", "nextToken and maxResults cannot be specified with repositoryNames")
	}
	after, err := readToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &api.DescribeRepositoriesOutput{Repositories: []api.Repository{}}
	n := limit(in.MaxResults, 100)
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		for _, name := range in.RepositoryNames {
			row, err := s.Registry.Repository(tx, repoOf(sc, in.RegistryId, &name))
			if err != nil {
				return err
			}
			out.Repositories = append(out.Repositories, *s.describe(row))
		}
		if len(in.RepositoryNames) > 0 {
			return nil
		}
		where := repoOf(sc, in.RegistryId, nil)
		for row, err := range s.Registry.Repositories(tx, where.Account, where.Region, after) {
			if err != nil {
				return err
			}
			if len(out.Repositories) == n {
				out.NextToken = writeToken(*out.Repositories[n-1].RepositoryName)
				return nil
			}
			out.Repositories = append(out.Repositories, *s.describe(row))
		}
		return nil
	})
}

// DeleteRepository deletes a repository; with force, its images too.
func (s *Service) DeleteRepository(ctx context.Context, sc auth.Scope, in *api.DeleteRepositoryInput) (*api.DeleteRepositoryOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	var row *registry.Repository
	err := s.Store.Update(ctx, func(tx *store.Tx) (err error) {
		if row, err = s.Registry.Repository(tx, id); err != nil {
			return err
		}
		if err := previews.Delete(tx, id.Key()); err != nil {
			return err
		}
		return s.Registry.DeleteRepository(tx, id, wire.Value(in.Force))
	})
	if err != nil {
		return nil, err
	}
	return &api.DeleteRepositoryOutput{Repository: s.describe(row)}, nil
}

// change alters a repository's row.
func (s *Service) change(ctx context.Context, id registry.Repo, f func(row *registry.Repository) error) (*registry.Repository, error) {
	var row *registry.Repository
	err := s.Store.Update(ctx, func(tx *store.Tx) (err error) {
		if row, err = s.Registry.Repository(tx, id); err != nil {
			return err
		}
		if err := f(row); err != nil {
			return err
		}
		return s.Registry.PutRepository(tx, row)
	})
	return row, err
}

// PutImageTagMutability says whether tags may be given to other images.
func (s *Service) PutImageTagMutability(ctx context.Context, sc auth.Scope, in *api.PutImageTagMutabilityInput) (*api.PutImageTagMutabilityOutput, error) {
	kind, exclusions, err := mutability(in.ImageTagMutability, in.ImageTagMutabilityExclusionFilters)
	if err != nil {
		return nil, err
	}
	row, err := s.change(ctx, repoOf(sc, in.RegistryId, in.RepositoryName), func(row *registry.Repository) error {
		row.Mutability, row.Exclusions = kind, exclusions
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.PutImageTagMutabilityOutput{
		RegistryId: &row.Repo.Account, RepositoryName: &row.Repo.Name, ImageTagMutability: &row.Mutability,
		ImageTagMutabilityExclusionFilters: filtersOf(row.Exclusions),
	}, nil
}

// PutImageScanningConfiguration says whether pushed images are scanned.
func (s *Service) PutImageScanningConfiguration(ctx context.Context, sc auth.Scope, in *api.PutImageScanningConfigurationInput) (*api.PutImageScanningConfigurationOutput, error) {
	row, err := s.change(ctx, repoOf(sc, in.RegistryId, in.RepositoryName), func(row *registry.Repository) error {
		row.ScanOnPush = wire.Value(in.ImageScanningConfiguration.ScanOnPush)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &api.PutImageScanningConfigurationOutput{
		RegistryId: &row.Repo.Account, RepositoryName: &row.Repo.Name,
		ImageScanningConfiguration: &api.ImageScanningConfiguration{ScanOnPush: &row.ScanOnPush},
	}, nil
}

// createFor makes a repository that a push, a copy or a pull wants, as the
// template for such says. Without a template it has the usual settings; for a
// push there must be one.
func (s *Service) createFor(ctx context.Context, sc auth.Scope, id registry.Repo, kind string) error {
	var t *templateRow
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		t, err = templateFor(tx, id, kind)
		return err
	})
	if err != nil {
		return err
	}
	if t == nil && kind == api.RCTAppliedForCreateOnPush {
		return &registry.Error{Code: registry.RepositoryNotFound,
			Text: "The repository with name '" + id.Name + "' does not exist in the registry with id '" + id.Account + "'"}
	}
	row := &registry.Repository{Repo: id, Encryption: api.EncryptionTypeAes256}
	if t != nil {
		row.Mutability, row.Exclusions, row.Tags = t.Mutability, t.Exclusions, t.Tags
		row.Policy, row.Lifecycle = t.Policy, t.Lifecycle
		if t.Role != "" {
			// The template's role makes it, and needs the permissions.
			as, err := roleScope(sc, id.Account, t.Role)
			if err != nil {
				return registry.Refuse(err.Error())
			}
			actions := []string{"ecr:CreateRepository"}
			if len(t.Tags) > 0 {
				actions = append(actions, "ecr:TagResource")
			}
			if err := s.Registry.Authorise(ctx, as, registry.Needs(id, nil, actions...)); err != nil {
				return err
			}
		}
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error { return s.Registry.CreateRepository(tx, row) })
	if registry.CodeOf(err) == registry.RepositoryExists {
		return nil // somebody else was faster
	}
	return err
}

// createOnPush makes a repository that somebody pushes to, if a template is for
// such (registry.Hooks). The caller must be allowed to.
func (s *Service) createOnPush(ctx context.Context, sc auth.Scope, id registry.Repo) error {
	var t *templateRow
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		t, err = templateFor(tx, id, api.RCTAppliedForCreateOnPush)
		return err
	})
	if err != nil {
		return err
	}
	if t != nil {
		needs := registry.Needs(id, nil, "ecr:CreateRepository")
		if err := s.Registry.Authorise(ctx, sc, needs); err != nil {
			return err
		}
	}
	return s.createFor(ctx, sc, id, api.RCTAppliedForCreateOnPush)
}

// templateFor returns the template for a repository that something makes: that
// with the longest prefix, or ROOT; nil if none is for such.
func templateFor(tx *store.Tx, id registry.Repo, kind string) (best *templateRow, err error) {
	for t, err := range templates.Scan(tx, store.Range{Prefix: store.K(id.Account, id.Region)}) {
		if err != nil {
			return nil, err
		}
		if !slices.Contains(t.AppliedFor, kind) || !under(t.Prefix, id.Name) {
			continue
		}
		if best == nil || best.Prefix == root || t.Prefix != root && len(t.Prefix) > len(best.Prefix) {
			best = t
		}
	}
	return best, nil
}

// root is the prefix of all names.
const root = "ROOT"

// under tells whether a prefix of namespaces is a name's.
func under(prefix, name string) bool {
	return prefix == root || strings.HasPrefix(name, strings.TrimSuffix(prefix, "/")+"/")
}
