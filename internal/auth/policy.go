package auth

import (
	"strings"
	"sync"
)

// Policy is a parsed policy document. It never changes and may be shared.
type Policy struct {
	Version    string // 2008-10-17 if the document has none
	ID         string
	Statements []Statement
	versioned  bool
}

// Statement is one statement of a policy.
type Statement struct {
	SID        string
	Index      int // from 0
	Deny       bool
	Start, End Position // in the document, as the simulators report it

	// As written; nil if the element is absent.
	Action, NotAction       []string
	Resource, NotResource   []string
	Principal, NotPrincipal *Principals
	Conditions              []Condition

	actions, notActions     []pattern
	resources, notResources []arnPattern
}

// Position is a place in a policy document; both count from 1.
type Position struct{ Line, Column int }

// Principals is a Principal or NotPrincipal element.
type Principals struct {
	Everyone  bool // "*", or AWS: "*"
	AWS       []string
	Service   []string
	Federated []string
	Canonical []string // S3's CanonicalUser
}

// PolicyError says why a text is no valid policy, in IAM's words. Services give
// it their own code (MalformedPolicyDocument, MalformedPolicy, ...).
type PolicyError struct{ Reason string }

// Error implements error.
func (e *PolicyError) Error() string { return e.Reason }

// parsed remembers policies by their text. ParsePolicy is a pure function, so
// this can be dropped at any time and is the same for everybody.
var parsed policyCache

type policyCache struct {
	mu struct {
		sync.Mutex
		young, old map[string]*Policy
		size       int // of the texts in young
	}
}

const (
	generation    = 4 << 20 // bytes of text in each half of the cache
	maxPolicySize = 1 << 20 // bytes; no service takes near as much
)

func (c *policyCache) get(doc string) *Policy {
	c.mu.Lock()
	defer c.mu.Unlock()
	if p := c.mu.young[doc]; p != nil {
		return p
	}
	p := c.mu.old[doc]
	if p != nil {
		c.putLocked(doc, p)
	}
	return p
}

func (c *policyCache) put(doc string, p *Policy) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.putLocked(doc, p)
}

func (c *policyCache) putLocked(doc string, p *Policy) {
	if c.mu.young == nil || c.mu.size >= generation {
		c.mu.old, c.mu.young, c.mu.size = c.mu.young, make(map[string]*Policy), 0
	}
	c.mu.young[strings.Clone(doc)] = p
	c.mu.size += len(doc)
}

// ParsePolicy reads a policy document. Policies are kept by content, so that
// parsing the same text again costs a look-up. The error is a *PolicyError.
func ParsePolicy(doc string) (*Policy, error) {
	if p := parsed.get(doc); p != nil {
		return p, nil
	}
	if len(doc) > maxPolicySize {
		return nil, &PolicyError{errSyntax}
	}
	p, err := parsePolicy(doc)
	if err != nil {
		return nil, err
	}
	parsed.put(doc, p)
	return p, nil
}

const errSyntax = "Syntax errors in policy."

func parsePolicy(doc string) (*Policy, error) {
	root, err := parseJSON(doc)
	if err != nil || root.kind != '{' {
		return nil, &PolicyError{errSyntax}
	}
	p := &Policy{Version: "2008-10-17"}
	var statements []node
	for i, name := range root.names {
		value := root.list[i]
		switch {
		case name == "Version" && (value.text == "2012-10-17" || value.text == "2008-10-17"):
			p.Version, p.versioned = value.text, true
		case name == "Id" && value.kind == 's':
			p.ID = value.text
		case name == "Statement" && value.kind == '{':
			statements = []node{value}
		case name == "Statement" && value.kind == '[':
			statements = value.list
		default:
			return nil, &PolicyError{errSyntax}
		}
	}
	if len(statements) == 0 {
		return nil, &PolicyError{errSyntax}
	}
	p.Statements = make([]Statement, len(statements))
	for i := range statements {
		s := &p.Statements[i]
		s.Index, s.Start, s.End = i, position(doc, statements[i].start), position(doc, statements[i].end)
		if err := s.parse(&statements[i], p.Version == "2012-10-17"); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (s *Statement) parse(n *node, vars bool) error {
	if n.kind != '{' {
		return &PolicyError{errSyntax}
	}
	ok, effect := true, ""
	var condition *node
	for i, name := range n.names {
		value := &n.list[i]
		good := true
		switch name {
		case "Sid":
			s.SID, good = value.text, value.kind == 's'
		case "Effect":
			effect, good = value.text, value.kind == 's'
		case "Action":
			s.Action, good = value.strings(false)
		case "NotAction":
			s.NotAction, good = value.strings(false)
		case "Resource":
			s.Resource, good = value.strings(false)
		case "NotResource":
			s.NotResource, good = value.strings(false)
		case "Principal":
			s.Principal, good = parsePrincipals(value)
		case "NotPrincipal":
			s.NotPrincipal, good = parsePrincipals(value)
		case "Condition":
			condition = value
		default:
			good = false
		}
		ok = ok && good
	}
	both := s.Action != nil && s.NotAction != nil || s.Resource != nil && s.NotResource != nil ||
		s.Principal != nil && s.NotPrincipal != nil
	if !ok || both || effect != "Allow" && effect != "Deny" {
		return &PolicyError{errSyntax}
	}
	s.Deny = effect == "Deny"
	if len(s.Action)+len(s.NotAction) == 0 {
		return &PolicyError{"Policy statement must contain actions."}
	}
	if err := checkActions(s.Action, s.NotAction); err != nil {
		return err
	}
	s.actions, s.notActions = compileActions(s.Action), compileActions(s.NotAction)
	s.resources, s.notResources = compileResources(s.Resource, vars), compileResources(s.NotResource, vars)
	if condition != nil {
		return s.parseConditions(condition, vars)
	}
	return nil
}

func parsePrincipals(n *node) (*Principals, bool) {
	p := &Principals{}
	if n.kind == 's' {
		p.Everyone = n.text == "*"
		return p, p.Everyone
	}
	if n.kind != '{' {
		return nil, false
	}
	for i, kind := range n.names {
		names, ok := n.list[i].strings(false)
		if !ok {
			return nil, false
		}
		switch kind {
		case "AWS":
			for _, name := range names {
				if name == "*" {
					p.Everyone = true
					continue
				}
				p.AWS = append(p.AWS, name)
			}
		case "Service":
			p.Service = names
		case "Federated":
			p.Federated = names
		case "CanonicalUser":
			p.Canonical = names
		default:
			return nil, false
		}
	}
	return p, true
}

func compileActions(actions []string) []pattern {
	out := make([]pattern, len(actions))
	for i, a := range actions {
		out[i] = compile(a, true, false, true)
	}
	return out
}

func compileResources(resources []string, vars bool) []arnPattern {
	out := make([]arnPattern, len(resources))
	for i, r := range resources {
		out[i] = compileARN(r, vars)
	}
	return out
}
