package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"skerry/internal/api/cloudwatch"
	"skerry/internal/api/ec2"
	"skerry/internal/api/iam"
	"skerry/internal/api/lambda"
	"skerry/internal/api/s3"
	"skerry/internal/api/sqs"
	"skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
	"skerry/internal/gateway"
	"skerry/internal/op"
	"skerry/internal/wire"
)

const account = "123456789012"

var now = time.Date(2026, 8, 7, 12, 0, 0, 0, time.UTC)

// people is a directory in memory: credentials by key, and one policy a user.
type people struct {
	keys     map[string]auth.Credential
	policies map[string]string // by ARN
}

func (p people) Credential(_ context.Context, key string) (auth.Credential, error) {
	c, ok := p.keys[key]
	if !ok {
		return c, auth.ErrNoCredential
	}
	return c, nil
}

func (p people) Policies(_ context.Context, who auth.Principal) (auth.Policies, error) {
	text := p.policies[who.ARN]
	if text == "" {
		return auth.Policies{}, nil
	}
	policy, err := auth.ParsePolicy(text)
	return auth.Policies{Identity: []auth.Document{{Source: "inline", Policy: policy}}}, err
}

func credential(name string) auth.Credential {
	return auth.Credential{
		AccessKey: "AKIA" + strings.ToUpper(name), Secret: "secret of " + name,
		Principal: auth.Principal{Kind: auth.User, Account: account, ARN: "arn:aws:iam::" + account + ":user/" + name, ID: "AIDA" + strings.ToUpper(name), Name: name},
	}
}

var (
	root = auth.Credential{AccessKey: "AKIAROOT", Secret: "secret of root",
		Principal: auth.Principal{Kind: auth.Root, Account: account, ARN: "arn:aws:iam::" + account + ":root", ID: account}}
	// everybody's key is one that everybody knows.
	everybody = auth.Credential{AccessKey: "test", Secret: "test", Principal: root.Principal}
	ann       = credential("ann")   // may do all but what a deny says
	guest     = credential("guest") // may do nothing
)

// world is a gateway over a few operations of each protocol, on a real server.
type world struct {
	t       testing.TB
	gateway *gateway.Gateway
	server  *httptest.Server
	clock   *clock.Fake
	log     *syncBuffer

	mu   sync.Mutex
	puts map[string]string // S3's objects by bucket/key
	sums map[string]string // the checksum of the last upload
	used []string
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, clock: clock.NewFake(now), log: &syncBuffer{}, puts: map[string]string{}, sums: map[string]string{}}
	dir := people{keys: map[string]auth.Credential{}, policies: map[string]string{
		ann.Principal.ARN: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"NoSecrets","Effect":"Deny","Action":"*","Resource":"*secret*"}]}`,
	}}
	for _, c := range []auth.Credential{root, everybody, ann, guest} {
		dir.keys[c.AccessKey] = c
	}
	level := slog.LevelDebug
	if _, bench := t.(*testing.B); bench {
		level = slog.LevelError
	}
	g, err := gateway.New(gateway.Config{
		Services: w.services(), Directory: dir, Region: "us-east-1", Clock: w.clock,
		Log:      slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: level})),
		TestKeys: func(key string) bool { return key == everybody.AccessKey },
		CORS:     w,
		Used: func(p auth.Principal, action, region string, _ time.Time) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.used = append(w.used[:min(len(w.used), 10)], p.AccessKey+" "+action+" "+region)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.gateway = g
	w.server = httptest.NewServer(g)
	t.Cleanup(w.server.Close)
	return w
}

// CORS implements gateway.BucketCORS: the bucket "shared" lets one page in.
func (w *world) CORS(_ context.Context, bucket, origin, _ string, _ []string, _ bool) (http.Header, bool) {
	if bucket != "shared" || origin != "https://friend.example" {
		return nil, false
	}
	return http.Header{"Access-Control-Allow-Origin": {origin}}, true
}

// on makes an operation whose rule is one action on one resource.
func on[I, O any](name, action string, resource func(*I) string, do func(ctx context.Context, sc auth.Scope, in *I) (*O, error)) op.Operation {
	return op.New(name, func(_ context.Context, _ auth.Scope, in *I) ([]auth.Access, error) {
		return []auth.Access{{Action: action, Resource: resource(in)}}, nil
	}, do)
}

func anything[I any](*I) string { return "*" }

func empty[I, O any](context.Context, auth.Scope, *I) (*O, error) { return new(O), nil }

func (w *world) services() []op.Service {
	queue := func(in *sqs.SendMessageInput) string {
		url := wire.Value(in.QueueUrl)
		return "arn:aws:sqs:us-east-1:" + account + ":" + url[strings.LastIndexByte(url, '/')+1:]
	}
	return []op.Service{
		{API: s3.Schema, Operations: w.s3(), Actions: map[string]string{"ListBuckets": "ListAllMyBuckets"}},
		{API: sqs.Schema, Operations: []op.Operation{
			on("SendMessage", "sqs:SendMessage", queue, func(_ context.Context, _ auth.Scope, in *sqs.SendMessageInput) (*sqs.SendMessageOutput, error) {
				return &sqs.SendMessageOutput{MessageId: in.MessageBody}, nil
			}),
			on("ListQueues", "sqs:ListQueues", anything, func(context.Context, auth.Scope, *sqs.ListQueuesInput) (*sqs.ListQueuesOutput, error) {
				return nil, errors.New("sqs: the store broke")
			}),
			on("ReceiveMessage", "sqs:ReceiveMessage", anything, func(context.Context, auth.Scope, *sqs.ReceiveMessageInput) (*sqs.ReceiveMessageOutput, error) {
				panic("a bug")
			}),
		}},
		{API: sts.Schema, Operations: []op.Operation{
			op.New("GetCallerIdentity", op.NoPermission, func(_ context.Context, sc auth.Scope, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
				return &sts.GetCallerIdentityOutput{Account: &sc.Account, Arn: &sc.Principal.ARN, UserId: &sc.Principal.ID}, nil
			}),
			op.New("AssumeRoleWithWebIdentity", op.NoPermission, empty[sts.AssumeRoleWithWebIdentityInput, sts.AssumeRoleWithWebIdentityOutput]),
		}},
		{API: iam.Schema, Operations: []op.Operation{
			on("ListUsers", "iam:ListUsers", func(*iam.ListUsersInput) string { return "arn:aws:iam::" + account + ":user/" }, empty[iam.ListUsersInput, iam.ListUsersOutput]),
		}},
		{API: lambda.Schema, Operations: []op.Operation{
			on("ListFunctions", "lambda:ListFunctions", anything, empty[lambda.ListFunctionsInput, lambda.ListFunctionsOutput]),
			on("GetFunction", "lambda:GetFunction", func(in *lambda.GetFunctionInput) string {
				return "arn:aws:lambda:us-east-1:" + account + ":function:" + wire.Value(in.FunctionName)
			}, func(_ context.Context, _ auth.Scope, in *lambda.GetFunctionInput) (*lambda.GetFunctionOutput, error) {
				return nil, &lambda.ResourceNotFoundException{Message: wire.Ptr("Function not found: " + *in.FunctionName)}
			}),
		}},
		{API: ec2.Schema, Operations: []op.Operation{
			on("DescribeInstances", "ec2:DescribeInstances", anything, empty[ec2.DescribeInstancesInput, ec2.DescribeInstancesOutput]),
		}},
		{API: cloudwatch.Schema, Operations: []op.Operation{
			on("ListMetrics", "cloudwatch:ListMetrics", anything, empty[cloudwatch.ListMetricsInput, cloudwatch.ListMetricsOutput]),
		}},
	}
}

// s3 keeps objects in a map, and commits them as the real service must: once the
// body has ended well.
func (w *world) s3() []op.Operation {
	return []op.Operation{
		on("ListBuckets", "s3:ListAllMyBuckets", anything, empty[s3.ListBucketsInput, s3.ListBucketsOutput]),
		on("PutObject", "s3:PutObject", func(in *s3.PutObjectInput) string { return "arn:aws:s3:::" + *in.Bucket + "/" + *in.Key }, w.putObject),
		op.New("GetObject", func(_ context.Context, _ auth.Scope, in *s3.GetObjectInput) ([]auth.Access, error) {
			a := auth.Access{Action: "s3:GetObject", Resource: "arn:aws:s3:::" + *in.Bucket + "/" + *in.Key, Owner: account}
			switch *in.Bucket {
			case "public":
				a.Policy = `{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::public/*"}}`
			case "foreign":
				a.Owner = "999999999999"
			}
			return []auth.Access{a}, nil
		}, func(_ context.Context, _ auth.Scope, in *s3.GetObjectInput) (*s3.GetObjectOutput, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			body, ok := w.puts[*in.Bucket+"/"+*in.Key]
			if !ok {
				return nil, &s3.NoSuchKey{Message: wire.Ptr("The specified key does not exist.")}
			}
			return &s3.GetObjectOutput{Body: io.NopCloser(strings.NewReader(body)), ContentLength: wire.Ptr(int64(len(body)))}, nil
		}),
	}
}

// slowness is how long the bucket "slow" takes after it has a body.
const slowness = 1200 * time.Millisecond

func (w *world) putObject(ctx context.Context, _ auth.Scope, in *s3.PutObjectInput) (*s3.PutObjectOutput, error) {
	if *in.Bucket == "full" {
		return nil, awserr.New(http.StatusPreconditionFailed, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
	}
	content, err := io.ReadAll(in.Body)
	if err != nil {
		return nil, err
	}
	if *in.Bucket == "slow" {
		if err := clock.Sleep(ctx, clock.Real, slowness); err != nil {
			return nil, err
		}
	}
	name := *in.Bucket + "/" + *in.Key
	w.mu.Lock()
	defer w.mu.Unlock()
	w.puts[name] = string(content)
	if t, ok := in.Body.(interface {
		Trailers() []string
		Trailer(string) string
	}); ok {
		for _, header := range t.Trailers() {
			w.sums[name] += header + "=" + t.Trailer(header)
		}
	}
	return &s3.PutObjectOutput{ETag: wire.Ptr(`"etag"`)}, nil
}

// answer is a response read to its end.
type answer struct {
	status int
	header http.Header
	body   string
}

// send sends a request, signed by the credential unless it is the zero one.
func (w *world) send(r *http.Request, c auth.Credential, service, body string) answer {
	w.t.Helper()
	if c.AccessKey != "" {
		auth.Sign(r, c, "us-east-1", service, []byte(body), now)
	}
	res, err := w.server.Client().Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

// request makes a request; headers come in pairs.
func (w *world) request(method, path, body string, headers ...string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequest(method, w.server.URL+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// call is a request of one protocol.
type call struct {
	method, path, body, service string
	headers                     []string
}

const (
	form   = "application/x-www-form-urlencoded"
	json10 = "application/x-amz-json-1.0"
)

func sqsCall(operation, body string) call {
	return call{"POST", "/", body, "sqs", []string{"Content-Type", json10, "X-Amz-Target", "AmazonSQS." + operation}}
}

func (w *world) do(c auth.Credential, what call) answer {
	w.t.Helper()
	return w.send(w.request(what.method, what.path, what.body, what.headers...), c, what.service, what.body)
}

// form makes a form whose fields come in pairs; "file" is the file.
func (w *world) form(path string, fields ...string) *http.Request {
	w.t.Helper()
	var b bytes.Buffer
	m := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		create := m.CreateFormField
		if fields[i] == "file" {
			create = func(name string) (io.Writer, error) { return m.CreateFormFile(name, "cat.png") }
		}
		part, err := create(fields[i])
		if err != nil {
			w.t.Fatal(err)
		}
		_, _ = io.WriteString(part, fields[i+1]) // a buffer never fails
	}
	m.Close()
	return w.request("POST", path, b.String(), "Content-Type", m.FormDataContentType())
}
