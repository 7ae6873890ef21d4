package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"skerry/internal/auth"
)

// client returns AWS's own S3 client. Its time is the real one, so the world's
// clock is set to that.
func (w *world) client(c auth.Credential, change func(*s3.Options)) *s3.Client {
	w.clock.Advance(time.Since(w.clock.Now()))
	o := s3.Options{
		Region: "us-east-1", BaseEndpoint: &w.server.URL, UsePathStyle: true, HTTPClient: w.server.Client(), RetryMaxAttempts: 1,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenSupported, ResponseChecksumValidation: aws.ResponseChecksumValidationWhenSupported,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: c.AccessKey, SecretAccessKey: c.Secret}, nil
		}),
	}
	if change != nil {
		change(&o)
	}
	return s3.New(o)
}

func (w *world) get(t *testing.T, c *s3.Client, bucket, key string) string {
	t.Helper()
	out, err := c.GetObject(context.Background(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if err != nil {
		t.Error(err)
		return ""
	}
	defer out.Body.Close()
	b, err := io.ReadAll(out.Body)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

// unseekable hides all but Read, as a pipe does.
type unseekable struct{ io.Reader }

func TestRealS3Client(t *testing.T) {
	w := newWorld(t)
	plain := w.client(ann, nil)
	content := strings.Repeat("content ", 20_000)
	for _, key := range []string{"k", "a b/ü+~%2F//.././x", "a&b=c;d?e#f"} {
		if _, err := plain.PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("b"), Key: &key, Body: strings.NewReader(content), Metadata: map[string]string{"two": "a  b"}}); err != nil {
			t.Fatal(key, err)
		}
		if w.puts["b/"+key] != content || w.get(t, plain, "b", key) != content {
			t.Errorf("%q: another content", key)
		}
	}
	_, err := w.client(guest, nil).GetObject(context.Background(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "AccessDenied" {
		t.Error(err)
	}
	wrong := ann
	wrong.Secret = "x"
	_, err = w.client(wrong, nil).GetObject(context.Background(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("k")})
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "SignatureDoesNotMatch" {
		t.Error(err)
	}
}

// Over TLS the client streams with a checksum in a trailer, and in the virtual
// host style by default.
func TestRealS3ClientOverTLS(t *testing.T) {
	w := newWorld(t)
	secure := httptest.NewTLSServer(w.gateway)
	defer secure.Close()
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", secure.Listener.Addr().String())
		},
	}
	defer transport.CloseIdleConnections()
	c := w.client(ann, func(o *s3.Options) {
		o.BaseEndpoint, o.UsePathStyle, o.HTTPClient = nil, false, &http.Client{Transport: transport}
	})
	content := strings.Repeat("content ", 100_000)
	if _, err := c.PutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("bucket"), Key: aws.String("k"), Body: unseekable{strings.NewReader(content)}}); err != nil {
		t.Fatal(err)
	}
	if w.puts["bucket/k"] != content || !strings.HasPrefix(w.sums["bucket/k"], "x-amz-checksum-") || strings.HasSuffix(w.sums["bucket/k"], "k=") {
		t.Errorf("%d bytes, trailers %q", len(w.puts["bucket/k"]), w.sums["bucket/k"])
	}
	if w.get(t, c, "bucket", "k") != content {
		t.Error("another content")
	}
}

func TestRealPresignedLinks(t *testing.T) {
	w := newWorld(t)
	signer := s3.NewPresignClient(w.client(ann, nil))
	put, err := signer.PresignPutObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("b"), Key: aws.String("a b")})
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequest(put.Method, put.URL, bytes.NewReader([]byte("content")))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = put.SignedHeader.Clone()
	if got := w.send(r, auth.Credential{}, "", ""); got.status != 200 || w.puts["b/a b"] != "content" {
		t.Fatalf("%d %s", got.status, got.body)
	}
	get, err := signer.PresignGetObject(context.Background(), &s3.GetObjectInput{Bucket: aws.String("b"), Key: aws.String("a b")}, s3.WithPresignExpires(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	fetch := func() answer {
		r, err := http.NewRequest("GET", get.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.send(r, auth.Credential{}, "", "")
	}
	if got := fetch(); got.status != 200 || got.body != "content" {
		t.Errorf("%d %s", got.status, got.body)
	}
	w.clock.Advance(2 * time.Minute)
	if got := fetch(); got.status != 403 || !strings.Contains(got.body, "Request has expired") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// A form as a browser sends it, with the fields that AWS's SDKs make.
func TestRealPresignedForm(t *testing.T) {
	w := newWorld(t)
	signer := s3.NewPresignClient(w.client(ann, nil))
	post, err := signer.PresignPostObject(context.Background(), &s3.PutObjectInput{Bucket: aws.String("b"), Key: aws.String("cat.png")}, func(o *s3.PresignPostOptions) {
		o.Conditions = []any{[]any{"content-length-range", 1, 10}, []any{"starts-with", "$success_action_status", ""}, []any{"starts-with", "$success_action_redirect", ""}, []any{"starts-with", "$content-type", "image/"}}
	})
	if err != nil {
		t.Fatal(err)
	}
	send := func(content string, extra ...string) answer {
		fields := []string{"key", "cat.png", "content-type", "image/png"}
		for name, value := range post.Values {
			fields = append(fields, name, value)
		}
		return w.send(w.form("/b", append(append(fields, extra...), "file", content)...), auth.Credential{}, "", "")
	}
	if got := send("picture"); got.status != 204 || w.puts["b/cat.png"] != "picture" || got.header.Get("Etag") != `"etag"` {
		t.Errorf("%d %s %v", got.status, got.body, got.header)
	}
	if got := send("picture", "success_action_status", "201"); got.status != 201 || !strings.Contains(got.body, "<PostResponse><Location>http://127.0.0.1:") || !strings.Contains(got.body, "<Key>cat.png</Key>") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := send("a picture that is too large"); got.status != 400 || !strings.Contains(got.body, "<Code>EntityTooLarge</Code>") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got := send("picture", "x-amz-meta-more", "1"); got.status != 403 || !strings.Contains(got.body, "Extra input fields: x-amz-meta-more") {
		t.Errorf("%d %s", got.status, got.body)
	}
	w.server.Client().CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if got := send("picture", "success_action_redirect", "http://example.com/done?x=1"); got.status != 303 || got.header.Get("Location") != "http://example.com/done?x=1&bucket=b&key=cat.png&etag=%22etag%22" {
		t.Errorf("%d %s", got.status, got.header.Get("Location"))
	}
	if got := w.send(w.form("/b", "key", "k", "file", "x"), auth.Credential{}, "", ""); got.status != 403 {
		t.Errorf("anonymous: %d %s", got.status, got.body)
	}
	if got := w.send(w.form("/b", "key", "k", "x-amz-copy-source", "b/secret", "file", "x"), auth.Credential{}, "", ""); got.status != 400 || !strings.Contains(got.body, "<ArgumentName>x-amz-copy-source") {
		t.Errorf("a form that copies: %d %s", got.status, got.body)
	}
}
