package ecr

import (
	"context"
	"errors"
	"regexp"
	"slices"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// PutImage gives a repository a manifest whose layers it has, with a tag or
// without.
func (s *Service) PutImage(ctx context.Context, sc auth.Scope, in *api.PutImageInput) (*api.PutImageOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	m, err := s.Registry.Prepare(ctx, wire.Value(in.ImageManifestMediaType), wire.Value(in.ImageDigest), []byte(wire.Value(in.ImageManifest)))
	if err != nil {
		return nil, err
	}
	var names []string
	if in.ImageTag != nil {
		names = []string{*in.ImageTag}
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		p, err := s.Registry.PutManifest(tx, id, m, names...)
		if err == nil && !p.New && len(p.Tags) == 0 && !p.Restored {
			return imageExists(id, m.Digest, in.ImageTag)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.PutImageOutput{Image: &api.Image{
		RegistryId: &id.Account, RepositoryName: &id.Name, ImageId: &api.ImageIdentifier{ImageDigest: &m.Digest, ImageTag: in.ImageTag},
		ImageManifest: in.ImageManifest, ImageManifestMediaType: &m.MediaType,
	}}, nil
}

func imageExists(id registry.Repo, digest string, tag *string) error {
	text := "Image with digest '" + digest + "'"
	if tag != nil {
		text += " and tag '" + *tag + "'"
	}
	return &api.ImageAlreadyExistsException{Message: new(text + " already exists in the repository with name '" + id.Name + "' in registry with id '" + id.Account + "'")}
}

// digestForm is the form that ECR wants of an image's digest.
var digestForm = regexp.MustCompile(`^[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+$`)

// failure says why an image could not be used.
func failure(id api.ImageIdentifier, code, reason string) *api.ImageFailure {
	return &api.ImageFailure{ImageId: &id, FailureCode: &code, FailureReason: &reason}
}

// checkID tells what is wrong with the form of an image's id; nil if nothing is.
func checkID(id api.ImageIdentifier) *api.ImageFailure {
	switch {
	case id.ImageDigest == nil && id.ImageTag == nil:
		return failure(id, api.ImageFailureCodeMissingDigestAndTag, "Invalid request parameters: both tag and digest cannot be null")
	case id.ImageDigest != nil && !digestForm.MatchString(*id.ImageDigest):
		return failure(id, api.ImageFailureCodeInvalidImageDigest, "Invalid request parameters: image digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'")
	case id.ImageTag != nil && !registry.ValidTag(*id.ImageTag):
		return failure(id, api.ImageFailureCodeInvalidImageTag, "Invalid request parameters: image tag should satisfy the regex '[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}'")
	}
	return nil
}

// find returns the image of an id, or why there is none.
func (s *Service) find(tx *store.Tx, repo registry.Repo, id api.ImageIdentifier) (*registry.Manifest, *api.ImageFailure, error) {
	if f := checkID(id); f != nil {
		return nil, f, nil
	}
	m, err := s.Registry.Manifest(tx, repo, wire.Value(id.ImageDigest), wire.Value(id.ImageTag))
	if registry.CodeOf(err) != registry.ImageNotFound {
		return m, nil, err
	}
	if id.ImageDigest != nil && id.ImageTag != nil {
		if _, err := s.Registry.Manifest(tx, repo, *id.ImageDigest, ""); err == nil {
			if _, err := s.Registry.Manifest(tx, repo, "", *id.ImageTag); err == nil {
				return nil, failure(id, api.ImageFailureCodeImageTagDoesNotMatchDigest, "Requested image tag does not match the image digest"), nil
			}
		}
	}
	return nil, failure(id, api.ImageFailureCodeImageNotFound, "Requested image not found"), nil
}

// image returns the image that an input names by digest or tag or both. Its error
// is ECR's.
func (s *Service) image(tx *store.Tx, repo registry.Repo, id *api.ImageIdentifier) (*registry.Manifest, error) {
	if f := checkID(*id); f != nil {
		return nil, invalid("imageId", "%s", *f.FailureReason)
	}
	m, err := s.Registry.Manifest(tx, repo, wire.Value(id.ImageDigest), wire.Value(id.ImageTag))
	if registry.CodeOf(err) == registry.ImageNotFound {
		return nil, imageNotFound(repo, id)
	}
	return m, err
}

func imageNotFound(repo registry.Repo, id *api.ImageIdentifier) error {
	quoted := func(s *string) string {
		if s == nil {
			return "'null'"
		}
		return "'" + *s + "'"
	}
	return &api.ImageNotFoundException{Message: new("The image with imageId {imageDigest:" + quoted(id.ImageDigest) + ", imageTag:" + quoted(id.ImageTag) +
		"} does not exist within the repository with name '" + repo.Name + "' in the registry with id '" + repo.Account + "'")}
}

// BatchGetImage returns images' manifests: the API's way to pull.
func (s *Service) BatchGetImage(ctx context.Context, sc auth.Scope, in *api.BatchGetImageInput) (*api.BatchGetImageOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	out := &api.BatchGetImageOutput{Images: []api.Image{}, Failures: []api.ImageFailure{}}
	var found []*registry.Manifest
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := s.Registry.Repository(tx, id); err != nil {
			return err
		}
		for _, want := range in.ImageIds {
			m, f, err := s.find(tx, id, want)
			if err != nil {
				return err
			}
			if f == nil && m.Archived {
				f = failure(want, api.ImageFailureCodeImageInaccessible, "Requested image is archived; restore it before it is pulled")
			}
			if f == nil && len(in.AcceptedMediaTypes) > 0 && !slices.Contains(in.AcceptedMediaTypes, m.MediaType) {
				f = failure(want, api.ImageFailureCodeImageNotFound, "Requested image not found")
			}
			if f != nil {
				out.Failures = append(out.Failures, *f)
				continue
			}
			found = append(found, m)
			out.Images = append(out.Images, api.Image{
				RegistryId: &id.Account, RepositoryName: &id.Name, ImageManifestMediaType: &m.MediaType,
				ImageId: &api.ImageIdentifier{ImageDigest: &m.Digest, ImageTag: want.ImageTag},
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, m := range found {
		body, err := s.Registry.ReadManifest(ctx, m)
		if err != nil {
			return nil, err
		}
		out.Images[i].ImageManifest = new(string(body))
		if err := s.countPull(ctx, sc, m); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// countPull notes when an image was pulled, unless the principal's pulls do not
// count.
func (s *Service) countPull(ctx context.Context, sc auth.Scope, m *registry.Manifest) error {
	if s.uncounted(ctx, sc, m.Repo) || !s.Registry.PullIsNews(m) {
		return nil
	}
	return s.Store.Update(ctx, func(tx *store.Tx) error { return s.Registry.RecordPull(tx, m.Repo, m.Digest) })
}

// BatchDeleteImage takes tags from images, which go with their last one, and
// deletes images by digest.
func (s *Service) BatchDeleteImage(ctx context.Context, sc auth.Scope, in *api.BatchDeleteImageInput) (*api.BatchDeleteImageOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	out := &api.BatchDeleteImageOutput{}
	return out, s.Store.Update(ctx, func(tx *store.Tx) error {
		*out = api.BatchDeleteImageOutput{ImageIds: []api.ImageIdentifier{}, Failures: []api.ImageFailure{}}
		if _, err := s.Registry.Repository(tx, id); err != nil {
			return err
		}
		// An image and the list that names it may go in one call, in any order.
		left := in.ImageIds
		for {
			var kept []api.ImageIdentifier
			var failures []api.ImageFailure
			for _, want := range left {
				gone, f, err := s.remove(tx, id, want)
				if err != nil {
					return err
				}
				if f == nil {
					out.ImageIds = append(out.ImageIds, gone...)
					continue
				}
				if *f.FailureCode == api.ImageFailureCodeImageReferencedByManifestList {
					kept, failures = append(kept, want), append(failures, *f)
				} else {
					out.Failures = append(out.Failures, *f)
				}
			}
			if len(kept) == 0 || len(kept) == len(left) {
				out.Failures = append(out.Failures, failures...)
				return nil
			}
			left = kept
		}
	})
}

// remove deletes one image, or takes a tag from it.
func (s *Service) remove(tx *store.Tx, repo registry.Repo, id api.ImageIdentifier) ([]api.ImageIdentifier, *api.ImageFailure, error) {
	m, f, err := s.find(tx, repo, id)
	if err != nil || f != nil {
		return nil, f, err
	}
	tags, err := s.Registry.TagsOf(tx, repo, m.Digest)
	if err != nil {
		return nil, nil, err
	}
	if id.ImageDigest == nil && len(tags) > 1 {
		if _, err := s.Registry.DeleteTag(tx, repo, *id.ImageTag); err != nil {
			return nil, nil, err
		}
		return []api.ImageIdentifier{{ImageDigest: &m.Digest, ImageTag: id.ImageTag}}, nil, nil
	}
	_, err = s.Registry.DeleteManifest(tx, repo, m.Digest)
	if e, ok := errors.AsType[*registry.Error](err); ok && e.Code == registry.ImageReferenced {
		return nil, failure(id, api.ImageFailureCodeImageReferencedByManifestList, e.Text), nil
	}
	if err != nil {
		return nil, nil, err
	}
	if len(tags) == 0 {
		return []api.ImageIdentifier{{ImageDigest: &m.Digest}}, nil, nil
	}
	var gone []api.ImageIdentifier
	for _, t := range tags {
		gone = append(gone, api.ImageIdentifier{ImageDigest: &m.Digest, ImageTag: &t})
	}
	return gone, nil, nil
}

// UpdateImageStorageClass archives an image, or restores it. Both are done at
// once.
func (s *Service) UpdateImageStorageClass(ctx context.Context, sc auth.Scope, in *api.UpdateImageStorageClassInput) (*api.UpdateImageStorageClassOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	archive := wire.Value(in.TargetStorageClass) == api.TargetStorageClassArchive
	out := &api.UpdateImageStorageClassOutput{RegistryId: &id.Account, RepositoryName: &id.Name, ImageId: in.ImageId}
	return out, s.Store.Update(ctx, func(tx *store.Tx) error {
		m, err := s.image(tx, id, in.ImageId)
		if err != nil {
			return err
		}
		if m.Archived == archive {
			return &api.ImageStorageClassUpdateNotSupportedException{Message: new("The image with digest '" + m.Digest + "' is in the storage class '" + *in.TargetStorageClass + "' already")}
		}
		if err := s.Registry.Archive(tx, m, archive); err != nil {
			return err
		}
		out.ImageId = &api.ImageIdentifier{ImageDigest: &m.Digest, ImageTag: in.ImageId.ImageTag}
		out.ImageStatus = new(statusOf(m))
		return nil
	})
}

// statusOf is an image's status.
func statusOf(m *registry.Manifest) string {
	if m.Archived {
		return api.ImageStatusArchived
	}
	return api.ImageStatusActive
}
