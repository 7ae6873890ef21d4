package auth

// Effect is the outcome of an evaluation.
type Effect uint8

// The outcomes. ImplicitDeny is that no statement allows.
const (
	ImplicitDeny Effect = iota
	ExplicitDeny
	Allow
)

// Layer is a kind of policy, in the words of AWS's error texts.
type Layer string

// The kinds of policies.
const (
	IdentityPolicy Layer = "identity-based policy"
	ResourcePolicy Layer = "resource-based policy"
	Boundary       Layer = "permissions boundary"
	SessionPolicy  Layer = "session policy"
)

// Evaluation is a question: may the scope's principal have this access?
type Evaluation struct {
	Scope    Scope
	Access   Access
	Policies Policies // of the principal
	// Explain asks for Decision.Matched and Decision.Missing, which cost time.
	Explain bool
}

// Match is a statement that applied to a request.
type Match struct {
	Layer     Layer
	Source    string // of the Document; empty for a resource's policy
	Statement *Statement
}

// Decision is the answer, with its reason.
type Decision struct {
	Effect Effect
	// Layer is the kind of policy that decided: the one with the deciding
	// statement or, for an implicit deny, the one that lacks a statement. It is
	// empty when no policy was needed: root in its own account.
	Layer Layer
	// Deciding is the statement that decided; nil for an implicit deny.
	Deciding *Match
	// Matched holds all statements that applied; Missing the condition keys, in
	// lower case, that were asked for and not there. Both only if Explain was set.
	Matched []Match
	Missing []string
	// Err tells of a resource's policy that could not be read. The access is denied.
	Err error
}

// Allowed tells whether the access is granted.
func (d Decision) Allowed() bool { return d.Effect == Allow }

// Reason returns the end of AWS's "is not authorized" texts: "because no
// identity-based policy allows the s3:GetObject action" or "with an explicit
// deny in a resource-based policy". Page: "Troubleshoot access denied error
// messages".
func (d Decision) Reason(action string) string {
	if d.Effect == ExplicitDeny {
		article := "a "
		if d.Layer == IdentityPolicy {
			article = "an "
		}
		return "with an explicit deny in " + article + string(d.Layer)
	}
	return "because no " + string(d.Layer) + " allows the " + action + " action"
}

// result is what one kind of policy says: the first denying and the first
// allowing statement, and for resource policies how directly it allows.
type result struct {
	deny, allow *Statement
	denySource  string
	allowSource string
	grant       grant
}

// Evaluate decides as the page "Policy evaluation logic" says: an explicit deny
// in any policy wins; then the resource's policy and the principal's policies
// allow, as far as its boundary and session policies do, too.
func Evaluate(e Evaluation) Decision {
	v := evaluator{e: &e, action: lower(e.Access.Action)}
	v.facts = facts{scope: &e.Scope, access: &e.Access}
	if e.Explain {
		v.facts.missing = &v.d.Missing
	}
	v.run()
	return v.d
}

type evaluator struct {
	e      *Evaluation
	action string
	facts  facts
	d      Decision
}

func (v *evaluator) run() {
	var resource result
	if doc := v.e.Access.Policy; doc != "" {
		p, err := ParsePolicy(doc)
		if err != nil {
			v.d.Layer, v.d.Err = ResourcePolicy, err
			return
		}
		v.scan(ResourcePolicy, Document{Policy: p}, &resource)
	}
	var identity, boundary, session result
	v.scanAll(IdentityPolicy, v.e.Policies.Identity, &identity)
	v.scanAll(Boundary, v.e.Policies.Boundary, &boundary)
	v.scanAll(SessionPolicy, v.e.Policies.Session, &session)
	denied := v.denies(ResourcePolicy, &resource) || v.denies(IdentityPolicy, &identity) ||
		v.denies(Boundary, &boundary) || v.denies(SessionPolicy, &session)
	if denied {
		return
	}
	switch v.e.Scope.Principal.Kind {
	case Anonymous, Service, Identity:
		v.byResourceAlone(&resource)
	case Root:
		v.asRoot(&resource)
	default:
		v.asPrincipal(&resource, &identity, &boundary, &session)
	}
}

// byResourceAlone decides for callers that have no policies.
func (v *evaluator) byResourceAlone(resource *result) {
	if resource.grant == noGrant && !v.e.Access.ACL {
		v.d.Layer = ResourcePolicy
		return
	}
	v.allowed(ResourcePolicy, resource)
}

// asRoot decides for the root user, who may do anything in the own account
// except what a resource's policy must grant.
func (v *evaluator) asRoot(resource *result) {
	switch {
	case resource.grant != noGrant:
		v.allowed(ResourcePolicy, resource)
	case v.e.Access.Strict || !v.sameAccount() && !v.e.Access.ACL:
		v.d.Layer = ResourcePolicy
	default:
		v.d.Effect = Allow
	}
}

func (v *evaluator) asPrincipal(resource, identity, boundary, session *result) {
	same, strict := v.sameAccount(), v.e.Access.Strict
	byResource := resource.grant != noGrant || v.e.Access.ACL && !strict
	if same && (resource.grant == toPrincipal || v.e.Access.ACL && !strict) {
		v.allowed(ResourcePolicy, resource)
		return
	}
	if (strict || !same) && !byResource {
		v.d.Layer = ResourcePolicy
		return
	}
	layer, by := IdentityPolicy, identity
	if identity.allow == nil {
		if !same || resource.grant != toRole {
			v.d.Layer = IdentityPolicy
			return
		}
		layer, by = ResourcePolicy, resource
	}
	switch {
	case v.e.Policies.Boundary != nil && boundary.allow == nil:
		v.d.Layer = Boundary
	case v.e.Policies.Session != nil && session.allow == nil:
		v.d.Layer = SessionPolicy
	default:
		v.allowed(layer, by)
	}
}

func (v *evaluator) sameAccount() bool {
	return v.e.Access.Owner == "" || v.e.Access.Owner == v.e.Scope.Principal.Account
}

func (v *evaluator) denies(layer Layer, r *result) bool {
	if r.deny == nil {
		return false
	}
	v.d.Effect, v.d.Layer = ExplicitDeny, layer
	v.d.Deciding = &Match{layer, r.denySource, r.deny}
	return true
}

func (v *evaluator) allowed(layer Layer, r *result) {
	v.d.Effect, v.d.Layer = Allow, layer
	if r.allow != nil {
		v.d.Deciding = &Match{layer, r.allowSource, r.allow}
	}
}

func (v *evaluator) scanAll(layer Layer, docs []Document, r *result) {
	for _, doc := range docs {
		if doc.Policy != nil {
			v.scan(layer, doc, r)
		}
	}
}

// scan looks for the statements of a policy that apply. Without Explain it stops
// at what cannot change the outcome.
func (v *evaluator) scan(layer Layer, doc Document, r *result) {
	for i := range doc.Policy.Statements {
		s := &doc.Policy.Statements[i]
		if !v.e.Explain && (r.deny != nil || !s.Deny && r.allow != nil && (layer != ResourcePolicy || r.grant == maximumGrant)) {
			continue
		}
		g := maximumGrant
		if layer == ResourcePolicy {
			g = s.names(&v.e.Scope.Principal)
		}
		if g == noGrant || !v.applies(s) {
			continue
		}
		if v.e.Explain {
			v.d.Matched = append(v.d.Matched, Match{layer, doc.Source, s})
		}
		switch {
		case s.Deny && r.deny == nil:
			r.deny, r.denySource = s, doc.Source
		case !s.Deny && g > r.grant:
			r.allow, r.allowSource, r.grant = s, doc.Source, g
		}
	}
}

// names tells how the statement of a resource's policy names a principal.
func (s *Statement) names(p *Principal) grant {
	switch {
	case s.Principal != nil:
		return s.Principal.grants(p)
	case s.NotPrincipal != nil && !s.NotPrincipal.spares(p):
		return toPrincipal
	}
	return noGrant
}

// applies tells whether action, resource and conditions of a statement fit.
func (v *evaluator) applies(s *Statement) bool {
	if !s.takesIn(v.action) {
		return false
	}
	switch {
	case s.Resource != nil:
		if !v.names(s.resources) {
			return false
		}
	case s.NotResource != nil:
		if v.names(s.notResources) || !s.Deny && !resolvable(nil, s.notResources, &v.facts) {
			return false
		}
	}
	for i := range s.Conditions {
		if !s.Conditions[i].holds(&v.facts, !s.Deny) {
			return false
		}
	}
	return true
}

func (v *evaluator) names(resources []arnPattern) bool {
	for i := range resources {
		if resources[i].match(v.e.Access.Resource, &v.facts) {
			return true
		}
	}
	return false
}
