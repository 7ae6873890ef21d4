package iam

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// A kind is a kind of entity that carries policies.
type kind struct {
	name       string // in error texts: user, group, role
	quota      string // name of the quota of managed policies
	inlineSize int    // bytes of all inline policies together, white space not counted
}

var (
	userKind  = kind{"user", "PoliciesPerUser", 2048}
	groupKind = kind{"group", "PoliciesPerGroup", 5120}
	roleKind  = kind{"role", "PoliciesPerRole", 10240}
)

// maxAttached is the default quota of managed policies on an entity.
const maxAttached = 10

// A holder is an entity under change.
type holder struct {
	kind
	*entity
	save func() error
}

// A holderFunc loads an entity that may be changed.
type holderFunc func(tx *store.Tx) (holder, error)

func (s *Service) userHolder(sc auth.Scope, name *string) holderFunc {
	return func(tx *store.Tx) (holder, error) {
		r, err := s.user(tx, sc.Account, wire.Value(name))
		if err != nil {
			return holder{}, err
		}
		return holder{userKind, &r.entity, func() error { return users.Put(tx, r) }}, nil
	}
}

func (s *Service) groupHolder(sc auth.Scope, name *string) holderFunc {
	return func(tx *store.Tx) (holder, error) {
		r, err := s.group(tx, sc.Account, wire.Value(name))
		if err != nil {
			return holder{}, err
		}
		return holder{groupKind, &r.entity, func() error { return groups.Put(tx, r) }}, nil
	}
}

// roleHolder refuses service-linked roles, except for reading.
func (s *Service) roleHolder(sc auth.Scope, name *string, read bool) holderFunc {
	return func(tx *store.Tx) (holder, error) {
		r, err := s.role(tx, sc.Account, wire.Value(name))
		if err != nil {
			return holder{}, err
		}
		if r.Service != "" && !read {
			return holder{}, unmodifiable(r.Name)
		}
		return holder{roleKind, &r.entity, func() error { return roles.Put(tx, r) }}, nil
	}
}

func (s *Service) change(ctx context.Context, find holderFunc, fn func(tx *store.Tx, h holder) error) error {
	return s.update(ctx, func(tx *store.Tx) error {
		h, err := find(tx)
		if err != nil {
			return err
		}
		if err := fn(tx, h); err != nil {
			return err
		}
		return h.save()
	})
}

// attach adds a managed policy; one that is there already stays.
func (s *Service) attach(ctx context.Context, find holderFunc, arn string) error {
	return s.change(ctx, find, func(tx *store.Tx, h holder) error {
		p, err := s.attachable(tx, h.Account, arn)
		if err != nil {
			return err
		}
		if strings.HasPrefix(p.Path, "/aws-service-role/") {
			return unattachable(arn)
		}
		if slices.Contains(h.Attached, p.arn()) {
			return nil
		}
		if len(h.Attached) >= maxAttached {
			return limitExceeded("Cannot exceed quota for %s: %d", h.quota, maxAttached)
		}
		h.Attached = append(h.Attached, p.arn())
		return nil
	})
}

func (s *Service) detach(ctx context.Context, find holderFunc, arn string) error {
	return s.change(ctx, find, func(_ *store.Tx, h holder) error {
		i := slices.Index(h.Attached, arn)
		if i < 0 {
			return noSuchEntity("Policy %s was not found.", arn)
		}
		h.Attached = slices.Delete(h.Attached, i, i+1)
		return nil
	})
}

// putInline adds or replaces an inline policy.
func (s *Service) putInline(ctx context.Context, find holderFunc, name, document string) error {
	if err := checkIdentity(document); err != nil {
		return err
	}
	return s.change(ctx, find, func(_ *store.Tx, h holder) error {
		i, found := slices.BinarySearchFunc(h.Inline, name, func(p inline, n string) int { return strings.Compare(p.Name, n) })
		if found {
			h.Inline[i].Document = document
		} else {
			h.Inline = slices.Insert(h.Inline, i, inline{name, document})
		}
		size := 0
		for _, p := range h.Inline {
			size += policySize(p.Document)
		}
		if size > h.inlineSize {
			return limitExceeded("Maximum policy size of %d bytes exceeded for %s %s", h.inlineSize, h.kind.name, h.Name)
		}
		return nil
	})
}

func (s *Service) deleteInline(ctx context.Context, find holderFunc, name string) error {
	return s.change(ctx, find, func(_ *store.Tx, h holder) error {
		for i, p := range h.Inline {
			if p.Name == name {
				h.Inline = slices.Delete(h.Inline, i, i+1)
				return nil
			}
		}
		return noSuchInline(h.kind, name)
	})
}

func noSuchInline(k kind, name string) error {
	return noSuchEntity("The %s policy with name %s cannot be found.", k.name, name)
}

// inline returns an inline policy, its document encoded as IAM answers it, and
// the name of its entity.
func (s *Service) inline(ctx context.Context, find holderFunc, name string) (entityName, document *string, err error) {
	err = s.view(ctx, func(tx *store.Tx) error {
		h, err := find(tx)
		if err != nil {
			return err
		}
		for _, p := range h.Inline {
			if p.Name == name {
				entityName, document = wire.Ptr(h.Name), encoded(p.Document)
				return nil
			}
		}
		return noSuchInline(h.kind, name)
	})
	return entityName, document, err
}

func (s *Service) inlineNames(ctx context.Context, find holderFunc, l listing) ([]string, *string, error) {
	p, err := l.page()
	if err != nil {
		return nil, nil, err
	}
	names := []string{}
	err = s.view(ctx, func(tx *store.Tx) error {
		h, err := find(tx)
		for i := range inlineLen(h) {
			names = append(names, h.Inline[i].Name)
		}
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	names, next := cut(p, names, func(n string) string { return n })
	return names, next, nil
}

func inlineLen(h holder) int {
	if h.entity == nil {
		return 0
	}
	return len(h.Inline)
}

// attached lists an entity's managed policies whose path begins with a prefix.
func (s *Service) attached(ctx context.Context, find holderFunc, prefix *string, l listing) ([]api.AttachedPolicy, *string, error) {
	p, err := l.page()
	if err != nil {
		return nil, nil, err
	}
	out := []api.AttachedPolicy{}
	err = s.view(ctx, func(tx *store.Tx) error {
		h, err := find(tx)
		if err != nil {
			return err
		}
		for _, arn := range h.Attached {
			pol, err := s.anyPolicy(tx, h.Account, arn)
			if err != nil {
				return err
			}
			if strings.HasPrefix(pol.Path, wire.Value(prefix)) {
				out = append(out, api.AttachedPolicy{PolicyArn: wire.Ptr(arn), PolicyName: wire.Ptr(pol.Name)})
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	out, next := cut(p, out, func(a api.AttachedPolicy) string { return *a.PolicyArn })
	return out, next, nil
}

func (s *Service) putBoundary(ctx context.Context, find holderFunc, arn string) error {
	return s.change(ctx, find, func(tx *store.Tx, h holder) error {
		p, err := s.attachable(tx, h.Account, arn)
		if err == nil {
			h.Boundary = p.arn()
		}
		return err
	})
}

func (s *Service) deleteBoundary(ctx context.Context, find holderFunc) error {
	return s.change(ctx, find, func(_ *store.Tx, h holder) error {
		if h.Boundary == "" {
			return noSuchEntity("The permissions boundary for %s %s cannot be found.", h.kind.name, h.Name)
		}
		h.Boundary = ""
		return nil
	})
}

// boundary is the answer's form of a permissions boundary; nil without one.
func boundary(arn string) *api.AttachedPermissionsBoundary {
	if arn == "" {
		return nil
	}
	return &api.AttachedPermissionsBoundary{
		PermissionsBoundaryArn:  wire.Ptr(arn),
		PermissionsBoundaryType: wire.Ptr("PermissionsBoundaryPolicy"),
	}
}

// encoded is a policy document as IAM answers it: percent-encoded (RFC 3986).
func encoded(document string) *string {
	return wire.Ptr(strings.ReplaceAll(url.QueryEscape(document), "+", "%20"))
}

// policySize counts a document as IAM's quotas do: without white space.
func policySize(document string) int {
	n := 0
	for i := range len(document) {
		switch document[i] {
		case ' ', '\t', '\r', '\n':
		default:
			n++
		}
	}
	return n
}

func checkIdentity(document string) error {
	p, err := auth.ParsePolicy(document)
	if err == nil {
		err = p.CheckIdentity()
	}
	return policyFault(err)
}

func checkTrust(document string) error {
	p, err := auth.ParsePolicy(document)
	if err == nil {
		err = p.CheckTrust()
	}
	return policyFault(err)
}

// pathOr returns the path of a request, "/" if it names none.
func pathOr(path *string) string {
	if path == nil || *path == "" {
		return "/"
	}
	return *path
}

// found turns the store's ErrNotFound into the customer's error.
func found[R any](r *R, err, missing error) (*R, error) {
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing
	}
	return r, err
}

// quota is how many of something an account may have. Page: "IAM and AWS STS
// quotas", the defaults.
type quota struct {
	name string
	most int
}

var (
	userQuota       = quota{"UsersPerAccount", 5000}
	groupQuota      = quota{"GroupsPerAccount", 300}
	roleQuota       = quota{"RolesPerAccount", 1000}
	policyQuota     = quota{"PoliciesPerAccount", 1500}
	profileQuota    = quota{"InstanceProfilesPerAccount", 1000}
	serverCertQuota = quota{"ServerCertificatesPerAccount", 20}
	oidcQuota       = quota{"OpenIdConnectProvidersPerAccount", 100}
	samlQuota       = quota{"SAMLProvidersPerAccount", 100}
)

// added stores a new row of an account, unless its name is taken or the account
// has its quota of them.
func added[R any](tx *store.Tx, t *store.Table[R], r *R, account string, q quota, exists error) error {
	if err := inserted(t.Insert(tx, r), exists); err != nil {
		return err
	}
	n, err := count(t.Scan(tx, store.Range{Prefix: store.K(account)}))
	if err == nil && n > q.most {
		err = limitExceeded("Cannot exceed quota for %s: %d", q.name, q.most)
	}
	return err
}

// inserted turns the store's ErrExists into the customer's error.
func inserted(err, exists error) error {
	if errors.Is(err, store.ErrExists) {
		return exists
	}
	return err
}
