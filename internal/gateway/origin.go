package gateway

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
)

// A key that everybody knows is as good as none towards a web page: any site
// that the user visits could sign with it and have the browser send it to this
// machine. So requests with such a key count only when they come to a name of
// this machine (which also ends the rebinding of foreign names), and from no
// page, or from a page of this machine or one that a bucket's rules let in.

// BucketCORS answers for the buckets of S3. Page: "Using cross-origin resource
// sharing".
type BucketCORS interface {
	// CORS returns the headers that a bucket's rules give to a request from an
	// origin, and whether a rule matches. asked holds the headers that a preflight
	// asks for; preflight tells whether it is one.
	CORS(ctx context.Context, bucket, origin, method string, asked []string, preflight bool) (http.Header, bool)
}

// trusts tells whether a request with a well-known key may count.
func (g *Gateway) trusts(r *http.Request, to destination) bool {
	if !to.host.local || !loopback(r.RemoteAddr) {
		return false
	}
	origin := r.Header.Get("Origin")
	return origin == "" || g.ownPage(origin) || g.bucketLetsIn(r.Context(), to, origin, r.Method)
}

// loopback tells whether a request came over this machine's own loopback. What a
// function sends from its sandbox did not: there its role counts alone.
func loopback(remote string) bool {
	a, err := netip.ParseAddrPort(remote)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// ownPage tells whether a page comes from this machine. The origin "null" does
// not: any site can make a frame that has it.
func (g *Gateway) ownPage(origin string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	h := g.parseHost(u.Host)
	return h.local && !strings.HasSuffix(u.Hostname(), ".amazonaws.com")
}

func (g *Gateway) bucketLetsIn(ctx context.Context, to destination, origin, method string) bool {
	if g.cors == nil || to.service == nil || to.family() != auth.S3 {
		return false
	}
	_, ok := g.cors.CORS(ctx, bucketOf(to), origin, method, nil, false)
	return ok
}

// bucketOf returns the bucket that a request to S3 names.
func bucketOf(to destination) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(to.request.Path, "/"), "/")
	if name, err := url.PathUnescape(first); err == nil {
		return name
	}
	return first
}

// The headers that browsers may send to, and read from, the services' APIs.
const (
	corsMethods = "GET, POST, PUT, PATCH, DELETE, HEAD, OPTIONS"
	corsHeaders = "*, Authorization, Content-Type, X-Amz-Date, X-Amz-Security-Token, X-Amz-Target, X-Amz-User-Agent, X-Amz-Content-Sha256, Amz-Sdk-Invocation-Id, Amz-Sdk-Request, Smithy-Protocol"
	corsExposed = "x-amzn-RequestId, x-amzn-ErrorType, x-amzn-ErrorMessage, x-amz-request-id, x-amz-id-2, Date, ETag"
)

// preflight answers the question that a browser asks before a request; handled
// is false if r is none.
func (g *Gateway) preflight(a *answer, r *http.Request) (handled bool) {
	if r.Method != http.MethodOptions {
		return false
	}
	origin, method := r.Header.Get("Origin"), r.Header.Get("Access-Control-Request-Method")
	whole := origin != "" && method != ""
	asked := splitList(r.Header.Get("Access-Control-Request-Headers"))
	question := r.Clone(r.Context())
	question.Method = cmp.Or(method, http.MethodGet)
	to, err := g.identify(question)
	ofS3 := err == nil && to.family() == auth.S3 && g.cors != nil
	if !whole && !ofS3 {
		return false
	}
	a.arrived(to)
	h := a.Header()
	h["x-amzn-RequestId"] = []string{a.id}
	if !whole {
		a.fail(notPreflight(origin))
		return true
	}
	if ofS3 {
		if got, ok := g.cors.CORS(r.Context(), bucketOf(to), origin, method, asked, true); ok {
			setAll(h, got)
			a.WriteHeader(http.StatusOK)
			return true
		}
	}
	if !g.ownPage(origin) {
		if ofS3 {
			a.fail(awserr.New(http.StatusForbidden, "AccessForbidden", "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.").With("Method", method))
			return true
		}
		a.WriteHeader(http.StatusForbidden)
		return true
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", strings.Join(append(asked, corsHeaders), ", "))
	h.Set("Access-Control-Expose-Headers", corsExposed)
	h.Set("Access-Control-Max-Age", "3600")
	h.Set("Vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers")
	a.WriteHeader(http.StatusOK)
	return true
}

// notPreflight is S3's answer to a question that lacks its origin or its method.
func notPreflight(origin string) error {
	if origin == "" {
		return awserr.New(http.StatusBadRequest, "BadRequest", "Insufficient information. Origin request header needed.")
	}
	return awserr.New(http.StatusBadRequest, "BadRequest", "Invalid Access-Control-Request-Method: null")
}

// allowOrigin lets the page that sent a request read its answer, errors too.
func (g *Gateway) allowOrigin(a *answer, r *http.Request, to destination) {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	h := a.Header()
	if to.family() == auth.S3 && g.cors != nil {
		if got, ok := g.cors.CORS(r.Context(), bucketOf(to), origin, r.Method, nil, false); ok {
			setAll(h, got)
			return
		}
	}
	if g.ownPage(origin) {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Expose-Headers", corsExposed)
		h.Set("Vary", "Origin")
	}
}

func setAll(to, from http.Header) {
	for name, values := range from {
		to[name] = values
	}
}

// splitList reads a comma-separated header.
func splitList(s string) []string {
	var out []string
	for part := range strings.SplitSeq(s, ",") {
		if part = strings.TrimSpace(part); part != "" {
			out = append(out, part)
		}
	}
	return out
}

var _ http.ResponseWriter = (*answer)(nil)
