package s3

import (
	"context"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/op"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const maxRoutingRules = 50

// PutBucketWebsite implements s3:PutBucketWebsite.
func (s *Service) PutBucketWebsite(ctx context.Context, sc auth.Scope, in *s3.PutBucketWebsiteInput) (*s3.PutBucketWebsiteOutput, error) {
	c := in.WebsiteConfiguration
	switch {
	case c == nil:
		return nil, malformedXML()
	case c.RedirectAllRequestsTo != nil && (c.IndexDocument != nil || c.ErrorDocument != nil || len(c.RoutingRules) > 0):
		return nil, invalidArgument("RedirectAllRequestsTo", "", "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules.")
	case c.RedirectAllRequestsTo != nil && value(c.RedirectAllRequestsTo.HostName) == "":
		return nil, malformedXML()
	case c.RedirectAllRequestsTo == nil && c.IndexDocument == nil:
		return nil, invalidArgument("IndexDocument", "null", "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty")
	case c.IndexDocument != nil && (value(c.IndexDocument.Suffix) == "" || strings.Contains(*c.IndexDocument.Suffix, "/")):
		return nil, invalidArgument("IndexDocument", value(c.IndexDocument.Suffix), "The IndexDocument Suffix is not well formed")
	case c.ErrorDocument != nil && value(c.ErrorDocument.Key) == "":
		return nil, malformedXML()
	case len(c.RoutingRules) > maxRoutingRules:
		return nil, invalidRequest("50 routing rules are allowed at most.")
	}
	for _, r := range c.RoutingRules {
		if err := checkRoutingRule(r); err != nil {
			return nil, err
		}
	}
	return &s3.PutBucketWebsiteOutput{}, s.setConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindWebsite, &configRow{Website: c}, nil)
}

func checkRoutingRule(r s3.RoutingRule) error {
	d := r.Redirect
	switch {
	case d == nil || count(d.HostName != nil, d.Protocol != nil, d.HttpRedirectCode != nil, d.ReplaceKeyPrefixWith != nil, d.ReplaceKeyWith != nil) == 0:
		return malformedXML()
	case d.ReplaceKeyPrefixWith != nil && d.ReplaceKeyWith != nil:
		return invalidRequest("You can only define ReplaceKeyPrefix or ReplaceKey but not both.")
	case d.Protocol != nil && *d.Protocol != "http" && *d.Protocol != "https":
		return invalidRequest("Invalid protocol, protocol can be http or https. If not defined the protocol will be selected automatically.")
	}
	if code := value(d.HttpRedirectCode); code != "" && (len(code) != 3 || code[0] != '3' || code == "300") {
		return invalidRequest("The provided HTTP redirect code (" + code + ") is not valid. Valid codes are 3XX except 300.")
	}
	if c := r.Condition; c != nil {
		if c.HttpErrorCodeReturnedEquals == nil && c.KeyPrefixEquals == nil {
			return malformedXML()
		}
		if code := value(c.HttpErrorCodeReturnedEquals); code != "" && (len(code) != 3 || code[0] != '4' && code[0] != '5') {
			return invalidRequest("The provided HTTP error code (" + code + ") is not valid. Valid codes are 4XX or 5XX.")
		}
	}
	return nil
}

// GetBucketWebsite implements s3:GetBucketWebsite.
func (s *Service) GetBucketWebsite(ctx context.Context, sc auth.Scope, in *s3.GetBucketWebsiteInput) (*s3.GetBucketWebsiteOutput, error) {
	row, err := s.viewConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindWebsite, "NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration")
	if err != nil {
		return nil, err
	}
	w := row.Website
	return &s3.GetBucketWebsiteOutput{RedirectAllRequestsTo: w.RedirectAllRequestsTo, IndexDocument: w.IndexDocument, ErrorDocument: w.ErrorDocument, RoutingRules: w.RoutingRules}, nil
}

// DeleteBucketWebsite implements s3:DeleteBucketWebsite.
func (s *Service) DeleteBucketWebsite(ctx context.Context, sc auth.Scope, in *s3.DeleteBucketWebsiteInput) (*s3.DeleteBucketWebsiteOutput, error) {
	return &s3.DeleteBucketWebsiteOutput{}, s.setConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindWebsite, nil, nil)
}

// website reads a bucket's website configuration.
func (s *Service) website(ctx context.Context, bucket string) (b *bucketRow, w *s3.WebsiteConfiguration, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		if b, err = s.bucket(tx, &bucket, nil); err != nil {
			return err
		}
		row, err := config(tx, b, kindWebsite)
		if err == nil && row == nil {
			return noConfiguration("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration", bucket)
		}
		if err == nil {
			w = row.Website
		}
		return err
	})
	return b, w, err
}

// redirection is where a website sends a visitor.
type redirection struct {
	protocol, host string // empty: as asked
	key            string
	code           int
}

// redirects returns where the first routing rule that fits sends a request for a
// key. status is that of the failed answer, 0 before the object was looked for.
func redirects(rules []s3.RoutingRule, key string, status int) (redirection, bool) {
	for _, r := range rules {
		c, d := r.Condition, r.Redirect
		var prefix, failed string
		if c != nil {
			prefix, failed = value(c.KeyPrefixEquals), value(c.HttpErrorCodeReturnedEquals)
		}
		if !strings.HasPrefix(key, prefix) || failed != "" && failed != itoa(status) || failed == "" && status != 0 {
			continue
		}
		to := redirection{protocol: value(d.Protocol), host: value(d.HostName), key: key, code: 301}
		switch {
		case d.ReplaceKeyWith != nil:
			to.key = *d.ReplaceKeyWith
		case d.ReplaceKeyPrefixWith != nil:
			to.key = *d.ReplaceKeyPrefixWith + strings.TrimPrefix(key, prefix)
		}
		if code := value(d.HttpRedirectCode); code != "" {
			to.code = int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
		}
		return to, true
	}
	return redirection{}, false
}

// WebsitePath begins the path form of website hosting, for clients that cannot
// resolve bucket.s3-website.localhost: /_skerry/website/bucket/key.
const WebsitePath = "/_skerry/website/"

// websiteMarks are what follows the bucket in the host of a website.
var websiteMarks = []string{".s3-website.", ".s3-website-"}

// WebsiteBucket returns the bucket whose website a request is for, and whether it is
// for one: by its host, or by its path.
func WebsiteBucket(r *http.Request) (string, bool) {
	if rest, ok := strings.CutPrefix(r.URL.Path, WebsitePath); ok {
		bucket, _, _ := strings.Cut(rest, "/")
		return bucket, bucket != ""
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	for _, mark := range websiteMarks {
		if i := strings.Index(host, mark); i > 0 {
			return host[:i], true
		}
	}
	return "", false
}

// Websites returns the handler of website hosting. It answers requests for which
// WebsiteBucket finds a bucket, as an anonymous visitor: what a bucket's policy
// does not let everybody read is not shown.
func (s *Service) Websites() http.Handler { return http.HandlerFunc(s.serveWebsite) }

// visit is one request to a website.
type visit struct {
	s      *Service
	w      http.ResponseWriter
	r      *http.Request
	id     string // of the request
	sc     auth.Scope
	bucket string
	base   string // path of the website: "/" unless it is the path form
	conf   *s3.WebsiteConfiguration
}

func (s *Service) serveWebsite(w http.ResponseWriter, r *http.Request) {
	bucket, _ := WebsiteBucket(r)
	v := &visit{s: s, w: w, r: r, id: ids.UUID(), bucket: bucket, base: "/"}
	if strings.HasPrefix(r.URL.Path, WebsitePath) {
		v.base = WebsitePath + bucket + "/"
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		v.page(awserr.New(http.StatusMethodNotAllowed, "MethodNotAllowed", "The specified method is not allowed against this resource."))
		return
	}
	b, conf, err := s.website(r.Context(), bucket)
	if err != nil {
		v.page(err)
		return
	}
	v.conf = conf
	ip, _, _ := net.SplitHostPort(r.RemoteAddr) // empty for what is no address
	v.sc = auth.NewScope(auth.Principal{Kind: auth.Anonymous}, b.Region, auth.Request{
		ID: v.id, Time: s.now(), SourceIP: ip, UserAgent: r.UserAgent(), Referer: r.Referer(), Host: r.Host, Secure: r.TLS != nil,
	})
	v.serve()
}

// serve answers a visit, in the order of "Configuring a static website".
func (v *visit) serve() {
	if all := v.conf.RedirectAllRequestsTo; all != nil {
		v.redirect(redirection{protocol: value(all.Protocol), host: value(all.HostName), key: v.key(), code: http.StatusMovedPermanently})
		return
	}
	key := v.key()
	if to, ok := redirects(v.conf.RoutingRules, key, 0); ok {
		v.redirect(to)
		return
	}
	name, suffix := key, value(v.conf.IndexDocument.Suffix)
	if name == "" || strings.HasSuffix(name, "/") {
		name += suffix
	}
	out, err := v.get(name)
	if err == nil {
		v.show(out, http.StatusOK)
		return
	}
	status := statusOf(err)
	// To a visitor who may not list, a missing key looks like a forbidden one.
	if (status == http.StatusNotFound || status == http.StatusForbidden) && name == key {
		if index, ierr := v.get(key + "/" + suffix); ierr == nil {
			index.Body.Close()
			v.location(v.base+(&url.URL{Path: key + "/"}).EscapedPath(), http.StatusFound)
			return
		}
	}
	if to, ok := redirects(v.conf.RoutingRules, key, status); ok {
		v.redirect(to)
		return
	}
	if doc := v.conf.ErrorDocument; doc != nil && status >= 400 && status < 500 {
		if page, perr := v.get(*doc.Key); perr == nil {
			v.show(page, status)
			return
		}
	}
	v.page(err)
}

// key returns the key that is asked for.
func (v *visit) key() string {
	return strings.TrimPrefix(strings.TrimPrefix(v.r.URL.Path, strings.TrimSuffix(v.base, "/")), "/")
}

func (v *visit) get(key string) (*s3.GetObjectOutput, error) {
	if key == "" {
		return nil, noSuchKey(key)
	}
	in := &s3.GetObjectInput{Bucket: &v.bucket, Key: &key, IfMatch: v.header("If-Match"), IfNoneMatch: v.header("If-None-Match"), Range: v.header("Range")}
	if t, err := http.ParseTime(v.r.Header.Get("If-Modified-Since")); err == nil {
		in.IfModifiedSince = &t
	}
	return op.Call[s3.GetObjectOutput](v.r.Context(), v.s.Cloud, v.sc, s3.Schema.ID, "GetObject", in)
}

func (v *visit) header(name string) *string { return optional(v.r.Header.Get(name)) }

// show sends an object.
func (v *visit) show(out *s3.GetObjectOutput, status int) {
	defer out.Body.Close()
	if to := value(out.WebsiteRedirectLocation); to != "" {
		if strings.HasPrefix(to, "/") {
			to = strings.TrimSuffix(v.base, "/") + to
		}
		v.location(to, http.StatusMovedPermanently)
		return
	}
	h := v.w.Header()
	set := func(name string, text *string) {
		if text != nil {
			h.Set(name, *text)
		}
	}
	set("Content-Type", out.ContentType)
	set("Cache-Control", out.CacheControl)
	set("Content-Disposition", out.ContentDisposition)
	set("Content-Encoding", out.ContentEncoding)
	set("Content-Language", out.ContentLanguage)
	set("ETag", out.ETag)
	set("Content-Range", out.ContentRange)
	set("Last-Modified", wire.Ptr(httpDate(value(out.LastModified))))
	set("Content-Length", wire.Ptr(fmt.Sprint(value(out.ContentLength))))
	if out.ContentRange != nil && status == http.StatusOK {
		status = http.StatusPartialContent
	}
	v.w.WriteHeader(status)
	if v.r.Method == http.MethodGet {
		if _, err := io.Copy(v.w, out.Body); err != nil {
			v.s.Log.Debug("s3: website", "bucket", v.bucket, "error", err) // the visitor left
		}
	}
}

// redirect sends a visitor to another key or host.
func (v *visit) redirect(to redirection) {
	path := (&url.URL{Path: "/" + to.key}).EscapedPath()
	if to.host == "" && to.protocol == "" {
		v.location(strings.TrimSuffix(v.base, "/")+path, to.code)
		return
	}
	if to.host == "" {
		to.host = v.r.Host
		path = strings.TrimSuffix(v.base, "/") + path
	}
	if to.protocol == "" {
		to.protocol = "http"
		if v.r.TLS != nil {
			to.protocol = "https"
		}
	}
	v.location(to.protocol+"://"+to.host+path, to.code)
}

func (v *visit) location(to string, code int) {
	v.w.Header().Set("Location", to)
	v.w.Header().Set("Content-Length", "0")
	v.w.WriteHeader(code)
}

func statusOf(err error) int {
	if e, ok := errors.AsType[*awserr.Error](err); ok {
		return e.Status
	}
	return http.StatusInternalServerError
}

// page answers an error as a page, which is what S3's website endpoints do.
func (v *visit) page(err error) {
	status, code, text := statusOf(err), awserr.Code(err), "We encountered an internal error. Please try again."
	if api, ok := errors.AsType[awserr.API](err); ok {
		text = api.ErrorMessage()
	} else {
		v.s.Log.Error("s3: website", "bucket", v.bucket, "error", err)
	}
	if code == "" {
		code = "InternalError"
	}
	h := v.w.Header()
	if e, ok := errors.AsType[*awserr.Error](err); ok {
		for name, value := range e.Header {
			h.Set(name, value)
		}
	}
	if status == http.StatusNotModified {
		v.w.WriteHeader(status)
		return
	}
	body := fmt.Sprintf("<html>\n<head><title>%d %s</title></head>\n<body>\n<h1>%d %s</h1>\n<ul>\n<li>Code: %s</li>\n<li>Message: %s</li>\n<li>RequestId: %s</li>\n</ul>\n<hr/>\n</body>\n</html>\n",
		status, http.StatusText(status), status, http.StatusText(status), html.EscapeString(code), html.EscapeString(text), v.id)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	v.w.WriteHeader(status)
	if v.r.Method != http.MethodHead {
		_, _ = io.WriteString(v.w, body) // the visitor may have left
	}
}
