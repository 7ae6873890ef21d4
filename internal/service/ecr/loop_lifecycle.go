package ecr

import (
	"context"
	"errors"
	"fmt"
	"time"

	api "skerry/internal/api/ecr"
	"skerry/internal/loop"
	"skerry/internal/registry"
	"skerry/internal/service/ecr/lifecycle"
	"skerry/internal/store"
)

// The loops of lifecycle policies. One run acts on so many images of a repository
// at most, in transactions of so many; the next one goes on.
const (
	previewLoop    = "ecr/preview"
	lifecycleLoop  = "ecr/lifecycle"
	lifecycleRun   = 5000
	lifecycleBatch = 50
	lifecycleEvery = 10 * time.Minute // AWS says: within 24 hours
)

// Lifecycle is the loop that applies lifecycle policies.
func (s *Service) Lifecycle() loop.Loop {
	return loop.Loop{Name: lifecycleLoop, Does: "expires and archives images as lifecycle policies say",
		Period: lifecycleEvery, Deadline: lifecycleEvery, Run: s.applyLifecycles}
}

// Previews is the loop that evaluates lifecycle policies for previews.
func (s *Service) Previews() loop.Loop {
	return loop.Loop{Name: previewLoop, Does: "evaluates previews of lifecycle policies", Period: time.Minute, Run: s.evaluatePreviews}
}

// images reads a repository as lifecycle policies see it.
func (s *Service) images(tx *store.Tx, id registry.Repo) ([]lifecycle.Image, error) {
	var all []lifecycle.Image
	at := map[string]int{}
	lists := map[string][]string{}
	for m, err := range s.Registry.Manifests(tx, id, "") {
		if err != nil {
			return nil, err
		}
		tags, err := s.Registry.TagsOf(tx, id, m.Digest)
		if err != nil {
			return nil, err
		}
		for _, child := range m.Manifests {
			lists[child.Digest] = append(lists[child.Digest], m.Digest)
		}
		at[m.Digest] = len(all)
		all = append(all, lifecycle.Image{Digest: m.Digest, Tags: tags, Archived: m.Archived,
			Pushed: m.Pushed, Pulled: m.Pulled, ArchiveAt: m.ArchivedAt, ActiveAt: m.ActivatedAt})
	}
	for digest, in := range lists {
		if i, ok := at[digest]; ok {
			all[i].Lists = in
		}
	}
	return all, nil
}

// applyLifecycles applies the policy of every repository that has one.
func (s *Service) applyLifecycles(ctx context.Context) (string, error) {
	var with []*registry.Repository
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		with = nil
		for row, err := range s.Registry.AllRepositories(tx) {
			if err != nil {
				return err
			}
			if row.Lifecycle != "" {
				with = append(with, row)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	var errs []error
	acted := 0
	for _, row := range with {
		n, err := s.applyLifecycle(ctx, row)
		if acted += n; err != nil {
			errs = append(errs, fmt.Errorf("ecr: lifecycle of %s: %w", row.Repo.ARN(), err))
		}
	}
	return fmt.Sprintf("%d images of %d repositories", acted, len(with)), errors.Join(errs...)
}

func (s *Service) applyLifecycle(ctx context.Context, row *registry.Repository) (acted int, err error) {
	p, err := lifecycle.Parse(row.Lifecycle)
	if err != nil {
		return 0, err
	}
	now := s.Clock.Now()
	var marks []lifecycle.Mark
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		images, err := s.images(tx, row.Repo)
		marks = p.Evaluate(images, now)
		return err
	})
	if err != nil {
		return 0, err
	}
	marks = marks[:min(len(marks), lifecycleRun)]
	for len(marks) > 0 {
		batch := marks[:min(len(marks), lifecycleBatch)]
		marks = marks[len(batch):]
		n := 0
		err := s.Store.Update(ctx, func(tx *store.Tx) error {
			n = 0
			now, err := s.Registry.Repository(tx, row.Repo)
			if err != nil || now.Lifecycle != row.Lifecycle {
				return err // another policy: the next run evaluates it
			}
			for _, m := range batch {
				did, err := s.act(tx, row.Repo, m)
				if err != nil {
					return err
				}
				if did {
					n++
				}
			}
			return nil
		})
		if registry.CodeOf(err) == registry.RepositoryNotFound {
			return acted, nil
		}
		if err != nil {
			return acted, err
		}
		acted += n
	}
	_, err = s.change(ctx, row.Repo, func(r *registry.Repository) error {
		if r.Lifecycle == row.Lifecycle {
			r.Evaluated = now
		}
		return nil
	})
	if registry.CodeOf(err) == registry.RepositoryNotFound {
		err = nil
	}
	return acted, err
}

// act does to an image what a rule says, unless the image has changed since it was
// evaluated.
func (s *Service) act(tx *store.Tx, id registry.Repo, mark lifecycle.Mark) (bool, error) {
	m, err := s.Registry.Manifest(tx, id, mark.Image.Digest, "")
	if registry.CodeOf(err) == registry.ImageNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	tags, err := s.Registry.TagsOf(tx, id, m.Digest)
	if err != nil {
		return false, err
	}
	i := mark.Image
	if fmt.Sprint(tags) != fmt.Sprint(i.Tags) || m.Archived != i.Archived || !m.Pushed.Equal(i.Pushed) || !m.Pulled.Equal(i.Pulled) {
		return false, nil
	}
	if mark.Action == lifecycle.Archive {
		return true, s.Registry.Archive(tx, m, true)
	}
	_, err = s.Registry.DeleteManifest(tx, id, m.Digest)
	if registry.CodeOf(err) == registry.ImageReferenced {
		return false, nil // a list has come to name it
	}
	return err == nil, err
}

// evaluatePreviews evaluates the previews that wait.
func (s *Service) evaluatePreviews(ctx context.Context) (string, error) {
	n := 0
	for {
		var row *previewRow
		err := s.Store.View(ctx, func(tx *store.Tx) error {
			row = nil
			for r, err := range previewsWaiting.Scan(tx, store.Range{}) {
				row = r
				return err
			}
			return nil
		})
		if err != nil || row == nil {
			return fmt.Sprintf("%d previews", n), err
		}
		if err := s.evaluatePreview(ctx, row); err != nil {
			return "", fmt.Errorf("ecr: preview of %s: %w", row.Repo.ARN(), err)
		}
		n++
	}
}

func (s *Service) evaluatePreview(ctx context.Context, row *previewRow) error {
	p, err := lifecycle.Parse(row.Text)
	done := *row
	done.Status, done.Ended = api.LifecyclePolicyPreviewStatusComplete, s.Clock.Now()
	if err != nil {
		done.Status = api.LifecyclePolicyPreviewStatusFailed // cannot be: it was checked
	} else {
		err := s.Store.View(ctx, func(tx *store.Tx) error {
			images, err := s.images(tx, row.Repo)
			if err != nil {
				return err
			}
			done.Results = nil
			for _, m := range p.Evaluate(images, done.Ended) {
				done.Results = append(done.Results, previewResult{
					Digest: m.Image.Digest, Tags: m.Image.Tags, Pushed: m.Image.Pushed, Priority: m.Priority, Action: string(m.Action), Archived: m.Image.Archived,
				})
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return s.Store.Update(ctx, func(tx *store.Tx) error {
		now, err := previews.Get(tx, row.Repo.Key())
		if errors.Is(err, store.ErrNotFound) {
			return nil // deleted with its repository
		}
		if err != nil || !now.Started.Equal(row.Started) {
			return err
		}
		return previews.Put(tx, &done)
	})
}
