package auth

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Signature version 2 lives on in S3's links, which some SDKs still make, and in
// old clients. Page: "Signing and authenticating REST requests (AWS signature
// version 2)".

// subresources are the query parameters that version 2 signs.
var subresources = []string{
	"accelerate", "acl", "analytics", "cors", "defaultObjectAcl", "delete", "encryption", "intelligent-tiering",
	"inventory", "legal-hold", "lifecycle", "location", "logging", "metrics", "notification", "object-lock",
	"ownershipControls", "partNumber", "policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment",
	"response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language",
	"response-content-type", "response-expires", "restore", "retention", "select", "select-type", "storageClass", "tagging",
	"torrent", "uploadId", "uploads", "versionId", "versioning", "versions", "website",
}

func (v *Verifier) version2Header(r *http.Request, t *target, header string, o Options) (*Verified, error) {
	key, signature, ok := strings.Cut(strings.TrimPrefix(header, "AWS "), ":")
	if !ok || key == "" || signature == "" {
		return nil, invalidArgument("AWS authorization header is invalid.  Expected AwsAccessKeyId:signature", "Authorization", header)
	}
	text := r.Header.Get("X-Amz-Date")
	date := ""
	if text == "" {
		text = r.Header.Get("Date")
		date = text
	}
	at, err := http.ParseTime(text)
	if err != nil {
		if at, err = time.Parse(time.RFC1123Z, text); err != nil {
			return nil, accessDenied("AWS authentication requires a valid Date or x-amz-date header")
		}
	}
	if err := o.Family.skewed(at, v.clock.Now()); err != nil {
		return nil, err
	}
	return v.version2(r, t, o, key, signature, date, r.Header.Get("X-Amz-Security-Token"),
		Method{Type: "REST-HEADER", Version: "AWS", SignedAt: at, ContentSHA: r.Header.Get("X-Amz-Content-Sha256")})
}

func (v *Verifier) version2Link(r *http.Request, t *target, o Options) (*Verified, error) {
	text := t.get("Expires")
	if text == "" {
		return nil, accessDenied("Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil, accessDenied("Invalid date (should be seconds since epoch): " + text)
	}
	if end, now := time.Unix(seconds, 0), v.clock.Now(); now.After(end) {
		return nil, accessDenied("Request has expired").With("Expires", end.UTC().Format(time.RFC3339)).With("ServerTime", now.UTC().Format(time.RFC3339))
	}
	token := t.get("x-amz-security-token")
	if token == "" {
		token = r.Header.Get("X-Amz-Security-Token")
	}
	return v.version2(r, t, o, t.get("AWSAccessKeyId"), t.get("Signature"), text, token,
		Method{Type: "REST-QUERY-STRING", Version: "AWS", ContentSHA: r.Header.Get("X-Amz-Content-Sha256")})
}

func (v *Verifier) version2(r *http.Request, t *target, o Options, key, signature, date, token string, m Method) (*Verified, error) {
	cred, err := v.credential(r.Context(), o.Family, key, token)
	if err != nil {
		return nil, err
	}
	resources := []string{t.path}
	switch {
	case o.Bucket != "":
		resources = append(resources, "/"+o.Bucket+t.path)
	case len(t.path) > 1 && strings.Count(t.path, "/") == 1:
		resources = append(resources, t.path+"/") // so boto3 signs a bucket's own address
	}
	last := ""
	for _, resource := range resources {
		text := version2Text(r, t, resource, date)
		if sameText(sign2(cred.Secret, text), signature) {
			body, _, err := readBody(r, o, nil)
			if err != nil {
				return nil, err
			}
			return &Verified{Principal: cred.Principal, Method: m, Body: body}, nil
		}
		last = text
	}
	return nil, o.Family.wrongSignature(key, signature, last, "")
}

func sign2(secret, text string) string {
	h := hmac.New(sha1.New, []byte(secret))
	h.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// version2Text returns the string to sign. Links carry signed headers as
// parameters.
func version2Text(r *http.Request, t *target, resource, date string) string {
	value := func(name string) string {
		if v := r.Header.Get(name); v != "" {
			return v
		}
		return t.get(strings.ToLower(name))
	}
	var b strings.Builder
	b.WriteString(r.Method + "\n" + value("Content-Md5") + "\n" + value("Content-Type") + "\n" + date + "\n")
	amz := map[string]string{}
	for name, values := range r.Header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-amz-") {
			for i, v := range values {
				values := amz[lower]
				if i > 0 {
					values += ","
				}
				amz[lower] = values + strings.TrimSpace(v)
			}
		}
	}
	for _, p := range t.query {
		if strings.HasPrefix(p.name, "x-amz-") && r.Header.Get(textproto.CanonicalMIMEHeaderKey(p.name)) == "" {
			amz[p.name] = p.value
		}
	}
	names := make([]string, 0, len(amz))
	for name := range amz {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.WriteString(name + ":" + amz[name] + "\n")
	}
	b.WriteString(resource)
	sep := byte('?')
	for _, name := range subresources {
		if !t.has(name) {
			continue
		}
		b.WriteByte(sep)
		sep = '&'
		b.WriteString(name)
		if v := t.get(name); v != "" {
			b.WriteString("=" + v)
		}
	}
	return b.String()
}
