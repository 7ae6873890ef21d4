package s3

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/store"
)

const maxCORSRules = 100

// PutBucketCors implements s3:PutBucketCORS.
func (s *Service) PutBucketCors(ctx context.Context, sc auth.Scope, in *s3.PutBucketCorsInput) (*s3.PutBucketCorsOutput, error) {
	if in.CORSConfiguration == nil || len(in.CORSConfiguration.CORSRules) == 0 || len(in.CORSConfiguration.CORSRules) > maxCORSRules {
		return nil, malformedXML()
	}
	for _, r := range in.CORSConfiguration.CORSRules {
		if len(r.AllowedMethods) == 0 || len(r.AllowedOrigins) == 0 {
			return nil, malformedXML()
		}
		for _, m := range r.AllowedMethods {
			if !slices.Contains([]string{"GET", "PUT", "POST", "DELETE", "HEAD"}, m) {
				return nil, invalidRequest("Found unsupported HTTP method in CORS config. Unsupported method is " + m)
			}
		}
		for _, o := range r.AllowedOrigins {
			if strings.Count(o, "*") > 1 {
				return nil, invalidRequest(`AllowedOrigin "` + o + `" can not have more than one wildcard.`)
			}
		}
		for _, h := range r.AllowedHeaders {
			if strings.Count(h, "*") > 1 {
				return nil, invalidRequest(`AllowedHeader "` + h + `" can not have more than one wildcard.`)
			}
		}
		for _, h := range r.ExposeHeaders {
			if strings.Contains(h, "*") {
				return nil, invalidRequest(`ExposeHeader "` + h + `" contains wildcard. We currently do not support wildcard for ExposeHeader.`)
			}
		}
	}
	return &s3.PutBucketCorsOutput{}, s.setConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindCORS, &configRow{CORS: in.CORSConfiguration}, nil)
}

// GetBucketCors implements s3:GetBucketCORS.
func (s *Service) GetBucketCors(ctx context.Context, sc auth.Scope, in *s3.GetBucketCorsInput) (*s3.GetBucketCorsOutput, error) {
	row, err := s.viewConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindCORS, "NoSuchCORSConfiguration", "The CORS configuration does not exist")
	if err != nil {
		return nil, err
	}
	return &s3.GetBucketCorsOutput{CORSRules: row.CORS.CORSRules}, nil
}

// DeleteBucketCors implements s3:PutBucketCORS's removal.
func (s *Service) DeleteBucketCors(ctx context.Context, sc auth.Scope, in *s3.DeleteBucketCorsInput) (*s3.DeleteBucketCorsOutput, error) {
	return &s3.DeleteBucketCorsOutput{}, s.setConfig(ctx, in.Bucket, in.ExpectedBucketOwner, kindCORS, nil, nil)
}

// CORS returns the headers that a bucket's rules give to a request from an origin,
// and whether a rule matches. asked holds the headers that a preflight asks for.
// Page: "Using cross-origin resource sharing".
func (s *Service) CORS(ctx context.Context, bucket, origin, method string, asked []string, preflight bool) (http.Header, bool) {
	var rules []s3.CORSRule
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		b, err := buckets.Get(tx, store.K(bucket))
		if err != nil {
			return err
		}
		row, err := config(tx, b, kindCORS)
		if err == nil && row != nil {
			rules = row.CORS.CORSRules
		}
		return err
	})
	if err != nil {
		return nil, false // the request itself will tell
	}
	for i := range rules {
		if h, ok := corsHeaders(&rules[i], origin, method, asked, preflight); ok {
			return h, true
		}
	}
	return nil, false
}

// corsHeaders returns what one rule gives, if it matches.
func corsHeaders(r *s3.CORSRule, origin, method string, asked []string, preflight bool) (http.Header, bool) {
	i := slices.IndexFunc(r.AllowedOrigins, func(p string) bool { return wild(p, origin) })
	if i < 0 || !slices.Contains(r.AllowedMethods, method) {
		return nil, false
	}
	for _, h := range asked {
		if !slices.ContainsFunc(r.AllowedHeaders, func(p string) bool { return wild(lower(p), lower(h)) }) {
			return nil, false
		}
	}
	h := http.Header{}
	if r.AllowedOrigins[i] == "*" {
		h.Set("Access-Control-Allow-Origin", "*")
	} else {
		h.Set("Access-Control-Allow-Origin", origin)
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	h.Set("Vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
	h.Set("Access-Control-Allow-Methods", strings.Join(r.AllowedMethods, ", "))
	if len(r.ExposeHeaders) > 0 {
		h.Set("Access-Control-Expose-Headers", strings.Join(r.ExposeHeaders, ", "))
	}
	if r.MaxAgeSeconds != nil {
		h.Set("Access-Control-Max-Age", itoa(int(*r.MaxAgeSeconds)))
	}
	if preflight && len(asked) > 0 {
		h.Set("Access-Control-Allow-Headers", lower(strings.Join(asked, ", ")))
	}
	return h, true
}

// wild matches a text with a pattern that may have one star.
func wild(pattern, text string) bool {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	return len(text) >= len(before)+len(after) && strings.HasPrefix(text, before) && strings.HasSuffix(text, after)
}
