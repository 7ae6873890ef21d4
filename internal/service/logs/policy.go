package logs

import (
	"context"
	"strings"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// maxPolicies is how many resource policies an account may have in a region.
const maxPolicies = 10

// policyScope returns the ARN of the group whose policy is meant, empty for the
// account's, and the policy's name.
func policyScope(tx *store.Tx, sc auth.Scope, resource, name *string) (string, string, error) {
	if resource == nil {
		if wire.Value(name) == "" {
			return "", "", invalid("A policy name is required.")
		}
		return "", *name, nil
	}
	n, ok := groupName(sc, *resource)
	if !ok || !strings.HasPrefix(*resource, "arn:") {
		return "", "", invalid("The resource ARN is not that of a log group.")
	}
	g, err := group(tx, sc, n)
	if err != nil {
		return "", "", err
	}
	return g.arn(), wire.Value(name), nil
}

// PutResourcePolicy sets a policy that lets others write into the account's groups,
// or a policy of one group.
func (s *Service) PutResourcePolicy(ctx context.Context, sc auth.Scope, in *logs.PutResourcePolicyInput) (*logs.PutResourcePolicyOutput, error) {
	document := wire.Value(in.PolicyDocument)
	if _, err := auth.ParsePolicy(document); err != nil {
		return nil, invalid("Invalid policy document: " + err.Error())
	}
	row := &policyRow{Account: sc.Account, Region: sc.Region, Document: document, Updated: s.now(), Revision: ids.UUID()}
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		var err error
		if row.Group, row.Name, err = policyScope(tx, sc, in.ResourceArn, in.PolicyName); err != nil {
			return err
		}
		old, err := policies.Get(tx, store.K(row.Account, row.Region, row.Group, row.Name))
		switch {
		case err == nil:
			if in.ExpectedRevisionId != nil && *in.ExpectedRevisionId != old.Revision {
				return &logs.OperationAbortedException{Message: new("The policy has another revision than the one expected.")}
			}
		case err != store.ErrNotFound:
			return err
		default:
			if err := roomForPolicy(tx, sc, row.Group); err != nil {
				return err
			}
		}
		return policies.Put(tx, row)
	})
	if err != nil {
		return nil, err
	}
	return &logs.PutResourcePolicyOutput{ResourcePolicy: describePolicy(row), RevisionId: &row.Revision}, nil
}

func roomForPolicy(tx *store.Tx, sc auth.Scope, group string) error {
	n := 0
	for _, err := range policies.Scan(tx, store.Range{Prefix: store.K(sc.Account, sc.Region, group)}) {
		if err != nil {
			return err
		}
		n++
	}
	if n >= maxPolicies || group != "" && n >= 1 {
		return &logs.LimitExceededException{Message: new("Resource limit exceeded.")}
	}
	return nil
}

func describePolicy(row *policyRow) *logs.ResourcePolicy {
	out := &logs.ResourcePolicy{
		PolicyDocument: &row.Document, LastUpdatedTime: &row.Updated,
		PolicyScope: new(logs.PolicyScopeAccount), RevisionId: &row.Revision,
	}
	if row.Name != "" {
		out.PolicyName = &row.Name
	}
	if row.Group != "" {
		out.PolicyScope, out.ResourceArn = new(logs.PolicyScopeResource), &row.Group
	}
	return out
}

// DescribeResourcePolicies lists the account's policies, or a group's.
func (s *Service) DescribeResourcePolicies(ctx context.Context, sc auth.Scope, in *logs.DescribeResourcePoliciesInput) (*logs.DescribeResourcePoliciesOutput, error) {
	if (wire.Value(in.PolicyScope) == logs.PolicyScopeResource) != (in.ResourceArn != nil) {
		return nil, invalid("A resource ARN and the policy scope RESOURCE go together.")
	}
	out := &logs.DescribeResourcePoliciesOutput{ResourcePolicies: []logs.ResourcePolicy{}}
	scope := wire.Value(in.ResourceArn)
	r := store.Range{Prefix: store.K(sc.Account, sc.Region, strings.TrimSuffix(scope, ":*"))}
	if in.NextToken != nil {
		last, err := readToken(*in.NextToken)
		if err != nil {
			return nil, err
		}
		r.After = r.Prefix + store.K(last)
	}
	n := limit(in.Limit, 50)
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		for row, err := range policies.Scan(tx, r) {
			if err != nil {
				return err
			}
			if len(out.ResourcePolicies) == n {
				out.NextToken = new(writeToken(wire.Value(out.ResourcePolicies[n-1].PolicyName)))
				return nil
			}
			out.ResourcePolicies = append(out.ResourcePolicies, *describePolicy(row))
		}
		return nil
	})
	return out, err
}

// DeleteResourcePolicy deletes a policy.
func (s *Service) DeleteResourcePolicy(ctx context.Context, sc auth.Scope, in *logs.DeleteResourcePolicyInput) (*logs.DeleteResourcePolicyOutput, error) {
	return &logs.DeleteResourcePolicyOutput{}, s.Store.Update(ctx, func(tx *store.Tx) error {
		scope, name, err := policyScope(tx, sc, in.ResourceArn, in.PolicyName)
		if err != nil {
			return err
		}
		key := store.K(sc.Account, sc.Region, scope, name)
		row, err := policies.Get(tx, key)
		if err == store.ErrNotFound {
			return &logs.ResourceNotFoundException{Message: new("Policy with name [" + name + "] does not exist.")}
		}
		if err != nil {
			return err
		}
		if in.ExpectedRevisionId != nil && *in.ExpectedRevisionId != row.Revision {
			return &logs.OperationAbortedException{Message: new("The policy has another revision than the one expected.")}
		}
		return policies.Delete(tx, key)
	})
}
