package iam

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/loop"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// recorder keeps what was used since the loop last wrote it down, so that a
// request costs a map entry instead of a write. What a crash loses is at most
// one period of it; AWS's own figures lag by hours.
type recorder struct {
	mu struct {
		sync.Mutex
		uses map[string]useRow // by subject
	}
}

func newRecorder() *recorder {
	r := &recorder{}
	r.mu.uses = map[string]useRow{}
	return r
}

// Used tells that a principal made an authenticated request of a service (its
// signing name, such as s3) at that time. It does not block on the store.
func (s *Service) Used(p auth.Principal, service, region string, at time.Time) {
	subject := p.AccessKey
	if p.Kind == auth.AssumedRole {
		subject = entityID(p.ID)
	}
	if subject == "" {
		return
	}
	r := s.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.uses[subject] = useRow{Subject: subject, Service: service, Region: region, At: at.UTC().Truncate(time.Second)}
}

// FlushLoop writes down when access keys and roles were last used.
func (s *Service) FlushLoop() loop.Loop {
	return loop.Loop{
		Name: "iam/uses", Does: "writes down when access keys and roles were last used",
		Period: 30 * time.Second, Deadline: 10 * time.Second, Run: s.flush,
	}
}

func (s *Service) flush(ctx context.Context) (string, error) {
	r := s.recorder
	r.mu.Lock()
	pending := r.mu.uses
	r.mu.uses = map[string]useRow{}
	r.mu.Unlock()
	if len(pending) == 0 {
		return "nothing used", nil
	}
	err := s.d.Store.Update(ctx, func(tx *store.Tx) error {
		for _, u := range pending {
			there, err := s.subjectExists(tx, u.Subject)
			if err != nil {
				return err
			}
			if !there {
				continue
			}
			if err := uses.Put(tx, &u); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.recorder.restore(pending)
		return "", fmt.Errorf("iam: write uses: %w", err)
	}
	return fmt.Sprintf("%d keys and roles", len(pending)), nil
}

// restore takes back what could not be written, unless there is newer.
func (r *recorder) restore(pending map[string]useRow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, u := range pending {
		if _, newer := r.mu.uses[k]; !newer {
			r.mu.uses[k] = u
		}
	}
}

func (s *Service) subjectExists(tx *store.Tx, subject string) (bool, error) {
	_, err := accessKeys.Get(tx, store.K(subject))
	if errors.Is(err, store.ErrNotFound) {
		_, err = one(tx, rolesByID, subject, store.ErrNotFound)
	}
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// use returns when something was last used, at best a moment ago; the zero row
// if never.
func (s *Service) use(tx *store.Tx, subject string) (useRow, error) {
	s.recorder.mu.Lock()
	u, ok := s.recorder.mu.uses[subject]
	s.recorder.mu.Unlock()
	if ok {
		return u, nil
	}
	r, err := uses.Get(tx, store.K(subject))
	if errors.Is(err, store.ErrNotFound) {
		return useRow{}, nil
	}
	if err != nil {
		return useRow{}, err
	}
	return *r, nil
}

// roleUse is a role's last use as answers show it, empty if there was none.
func (s *Service) roleUse(tx *store.Tx, id string) (*api.RoleLastUsed, error) {
	u, err := s.use(tx, id)
	if err != nil || u.At.IsZero() {
		return &api.RoleLastUsed{}, err
	}
	return &api.RoleLastUsed{LastUsedDate: wire.Ptr(u.At), Region: wire.Ptr(u.Region)}, nil
}
