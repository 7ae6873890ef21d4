package auth

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// grant tells how directly a resource's policy names the caller; the more direct,
// the fewer other policies limit it.
type grant uint8

const (
	noGrant      grant = iota
	toAccount          // the account: its administrator decides further
	toRole             // the role, whose boundary and session policies still limit
	toPrincipal        // the user or session itself, or everyone
	maximumGrant = toPrincipal
)

// CanonicalUser returns the canonical user id of an account, which S3's access
// control lists and the CanonicalUser principal use: 64 hexadecimal digits.
func CanonicalUser(account string) string {
	sum := sha256.Sum256([]byte("skerry canonical user " + account))
	return hex.EncodeToString(sum[:])
}

// grants tells how a Principal element names p.
func (ps *Principals) grants(p *Principal) grant {
	best := noGrant
	if ps.Everyone {
		best = toPrincipal
	}
	switch p.Kind {
	case Anonymous:
		return best
	case Service:
		if contains(ps.Service, p.Service) {
			best = toPrincipal
		}
		return best
	case Identity: // belongs to no account, whatever role it is about to assume
		if p.Session.Federated != "" && slices.Contains(ps.Federated, p.Session.Federated) {
			best = toPrincipal
		}
		return best
	}
	for _, name := range ps.AWS {
		best = max(best, awsGrant(name, p))
	}
	if len(ps.Canonical) > 0 && p.Account != "" && contains(ps.Canonical, CanonicalUser(p.Account)) {
		best = max(best, toAccount)
	}
	return best
}

func awsGrant(name string, p *Principal) grant {
	if p.Account == "" {
		return noGrant
	}
	switch {
	case name == p.Account || isRootARN(name, p.Account):
		if p.Kind == Root {
			return toPrincipal
		}
		return toAccount
	case name == p.ARN:
		return toPrincipal
	case p.Kind == AssumedRole && name == p.Role:
		return toRole
	case p.ID != "" && strings.HasPrefix(name, "A") && strings.HasPrefix(p.ID, name):
		switch id, session, _ := strings.Cut(p.ID, ":"); {
		case name == id && session != "":
			return toRole
		case name == p.ID:
			return toPrincipal
		}
	}
	return noGrant
}

func isRootARN(name, account string) bool {
	const head, tail = "arn:aws:iam::", ":root"
	return len(name) == len(head)+len(account)+len(tail) && strings.HasPrefix(name, head) &&
		strings.HasSuffix(name, tail) && name[len(head):len(head)+len(account)] == account
}

// spares tells whether a NotPrincipal element leaves p out. As AWS says, the
// account, the role and the session must all be listed for that.
func (ps *Principals) spares(p *Principal) bool {
	if ps.Everyone {
		return true
	}
	switch p.Kind {
	case Anonymous:
		return false
	case Service, Identity, Root:
		return ps.grants(p) != noGrant
	}
	account, role, self := false, p.Kind != AssumedRole, false
	for _, name := range ps.AWS {
		switch awsGrant(name, p) {
		case toAccount:
			account = true
		case toRole:
			role = true
		case toPrincipal:
			self = true
		}
	}
	return account && role && self
}

func contains(list []string, s string) bool {
	for _, item := range list {
		if item == s || item == "*" {
			return true
		}
	}
	return false
}
