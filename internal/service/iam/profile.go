package iam

import (
	"context"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

func (s *Service) profile(tx *store.Tx, account, name string) (*profileRow, error) {
	r, err := profiles.Get(tx, store.K(account, fold(name)))
	return found(r, err, noSuchEntity("Instance Profile %s cannot be found.", name))
}

// CreateInstanceProfile creates an instance profile without a role.
func (s *Service) CreateInstanceProfile(ctx context.Context, sc auth.Scope, in *api.CreateInstanceProfileInput) (*api.CreateInstanceProfileOutput, error) {
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	r := &profileRow{
		Account: sc.Account, Name: wire.Value(in.InstanceProfileName), Path: pathOr(in.Path), ID: ids.Unique("AIPA", 21), Created: s.now(), Tags: tags,
	}
	out := &api.CreateInstanceProfileOutput{}
	err = s.update(ctx, func(tx *store.Tx) error {
		if err := added(tx, profiles, r, sc.Account, profileQuota, alreadyExists("Instance Profile %s already exists.", r.Name)); err != nil {
			return err
		}
		out.InstanceProfile, err = s.profileAnswer(tx, r)
		return err
	})
	return out, err
}

// profileAnswer describes a profile with its role.
func (s *Service) profileAnswer(tx *store.Tx, r *profileRow) (*api.InstanceProfile, error) {
	out := &api.InstanceProfile{
		Path: wire.Ptr(r.Path), InstanceProfileName: wire.Ptr(r.Name), InstanceProfileId: wire.Ptr(r.ID), Arn: wire.Ptr(r.arn()),
		CreateDate: wire.Ptr(r.Created), Roles: []api.Role{}, Tags: tagList(r.Tags),
	}
	if r.Role == "" {
		return out, nil
	}
	role, err := one(tx, rolesByID, r.Role, store.ErrNotFound)
	if err != nil {
		return nil, err
	}
	out.Roles = append(out.Roles, role.brief())
	return out, nil
}

// GetInstanceProfile describes an instance profile.
func (s *Service) GetInstanceProfile(ctx context.Context, sc auth.Scope, in *api.GetInstanceProfileInput) (*api.GetInstanceProfileOutput, error) {
	var out api.GetInstanceProfileOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := s.profile(tx, sc.Account, wire.Value(in.InstanceProfileName))
		if err == nil {
			out.InstanceProfile, err = s.profileAnswer(tx, r)
		}
		return err
	})
	return &out, err
}

// ListInstanceProfiles lists instance profiles by name, without their tags.
func (s *Service) ListInstanceProfiles(ctx context.Context, sc auth.Scope, in *api.ListInstanceProfilesInput) (*api.ListInstanceProfilesOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListInstanceProfilesOutput{InstanceProfiles: []api.InstanceProfile{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		rows, next, err := take(p, profiles.Scan(tx, p.rows(sc.Account)),
			func(r *profileRow) bool { return strings.HasPrefix(r.Path, wire.Value(in.PathPrefix)) },
			func(r *profileRow) string { return fold(r.Name) })
		if err != nil {
			return err
		}
		out.InstanceProfiles, err = s.profileList(tx, rows)
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return err
	})
	return out, err
}

func (s *Service) profileList(tx *store.Tx, rows []*profileRow) ([]api.InstanceProfile, error) {
	out := []api.InstanceProfile{}
	for _, r := range rows {
		a, err := s.profileAnswer(tx, r)
		if err != nil {
			return nil, err
		}
		a.Tags = nil
		out = append(out, *a)
	}
	return out, nil
}

// ListInstanceProfilesForRole lists the instance profiles that hold a role.
func (s *Service) ListInstanceProfilesForRole(ctx context.Context, sc auth.Scope, in *api.ListInstanceProfilesForRoleInput) (*api.ListInstanceProfilesForRoleOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListInstanceProfilesForRoleOutput{}
	err = s.view(ctx, func(tx *store.Tx) error {
		role, err := s.role(tx, sc.Account, wire.Value(in.RoleName))
		if err != nil {
			return err
		}
		rows, err := all(profilesByRole.Scan(tx, store.Range{Prefix: store.K(role.ID)}), nil)
		if err != nil {
			return err
		}
		rows, next := cut(p, rows, func(r *profileRow) string { return r.ID })
		out.InstanceProfiles, err = s.profileList(tx, rows)
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return err
	})
	return out, err
}

// AddRoleToInstanceProfile puts a role into a profile, which holds one at most.
func (s *Service) AddRoleToInstanceProfile(ctx context.Context, sc auth.Scope, in *api.AddRoleToInstanceProfileInput) (*api.AddRoleToInstanceProfileOutput, error) {
	return &api.AddRoleToInstanceProfileOutput{}, s.editProfile(ctx, sc, in.InstanceProfileName, in.RoleName, func(p *profileRow, role *roleRow) error {
		if role.Service != "" {
			return unmodifiable(role.Name)
		}
		if p.Role != "" {
			return limitExceeded("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
		}
		p.Role = role.ID
		return nil
	})
}

// RemoveRoleFromInstanceProfile takes a role out of a profile.
func (s *Service) RemoveRoleFromInstanceProfile(ctx context.Context, sc auth.Scope, in *api.RemoveRoleFromInstanceProfileInput) (*api.RemoveRoleFromInstanceProfileOutput, error) {
	return &api.RemoveRoleFromInstanceProfileOutput{}, s.editProfile(ctx, sc, in.InstanceProfileName, in.RoleName, func(p *profileRow, role *roleRow) error {
		if p.Role != role.ID {
			return noSuchRole(role.Name)
		}
		p.Role = ""
		return nil
	})
}

func (s *Service) editProfile(ctx context.Context, sc auth.Scope, name, role *string, fn func(*profileRow, *roleRow) error) error {
	return s.update(ctx, func(tx *store.Tx) error {
		p, err := s.profile(tx, sc.Account, wire.Value(name))
		if err != nil {
			return err
		}
		r, err := s.role(tx, sc.Account, wire.Value(role))
		if err != nil {
			return err
		}
		if err := fn(p, r); err != nil {
			return err
		}
		return profiles.Put(tx, p)
	})
}

// DeleteInstanceProfile deletes an instance profile without a role.
func (s *Service) DeleteInstanceProfile(ctx context.Context, sc auth.Scope, in *api.DeleteInstanceProfileInput) (*api.DeleteInstanceProfileOutput, error) {
	return &api.DeleteInstanceProfileOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.profile(tx, sc.Account, wire.Value(in.InstanceProfileName))
		if err != nil {
			return err
		}
		if r.Role != "" {
			return deleteConflict("Cannot delete entity, must remove roles from instance profile first.")
		}
		return profiles.Delete(tx, store.K(sc.Account, fold(r.Name)))
	})
}
