package registry

import "strings"

// kind is what an endpoint is about.
type kind uint8

const (
	support kind = iota // end-1
	catalogue
	blobKind
	uploadsKind
	uploadKind
	manifestKind
	tagsKind
	referrersKind
)

// String returns the name that endpoint knows the kind by.
func (k kind) String() string {
	return [...]string{"support", "catalogue", "blob", "uploads", "upload", "manifest", "tags", "referrers"}[k]
}

// methods is the Allow header of a kind.
func (k kind) methods() string {
	switch k {
	case blobKind:
		return "GET, HEAD, DELETE"
	case uploadsKind:
		return "POST"
	case uploadKind:
		return "GET, PATCH, PUT, DELETE"
	case manifestKind:
		return "GET, HEAD, PUT, DELETE"
	}
	return "GET"
}

// route is what a path says.
type route struct {
	kind kind
	name string // of the repository, as the path has it: perhaps with account and region
	ref  string // digest, tag or upload
}

// routeOf reads a path from its end, as names hold slashes.
func routeOf(path string) (route, bool) {
	rest, ok := strings.CutPrefix(path, "/v2/")
	if !ok || rest == "" {
		return route{}, path == "/v2/" || path == "/v2"
	}
	if rest == "_catalog" {
		return route{kind: catalogue}, true
	}
	// Without the last slash, "uploads" would be a digest.
	if name, ok := strings.CutSuffix(strings.TrimSuffix(rest, "/"), "/blobs/uploads"); ok {
		return route{uploadsKind, name, ""}, true
	}
	if name, ok := strings.CutSuffix(rest, "/tags/list"); ok {
		return route{tagsKind, name, ""}, true
	}
	head, ref, ok := cutLast(rest)
	if !ok || ref == "" {
		return route{}, false
	}
	if name, ok := strings.CutSuffix(head, "/blobs/uploads"); ok {
		return route{uploadKind, name, ref}, true
	}
	name, what, ok := cutLast(head)
	if !ok || name == "" {
		return route{}, false
	}
	switch what {
	case "blobs":
		return route{blobKind, name, ref}, true
	case "manifests":
		return route{manifestKind, name, ref}, true
	case "referrers":
		return route{referrersKind, name, ref}, true
	}
	return route{}, false
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}
