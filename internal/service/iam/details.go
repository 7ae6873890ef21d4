package iam

import (
	"context"
	"slices"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// detail is one item of GetAccountAuthorizationDetails: one of the four is set.
type detail struct {
	key    string
	user   *api.UserDetail
	group  *api.GroupDetail
	role   *api.RoleDetail
	policy *api.ManagedPolicyDetail
}

// GetAccountAuthorizationDetails describes all users, groups, roles and policies
// with their policies' texts.
func (s *Service) GetAccountAuthorizationDetails(ctx context.Context, sc auth.Scope, in *api.GetAccountAuthorizationDetailsInput) (*api.GetAccountAuthorizationDetailsOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	wants := func(kind string) bool { return len(in.Filter) == 0 || slices.Contains(in.Filter, kind) }
	var list []detail
	err = s.view(ctx, func(tx *store.Tx) error {
		for _, part := range []struct {
			kind string
			read func(*store.Tx, string) ([]detail, error)
		}{
			{"User", s.userDetails}, {"Group", s.groupDetails}, {"Role", s.roleDetails},
			{"LocalManagedPolicy", s.localPolicyDetails}, {"AWSManagedPolicy", s.awsPolicyDetails},
		} {
			if !wants(part.kind) {
				continue
			}
			more, err := part.read(tx, sc.Account)
			if err != nil {
				return err
			}
			list = append(list, more...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := &api.GetAccountAuthorizationDetailsOutput{
		UserDetailList: []api.UserDetail{}, GroupDetailList: []api.GroupDetail{}, RoleDetailList: []api.RoleDetail{}, Policies: []api.ManagedPolicyDetail{},
	}
	list, next := cut(p, list, func(d detail) string { return d.key })
	for _, d := range list {
		switch {
		case d.user != nil:
			out.UserDetailList = append(out.UserDetailList, *d.user)
		case d.group != nil:
			out.GroupDetailList = append(out.GroupDetailList, *d.group)
		case d.role != nil:
			out.RoleDetailList = append(out.RoleDetailList, *d.role)
		default:
			out.Policies = append(out.Policies, *d.policy)
		}
	}
	out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
	return out, nil
}

func inlineDetails(list []inline) []api.PolicyDetail {
	out := []api.PolicyDetail{}
	for _, p := range list {
		out = append(out, api.PolicyDetail{PolicyName: wire.Ptr(p.Name), PolicyDocument: encoded(p.Document)})
	}
	return out
}

func (s *Service) attachedDetails(tx *store.Tx, e *entity) ([]api.AttachedPolicy, error) {
	out := []api.AttachedPolicy{}
	for _, a := range e.Attached {
		p, err := s.anyPolicy(tx, e.Account, a)
		if err != nil {
			return nil, err
		}
		out = append(out, api.AttachedPolicy{PolicyArn: wire.Ptr(a), PolicyName: wire.Ptr(p.Name)})
	}
	return out, nil
}

func (s *Service) userDetails(tx *store.Tx, account string) ([]detail, error) {
	var out []detail
	for r, err := range users.Scan(tx, store.Range{Prefix: store.K(account)}) {
		if err != nil {
			return nil, err
		}
		in, err := s.userGroups(tx, r)
		if err != nil {
			return nil, err
		}
		names := []string{}
		for _, g := range in {
			names = append(names, g.Name)
		}
		attached, err := s.attachedDetails(tx, &r.entity)
		if err != nil {
			return nil, err
		}
		out = append(out, detail{key: r.ID, user: &api.UserDetail{
			Path: wire.Ptr(r.Path), UserName: wire.Ptr(r.Name), UserId: wire.Ptr(r.ID), Arn: wire.Ptr(r.arn()), CreateDate: wire.Ptr(r.Created),
			UserPolicyList: inlineDetails(r.Inline), GroupList: names, AttachedManagedPolicies: attached,
			PermissionsBoundary: boundary(r.Boundary), Tags: tagList(r.Tags),
		}})
	}
	return out, nil
}

func (s *Service) groupDetails(tx *store.Tx, account string) ([]detail, error) {
	var out []detail
	for r, err := range groups.Scan(tx, store.Range{Prefix: store.K(account)}) {
		if err != nil {
			return nil, err
		}
		attached, err := s.attachedDetails(tx, &r.entity)
		if err != nil {
			return nil, err
		}
		out = append(out, detail{key: r.ID, group: &api.GroupDetail{
			Path: wire.Ptr(r.Path), GroupName: wire.Ptr(r.Name), GroupId: wire.Ptr(r.ID), Arn: wire.Ptr(r.arn()), CreateDate: wire.Ptr(r.Created),
			GroupPolicyList: inlineDetails(r.Inline), AttachedManagedPolicies: attached,
		}})
	}
	return out, nil
}

func (s *Service) roleDetails(tx *store.Tx, account string) ([]detail, error) {
	var out []detail
	for r, err := range roles.Scan(tx, store.Range{Prefix: store.K(account)}) {
		if err != nil {
			return nil, err
		}
		attached, err := s.attachedDetails(tx, &r.entity)
		if err != nil {
			return nil, err
		}
		rows, err := all(profilesByRole.Scan(tx, store.Range{Prefix: store.K(r.ID)}), nil)
		if err != nil {
			return nil, err
		}
		in, err := s.profileList(tx, rows)
		if err != nil {
			return nil, err
		}
		use, err := s.roleUse(tx, r.ID)
		if err != nil {
			return nil, err
		}
		out = append(out, detail{key: r.ID, role: &api.RoleDetail{
			Path: wire.Ptr(r.Path), RoleName: wire.Ptr(r.Name), RoleId: wire.Ptr(r.ID), Arn: wire.Ptr(r.arn()), CreateDate: wire.Ptr(r.Created),
			AssumeRolePolicyDocument: encoded(r.Trust), InstanceProfileList: in, RolePolicyList: inlineDetails(r.Inline),
			AttachedManagedPolicies: attached, PermissionsBoundary: boundary(r.Boundary), Tags: tagList(r.Tags), RoleLastUsed: use,
		}})
	}
	return out, nil
}

func (s *Service) localPolicyDetails(tx *store.Tx, account string) ([]detail, error) {
	rows, err := all(policies.Scan(tx, store.Range{Prefix: store.K(account)}), nil)
	if err != nil {
		return nil, err
	}
	return s.policyDetails(tx, account, rows, false)
}

// awsPolicyDetails describes those of AWS's policies that are in use.
func (s *Service) awsPolicyDetails(tx *store.Tx, account string) ([]detail, error) {
	return s.policyDetails(tx, account, s.managed.list, true)
}

func (s *Service) policyDetails(tx *store.Tx, account string, rows []*policyRow, used bool) ([]detail, error) {
	var out []detail
	for _, r := range rows {
		u, err := s.usage(tx, account, r.arn())
		if err != nil {
			return nil, err
		}
		if used && u.permissions+u.boundaries == 0 {
			continue
		}
		a := r.answer(u)
		d := &api.ManagedPolicyDetail{
			PolicyName: a.PolicyName, PolicyId: a.PolicyId, Arn: a.Arn, Path: a.Path, DefaultVersionId: a.DefaultVersionId,
			AttachmentCount: a.AttachmentCount, PermissionsBoundaryUsageCount: a.PermissionsBoundaryUsageCount, IsAttachable: a.IsAttachable,
			Description: a.Description, CreateDate: a.CreateDate, UpdateDate: a.UpdateDate,
		}
		for _, v := range slices.Backward(r.Versions) {
			d.PolicyVersionList = append(d.PolicyVersionList, r.versionAnswer(v.Number, true))
		}
		out = append(out, detail{key: r.ID, policy: d})
	}
	return out, nil
}
