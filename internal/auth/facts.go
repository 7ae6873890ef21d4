package auth

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// facts answers for condition keys: those of the access first, then the global
// ones from the scope. Page: "AWS global condition context keys".
type facts struct {
	scope   *Scope
	access  *Access
	missing *[]string // keys asked for and absent, if wanted
	one     [1]string // backs a single value, to save its allocation
}

// values returns the values of a key, given in lower case; none if it is absent.
func (f *facts) values(key string) []string {
	v := f.find(key)
	if len(v) == 0 && f.missing != nil && !slices.Contains(*f.missing, key) {
		*f.missing = append(*f.missing, key)
	}
	return v
}

// variable implements resolver.
func (f *facts) variable(key string) (string, bool) {
	if v := f.values(key); len(v) == 1 {
		return v[0], true
	}
	return "", false
}

func (f *facts) find(key string) []string {
	if v, ok := f.access.Context[key]; ok {
		return v
	}
	for k, v := range f.access.Context {
		if len(k) == len(key) && lower(k) == key {
			return v
		}
	}
	service, name, _ := strings.Cut(key, ":")
	value := ""
	switch service {
	case "aws":
		value = f.global(name)
	case "s3":
		value = f.signing(name)
	}
	if value == "" {
		value = f.session(key)
	}
	if value == "" {
		return nil
	}
	f.one[0] = value
	return f.one[:]
}

// global returns a key of the aws: family, "" if it is absent.
func (f *facts) global(name string) string {
	p, r := &f.scope.Principal, &f.scope.Request
	switch name {
	case "currenttime":
		return r.Time.UTC().Format(time.RFC3339)
	case "epochtime":
		return strconv.FormatInt(r.Time.Unix(), 10)
	case "sourceip":
		return r.SourceIP
	case "useragent":
		return r.UserAgent
	case "referer":
		return r.Referer
	case "securetransport":
		return strconv.FormatBool(r.Secure)
	case "requestedregion":
		return f.scope.Region
	case "viaawsservice":
		return strconv.FormatBool(r.ViaService)
	case "sourcearn":
		return r.SourceARN
	case "sourceaccount":
		return r.SourceAccount
	case "resourceaccount":
		if f.access.Owner != "" {
			return f.access.Owner
		}
		return p.Account
	}
	return principalKey(p, name, r.Time)
}

// principalKey returns the keys that tell of the caller.
func principalKey(p *Principal, name string, now time.Time) string {
	if tag, ok := strings.CutPrefix(name, "principaltag/"); ok {
		for k, v := range p.Tags {
			if lower(k) == tag {
				return v
			}
		}
		return ""
	}
	switch name {
	case "principalarn":
		if p.Kind == AssumedRole && p.Role != "" {
			return p.Role
		}
		return p.ARN
	case "principalaccount":
		return p.Account
	case "principaltype":
		return p.Kind.String()
	case "principalisawsservice":
		return strconv.FormatBool(p.Kind == Service)
	case "principalservicename":
		return p.Service
	case "principalservicenameslist":
		return p.Service
	case "userid":
		if p.Kind == Anonymous {
			return "anonymous"
		}
		return p.ID
	case "username":
		if p.Kind == User {
			return p.Name
		}
	case "federatedprovider":
		return p.Session.Federated
	case "sourceidentity":
		return p.Session.SourceIdentity
	case "tokenissuetime":
		if !p.Session.Issued.IsZero() {
			return p.Session.Issued.UTC().Format(time.RFC3339)
		}
	case "multifactorauthpresent":
		if !p.Session.Issued.IsZero() {
			return strconv.FormatBool(p.Session.MFA)
		}
	case "multifactorauthage":
		if p.Session.MFA {
			return strconv.FormatInt(int64(now.Sub(p.Session.Issued)/time.Second), 10)
		}
	}
	return ""
}

// signing returns the S3 keys that tell how the request was signed. Page:
// "Amazon S3 Signature Version 4 authentication specific policy keys".
func (f *facts) signing(name string) string {
	m := &f.scope.Request.Auth
	switch name {
	case "authtype":
		return m.Type
	case "signatureversion":
		return m.Version
	case "signatureage":
		if !m.SignedAt.IsZero() && m.Type == "REST-QUERY-STRING" {
			return strconv.FormatInt(f.scope.Request.Time.Sub(m.SignedAt).Milliseconds(), 10)
		}
	case "x-amz-content-sha256":
		return m.ContentSHA
	}
	return ""
}

// session returns what the session brought along, such as a token's claims.
func (f *facts) session(key string) string {
	for k, v := range f.scope.Principal.Session.Context {
		if lower(k) == key {
			return v
		}
	}
	return ""
}

// String returns the value of aws:PrincipalType.
func (k Kind) String() string {
	switch k {
	case Root:
		return "Account"
	case User:
		return "User"
	case AssumedRole:
		return "AssumedRole"
	case FederatedUser, Identity:
		return "FederatedUser"
	case Service:
		return "Service"
	}
	return "Anonymous"
}
