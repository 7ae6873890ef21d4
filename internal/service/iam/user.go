package iam

import (
	"context"
	"slices"
	"strings"
	"time"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

func noSuchUser(name string) error {
	return noSuchEntity("The user with name %s cannot be found.", name)
}

// user loads a user by name.
func (s *Service) user(tx *store.Tx, account, name string) (*userRow, error) {
	r, err := users.Get(tx, store.K(account, fold(name)))
	return found(r, err, noSuchUser(name))
}

// one returns the row that an index finds by a unique id, or missing.
func one[R any](tx *store.Tx, index *store.Index[R], id string, missing error) (*R, error) {
	for r, err := range index.Scan(tx, store.Range{Prefix: store.K(id)}) {
		return r, err
	}
	return nil, missing
}

// caller loads the user that a request names or, if it names none, the one who
// makes it.
func (s *Service) caller(tx *store.Tx, sc auth.Scope, name *string) (*userRow, error) {
	if wire.Value(name) != "" {
		return s.user(tx, sc.Account, *name)
	}
	if sc.Principal.Kind != auth.User {
		return nil, validationError("Must specify userName when calling with non-User credentials")
	}
	return one(tx, usersByID, sc.Principal.ID, noSuchUser(sc.Principal.Name))
}

func (s *Service) now() time.Time { return s.d.Clock.Now().UTC().Truncate(time.Second) }

// newEntity checks and makes what users and roles have in common.
func (s *Service) newEntity(tx *store.Tx, account, prefix, name string, path, boundary *string, tags []api.Tag) (entity, error) {
	e := entity{Account: account, Name: name, Path: pathOr(path), ID: ids.Unique(prefix, 21), Created: s.now()}
	var err error
	if e.Tags, err = newTags(tags); err != nil {
		return e, err
	}
	if boundary != nil {
		p, err := s.attachable(tx, account, *boundary)
		if err != nil {
			return e, err
		}
		e.Boundary = p.arn()
	}
	return e, nil
}

// CreateUser creates a user.
func (s *Service) CreateUser(ctx context.Context, sc auth.Scope, in *api.CreateUserInput) (*api.CreateUserOutput, error) {
	var out api.CreateUserOutput
	err := s.update(ctx, func(tx *store.Tx) error {
		e, err := s.newEntity(tx, sc.Account, "AIDA", wire.Value(in.UserName), in.Path, in.PermissionsBoundary, in.Tags)
		if err != nil {
			return err
		}
		r := &userRow{entity: e}
		out.User = new(r.answer())
		return added(tx, users, r, sc.Account, userQuota, alreadyExists("User with name %s already exists.", r.Name))
	})
	return &out, err
}

// GetUser describes a user; root, too, if it asks for itself.
func (s *Service) GetUser(ctx context.Context, sc auth.Scope, in *api.GetUserInput) (*api.GetUserOutput, error) {
	if in.UserName == nil && sc.Principal.Kind == auth.Root {
		return &api.GetUserOutput{User: &api.User{UserId: wire.Ptr(sc.Account), Arn: wire.Ptr(sc.Principal.ARN)}}, nil
	}
	var out api.GetUserOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := s.caller(tx, sc, in.UserName)
		if err == nil {
			out.User = new(r.answer())
		}
		return err
	})
	return &out, err
}

// ListUsers lists users by name. Tags and boundaries are GetUser's to tell.
func (s *Service) ListUsers(ctx context.Context, sc auth.Scope, in *api.ListUsersInput) (*api.ListUsersOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListUsersOutput{Users: []api.User{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		rows, next, err := take(p, users.Scan(tx, p.rows(sc.Account)),
			func(r *userRow) bool { return strings.HasPrefix(r.Path, wire.Value(in.PathPrefix)) },
			func(r *userRow) string { return fold(r.Name) })
		for _, r := range rows {
			u := r.answer()
			u.Tags, u.PermissionsBoundary = nil, nil
			out.Users = append(out.Users, u)
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return err
	})
	return out, err
}

// rows is the range of an account's rows, by name, from the page on.
func (p page) rows(account string) store.Range {
	r := store.Range{Prefix: store.K(account)}
	if p.after != "" {
		r.After = store.K(account, p.after)
	}
	return r
}

// UpdateUser changes a user's name or path; everything it has stays with it.
func (s *Service) UpdateUser(ctx context.Context, sc auth.Scope, in *api.UpdateUserInput) (*api.UpdateUserOutput, error) {
	return &api.UpdateUserOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.user(tx, sc.Account, wire.Value(in.UserName))
		if err != nil {
			return err
		}
		old := fold(r.Name)
		if in.NewPath != nil {
			r.Path = pathOr(in.NewPath)
		}
		if in.NewUserName != nil {
			r.Name = *in.NewUserName
		}
		return move(tx, users, sc.Account, old, fold(r.Name), r, alreadyExists("User with name %s already exists.", r.Name))
	})
}

// move stores a row whose name may have changed.
func move[R any](tx *store.Tx, t *store.Table[R], account, from, to string, r *R, exists error) error {
	if from == to {
		return t.Put(tx, r)
	}
	if err := t.Delete(tx, store.K(account, from)); err != nil {
		return err
	}
	return inserted(t.Insert(tx, r), exists)
}

// DeleteUser deletes a user that has nothing left. Page: "DeleteUser".
func (s *Service) DeleteUser(ctx context.Context, sc auth.Scope, in *api.DeleteUserInput) (*api.DeleteUserOutput, error) {
	return &api.DeleteUserOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.user(tx, sc.Account, wire.Value(in.UserName))
		if err != nil {
			return err
		}
		if err := s.userBusy(tx, r); err != nil {
			return err
		}
		if err := forgetAttempts(tx, r.ID); err != nil {
			return err
		}
		return users.Delete(tx, store.K(sc.Account, fold(r.Name)))
	})
}

// userBusy answers DeleteConflict for the first thing that a user still has.
func (s *Service) userBusy(tx *store.Tx, r *userRow) error {
	keys, err := s.userKeys(tx, r.Account, r.ID)
	if err != nil {
		return err
	}
	devices, err := s.userDevices(tx, r.ID)
	if err != nil {
		return err
	}
	for _, c := range []struct {
		busy bool
		must string
	}{
		{len(r.Attached) > 0, "must detach all policies first."},
		{len(r.Inline) > 0, "must delete policies first."},
		{len(r.Groups) > 0, "must remove users from group first."},
		{len(keys) > 0, "must delete access keys first."},
		{r.Login != nil, "must delete login profile first."},
		{len(devices) > 0, "must delete MFA device first."},
		{len(r.Certs) > 0, "must delete signing certificates first."},
		{len(r.SSHKeys) > 0, "must delete SSH public keys first."},
	} {
		if c.busy {
			return deleteConflict("Cannot delete entity, %s", c.must)
		}
	}
	return nil
}

func (r *userRow) answer() api.User {
	return api.User{
		Path: wire.Ptr(r.Path), UserName: wire.Ptr(r.Name), UserId: wire.Ptr(r.ID), Arn: wire.Ptr(r.arn()),
		CreateDate: wire.Ptr(r.Created), PermissionsBoundary: boundary(r.Boundary), Tags: tagList(r.Tags),
	}
}

// The policies of users.

// AttachUserPolicy attaches a managed policy.
func (s *Service) AttachUserPolicy(ctx context.Context, sc auth.Scope, in *api.AttachUserPolicyInput) (*api.AttachUserPolicyOutput, error) {
	return &api.AttachUserPolicyOutput{}, s.attach(ctx, s.userHolder(sc, in.UserName), wire.Value(in.PolicyArn))
}

// DetachUserPolicy detaches a managed policy.
func (s *Service) DetachUserPolicy(ctx context.Context, sc auth.Scope, in *api.DetachUserPolicyInput) (*api.DetachUserPolicyOutput, error) {
	return &api.DetachUserPolicyOutput{}, s.detach(ctx, s.userHolder(sc, in.UserName), wire.Value(in.PolicyArn))
}

// ListAttachedUserPolicies lists a user's managed policies.
func (s *Service) ListAttachedUserPolicies(ctx context.Context, sc auth.Scope, in *api.ListAttachedUserPoliciesInput) (*api.ListAttachedUserPoliciesOutput, error) {
	l, next, err := s.attached(ctx, s.userHolder(sc, in.UserName), in.PathPrefix, listing{in.Marker, in.MaxItems})
	return &api.ListAttachedUserPoliciesOutput{AttachedPolicies: l, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// PutUserPolicy adds or replaces an inline policy.
func (s *Service) PutUserPolicy(ctx context.Context, sc auth.Scope, in *api.PutUserPolicyInput) (*api.PutUserPolicyOutput, error) {
	return &api.PutUserPolicyOutput{}, s.putInline(ctx, s.userHolder(sc, in.UserName), wire.Value(in.PolicyName), wire.Value(in.PolicyDocument))
}

// GetUserPolicy returns an inline policy.
func (s *Service) GetUserPolicy(ctx context.Context, sc auth.Scope, in *api.GetUserPolicyInput) (*api.GetUserPolicyOutput, error) {
	name, doc, err := s.inline(ctx, s.userHolder(sc, in.UserName), wire.Value(in.PolicyName))
	return &api.GetUserPolicyOutput{UserName: name, PolicyName: in.PolicyName, PolicyDocument: doc}, err
}

// ListUserPolicies lists the names of a user's inline policies.
func (s *Service) ListUserPolicies(ctx context.Context, sc auth.Scope, in *api.ListUserPoliciesInput) (*api.ListUserPoliciesOutput, error) {
	l, next, err := s.inlineNames(ctx, s.userHolder(sc, in.UserName), listing{in.Marker, in.MaxItems})
	return &api.ListUserPoliciesOutput{PolicyNames: l, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// DeleteUserPolicy deletes an inline policy.
func (s *Service) DeleteUserPolicy(ctx context.Context, sc auth.Scope, in *api.DeleteUserPolicyInput) (*api.DeleteUserPolicyOutput, error) {
	return &api.DeleteUserPolicyOutput{}, s.deleteInline(ctx, s.userHolder(sc, in.UserName), wire.Value(in.PolicyName))
}

// PutUserPermissionsBoundary sets a user's permissions boundary.
func (s *Service) PutUserPermissionsBoundary(ctx context.Context, sc auth.Scope, in *api.PutUserPermissionsBoundaryInput) (*api.PutUserPermissionsBoundaryOutput, error) {
	return &api.PutUserPermissionsBoundaryOutput{}, s.putBoundary(ctx, s.userHolder(sc, in.UserName), wire.Value(in.PermissionsBoundary))
}

// DeleteUserPermissionsBoundary takes a user's permissions boundary away.
func (s *Service) DeleteUserPermissionsBoundary(ctx context.Context, sc auth.Scope, in *api.DeleteUserPermissionsBoundaryInput) (*api.DeleteUserPermissionsBoundaryOutput, error) {
	return &api.DeleteUserPermissionsBoundaryOutput{}, s.deleteBoundary(ctx, s.userHolder(sc, in.UserName))
}

// ListGroupsForUser lists the groups that a user is in.
func (s *Service) ListGroupsForUser(ctx context.Context, sc auth.Scope, in *api.ListGroupsForUserInput) (*api.ListGroupsForUserOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListGroupsForUserOutput{Groups: []api.Group{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		r, err := s.user(tx, sc.Account, wire.Value(in.UserName))
		if err != nil {
			return err
		}
		list, err := s.userGroups(tx, r)
		if err != nil {
			return err
		}
		list, next := cut(p, list, func(g *groupRow) string { return fold(g.Name) })
		for _, g := range list {
			out.Groups = append(out.Groups, g.answer())
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return nil
	})
	return out, err
}

// userGroups loads a user's groups, by name.
func (s *Service) userGroups(tx *store.Tx, r *userRow) ([]*groupRow, error) {
	list := make([]*groupRow, 0, len(r.Groups))
	for _, id := range r.Groups {
		g, err := one(tx, groupsByID, id, store.ErrNotFound)
		if err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	slices.SortFunc(list, func(a, b *groupRow) int { return strings.Compare(fold(a.Name), fold(b.Name)) })
	return list, nil
}
