package ecr

import (
	"context"
	"errors"
	"strings"
	"time"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/registry"
	"skerry/internal/service/ecr/lifecycle"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// checkLifecycle tells what is wrong with a policy.
func checkLifecycle(text string) error {
	_, err := lifecycle.Parse(text)
	if f, ok := errors.AsType[lifecycle.Fault](err); ok {
		return invalid("LifecyclePolicyText", "Lifecycle policy validation failure: %s", string(f))
	}
	return err
}

func noLifecycle(id registry.Repo) error {
	return &api.LifecyclePolicyNotFoundException{Message: new("Lifecycle policy does not exist for the repository with name '" + id.Name + "' in the registry with id '" + id.Account + "'")}
}

// PutLifecyclePolicy says when a repository's images expire.
func (s *Service) PutLifecyclePolicy(ctx context.Context, sc auth.Scope, in *api.PutLifecyclePolicyInput) (*api.PutLifecyclePolicyOutput, error) {
	text := wire.Value(in.LifecyclePolicyText)
	if err := checkLifecycle(text); err != nil {
		return nil, err
	}
	row, err := s.change(ctx, repoOf(sc, in.RegistryId, in.RepositoryName), func(row *registry.Repository) error {
		row.Lifecycle, row.Evaluated = text, time.Time{}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.Wake(lifecycleLoop)
	return &api.PutLifecyclePolicyOutput{RegistryId: &row.Repo.Account, RepositoryName: &row.Repo.Name, LifecyclePolicyText: &text}, nil
}

// GetLifecyclePolicy returns a repository's lifecycle policy.
func (s *Service) GetLifecyclePolicy(ctx context.Context, sc auth.Scope, in *api.GetLifecyclePolicyInput) (*api.GetLifecyclePolicyOutput, error) {
	out := &api.GetLifecyclePolicyOutput{}
	return out, s.Store.View(ctx, func(tx *store.Tx) error {
		row, err := s.Registry.Repository(tx, repoOf(sc, in.RegistryId, in.RepositoryName))
		if err != nil {
			return err
		}
		if row.Lifecycle == "" {
			return noLifecycle(row.Repo)
		}
		out.RegistryId, out.RepositoryName, out.LifecyclePolicyText, out.LastEvaluatedAt = &row.Repo.Account, &row.Repo.Name, &row.Lifecycle, when(row.Evaluated)
		return nil
	})
}

// DeleteLifecyclePolicy removes a repository's lifecycle policy.
func (s *Service) DeleteLifecyclePolicy(ctx context.Context, sc auth.Scope, in *api.DeleteLifecyclePolicyInput) (*api.DeleteLifecyclePolicyOutput, error) {
	out := &api.DeleteLifecyclePolicyOutput{}
	_, err := s.change(ctx, repoOf(sc, in.RegistryId, in.RepositoryName), func(row *registry.Repository) error {
		if row.Lifecycle == "" {
			return noLifecycle(row.Repo)
		}
		out.RegistryId, out.RepositoryName = &row.Repo.Account, &row.Repo.Name
		out.LifecyclePolicyText, out.LastEvaluatedAt = new(row.Lifecycle), when(row.Evaluated)
		row.Lifecycle, row.Evaluated = "", time.Time{}
		return nil
	})
	return out, err
}

// previewLife is how long a preview can be read; then it has the status EXPIRED.
const previewLife = 24 * time.Hour

// StartLifecyclePolicyPreview has a policy evaluated that does nothing: the one
// given, else the repository's own.
func (s *Service) StartLifecyclePolicyPreview(ctx context.Context, sc auth.Scope, in *api.StartLifecyclePolicyPreviewInput) (*api.StartLifecyclePolicyPreviewOutput, error) {
	id, text := repoOf(sc, in.RegistryId, in.RepositoryName), wire.Value(in.LifecyclePolicyText)
	if in.LifecyclePolicyText != nil {
		if err := checkLifecycle(text); err != nil {
			return nil, err
		}
	}
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := s.Registry.Repository(tx, id)
		if err != nil {
			return err
		}
		if in.LifecyclePolicyText == nil {
			if text = row.Lifecycle; text == "" {
				return noLifecycle(id)
			}
		}
		old, err := previews.Get(tx, id.Key())
		if err == nil && old.Status == inProgress {
			return &api.LifecyclePolicyPreviewInProgressException{Message: new("The previous lifecycle policy preview request has not completed for the repository with name '" + id.Name + "' in the registry with id '" + id.Account + "'. Wait and try again.")}
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		tx.OnCommit(func() { s.Wake(previewLoop) })
		return previews.Put(tx, &previewRow{Repo: id, Text: text, Status: inProgress, Started: s.Clock.Now()})
	})
	if err != nil {
		return nil, err
	}
	return &api.StartLifecyclePolicyPreviewOutput{RegistryId: &id.Account, RepositoryName: &id.Name, LifecyclePolicyText: &text, Status: new(inProgress)}, nil
}

// GetLifecyclePolicyPreview tells how far a preview is, and which images it
// concerns.
func (s *Service) GetLifecyclePolicyPreview(ctx context.Context, sc auth.Scope, in *api.GetLifecyclePolicyPreviewInput) (*api.GetLifecyclePolicyPreviewOutput, error) {
	id := repoOf(sc, in.RegistryId, in.RepositoryName)
	var row *previewRow
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		if _, err := s.Registry.Repository(tx, id); err != nil {
			return err
		}
		row, err = previews.Get(tx, id.Key())
		if errors.Is(err, store.ErrNotFound) {
			return &api.LifecyclePolicyPreviewNotFoundException{Message: new("Lifecycle policy preview does not exist for the repository with name '" + id.Name + "' in the registry with id '" + id.Account + "'")}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &api.GetLifecyclePolicyPreviewOutput{
		RegistryId: &id.Account, RepositoryName: &id.Name, LifecyclePolicyText: &row.Text, Status: &row.Status,
		PreviewResults: []api.LifecyclePolicyPreviewResult{},
	}
	if row.Status == inProgress || row.Status == api.LifecyclePolicyPreviewStatusFailed {
		return out, nil
	}
	if s.Clock.Now().Sub(row.Ended) > previewLife {
		out.Status = new(api.LifecyclePolicyPreviewStatusExpired)
		return out, nil
	}
	return out, pagePreview(out, row, in)
}

// pagePreview fills in the results that an input asks for.
func pagePreview(out *api.GetLifecyclePolicyPreviewOutput, row *previewRow, in *api.GetLifecyclePolicyPreviewInput) error {
	last, err := readToken(in.NextToken)
	if err != nil {
		return err
	}
	n := limit(in.MaxResults, 100)
	expiring, archiving := int32(0), int32(0)
	skipping := last != ""
	for _, r := range row.Results {
		if r.Action == string(lifecycle.Expire) {
			expiring++
		} else {
			archiving++
		}
		if skipping {
			skipping = r.Digest != last
			continue
		}
		if !r.asked(in) || out.NextToken != nil {
			continue
		}
		if len(out.PreviewResults) == n {
			out.NextToken = writeToken(*out.PreviewResults[n-1].ImageDigest)
			continue
		}
		class := api.LifecyclePolicyStorageClassStandard
		if r.Archived {
			class = api.LifecyclePolicyStorageClassArchive
		}
		action := &api.LifecyclePolicyRuleAction{Type: new(strings.ToUpper(r.Action))}
		if r.Action != string(lifecycle.Expire) {
			action.TargetStorageClass = new(api.LifecyclePolicyTargetStorageClassArchive)
		}
		out.PreviewResults = append(out.PreviewResults, api.LifecyclePolicyPreviewResult{
			ImageDigest: &r.Digest, ImageTags: r.Tags, ImagePushedAt: &r.Pushed, Action: action,
			AppliedRulePriority: new(int32(r.Priority)), StorageClass: &class,
		})
	}
	out.Summary = &api.LifecyclePolicyPreviewSummary{ExpiringImageTotalCount: &expiring}
	if archiving > 0 {
		out.Summary.TransitioningImageTotalCounts = []api.TransitioningImageTotalCount{{
			TargetStorageClass: new(api.LifecyclePolicyTargetStorageClassArchive), ImageTotalCount: &archiving}}
	}
	return nil
}

// asked tells whether a result passes the filters of an input.
func (r *previewResult) asked(in *api.GetLifecyclePolicyPreviewInput) bool {
	if in.Filter != nil {
		switch wire.Value(in.Filter.TagStatus) {
		case api.TagStatusTagged:
			if len(r.Tags) == 0 {
				return false
			}
		case api.TagStatusUntagged:
			if len(r.Tags) > 0 {
				return false
			}
		}
	}
	if len(in.ImageIds) == 0 {
		return true
	}
	for _, id := range in.ImageIds {
		if id.ImageDigest != nil && *id.ImageDigest != r.Digest {
			continue
		}
		if id.ImageTag == nil && id.ImageDigest != nil {
			return true
		}
		for _, t := range r.Tags {
			if id.ImageTag != nil && t == *id.ImageTag {
				return true
			}
		}
	}
	return false
}
