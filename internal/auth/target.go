package auth

import (
	"net/http"
	"slices"
	"strings"
)

// target is the request line's target as the client sent it. Signatures are over
// the raw bytes, so nothing of net/url touches them.
type target struct {
	path  string // still escaped
	query []pair
}

// pair is one parameter of the query, unescaped.
type pair struct{ name, value string }

// readTarget takes the target apart; false if it has a broken escape.
func readTarget(r *http.Request) (target, bool) {
	path, query := RawTarget(r)
	t := target{path: path}
	if query == "" {
		return t, true
	}
	t.query = make([]pair, 0, strings.Count(query, "&")+1)
	for query != "" {
		var item string
		item, query, _ = strings.Cut(query, "&")
		if item == "" {
			continue
		}
		name, value, _ := strings.Cut(item, "=")
		name, ok1 := unescape(name, true)
		value, ok2 := unescape(value, true)
		if !ok1 || !ok2 {
			return t, false
		}
		t.query = append(t.query, pair{name, value})
	}
	return t, true
}

// RawTarget returns the path and the query of a request exactly as they came,
// for targets in absolute form, too.
func RawTarget(r *http.Request) (path, query string) {
	uri := r.RequestURI
	if uri == "" { // made in process
		uri = r.URL.EscapedPath()
		if r.URL.RawQuery != "" {
			uri += "?" + r.URL.RawQuery
		}
	}
	if !strings.HasPrefix(uri, "/") {
		if _, rest, ok := strings.Cut(uri, "://"); ok {
			if i := strings.IndexAny(rest, "/?"); i >= 0 {
				uri = rest[i:]
			} else {
				uri = ""
			}
		}
	}
	path, query, _ = strings.Cut(uri, "?")
	if path == "" {
		path = "/"
	}
	return path, query
}

// get returns the first value of a parameter.
func (t *target) get(name string) string {
	for i := range t.query {
		if t.query[i].name == name {
			return t.query[i].value
		}
	}
	return ""
}

func (t *target) has(name string) bool {
	return slices.ContainsFunc(t.query, func(p pair) bool { return p.name == name })
}

// unescape undoes percent encoding; plus says that + is a space.
func unescape(s string, plus bool) (string, bool) {
	if strings.IndexByte(s, '%') < 0 && !(plus && strings.IndexByte(s, '+') >= 0) {
		return s, true
	}
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%':
			if i+2 >= len(s) {
				return "", false
			}
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi < 0 || lo < 0 {
				return "", false
			}
			out = append(out, byte(hi<<4|lo))
			i += 2
		case plus && s[i] == '+':
			out = append(out, ' ')
		default:
			out = append(out, s[i])
		}
	}
	return string(out), true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

const upperHex = "0123456789ABCDEF"

// appendEscaped appends s, percent-encoded as signatures want it: everything but
// letters, digits, - . _ ~ and, in paths, the slash.
func appendEscaped(to []byte, s string, slash bool) []byte {
	for i := range len(s) {
		c := s[i]
		if 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~' || slash && c == '/' {
			to = append(to, c)
			continue
		}
		to = append(to, '%', upperHex[c>>4], upperHex[c&15])
	}
	return to
}

// rootPath is the path of most RPC calls.
var rootPath = []string{"/"}

// paths returns the canonical forms that a client may have signed, the right one
// first. S3's path is encoded once; those of others are normalised and encoded
// twice. Clients differ in how they normalise, and a signature over the bytes
// that arrived is as good.
func (t *target) paths(s3 bool) []string {
	if t.path == "/" {
		return rootPath
	}
	first := ""
	if s3 {
		plain, ok := unescape(t.path, false)
		if !ok {
			return []string{t.path}
		}
		first = string(appendEscaped(nil, plain, true))
		if first != t.path {
			return []string{first, t.path}
		}
		return []string{first}
	}
	first = string(appendEscaped(nil, normalise(t.path), true))
	if twice := string(appendEscaped(nil, t.path, true)); twice != first {
		return []string{first, twice}
	}
	return []string{first}
}

// normalise removes empty and dot segments, as RFC 3986 says in 5.2.4 and AWS
// for repeated slashes.
func normalise(path string) string {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path
	}
	var kept []string
	segments := strings.Split(path, "/")
	for _, s := range segments {
		switch s {
		case "", ".":
		case "..":
			if len(kept) > 0 {
				kept = kept[:len(kept)-1]
			}
		default:
			kept = append(kept, s)
		}
	}
	out := "/" + strings.Join(kept, "/")
	if last := segments[len(segments)-1]; len(kept) > 0 && (last == "" || last == "." || last == "..") {
		out += "/"
	}
	return out
}

// appendQuery appends the canonical query without the parameter left out.
func (t *target) appendQuery(to []byte, leaveOut string) []byte {
	if len(t.query) == 0 {
		return to
	}
	pairs := make([]pair, 0, len(t.query))
	for _, p := range t.query {
		if p.name != leaveOut {
			pairs = append(pairs, pair{string(appendEscaped(nil, p.name, false)), string(appendEscaped(nil, p.value, false))})
		}
	}
	slices.SortFunc(pairs, func(a, b pair) int {
		if c := strings.Compare(a.name, b.name); c != 0 {
			return c
		}
		return strings.Compare(a.value, b.value)
	})
	for i, p := range pairs {
		if i > 0 {
			to = append(to, '&')
		}
		to = append(to, p.name...)
		to = append(to, '=')
		to = append(to, p.value...)
	}
	return to
}
