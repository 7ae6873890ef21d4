package iam

import (
	"context"
	"slices"
	"strconv"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const (
	maxManaged  = 6144 // characters of a managed policy, white space not counted
	maxVersions = 5
)

func noSuchPolicy(arn string) error { return noSuchEntity("Policy %s was not found.", arn) }

func unattachable(arn string) error {
	return noSuchEntity("Policy %s does not exist or is not attachable.", arn)
}

// anyPolicy loads a managed policy, the customer's or AWS's, by its ARN.
func (s *Service) anyPolicy(tx *store.Tx, account, policyARN string) (*policyRow, error) {
	if p := s.managed.policy(policyARN); p != nil {
		return p, nil
	}
	a, err := arn.Parse(policyARN)
	if err != nil || a.Service != "iam" || !strings.HasPrefix(a.Resource, "policy/") {
		return nil, invalidInput("ARN %s is not valid.", policyARN)
	}
	if a.Account != account {
		return nil, noSuchPolicy(policyARN)
	}
	name := a.Resource[strings.LastIndexByte(a.Resource, '/')+1:]
	r, err := policies.Get(tx, store.K(account, fold(name)))
	if err == nil && !strings.EqualFold(r.arn(), policyARN) {
		err = store.ErrNotFound
	}
	return found(r, err, noSuchPolicy(policyARN))
}

// attachable is anyPolicy with the error of the operations that attach.
func (s *Service) attachable(tx *store.Tx, account, policyARN string) (*policyRow, error) {
	p, err := s.anyPolicy(tx, account, policyARN)
	if err != nil && isNoSuchEntity(err) {
		err = unattachable(policyARN)
	}
	return p, err
}

// ownPolicy loads a policy to be changed: one of the customer's.
func (s *Service) ownPolicy(tx *store.Tx, account, policyARN string) (*policyRow, error) {
	if s.managed.policy(policyARN) != nil {
		return nil, accessDenied("Cannot perform the operation on the AWS managed policy %s.", policyARN)
	}
	return s.anyPolicy(tx, account, policyARN)
}

func checkManaged(document string) error {
	if err := checkIdentity(document); err != nil {
		return err
	}
	if policySize(document) > maxManaged {
		return limitExceeded("Cannot exceed quota for PolicySize: %d", maxManaged)
	}
	return nil
}

// CreatePolicy creates a managed policy with version v1.
func (s *Service) CreatePolicy(ctx context.Context, sc auth.Scope, in *api.CreatePolicyInput) (*api.CreatePolicyOutput, error) {
	document := wire.Value(in.PolicyDocument)
	if err := checkManaged(document); err != nil {
		return nil, err
	}
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	now := s.now()
	r := &policyRow{
		Account: sc.Account, Name: wire.Value(in.PolicyName), Path: pathOr(in.Path), ID: ids.Unique("ANPA", 21),
		Description: wire.Value(in.Description), Created: now, Updated: now, Tags: tags,
		Versions: []policyVersion{{1, document, now}}, Default: 1, Last: 1,
	}
	err = s.update(ctx, func(tx *store.Tx) error {
		return added(tx, policies, r, sc.Account, policyQuota,
			alreadyExists("A policy called %s already exists. Duplicate names are not allowed.", r.Name))
	})
	return &api.CreatePolicyOutput{Policy: new(r.answer(usage{}))}, err
}

// GetPolicy describes a managed policy; its text is GetPolicyVersion's to tell.
func (s *Service) GetPolicy(ctx context.Context, sc auth.Scope, in *api.GetPolicyInput) (*api.GetPolicyOutput, error) {
	var out api.GetPolicyOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := s.anyPolicy(tx, sc.Account, wire.Value(in.PolicyArn))
		if err != nil {
			return err
		}
		u, err := s.usage(tx, sc.Account, r.arn())
		out.Policy = new(r.answer(u))
		return err
	})
	return &out, err
}

// ListPolicies lists managed policies: the customer's by name, then AWS's.
func (s *Service) ListPolicies(ctx context.Context, sc auth.Scope, in *api.ListPoliciesInput) (*api.ListPoliciesOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListPoliciesOutput{Policies: []api.Policy{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		rows, err := s.scopedPolicies(tx, sc.Account, wire.Value(in.Scope))
		if err != nil {
			return err
		}
		rows = slices.DeleteFunc(rows, func(r *policyRow) bool { return !strings.HasPrefix(r.Path, wire.Value(in.PathPrefix)) })
		keep := rows[:0]
		used := map[string]usage{}
		for _, r := range rows {
			u, err := s.usage(tx, sc.Account, r.arn())
			if err != nil {
				return err
			}
			if u.wanted(wire.Value(in.PolicyUsageFilter), wire.Value(in.OnlyAttached)) {
				keep, used[r.arn()] = append(keep, r), u
			}
		}
		rows, next := cut(p, keep, (*policyRow).arn)
		for _, r := range rows {
			a := r.answer(used[r.arn()])
			a.Tags, a.Description = nil, nil
			out.Policies = append(out.Policies, a)
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return nil
	})
	return out, err
}

// scopedPolicies returns the customer's managed policies (Local), AWS's (AWS) or
// both.
func (s *Service) scopedPolicies(tx *store.Tx, account, scope string) ([]*policyRow, error) {
	var rows []*policyRow
	var err error
	if scope != "AWS" {
		if rows, err = all(policies.Scan(tx, store.Range{Prefix: store.K(account)}), nil); err != nil {
			return nil, err
		}
	}
	if scope != "Local" {
		rows = append(rows, s.managed.list...)
	}
	return rows, nil
}

// DeletePolicy deletes a policy that is attached to nothing and has no further
// versions.
func (s *Service) DeletePolicy(ctx context.Context, sc auth.Scope, in *api.DeletePolicyInput) (*api.DeletePolicyOutput, error) {
	return &api.DeletePolicyOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.ownPolicy(tx, sc.Account, wire.Value(in.PolicyArn))
		if err != nil {
			return err
		}
		u, err := s.usage(tx, sc.Account, r.arn())
		if err != nil {
			return err
		}
		if u.permissions+u.boundaries > 0 {
			return deleteConflict("Cannot delete a policy attached to entities.")
		}
		if len(r.Versions) > 1 {
			return deleteConflict("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
		}
		return policies.Delete(tx, store.K(sc.Account, fold(r.Name)))
	})
}

// CreatePolicyVersion adds a version, at most the fifth.
func (s *Service) CreatePolicyVersion(ctx context.Context, sc auth.Scope, in *api.CreatePolicyVersionInput) (*api.CreatePolicyVersionOutput, error) {
	document := wire.Value(in.PolicyDocument)
	if err := checkManaged(document); err != nil {
		return nil, err
	}
	var out api.CreatePolicyVersionOutput
	err := s.update(ctx, func(tx *store.Tx) error {
		r, err := s.ownPolicy(tx, sc.Account, wire.Value(in.PolicyArn))
		if err != nil {
			return err
		}
		if len(r.Versions) >= maxVersions {
			return limitExceeded("A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", maxVersions)
		}
		r.Last++
		r.Updated = s.now()
		r.Versions = append(r.Versions, policyVersion{r.Last, document, r.Updated})
		if wire.Value(in.SetAsDefault) {
			r.Default = r.Last
		}
		out.PolicyVersion = new(r.versionAnswer(r.Last, false))
		return policies.Put(tx, r)
	})
	return &out, err
}

// GetPolicyVersion returns a version with its document.
func (s *Service) GetPolicyVersion(ctx context.Context, sc auth.Scope, in *api.GetPolicyVersionInput) (*api.GetPolicyVersionOutput, error) {
	var out api.GetPolicyVersionOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := s.anyPolicy(tx, sc.Account, wire.Value(in.PolicyArn))
		if err != nil {
			return err
		}
		n, err := r.number(in.VersionId)
		if err == nil {
			out.PolicyVersion = new(r.versionAnswer(n, true))
		}
		return err
	})
	return &out, err
}

// ListPolicyVersions lists a policy's versions, the newest first.
func (s *Service) ListPolicyVersions(ctx context.Context, sc auth.Scope, in *api.ListPolicyVersionsInput) (*api.ListPolicyVersionsOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListPolicyVersionsOutput{Versions: []api.PolicyVersion{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		r, err := s.anyPolicy(tx, sc.Account, wire.Value(in.PolicyArn))
		if err != nil {
			return err
		}
		for _, v := range slices.Backward(r.Versions) {
			out.Versions = append(out.Versions, r.versionAnswer(v.Number, false))
		}
		out.Versions, out.Marker = cut(p, out.Versions, func(v api.PolicyVersion) string { return *v.VersionId })
		out.IsTruncated = wire.Ptr(out.Marker != nil)
		return nil
	})
	return out, err
}

// SetDefaultPolicyVersion chooses the version that counts.
func (s *Service) SetDefaultPolicyVersion(ctx context.Context, sc auth.Scope, in *api.SetDefaultPolicyVersionInput) (*api.SetDefaultPolicyVersionOutput, error) {
	return &api.SetDefaultPolicyVersionOutput{}, s.editVersion(ctx, sc, in.PolicyArn, in.VersionId, func(r *policyRow, n int) error {
		r.Default, r.Updated = n, s.now()
		return nil
	})
}

// DeletePolicyVersion deletes a version other than the default one.
func (s *Service) DeletePolicyVersion(ctx context.Context, sc auth.Scope, in *api.DeletePolicyVersionInput) (*api.DeletePolicyVersionOutput, error) {
	return &api.DeletePolicyVersionOutput{}, s.editVersion(ctx, sc, in.PolicyArn, in.VersionId, func(r *policyRow, n int) error {
		if n == r.Default {
			return deleteConflict("Cannot delete the default version of a policy.")
		}
		r.Updated = s.now()
		r.Versions = slices.DeleteFunc(r.Versions, func(v policyVersion) bool { return v.Number == n })
		return nil
	})
}

func (s *Service) editVersion(ctx context.Context, sc auth.Scope, policyARN, version *string, fn func(r *policyRow, n int) error) error {
	return s.update(ctx, func(tx *store.Tx) error {
		r, err := s.ownPolicy(tx, sc.Account, wire.Value(policyARN))
		if err != nil {
			return err
		}
		n, err := r.number(version)
		if err != nil {
			return err
		}
		if err := fn(r, n); err != nil {
			return err
		}
		return policies.Put(tx, r)
	})
}

// number reads a version id such as v2 of a version that exists.
func (r *policyRow) number(id *string) (int, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(wire.Value(id), "v"))
	if err != nil || r.version(n) == nil {
		return 0, noSuchEntity("Policy %s version %s does not exist or is not attachable.", r.arn(), wire.Value(id))
	}
	return n, nil
}

func (r *policyRow) versionAnswer(n int, document bool) api.PolicyVersion {
	v := r.version(n)
	out := api.PolicyVersion{
		VersionId: wire.Ptr("v" + strconv.Itoa(n)), IsDefaultVersion: wire.Ptr(n == r.Default), CreateDate: wire.Ptr(v.Created),
	}
	if document {
		out.Document = encoded(v.Document)
	}
	return out
}

func (r *policyRow) answer(u usage) api.Policy {
	out := api.Policy{
		PolicyName: wire.Ptr(r.Name), PolicyId: wire.Ptr(r.ID), Arn: wire.Ptr(r.arn()), Path: wire.Ptr(r.Path),
		DefaultVersionId: wire.Ptr("v" + strconv.Itoa(r.Default)), AttachmentCount: wire.Ptr(int32(u.permissions)),
		PermissionsBoundaryUsageCount: wire.Ptr(int32(u.boundaries)), IsAttachable: wire.Ptr(true),
		CreateDate: wire.Ptr(r.Created), UpdateDate: wire.Ptr(r.Updated), Tags: tagList(r.Tags),
	}
	if r.Description != "" {
		out.Description = wire.Ptr(r.Description)
	}
	return out
}
