package wire_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"skerry/internal/api/lambda"
	"skerry/internal/api/s3"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// TestS3Routing: the operation by the literal query, then by the members that
// have to be there; x-id is only a hint.
func TestS3Routing(t *testing.T) {
	for _, tt := range []struct{ line, header, want string }{
		{"GET /", "", "ListBuckets"},
		{"GET /?x-id=ListDirectoryBuckets", "", "ListDirectoryBuckets"},
		{"GET /b", "", "ListObjects"},
		{"GET /b/", "", "ListObjects"},
		{"GET /b?list-type=2", "", "ListObjectsV2"},
		{"GET /b?list-type=1", "", "ListObjects"},
		{"GET /b?versions", "", "ListObjectVersions"},
		{"GET /b?location", "", "GetBucketLocation"},
		{"GET /b?lifecycle", "", "GetBucketLifecycleConfiguration"},
		{"GET /b?notification", "", "GetBucketNotificationConfiguration"},
		{"GET /b?analytics", "", "ListBucketAnalyticsConfigurations"},
		{"GET /b?analytics&id=x", "", "GetBucketAnalyticsConfiguration"},
		{"PUT /b", "", "CreateBucket"},
		{"PUT /b?lifecycle", "", "PutBucketLifecycleConfiguration"},
		{"PUT /b/k", "", "PutObject"},
		{"PUT /b/k?x-id=PutObject", "", "PutObject"},
		{"PUT /b/k", "x-amz-copy-source: /a/b", "CopyObject"},
		{"PUT /b/k?partNumber=1&uploadId=u", "", "UploadPart"},
		{"PUT /b/k?partNumber=1&uploadId=u", "x-amz-copy-source: /a/b", "UploadPartCopy"},
		{"POST /b/k?uploads", "", "CreateMultipartUpload"},
		{"POST /b/k?uploadId=u", "", "CompleteMultipartUpload"},
		{"DELETE /b/k?uploadId=u", "", "AbortMultipartUpload"},
		{"DELETE /b/k", "", "DeleteObject"},
		{"POST /b?delete", "", "DeleteObjects"},
		{"GET /b/k", "", "GetObject"},
		{"GET /b/k?response-content-type=a%2Fb&X-Amz-Signature=x", "", "GetObject"},
		{"GET /b/k?uploadId=u", "", "ListParts"},
		{"GET /b/k?tagging", "", "GetObjectTagging"},
		{"GET /b/k?attributes", "x-amz-object-attributes: ETag", "GetObjectAttributes"},
		{"HEAD /b", "", "HeadBucket"},
		{"HEAD /b/k", "", "HeadObject"},
		{"POST /b/k?select&select-type=2", "", "SelectObjectContent"},
	} {
		method, target, _ := strings.Cut(tt.line, " ")
		path, query, _ := strings.Cut(target, "?")
		h := http.Header{}
		if name, value, ok := strings.Cut(tt.header, ": "); ok {
			h.Set(name, value)
		}
		c, err := wire.Identify(s3.Schema, &wire.Request{Method: method, Path: path, Query: query, Header: h})
		if err != nil || c.Operation.Name != tt.want {
			t.Errorf("%s: %v, %v, not %s", tt.line, c.Operation, err, tt.want)
		}
	}
	if _, _, err := decode[struct{}](t, s3.Schema, "PATCH /b/k", ""); awserr.Code(err) != "MethodNotAllowed" {
		t.Error(err)
	}
}

// TestKeysStayAsTheyAre: escaped slashes, plus signs, double and trailing
// slashes, dots, and bytes that are not ASCII.
func TestKeysStayAsTheyAre(t *testing.T) {
	for path, want := range map[string]string{
		"/b/a%2Fb": "a/b", "/b/a+b": "a+b", "/b/a%2Bb": "a+b", "/b/a%20b": "a b", "/b//": "/", "/b//a//b": "/a//b", "/b/a/": "a/", "/b/../a/./b": "../a/./b",
		"/b/caf%C3%A9": "café", "/b/café": "café", "/b/a;b=c": "a;b=c", "/b/a%3Fb": "a?b",
	} {
		in := mustDecode[s3.GetObjectInput](t, s3.Schema, "GET "+path, "")
		if *in.Key != want || *in.Bucket != "b" {
			t.Errorf("%s became %q in %q", path, *in.Key, *in.Bucket)
		}
	}
	if _, _, err := decode[s3.GetObjectInput](t, s3.Schema, "GET /b/%zz", ""); awserr.Code(err) != "InvalidURI" {
		t.Error(err)
	}
	r := wire.NewRequest(&http.Request{Method: "GET", RequestURI: "/b//a%2Fb;c?x=1;2&y", Header: http.Header{}})
	if r.Path != "/b//a%2Fb;c" || r.Query != "x=1;2&y" {
		t.Errorf("%+v", r)
	}
}

// TestOddQueries: a semicolon is text, a wrong escape stands for itself, an
// empty number is absent, a wrong one is told.
func TestOddQueries(t *testing.T) {
	in := mustDecode[s3.ListObjectsV2Input](t, s3.Schema, "GET /b?list-type=2&prefix=a;b&delimiter=%zz&max-keys=&start-after=a+b%20c", "")
	if *in.Prefix != "a;b" || *in.Delimiter != "%zz" || in.MaxKeys != nil || *in.StartAfter != "a b c" {
		t.Errorf("%+v", in)
	}
	_, _, err := decode[s3.ListObjectsV2Input](t, s3.Schema, "GET /b?list-type=2&max-keys=many", "")
	e, ok := errors.AsType[*awserr.Error](err)
	if !ok || e.Code != "InvalidArgument" || e.Message != "Provided max-keys not an integer or within integer range" || len(e.Detail) != 2 {
		t.Errorf("%+v", err)
	}
}

// TestS3Headers: metadata by prefix, in lower case both ways on the wire itself,
// and ETag.
func TestS3Headers(t *testing.T) {
	in := mustDecode[s3.PutObjectInput](t, s3.Schema, "PUT /b/k", "data", "X-Amz-Meta-Foo: Bar", "x-amz-meta-baz: 1", "x-amz-meta-baz: 2", "Content-Type: a/b")
	if in.Metadata["foo"] != "Bar" || in.Metadata["baz"] != "1,2" || *in.ContentLength != 4 || *in.ContentType != "a/b" {
		t.Errorf("%+v", in)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := wire.NewCall(s3.Schema, wire.RESTXML, wire.NewRequest(r))
		c.Operation = s3.Schema.Operation("GetObject")
		_ = c.Encode(w, &s3.GetObjectOutput{
			Body: io.NopCloser(strings.NewReader("ell")), ContentLength: new(int64(3)), ContentRange: new("bytes 1-3/5"), ETag: new(`"e"`),
			Metadata: map[string]string{"foo": "Bar", "evil": "a\r\nSet-Cookie: x"},
		}, "request-1")
	}))
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /b/k HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	raw, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(raw), "HTTP/1.1 206 Partial Content\r\n", "\r\nx-amz-meta-foo: Bar\r\n", "\r\nETag: \"e\"\r\n", "\r\nContent-Length: 3\r\n",
		"\r\nContent-Type: binary/octet-stream\r\n", "\r\nx-amz-request-id: request-1\r\n", "\r\n\r\nell")
	if strings.Contains(string(raw), "\nSet-Cookie") {
		t.Error("a header was split")
	}
}

// TestNoBodyWhereNoneBelongs: HEAD has the length but no body, neither have 204
// and 304, and errors to HEAD.
func TestNoBodyWhereNoneBelongs(t *testing.T) {
	head := &wire.Request{Method: "HEAD", Header: http.Header{}}
	w := encode(t, s3.Schema, wire.RESTXML, "HeadObject", &s3.HeadObjectOutput{ContentLength: new(int64(5))}, head)
	if w.Body.Len() != 0 || header(w, "Content-Length") != "5" {
		t.Errorf("%v %q", w.Header(), w.Body)
	}
	if w := fail(s3.Schema, wire.RESTXML, awserr.New(404, "NoSuchKey", "no"), head); w.Code != 404 || w.Body.Len() != 0 {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if w := fail(s3.Schema, wire.RESTXML, awserr.New(304, "NotModified", "").WithHeader("ETag", `"e"`), nil); w.Code != 304 || w.Body.Len() != 0 || header(w, "ETag") != `"e"` || header(w, "Content-Length") != "" {
		t.Errorf("%d %q %v", w.Code, w.Body, w.Header())
	}
	if w := encode(t, s3.Schema, wire.RESTXML, "DeleteObject", &s3.DeleteObjectOutput{VersionId: new("v")}, nil); w.Code != 204 || w.Body.Len() != 0 || header(w, "x-amz-version-id") != "v" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

// TestS3Documents: the roots that clients look for, flattened lists, the
// unwrapped location, the type of a grantee.
func TestS3Documents(t *testing.T) {
	const ns = ` xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`
	for _, tt := range []struct {
		op   string
		out  any
		want string
	}{
		{"ListObjectsV2", &s3.ListObjectsV2Output{Prefix: new(""), Contents: []s3.Object{{Key: new("a")}, {Key: new("b\r")}}},
			"<ListBucketResult" + ns + "<Contents><Key>a</Key></Contents><Contents><Key>b&#xD;</Key></Contents><Prefix></Prefix></ListBucketResult>"},
		{"GetBucketLocation", &s3.GetBucketLocationOutput{LocationConstraint: new("eu-west-1")}, "<LocationConstraint" + ns + "eu-west-1</LocationConstraint>"},
		{"GetBucketLocation", &s3.GetBucketLocationOutput{}, "<LocationConstraint" + ns + "</LocationConstraint>"},
		{"GetBucketAcl", &s3.GetBucketAclOutput{Grants: []s3.Grant{{Grantee: &s3.Grantee{Type: new("CanonicalUser"), ID: new("i")}}}},
			`<AccessControlPolicy` + ns + `<AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>i</ID></Grantee></Grant></AccessControlList></AccessControlPolicy>`},
		{"CopyObject", &s3.CopyObjectOutput{CopyObjectResult: &s3.CopyObjectResult{ETag: new("e")}}, "<CopyObjectResult" + ns + "<ETag>e</ETag></CopyObjectResult>"},
		{"GetObjectLegalHold", &s3.GetObjectLegalHoldOutput{LegalHold: &s3.ObjectLockLegalHold{Status: new("ON")}}, "<LegalHold" + ns + "<Status>ON</Status></LegalHold>"},
		{"GetBucketPolicy", &s3.GetBucketPolicyOutput{Policy: new("{}")}, "{}"},
	} {
		w := encode(t, s3.Schema, wire.RESTXML, tt.op, tt.out, nil)
		if got := strings.TrimPrefix(w.Body.String(), "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"); got != tt.want {
			t.Errorf("%s:\ngot  %s\nwant %s", tt.op, got, tt.want)
		}
	}
	acl := mustDecode[s3.PutBucketAclInput](t, s3.Schema, "PUT /b?acl", `<a:AccessControlPolicy xmlns:a="x"><AccessControlList><Grant><Grantee xmlns:xsi="y" xsi:type="Group"><URI> u </URI></Grantee></Grant></AccessControlList></a:AccessControlPolicy>`)
	if g := acl.AccessControlPolicy.Grants[0].Grantee; *g.Type != "Group" || *g.URI != " u " {
		t.Errorf("%+v", g)
	}
	for _, body := range []string{"<Tagging>", "no xml", `<!DOCTYPE x [<!ENTITY a "b">]><Tagging><TagSet><Tag><Key>&a;</Key></Tag></TagSet></Tagging>`, "<Tagging/><Tagging/>"} {
		if _, _, err := decode[s3.PutBucketTaggingInput](t, s3.Schema, "PUT /b?tagging", body); awserr.Code(err) != "MalformedXML" {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// TestS3Errors: unwrapped, with the host id, further elements and headers.
func TestS3Errors(t *testing.T) {
	w := fail(s3.Schema, wire.RESTXML, awserr.New(404, "NoSuchBucket", "The specified bucket does not exist").With("BucketName", "b").WithHeader("x-amz-bucket-region", "eu-west-1"), nil)
	contains(t, w.Body.String(), "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message><BucketName>b</BucketName><RequestId>request-1</RequestId><HostId>")
	if header(w, "x-amz-bucket-region") != "eu-west-1" || header(w, "x-amz-id-2") == "" {
		t.Error(w.Header())
	}
	w = fail(s3.Schema, wire.RESTXML, &s3.NoSuchKey{Message: new("no")}, nil)
	err := wire.Client{Service: s3.Schema, Protocol: wire.RESTXML}.Response("GetObject", w.Result(), &s3.GetObjectOutput{})
	if e, ok := errors.AsType[*s3.NoSuchKey](err); !ok || e.ErrorMessage() != "no" || w.Code != 404 {
		t.Errorf("%T %v", err, err)
	}
}

// TestStreamsAreNotHeld: a body is handed on as a reader, and its own error comes
// through.
func TestStreamsAreNotHeld(t *testing.T) {
	body := &endless{}
	c, err := wire.Identify(s3.Schema, &wire.Request{Method: "PUT", Path: "/b/k", Header: http.Header{}, Body: body, Length: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	in := &s3.PutObjectInput{}
	if err := c.Decode(in); err != nil || body.read != 0 || in.Body != io.Reader(body) || *in.ContentLength != 1<<40 {
		t.Errorf("%v, %d bytes read", err, body.read)
	}
	c, err = wire.Identify(s3.Schema, &wire.Request{Method: "PUT", Path: "/b", Query: "tagging", Header: http.Header{}, Body: body, Length: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Decode(&s3.PutBucketTaggingInput{}); awserr.Code(err) == "" || body.read > wire.DefaultMaxRequest+1<<20 {
		t.Errorf("%v after %d bytes", err, body.read)
	}
	bad := awserr.New(400, "XAmzContentSHA256Mismatch", "no")
	c, _ = wire.Identify(s3.Schema, &wire.Request{Method: "PUT", Path: "/b", Query: "tagging", Header: http.Header{}, Body: io.MultiReader(strings.NewReader("<a"), failing{bad}), Length: -1})
	if err := c.Decode(&s3.PutBucketTaggingInput{}); !errors.Is(err, bad) {
		t.Error(err)
	}
}

type endless struct{ read int64 }

func (e *endless) Read(b []byte) (int, error) { e.read += int64(len(b)); return len(b), nil }

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestLambdaStatusAndHeaders: members of the answer that are not in its body.
func TestLambdaStatusAndHeaders(t *testing.T) {
	w := encode(t, lambda.Schema, wire.RESTJSON1, "Invoke", &lambda.InvokeOutput{StatusCode: new(int32(202)), FunctionError: new("Unhandled"), Payload: []byte("x")}, nil)
	if w.Code != 202 || header(w, "X-Amz-Function-Error") != "Unhandled" || w.Body.String() != "x" || header(w, "X-Amzn-Requestid") != "request-1" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	in := mustDecode[lambda.ListFunctionsInput](t, lambda.Schema, "GET /2015-03-31/functions/?MaxItems=3&Marker=a%2Bb", "")
	if *in.MaxItems != 3 || *in.Marker != "a+b" {
		t.Errorf("%+v", in)
	}
	arn := mustDecode[lambda.GetFunctionInput](t, lambda.Schema, "GET /2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A000000000000%3Afunction%3Af", "")
	if *arn.FunctionName != "arn:aws:lambda:eu-west-1:000000000000:function:f" {
		t.Error(*arn.FunctionName)
	}
	untag := mustDecode[lambda.UntagResourceInput](t, lambda.Schema, "DELETE /2017-03-31/tags/arn?tagKeys=a&tagKeys=b", "")
	if !reflect.DeepEqual(untag.TagKeys, []string{"a", "b"}) {
		t.Error(untag.TagKeys)
	}
}
