package auth

import (
	"context"
	"crypto/hmac"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
)

// Verifier authenticates requests: signature versions 4 and 4A in headers and
// links, version 2 for S3, browser forms, and requests without a signature.
type Verifier struct {
	directory Directory
	clock     clock.Clock
	keys      signingKeys
	ecdsa     ecdsaKeys
}

// maxUnsigned limits the bodies of unsigned requests, in bytes: whoever sends one
// is not known at all.
const maxUnsigned = 1 << 20

// NewVerifier returns a verifier of the directory's credentials.
func NewVerifier(d Directory, c clock.Clock) *Verifier { return &Verifier{directory: d, clock: c} }

// Verified is an authenticated request.
type Verified struct {
	Principal Principal
	Method    Method
	Region    string // of the signature's scope; empty when it names none or several
	Service   string // of the signature's scope; empty for version 2 and anonymous
	Body      *Body
}

// Verify authenticates a request. Bodies of S3 are verified while they are read,
// those of other services have been read whole when it returns. Errors are
// *awserr.Error in the words of the service's family, or of the directory.
func (v *Verifier) Verify(r *http.Request, o Options) (*Verified, error) {
	t, ok := readTarget(r)
	if !ok {
		return nil, awserr.New(http.StatusBadRequest, "InvalidURI", "Couldn't parse the specified URI.")
	}
	header := r.Header.Get("Authorization")
	linked := t.has("X-Amz-Algorithm") || t.has("X-Amz-Signature") || t.has("X-Amz-Credential")
	linked2 := o.Family == S3 && t.has("AWSAccessKeyId") && t.has("Signature")
	switch {
	case header != "" && o.Family == S3 && (linked || linked2):
		return nil, invalidArgument("Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified", "Authorization", header)
	case strings.HasPrefix(header, algorithm4) || strings.HasPrefix(header, algorithm4A):
		s, err := parseAuthorization(o.Family, header)
		if err == nil {
			err = s.setDate(o.Family, r, header)
		}
		if err != nil {
			return nil, err
		}
		return v.version4(r, &t, &s, o)
	case header != "" && o.Family == S3 && strings.HasPrefix(header, "AWS "):
		return v.version2Header(r, &t, header, o)
	case header != "" && o.Family == S3:
		return nil, invalidArgument("Unsupported Authorization Type", "Authorization", header)
	case header != "" && !o.Optional:
		return nil, o.Family.malformed(header, "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter.", "")
	case linked:
		s, err := parseLink(o.Family, r, &t)
		if err != nil {
			return nil, err
		}
		return v.version4(r, &t, &s, o)
	case linked2:
		return v.version2Link(r, &t, o)
	}
	return v.anonymous(r, o)
}

func (v *Verifier) anonymous(r *http.Request, o Options) (*Verified, error) {
	o.MaxBody = min(o.MaxBody, maxUnsigned)
	if o.Family != S3 && !o.Optional {
		return nil, o.Family.Unsigned()
	}
	body, _, err := readBody(r, o, nil)
	if err != nil {
		return nil, err
	}
	return &Verified{Body: body, Method: Method{ContentSHA: r.Header.Get("X-Amz-Content-Sha256")}}, nil
}

// parseLink reads the parameters of a link signed by version 4.
func parseLink(f Family, r *http.Request, t *target) (signature, error) {
	s := signature{algorithm: t.get("X-Amz-Algorithm"), value: t.get("X-Amz-Signature"), stamp: t.get("X-Amz-Date"), query: true}
	for _, name := range []string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Expires"} {
		if t.get(name) == "" && (f == S3 || name != "X-Amz-Expires") {
			return s, f.badQuery("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
		}
	}
	if s.algorithm != algorithm4 && s.algorithm != algorithm4A {
		return s, f.badQuery(`X-Amz-Algorithm only supports "AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256"`)
	}
	if !s.setCredential(t.get("X-Amz-Credential")) {
		return s, f.badQuery(`Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".`)
	}
	s.setSigned(t.get("X-Amz-SignedHeaders"))
	var err error
	if s.at, err = time.Parse(isoBasic, s.stamp); err != nil {
		return s, f.badQuery(`X-Amz-Date must be in the ISO8601 Long Format "yyyyMMdd'T'HHmmss'Z'"`)
	}
	seconds := int64(skewS3 / time.Second)
	if text := t.get("X-Amz-Expires"); text != "" {
		if seconds, err = strconv.ParseInt(text, 10, 64); err != nil {
			return s, f.badQuery("X-Amz-Expires should be a number")
		}
	}
	switch {
	case seconds < 0:
		return s, f.badQuery("X-Amz-Expires must be non-negative")
	case seconds > 604800:
		return s, f.badQuery("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	}
	s.expires = time.Duration(seconds) * time.Second
	return s, nil
}

// version4 verifies a signature of version 4 or 4A.
func (v *Verifier) version4(r *http.Request, t *target, s *signature, o Options) (*Verified, error) {
	f, now := o.Family, v.clock.Now()
	if s.algorithm == algorithm4A {
		if s.region = r.Header.Get("X-Amz-Region-Set"); s.region == "" {
			s.region = t.get("X-Amz-Region-Set")
		}
	}
	if err := s.check(r, o); err != nil {
		return nil, err
	}
	token := r.Header.Get("X-Amz-Security-Token")
	if token == "" {
		token = t.get("X-Amz-Security-Token")
	}
	cred, err := v.credential(r.Context(), f, s.key, token)
	if err != nil {
		return nil, err
	}
	if err := s.timely(f, now); err != nil {
		return nil, err
	}
	seal := &chunkSeal{algorithm: s.algorithm, stamp: s.stamp, scope: s.scope(), previous: s.value}
	if s.algorithm == algorithm4A {
		seal.public = v.ecdsa.get(s.key, cred.Secret)
	} else {
		seal.secret = v.keys.get(s, cred.Secret)
	}
	body, payload, err := readBody(r, o, seal)
	if err != nil {
		return nil, err
	}
	if o.Family == S3 && s.query {
		payload = linkPayload(r, t, s)
	} else if o.Family == S3 && payload == "" {
		return nil, awserr.New(http.StatusBadRequest, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
	}
	if err := s.verify(r, t, seal, f, payload); err != nil {
		return nil, err
	}
	m := Method{Type: "REST-HEADER", Version: s.algorithm, SignedAt: s.at, ContentSHA: r.Header.Get("X-Amz-Content-Sha256")}
	if s.query {
		m.Type = "REST-QUERY-STRING"
		if m.ContentSHA == "" {
			m.ContentSHA = payload
		}
	}
	region := s.region
	if strings.ContainsAny(region, "*,") {
		region = ""
	}
	return &Verified{Principal: cred.Principal, Method: m, Region: region, Service: s.service, Body: body}, nil
}

// linkPayload returns the payload hash that a link's signature holds.
func linkPayload(r *http.Request, t *target, s *signature) string {
	for _, name := range s.signed {
		if name == "x-amz-content-sha256" {
			return r.Header.Get("X-Amz-Content-Sha256")
		}
	}
	if v := t.get("X-Amz-Content-Sha256"); v != "" {
		return v
	}
	return "UNSIGNED-PAYLOAD"
}

// check tells whether the scope and the signed headers are as they must be.
func (s *signature) check(r *http.Request, o Options) error {
	f := o.Family
	if s.date != s.stamp[:8] {
		text := "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" + s.date + "' != '" + s.stamp[:8] + "', from '" + s.stamp + "'."
		switch {
		case f == S3 && s.query:
			return f.badQuery(`Invalid credential date "` + s.date + `". This date is not the same as X-Amz-Date: "` + s.stamp[:8] + `".`)
		case f == S3:
			return f.wrongScope(`Invalid credential date "` + s.date + `". This date is not the same as X-Amz-Date: "` + s.stamp[:8] + `".`)
		}
		return f.invalidSignature(text)
	}
	if len(o.Services) > 0 && !contains(o.Services, s.service) {
		if f == S3 {
			return f.wrongScope(`incorrect service "` + s.service + `". This endpoint belongs to "` + o.Services[0] + `".`)
		}
		return f.wrongScope("correct service: '" + o.Services[0] + "'. ")
	}
	if !contains(s.signed, "host") && !contains(s.signed, ":authority") {
		if f == S3 {
			return accessDenied("There were headers present in the request which were not signed").With("HeadersNotSigned", "host")
		}
		return f.invalidSignature("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if f == S3 {
		if left := unsignedHeaders(r, s.signed); len(left) > 0 {
			return accessDenied("There were headers present in the request which were not signed").With("HeadersNotSigned", strings.Join(left, ", "))
		}
	}
	return nil
}

// timely tells whether the signature is in its window.
func (s *signature) timely(f Family, now time.Time) error {
	if !s.query {
		return f.skewed(s.at, now)
	}
	end := s.at.Add(s.expires)
	switch {
	case f == S3 && s.at.Sub(now) > skewS3:
		return accessDenied("Request is not valid yet").With("X-Amz-Date", s.stamp).With("ServerTime", now.UTC().Format(time.RFC3339))
	case f == S3 && now.After(end):
		return accessDenied("Request has expired").With("X-Amz-Expires", strconv.Itoa(int(s.expires/time.Second))).
			With("Expires", end.UTC().Format(time.RFC3339)).With("ServerTime", now.UTC().Format(time.RFC3339))
	case s.at.Sub(now) > skewOther:
		return f.skewed(s.at, now)
	case now.After(end):
		return f.invalidSignature("Signature expired: " + s.stamp + " is now earlier than " + now.Add(-s.expires).UTC().Format(isoBasic) +
			" (" + now.UTC().Format(isoBasic) + " - " + strconv.Itoa(int(s.expires/time.Minute)) + " min.)")
	}
	return nil
}

// verify compares the signature with that of the canonical request.
func (s *signature) verify(r *http.Request, t *target, seal *chunkSeal, f Family, payload string) error {
	first, firstText := []byte(nil), ""
	for _, path := range t.paths(f == S3) {
		c := canonical(r, t, path, s.signed, payload)
		text := s.stringToSign(c)
		if seal.valid(text, s.value) {
			return nil
		}
		if first == nil {
			first, firstText = c, text
		}
	}
	return f.wrongSignature(s.key, s.value, firstText, string(first))
}

// credential looks a key up and checks all but the signature.
func (v *Verifier) credential(ctx context.Context, f Family, key, token string) (Credential, error) {
	cred, err := v.directory.Credential(ctx, key)
	switch {
	case errors.Is(err, ErrNoCredential):
		return cred, f.unknownKey(key)
	case err != nil:
		return cred, fmt.Errorf("auth: look up %s: %w", key, err)
	case cred.Inactive, cred.Token != "" && token == "":
		return cred, f.unknownKey(key)
	case subtle.ConstantTimeCompare([]byte(cred.Token), []byte(token)) == 0:
		return cred, f.wrongToken(token)
	case !cred.Expires.IsZero() && !v.clock.Now().Before(cred.Expires):
		return cred, f.expiredToken(token)
	}
	cred.Principal.AccessKey = key
	return cred, nil
}

// sameText compares signatures in constant time.
func sameText(a, b string) bool { return hmac.Equal([]byte(a), []byte(b)) }
