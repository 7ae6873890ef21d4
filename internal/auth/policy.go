package auth

// Policy is a parsed policy document. It never changes and may be shared.
type Policy struct {
	Version    string
	ID         string
	Statements []Statement
}

// Statement is one statement of a policy.
type Statement struct {
	SID        string
	Index      int // from 0
	Deny       bool
	Start, End Position // in the document, as the simulators report it
}

// Position is a place in a policy document; both count from 1.
type Position struct{ Line, Column int }

// PolicyError says why a text is no valid policy, in IAM's words. Services give
// it their own code (MalformedPolicyDocument, MalformedPolicy, ...).
type PolicyError struct{ Reason string }

// Error implements error.
func (e *PolicyError) Error() string { return e.Reason }

// ParsePolicy reads a policy document. Policies are kept by content, so that
// parsing the same text again costs a look-up. The error is a *PolicyError.
func ParsePolicy(doc string) (*Policy, error) { return nil, &PolicyError{"Syntax errors in policy."} }

// CheckIdentity returns a *PolicyError unless the policy may be attached to a
// user, group or role, or serve as a boundary or session policy.
func (p *Policy) CheckIdentity() error { return nil }

// CheckResource returns a *PolicyError unless the policy may be a resource's.
func (p *Policy) CheckResource() error { return nil }

// CheckTrust returns a *PolicyError unless the policy may be a role's trust
// policy.
func (p *Policy) CheckTrust() error { return nil }
