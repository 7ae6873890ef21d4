package s3

import (
	"encoding/base64"
	"errors"
	"net/url"
	"strconv"
	"strings"
	"time"

	"skerry/internal/auth"
	"skerry/internal/wire"
)

// value returns what p points to, or the zero value.
func value[T any](p *T) T { return wire.Value(p) }

// optional returns a pointer to v, or nil if v is the zero value.
func optional[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// canonicalID returns an account's canonical user id: 64 hexadecimal digits that
// never change and do not tell the account.
func canonicalID(account string) string { return auth.CanonicalUser(account) }

func quote(etag string) string { return `"` + etag + `"` }

func unquote(etag string) string { return strings.Trim(etag, `"`) }

func httpDate(t time.Time) string { return t.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT") }

// escapeKey encodes a key as encoding-type=url does: form encoding that leaves
// the slash alone.
func escapeKey(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "%2F", "/") }

func itoa(n int) string { return strconv.Itoa(n) }

// writeToken makes an opaque continuation token of a key.
func writeToken(key string) string { return base64.StdEncoding.EncodeToString([]byte("1" + key)) }

var errToken = errors.New("s3: not a token of ours")

// readToken returns the key in a token.
func readToken(t string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(t)
	if err != nil || len(raw) == 0 || raw[0] != '1' {
		return "", errToken
	}
	return string(raw[1:]), nil
}
func lower(s string) string { return strings.ToLower(s) }
