package ecr

import (
	"bytes"
	"context"
	"errors"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// partSize is the size of parts that InitiateLayerUpload recommends, in bytes: the
// largest that UploadLayerPart takes.
const partSize = 20 << 20

// layerType is told of a layer that no image names yet.
const layerType = "application/vnd.docker.image.rootfs.diff.tar.gzip"

// BatchCheckLayerAvailability tells which layers a repository has.
func (s *Service) BatchCheckLayerAvailability(ctx context.Context, sc auth.Scope, in *api.BatchCheckLayerAvailabilityInput) (*api.BatchCheckLayerAvailabilityOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	out := &api.BatchCheckLayerAvailabilityOutput{Layers: []api.Layer{}, Failures: []api.LayerFailure{}}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := s.Registry.Repository(tx, id); err != nil {
			return err
		}
		for _, digest := range in.LayerDigests {
			if !digestForm.MatchString(digest) {
				out.Failures = append(out.Failures, api.LayerFailure{LayerDigest: &digest, FailureCode: new(api.LayerFailureCodeInvalidLayerDigest),
					FailureReason: new("Invalid request parameters: layer digest should satisfy the regex '[a-zA-Z0-9-_+.]+:[a-fA-F0-9]+'")})
				continue
			}
			b, err := s.Registry.Blob(tx, id, digest)
			if registry.CodeOf(err) == registry.LayerNotFound {
				out.Layers = append(out.Layers, api.Layer{LayerDigest: &digest, LayerAvailability: new(api.LayerAvailabilityUnavailable)})
				continue
			}
			if err != nil {
				return err
			}
			_, mediaType, archived, err := s.namedBy(tx, id, digest)
			if err != nil {
				return err
			}
			l := api.Layer{LayerDigest: &digest, LayerAvailability: new(api.LayerAvailabilityAvailable), LayerSize: &b.Size, MediaType: &mediaType}
			if archived {
				l.LayerAvailability = new(api.LayerAvailabilityArchived)
			}
			out.Layers = append(out.Layers, l)
		}
		return nil
	})
}

// namedBy tells whether an image names a layer, its media type there, and whether
// all such images are archived.
func (s *Service) namedBy(tx *store.Tx, id registry.Repo, digest string) (named bool, mediaType string, archived bool, err error) {
	mediaType = layerType
	for m, err := range s.Registry.Naming(tx, id, digest) {
		if err != nil {
			return false, "", false, err
		}
		archived = m.Archived && (archived || !named)
		named = true
		for _, d := range layersOf(m) {
			if d.Digest == digest && d.MediaType != "" {
				mediaType = d.MediaType
			}
		}
	}
	return named, mediaType, archived, nil
}

// GetDownloadUrlForLayer returns a link from which a layer can be had for an hour.
func (s *Service) GetDownloadUrlForLayer(ctx context.Context, sc auth.Scope, in *api.GetDownloadUrlForLayerInput) (*api.GetDownloadUrlForLayerOutput, error) {
	id, digest := repoOf(sc, in.RegistryId, in.RepositoryName), wire.Value(in.LayerDigest)
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := s.Registry.Blob(tx, id, digest); err != nil {
			return err
		}
		named, _, archived, err := s.namedBy(tx, id, digest)
		if err == nil && (!named || archived) {
			return &api.LayerInaccessibleException{Message: new("The layer with digest '" + digest + "' is not part of an image that can be pulled")}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	link, err := s.Registry.Tokens.Link(ctx, id, digest)
	if err != nil {
		return nil, err
	}
	return &api.GetDownloadUrlForLayerOutput{DownloadUrl: new(s.Registry.Endpoint(id.Account, id.Region) + link), LayerDigest: &digest}, nil
}

// InitiateLayerUpload begins a layer.
func (s *Service) InitiateLayerUpload(ctx context.Context, sc auth.Scope, in *api.InitiateLayerUploadInput) (*api.InitiateLayerUploadOutput, error) {
	var u *registry.Upload
	err := s.Store.Update(ctx, func(tx *store.Tx) (err error) {
		u, err = s.Registry.StartUpload(tx, repoOf(sc, in.RegistryId, in.RepositoryName))
		return err
	})
	if err != nil {
		return nil, err
	}
	return &api.InitiateLayerUploadOutput{UploadId: &u.ID, PartSize: new(int64(partSize))}, nil
}

// UploadLayerPart adds a part to a layer; parts come in their order.
func (s *Service) UploadLayerPart(ctx context.Context, sc auth.Scope, in *api.UploadLayerPartInput) (*api.UploadLayerPartOutput, error) {
	id, upload := repoOf(sc, in.RegistryId, in.RepositoryName), wire.Value(in.UploadId)
	first, last := wire.Value(in.PartFirstByte), wire.Value(in.PartLastByte)
	if int64(len(in.LayerPartBlob)) != last-first+1 || last < first {
		received := int64(0)
		err := s.Store.View(ctx, func(tx *store.Tx) error {
			u, err := s.Registry.Upload(tx, id, upload)
			if err == nil {
				received = u.Size
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		return nil, partInvalid(id, upload, received, "Layer part length does not match the range of its first and last byte")
	}
	u, err := s.Registry.WritePart(ctx, id, upload, first, bytes.NewReader(in.LayerPartBlob))
	if e, ok := errors.AsType[*registry.Error](err); ok && e.Code == registry.PartInvalid {
		return nil, partInvalid(id, upload, e.Received, e.Text)
	}
	if err != nil {
		return nil, err
	}
	return &api.UploadLayerPartOutput{RegistryId: &id.Account, RepositoryName: &id.Name, UploadId: &upload, LastByteReceived: new(u.Size - 1)}, nil
}

// partInvalid is the refusal of a part. lastValidByteReceived is 0 of an upload
// without any, too, as it can't be less.
func partInvalid(id registry.Repo, upload string, received int64, text string) error {
	return &api.InvalidLayerPartException{
		RegistryId: &id.Account, RepositoryName: &id.Name, UploadId: &upload, LastValidByteReceived: new(max(0, received-1)), Message: &text,
	}
}

// CompleteLayerUpload makes a layer of what was uploaded.
func (s *Service) CompleteLayerUpload(ctx context.Context, sc auth.Scope, in *api.CompleteLayerUploadInput) (*api.CompleteLayerUploadOutput, error) {
	id, upload := repoOf(sc, in.RegistryId, in.RepositoryName), wire.Value(in.UploadId)
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		u, err := s.Registry.Upload(tx, id, upload)
		switch {
		case err != nil:
			return err
		case u.Size == 0:
			return &api.EmptyUploadException{Message: new("The upload with id '" + upload + "' in the repository with name '" + id.Name + "' in registry with id '" + id.Account + "' cannot be completed because it does not have any parts")}
		case u.Short:
			return &api.LayerPartTooSmallException{Message: new("Layer parts, except for the last one, must be at least 5242880 bytes in size")}
		}
		for _, digest := range in.LayerDigests {
			if _, err := s.Registry.Blob(tx, id, digest); err == nil {
				return &api.LayerAlreadyExistsException{Message: new("Layer with digest '" + digest + "' already exists in the repository with name '" + id.Name + "' in registry with id '" + id.Account + "'")}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, digest := range in.LayerDigests {
		_, err = s.Registry.CompleteUpload(ctx, id, upload, digest, nil)
		if err == nil {
			return &api.CompleteLayerUploadOutput{RegistryId: &id.Account, RepositoryName: &id.Name, UploadId: &upload, LayerDigest: &digest}, nil
		}
		if c := registry.CodeOf(err); c != registry.LayerInvalid && c != registry.ParameterInvalid {
			return nil, err
		}
	}
	return nil, &api.InvalidLayerException{Message: new("None of the provided layer digests match the calculated layer digest")}
}
