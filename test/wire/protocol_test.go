package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// suites reads the published protocol test cases of a direction.
func suites(t *testing.T, direction string) []suite {
	t.Helper()
	folder := os.Getenv("SKERRY_PROTOCOL_TESTS")
	if folder == "" {
		t.Skip("SKERRY_PROTOCOL_TESTS does not name the folder of the protocol test cases")
	}
	files, err := filepath.Glob(filepath.Join(folder, direction, "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no test cases in %s: %v", folder, err)
	}
	var all []suite
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(f)
		d.UseNumber()
		var s []suite
		if err := d.Decode(&s); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		f.Close()
		all = append(all, s...)
	}
	return all
}

// tally counts the cases of a direction.
type tally struct{ passed, excused int }

func (n *tally) check(t *testing.T, id string, err error) {
	t.Helper()
	why, excused := excusedCases[id]
	switch {
	case err == nil && excused:
		t.Errorf("%s passes and need not be excused (%s)", id, why)
	case err == nil:
		n.passed++
	case excused:
		n.excused++
	default:
		t.Errorf("%s: %v", id, err)
	}
}

// TestProtocolInput reads the requests of the cases as a server, and writes them
// as a client.
func TestProtocolInput(t *testing.T) {
	var server, client tally
	for _, s := range suites(t, "input") {
		for i := range s.Cases {
			c := &s.Cases[i]
			server.check(t, "server reads "+c.ID, guard(func() error { return s.serverReads(c) }))
			client.check(t, "client writes "+c.ID, guard(func() error { return s.clientWrites(c) }))
		}
	}
	t.Logf("read as a server: %d pass, %d excused; written as a client: %d pass, %d excused", server.passed, server.excused, client.passed, client.excused)
}

// TestProtocolOutput writes the responses of the cases as a server, and reads
// them as a client.
func TestProtocolOutput(t *testing.T) {
	var server, client tally
	for _, s := range suites(t, "output") {
		for i := range s.Cases {
			c := &s.Cases[i]
			if c.ErrorCode != "" {
				server.check(t, "server writes "+c.ID, guard(func() error { return s.serverFails(c) }))
				client.check(t, "client reads "+c.ID, guard(func() error { return s.clientReadsError(c) }))
				continue
			}
			server.check(t, "server writes "+c.ID, guard(func() error { return s.serverWrites(c) }))
			client.check(t, "client reads "+c.ID, guard(func() error { return s.clientReads(c) }))
		}
	}
	t.Logf("written as a server: %d pass, %d excused; read as a client: %d pass, %d excused", server.passed, server.excused, client.passed, client.excused)
}

// guard turns a panic into an error, so that one case ends alone.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	return f()
}

func (s *suite) serverReads(c *protocolCase) error {
	svc := s.service(c)
	op := &svc.Operations[0]
	path, query, _ := strings.Cut(c.Serialized.URI, "?")
	h := http.Header{}
	for k, v := range c.Serialized.Headers {
		h.Set(k, v)
	}
	r := &wire.Request{Method: c.Serialized.Method, Path: path, Query: query, Header: h, Body: bytes.NewReader(caseBody(s.protocol(), c.Serialized.Body)), Length: -1}
	call, err := wire.Identify(svc, r)
	if err != nil {
		return err
	}
	in := op.NewInput()
	if err := call.Decode(in); err != nil {
		return err
	}
	v := reflect.ValueOf(in).Elem()
	return same(showCase(svc, op.Input, v.Type(), c.Params), show(svc, op.Input, v))
}

func (s *suite) clientWrites(c *protocolCase) error {
	svc := s.service(c)
	op := &svc.Operations[0]
	in := op.NewInput()
	fill(svc, op.Input, reflect.ValueOf(in).Elem(), c.Params)
	r, err := wire.Client{Service: svc, Protocol: s.protocol(), Endpoint: "http://x"}.Request(context.Background(), op.Name, in)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	path, query, _ := strings.Cut(c.Serialized.URI, "?")
	if got := r.URL.EscapedPath(); got != path || r.Method != c.Serialized.Method {
		return fmt.Errorf("%s %s, not %s %s", r.Method, got, c.Serialized.Method, path)
	}
	h := http.Header{}
	for k, v := range c.Serialized.Headers {
		h.Set(k, v)
	}
	return sameMessage(s.protocol(), h, query, caseBody(s.protocol(), c.Serialized.Body), r.Header, r.URL.RawQuery, body)
}

func (s *suite) serverWrites(c *protocolCase) error {
	svc := s.service(c)
	call := wire.NewCall(svc, s.protocol(), nil)
	call.Operation = &svc.Operations[0]
	out := call.Operation.NewOutput()
	fill(svc, call.Operation.Output, reflect.ValueOf(out).Elem(), c.Result)
	w := httptest.NewRecorder()
	if err := call.Encode(w, out, "requestid"); err != nil {
		return err
	}
	if w.Code != c.Response.StatusCode {
		return fmt.Errorf("status %d, not %d", w.Code, c.Response.StatusCode)
	}
	h := http.Header{}
	for k, v := range c.Response.Headers {
		h.Set(k, v)
	}
	return sameMessage(s.protocol(), h, "", caseBody(s.protocol(), c.Response.Body), canonical(w.Header()), "", w.Body.Bytes())
}

// canonical does what a transport does to the names of headers.
func canonical(h http.Header) http.Header {
	out := http.Header{}
	for k, v := range h {
		out[http.CanonicalHeaderKey(k)] = v
	}
	return out
}

func (s *suite) clientReads(c *protocolCase) error {
	svc := s.service(c)
	op := &svc.Operations[0]
	out := op.NewOutput()
	if err := (wire.Client{Service: svc, Protocol: s.protocol()}).Response(op.Name, s.response(c), out); err != nil {
		return err
	}
	v := reflect.ValueOf(out).Elem()
	return same(showCase(svc, op.Output, v.Type(), c.Result), show(svc, op.Output, v))
}

func (s *suite) response(c *protocolCase) *http.Response {
	h := http.Header{}
	for k, v := range c.Response.Headers {
		h.Set(k, v)
	}
	body := caseBody(s.protocol(), c.Response.Body)
	return &http.Response{StatusCode: c.Response.StatusCode, Header: h, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}
}

func (s *suite) clientReadsError(c *protocolCase) error {
	svc := s.service(c)
	err := wire.Client{Service: svc, Protocol: s.protocol()}.Response(c.Given.Name, s.response(c), svc.Operations[0].NewOutput())
	e, ok := errors.AsType[*awserr.Error](err)
	if !ok || e.Code != c.ErrorCode || c.ErrorMessage != "" && e.Message != c.ErrorMessage {
		return fmt.Errorf("%v, not %s: %s", err, c.ErrorCode, c.ErrorMessage)
	}
	return nil
}

// serverFails answers the case's error and holds it against the response.
func (s *suite) serverFails(c *protocolCase) error {
	svc := s.service(c)
	w := httptest.NewRecorder()
	e := awserr.New(c.Response.StatusCode, c.ErrorCode, "%s", c.ErrorMessage)
	wire.NewCall(svc, s.protocol(), &wire.Request{Header: http.Header{"X-Amzn-Query-Mode": {"true"}}}).EncodeError(w, e, "requestid")
	if w.Code != c.Response.StatusCode {
		return fmt.Errorf("status %d, not %d", w.Code, c.Response.StatusCode)
	}
	res := w.Result()
	res.Header = canonical(res.Header)
	err := wire.Client{Service: svc, Protocol: s.protocol()}.Response(c.Given.Name, res, svc.Operations[0].NewOutput())
	if awserr.Code(err) != c.ErrorCode {
		return fmt.Errorf("came back as %v", err)
	}
	return nil
}

// sameMessage compares headers that the case names, the query and the body by
// meaning.
func sameMessage(p wire.Protocol, wantHeader http.Header, wantQuery string, wantBody []byte, gotHeader http.Header, gotQuery string, gotBody []byte) error {
	kind := wantHeader.Get("Content-Type")
	if kind == "" {
		kind = gotHeader.Get("Content-Type")
	}
	want, err := flatten(kind, wantBody)
	if err != nil {
		return fmt.Errorf("case: %w", err)
	}
	got, err := flatten(gotHeader.Get("Content-Type"), gotBody)
	if err != nil {
		return fmt.Errorf("ours: %w", err)
	}
	flattenHead(want, wantHeader, wantQuery)
	flattenHead(got, gotHeader, gotQuery)
	for path := range got {
		if strings.HasSuffix(strings.ToLower(path), "requestid") {
			delete(got, path)
		}
	}
	for path := range want {
		if strings.HasSuffix(strings.ToLower(path), "requestid") {
			delete(want, path)
		}
	}
	return same(want, got)
}

func same(want, got map[string]string) error {
	missing, err := compare(want, got)
	if err == nil && len(missing) > 0 {
		err = fmt.Errorf("%s = %q is missing", missing[0], want[missing[0]])
	}
	return err
}

// excusedCases are those that do not pass, each with the reason.
var excusedCases = excuses(map[string][]string{
	"EC2 members have names of their own in the models; the cases rely on a rule for those without": {
		"client writes Ec2Lists",
		"client writes Ec2ProtocolIdempotencyTokenAutoFillIsSet",
		"client writes Ec2QueryEndpointTraitWithHostLabel",
		"client writes Ec2TimestampsInput",
	},
	"the endpoint of the case has a path before ours": {
		"client writes AwsJson10HostWithPath",
		"client writes AwsJson11HostWithPath",
		"client writes Ec2QueryHostWithPath",
		"client writes QueryHostWithPath",
		"client writes RestJsonHostWithPath",
		"server reads AwsJson10HostWithPath",
		"server reads RestJsonHostWithPath",
	},
	"the case leaves out what names the operation": {
		"server reads AwsJson10EndpointTrait",
		"server reads AwsJson10EndpointTraitWithHostLabel",
		"server reads SDKAppendsGzipAndIgnoresHttpProvidedEncoding_awsJson1_0",
		"server reads SDKAppendsGzipAndIgnoresHttpProvidedEncoding_awsJson1_1",
		"server reads SDKAppendsGzipAndIgnoresHttpProvidedEncoding_awsQuery",
		"server reads SDKAppendsGzipAndIgnoresHttpProvidedEncoding_ec2Query",
		"server reads SDKAppliedContentEncoding_awsJson1_0",
		"server reads SDKAppliedContentEncoding_awsJson1_1",
		"server reads SDKAppliedContentEncoding_awsQuery",
		"server reads SDKAppliedContentEncoding_ec2Query",
	},
	"clients do not compress here, and a server keeps the coding that a client named": {
		"client writes SDKAppendedGzipAfterProvidedEncoding_restJson1",
		"client writes SDKAppendedGzipAfterProvidedEncoding_restXml",
		"client writes SDKAppendsGzipAndIgnoresHttpProvidedEncoding_awsJson1_0",
		"client writes SDKAppendsGzipAndIgnoresHttpProvidedEncoding_awsJson1_1",
		"client writes SDKAppendsGzipAndIgnoresHttpProvidedEncoding_awsQuery",
		"client writes SDKAppendsGzipAndIgnoresHttpProvidedEncoding_ec2Query",
		"client writes SDKAppliedContentEncoding_awsJson1_0",
		"client writes SDKAppliedContentEncoding_awsJson1_1",
		"client writes SDKAppliedContentEncoding_awsQuery",
		"client writes SDKAppliedContentEncoding_ec2Query",
		"client writes SDKAppliedContentEncoding_restJson1",
		"client writes SDKAppliedContentEncoding_restXml",
		"server reads SDKAppendedGzipAfterProvidedEncoding_restJson1",
		"server reads SDKAppendedGzipAfterProvidedEncoding_restXml",
		"server reads SDKAppliedContentEncoding_restJson1",
		"server reads SDKAppliedContentEncoding_restXml",
	},
	"the case shows a token that its parameters lack": {
		"server reads Ec2ProtocolIdempotencyTokenAutoFill",
		"server reads QueryIdempotencyTokenAutoFill",
		"server reads QueryProtocolIdempotencyTokenAutoFill",
		"server reads RestJsonQueryIdempotencyTokenAutoFill",
	},
	"the client adds no defaults": {
		"client writes Ec2ProtocolIdempotencyTokenAutoFill",
		"client writes QueryIdempotencyTokenAutoFill",
		"client writes QueryProtocolIdempotencyTokenAutoFill",
		"client writes RestJsonQueryIdempotencyTokenAutoFill",
	},
	"what is empty is not on the wire": {
		"client reads HttpPrefixHeadersAreNotPresent",
		"client writes NullAndEmptyHeaders",
		"client writes RestJsonNullAndEmptyHeaders",
		"server reads Ec2EmptyQueryLists",
		"server reads HttpPrefixHeadersAreNotPresent",
		"server reads QueryEmptyQueryMaps",
		"server reads RestJsonHttpPrefixHeadersAreNotPresent",
		"server reads RestJsonOmitsEmptyListQueryValues",
		"server reads RestJsonQueryParamsStringListMap",
		"server reads RestXmlQueryParamsStringListMap",
	},
	"the test unrolls recursive types less deep": {
		"client writes serializes_recursive_structure_shapes",
	},
	"botocore's model has lost the name or the prefix": {
		"client writes BodyWithXmlName",
		"client writes HttpPayloadWithXmlNamespaceAndPrefix",
		"client writes QueryFlattenedListArgWithXmlName",
	},
	"checksums are the signer's": {
		"client writes RestJsonHttpChecksumRequired",
	},
	"a member wins over the map, so the map cannot come back": {
		"server reads RestJsonQueryPrecedence",
		"server reads RestXmlQueryPrecedence",
	},
	"an empty structure and none look the same": {
		"server reads RestJsonHttpWithEmptyStructurePayload",
		"server reads RestJsonHttpWithHeadersButNoPayload",
	},
	"the map of parameters holds all of them, as in the cases of rest-json": {
		"server reads AllQueryStringTypes",
		"server reads RestXmlQueryStringEscaping",
		"server reads RestXmlSupportsInfinityFloatQueryValues",
		"server reads RestXmlSupportsNaNFloatQueryValues",
		"server reads RestXmlSupportsNegativeInfinityFloatQueryValues",
		"server reads RestXmlZeroAndFalseQueryValues",
	},
	"times are written in UTC": {
		"server writes AwsJson11DateTimeWithNegativeOffset",
		"server writes AwsJson11DateTimeWithPositiveOffset",
		"server writes AwsQueryDateTimeWithNegativeOffset",
		"server writes AwsQueryDateTimeWithPositiveOffset",
		"server writes Ec2QueryDateTimeWithNegativeOffset",
		"server writes Ec2QueryDateTimeWithPositiveOffset",
		"server writes RestJsonDateTimeWithNegativeOffset",
		"server writes RestJsonDateTimeWithPositiveOffset",
		"server writes RestXmlDateTimeWithNegativeOffset",
		"server writes RestXmlDateTimeWithPositiveOffset",
	},
	"EC2 always writes milliseconds": {
		"server writes Ec2XmlLists",
		"server writes Ec2XmlTimestamps",
		"server writes Ec2XmlTimestampsWithDateTimeFormat",
		"server writes Ec2XmlTimestampsWithDateTimeOnTargetFormat",
	},
	"namespaces inside of query answers are not written": {
		"server writes Ec2XmlNamespaces",
		"server writes QueryXmlNamespaces",
	},
	"what only a client may meet is not written": {
		"server writes AwsJson10DeserializeIgnoreType",
		"server writes AwsJson10HandlesUnexpectedJsonOutput",
		"server writes AwsJson11DeserializeIgnoreType",
		"server writes RestJsonDeserializeIgnoreType",
		"server writes RpcV2CborExtraFieldsInTheBodyShouldBeSkippedByClients",
		"server writes handles_unexpected_json_output",
	},
	"an answer without members in the body has no body": {
		"server writes RestJsonGreetingWithErrors",
	},
	"no service has an empty prefix": {
		"client reads HttpPrefixHeadersResponse",
		"server writes HttpPrefixHeadersResponse",
	},
	"the response belongs to another case: a copy's mistake": {
		"server writes RpcV2CborPayloadWithUnsetUnion",
	},
})

func excuses(byReason map[string][]string) map[string]string {
	out := map[string]string{}
	for why, ids := range byReason {
		for _, id := range ids {
			out[id] = why
		}
	}
	return out
}
