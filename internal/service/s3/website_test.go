package s3

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"skerry/internal/api/s3"
	"skerry/internal/wire"
)

func TestWebsite(t *testing.T) {
	h := newHarness(t)
	h.make("site", false)
	put := &s3.PutBucketWebsiteInput{Bucket: wire.Ptr("site"), WebsiteConfiguration: &s3.WebsiteConfiguration{
		IndexDocument: &s3.IndexDocument{Suffix: wire.Ptr("index.html")}, ErrorDocument: &s3.ErrorDocument{Key: wire.Ptr("error.html")},
		RoutingRules: []s3.RoutingRule{
			{Condition: &s3.Condition{KeyPrefixEquals: wire.Ptr("old/")}, Redirect: &s3.Redirect{ReplaceKeyPrefixWith: wire.Ptr("new/")}},
			{Condition: &s3.Condition{KeyPrefixEquals: wire.Ptr("gone/"), HttpErrorCodeReturnedEquals: wire.Ptr("404")},
				Redirect: &s3.Redirect{HostName: wire.Ptr("example.com"), Protocol: wire.Ptr("https"), ReplaceKeyWith: wire.Ptr("found"), HttpRedirectCode: wire.Ptr("302")}},
		}}}
	do[s3.PutBucketWebsiteOutput](h, h.root, put)
	for key, body := range map[string]string{"index.html": "home", "error.html": "sorry", "sub/index.html": "sub", "new/x": "x", "gone/still": "here"} {
		h.put("site", key, body)
	}
	visit := func(host, path string) (int, string, string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+host+path, nil)
		w := httptest.NewRecorder()
		if bucket, ok := WebsiteBucket(r); !ok || bucket != "site" {
			t.Fatalf("%s%s is of %q", host, path, bucket)
		}
		h.Websites().ServeHTTP(w, r)
		return w.Code, w.Body.String(), w.Header().Get("Location")
	}
	const host = "site.s3-website.localhost:4566"
	if code, _, _ := visit(host, "/"); code != 403 {
		t.Errorf("a private site answers %d", code)
	}
	h.unlock("site", ownerEnforced)
	h.policy("site", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":["s3:GetObject","s3:ListBucket"],"Resource":["arn:aws:s3:::site","arn:aws:s3:::site/*"]}]}`)
	for _, c := range []struct {
		host, path string
		code       int
		body, to   string
	}{
		{host, "/", 200, "home", ""},
		{"site.s3-website-us-east-1.amazonaws.com", "/", 200, "home", ""},
		{host, "/sub/", 200, "sub", ""},
		{host, "/sub", 302, "", "/sub/"},
		{host, "/new/x", 200, "x", ""},
		{host, "/old/x", 301, "", "/new/x"},
		{host, "/gone/still", 200, "here", ""},
		{host, "/gone/not", 302, "", "https://example.com/found"},
		{host, "/missing", 404, "sorry", ""},
		{"localhost", WebsitePath + "site/", 200, "home", ""},
		{"localhost", WebsitePath + "site/old/x", 301, "", WebsitePath + "site/new/x"},
	} {
		code, body, to := visit(c.host, c.path)
		if code != c.code || body != c.body || to != c.to {
			t.Errorf("%s%s: %d %q %q", c.host, c.path, code, body, to)
		}
	}
	// To visitors who may not list, what is missing is forbidden; folders are found.
	h.policy("site", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::site/*"}]}`)
	if code, _, to := visit(host, "/sub"); code != 302 || to != "/sub/" {
		t.Errorf("a folder answers %d, %q", code, to)
	}
	if code, body, _ := visit(host, "/missing"); code != 403 || body != "sorry" {
		t.Errorf("a missing page answers %d, %q", code, body)
	}
	both := put.WebsiteConfiguration
	both.RedirectAllRequestsTo = &s3.RedirectAllRequestsTo{HostName: wire.Ptr("example.com")}
	refuse(h, h.root, put, "InvalidArgument")
	do[s3.PutBucketWebsiteOutput](h, h.root, &s3.PutBucketWebsiteInput{Bucket: wire.Ptr("site"), WebsiteConfiguration: &s3.WebsiteConfiguration{RedirectAllRequestsTo: both.RedirectAllRequestsTo}})
	if code, _, to := visit(host, "/a?b"); code != 301 || to != "http://example.com/a" {
		t.Errorf("redirected by %d to %q", code, to)
	}
}

func TestCORS(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	rules := func(rules ...s3.CORSRule) *s3.PutBucketCorsInput {
		return &s3.PutBucketCorsInput{Bucket: wire.Ptr("bucket"), CORSConfiguration: &s3.CORSConfiguration{CORSRules: rules}}
	}
	refuse(h, h.root, rules(s3.CORSRule{AllowedMethods: []string{"PATCH"}, AllowedOrigins: []string{"*"}}), "InvalidRequest")
	refuse(h, h.root, rules(s3.CORSRule{AllowedMethods: []string{"GET"}, AllowedOrigins: []string{"*a*"}}), "InvalidRequest")
	refuse(h, h.root, rules(), "MalformedXML")
	do[s3.PutBucketCorsOutput](h, h.root, rules(
		s3.CORSRule{AllowedMethods: []string{"PUT"}, AllowedOrigins: []string{"https://*.example.com"}, AllowedHeaders: []string{"x-amz-*"}, MaxAgeSeconds: wire.Ptr(int32(5))},
		s3.CORSRule{AllowedMethods: []string{"GET"}, AllowedOrigins: []string{"*"}, ExposeHeaders: []string{"ETag"}}))
	for _, c := range []struct {
		origin, method, asked string
		want                  string
	}{
		{"https://a.example.com", "PUT", "X-Amz-Date", "https://a.example.com"},
		{"https://a.example.com", "PUT", "Authorization", ""},
		{"https://example.com", "PUT", "", ""},
		{"http://anywhere", "GET", "", "*"},
		{"http://anywhere", "DELETE", "", ""},
	} {
		var asked []string
		if c.asked != "" {
			asked = []string{c.asked}
		}
		got, ok := h.CORS(t.Context(), "bucket", c.origin, c.method, asked, true)
		if ok != (c.want != "") || got.Get("Access-Control-Allow-Origin") != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if _, ok := h.CORS(t.Context(), "nowhere", "http://a", "GET", nil, false); ok {
		t.Error("a bucket that is not there lets somebody in")
	}
}

func TestCopy(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", true)
	h.make("other", false)
	body := string(noise(100_000, 4))
	in := putObject("bucket", "k")
	in.Metadata, in.ContentType, in.Tagging = map[string]string{"a": "b"}, wire.Ptr("text/x"), wire.Ptr("t=1")
	do[s3.PutObjectOutput](h, h.root, in)
	v1 := h.put("bucket", "src", body).VersionId
	h.put("bucket", "src", "newer")
	blobs := h.blobs()
	cp := func(key, source string) *s3.CopyObjectInput {
		return &s3.CopyObjectInput{Bucket: wire.Ptr("other"), Key: &key, CopySource: &source}
	}
	out := do[s3.CopyObjectOutput](h, h.root, cp("c", "bucket/src?versionId="+*v1))
	if h.get("other", "c") != body || *out.CopySourceVersionId != *v1 || h.blobs() != blobs {
		t.Errorf("the copy differs or takes room: %d blobs, were %d", h.blobs(), blobs)
	}
	do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("bucket"), Key: wire.Ptr("src"), VersionId: v1})
	h.sweep()
	if h.get("other", "c") != body {
		t.Error("the copy's bytes went with the source")
	}
	do[s3.DeleteObjectOutput](h, h.root, &s3.DeleteObjectInput{Bucket: wire.Ptr("other"), Key: wire.Ptr("c")})
	h.sweep()
	if n := h.blobs(); n != blobs-1 {
		t.Errorf("%d blobs, want %d", n, blobs-1)
	}
	do[s3.CopyObjectOutput](h, h.root, cp("meta", "/bucket/k"))
	got := do[s3.HeadObjectOutput](h, h.root, &s3.HeadObjectInput{Bucket: wire.Ptr("other"), Key: wire.Ptr("meta")})
	if got.Metadata["a"] != "b" || *got.ContentType != "text/x" || *got.TagCount != 1 {
		t.Errorf("copied as %+v", got)
	}
	replace := cp("meta", "other/meta")
	refuse(h, h.root, replace, "InvalidRequest") // onto itself, unchanged
	replace.MetadataDirective, replace.TaggingDirective, replace.Metadata = wire.Ptr("REPLACE"), wire.Ptr("REPLACE"), map[string]string{"n": "m"}
	do[s3.CopyObjectOutput](h, h.root, replace)
	got = do[s3.HeadObjectOutput](h, h.root, &s3.HeadObjectInput{Bucket: wire.Ptr("other"), Key: wire.Ptr("meta")})
	if got.Metadata["n"] != "m" || got.Metadata["a"] != "" || *got.ContentType != "binary/octet-stream" || got.TagCount != nil {
		t.Errorf("replaced by %+v", got)
	}
	refuse(h, h.root, cp("c", "bucket"), "InvalidArgument")
	refuse(h, h.root, cp("c", "nowhere/k"), "NoSuchBucket")
	refuse(h, h.root, cp("c", "bucket/none"), "NoSuchKey")
	cond := cp("c", "bucket/k")
	cond.CopySourceIfNoneMatch = wire.Ptr("*")
	refuse(h, h.root, cond, "PreconditionFailed")
}
