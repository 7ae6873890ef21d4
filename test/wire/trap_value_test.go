package wire_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"skerry/internal/api/cloudwatch"
	"skerry/internal/api/dynamodb"
	"skerry/internal/api/iam"
	"skerry/internal/api/kinesis"
	"skerry/internal/api/lambda"
	"skerry/internal/api/logs"
	"skerry/internal/api/s3"
	"skerry/internal/api/sqs"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

var day = time.Date(2026, 8, 7, 12, 30, 15, 0, time.UTC)

// TestTimestampsHaveTheFormOfTheirPlace: epoch seconds in JSON, dates in XML,
// tag 1 in CBOR, HTTP dates in headers.
func TestTimestampsHaveTheFormOfTheirPlace(t *testing.T) {
	w := encode(t, kinesis.Schema, wire.AWSJSON11, "DescribeStreamSummary", &kinesis.DescribeStreamSummaryOutput{
		StreamDescriptionSummary: &kinesis.StreamDescriptionSummary{StreamCreationTimestamp: &day}}, nil)
	contains(t, w.Body.String(), `"StreamCreationTimestamp":1786105815}`)
	later := day.Add(123 * time.Millisecond)
	w = encode(t, kinesis.Schema, wire.AWSJSON11, "DescribeStreamSummary", &kinesis.DescribeStreamSummaryOutput{
		StreamDescriptionSummary: &kinesis.StreamDescriptionSummary{StreamCreationTimestamp: &later}}, nil)
	contains(t, w.Body.String(), `:1786105815.123}`)
	w = encode(t, iam.Schema, wire.AWSQuery, "GetUser", &iam.GetUserOutput{User: &iam.User{CreateDate: &day}}, nil)
	contains(t, w.Body.String(), "<CreateDate>2026-08-07T12:30:15Z</CreateDate>")
	w = encode(t, s3.Schema, wire.RESTXML, "ListBuckets", &s3.ListBucketsOutput{Buckets: []s3.Bucket{{Name: new("b"), CreationDate: &day}}}, nil)
	contains(t, w.Body.String(), "<CreationDate>2026-08-07T12:30:15.000Z</CreationDate>")
	w = encode(t, s3.Schema, wire.RESTXML, "HeadObject", &s3.HeadObjectOutput{LastModified: &day}, &wire.Request{Method: "HEAD"})
	if got := header(w, "Last-Modified"); got != "Fri, 07 Aug 2026 12:30:15 GMT" {
		t.Errorf("Last-Modified: %s", got)
	}
	w = encode(t, cloudwatch.Schema, wire.RPCV2CBOR, "GetMetricStatistics", &cloudwatch.GetMetricStatisticsOutput{Datapoints: []cloudwatch.Datapoint{{Timestamp: &later}}}, nil)
	if !bytes.Contains(w.Body.Bytes(), []byte("iTimestamp\xc1\xfb")) {
		t.Errorf("no tag 1 and double in %x", w.Body.Bytes())
	}
}

// TestTimestampsAreReadInAnyForm: whole, with an exponent, in a string, as a
// date, as an HTTP date.
func TestTimestampsAreReadInAnyForm(t *testing.T) {
	for _, form := range []string{"1786105815", "1.786105815E9", `"1786105815"`, `"2026-08-07T12:30:15Z"`, `"2026-08-07T14:30:15+02:00"`, `"Fri, 07 Aug 2026 12:30:15 GMT"`, "1786105815.000"} {
		in := mustDecode[kinesis.GetShardIteratorInput](t, kinesis.Schema, "POST /", `{"Timestamp":`+form+`}`, "X-Amz-Target: Kinesis_20131202.GetShardIterator")
		if in.Timestamp == nil || !in.Timestamp.Equal(day) {
			t.Errorf("%s became %v", form, in.Timestamp)
		}
	}
	in := mustDecode[s3.GetObjectInput](t, s3.Schema, "GET /b/k", "", "If-Modified-Since: Fri, 07 Aug 2026 12:30:15 GMT")
	if !in.IfModifiedSince.Equal(day) {
		t.Error(in.IfModifiedSince)
	}
	if in := mustDecode[s3.GetObjectInput](t, s3.Schema, "GET /b/k", "", "If-Modified-Since: yesterday"); in.IfModifiedSince != nil {
		t.Error("a condition that is no date counts")
	}
	if in := mustDecode[s3.PutObjectInput](t, s3.Schema, "PUT /b/k", "x", "Expires: never, if I can help it"); *in.Expires != "never, if I can help it" {
		t.Error("Expires is not any text")
	}
}

// TestBlobs: base64 in JSON, raw in CBOR and as a payload, which may be empty.
func TestBlobs(t *testing.T) {
	data := []byte{0, 1, 255}
	text := base64.StdEncoding.EncodeToString(data)
	j := mustDecode[kinesis.PutRecordInput](t, kinesis.Schema, "POST /", `{"Data":"`+text+`"}`, "X-Amz-Target: Kinesis_20131202.PutRecord")
	body, _ := cbor.Marshal(map[string]any{"Data": data, "PartitionKey": "p"})
	c := mustDecode[kinesis.PutRecordInput](t, kinesis.Schema, "POST /", string(body), "X-Amz-Target: Kinesis_20131202.PutRecord", "Content-Type: application/x-amz-cbor-1.1")
	if !bytes.Equal(j.Data, data) || !bytes.Equal(c.Data, data) {
		t.Errorf("%v, %v", j.Data, c.Data)
	}
	l := mustDecode[lambda.InvokeInput](t, lambda.Schema, "POST /2015-03-31/functions/f/invocations", "\x00raw", "X-Amz-Invocation-Type: Event")
	if string(l.Payload) != "\x00raw" || *l.InvocationType != "Event" || *l.FunctionName != "f" {
		t.Errorf("%q", l.Payload)
	}
	if l = mustDecode[lambda.InvokeInput](t, lambda.Schema, "POST /2015-03-31/functions/f/invocations", ""); l.Payload != nil {
		t.Error("an empty payload is not absent")
	}
}

// TestJSONOddities: null is absent, unknown members are skipped, words stand for
// odd numbers, 3.0 is whole, the last of two equal keys wins, documents and
// numbers in strings stay as they are.
func TestJSONOddities(t *testing.T) {
	const target = "X-Amz-Target: DynamoDB_20120810."
	in := mustDecode[dynamodb.QueryInput](t, dynamodb.Schema, "POST /",
		`{"TableName":null,"Unknown":{"a":[1,{"b":null}]},"Limit":3.0,"IndexName":"a","IndexName":"b","KeyConditions":null}`, target+"Query")
	if in.TableName != nil || *in.Limit != 3 || *in.IndexName != "b" || in.KeyConditions != nil {
		t.Errorf("%+v", in)
	}
	item := mustDecode[dynamodb.PutItemInput](t, dynamodb.Schema, "POST /", `{"Item":{"n":{"N":"1e400","S":null,"__type":"x"},"l":{"L":[]},"z":{"NULL":true}}}`, target+"PutItem")
	n, l, z := item.Item["n"].Members(), item.Item["l"].Members(), item.Item["z"].Members()
	if *n.N != "1e400" || n.S != nil || l.L == nil || !*z.NULL {
		t.Errorf("%+v", item.Item)
	}
	w := mustDecode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /", `{"MetricData":[{"Value":"NaN"},{"Value":"-Infinity"},{"Value":1e3}]}`, "X-Amz-Target: GraniteServiceVersion20100801.PutMetricData")
	if !math.IsNaN(*w.MetricData[0].Value) || !math.IsInf(*w.MetricData[1].Value, -1) || *w.MetricData[2].Value != 1000 {
		t.Errorf("%v", w.MetricData)
	}
	for body, want := range map[string]string{
		`{"TableName":1}`:          "NUMBER_VALUE cannot be converted to String",
		`{"TableName":true}`:       "TRUE_VALUE cannot be converted to String",
		`{"Limit":"1"}`:            "STRING_VALUE cannot be converted to Integer",
		`{"Limit":1.5}`:            "DECIMAL_VALUE cannot be converted to Integer",
		`{"Limit":3000000000}`:     "DECIMAL_VALUE cannot be converted to Integer",
		`{"TableName":[]}`:         "Start of list found where not expected",
		`{"TableName":{}}`:         "Start of structure or map found where not expected",
		`{"KeyConditions":[]}`:     "Start of list found where not expected",
		`{"TableName":"a"`:         "Unexpected token",
		`{"TableName":"a"} x`:      "Unexpected token",
		`[]`:                       "Start of list found where not expected",
		"{\"TableName\":\"\xff\"}": "Unexpected token",
	} {
		_, _, err := decode[dynamodb.QueryInput](t, dynamodb.Schema, "POST /", body, target+"Query")
		if awserr.Code(err) != "SerializationException" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// TestEmptyBodies: nothing, null, {} and no Content-Type are fine where nothing
// is needed; the answer is {}, or nothing in CBOR and REST.
func TestEmptyBodies(t *testing.T) {
	for _, body := range []string{"", "{}", "null", "  \n"} {
		mustDecode[sqs.ListQueuesInput](t, sqs.Schema, "POST /", body, "X-Amz-Target: AmazonSQS.ListQueues")
	}
	if w := encode(t, logs.Schema, wire.AWSJSON11, "CreateLogGroup", nil, nil); w.Body.String() != "{}" || w.Code != 200 {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if w := encode(t, cloudwatch.Schema, wire.RPCV2CBOR, "PutMetricData", nil, nil); w.Body.Len() != 0 || header(w, "Smithy-Protocol") != "rpc-v2-cbor" {
		t.Errorf("%x %v", w.Body, w.Header())
	}
	if w := encode(t, lambda.Schema, wire.RESTJSON1, "DeleteFunction", nil, nil); w.Body.Len() != 0 {
		t.Errorf("%q", w.Body)
	}
}

// TestGzip: bodies may be compressed, and are held to the same limit; those of
// S3 are kept as they are.
func TestGzip(t *testing.T) {
	var z bytes.Buffer
	g := gzip.NewWriter(&z)
	g.Write([]byte(`{"Namespace":"n"}`))
	g.Close()
	const target = "X-Amz-Target: GraniteServiceVersion20100801.PutMetricData"
	in := mustDecode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /", z.String(), target, "Content-Encoding: gzip")
	if *in.Namespace != "n" {
		t.Error(in)
	}
	if _, _, err := decode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /", "not gzip", target, "Content-Encoding: gzip"); awserr.Code(err) != "SerializationException" {
		t.Error(err)
	}
	z.Reset()
	g = gzip.NewWriter(&z)
	for range 20 << 10 {
		g.Write(make([]byte, 1<<10))
	}
	g.Close()
	if _, _, err := decode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /", z.String(), target, "Content-Encoding: gzip"); awserr.Code(err) != "RequestEntityTooLargeException" {
		t.Error(err)
	}
	obj := mustDecode[s3.PutObjectInput](t, s3.Schema, "PUT /b/k", "whatever", "Content-Encoding: gzip")
	b := make([]byte, 8)
	if n, _ := obj.Body.Read(b); string(b[:n]) != "whatever" {
		t.Errorf("%q", b)
	}
}

// TestHostileGrowth: bodies that would take up far more memory than they are
// long are refused.
func TestHostileGrowth(t *testing.T) {
	const n = 1 << 18
	for target, body := range map[string]string{
		"DynamoDB_20120810.PutItem":        `{"Item":{"a":{"L":[` + strings.Repeat(`{},`, n) + `{}]}}}`,
		"DynamoDB_20120810.BatchWriteItem": `{"RequestItems":{"t":[` + strings.Repeat(`{},`, n) + `{}]}}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, err := wire.Identify(dynamodb.Schema, &wire.Request{Method: "POST", Path: "/", Header: map[string][]string{"X-Amz-Target": {target}}, Body: strings.NewReader(body), Length: int64(len(body))})
		if err == nil {
			err = c.Decode(c.Operation.NewInput())
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 200<<20 {
			t.Errorf("%s: %d MiB were allocated", target, used>>20)
		}
		if target == "DynamoDB_20120810.PutItem" && awserr.Code(err) != "SerializationException" {
			t.Errorf("%s: %v", target, err)
		}
	}
	cborBody := "\xa1jMetricData\x9a\x00\x04\x00\x00" + strings.Repeat("\xa0", n)
	_, _, err := decode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /service/GraniteServiceVersion20100801/operation/PutMetricData", cborBody, "Smithy-Protocol: rpc-v2-cbor")
	if awserr.Code(err) != "SerializationException" {
		t.Error(err)
	}
	xmlBody := "<Delete>" + strings.Repeat("<Object/>", n) + "</Delete>"
	_, _, err = decode[s3.DeleteObjectsInput](t, s3.Schema, "POST /b?delete", xmlBody)
	if err != nil && awserr.Code(err) != "MalformedXML" {
		t.Error(err)
	}
}

// TestHostileDepth: bodies that nest without end are refused.
func TestHostileDepth(t *testing.T) {
	const n = 1 << 20
	target := "X-Amz-Target: DynamoDB_20120810.PutItem"
	for _, body := range []string{
		`{"x":` + strings.Repeat(`[`, n), `{"Item":{"a":` + strings.Repeat(`{"M":{"a":`, n/8), `{"x":` + strings.Repeat(`{"a":`, n/8),
	} {
		if _, _, err := decode[dynamodb.PutItemInput](t, dynamodb.Schema, "POST /", body, target); awserr.Code(err) != "SerializationException" {
			t.Error(err)
		}
	}
	deep := "<AccessControlPolicy>" + strings.Repeat("<a>", n/8)
	if _, _, err := decode[s3.PutBucketAclInput](t, s3.Schema, "PUT /b?acl", deep); awserr.Code(err) != "MalformedXML" {
		t.Error(err)
	}
	for _, body := range []string{strings.Repeat("\x9f", n), "\xa1aX" + strings.Repeat("\xc1", n), "\xa1aX" + strings.Repeat("\xa1aX", n/4)} {
		_, _, err := decode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /service/GraniteServiceVersion20100801/operation/PutMetricData", body, "Smithy-Protocol: rpc-v2-cbor")
		if awserr.Code(err) != "SerializationException" {
			t.Error(err)
		}
	}
	form := "Action=CreateRole&" + strings.Repeat("Tags.member.1.", n/16) + "=x"
	mustDecode[iam.CreateRoleInput](t, iam.Schema, "POST /", form)
	many := "Action=CreateRole" + strings.Repeat("&a=b", 60_000)
	if _, _, err := decode[iam.CreateRoleInput](t, iam.Schema, "POST /", many); awserr.Code(err) != "MalformedQueryString" {
		t.Error(err)
	}
}
