package iam

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/loop"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// recorder keeps what was used since the loop last wrote it down, so that a
// request costs two map entries instead of a write. What a crash loses is at most
// one period of it; AWS's own figures lag by hours.
type recorder struct {
	mu struct {
		sync.Mutex
		recent  used // since the loop last ran
		writing used // what the loop is writing down
	}
}

// used is what was used. It has at most an entry for each access key, and for each
// action that each user and role tried.
type used struct {
	keys    map[string]useRow // by subject
	actions map[attempt]seen
}

// attempt is a try of an action by a user or role.
type attempt struct{ entity, action string }

type seen struct {
	at     time.Time
	region string
}

func newUsed() used { return used{map[string]useRow{}, map[attempt]seen{}} }

func newRecorder() *recorder {
	r := &recorder{}
	r.mu.recent = newUsed()
	return r
}

// maxRegion is the longest region that is kept: a client may sign for any.
const maxRegion = 32

// Used tells that a principal has tried an action such as s3:PutObject, or of a
// service something that is none (s3:). It does not block on the store.
func (s *Service) Used(p auth.Principal, action, region string, at time.Time) {
	subject, entity := p.AccessKey, ""
	switch p.Kind {
	case auth.User:
		entity = p.ID
	case auth.AssumedRole:
		entity = entityID(p.ID)
		subject = entity
	}
	if len(region) > maxRegion {
		region = ""
	}
	service, _, _ := strings.Cut(action, ":")
	at = at.UTC().Truncate(time.Second)
	r := s.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	if subject != "" {
		r.mu.recent.keys[subject] = useRow{Subject: subject, Service: service, Region: region, At: at}
	}
	if entity != "" {
		r.mu.recent.actions[attempt{entity, action}] = seen{at, region}
	}
}

// FlushLoop writes down what was used, and drops the reports about it that are old.
func (s *Service) FlushLoop() loop.Loop {
	return loop.Loop{
		Name: "iam/uses", Does: "writes down when keys, users and roles were last used, and drops old reports",
		Period: 30 * time.Second, Deadline: 10 * time.Second,
		Run: func(ctx context.Context) (string, error) {
			n, err := s.flush(ctx)
			if err != nil {
				return "", err
			}
			dropped, err := s.dropJobs(ctx)
			return fmt.Sprintf("%d uses written, %d reports dropped", n, dropped), err
		},
	}
}

// Flush writes down what was used. It is for the end; the loop does it otherwise.
func (s *Service) Flush(ctx context.Context) error {
	_, err := s.flush(ctx)
	return err
}

func (s *Service) flush(ctx context.Context) (int, error) {
	pending := s.recorder.take()
	defer s.recorder.written()
	if len(pending.keys)+len(pending.actions) == 0 {
		return 0, nil
	}
	err := s.d.Store.Update(ctx, func(tx *store.Tx) error { return s.write(tx, pending) })
	if err != nil {
		s.recorder.restore(pending)
		return 0, fmt.Errorf("iam: write uses: %w", err)
	}
	return len(pending.keys) + len(pending.actions), nil
}

// write writes the uses of those that are still there.
func (s *Service) write(tx *store.Tx, pending used) error {
	there := map[string]bool{}
	exists := func(subject string) (bool, error) {
		found, known := there[subject]
		if known {
			return found, nil
		}
		found, err := s.subjectExists(tx, subject)
		there[subject] = found
		return found, err
	}
	for _, u := range pending.keys {
		if ok, err := exists(u.Subject); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := uses.Put(tx, &u); err != nil {
			return err
		}
	}
	for a, last := range pending.actions {
		if ok, err := exists(a.entity); err != nil {
			return err
		} else if !ok {
			continue
		}
		if err := accesses.Put(tx, &accessRow{a.entity, a.action, last.region, last.at}); err != nil {
			return err
		}
	}
	return nil
}

// take moves what is recent to what is being written.
func (r *recorder) take() used {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.writing, r.mu.recent = r.mu.recent, newUsed()
	return r.mu.writing
}

// written forgets what was being written.
func (r *recorder) written() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.writing = used{}
}

// restore takes back what could not be written, unless there is newer.
func (r *recorder) restore(pending used) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, u := range pending.keys {
		if _, newer := r.mu.recent.keys[k]; !newer {
			r.mu.recent.keys[k] = u
		}
	}
	for k, u := range pending.actions {
		if _, newer := r.mu.recent.actions[k]; !newer {
			r.mu.recent.actions[k] = u
		}
	}
}

func (s *Service) subjectExists(tx *store.Tx, subject string) (bool, error) {
	_, err := accessKeys.Get(tx, store.K(subject))
	if errors.Is(err, store.ErrNotFound) {
		_, err = one(tx, rolesByID, subject, store.ErrNotFound)
	}
	if errors.Is(err, store.ErrNotFound) {
		_, err = one(tx, usersByID, subject, store.ErrNotFound)
	}
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// use returns when an access key or role was last used, at best a moment ago; the
// zero row if never.
func (s *Service) use(tx *store.Tx, subject string) (useRow, error) {
	s.recorder.mu.Lock()
	u, ok := s.recorder.mu.recent.keys[subject]
	if !ok {
		u, ok = s.recorder.mu.writing.keys[subject]
	}
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

// attempts adds to a map when the entities in it last tried what. What the loop has
// not written yet is laid over what is stored.
func (s *Service) attempts(tx *store.Tx, of map[string]map[string]seen) error {
	for entity, actions := range of {
		for r, err := range accesses.Scan(tx, store.Range{Prefix: store.K(entity)}) {
			if err != nil {
				return err
			}
			actions[r.Action] = seen{r.At, r.Region}
		}
	}
	s.recorder.mu.Lock()
	defer s.recorder.mu.Unlock()
	for _, u := range []used{s.recorder.mu.writing, s.recorder.mu.recent} {
		for a, last := range u.actions {
			if actions := of[a.entity]; actions != nil {
				actions[a.action] = last
			}
		}
	}
	return nil
}

// forgetAttempts drops what a user or role has tried, when it is deleted.
func forgetAttempts(tx *store.Tx, entity string) error {
	for r, err := range accesses.Scan(tx, store.Range{Prefix: store.K(entity)}) {
		if err != nil {
			return err
		}
		if err := accesses.Delete(tx, store.K(r.Entity, r.Action)); err != nil {
			return err
		}
	}
	return nil
}

// roleUse is a role's last use as answers show it, empty if there was none.
func (s *Service) roleUse(tx *store.Tx, id string) (*api.RoleLastUsed, error) {
	u, err := s.use(tx, id)
	if err != nil || u.At.IsZero() {
		return &api.RoleLastUsed{}, err
	}
	return &api.RoleLastUsed{LastUsedDate: wire.Ptr(u.At), Region: wire.Ptr(u.Region)}, nil
}
