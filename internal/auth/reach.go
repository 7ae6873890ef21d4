package auth

import "slices"

// What a policy may allow at all, whatever the request: iam reports it.

// Reaches tells whether the policies may allow an action on something. Conditions
// of what allows are taken to hold, those of what denies not to.
func Reaches(policies []*Policy, action string) bool {
	action = lower(action)
	for _, p := range policies {
		for i := range p.Statements {
			if s := &p.Statements[i]; !s.Deny && s.takesIn(action) && s.leaves(policies, action) {
				return true
			}
		}
	}
	return false
}

// takesIn tells whether a statement is about an action, given in lower case.
func (s *Statement) takesIn(action string) bool {
	if s.Action != nil {
		return matchAny(s.actions, action, false, nil)
	}
	return !matchAny(s.notActions, action, false, nil)
}

// leaves tells whether some resource of an allowing statement is left when all that
// is denied is taken away.
func (s *Statement) leaves(policies []*Policy, action string) bool {
	resources := s.Resource
	if resources == nil {
		if slices.Contains(s.NotResource, "*") {
			return false
		}
		resources = []string{"*"}
	}
	for _, r := range resources {
		if !denies(policies, action, r) {
			return true
		}
	}
	return false
}

// denies tells whether an action is denied without a condition on all that a
// pattern of resources stands for.
func denies(policies []*Policy, action, resource string) bool {
	for _, p := range policies {
		for i := range p.Statements {
			s := &p.Statements[i]
			if !s.Deny || len(s.Conditions) > 0 || !s.takesIn(action) {
				continue
			}
			for j := range s.resources {
				if s.Resource[j] == resource || s.resources[j].match(resource, nothing{}) {
					return true
				}
			}
		}
	}
	return false
}

// nothing is a resolver without a value for any policy variable.
type nothing struct{}

func (nothing) variable(string) (string, bool) { return "", false }
