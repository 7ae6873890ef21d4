package lambda

import (
	"fmt"
	"regexp"
	"strings"

	"skerry/internal/auth"
	"skerry/internal/base/arn"
)

// latest is the version that is changed; all others are fixed when published.
const latest = "$LATEST"

// ref names a function, or one of its versions or aliases.
type ref struct {
	Account, Region, Name string
	Qualifier             string // empty, $LATEST, a version's number or an alias
}

// The forms of a function's name: "name", "name:qualifier", partial ARNs
// ("123456789012:function:name", "function:name") and ARNs.
var nameForm = regexp.MustCompile(
	`^(?:arn:aws:lambda:)?(?:([a-z]{2}(?:-[a-z]+)+-\d):)?(?:(\d{12}):)?(?:function:)?([a-zA-Z0-9_-]+)(?::(\$LATEST|[a-zA-Z0-9_-]+))?$`)

const maxName = 64

// parseRef reads a function's name as an operation got it. Without a region or an
// account it is the caller's. qualifier is the operation's own parameter for it.
func parseRef(sc auth.Scope, name, qualifier *string) (ref, error) {
	m := nameForm.FindStringSubmatch(deref(name))
	if m == nil {
		return ref{}, invalid("Value '%s' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: %s",
			deref(name), `(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}(-gov)?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?`)
	}
	r := ref{Region: m[1], Account: m[2], Name: m[3], Qualifier: m[4]}
	if r.Region == "" {
		r.Region = sc.Region
	}
	if r.Account == "" {
		r.Account = sc.Account
	}
	if r.Region != sc.Region {
		return ref{}, notFound("Functions from '%s' are not reachable in this region ('%s')", r.Region, sc.Region)
	}
	if q := deref(qualifier); q != "" {
		if r.Qualifier != "" && r.Qualifier != q {
			return ref{}, invalid("The derived qualifier from the function name does not match the specified qualifier.")
		}
		r.Qualifier = q
	}
	if len(r.Name) > maxName {
		return ref{}, invalid("1 validation error detected: Value '%s' at 'functionName' failed to satisfy constraint: "+
			"Member must have length less than or equal to %d", r.Name, maxName)
	}
	return r, nil
}

// unqualified refuses a name with a qualifier, for operations on the function as
// a whole.
func (r ref) unqualified() error {
	if r.Qualifier != "" && r.Qualifier != latest {
		return invalid("Unsupported qualifier: '%s' for this operation", r.Qualifier)
	}
	return nil
}

// functionARN is the function's, without a qualifier.
func (r ref) functionARN() string {
	return arn.New("lambda", r.Region, r.Account, "function:"+r.Name).String()
}

// ARN is that of what is named, with the qualifier if there is one.
func (r ref) ARN() string {
	if r.Qualifier == "" {
		return r.functionARN()
	}
	return r.functionARN() + ":" + r.Qualifier
}

func (r ref) missing() error { return notFound("Function not found: %s", r.ARN()) }

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// kind tells what a qualifier names.
type kind uint8

const (
	kindLatest kind = iota
	kindVersion
	kindAlias
)

func (r ref) kind() kind {
	switch {
	case r.Qualifier == "" || r.Qualifier == latest:
		return kindLatest
	case strings.Trim(r.Qualifier, "0123456789") == "":
		return kindVersion
	default:
		return kindAlias
	}
}

func versionName(number int64) string {
	if number == 0 {
		return latest
	}
	return fmt.Sprint(number)
}
