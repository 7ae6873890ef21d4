package iam

import (
	"context"
	"errors"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const defaultSession = 3600 // seconds: MaxSessionDuration of a role that names none

func noSuchRole(name string) error {
	return noSuchEntity("The role with name %s cannot be found.", name)
}

func (s *Service) role(tx *store.Tx, account, name string) (*roleRow, error) {
	r, err := roles.Get(tx, store.K(account, fold(name)))
	return found(r, err, noSuchRole(name))
}

// ownRole loads a role to be changed: not a service-linked one.
func (s *Service) ownRole(tx *store.Tx, account string, name *string) (*roleRow, error) {
	r, err := s.role(tx, account, wire.Value(name))
	if err == nil && r.Service != "" {
		return nil, unmodifiable(r.Name)
	}
	return r, err
}

// CreateRole creates a role.
func (s *Service) CreateRole(ctx context.Context, sc auth.Scope, in *api.CreateRoleInput) (*api.CreateRoleOutput, error) {
	trust := wire.Value(in.AssumeRolePolicyDocument)
	if err := s.checkTrustSize(trust); err != nil {
		return nil, err
	}
	if strings.HasPrefix(pathOr(in.Path), "/aws-service-role/") {
		return nil, validationError("Paths that start with /aws-service-role/ are reserved for service-linked roles.")
	}
	var out api.CreateRoleOutput
	err := s.update(ctx, func(tx *store.Tx) error {
		pins, err := s.pin(tx, trust)
		if err != nil {
			return err
		}
		e, err := s.newEntity(tx, sc.Account, "AROA", wire.Value(in.RoleName), in.Path, in.PermissionsBoundary, in.Tags)
		if err != nil {
			return err
		}
		r := &roleRow{entity: e, Description: wire.Value(in.Description), Trust: trust, Trusted: pins, MaxSession: defaultSession}
		if in.MaxSessionDuration != nil {
			r.MaxSession = *in.MaxSessionDuration
		}
		out.Role = new(r.answer())
		return added(tx, roles, r, sc.Account, roleQuota, alreadyExists("Role with name %s already exists.", r.Name))
	})
	return &out, err
}

// maxTrust is the default quota of a trust policy's size.
const maxTrust = 2048

func (s *Service) checkTrustSize(document string) error {
	if err := checkTrust(document); err != nil {
		return err
	}
	if policySize(document) > maxTrust {
		return limitExceeded("Cannot exceed quota for ACLSizePerRole: %d", maxTrust)
	}
	return nil
}

// pin finds the unique ids of the users and roles that a trust policy names, and
// refuses one who does not exist, as IAM does. Page: "AWS JSON policy elements:
// Principal".
func (s *Service) pin(tx *store.Tx, document string) (map[string]string, error) {
	pins := map[string]string{}
	for _, p := range trusted(document) {
		id, named, err := s.named(tx, p)
		if err != nil {
			return nil, err
		}
		if named && id == "" {
			return nil, malformedPolicy("Invalid principal in policy: \"AWS\":\"%s\"", p)
		}
		if named {
			pins[p] = id
		}
	}
	return pins, nil
}

// named looks up who has an ARN: named says that it is a user's or a role's, and
// id is empty if there is none such.
func (s *Service) named(tx *store.Tx, principal string) (id string, named bool, err error) {
	a, err := arn.Parse(principal)
	if err != nil || a.Service != "iam" {
		return "", false, nil
	}
	kind, rest := a.ResourceType()
	key := store.K(a.Account, fold(rest[strings.LastIndexByte(rest, '/')+1:]))
	switch kind {
	case "user":
		r, err := users.Get(tx, key)
		if err == nil && r.arn() == principal {
			id = r.ID
		}
		return id, true, notMissing(err)
	case "role":
		r, err := roles.Get(tx, key)
		if err == nil && r.arn() == principal {
			id = r.ID
		}
		return id, true, notMissing(err)
	}
	return "", false, nil
}

// notMissing lets faults of the store through.
func notMissing(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// trust is a role's trust policy as it counts now: where a name belongs to
// another one or to nobody any more, the unique id of the one who was meant
// stands in its place.
func (s *Service) trust(tx *store.Tx, r *roleRow) (string, error) {
	text := r.Trust
	for name, id := range r.Trusted {
		now, _, err := s.named(tx, name)
		if err != nil {
			return "", err
		}
		if now != id {
			text = strings.ReplaceAll(text, `"`+name+`"`, `"`+id+`"`)
		}
	}
	return text, nil
}

// trusted lists the AWS principals that a trust policy names.
func trusted(document string) []string {
	p, err := auth.ParsePolicy(document)
	if err != nil {
		return nil
	}
	var out []string
	for _, st := range p.Statements {
		for _, who := range []*auth.Principals{st.Principal, st.NotPrincipal} {
			if who != nil {
				out = append(out, who.AWS...)
			}
		}
	}
	return out
}

// GetRole describes a role.
func (s *Service) GetRole(ctx context.Context, sc auth.Scope, in *api.GetRoleInput) (*api.GetRoleOutput, error) {
	var out api.GetRoleOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := s.role(tx, sc.Account, wire.Value(in.RoleName))
		if err != nil {
			return err
		}
		if r.Trust, err = s.trust(tx, r); err != nil {
			return err
		}
		out.Role = new(r.answer())
		out.Role.RoleLastUsed, err = s.roleUse(tx, r.ID)
		return err
	})
	return &out, err
}

// ListRoles lists roles by name; tags, boundaries and last use are GetRole's to
// tell.
func (s *Service) ListRoles(ctx context.Context, sc auth.Scope, in *api.ListRolesInput) (*api.ListRolesOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListRolesOutput{Roles: []api.Role{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		rows, next, err := take(p, roles.Scan(tx, p.rows(sc.Account)),
			func(r *roleRow) bool { return strings.HasPrefix(r.Path, wire.Value(in.PathPrefix)) },
			func(r *roleRow) string { return fold(r.Name) })
		for _, r := range rows {
			out.Roles = append(out.Roles, r.brief())
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return err
	})
	return out, err
}

func (s *Service) editRole(ctx context.Context, sc auth.Scope, name *string, fn func(r *roleRow)) (*roleRow, error) {
	var row *roleRow
	err := s.update(ctx, func(tx *store.Tx) error {
		r, err := s.role(tx, sc.Account, wire.Value(name))
		if err != nil {
			return err
		}
		fn(r)
		row = r
		return roles.Put(tx, r)
	})
	return row, err
}

// UpdateRole changes a role's description and longest session. Of a
// service-linked role only the description may be changed.
func (s *Service) UpdateRole(ctx context.Context, sc auth.Scope, in *api.UpdateRoleInput) (*api.UpdateRoleOutput, error) {
	return &api.UpdateRoleOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.role(tx, sc.Account, wire.Value(in.RoleName))
		if err != nil {
			return err
		}
		if in.Description != nil {
			r.Description = *in.Description
		}
		if in.MaxSessionDuration != nil {
			if r.Service != "" {
				return unmodifiable(r.Name)
			}
			r.MaxSession = *in.MaxSessionDuration
		}
		return roles.Put(tx, r)
	})
}

// UpdateRoleDescription changes a role's description.
func (s *Service) UpdateRoleDescription(ctx context.Context, sc auth.Scope, in *api.UpdateRoleDescriptionInput) (*api.UpdateRoleDescriptionOutput, error) {
	r, err := s.editRole(ctx, sc, in.RoleName, func(r *roleRow) { r.Description = wire.Value(in.Description) })
	if err != nil {
		return nil, err
	}
	return &api.UpdateRoleDescriptionOutput{Role: new(r.answer())}, nil
}

// UpdateAssumeRolePolicy replaces a role's trust policy.
func (s *Service) UpdateAssumeRolePolicy(ctx context.Context, sc auth.Scope, in *api.UpdateAssumeRolePolicyInput) (*api.UpdateAssumeRolePolicyOutput, error) {
	trust := wire.Value(in.PolicyDocument)
	if err := s.checkTrustSize(trust); err != nil {
		return nil, err
	}
	return &api.UpdateAssumeRolePolicyOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.ownRole(tx, sc.Account, in.RoleName)
		if err != nil {
			return err
		}
		r.Trust = trust
		if r.Trusted, err = s.pin(tx, trust); err != nil {
			return err
		}
		return roles.Put(tx, r)
	})
}

// DeleteRole deletes a role without policies that is in no instance profile. Its
// sessions lose their rights at once.
func (s *Service) DeleteRole(ctx context.Context, sc auth.Scope, in *api.DeleteRoleInput) (*api.DeleteRoleOutput, error) {
	return &api.DeleteRoleOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.ownRole(tx, sc.Account, in.RoleName)
		if err != nil {
			return err
		}
		for _, err := range profilesByRole.Scan(tx, store.Range{Prefix: store.K(r.ID)}) {
			if err != nil {
				return err
			}
			return deleteConflict("Cannot delete entity, must remove roles from instance profile first.")
		}
		if len(r.Attached) > 0 {
			return deleteConflict("Cannot delete entity, must detach all policies first.")
		}
		if len(r.Inline) > 0 {
			return deleteConflict("Cannot delete entity, must delete policies first.")
		}
		return s.dropRole(tx, r)
	})
}

func (s *Service) dropRole(tx *store.Tx, r *roleRow) error {
	if err := uses.Delete(tx, store.K(r.ID)); err != nil {
		return err
	}
	if err := forgetAttempts(tx, r.ID); err != nil {
		return err
	}
	return roles.Delete(tx, store.K(r.Account, fold(r.Name)))
}

func (r *roleRow) answer() api.Role {
	out := r.brief()
	out.PermissionsBoundary, out.Tags = boundary(r.Boundary), tagList(r.Tags)
	return out
}

// brief is a role as lists show it.
func (r *roleRow) brief() api.Role {
	out := api.Role{
		Path: wire.Ptr(r.Path), RoleName: wire.Ptr(r.Name), RoleId: wire.Ptr(r.ID), Arn: wire.Ptr(r.arn()),
		CreateDate: wire.Ptr(r.Created), AssumeRolePolicyDocument: encoded(r.Trust), MaxSessionDuration: wire.Ptr(r.MaxSession),
	}
	if r.Description != "" {
		out.Description = wire.Ptr(r.Description)
	}
	return out
}

// The policies of roles.

// AttachRolePolicy attaches a managed policy.
func (s *Service) AttachRolePolicy(ctx context.Context, sc auth.Scope, in *api.AttachRolePolicyInput) (*api.AttachRolePolicyOutput, error) {
	return &api.AttachRolePolicyOutput{}, s.attach(ctx, s.roleHolder(sc, in.RoleName, false), wire.Value(in.PolicyArn))
}

// DetachRolePolicy detaches a managed policy.
func (s *Service) DetachRolePolicy(ctx context.Context, sc auth.Scope, in *api.DetachRolePolicyInput) (*api.DetachRolePolicyOutput, error) {
	return &api.DetachRolePolicyOutput{}, s.detach(ctx, s.roleHolder(sc, in.RoleName, false), wire.Value(in.PolicyArn))
}

// ListAttachedRolePolicies lists a role's managed policies.
func (s *Service) ListAttachedRolePolicies(ctx context.Context, sc auth.Scope, in *api.ListAttachedRolePoliciesInput) (*api.ListAttachedRolePoliciesOutput, error) {
	l, next, err := s.attached(ctx, s.roleHolder(sc, in.RoleName, true), in.PathPrefix, listing{in.Marker, in.MaxItems})
	return &api.ListAttachedRolePoliciesOutput{AttachedPolicies: l, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// PutRolePolicy adds or replaces an inline policy.
func (s *Service) PutRolePolicy(ctx context.Context, sc auth.Scope, in *api.PutRolePolicyInput) (*api.PutRolePolicyOutput, error) {
	return &api.PutRolePolicyOutput{}, s.putInline(ctx, s.roleHolder(sc, in.RoleName, false), wire.Value(in.PolicyName), wire.Value(in.PolicyDocument))
}

// GetRolePolicy returns an inline policy.
func (s *Service) GetRolePolicy(ctx context.Context, sc auth.Scope, in *api.GetRolePolicyInput) (*api.GetRolePolicyOutput, error) {
	name, doc, err := s.inline(ctx, s.roleHolder(sc, in.RoleName, true), wire.Value(in.PolicyName))
	return &api.GetRolePolicyOutput{RoleName: name, PolicyName: in.PolicyName, PolicyDocument: doc}, err
}

// ListRolePolicies lists the names of a role's inline policies.
func (s *Service) ListRolePolicies(ctx context.Context, sc auth.Scope, in *api.ListRolePoliciesInput) (*api.ListRolePoliciesOutput, error) {
	l, next, err := s.inlineNames(ctx, s.roleHolder(sc, in.RoleName, true), listing{in.Marker, in.MaxItems})
	return &api.ListRolePoliciesOutput{PolicyNames: l, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// DeleteRolePolicy deletes an inline policy.
func (s *Service) DeleteRolePolicy(ctx context.Context, sc auth.Scope, in *api.DeleteRolePolicyInput) (*api.DeleteRolePolicyOutput, error) {
	return &api.DeleteRolePolicyOutput{}, s.deleteInline(ctx, s.roleHolder(sc, in.RoleName, false), wire.Value(in.PolicyName))
}

// PutRolePermissionsBoundary sets a role's permissions boundary.
func (s *Service) PutRolePermissionsBoundary(ctx context.Context, sc auth.Scope, in *api.PutRolePermissionsBoundaryInput) (*api.PutRolePermissionsBoundaryOutput, error) {
	return &api.PutRolePermissionsBoundaryOutput{}, s.putBoundary(ctx, s.roleHolder(sc, in.RoleName, false), wire.Value(in.PermissionsBoundary))
}

// DeleteRolePermissionsBoundary takes a role's permissions boundary away.
func (s *Service) DeleteRolePermissionsBoundary(ctx context.Context, sc auth.Scope, in *api.DeleteRolePermissionsBoundaryInput) (*api.DeleteRolePermissionsBoundaryOutput, error) {
	return &api.DeleteRolePermissionsBoundaryOutput{}, s.deleteBoundary(ctx, s.roleHolder(sc, in.RoleName, false))
}
