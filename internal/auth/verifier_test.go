package auth_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
)

func checkCode(t *testing.T, name string, err error, code string, status int) {
	t.Helper()
	got := ""
	e, ok := errors.AsType[*awserr.Error](err)
	if ok {
		got = e.Code
	} else if err != nil {
		got = err.Error()
	}
	if got != code || ok && status != 0 && e.Status != status {
		t.Errorf("%s: got %v (%T), want %q %d", name, err, err, code, status)
	}
}

const (
	annKey, annSecret = "AKIAEXAMPLEEXAMPLE12", "secret/of+ann"
	sesKey, sesSecret = "ASIAEXAMPLEEXAMPLE12", "secret/of+session"
)

func world() (people, *clock.Fake, *auth.Verifier) {
	dir := people{
		annKey:                 {AccessKey: annKey, Secret: annSecret, Principal: user("ann")},
		sesKey:                 {AccessKey: sesKey, Secret: sesSecret, Token: "token", Principal: session("r"), Expires: now.Add(time.Hour)},
		"AKIAINACTIVEINACTIVE": {Secret: "s", Principal: user("bob"), Inactive: true},
	}
	c := clock.NewFake(now)
	return dir, c, auth.NewVerifier(dir, c)
}

// sign signs r with AWS's own signer, as its SDK for the service does.
func sign(t testing.TB, r *http.Request, body []byte, creds aws.Credentials, service string, at time.Time) *http.Request {
	t.Helper()
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if service == "s3" && r.Header.Get("X-Amz-Content-Sha256") == "" {
		r.Header.Set("X-Amz-Content-Sha256", hash)
	}
	if h := r.Header.Get("X-Amz-Content-Sha256"); h != "" {
		hash = h
	}
	err := v4.NewSigner().SignHTTP(context.Background(), creds, r, hash, service, "us-east-1", at, func(o *v4.SignerOptions) {
		o.DisableURIPathEscaping = service == "s3"
	})
	if err != nil {
		t.Fatal(err)
	}
	return arrive(r)
}

// arrive makes of a client's request the one that a server sees.
func arrive(r *http.Request) *http.Request {
	r.RequestURI = r.URL.RequestURI()
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	return r
}

func request(t testing.TB, method, url string, body []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var (
	ann = aws.Credentials{AccessKeyID: annKey, SecretAccessKey: annSecret}
	ses = aws.Credentials{AccessKeyID: sesKey, SecretAccessKey: sesSecret, SessionToken: "token"}
)

func TestSignedByTheSDK(t *testing.T) {
	_, _, v := world()
	tests := []struct {
		name, method, url, service string
		family                     auth.Family
		body                       string
	}{
		{"json", "POST", "http://localhost:4566/", "dynamodb", auth.RPC, `{"TableName":"t"}`},
		{"rest", "GET", "http://localhost:4566/2015-03-31/functions/arn%3Aaws%3Alambda%3Aus-east-1%3A1%3Afunction%3Af", "lambda", auth.REST, ""},
		{"rest with query", "GET", "http://localhost/2015-03-31/functions?b=2&a=1&a=0&c=%2F+x", "lambda", auth.REST, ""},
		{"query", "POST", "http://localhost:4566/", "iam", auth.Query, "Action=ListUsers&Version=2010-05-08"},
		{"s3", "PUT", "http://localhost:4566/b/k", "s3", auth.S3, "content"},
		{"s3 strange key", "PUT", "http://localhost:4566/b/a%20b/%C3%A9/..//x+y%2B~%2F", "s3", auth.S3, "content"},
		{"s3 query", "GET", "http://localhost:4566/b?list-type=2&prefix=a%2Fb%20c&delimiter=%2F", "s3", auth.S3, ""},
		{"s3 flag", "GET", "http://localhost:4566/b?acl", "s3", auth.S3, ""},
	}
	for _, tt := range tests {
		for _, creds := range []aws.Credentials{ann, ses} {
			t.Run(tt.name, func(t *testing.T) {
				r := request(t, tt.method, tt.url, []byte(tt.body))
				r.Header.Set("X-Amz-Meta-Two", "  a   b ")
				r.Header.Add("X-Amz-Meta-Two", "c")
				got, err := v.Verify(sign(t, r, []byte(tt.body), creds, tt.service, now), auth.Options{Family: tt.family, MaxBody: 1000})
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(got.Body)
				if err != nil || string(body) != tt.body {
					t.Errorf("body %q, %v", body, err)
				}
				if got.Service != tt.service || got.Region != "us-east-1" || got.Method.Type != "REST-HEADER" || got.Principal.AccessKey != creds.AccessKeyID {
					t.Errorf("%+v", got)
				}
			})
		}
	}
}

// Every fault, in the words of each family.
func TestFaults(t *testing.T) {
	families := []struct {
		family  auth.Family
		service string
	}{{auth.RPC, "dynamodb"}, {auth.REST, "lambda"}, {auth.Query, "iam"}, {auth.EC2, "ec2"}, {auth.S3, "s3"}}
	type want struct {
		code   string
		status int
	}
	with := func(c aws.Credentials, change func(*aws.Credentials)) aws.Credentials { change(&c); return c }
	tests := []struct {
		name  string
		creds aws.Credentials
		at    time.Time
		after func(*http.Request) // changes the signed request
		want  [5]want
	}{
		{"unknown key", with(ann, func(c *aws.Credentials) { c.AccessKeyID = "AKIANOBODYNOBODY1234" }), now, nil,
			[5]want{{"UnrecognizedClientException", 400}, {"UnrecognizedClientException", 403}, {"InvalidClientTokenId", 403}, {"AuthFailure", 401}, {"InvalidAccessKeyId", 403}}},
		{"inactive key", with(ann, func(c *aws.Credentials) { c.AccessKeyID, c.SecretAccessKey = "AKIAINACTIVEINACTIVE", "s" }), now, nil,
			[5]want{{"UnrecognizedClientException", 400}, {"UnrecognizedClientException", 403}, {"InvalidClientTokenId", 403}, {"AuthFailure", 401}, {"InvalidAccessKeyId", 403}}},
		{"wrong secret", with(ann, func(c *aws.Credentials) { c.SecretAccessKey = "x" }), now, nil,
			[5]want{{"InvalidSignatureException", 400}, {"InvalidSignatureException", 403}, {"SignatureDoesNotMatch", 403}, {"AuthFailure", 401}, {"SignatureDoesNotMatch", 403}}},
		{"changed header", ann, now, func(r *http.Request) { r.Header.Set("X-Amz-Meta-A", "changed") },
			[5]want{{"InvalidSignatureException", 400}, {"InvalidSignatureException", 403}, {"SignatureDoesNotMatch", 403}, {"AuthFailure", 401}, {"SignatureDoesNotMatch", 403}}},
		{"too old", ann, now.Add(-16 * time.Minute), nil,
			[5]want{{"InvalidSignatureException", 400}, {"InvalidSignatureException", 403}, {"SignatureDoesNotMatch", 403}, {"RequestExpired", 400}, {"RequestTimeTooSkewed", 403}}},
		{"too early", ann, now.Add(16 * time.Minute), nil,
			[5]want{{"InvalidSignatureException", 400}, {"InvalidSignatureException", 403}, {"SignatureDoesNotMatch", 403}, {"RequestExpired", 400}, {"RequestTimeTooSkewed", 403}}},
		{"no token", with(ses, func(c *aws.Credentials) { c.SessionToken = "" }), now, nil,
			[5]want{{"UnrecognizedClientException", 400}, {"UnrecognizedClientException", 403}, {"InvalidClientTokenId", 403}, {"AuthFailure", 401}, {"InvalidAccessKeyId", 403}}},
		{"wrong token", with(ses, func(c *aws.Credentials) { c.SessionToken = "x" }), now, nil,
			[5]want{{"UnrecognizedClientException", 400}, {"UnrecognizedClientException", 403}, {"InvalidClientTokenId", 403}, {"AuthFailure", 401}, {"InvalidToken", 400}}},
		{"unsigned", ann, now, func(r *http.Request) { r.Header.Del("Authorization") },
			[5]want{{"MissingAuthenticationTokenException", 400}, {"MissingAuthenticationTokenException", 403}, {"MissingAuthenticationToken", 403}, {"MissingAuthenticationToken", 403}, {}}},
		{"no signature", ann, now, func(r *http.Request) { cutAuthorization(r, "Signature=") },
			[5]want{{"IncompleteSignatureException", 400}, {"IncompleteSignatureException", 403}, {"IncompleteSignature", 400}, {"IncompleteSignature", 400}, {"AuthorizationHeaderMalformed", 400}}},
		{"no pairs", ann, now, func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") },
			[5]want{{"IncompleteSignatureException", 400}, {"IncompleteSignatureException", 403}, {"IncompleteSignature", 400}, {"IncompleteSignature", 400}, {"AuthorizationHeaderMalformed", 400}}},
		{"other scheme", ann, now, func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") },
			[5]want{{"IncompleteSignatureException", 400}, {"IncompleteSignatureException", 403}, {"IncompleteSignature", 400}, {"IncompleteSignature", 400}, {"InvalidArgument", 400}}},
		{"no date", ann, now, func(r *http.Request) { r.Header.Del("X-Amz-Date") },
			[5]want{{"IncompleteSignatureException", 400}, {"IncompleteSignatureException", 403}, {"IncompleteSignature", 400}, {"IncompleteSignature", 400}, {"AccessDenied", 403}}},
		{"another day's scope", ann, now, func(r *http.Request) { r.Header.Set("X-Amz-Date", "20260808T000000Z") },
			[5]want{{"InvalidSignatureException", 400}, {"InvalidSignatureException", 403}, {"SignatureDoesNotMatch", 403}, {"AuthFailure", 401}, {"AuthorizationHeaderMalformed", 400}}},
	}
	for _, tt := range tests {
		for i, f := range families {
			_, _, v := world()
			r := request(t, "POST", "http://localhost/b/k", []byte("body"))
			r.Header.Set("X-Amz-Meta-A", "a")
			sign(t, r, []byte("body"), tt.creds, f.service, tt.at)
			if tt.after != nil {
				tt.after(r)
			}
			_, err := v.Verify(r, auth.Options{Family: f.family, MaxBody: 100})
			checkCode(t, tt.name+" "+f.service, err, tt.want[i].code, tt.want[i].status)
		}
	}
}

func cutAuthorization(r *http.Request, from string) {
	head, _, _ := strings.Cut(r.Header.Get("Authorization"), from)
	r.Header.Set("Authorization", head)
}

func TestExpiredCredentials(t *testing.T) {
	for family, code := range map[auth.Family]string{auth.RPC: "ExpiredTokenException", auth.Query: "ExpiredToken", auth.S3: "ExpiredToken", auth.EC2: "RequestExpired"} {
		_, c, v := world()
		c.Advance(time.Hour)
		r := sign(t, request(t, "POST", "http://localhost/", nil), nil, ses, "x", c.Now())
		_, err := v.Verify(r, auth.Options{Family: family, MaxBody: 100})
		checkCode(t, "", err, code, 0)
	}
}

func TestWrongService(t *testing.T) {
	_, _, v := world()
	r := sign(t, request(t, "POST", "http://localhost/", nil), nil, ann, "sqs", now)
	_, err := v.Verify(r, auth.Options{Family: auth.RPC, Services: []string{"dynamodb"}})
	checkCode(t, "", err, "InvalidSignatureException", 400)
	if !strings.Contains(err.Error(), "Credential should be scoped to correct service: 'dynamodb'.") {
		t.Error(err)
	}
}

func TestRotatedSecret(t *testing.T) {
	dir, _, v := world()
	send := func(secret string) error {
		c := ann
		c.SecretAccessKey = secret
		_, err := v.Verify(sign(t, request(t, "POST", "http://localhost/", nil), nil, c, "sqs", now), auth.Options{})
		return err
	}
	if err := send(annSecret); err != nil {
		t.Fatal(err)
	}
	dir[annKey] = auth.Credential{Secret: "new", Principal: user("ann")}
	checkCode(t, "old secret", send(annSecret), "InvalidSignatureException", 400)
	if err := send("new"); err != nil {
		t.Fatal(err)
	}
}

func TestBodies(t *testing.T) {
	_, _, v := world()
	t.Run("changed content", func(t *testing.T) {
		r := sign(t, request(t, "PUT", "http://localhost/b/k", []byte("abc")), []byte("abc"), ann, "s3", now)
		r.Body = io.NopCloser(strings.NewReader("abd"))
		got, err := v.Verify(r, auth.Options{Family: auth.S3})
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.ReadAll(got.Body)
		checkCode(t, "", err, "XAmzContentSHA256Mismatch", 400)
	})
	t.Run("changed JSON", func(t *testing.T) {
		r := sign(t, request(t, "POST", "http://localhost/", []byte("{}")), []byte("{}"), ann, "sqs", now)
		r.Body = io.NopCloser(strings.NewReader("[]"))
		_, err := v.Verify(r, auth.Options{MaxBody: 100})
		checkCode(t, "", err, "InvalidSignatureException", 400)
	})
	t.Run("too large", func(t *testing.T) {
		r := sign(t, request(t, "POST", "http://localhost/", []byte("{ }")), []byte("{ }"), ann, "sqs", now)
		_, err := v.Verify(r, auth.Options{MaxBody: 2})
		checkCode(t, "", err, "RequestEntityTooLargeException", 413)
	})
	t.Run("no hash", func(t *testing.T) {
		r := sign(t, request(t, "PUT", "http://localhost/b/k", nil), nil, ann, "s3", now)
		r.Header.Del("X-Amz-Content-Sha256")
		_, err := v.Verify(r, auth.Options{Family: auth.S3})
		checkCode(t, "", err, "InvalidRequest", 400)
	})
	t.Run("unsigned header", func(t *testing.T) {
		r := sign(t, request(t, "PUT", "http://localhost/b/k", nil), nil, ann, "s3", now)
		r.Header.Set("X-Amz-Acl", "public-read")
		_, err := v.Verify(r, auth.Options{Family: auth.S3})
		checkCode(t, "", err, "AccessDenied", 403)
	})
	t.Run("unsigned trailer", func(t *testing.T) {
		body := "3\r\nabc\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n"
		for want, text := range map[string]string{"": body, "MalformedTrailerError": strings.Replace(body, "crc32", "sha1", 1), "IncompleteBody": strings.Replace(body, "3\r\nabc", "2\r\nab", 1)} {
			r := request(t, "PUT", "http://localhost/b/k", []byte(text))
			r.Header.Set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
			r.Header.Set("X-Amz-Decoded-Content-Length", "3")
			r.Header.Set("X-Amz-Trailer", "x-amz-checksum-crc32")
			got, err := v.Verify(sign(t, r, nil, ann, "s3", now), auth.Options{Family: auth.S3})
			if err != nil {
				t.Fatal(err)
			}
			content, err := io.ReadAll(got.Body)
			checkCode(t, text, err, want, 400)
			if sum, _ := got.Body.Trailer("x-amz-checksum-crc32"); want == "" && (string(content) != "abc" || sum != "NSRBwg==") {
				t.Errorf("%q, %q", content, sum)
			}
		}
	})
}

func TestLinks(t *testing.T) {
	_, c, v := world()
	presign := func(query string, headers ...string) *http.Request {
		r := request(t, "GET", "http://localhost:4566/b/a%20b/c?"+query, nil)
		for _, h := range headers {
			r.Header.Set(h, "value")
		}
		url, _, err := v4.NewSigner().PresignHTTP(context.Background(), ses, r, "UNSIGNED-PAYLOAD", "s3", "us-east-1", now, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		if err != nil {
			t.Fatal(err)
		}
		return arrive(request(t, "GET", url, nil))
	}
	verify := func(r *http.Request) error {
		got, err := v.Verify(r, auth.Options{Family: auth.S3})
		if err == nil && (got.Method.Type != "REST-QUERY-STRING" || got.Principal.Kind != auth.AssumedRole) {
			t.Errorf("%+v", got)
		}
		return err
	}
	if err := verify(presign("X-Amz-Expires=60&versionId=1")); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ query, code string }{
		"no expiry":    {"", "AuthorizationQueryParametersError"},
		"eight days":   {"X-Amz-Expires=691200", "AuthorizationQueryParametersError"},
		"negative":     {"X-Amz-Expires=-1", "AuthorizationQueryParametersError"},
		"not a number": {"X-Amz-Expires=x", "AuthorizationQueryParametersError"},
	} {
		checkCode(t, name, verify(presign(tt.query)), tt.code, 400)
	}
	changed := presign("X-Amz-Expires=60")
	changed.RequestURI = strings.Replace(changed.RequestURI, "/c?", "/d?", 1)
	checkCode(t, "changed path", verify(changed), "SignatureDoesNotMatch", 403)
	checkCode(t, "header left out", verify(presign("X-Amz-Expires=60", "X-Amz-Meta-A")), "SignatureDoesNotMatch", 403)
	c.Advance(61 * time.Second)
	err := verify(presign("X-Amz-Expires=60"))
	checkCode(t, "expired", err, "AccessDenied", 403)
	if !strings.Contains(err.Error(), "Request has expired") {
		t.Error(err)
	}
}

// The link of STS's GetCallerIdentity, which clients hand to others as a proof of
// who they are.
func TestLinkOfSTS(t *testing.T) {
	_, _, v := world()
	r := request(t, "GET", "http://localhost/?Action=GetCallerIdentity&Version=2011-06-15", nil)
	url, _, err := v4.NewSigner().PresignHTTP(context.Background(), ann, r, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "sts", "us-east-1", now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(arrive(request(t, "GET", url, nil)), auth.Options{Family: auth.Query, Services: []string{"sts"}}); err != nil {
		t.Fatal(err)
	}
}

// The examples of the page "Signing and authenticating REST requests (AWS
// signature version 2)".
func TestVersion2(t *testing.T) {
	dir := people{"AKIAIOSFODNN7EXAMPLE": {Secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", Principal: user("ann")}}
	get := httptest.NewRequest("GET", "/photos/puppy.jpg", nil)
	get.Header.Set("Date", "Tue, 27 Mar 2007 19:36:42 +0000")
	get.Header.Set("Authorization", "AWS AKIAIOSFODNN7EXAMPLE:qgk2+6Sv9/oM7G3qLEjTH1a1l1g=")
	list := httptest.NewRequest("GET", "/?prefix=photos&max-keys=50&marker=puppy", nil)
	list.Header.Set("Date", "Tue, 27 Mar 2007 19:42:41 +0000")
	list.Header.Set("Authorization", "AWS AKIAIOSFODNN7EXAMPLE:m0WP8eCtspQl5Ahe6L1SozdX9YA=")
	acl := httptest.NewRequest("GET", "/?acl", nil)
	acl.Header.Set("Date", "Tue, 27 Mar 2007 19:44:46 +0000")
	acl.Header.Set("Authorization", "AWS AKIAIOSFODNN7EXAMPLE:82ZHiFIjc+WbcwFKGUVEQspPn+0=")
	link := httptest.NewRequest("GET", "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620", nil)
	at := clock.NewFake(time.Date(2007, 3, 27, 19, 40, 0, 0, time.UTC))
	v := auth.NewVerifier(dir, at)
	for name, r := range map[string]*http.Request{"get": get, "list": list, "acl": acl, "link": link} {
		bucket := "awsexamplebucket1"
		if name == "link" {
			bucket = "johnsmith" // the page's examples changed hands
		}
		got, err := v.Verify(r, auth.Options{Family: auth.S3, Bucket: bucket})
		if err != nil {
			e, _ := errors.AsType[*awserr.Error](err)
			t.Errorf("%s: %v %q", name, err, e.Detail)
			continue
		}
		if got.Method.Version != "AWS" {
			t.Errorf("%s: %+v", name, got)
		}
	}
	// boto3 signs the path of a bucket's own address with a slash that it does not send
	bare := httptest.NewRequest("PUT", "/bucket", nil)
	bare.Header.Set("Date", "Tue, 27 Mar 2007 19:42:41 +0000")
	text := "PUT\n\n\nTue, 27 Mar 2007 19:42:41 +0000\n/bucket/"
	bare.Header.Set("Authorization", "AWS AKIAIOSFODNN7EXAMPLE:"+auth.Sign2ForTest("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", text))
	if _, err := v.Verify(bare, auth.Options{Family: auth.S3}); err != nil {
		t.Error(err)
	}
	get.Header.Set("Date", "Tue, 27 Mar 2007 19:36:43 +0000")
	_, err := v.Verify(get, auth.Options{Family: auth.S3, Bucket: "awsexamplebucket1"})
	checkCode(t, "changed", err, "SignatureDoesNotMatch", 403)
	at.Advance(72 * time.Hour)
	_, err = v.Verify(link, auth.Options{Family: auth.S3, Bucket: "awsexamplebucket1"})
	checkCode(t, "expired link", err, "AccessDenied", 403)
	_, err = v.Verify(list, auth.Options{Family: auth.S3, Bucket: "awsexamplebucket1"})
	checkCode(t, "old request", err, "RequestTimeTooSkewed", 403)
}

func TestSigningScope(t *testing.T) {
	r := sign(t, request(t, "POST", "http://localhost/", nil), nil, ann, "sqs", now)
	if region, service := auth.SigningScope(r); region != "us-east-1" || service != "sqs" {
		t.Error(region, service)
	}
	r = httptest.NewRequest("GET", "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20260807%2Feu-west-1%2Fs3%2Faws4_request", nil)
	if region, service := auth.SigningScope(r); region != "eu-west-1" || service != "s3" {
		t.Error(region, service)
	}
	if region, service := auth.SigningScope(httptest.NewRequest("GET", "/", nil)); region != "" || service != "" {
		t.Error(region, service)
	}
}

func BenchmarkVerify(b *testing.B) {
	_, _, v := world()
	body := []byte(`{"TableName":"t","Key":{"id":{"S":"1"}}}`)
	r := request(b, "POST", "http://localhost:4566/", body)
	r.Header.Set("Content-Type", "application/x-amz-json-1.0")
	r.Header.Set("X-Amz-Target", "DynamoDB_20120810.GetItem")
	sign(b, r, body, ann, "dynamodb", now)
	b.ReportAllocs()
	for b.Loop() {
		r.Body = io.NopCloser(bytes.NewReader(body))
		if _, err := v.Verify(r, auth.Options{MaxBody: 1 << 20}); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLEEXAMPLE12/20260807/us-east-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=00", "/b/k?a=%20", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "3;chunk-signature=0\r\nabc\r\n0;\r\n\r\n")
	f.Add("AWS a:b", "/?AWSAccessKeyId=x&Signature=y&Expires=1", "", "")
	f.Add("", "/?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Credential=a%2f20260807%2fs3%2faws4_request&X-Amz-Signature=1&X-Amz-Date=20260807T120000Z&X-Amz-SignedHeaders=host&X-Amz-Expires=1", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "0\r\na:b\r\n\r\n")
	_, _, v := world()
	f.Fuzz(func(t *testing.T, header, target, hash, body string) {
		r := httptest.NewRequest("PUT", "/", strings.NewReader(body))
		r.RequestURI = target
		r.Header.Set("Authorization", header)
		r.Header.Set("X-Amz-Content-Sha256", hash)
		r.Header.Set("X-Amz-Date", "20260807T120000Z")
		r.Header.Set("X-Amz-Decoded-Content-Length", "3")
		auth.SigningScope(r)
		for _, family := range []auth.Family{auth.S3, auth.Query} {
			got, err := v.Verify(r, auth.Options{Family: family, MaxBody: 100})
			if err != nil {
				continue
			}
			if got.Principal.Kind != auth.Anonymous {
				t.Fatalf("%q %q is signed", header, target)
			}
			_, _ = io.Copy(io.Discard, got.Body)
		}
	})
}

func TestSignVerifies(t *testing.T) {
	dir, _, v := world()
	for _, key := range []string{annKey, sesKey} {
		c := dir[key]
		for service, family := range map[string]auth.Family{"s3": auth.S3, "lambda": auth.REST} {
			r := request(t, "PUT", "http://localhost:4566/b/a%20b%2Fc?x=1&y=%20", []byte("body"))
			auth.Sign(r, c, "us-east-1", service, []byte("body"), now)
			if _, err := v.Verify(arrive(r), auth.Options{Family: family, MaxBody: 10}); err != nil {
				t.Errorf("%s: %v", service, err)
			}
		}
	}
}

// The JavaScript SDK speaks HTTP/2 to Kinesis and signs :authority in place of
// the host.
func TestAuthorityIsSigned(t *testing.T) {
	dir, _, v := world()
	r := request(t, "POST", "http://localhost:4566/", []byte("{}"))
	r.Header.Set("X-Amz-Date", "20260807T120000Z")
	text := "AWS4-HMAC-SHA256\n20260807T120000Z\n20260807/us-east-1/kinesis/aws4_request\n" +
		hexSHA("POST\n/\n\n:authority:localhost:4566\nx-amz-date:20260807T120000Z\n\n:authority;x-amz-date\n"+hexSHA("{}"))
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+annKey+"/20260807/us-east-1/kinesis/aws4_request, SignedHeaders=:authority;x-amz-date, Signature="+
		auth.SignForTest(dir[annKey], "20260807", "us-east-1", "kinesis", text))
	if _, err := v.Verify(arrive(r), auth.Options{MaxBody: 10}); err != nil {
		t.Error(err)
	}
	r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), ":authority;", "", 1))
	_, err := v.Verify(r, auth.Options{MaxBody: 10})
	checkCode(t, "no host", err, "InvalidSignatureException", 400)
}
