package gateway

import (
	"io"
	"net"
	"net/http"
	"strings"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// caller is an authenticated client.
type caller struct {
	scope  auth.Scope
	body   io.Reader
	length int64
}

// authenticate verifies the signature and mints the scope.
func (g *Gateway) authenticate(r *http.Request, to destination, id string) (caller, error) {
	// The server's own request stays as it is: by its Body it knows whether a client
	// still waits for 100-continue.
	read := *r
	read.Body = http.NoBody
	if to.request.Body != nil {
		read.Body = io.NopCloser(to.request.Body)
	}
	v, err := g.verifier.Verify(&read, to.options())
	if err != nil {
		return caller{}, err
	}
	return g.admit(r, to, id, v)
}

// admit mints the scope of an authenticated request.
func (g *Gateway) admit(r *http.Request, to destination, id string, v *auth.Verified) (caller, error) {
	region := to.region
	if region == "" || region == "*" || region == "aws-global" {
		region = g.region
	}
	c := caller{
		scope: auth.NewScope(v.Principal, region, auth.Request{
			ID:        id,
			Time:      g.clock.Now(),
			SourceIP:  sourceIP(r),
			UserAgent: r.UserAgent(),
			Referer:   r.Referer(),
			Host:      r.Host,
			Secure:    r.TLS != nil,
			Auth:      v.Method,
		}),
		body:   &body{Body: v.Body, announced: announced(r)},
		length: v.Body.Length(),
	}
	if g.testKeys(v.Principal.AccessKey) && !g.trusts(r, to) {
		return c, awserr.New(http.StatusForbidden, "AccessDenied",
			"The key that everybody knows works only for this machine: the request came to the host %q from the page %q.", r.Host, r.Header.Get("Origin"))
	}
	return c, nil
}

// options tells how the destination wants its requests signed.
func (to destination) options() auth.Options {
	api := to.service.api
	o := auth.Options{
		Family:   to.family(),
		Services: []string{api.SigningName},
		MaxBody:  api.MaxRequest,
		Optional: to.service.unsigned, // decode looks which operation it is
		Bucket:   to.host.bucket,
	}
	if o.MaxBody == 0 {
		o.MaxBody = wire.DefaultMaxRequest
	}
	return o
}

// signedEnough refuses an unsigned request for an operation that wants a
// signature, in a service that has some that do not. S3 leaves it to policies.
func signedEnough(to destination, sc auth.Scope, model *wire.Operation) error {
	if sc.Principal.Kind != auth.Anonymous || to.family() == auth.S3 || model.NoAuth {
		return nil
	}
	return to.family().Unsigned()
}

// body is a verified body that tells of its trailers.
type body struct {
	*auth.Body
	announced []string
}

// Trailers returns the names that the request announces, in lower case.
func (b *body) Trailers() []string { return b.announced }

// Trailer returns a trailer's value, which is known at the end of the body.
func (b *body) Trailer(name string) string {
	v, _ := b.Body.Trailer(strings.ToLower(name))
	return v
}

// Close implements io.Closer; the connection is the server's to close.
func (b *body) Close() error { return nil }

// announced reads the header X-Amz-Trailer.
func announced(r *http.Request) []string {
	var names []string
	for _, h := range r.Header.Values("X-Amz-Trailer") {
		for name := range strings.SplitSeq(h, ",") {
			if name = strings.ToLower(strings.TrimSpace(name)); name != "" {
				names = append(names, name)
			}
		}
	}
	return names
}

// sourceIP is the address that the connection came from: no header is believed.
func sourceIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	return host
}
