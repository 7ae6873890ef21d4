package iam

import (
	"context"
	"slices"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const maxGroups = 10 // groups that a user may be in

func (s *Service) group(tx *store.Tx, account, name string) (*groupRow, error) {
	r, err := groups.Get(tx, store.K(account, fold(name)))
	return found(r, err, noSuchEntity("The group with name %s cannot be found.", name))
}

func groupExists(name string) error { return alreadyExists("Group with name %s already exists.", name) }

// CreateGroup creates a group.
func (s *Service) CreateGroup(ctx context.Context, sc auth.Scope, in *api.CreateGroupInput) (*api.CreateGroupOutput, error) {
	r := &groupRow{entity{
		Account: sc.Account, Name: wire.Value(in.GroupName), Path: pathOr(in.Path), ID: ids.Unique("AGPA", 21), Created: s.now(),
	}}
	err := s.update(ctx, func(tx *store.Tx) error { return added(tx, groups, r, sc.Account, groupQuota, groupExists(r.Name)) })
	return &api.CreateGroupOutput{Group: new(r.answer())}, err
}

// GetGroup describes a group and lists its users.
func (s *Service) GetGroup(ctx context.Context, sc auth.Scope, in *api.GetGroupInput) (*api.GetGroupOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.GetGroupOutput{Users: []api.User{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		g, err := s.group(tx, sc.Account, wire.Value(in.GroupName))
		if err != nil {
			return err
		}
		out.Group = new(g.answer())
		r := store.Range{Prefix: store.K(g.ID)}
		if p.after != "" {
			r.After = store.K(g.ID, sc.Account, p.after)
		}
		rows, next, err := take(p, usersByGroup.Scan(tx, r), func(*userRow) bool { return true },
			func(u *userRow) string { return fold(u.Name) })
		for _, u := range rows {
			a := u.answer()
			a.Tags, a.PermissionsBoundary = nil, nil
			out.Users = append(out.Users, a)
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return err
	})
	return out, err
}

// ListGroups lists groups by name.
func (s *Service) ListGroups(ctx context.Context, sc auth.Scope, in *api.ListGroupsInput) (*api.ListGroupsOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListGroupsOutput{Groups: []api.Group{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		rows, next, err := take(p, groups.Scan(tx, p.rows(sc.Account)),
			func(r *groupRow) bool { return strings.HasPrefix(r.Path, wire.Value(in.PathPrefix)) },
			func(r *groupRow) string { return fold(r.Name) })
		for _, r := range rows {
			out.Groups = append(out.Groups, r.answer())
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return err
	})
	return out, err
}

// UpdateGroup changes a group's name or path.
func (s *Service) UpdateGroup(ctx context.Context, sc auth.Scope, in *api.UpdateGroupInput) (*api.UpdateGroupOutput, error) {
	return &api.UpdateGroupOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.group(tx, sc.Account, wire.Value(in.GroupName))
		if err != nil {
			return err
		}
		old := fold(r.Name)
		if in.NewPath != nil {
			r.Path = pathOr(in.NewPath)
		}
		if in.NewGroupName != nil {
			r.Name = *in.NewGroupName
		}
		return move(tx, groups, sc.Account, old, fold(r.Name), r, groupExists(r.Name))
	})
}

// DeleteGroup deletes a group without users and policies.
func (s *Service) DeleteGroup(ctx context.Context, sc auth.Scope, in *api.DeleteGroupInput) (*api.DeleteGroupOutput, error) {
	return &api.DeleteGroupOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.group(tx, sc.Account, wire.Value(in.GroupName))
		if err != nil {
			return err
		}
		for _, err := range usersByGroup.Scan(tx, store.Range{Prefix: store.K(r.ID)}) {
			if err != nil {
				return err
			}
			return deleteConflict("Cannot delete entity, must remove users from group first.")
		}
		if len(r.Attached) > 0 {
			return deleteConflict("Cannot delete entity, must detach all policies first.")
		}
		if len(r.Inline) > 0 {
			return deleteConflict("Cannot delete entity, must delete policies first.")
		}
		return groups.Delete(tx, store.K(sc.Account, fold(r.Name)))
	})
}

// AddUserToGroup puts a user into a group; one who is in it stays.
func (s *Service) AddUserToGroup(ctx context.Context, sc auth.Scope, in *api.AddUserToGroupInput) (*api.AddUserToGroupOutput, error) {
	return &api.AddUserToGroupOutput{}, s.membership(ctx, sc, in.GroupName, in.UserName, func(u *userRow, group string) error {
		if slices.Contains(u.Groups, group) {
			return nil
		}
		if len(u.Groups) >= maxGroups {
			return limitExceeded("Cannot exceed quota for GroupsPerUser: %d", maxGroups)
		}
		u.Groups = append(u.Groups, group)
		return nil
	})
}

// RemoveUserFromGroup takes a user out of a group.
func (s *Service) RemoveUserFromGroup(ctx context.Context, sc auth.Scope, in *api.RemoveUserFromGroupInput) (*api.RemoveUserFromGroupOutput, error) {
	return &api.RemoveUserFromGroupOutput{}, s.membership(ctx, sc, in.GroupName, in.UserName, func(u *userRow, group string) error {
		u.Groups = slices.DeleteFunc(u.Groups, func(id string) bool { return id == group })
		return nil
	})
}

func (s *Service) membership(ctx context.Context, sc auth.Scope, group, user *string, fn func(u *userRow, group string) error) error {
	return s.update(ctx, func(tx *store.Tx) error {
		g, err := s.group(tx, sc.Account, wire.Value(group))
		if err != nil {
			return err
		}
		u, err := s.user(tx, sc.Account, wire.Value(user))
		if err != nil {
			return err
		}
		if err := fn(u, g.ID); err != nil {
			return err
		}
		return users.Put(tx, u)
	})
}

func (r *groupRow) answer() api.Group {
	return api.Group{
		Path: wire.Ptr(r.Path), GroupName: wire.Ptr(r.Name), GroupId: wire.Ptr(r.ID), Arn: wire.Ptr(r.arn()), CreateDate: wire.Ptr(r.Created),
	}
}

// The policies of groups.

// AttachGroupPolicy attaches a managed policy.
func (s *Service) AttachGroupPolicy(ctx context.Context, sc auth.Scope, in *api.AttachGroupPolicyInput) (*api.AttachGroupPolicyOutput, error) {
	return &api.AttachGroupPolicyOutput{}, s.attach(ctx, s.groupHolder(sc, in.GroupName), wire.Value(in.PolicyArn))
}

// DetachGroupPolicy detaches a managed policy.
func (s *Service) DetachGroupPolicy(ctx context.Context, sc auth.Scope, in *api.DetachGroupPolicyInput) (*api.DetachGroupPolicyOutput, error) {
	return &api.DetachGroupPolicyOutput{}, s.detach(ctx, s.groupHolder(sc, in.GroupName), wire.Value(in.PolicyArn))
}

// ListAttachedGroupPolicies lists a group's managed policies.
func (s *Service) ListAttachedGroupPolicies(ctx context.Context, sc auth.Scope, in *api.ListAttachedGroupPoliciesInput) (*api.ListAttachedGroupPoliciesOutput, error) {
	l, next, err := s.attached(ctx, s.groupHolder(sc, in.GroupName), in.PathPrefix, listing{in.Marker, in.MaxItems})
	return &api.ListAttachedGroupPoliciesOutput{AttachedPolicies: l, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// PutGroupPolicy adds or replaces an inline policy.
func (s *Service) PutGroupPolicy(ctx context.Context, sc auth.Scope, in *api.PutGroupPolicyInput) (*api.PutGroupPolicyOutput, error) {
	return &api.PutGroupPolicyOutput{}, s.putInline(ctx, s.groupHolder(sc, in.GroupName), wire.Value(in.PolicyName), wire.Value(in.PolicyDocument))
}

// GetGroupPolicy returns an inline policy.
func (s *Service) GetGroupPolicy(ctx context.Context, sc auth.Scope, in *api.GetGroupPolicyInput) (*api.GetGroupPolicyOutput, error) {
	name, doc, err := s.inline(ctx, s.groupHolder(sc, in.GroupName), wire.Value(in.PolicyName))
	return &api.GetGroupPolicyOutput{GroupName: name, PolicyName: in.PolicyName, PolicyDocument: doc}, err
}

// ListGroupPolicies lists the names of a group's inline policies.
func (s *Service) ListGroupPolicies(ctx context.Context, sc auth.Scope, in *api.ListGroupPoliciesInput) (*api.ListGroupPoliciesOutput, error) {
	l, next, err := s.inlineNames(ctx, s.groupHolder(sc, in.GroupName), listing{in.Marker, in.MaxItems})
	return &api.ListGroupPoliciesOutput{PolicyNames: l, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// DeleteGroupPolicy deletes an inline policy.
func (s *Service) DeleteGroupPolicy(ctx context.Context, sc auth.Scope, in *api.DeleteGroupPolicyInput) (*api.DeleteGroupPolicyOutput, error) {
	return &api.DeleteGroupPolicyOutput{}, s.deleteInline(ctx, s.groupHolder(sc, in.GroupName), wire.Value(in.PolicyName))
}
