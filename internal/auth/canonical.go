package auth

import (
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

// canonical returns the canonical request. Page: "Create a signed AWS API
// request".
func canonical(r *http.Request, t *target, path string, signed []string, payload string) []byte {
	b := make([]byte, 0, 1024)
	b = append(b, r.Method...)
	b = append(b, '\n')
	b = append(b, path...)
	b = append(b, '\n')
	b = t.appendQuery(b, "X-Amz-Signature")
	b = append(b, '\n')
	for _, name := range signed {
		b = append(b, name...)
		b = append(b, ':')
		b = appendHeader(b, r, name)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	for i, name := range signed {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, name...)
	}
	b = append(b, '\n')
	return append(b, payload...)
}

// appendHeader appends the canonical value of a header: trimmed, runs of spaces
// collapsed, repeated headers joined by commas.
func appendHeader(to []byte, r *http.Request, name string) []byte {
	switch name {
	case "host", ":authority":
		return append(to, r.Host...)
	case "content-length":
		if v, ok := r.Header["Content-Length"]; !ok || len(v) == 0 {
			return strconv.AppendInt(to, max(r.ContentLength, 0), 10)
		}
	case "transfer-encoding":
		return append(to, strings.Join(r.TransferEncoding, ",")...)
	}
	for i, v := range r.Header[textproto.CanonicalMIMEHeaderKey(name)] {
		if i > 0 {
			to = append(to, ',')
		}
		to = appendCollapsed(to, v)
	}
	return to
}

func appendCollapsed(to []byte, v string) []byte {
	v = strings.Trim(v, " \t\r\n")
	if !strings.Contains(v, "  ") {
		return append(to, v...)
	}
	for i := range len(v) {
		if v[i] == ' ' && i > 0 && v[i-1] == ' ' {
			continue
		}
		to = append(to, v[i])
	}
	return to
}

// unsignedHeaders returns the x-amz- headers that a signature leaves out, which
// S3 refuses.
func unsignedHeaders(r *http.Request, signed []string) []string {
	var out []string
headers:
	for name := range r.Header {
		if len(name) < 6 || !strings.EqualFold(name[:6], "x-amz-") || name == "X-Amz-Content-Sha256" {
			continue
		}
		for _, s := range signed {
			if strings.EqualFold(s, name) {
				continue headers
			}
		}
		out = append(out, strings.ToLower(name))
	}
	return out
}
