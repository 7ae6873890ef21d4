package iam

import (
	"context"
	"time"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const maxKeys = 2 // access keys of a user

func noSuchKey(id string) error {
	return noSuchEntity("The Access Key with id %s cannot be found.", id)
}

// owner is whose access keys a request is about: a user's id, or "" for root.
func (s *Service) owner(tx *store.Tx, sc auth.Scope, name *string) (id, userName string, err error) {
	if wire.Value(name) == "" && sc.Principal.Kind == auth.Root {
		return "", "", nil
	}
	u, err := s.caller(tx, sc, name)
	if err != nil {
		return "", "", err
	}
	return u.ID, u.Name, nil
}

// userKeys loads the access keys of a user (or, with an empty id, of root), the
// oldest first.
func (s *Service) userKeys(tx *store.Tx, account, id string) ([]*accessKeyRow, error) {
	return all(keysByUser.Scan(tx, store.Range{Prefix: store.K(account, id)}), nil)
}

// CreateAccessKey makes an access key; only here is its secret told.
func (s *Service) CreateAccessKey(ctx context.Context, sc auth.Scope, in *api.CreateAccessKeyInput) (*api.CreateAccessKeyOutput, error) {
	var out api.CreateAccessKeyOutput
	err := s.update(ctx, func(tx *store.Tx) error {
		id, name, err := s.owner(tx, sc, in.UserName)
		if err != nil {
			return err
		}
		have, err := s.userKeys(tx, sc.Account, id)
		if err != nil {
			return err
		}
		if len(have) >= maxKeys {
			return limitExceeded("Cannot exceed quota for AccessKeysPerUser: %d", maxKeys)
		}
		r := &accessKeyRow{ID: ids.AccessKey("AKIA", sc.Account), Account: sc.Account, Secret: ids.Secret(), User: id, Active: true, Created: s.d.Clock.Now().UTC()}
		out.AccessKey = &api.AccessKey{
			UserName: wire.Ptr(name), AccessKeyId: wire.Ptr(r.ID), SecretAccessKey: wire.Ptr(r.Secret),
			Status: status(true), CreateDate: wire.Ptr(r.Created.Truncate(time.Second)),
		}
		return accessKeys.Insert(tx, r)
	})
	return &out, err
}

// status is Active or Inactive.
func status(active bool) *string {
	if active {
		return wire.Ptr("Active")
	}
	return wire.Ptr("Inactive")
}

// ListAccessKeys lists a user's access keys, or the caller's.
func (s *Service) ListAccessKeys(ctx context.Context, sc auth.Scope, in *api.ListAccessKeysInput) (*api.ListAccessKeysOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListAccessKeysOutput{AccessKeyMetadata: []api.AccessKeyMetadata{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		id, name, err := s.owner(tx, sc, in.UserName)
		if err != nil {
			return err
		}
		rows, err := s.userKeys(tx, sc.Account, id)
		if err != nil {
			return err
		}
		rows, next := cut(p, rows, func(r *accessKeyRow) string { return r.ID })
		for _, r := range rows {
			m := api.AccessKeyMetadata{AccessKeyId: wire.Ptr(r.ID), Status: status(r.Active), CreateDate: wire.Ptr(r.Created.Truncate(time.Second))}
			if name != "" {
				m.UserName = wire.Ptr(name)
			}
			out.AccessKeyMetadata = append(out.AccessKeyMetadata, m)
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return nil
	})
	return out, err
}

// ownKey loads an access key of the user that the request is about.
func (s *Service) ownKey(tx *store.Tx, sc auth.Scope, user, key *string) (*accessKeyRow, error) {
	id, _, err := s.owner(tx, sc, user)
	if err != nil {
		return nil, err
	}
	r, err := accessKeys.Get(tx, store.K(wire.Value(key)))
	if err == nil && (r.User != id || r.Account != sc.Account) {
		err = store.ErrNotFound
	}
	return found(r, err, noSuchKey(wire.Value(key)))
}

// UpdateAccessKey switches an access key on or off.
func (s *Service) UpdateAccessKey(ctx context.Context, sc auth.Scope, in *api.UpdateAccessKeyInput) (*api.UpdateAccessKeyOutput, error) {
	return &api.UpdateAccessKeyOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.ownKey(tx, sc, in.UserName, in.AccessKeyId)
		if err != nil {
			return err
		}
		r.Active = wire.Value(in.Status) == "Active"
		return accessKeys.Put(tx, r)
	})
}

// DeleteAccessKey deletes an access key; it is refused from then on.
func (s *Service) DeleteAccessKey(ctx context.Context, sc auth.Scope, in *api.DeleteAccessKeyInput) (*api.DeleteAccessKeyOutput, error) {
	return &api.DeleteAccessKeyOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.ownKey(tx, sc, in.UserName, in.AccessKeyId)
		if err != nil {
			return err
		}
		if err := uses.Delete(tx, store.K(r.ID)); err != nil {
			return err
		}
		return accessKeys.Delete(tx, store.K(r.ID))
	})
}

// GetAccessKeyLastUsed tells when, where and with which service a key was used.
// It may lag behind by the period of the loop that writes it down.
func (s *Service) GetAccessKeyLastUsed(ctx context.Context, sc auth.Scope, in *api.GetAccessKeyLastUsedInput) (*api.GetAccessKeyLastUsedOutput, error) {
	var out api.GetAccessKeyLastUsedOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := accessKeys.Get(tx, store.K(wire.Value(in.AccessKeyId)))
		if err == nil && r.Account != sc.Account {
			err = store.ErrNotFound
		}
		if r, err = found(r, err, noSuchKey(wire.Value(in.AccessKeyId))); err != nil {
			return err
		}
		if r.User != "" {
			u, err := one(tx, usersByID, r.User, noSuchKey(r.ID))
			if err != nil {
				return err
			}
			out.UserName = wire.Ptr(u.Name)
		}
		use, err := s.use(tx, r.ID)
		if err != nil {
			return err
		}
		out.AccessKeyLastUsed = &api.AccessKeyLastUsed{ServiceName: wire.Ptr("N/A"), Region: wire.Ptr("N/A")}
		if !use.At.IsZero() {
			out.AccessKeyLastUsed = &api.AccessKeyLastUsed{LastUsedDate: wire.Ptr(use.At), ServiceName: wire.Ptr(use.Service), Region: wire.Ptr(use.Region)}
		}
		return nil
	})
	return &out, err
}
