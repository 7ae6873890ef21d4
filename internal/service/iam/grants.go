package iam

import (
	"context"
	"slices"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/op"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// namespace is a service of this cloud as policies know it.
type namespace struct {
	prefix  string   // such as s3
	name    string   // as AWS shows it in reports
	actions []string // s3:CreateBucket and the like, sorted
	tracked []string // those of which reports tell the last use
}

// shownNames are the services that reports call otherwise than their models.
var shownNames = map[string]string{
	"ec2": "Amazon EC2", "ecs": "Amazon Elastic Container Service", "s3": "Amazon S3", "sns": "Amazon SNS", "sqs": "Amazon SQS",
}

// namespaces lists services by prefix. Two services may share one.
func namespaces(services []op.Service) []namespace {
	byPrefix := map[string]*namespace{}
	for _, s := range services {
		n := byPrefix[s.Namespace()]
		if n == nil {
			n = &namespace{prefix: s.Namespace(), name: s.API.Title}
			byPrefix[n.prefix] = n
			if shown, ok := shownNames[n.prefix]; ok {
				n.name = shown
			}
		}
		for _, o := range s.Operations {
			n.actions = append(n.actions, s.Action(o.Name))
			if !slices.Contains(s.Data, o.Name) {
				n.tracked = append(n.tracked, s.Action(o.Name))
			}
		}
	}
	var out []namespace
	for _, n := range byPrefix {
		for _, list := range []*[]string{&n.actions, &n.tracked} {
			slices.Sort(*list)
			*list = slices.Compact(*list)
		}
		out = append(out, *n)
	}
	slices.SortFunc(out, func(a, b namespace) int { return strings.Compare(a.prefix, b.prefix) })
	return out
}

// reached tells whether policies may allow anything of a service, and which of its
// tracked actions. Wildcards stand for the actions that are built here; an action
// that a policy names in full counts whether it is built or not.
func (n namespace) reached(policies []*auth.Policy) (any bool, tracked []string) {
	for _, a := range n.tracked {
		if auth.Reaches(policies, a) {
			tracked = append(tracked, a)
		}
	}
	may := func(action string) bool { return auth.Reaches(policies, action) }
	return len(tracked) > 0 || slices.ContainsFunc(n.actions, may) || slices.ContainsFunc(n.spelt(policies), may), tracked
}

// spelt lists the actions of a service that policies allow by their full names.
func (n namespace) spelt(policies []*auth.Policy) []string {
	var out []string
	for _, p := range policies {
		for _, st := range p.Statements {
			for _, a := range st.Action {
				prefix, name, _ := strings.Cut(a, ":")
				if !st.Deny && strings.EqualFold(prefix, n.prefix) && name != "" && !strings.ContainsAny(name, "*?") {
					out = append(out, a)
				}
			}
		}
	}
	return out
}

// ListPoliciesGrantingServiceAccess lists the policies of a user (with those of the
// user's groups), group or role that allow any action of a service. It fits on one
// page.
func (s *Service) ListPoliciesGrantingServiceAccess(ctx context.Context, sc auth.Scope, in *api.ListPoliciesGrantingServiceAccessInput) (*api.ListPoliciesGrantingServiceAccessOutput, error) {
	if in.Marker != nil {
		if _, err := (listing{Marker: in.Marker}).page(); err != nil {
			return nil, err
		}
		return nil, invalidMarker()
	}
	if err := checkNamespaces(in.ServiceNamespaces); err != nil {
		return nil, err
	}
	out := &api.ListPoliciesGrantingServiceAccessOutput{
		PoliciesGrantingServiceAccess: []api.ListPoliciesGrantingServiceAccessEntry{}, IsTruncated: wire.Ptr(false),
	}
	err := s.view(ctx, func(tx *store.Tx) error {
		kind, name, err := entityOf(sc, wire.Value(in.Arn))
		if err != nil {
			return err
		}
		list, err := s.grantors(tx, sc, kind, name)
		if err != nil {
			return goneARN(err, wire.Value(in.Arn))
		}
		if list == nil {
			if kind == "" {
				return invalidInput("Could not extract entity from ARN : %s", wire.Value(in.Arn))
			}
			return unsupportedARN(wire.Value(in.Arn))
		}
		out.PoliciesGrantingServiceAccess = out.PoliciesGrantingServiceAccess[:0]
		for i, ns := range in.ServiceNamespaces {
			if slices.Contains(in.ServiceNamespaces[:i], ns) {
				continue
			}
			entry, err := s.granting(tx, list, ns)
			if err != nil {
				return err
			}
			out.PoliciesGrantingServiceAccess = append(out.PoliciesGrantingServiceAccess, entry)
		}
		return nil
	})
	return out, err
}

// checkNamespaces refuses what no service's prefix looks like. Skerry does not know
// the prefixes of all of AWS.
func checkNamespaces(list []string) error {
	var bad []string
	for _, ns := range list {
		if ns != fold(ns) || strings.Contains(ns, "_") {
			bad = append(bad, ns)
		}
	}
	if bad != nil {
		return invalidInput("Invalid service namespace: [%s]", strings.Join(bad, ", "))
	}
	return nil
}

// granting lists the policies that allow anything of a service, each once.
func (s *Service) granting(tx *store.Tx, list []held, ns string) (api.ListPoliciesGrantingServiceAccessEntry, error) {
	entry := api.ListPoliciesGrantingServiceAccessEntry{ServiceNamespace: wire.Ptr(ns), Policies: []api.PolicyGrantingServiceAccess{}}
	seen := map[string]bool{}
	for _, h := range list {
		docs, err := s.documents(tx, h.entity)
		if err != nil {
			return entry, err
		}
		for i, d := range docs {
			inline := i < len(h.Inline)
			if !grants(d.Policy, ns) || !inline && seen[d.Source] {
				continue
			}
			if inline {
				entry.Policies = append(entry.Policies, api.PolicyGrantingServiceAccess{
					PolicyName: wire.Ptr(d.Source), PolicyType: wire.Ptr("INLINE"),
					EntityType: wire.Ptr(strings.ToUpper(h.kind.name)), EntityName: wire.Ptr(h.Name),
				})
				continue
			}
			seen[d.Source] = true
			entry.Policies = append(entry.Policies, api.PolicyGrantingServiceAccess{
				PolicyName: wire.Ptr(d.Source[strings.LastIndexByte(d.Source, '/')+1:]), PolicyType: wire.Ptr("MANAGED"), PolicyArn: wire.Ptr(d.Source),
			})
		}
	}
	return entry, nil
}

// grants says whether a policy by itself allows any action of a service, whatever
// the action is called, and does not deny the whole service.
func grants(p *auth.Policy, ns string) bool {
	whole := func(actions []string) bool {
		return slices.ContainsFunc(actions, func(a string) bool { return a == "*" || strings.EqualFold(a, ns+":*") })
	}
	allows := false
	for _, st := range p.Statements {
		if st.Deny {
			if len(st.Conditions) == 0 && slices.Contains(st.Resource, "*") && whole(st.Action) {
				return false
			}
			continue
		}
		if slices.Contains(st.NotResource, "*") {
			continue
		}
		allows = allows || st.NotAction != nil && !whole(st.NotAction) || slices.ContainsFunc(st.Action, func(a string) bool {
			prefix, _, _ := strings.Cut(a, ":")
			return prefix == "*" || strings.EqualFold(prefix, ns)
		})
	}
	return allows
}
