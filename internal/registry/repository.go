package registry

import (
	"errors"
	"iter"
	"slices"

	"skerry/internal/store"
)

// CreateRepository writes the row of a repository that is not there yet. Errors:
// RepositoryExists, ParameterInvalid.
func (r *Registry) CreateRepository(tx *store.Tx, row *Repository) error {
	if !ValidName(row.Repo.Name) {
		return fail(ParameterInvalid, "Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression '(?:[a-z0-9]+(?:[._-][a-z0-9]+)*/)*[a-z0-9]+(?:[._-][a-z0-9]+)*''")
	}
	if row.Mutability == "" {
		row.Mutability = Mutable
	}
	if row.Created.IsZero() {
		row.Created = r.now()
	}
	err := repositories.Insert(tx, row)
	if errors.Is(err, store.ErrExists) {
		return fail(RepositoryExists, "The repository with name '%s' already exists in the registry with id '%s'", row.Repo.Name, row.Repo.Account)
	}
	return err
}

// Repository returns a repository's row. Errors: RepositoryNotFound.
func (r *Registry) Repository(tx *store.Tx, id Repo) (*Repository, error) {
	row, err := repositories.Get(tx, id.Key())
	if errors.Is(err, store.ErrNotFound) {
		return nil, repositoryNotFound(id)
	}
	return row, err
}

// PutRepository writes the row of a repository that is there.
func (r *Registry) PutRepository(tx *store.Tx, row *Repository) error {
	return repositories.Put(tx, row)
}

// Repositories returns an account's repositories of a region by name, those after
// a name if one is given.
func (r *Registry) Repositories(tx *store.Tx, account, region, after string) iter.Seq2[*Repository, error] {
	span := store.Range{Prefix: store.K(account, region)}
	if after != "" {
		span.After = Repo{account, region, after}.Key()
	}
	return repositories.Scan(tx, span)
}

// AllRepositories returns every repository of every account and region.
func (r *Registry) AllRepositories(tx *store.Tx) iter.Seq2[*Repository, error] {
	return repositories.Scan(tx, store.Range{})
}

// DeleteRepository removes a repository; with force, what it holds as well.
// Errors: RepositoryNotFound, RepositoryNotEmpty.
func (r *Registry) DeleteRepository(tx *store.Tx, id Repo, force bool) error {
	if _, err := r.Repository(tx, id); err != nil {
		return err
	}
	for m, err := range r.Manifests(tx, id, "") {
		if err != nil {
			return err
		}
		if !force {
			return fail(RepositoryNotEmpty, "The repository with name '%s' in registry with id '%s' cannot be deleted because it still contains images", id.Name, id.Account)
		}
		if err := r.removeManifest(tx, m); err != nil {
			return err
		}
	}
	for b, err := range blobs.Scan(tx, store.Range{Prefix: id.Key()}) {
		if err != nil {
			return err
		}
		if err := blobs.Delete(tx, id.Key()+store.K(b.Digest)); err != nil {
			return err
		}
	}
	for u, err := range uploads.Scan(tx, store.Range{Prefix: id.Key()}) {
		if err != nil {
			return err
		}
		if err := dropUpload(tx, u); err != nil {
			return err
		}
	}
	return repositories.Delete(tx, id.Key())
}

// immutable tells whether a tag, once given, stays with its image.
func (row *Repository) immutable(tag string) bool {
	excluded := slices.ContainsFunc(row.Exclusions, func(f string) bool { return Matches(f, tag) })
	switch row.Mutability {
	case Immutable:
		return true
	case ImmutableWithExclusion:
		return !excluded
	case MutableWithExclusion:
		return excluded
	}
	return false
}
