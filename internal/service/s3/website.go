package s3

import (
	"context"
	"strings"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/store"
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
