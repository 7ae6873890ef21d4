package auth

import (
	"regexp"
	"strings"

	"skerry/internal/base/arn"
)

// The checks that IAM makes when a policy is stored, and their texts. Page:
// "IAM JSON policy elements reference"; the texts are those that the real
// service answers.

var (
	sidOK    = regexp.MustCompile(`^[0-9A-Za-z]*$`)
	vendorOK = regexp.MustCompile(`^[0-9A-Za-z.-]+$`)
)

// checkActions checks the form of actions.
func checkActions(lists ...[]string) error {
	for _, list := range lists {
		for _, a := range list {
			vendor, _, colon := strings.Cut(a, ":")
			switch {
			case a == "*":
			case !colon:
				return &PolicyError{"Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."}
			case strings.Count(a, ":") > 1:
				return &PolicyError{"Actions/Condition can contain only one colon."}
			case vendor != "*" && !vendorOK.MatchString(vendor):
				return &PolicyError{"Vendor " + vendor + " is not valid"}
			}
		}
	}
	return nil
}

// CheckIdentity returns a *PolicyError unless the policy may be attached to a
// user, group or role, or serve as a boundary or session policy.
func (p *Policy) CheckIdentity() error {
	if p.Version != "2012-10-17" && !p.versioned {
		return &PolicyError{"Policy document must be version 2012-10-17 or greater."}
	}
	if err := p.checkSIDs(true); err != nil {
		return err
	}
	for i := range p.Statements {
		s := &p.Statements[i]
		if s.Principal != nil || s.NotPrincipal != nil {
			return &PolicyError{"Policy document should not specify a principal."}
		}
		if len(s.Resource)+len(s.NotResource) == 0 {
			return &PolicyError{"Policy statement must contain resources."}
		}
		for _, r := range append(s.Resource[:len(s.Resource):len(s.Resource)], s.NotResource...) {
			if err := checkResource(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// CheckResource returns a *PolicyError unless the policy may be a resource's:
// every statement needs a principal. What resources it may name is for its
// service to check.
func (p *Policy) CheckResource() error {
	if err := p.checkSIDs(false); err != nil {
		return err
	}
	for i := range p.Statements {
		s := &p.Statements[i]
		if s.Principal == nil && s.NotPrincipal == nil {
			return &PolicyError{"Missing required field Principal"}
		}
		if len(s.Resource)+len(s.NotResource) == 0 {
			return &PolicyError{"Missing required field Resource"}
		}
		if err := s.checkPrincipals(); err != nil {
			return err
		}
	}
	return nil
}

// CheckTrust returns a *PolicyError unless the policy may be a role's trust
// policy.
func (p *Policy) CheckTrust() error {
	if err := p.checkSIDs(true); err != nil {
		return err
	}
	for i := range p.Statements {
		s := &p.Statements[i]
		switch {
		case s.Resource != nil || s.NotResource != nil:
			return &PolicyError{"Has prohibited field Resource"}
		case s.Principal == nil && s.NotPrincipal == nil:
			return &PolicyError{"Missing required field Principal"}
		case s.NotPrincipal != nil && !s.Deny:
			return &PolicyError{"AssumeRole policy may only specify NotPrincipal with Deny."}
		}
		for _, a := range append(s.Action[:len(s.Action):len(s.Action)], s.NotAction...) {
			if l := lower(a); !strings.HasPrefix(l, "sts:") {
				return &PolicyError{"AssumeRole policy may only specify STS AssumeRole actions."}
			}
		}
		if err := s.checkPrincipals(); err != nil {
			return err
		}
	}
	return nil
}

func (p *Policy) checkSIDs(strict bool) error {
	seen := map[string]bool{}
	for i := range p.Statements {
		sid := p.Statements[i].SID
		if strict && !sidOK.MatchString(sid) {
			return &PolicyError{"Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*"}
		}
		if sid != "" && seen[sid] {
			return &PolicyError{"Statement IDs (SID) in a single policy must be unique."}
		}
		seen[sid] = true
	}
	return nil
}

// checkPrincipals checks the form of the AWS principals; whether they exist is
// for the services to ask the directory.
func (s *Statement) checkPrincipals() error {
	for _, ps := range []*Principals{s.Principal, s.NotPrincipal} {
		if ps == nil {
			continue
		}
		for _, name := range ps.AWS {
			if !principalForm(name) {
				return &PolicyError{`Invalid principal in policy: "AWS":"` + name + `"`}
			}
		}
		for _, name := range ps.Service {
			if name != "*" && !strings.Contains(name, ".") || strings.ContainsAny(name, "*?:") && name != "*" {
				return &PolicyError{`Invalid principal in policy: "SERVICE":"` + name + `"`}
			}
		}
	}
	return nil
}

var uniqueID = regexp.MustCompile(`^A[A-Z0-9]{15,127}$`)

func principalForm(name string) bool {
	if isAccount(name) || uniqueID.MatchString(name) {
		return true
	}
	a, err := arn.Parse(name)
	if err != nil || a.Partition != arn.Partition || a.Region != "" || strings.ContainsAny(name, "*?") {
		return false
	}
	if !isAccount(a.Account) {
		return a.Service == "iam" && a.Account == "cloudfront" // an origin access identity
	}
	kind, id := a.ResourceType()
	switch a.Service {
	case "iam":
		return a.Resource == "root" || (kind == "user" || kind == "role") && id != ""
	case "sts":
		return (kind == "assumed-role" || kind == "federated-user") && id != ""
	}
	return false
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

var iamPaths = []string{
	"user/", "federated-user/", "role/", "group/", "instance-profile/", "mfa/", "server-certificate/", "policy/",
	"sms-mfa/", "saml-provider/", "oidc-provider/", "report/", "access-report/",
}

// checkResource checks a Resource of an identity policy.
func checkResource(r string) error {
	if r == "*" {
		return nil
	}
	parts := strings.SplitN(r, ":", 6)
	if len(parts) < 2 || parts[0] != "arn" {
		return &PolicyError{`Resource ` + r + ` must be in ARN format or "*".`}
	}
	if parts[1] != "aws" && parts[1] != "*" {
		rest := []string{"*", "*", "*", "*"}
		for i, p := range parts[2:] {
			if p != "" || len(parts) > 3 {
				rest[i] = p
			}
		}
		return &PolicyError{`Partition "` + parts[1] + `" is not valid for resource "arn:` + parts[1] + ":" + strings.Join(rest, ":") + `".`}
	}
	if len(parts) == 2 {
		return &PolicyError{"Resource vendor must be fully qualified and cannot contain regexes."}
	}
	if len(parts) < 6 {
		return nil
	}
	switch service, region, path := parts[2], parts[3], parts[5]; {
	case service == "s3" && region != "" && region != "*":
		return &PolicyError{"Resource " + r + " can not contain region information."}
	case service == "iam" && region != "" && region != "*":
		return &PolicyError{"IAM resource " + r + " cannot contain region information."}
	case service == "iam" && !iamPath(path):
		return &PolicyError{`IAM resource path must either be "*" or start with ` + strings.Join(iamPaths, ", ") + "."}
	}
	return nil
}

func iamPath(path string) bool {
	if path == "root" || strings.HasPrefix(path, "*") {
		return true
	}
	for _, p := range iamPaths {
		if strings.HasPrefix(path, p) || strings.HasPrefix(path, "*") || path == strings.TrimSuffix(p, "/")+"*" {
			return true
		}
	}
	return false
}
