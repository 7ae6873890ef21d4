package iam

import (
	"context"
	"fmt"
	"slices"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// A simulation asks the evaluation that real requests pass what it would decide.
// Pages: "SimulateCustomPolicy" and "SimulatePrincipalPolicy".
type simulation struct {
	policies  auth.Policies
	sources   map[string]string // source of a document -> SourcePolicyType
	actions   []string
	resources []string
	policy    string // the resource's
	owner     string // account that owns the resources
	caller    auth.Principal
	context   map[string][]string
	listing   listing
}

// SimulateCustomPolicy evaluates policies given in the request.
func (s *Service) SimulateCustomPolicy(ctx context.Context, sc auth.Scope, in *api.SimulateCustomPolicyInput) (*api.SimulateCustomPolicyOutput, error) {
	sim := &simulation{
		sources: map[string]string{}, actions: in.ActionNames, resources: in.ResourceArns, policy: wire.Value(in.ResourcePolicy),
		listing: listing{in.Marker, in.MaxItems},
	}
	if len(in.OrderedOrganizationPolicyInputList) > 0 {
		return nil, invalidInput("Organizations policies are not supported.")
	}
	if in.ResourcePolicy != nil && in.CallerArn == nil {
		return nil, invalidInput("CallerArn is required when ResourcePolicy is specified.")
	}
	err := s.view(ctx, func(tx *store.Tx) error {
		err := sim.input(in.PolicyInputList, in.PermissionsBoundaryPolicyInputList)
		if err == nil {
			err = sim.facts(s, tx, sc, "", in.CallerArn, in.ResourceOwner, in.ContextEntries)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	results, next, err := sim.run(sc)
	return &api.SimulateCustomPolicyOutput{EvaluationResults: results, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// SimulatePrincipalPolicy evaluates the policies of a user (with those of the
// user's groups), group or role, and any in the request.
func (s *Service) SimulatePrincipalPolicy(ctx context.Context, sc auth.Scope, in *api.SimulatePrincipalPolicyInput) (*api.SimulatePrincipalPolicyOutput, error) {
	sim := &simulation{
		sources: map[string]string{}, actions: in.ActionNames, resources: in.ResourceArns, policy: wire.Value(in.ResourcePolicy),
		listing: listing{in.Marker, in.MaxItems},
	}
	err := s.view(ctx, func(tx *store.Tx) error {
		held, err := s.source(tx, sc.Account, wire.Value(in.PolicySourceArn))
		if err != nil {
			return err
		}
		if err := sim.attached(s, tx, held, in.PolicyExclusionList); err != nil {
			return err
		}
		if err := sim.input(in.PolicyInputList, in.PermissionsBoundaryPolicyInputList); err != nil {
			return err
		}
		return sim.facts(s, tx, sc, wire.Value(in.PolicySourceArn), in.CallerArn, in.ResourceOwner, in.ContextEntries)
	})
	if err != nil {
		return nil, err
	}
	results, next, err := sim.run(sc)
	return &api.SimulatePrincipalPolicyOutput{EvaluationResults: results, Marker: next, IsTruncated: wire.Ptr(next != nil)}, err
}

// held is an entity with its kind.
type held struct {
	kind
	*entity
}

// source loads the user (and the user's groups), group or role of an ARN.
func (s *Service) source(tx *store.Tx, account, sourceARN string) ([]held, error) {
	a, err := arn.Parse(sourceARN)
	if err != nil || a.Service != "iam" || a.Account != account {
		return nil, invalidInput("Invalid Entity Arn: %s does not clearly define entity type and name.", sourceARN)
	}
	kind, rest := a.ResourceType()
	name := rest[strings.LastIndexByte(rest, '/')+1:]
	switch kind {
	case "group":
		g, err := s.group(tx, account, name)
		if err != nil {
			return nil, err
		}
		return []held{{groupKind, &g.entity}}, nil
	case "role":
		r, err := s.role(tx, account, name)
		if err != nil {
			return nil, err
		}
		return []held{{roleKind, &r.entity}}, nil
	case "user":
		u, err := s.user(tx, account, name)
		if err != nil {
			return nil, err
		}
		list, err := s.userGroups(tx, u)
		out := []held{{userKind, &u.entity}}
		for _, g := range list {
			out = append(out, held{groupKind, &g.entity})
		}
		return out, err
	}
	return nil, invalidInput("Invalid Entity Arn: %s does not clearly define entity type and name.", sourceARN)
}

// attached adds the policies of entities and the boundary of the first, except
// for those that the request leaves out.
func (sim *simulation) attached(s *Service, tx *store.Tx, list []held, except []api.PolicyIdentifier) error {
	for _, h := range list {
		docs, err := s.documents(tx, h.entity)
		if err != nil {
			return err
		}
		for i, d := range docs {
			source, of := d.Source, h.kind.name
			if excluded(except, h, d.Source, i < len(h.Inline)) {
				continue
			}
			switch {
			case i < len(h.Inline):
				source = h.kind.name + "_" + h.Name + "_" + d.Source
			case strings.HasPrefix(d.Source, "arn:aws:iam::"+managedAccount+":"):
				of = "aws-managed"
			default:
				of = "user-managed"
			}
			sim.sources[source] = of
			sim.policies.Identity = append(sim.policies.Identity, auth.Document{Source: source, Policy: d.Policy})
		}
	}
	if excluded(except, list[0], list[0].Boundary, false) {
		return nil
	}
	var err error
	sim.policies.Boundary, err = s.boundaryOf(tx, list[0].entity)
	return err
}

// excluded tells whether a PolicyExclusionList names a policy of an entity: a
// managed one by its ARN, an inline one by name and entity.
func excluded(list []api.PolicyIdentifier, h held, source string, inline bool) bool {
	return slices.ContainsFunc(list, func(id api.PolicyIdentifier) bool {
		if in := id.InlinePolicyIdentifier; in != nil {
			return inline && wire.Value(in.PolicyName) == source && strings.EqualFold(wire.Value(in.AttachmentName), h.Name) &&
				wire.Value(in.AttachmentType) == h.kind.name
		}
		return !inline && wire.Value(id.PolicyArn) == source && source != ""
	})
}

// input adds the policies of the request; boundaries in it replace the entity's.
func (sim *simulation) input(policies, boundaries []string) error {
	docs, err := parseAll("PolicyInputList", policies)
	if err != nil {
		return err
	}
	sim.policies.Identity = append(sim.policies.Identity, docs...)
	if len(boundaries) > 0 {
		if sim.policies.Boundary, err = parseAll("PermissionsBoundaryPolicyInputList", boundaries); err != nil {
			return err
		}
	}
	if sim.policy != "" {
		if _, err := auth.ParsePolicy(sim.policy); err != nil {
			return invalidInput("%s", err.Error())
		}
	}
	return nil
}

func parseAll(list string, documents []string) ([]auth.Document, error) {
	var out []auth.Document
	for i, d := range documents {
		p, err := auth.ParsePolicy(d)
		if err != nil {
			return nil, invalidInput("%s", err.Error())
		}
		out = append(out, auth.Document{Source: fmt.Sprintf("%s.%d", list, i+1), Policy: p})
	}
	return out, nil
}

// facts finds out who calls and what the condition keys are.
func (sim *simulation) facts(s *Service, tx *store.Tx, sc auth.Scope, source string, caller, owner *string, entries []api.ContextEntry) error {
	who := source
	if caller != nil {
		who = *caller
	}
	sim.caller = auth.Principal{Kind: auth.User, Account: sc.Account}
	if a, err := arn.Parse(who); err == nil && (a.Service == "iam" || a.Service == "sts") {
		kind, rest := a.ResourceType()
		sim.caller = auth.Principal{Kind: auth.User, Account: a.Account, ARN: who, Name: rest[strings.LastIndexByte(rest, '/')+1:]}
		switch kind {
		case "role":
			sim.caller.Kind, sim.caller.Role = auth.AssumedRole, who
		case "user":
			if u, err := s.user(tx, a.Account, sim.caller.Name); err == nil {
				sim.caller = u.principal()
			}
		}
	} else if caller != nil {
		return invalidInput("Invalid CallerArn: %s", who)
	}
	sim.owner = sim.caller.Account
	if owner != nil {
		a, err := arn.Parse(*owner)
		if err != nil {
			return invalidInput("Invalid ResourceOwner: %s", *owner)
		}
		sim.owner = a.Account
	}
	sim.context = map[string][]string{}
	for _, e := range entries {
		sim.context[wire.Value(e.ContextKeyName)] = e.ContextKeyValues
	}
	if len(sim.resources) == 0 {
		sim.resources = []string{"*"}
	}
	return nil
}

// run evaluates every action on every resource.
func (sim *simulation) run(sc auth.Scope) ([]api.EvaluationResult, *string, error) {
	p, err := sim.listing.page()
	if err != nil {
		return nil, nil, err
	}
	type pair struct{ action, resource string }
	var pairs []pair
	for _, a := range sim.actions {
		if !strings.Contains(a, ":") {
			return nil, nil, invalidInput("Invalid Action: %s", a)
		}
		for _, r := range sim.resources {
			pairs = append(pairs, pair{a, r})
		}
	}
	pairs, next := cut(p, pairs, func(p pair) string { return p.action + " " + p.resource })
	out := []api.EvaluationResult{}
	for _, p := range pairs {
		out = append(out, sim.one(sc, p.action, p.resource))
	}
	return out, next, nil
}

func (sim *simulation) one(sc auth.Scope, action, resource string) api.EvaluationResult {
	scope := auth.NewScope(sim.caller, sc.Region, auth.Request{Time: sc.Request.Time})
	e := auth.Evaluation{
		Scope:    scope,
		Access:   auth.Access{Action: action, Resource: resource, Owner: sim.owner, Context: sim.context, Policy: sim.policy},
		Policies: sim.policies, Explain: true,
	}
	d := auth.Evaluate(e)
	out := api.EvaluationResult{
		EvalActionName: wire.Ptr(action), EvalResourceName: wire.Ptr(resource), EvalDecision: effect(d.Effect),
		MatchedStatements: []api.Statement{}, MissingContextValues: []string{},
	}
	keys := contextKeys(slices.Concat(sim.policies.Identity, sim.policies.Boundary, resourceDocument(sim.policy)))
	for _, m := range d.Missing {
		for _, k := range keys {
			if strings.EqualFold(k, m) {
				m = k
			}
		}
		out.MissingContextValues = append(out.MissingContextValues, m)
	}
	for _, m := range d.Matched {
		if decides(m, d) {
			out.MatchedStatements = append(out.MatchedStatements, sim.statement(m))
		}
	}
	if sim.policies.Boundary != nil {
		e.Policies, e.Access.Policy = auth.Policies{Identity: sim.policies.Boundary}, ""
		e.Access.Owner, e.Explain = "", false
		out.PermissionsBoundaryDecisionDetail = &api.PermissionsBoundaryDecisionDetail{
			AllowedByPermissionsBoundary: wire.Ptr(auth.Evaluate(e).Allowed()),
		}
	}
	return out
}

// decides says whether a statement belongs to the decision: the denying ones of
// an explicit deny, the allowing ones of an allow.
func decides(m auth.Match, d auth.Decision) bool {
	switch d.Effect {
	case auth.ExplicitDeny:
		return m.Statement.Deny
	case auth.Allow:
		return !m.Statement.Deny && m.Layer != auth.Boundary
	}
	return false
}

func effect(e auth.Effect) *string {
	switch e {
	case auth.Allow:
		return wire.Ptr("allowed")
	case auth.ExplicitDeny:
		return wire.Ptr("explicitDeny")
	}
	return wire.Ptr("implicitDeny")
}

func (sim *simulation) statement(m auth.Match) api.Statement {
	source, of := m.Source, sim.sources[m.Source]
	if m.Layer == auth.ResourcePolicy {
		source, of = "ResourcePolicy", "resource"
	}
	if of == "" {
		of = "none"
	}
	at := func(p auth.Position) *api.Position {
		return &api.Position{Line: wire.Ptr(int32(p.Line)), Column: wire.Ptr(int32(p.Column))}
	}
	return api.Statement{
		SourcePolicyId: wire.Ptr(source), SourcePolicyType: wire.Ptr(of),
		StartPosition: at(m.Statement.Start), EndPosition: at(m.Statement.End),
	}
}

func resourceDocument(policy string) []auth.Document {
	if p, err := auth.ParsePolicy(policy); policy != "" && err == nil {
		return []auth.Document{{Policy: p}}
	}
	return nil
}
