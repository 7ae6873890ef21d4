package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"skerry/internal/api/sqs"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/gateway"
	"skerry/internal/op"
	"skerry/internal/wire"
)

// Each protocol finds its service and operation, signed and by the ways that
// unsigned requests have.
func TestRoutes(t *testing.T) {
	w := newWorld(t)
	message := `{"QueueUrl":"http://h/123456789012/q","MessageBody":"hi"}`
	tests := []struct {
		name string
		c    auth.Credential
		call call
		want string // in the body
	}{
		{"json", ann, sqsCall("SendMessage", message), `"MessageId":"hi"`},
		{"query of a service with two protocols", ann, call{"POST", "/", "Action=SendMessage&Version=2012-11-05&QueueUrl=http://h/1/q&MessageBody=hi", "sqs", []string{"Content-Type", form}}, "<MessageId>hi</MessageId>"},
		{"query", guest, call{"POST", "/", "Action=GetCallerIdentity&Version=2011-06-15", "sts", []string{"Content-Type", form}}, "<Account>123456789012</Account>"},
		{"query in the URL", guest, call{"GET", "/?Action=GetCallerIdentity&Version=2011-06-15", "", "sts", nil}, "user/guest"},
		{"query, unsigned", auth.Credential{}, call{"POST", "/", "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn:aws:iam::123456789012:role/r&RoleSessionName=me&WebIdentityToken=abcd", "", []string{"Content-Type", form}}, "AssumeRoleWithWebIdentityResult"},
		{"rest json", ann, call{"GET", "/2015-03-31/functions", "", "lambda", nil}, "{}"},
		{"ec2", ann, call{"POST", "/", "Action=DescribeInstances&Version=2016-11-15", "ec2", []string{"Content-Type", form}}, "DescribeInstancesResponse"},
		{"cbor", ann, call{"POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", "\xa0", "monitoring", []string{"Smithy-Protocol", "rpc-v2-cbor", "Content-Type", "application/cbor"}}, "\xbf\xff"},
		{"s3", ann, call{"GET", "/", "", "s3", nil}, "ListAllMyBucketsResult"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := w.do(tt.c, tt.call)
			if got.status != 200 || !strings.Contains(got.body, tt.want) && !(tt.name == "cbor" && got.body == "\xa0") {
				t.Errorf("%d %q", got.status, got.body)
			}
			if got.header.Get("X-Amzn-Requestid")+got.header.Get("X-Amz-Request-Id") == "" {
				t.Error("no request id")
			}
		})
	}
	if w.gateway.Failures() != 0 || w.gateway.Requests() != uint64(len(tests)) {
		t.Errorf("%d failures of %d requests", w.gateway.Failures(), w.gateway.Requests())
	}
}

// What is tried is told whether or not it succeeds, and only of those who proved who
// they are.
func TestUsed(t *testing.T) {
	w := newWorld(t)
	const queue = `{"QueueUrl":"http://127.0.0.1:4566/123456789012/q","MessageBody":"hello"}`
	wrong := ann
	wrong.Secret = "wrong"
	url, body := "http://127.0.0.1:4566/123456789012/q", "hello"
	inside := func(sc auth.Scope) func() {
		return func() {
			_, _ = w.gateway.Call(t.Context(), sc, "sqs", "SendMessage", &sqs.SendMessageInput{QueueUrl: &url, MessageBody: &body}) // refused or not
		}
	}
	wire := func(c auth.Credential, what call) func() { return func() { w.do(c, what) } }
	role := auth.Principal{Kind: auth.AssumedRole, Account: account, ID: "AROAROLE:night", ARN: "arn:aws:sts::" + account + ":assumed-role/r/night"}
	for _, tt := range []struct {
		name string
		try  func()
		want string
	}{
		{"allowed", wire(ann, sqsCall("SendMessage", queue)), "AKIAANN sqs:SendMessage us-east-1"},
		{"an action of another name", wire(ann, call{"GET", "/", "", "s3", nil}), "AKIAANN s3:ListAllMyBuckets us-east-1"},
		{"a prefix of another name", wire(ann, call{"POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", "\xa0", "monitoring", []string{"Smithy-Protocol", "rpc-v2-cbor", "Content-Type", "application/cbor"}}), "AKIAANN cloudwatch:ListMetrics us-east-1"},
		{"denied", wire(guest, sqsCall("SendMessage", queue)), "AKIAGUEST sqs:SendMessage us-east-1"},
		{"malformed", wire(ann, sqsCall("SendMessage", "{")), "AKIAANN sqs:SendMessage us-east-1"},
		{"not built", wire(ann, sqsCall("CreateQueue", "{}")), "AKIAANN sqs: us-east-1"},
		{"unknown", wire(ann, sqsCall("Fly", "{}")), "AKIAANN sqs: us-east-1"},
		{"wrongly signed", wire(wrong, sqsCall("SendMessage", queue)), ""},
		{"unsigned", wire(auth.Credential{}, sqsCall("SendMessage", queue)), ""},
		{"from inside as a role", inside(auth.NewScope(role, "eu-west-1", auth.Request{})), " sqs:SendMessage eu-west-1"},
		{"from inside as a service", inside(auth.ServiceScope("s3.amazonaws.com", account, "us-east-1", "", "1", now)), ""},
	} {
		w.mu.Lock()
		w.used = nil
		w.mu.Unlock()
		tt.try()
		w.mu.Lock()
		if got := strings.Join(w.used, "; "); got != tt.want {
			t.Errorf("%s: used %q, want %q", tt.name, got, tt.want)
		}
		w.mu.Unlock()
	}
}

func TestErrors(t *testing.T) {
	w := newWorld(t)
	wrong := ann
	wrong.Secret = "x"
	list := sqsCall("ListQueues", "{}")
	secret := sqsCall("SendMessage", `{"QueueUrl":"http://h/1/secret","MessageBody":"hi"}`)
	identity := call{"POST", "/", "Action=GetCallerIdentity&Version=2011-06-15", "sts", []string{"Content-Type", form}}
	users := call{"POST", "/", "Action=ListUsers&Version=2010-05-08", "iam", []string{"Content-Type", form}}
	functions := call{"GET", "/2015-03-31/functions", "", "lambda", nil}
	instances := call{"POST", "/", "Action=DescribeInstances&Version=2016-11-15", "ec2", []string{"Content-Type", form}}
	action := func(service, version, name string) call {
		return call{"POST", "/", "Action=" + name + "&Version=" + version, service, []string{"Content-Type", form}}
	}
	tests := []struct {
		name   string
		c      auth.Credential
		call   call
		status int
		want   []string // in the body
	}{
		{"denied, json", guest, sqsCall("SendMessage", `{"QueueUrl":"http://h/1/q","MessageBody":"hi"}`), 400, []string{"AccessDeniedException",
			"User: arn:aws:iam::123456789012:user/guest is not authorized to perform: sqs:SendMessage on resource: arn:aws:sqs:us-east-1:123456789012:q because no identity-based policy allows the sqs:SendMessage action"}},
		{"explicitly denied", ann, secret, 400, []string{"is not authorized to perform: sqs:SendMessage on resource: arn:aws:sqs:us-east-1:123456789012:secret with an explicit deny in an identity-based policy"}},
		{"denied, query", guest, users, 403, []string{"<Code>AccessDenied</Code>", "on resource: arn:aws:iam::123456789012:user/ because no identity-based policy allows the iam:ListUsers action"}},
		{"denied, rest json", guest, functions, 403, []string{"lambda:ListFunctions on resource: * because no identity-based policy allows"}},
		{"denied, ec2", guest, instances, 403, []string{"<Code>UnauthorizedOperation</Code>", "You are not authorized to perform this operation. User: arn:aws:iam::123456789012:user/guest is not authorized to perform: ec2:DescribeInstances because no identity-based policy allows"}},
		{"denied, s3", guest, call{"GET", "/b/k", "", "s3", nil}, 403, []string{"<Code>AccessDenied</Code>", `s3:GetObject on resource: &#34;arn:aws:s3:::b/k&#34; because no identity-based policy`}},
		{"denied, another account's bucket", guest, call{"GET", "/foreign/k", "", "s3", nil}, 403, []string{"<Message>Access Denied</Message>"}},
		{"denied, anonymous", auth.Credential{}, call{"GET", "/b/k", "", "", nil}, 403, []string{"<Message>Access Denied</Message>"}},
		{"wrong key, json", wrong, list, 400, []string{"InvalidSignatureException"}},
		{"wrong key, query", wrong, identity, 403, []string{"<Code>SignatureDoesNotMatch</Code>", "<Type>Sender</Type>"}},
		{"wrong key, rest json", wrong, functions, 403, []string{"The request signature we calculated does not match"}},
		{"wrong key, s3", wrong, call{"GET", "/b/k", "", "s3", nil}, 403, []string{"<Code>SignatureDoesNotMatch</Code>", "<StringToSign>AWS4-HMAC-SHA256\n", "<CanonicalRequest>GET\n/b/k"}},
		{"unsigned, json", auth.Credential{}, list, 400, []string{"MissingAuthenticationTokenException"}},
		{"unsigned, query", auth.Credential{}, identity, 403, []string{"<Code>MissingAuthenticationToken</Code>"}},
		{"unsigned, rest json", auth.Credential{}, functions, 403, []string{"Request is missing Authentication Token"}},
		{"unknown action", root, action("iam", "2010-05-08", "Fly"), 400, []string{"<Code>InvalidAction</Code>"}},
		{"unknown target", root, sqsCall("Fly", "{}"), 400, []string{"UnknownOperationException"}},
		{"unknown path", root, call{"GET", "/2015-03-31/nothing", "", "lambda", nil}, 404, []string{"{"}},
		{"unbuilt, query", root, action("iam", "2010-05-08", "CreateUser"), 501, []string{"<Code>NotImplemented</Code>", "CreateUser"}},
		{"unbuilt, json", root, sqsCall("PurgeQueue", "{}"), 501, []string{"NotImplementedException", "PurgeQueue"}},
		{"unbuilt, rest json", root, call{"GET", "/2015-03-31/event-source-mappings", "", "lambda", nil}, 501, []string{"ListEventSourceMappings"}},
		{"unbuilt, s3", root, call{"GET", "/b?acl", "", "s3", nil}, 501, []string{"<Code>NotImplemented</Code>", "GetBucketAcl"}},
		{"unbuilt service", root, call{"POST", "/", "{}", "forecast", []string{"X-Amz-Target", "AmazonForecast.ListPredictors"}}, 501, []string{`"__type":"NotImplemented`}},
		{"unbuilt REST service", root, call{"GET", "/restapis", "", "apigateway", nil}, 501, []string{`"message":"Skerry has not built`}},
		{"malformed, json", root, sqsCall("SendMessage", `{"`), 400, []string{"SerializationException"}},
		{"modelled error", root, call{"GET", "/2015-03-31/functions/f", "", "lambda", nil}, 404, []string{"Function not found: f"}},
		{"ours", root, list, 500, []string{"InternalFailure"}},
		{"panic", root, sqsCall("ReceiveMessage", `{"QueueUrl":"q"}`), 500, []string{"InternalFailure"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := w.do(tt.c, tt.call)
			body := strings.NewReplacer("&quot;", "&#34;", "&#xA;", "\n").Replace(got.body)
			for _, want := range tt.want {
				if !strings.Contains(body, want) {
					t.Errorf("no %q in %q", want, got.body)
				}
			}
			if got.status != tt.status {
				t.Errorf("status %d: %s", got.status, got.body)
			}
			if strings.Contains(got.body, "the store broke") || strings.Contains(got.body, "a bug") {
				t.Errorf("our fault is told: %q", got.body)
			}
		})
	}
	if w.gateway.Failures() != 2 {
		t.Errorf("%d faults of ours are counted", w.gateway.Failures())
	}
	log := w.log.String()
	for _, want := range []string{"the store broke", "panic: a bug", "statement 1 NoSecrets", "operation=SendMessage"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q", want)
		}
	}
	if strings.Contains(log, root.Secret) {
		t.Error("the log holds a secret")
	}
}

func TestRestJSONErrorType(t *testing.T) {
	w := newWorld(t)
	got := w.do(guest, call{"GET", "/2015-03-31/functions", "", "lambda", nil})
	if got.header.Get("X-Amzn-Errortype") != "AccessDeniedException" {
		t.Errorf("%v", got.header)
	}
}

func TestQueryCompatibleErrors(t *testing.T) {
	w := newWorld(t)
	got := w.do(auth.Credential{}, sqsCall("ListQueues", "{}"))
	if !strings.HasSuffix(got.header.Get("X-Amzn-Query-Error"), ";Sender") {
		t.Errorf("%v", got.header)
	}
}

func TestSharedBucketsAndHosts(t *testing.T) {
	w := newWorld(t)
	w.puts["public/a b"] = "content"
	for _, tt := range []struct{ host, path string }{
		{"", "/public/a%20b"},
		{"public.s3.localhost:4566", "/a%20b"},
		{"public.localhost", "/a%20b"},
		{"public.s3.eu-west-1.amazonaws.com", "/a%20b"},
		{"s3.amazonaws.com", "/public/a%20b"},
	} {
		r := w.request("GET", tt.path, "")
		r.Host = tt.host
		if got := w.send(r, auth.Credential{}, "", ""); got.status != 200 || got.body != "content" {
			t.Errorf("%s%s: %d %s", tt.host, tt.path, got.status, got.body)
		}
	}
	r := w.request("PUT", "/k", "x")
	r.Host = "mine.localhost"
	if got := w.send(r, ann, "s3", "x"); got.status != 200 || w.puts["mine/k"] != "x" {
		t.Errorf("%d %s", got.status, got.body)
	}
}

// begin sends the head of a put, with more headers that are not signed.
func (w *world) begin(t *testing.T, bucket, more string) net.Conn {
	t.Helper()
	r := w.request("PUT", "/"+bucket+"/k", "")
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	auth.Sign(r, ann, "us-east-1", "s3", nil, now)
	conn, err := net.Dial("tcp", w.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "PUT /%s/k HTTP/1.1\r\nHost: %s\r\n%s", bucket, r.Host, more)
	for name := range r.Header {
		fmt.Fprintf(conn, "%s: %s\r\n", name, r.Header.Get(name))
	}
	fmt.Fprint(conn, "\r\n")
	return conn
}

// A client that waits for 100-continue learns that it may not before it sends
// its body.
func TestDeniedBeforeTheBody(t *testing.T) {
	w := newWorld(t)
	for bucket, status := range map[string]string{"secret": "403", "full": "412", "b": "100"} {
		conn := w.begin(t, bucket, "Expect: 100-continue\r\nContent-Length: 1000000\r\n")
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err != nil || !strings.Contains(line, " "+status+" ") {
			t.Errorf("%s: %q, %v", bucket, line, err)
		}
	}
}

// A put says how long it is, be it that it has no content.
func TestPutWithoutLength(t *testing.T) {
	w := newWorld(t)
	for more, status := range map[string]string{"": "411", "Content-Length: 0\r\n": "200"} {
		conn := w.begin(t, "b", more)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || !strings.HasPrefix(answer.Status, status) {
			t.Errorf("%q: %v, %v", more, answer, err)
			continue
		}
		body, _ := io.ReadAll(answer.Body)
		if status == "411" && !strings.Contains(string(body), "<Code>MissingContentLength</Code>") {
			t.Errorf("%s", body)
		}
	}
}

// A client that leaves off in the middle of its body is told so, and let go: when
// the body is read, and when it is refused without being read.
func TestClientLeavesOff(t *testing.T) {
	w := newWorld(t)
	w.gateway.SetPatience(100 * time.Millisecond)
	for bucket, code := range map[string]string{"b": "RequestTimeout", "secret": "AccessDenied"} {
		conn := w.begin(t, bucket, "Content-Length: 1000\r\n")
		fmt.Fprint(conn, "only the beginning")
		answer, err := io.ReadAll(conn)
		if err != nil || !strings.Contains(string(answer), "<Code>"+code+"</Code>") {
			t.Errorf("%s: %q, %v", bucket, answer, err)
		}
	}
}

// So is one on HTTP/2, whose connection goes on.
func TestStreamLeavesOff(t *testing.T) {
	w := newWorld(t)
	w.gateway.SetPatience(100 * time.Millisecond)
	server := httptest.NewUnstartedServer(w.gateway)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	for bucket, code := range map[string]string{"b": "RequestTimeout", "secret": "AccessDenied"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+"/"+bucket+"/k", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		auth.Sign(r, ann, "us-east-1", "s3", nil, now)
		body, in := io.Pipe()
		defer in.Close()
		r.Body, r.ContentLength = body, 1000
		go func() { _, _ = io.WriteString(in, "only the beginning") }()
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Errorf("%s: %v", bucket, err)
			continue
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.ProtoMajor != 2 || !strings.Contains(string(text), "<Code>"+code+"</Code>") {
			t.Errorf("%s: %s %q, %v", bucket, answer.Proto, text, err)
		}
		_ = answer.Body.Close()
	}
}

// A handler may take longer than a client may leave off.
func TestSlowHandlerKeepsItsClient(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.gateway.SetPatience(slowness - 200*time.Millisecond)
	r := w.request("PUT", "/slow/k", "whole")
	if a := w.send(r, ann, "s3", "whole"); a.status != http.StatusOK {
		t.Errorf("%+v", a)
	}
}

func TestCallFromInside(t *testing.T) {
	w := newWorld(t)
	in := &sqs.SendMessageInput{QueueUrl: wire.Ptr("http://h/1/q"), MessageBody: wire.Ptr("hi")}
	request := auth.Request{ID: "1", Time: now}
	out, err := op.Call[sqs.SendMessageOutput](context.Background(), w.gateway, auth.NewScope(ann.Principal, "us-east-1", request), "sqs", "SendMessage", in)
	if err != nil || *out.MessageId != "hi" {
		t.Fatal(out, err)
	}
	_, err = w.gateway.Call(context.Background(), auth.NewScope(guest.Principal, "us-east-1", request), "sqs", "SendMessage", in)
	if awserr.Code(err) != "AccessDeniedException" {
		t.Error(err)
	}
	_, err = w.gateway.Call(context.Background(), auth.ServiceScope("s3.amazonaws.com", account, "us-east-1", "", "2", now), "sqs", "SendMessage", in)
	if awserr.Code(err) != "AccessDeniedException" || !strings.Contains(err.Error(), "User: s3.amazonaws.com is not authorized") {
		t.Error(err)
	}
	_, err = w.gateway.Call(context.Background(), auth.NewScope(ann.Principal, "us-east-1", request), "sqs", "ReceiveMessage", &sqs.ReceiveMessageInput{QueueUrl: in.QueueUrl})
	if err == nil || awserr.Code(err) != "" || w.gateway.Failures() != 1 {
		t.Error(err, w.gateway.Failures())
	}
	if _, err = w.gateway.Call(context.Background(), auth.NewScope(ann.Principal, "us-east-1", request), "sqs", "SendMessage", &sqs.ListQueuesInput{}); err == nil {
		t.Error("another operation's input is taken")
	}
}

func TestConfiguration(t *testing.T) {
	send := on("SendMessage", "sqs:SendMessage", anything, empty[sqs.SendMessageInput, sqs.SendMessageOutput])
	for name, operations := range map[string][]op.Operation{
		"twice":         {send, send},
		"unknown":       {on("Fly", "sqs:Fly", anything, empty[sqs.SendMessageInput, sqs.SendMessageOutput])},
		"other structs": {on("ListQueues", "sqs:ListQueues", anything, empty[sqs.SendMessageInput, sqs.SendMessageOutput])},
	} {
		if _, err := gateway.New(gateway.Config{Services: []op.Service{{API: sqs.Schema, Operations: operations}}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPreflight(t *testing.T) {
	w := newWorld(t)
	ask := func(origin string) answer {
		return w.send(w.request("OPTIONS", "/", "", "Origin", origin, "Access-Control-Request-Method", "POST", "Access-Control-Request-Headers", "x-amz-target,authorization"), auth.Credential{}, "", "")
	}
	if got := ask("http://localhost:3000"); got.status != 200 || got.header.Get("Access-Control-Allow-Origin") != "http://localhost:3000" ||
		!strings.Contains(strings.ToLower(got.header.Get("Access-Control-Allow-Headers")), "x-amz-target") {
		t.Errorf("%d %v", got.status, got.header)
	}
	if got := ask("https://evil.example"); got.status != http.StatusForbidden || got.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%d %v", got.status, got.header)
	}
	r := w.request("POST", "/", "{}", "Content-Type", json10, "X-Amz-Target", "AmazonSQS.ListQueues", "Origin", "http://localhost:3000")
	if got := w.send(r, guest, "sqs", "{}"); got.header.Get("Access-Control-Allow-Origin") != "http://localhost:3000" {
		t.Errorf("an error can't be read by the page: %v", got.header)
	}
}
