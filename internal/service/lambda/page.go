package lambda

import (
	"encoding/base64"
	"strings"

	"skerry/internal/store"
)

// limit is how many items a page has: what is asked for, at most 50.
func limit(asked *int32) int {
	if n := int(deref(asked)); n > 0 && n < maxListed {
		return n
	}
	return maxListed
}

// markerOf hides the key of a page's last item.
func markerOf(last store.Key) *string {
	return new(base64.RawURLEncoding.EncodeToString([]byte(last)))
}

// marker reads what markerOf wrote. It must lie within prefix: a client may send
// anything.
func (s *Service) marker(text *string, prefix store.Key) (store.Key, error) {
	if deref(text) == "" {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(*text)
	if err != nil || !strings.HasPrefix(string(b), string(prefix)) {
		return "", invalid("Invalid marker: %s", *text)
	}
	return store.Key(b), nil
}
