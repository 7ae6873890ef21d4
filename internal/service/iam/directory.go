package iam

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/store"
)

// directory remembers what the credential and policy look-ups of requests read.
// Every transaction of this service ends its era before the caller hears of the
// commit, and what was read in a former era counts no more: a permission that
// was taken away is gone with the answer that says so. It can be dropped at any
// time.
type directory struct {
	era   atomic.Uint64
	keys  sync.Map // access key   -> remembered[auth.Credential]
	who   sync.Map // entity id    -> remembered[auth.Policies]
	alive sync.Map // entity id    -> remembered[bool]
	roles sync.Map // ARN          -> remembered[auth.Role]
	docs  sync.Map // account, ARN -> remembered[auth.Document]
}

type remembered[T any] struct {
	era   uint64
	value T
}

func newDirectory() *directory { return &directory{} }

func (d *directory) drop() {
	d.era.Add(1)
	for _, m := range []*sync.Map{&d.keys, &d.who, &d.alive, &d.roles, &d.docs} {
		m.Clear()
	}
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

// recall returns what is remembered of this era, or reads it. The era is taken
// before the read, so that a commit in between makes the result a stale one.
func recall[T any](d *directory, m *sync.Map, key string, read func() (T, error)) (T, error) {
	era := d.era.Load()
	if v, ok := m.Load(key); ok {
		if r := v.(remembered[T]); r.era == era {
			return r.value, nil
		}
	}
	v, err := read()
	if err == nil {
		m.Store(key, remembered[T]{era, v})
	}
	return v, err
}

// Credential returns a long-term access key: a user's or root's. It implements
// half of auth.Directory; the session credentials are those of sts.
func (s *Service) Credential(ctx context.Context, accessKey string) (auth.Credential, error) {
	return recall(s.directory, &s.directory.keys, accessKey, func() (auth.Credential, error) {
		var c auth.Credential
		err := s.view(ctx, func(tx *store.Tx) error {
			k, err := accessKeys.Get(tx, store.K(accessKey))
			if errors.Is(err, store.ErrNotFound) {
				return auth.ErrNoCredential
			}
			if err != nil {
				return err
			}
			c = auth.Credential{AccessKey: k.ID, Secret: k.Secret, Inactive: !k.Active}
			if k.User == "" {
				c.Principal = RootUser(k.Account)
			} else {
				u, err := one(tx, usersByID, k.User, auth.ErrNoCredential)
				if err != nil {
					return err
				}
				c.Principal = u.principal()
			}
			c.Principal.AccessKey = k.ID
			return nil
		})
		return c, err
	})
}

// RootUser is the root user of an account.
func RootUser(account string) auth.Principal {
	return auth.Principal{Kind: auth.Root, Account: account, ARN: arn.New("iam", "", account, "root").String(), ID: account}
}

func (r *userRow) principal() auth.Principal {
	return auth.Principal{Kind: auth.User, Account: r.Account, ARN: r.arn(), ID: r.ID, Name: r.Name, Tags: tagMap(r.Tags)}
}

// entityID is the unique id in aws:userid: AROA... of AROA...:session.
func entityID(userID string) string {
	id, _, _ := strings.Cut(userID, ":")
	return id
}

// Policies returns what is attached to a user (with the policies of the user's
// groups) or to the role of a session. Session policies are sts's to add. One
// who was deleted has none.
func (s *Service) Policies(ctx context.Context, p auth.Principal) (auth.Policies, error) {
	if p.Kind != auth.User && p.Kind != auth.AssumedRole {
		return auth.Policies{}, nil
	}
	id := entityID(p.ID)
	return recall(s.directory, &s.directory.who, id, func() (auth.Policies, error) {
		var out auth.Policies
		err := s.view(ctx, func(tx *store.Tx) error {
			entities, err := s.entities(tx, id)
			if err != nil || len(entities) == 0 {
				return err
			}
			for _, e := range entities {
				docs, err := s.documents(tx, e)
				if err != nil {
					return err
				}
				out.Identity = append(out.Identity, docs...)
			}
			out.Boundary, err = s.boundaryOf(tx, entities[0])
			return err
		})
		return out, err
	})
}

// entities loads a user with the user's groups, or a role; nothing if the id is
// nobody's.
func (s *Service) entities(tx *store.Tx, id string) ([]*entity, error) {
	if r, err := one(tx, rolesByID, id, store.ErrNotFound); err == nil {
		return []*entity{&r.entity}, nil
	} else if !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	u, err := one(tx, usersByID, id, store.ErrNotFound)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := s.userGroups(tx, u)
	if err != nil {
		return nil, err
	}
	out := []*entity{&u.entity}
	for _, g := range list {
		out = append(out, &g.entity)
	}
	return out, nil
}

// documents parses an entity's inline and managed policies.
func (s *Service) documents(tx *store.Tx, e *entity) ([]auth.Document, error) {
	out := make([]auth.Document, 0, len(e.Inline)+len(e.Attached))
	for _, in := range e.Inline {
		p, err := auth.ParsePolicy(in.Document)
		if err != nil {
			return nil, err
		}
		out = append(out, auth.Document{Source: in.Name, Policy: p})
	}
	for _, a := range e.Attached {
		d, err := s.managedDocument(tx, e.Account, a)
		if err != nil {
			return nil, err
		}
		out = append(out, d)
	}
	return out, nil
}

func (s *Service) managedDocument(tx *store.Tx, account, policyARN string) (auth.Document, error) {
	row, err := s.anyPolicy(tx, account, policyARN)
	if err != nil {
		return auth.Document{}, err
	}
	p, err := auth.ParsePolicy(row.document())
	return auth.Document{Source: row.arn(), Policy: p}, err
}

func (s *Service) boundaryOf(tx *store.Tx, e *entity) ([]auth.Document, error) {
	if e.Boundary == "" {
		return nil, nil
	}
	d, err := s.managedDocument(tx, e.Account, e.Boundary)
	if err != nil {
		return nil, err
	}
	return []auth.Document{d}, nil
}
