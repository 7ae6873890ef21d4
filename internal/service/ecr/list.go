package ecr

import (
	"context"
	"slices"
	"strings"
	"time"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/registry"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// wanted tells whether an image passes the filters of a listing; without one for
// the status, archived images do not.
func wanted(m *registry.Manifest, tags []string, tagStatus, status *string) bool {
	switch wire.Value(tagStatus) {
	case api.TagStatusTagged:
		if len(tags) == 0 {
			return false
		}
	case api.TagStatusUntagged:
		if len(tags) > 0 {
			return false
		}
	}
	want := api.ImageStatusActive
	if status != nil {
		want = *status
	}
	return want == api.ImageStatusFilterAny || want == statusOf(m)
}

// ListImages lists images by digest and tag; those without a tag by digest alone.
func (s *Service) ListImages(ctx context.Context, sc auth.Scope, in *api.ListImagesInput) (*api.ListImagesOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	token, err := readToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	// A page may end within the tags of an image.
	last, lastTag, within := strings.Cut(token, " ")
	var tagStatus, status *string
	if in.Filter != nil {
		tagStatus, status = in.Filter.TagStatus, in.Filter.ImageStatus
	}
	n := limit(in.MaxResults, 100)
	out := &api.ListImagesOutput{ImageIds: []api.ImageIdentifier{}}
	add := func(i api.ImageIdentifier) bool {
		if len(out.ImageIds) == n {
			end := out.ImageIds[n-1]
			out.NextToken = writeToken(strings.TrimSuffix(*end.ImageDigest+" "+wire.Value(end.ImageTag), " "))
			return false
		}
		out.ImageIds = append(out.ImageIds, i)
		return true
	}
	one := func(tx *store.Tx, m *registry.Manifest, after string) (more bool, err error) {
		tags, err := s.Registry.TagsOf(tx, id, m.Digest)
		if err != nil || !wanted(m, tags, tagStatus, status) {
			return true, err
		}
		if len(tags) == 0 {
			return add(api.ImageIdentifier{ImageDigest: &m.Digest}), nil
		}
		for _, t := range tags {
			if t > after && !add(api.ImageIdentifier{ImageDigest: &m.Digest, ImageTag: &t}) {
				return false, nil
			}
		}
		return true, nil
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := s.Registry.Repository(tx, id); err != nil {
			return err
		}
		if within {
			m, err := s.Registry.Manifest(tx, id, last, "")
			if err != nil && registry.CodeOf(err) != registry.ImageNotFound {
				return err
			}
			if err == nil {
				if more, err := one(tx, m, lastTag); err != nil || !more {
					return err
				}
			}
		}
		for m, err := range s.Registry.Manifests(tx, id, last) {
			if err != nil {
				return err
			}
			if more, err := one(tx, m, ""); err != nil || !more {
				return err
			}
		}
		return nil
	})
}

// DescribeImages tells of the images named, or of all.
func (s *Service) DescribeImages(ctx context.Context, sc auth.Scope, in *api.DescribeImagesInput) (*api.DescribeImagesOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	if len(in.ImageIds) > 0 && (in.NextToken != nil || in.MaxResults != nil) {
		return nil, invalid("imageIds", "nextToken and maxResults cannot be specified with imageIds")
	}
	last, err := readToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	filter := in.Filter
	if filter == nil {
		filter = &api.DescribeImagesFilter{}
		if len(in.ImageIds) > 0 { // who names an image gets it, archived or not
			filter.ImageStatus = new(api.ImageStatusFilterAny)
		}
	}
	n := limit(in.MaxResults, 100)
	out := &api.DescribeImagesOutput{ImageDetails: []api.ImageDetail{}}
	one := func(tx *store.Tx, m *registry.Manifest) (more bool, err error) {
		tags, err := s.Registry.TagsOf(tx, id, m.Digest)
		if err != nil || !wanted(m, tags, filter.TagStatus, filter.ImageStatus) {
			return true, err
		}
		if len(out.ImageDetails) == n {
			out.NextToken = writeToken(*out.ImageDetails[n-1].ImageDigest)
			return false, nil
		}
		d, err := s.detail(tx, m, tags)
		out.ImageDetails = append(out.ImageDetails, d)
		return true, err
	}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := s.Registry.Repository(tx, id); err != nil {
			return err
		}
		if len(in.ImageIds) > 0 {
			return s.describeNamed(tx, id, in.ImageIds, one)
		}
		for m, err := range s.Registry.Manifests(tx, id, last) {
			if err != nil {
				return err
			}
			if more, err := one(tx, m); err != nil || !more {
				return err
			}
		}
		return nil
	})
}

func (s *Service) describeNamed(tx *store.Tx, id registry.Repo, ids []api.ImageIdentifier, one func(*store.Tx, *registry.Manifest) (bool, error)) error {
	var seen []string
	for _, want := range ids {
		m, err := s.image(tx, id, &want)
		if err != nil {
			return err
		}
		if slices.Contains(seen, m.Digest) {
			continue
		}
		seen = append(seen, m.Digest)
		if _, err := one(tx, m); err != nil {
			return err
		}
	}
	return nil
}

// detail is an image as DescribeImages shows it.
func (s *Service) detail(tx *store.Tx, m *registry.Manifest, tags []string) (api.ImageDetail, error) {
	d := api.ImageDetail{
		RegistryId: &m.Repo.Account, RepositoryName: &m.Repo.Name, ImageDigest: &m.Digest, ImageTags: tags,
		ImageSizeInBytes: &m.ImageSize, ImagePushedAt: &m.Pushed, ImageManifestMediaType: &m.MediaType,
		ImageStatus: new(statusOf(m)), LastRecordedPullTime: when(m.Pulled), LastArchivedAt: when(m.ArchivedAt), LastActivatedAt: when(m.ActivatedAt),
	}
	if m.ArtifactType != "" {
		d.ArtifactMediaType = &m.ArtifactType
	}
	if m.Subject != "" {
		d.SubjectManifestDigest = &m.Subject
	}
	row, err := scanOf(tx, m)
	if err != nil || row == nil {
		return d, err
	}
	d.ImageScanStatus = &api.ImageScanStatus{Status: &row.Status, Description: &row.Description}
	if !row.Ended.IsZero() && row.Counts != nil {
		d.ImageScanFindingsSummary = &api.ImageScanFindingsSummary{
			ImageScanCompletedAt: &row.Ended, VulnerabilitySourceUpdatedAt: when(row.Updated), FindingSeverityCounts: row.Counts,
		}
	}
	return d, nil
}

// when is a time that may never have been.
func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// ListImageReferrers lists the artifacts about an image.
func (s *Service) ListImageReferrers(ctx context.Context, sc auth.Scope, in *api.ListImageReferrersInput) (*api.ListImageReferrersOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	last, err := readToken(in.NextToken)
	if err != nil {
		return nil, err
	}
	filter := in.Filter
	if filter == nil {
		filter = &api.ListImageReferrersFilter{}
	}
	n := limit(in.MaxResults, 50)
	out := &api.ListImageReferrersOutput{Referrers: []api.ImageReferrer{}}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		if _, err := s.Registry.Repository(tx, id); err != nil {
			return err
		}
		for m, err := range s.Registry.Referrers(tx, id, wire.Value(in.SubjectId.ImageDigest)) {
			if err != nil {
				return err
			}
			if m.Digest <= last || len(filter.ArtifactTypes) > 0 && !slices.Contains(filter.ArtifactTypes, m.ArtifactType) || !wanted(m, nil, nil, filter.ArtifactStatus) {
				continue
			}
			if len(out.Referrers) == n {
				out.NextToken = writeToken(*out.Referrers[n-1].Digest)
				return nil
			}
			out.Referrers = append(out.Referrers, api.ImageReferrer{
				Digest: &m.Digest, MediaType: &m.MediaType, ArtifactType: &m.ArtifactType, Size: &m.Size,
				Annotations: m.Annotations, ArtifactStatus: new(statusOf(m)),
			})
		}
		return nil
	})
}
