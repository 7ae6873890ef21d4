package registry

import (
	"regexp"
	"strings"
)

// The forms of the distribution specification and of ECR's, which are the
// narrower in repository names.
var (
	nameForm   = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm    = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	digestForm = regexp.MustCompile(`^(?:sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)
	// otherDigest has the form of a digest by an algorithm that is not known.
	otherDigest = regexp.MustCompile(`^[a-z0-9]+(?:[+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+$`)
)

// maxName is the length of a repository's name in bytes. Page:
// "CreateRepository".
const maxName = 256

// ValidName tells whether a repository can have that name.
func ValidName(s string) bool { return len(s) >= 1 && len(s) <= maxName && nameForm.MatchString(s) }

// ValidTag tells whether an image can have that tag.
func ValidTag(s string) bool { return tagForm.MatchString(s) }

// ValidDigest tells whether it is a SHA-256 or SHA-512 digest.
func ValidDigest(s string) bool { return digestForm.MatchString(s) }

// Matches tells whether a tag matches a wildcard filter, in which * stands for
// any characters.
func Matches(filter, tag string) bool {
	pieces := strings.Split(filter, "*")
	if len(pieces) == 1 {
		return filter == tag
	}
	rest, ok := strings.CutPrefix(tag, pieces[0])
	if !ok {
		return false
	}
	last := pieces[len(pieces)-1]
	for _, p := range pieces[1 : len(pieces)-1] {
		i := strings.Index(rest, p)
		if i < 0 {
			return false
		}
		rest = rest[i+len(p):]
	}
	return strings.HasSuffix(rest, last)
}
