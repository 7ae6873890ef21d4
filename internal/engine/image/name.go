package image

import (
	"errors"
	"fmt"
	"strings"
)

// ErrName: a name is not of the form of one. The texts are Docker's.
var ErrName = errors.New("invalid reference format")

const (
	defaultHost = "docker.io"
	defaultTag  = "latest"
)

// Name is a name of an image, taken apart. With neither tag nor digest it means
// the tag "latest".
type Name struct {
	Host string // "docker.io", "localhost:4566"
	Path string // "library/busybox"
	Tag  string
	// Digest is "sha256:..." of a manifest; a name with one has no Tag.
	Digest string
}

// ParseName takes a name apart, as Docker does: without a host it is Docker Hub's,
// whose own images are under library/. Where there are a tag and a digest, the tag
// says nothing.
func ParseName(text string) (Name, error) {
	var n Name
	rest, digest, ok := strings.Cut(text, "@")
	if ok && !validDigest(digest) {
		return n, ErrName
	}
	n.Digest = digest
	if i := strings.LastIndexByte(rest, ':'); i >= 0 && !strings.Contains(rest[i:], "/") {
		if rest, n.Tag = rest[:i], rest[i+1:]; !validTag(n.Tag) {
			return n, ErrName
		}
	}
	if isHex(rest) && len(rest) == 64 {
		return n, fmt.Errorf("invalid repository name (%s), cannot specify 64-byte hexadecimal strings", rest)
	}
	n.Host, n.Path = defaultHost, rest
	if host, path, ok := strings.Cut(rest, "/"); ok &&
		(strings.ContainsAny(host, ".:") || host == "localhost" || strings.ToLower(host) != host) {
		n.Host, n.Path = host, path
	}
	if n.Host == "index.docker.io" {
		n.Host = defaultHost
	}
	if n.Host == defaultHost && !strings.Contains(n.Path, "/") {
		n.Path = "library/" + n.Path
	}
	switch {
	case strings.ToLower(n.Path) != n.Path:
		return n, fmt.Errorf("%w: repository name (%s) must be lowercase", ErrName, n.Path)
	case !validHost(n.Host) || !validPath(n.Path):
		return n, ErrName
	case len(n.Path) > 255:
		return n, errors.New("repository name must not be more than 255 characters")
	}
	switch {
	case n.Digest != "":
		n.Tag = ""
	case n.Tag == "":
		n.Tag = defaultTag
	}
	return n, nil
}

// String returns the name in full, host included.
func (n Name) String() string { return n.Host + "/" + n.Path + n.suffix() }

// Repository returns the name without tag and digest, as Docker shows it.
func (n Name) Repository() string {
	if n.Host == defaultHost {
		return strings.TrimPrefix(n.Path, "library/")
	}
	return n.Host + "/" + n.Path
}

// Familiar returns the name as Docker shows it.
func (n Name) Familiar() string { return n.Repository() + n.suffix() }

// Reference returns what a registry is asked for: the digest or the tag.
func (n Name) Reference() string {
	if n.Digest != "" {
		return n.Digest
	}
	return n.Tag
}

func (n Name) suffix() string {
	if n.Digest != "" {
		return "@" + n.Digest
	}
	return ":" + n.Tag
}

func isHex(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

// validDigest tells whether a text is a SHA-256 digest, the only kind in use.
func validDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && isHex(hex)
}

func validTag(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	return only(s, "_.-")
}

// only tells whether a text is made of letters, digits and some more characters.
func only(s, more string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(more, c) >= 0:
		default:
			return false
		}
	}
	return true
}

func validHost(s string) bool {
	host, port, ok := strings.Cut(s, ":")
	if strings.HasPrefix(s, "[") { // an IPv6 address
		var rest string
		if host, rest, ok = strings.Cut(s[1:], "]"); !ok || !only(host, ":") || host == "" {
			return false
		}
		if port, ok = strings.CutPrefix(rest, ":"); !ok {
			return rest == ""
		}
	} else {
		for part := range strings.SplitSeq(host, ".") {
			if part == "" || !only(part, "-") || part[0] == '-' || part[len(part)-1] == '-' {
				return false
			}
		}
	}
	if !ok {
		return true
	}
	for _, c := range []byte(port) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return port != "" && len(port) <= 5
}

// validPath wants parts of lower case letters and digits, with single separators
// ('.', '_', "__" or any number of '-') inside.
func validPath(s string) bool {
	for part := range strings.SplitSeq(s, "/") {
		words := strings.FieldsFunc(part, func(r rune) bool { return r == '.' || r == '_' || r == '-' })
		if len(words) == 0 || !only(part, "._-") {
			return false
		}
		for i, w := range words {
			separator := ""
			if i > 0 {
				separator = part[:strings.Index(part, w)]
				part = part[len(separator):]
				if separator != "." && separator != "_" && separator != "__" && strings.Trim(separator, "-") != "" {
					return false
				}
			}
			rest, ok := strings.CutPrefix(part, w)
			if !ok {
				return false // it begins with a separator
			}
			part = rest
		}
		if part != "" {
			return false // it ends with one
		}
	}
	return true
}
