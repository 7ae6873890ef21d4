package iam

import (
	"context"
	"errors"
	"iter"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

func isNoSuchEntity(err error) bool { return awserr.Code(err) == "NoSuchEntity" }

// usage counts the entities that use a managed policy.
type usage struct{ permissions, boundaries int }

// wanted applies the filters of ListPolicies.
func (u usage) wanted(filter string, attached bool) bool {
	switch filter {
	case "PermissionsPolicy":
		return u.permissions > 0
	case "PermissionsBoundary":
		return u.boundaries > 0
	}
	return !attached || u.permissions > 0
}

func (s *Service) usage(tx *store.Tx, account, arn string) (usage, error) {
	var u usage
	p, b := store.K(account, asPermissions, arn), store.K(account, asBoundary, arn)
	var errs [6]error
	var n [6]int
	n[0], errs[0] = count(usersByPolicy.Scan(tx, store.Range{Prefix: p}))
	n[1], errs[1] = count(groupsByPolicy.Scan(tx, store.Range{Prefix: p}))
	n[2], errs[2] = count(rolesByPolicy.Scan(tx, store.Range{Prefix: p}))
	n[3], errs[3] = count(usersByPolicy.Scan(tx, store.Range{Prefix: b}))
	n[4], errs[4] = count(rolesByPolicy.Scan(tx, store.Range{Prefix: b}))
	u.permissions, u.boundaries = n[0]+n[1]+n[2], n[3]+n[4]
	return u, errors.Join(errs[:]...)
}

func count[R any](rows iter.Seq2[*R, error]) (int, error) {
	n := 0
	for _, err := range rows {
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// user of a policy, as ListEntitiesForPolicy tells it.
type attachedTo struct{ kind, name, id, path string }

// ListEntitiesForPolicy lists the groups, users and roles that use a policy.
func (s *Service) ListEntitiesForPolicy(ctx context.Context, sc auth.Scope, in *api.ListEntitiesForPolicyInput) (*api.ListEntitiesForPolicyOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListEntitiesForPolicyOutput{PolicyGroups: []api.PolicyGroup{}, PolicyUsers: []api.PolicyUser{}, PolicyRoles: []api.PolicyRole{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		pol, err := s.anyPolicy(tx, sc.Account, wire.Value(in.PolicyArn))
		if err != nil {
			return err
		}
		list, err := s.attachedTo(tx, sc.Account, pol.arn(), in)
		if err != nil {
			return err
		}
		list, next := cut(p, list, func(a attachedTo) string { return a.kind + a.id })
		for _, a := range list {
			switch a.kind {
			case "group":
				out.PolicyGroups = append(out.PolicyGroups, api.PolicyGroup{GroupName: wire.Ptr(a.name), GroupId: wire.Ptr(a.id)})
			case "user":
				out.PolicyUsers = append(out.PolicyUsers, api.PolicyUser{UserName: wire.Ptr(a.name), UserId: wire.Ptr(a.id)})
			default:
				out.PolicyRoles = append(out.PolicyRoles, api.PolicyRole{RoleName: wire.Ptr(a.name), RoleId: wire.Ptr(a.id)})
			}
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return nil
	})
	return out, err
}

// attachedTo collects what uses a policy, filtered as the request asks.
func (s *Service) attachedTo(tx *store.Tx, account, arn string, in *api.ListEntitiesForPolicyInput) ([]attachedTo, error) {
	var keys []store.Key
	if f := wire.Value(in.PolicyUsageFilter); f != "PermissionsBoundary" {
		keys = append(keys, store.K(account, asPermissions, arn))
	}
	if f := wire.Value(in.PolicyUsageFilter); f != "PermissionsPolicy" {
		keys = append(keys, store.K(account, asBoundary, arn))
	}
	var out []attachedTo
	seen := map[string]bool{}
	add := func(kind string, e *entity) {
		filter := wire.Value(in.EntityFilter)
		if !seen[e.ID] && strings.HasPrefix(e.Path, wire.Value(in.PathPrefix)) && (filter == "" || fold(filter) == kind) {
			seen[e.ID] = true
			out = append(out, attachedTo{kind, e.Name, e.ID, e.Path})
		}
	}
	for _, k := range keys {
		for r, err := range groupsByPolicy.Scan(tx, store.Range{Prefix: k}) {
			if err != nil {
				return nil, err
			}
			add("group", &r.entity)
		}
		for r, err := range usersByPolicy.Scan(tx, store.Range{Prefix: k}) {
			if err != nil {
				return nil, err
			}
			add("user", &r.entity)
		}
		for r, err := range rolesByPolicy.Scan(tx, store.Range{Prefix: k}) {
			if err != nil {
				return nil, err
			}
			add("role", &r.entity)
		}
	}
	return out, nil
}
