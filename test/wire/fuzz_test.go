package wire_test

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"

	"skerry/internal/api/cloudwatch"
	"skerry/internal/api/dynamodb"
	"skerry/internal/api/ec2"
	"skerry/internal/api/ecs"
	"skerry/internal/api/iam"
	"skerry/internal/api/kinesis"
	"skerry/internal/api/lambda"
	"skerry/internal/api/s3"
	"skerry/internal/wire"
)

// tryRequest decodes whatever it gets. What decodes must pass validation or fail
// it, encode as a client's request, and decode to the same again; an error must
// be answered. Nothing may panic.
func tryRequest(t *testing.T, svc *wire.Service, r *wire.Request, body []byte) {
	r.Body, r.Length = bytes.NewReader(body), int64(len(body))
	c, err := wire.Identify(svc, r)
	var in any
	if err == nil {
		in = c.Operation.NewInput()
		err = c.Decode(in)
	}
	if err != nil {
		w := httptest.NewRecorder()
		c.EncodeError(w, err, "id")
		if w.Code < 300 {
			t.Fatalf("%v answers %d", err, w.Code)
		}
		return
	}
	_ = wire.Validate(svc, c.Operation, in)
	again, err := wire.Client{Service: svc, Protocol: c.Protocol, Endpoint: "http://x"}.Request(context.Background(), c.Operation.Name, in)
	if err != nil {
		return // a label may be empty
	}
	back, err := wire.Identify(svc, wire.NewRequest(again))
	if err != nil || back.Operation != c.Operation {
		return // members that tell operations apart may have been dropped as empty
	}
	in2 := back.Operation.NewInput()
	if err := back.Decode(in2); err != nil {
		t.Fatalf("%s: what was decoded is refused once encoded: %v\n%+v", c.Operation.Name, err, in)
	}
	_ = reflect.DeepEqual(in, in2) // numbers and dates may have lost digits
}

func FuzzAWSJSON(f *testing.F) {
	f.Add("PutItem", putItem)
	f.Add("Query", []byte(`{"Limit":3.0,"TableName":"\ud83d\ude00\u0000","x":[{}]}`))
	f.Fuzz(func(t *testing.T, op string, body []byte) {
		tryRequest(t, dynamodb.Schema, &wire.Request{Method: "POST", Path: "/", Header: http.Header{"X-Amz-Target": {"DynamoDB_20120810." + op}}}, body)
		tryRequest(t, ecs.Schema, &wire.Request{Method: "POST", Path: "/", Header: http.Header{"X-Amz-Target": {ecs.Schema.TargetPrefix + "." + op}}}, body)
	})
}

func FuzzRESTJSON(f *testing.F) {
	f.Add("POST", "/2015-03-31/functions", "a=b", []byte(`{"FunctionName":"f","Environment":{"Variables":{"a":"b"}},"Timeout":3}`))
	f.Add("GET", "/2015-03-31/functions/f%2F/", "MaxItems=3&Marker=%zz", []byte(nil))
	f.Fuzz(func(t *testing.T, method, path, query string, body []byte) {
		tryRequest(t, lambda.Schema, &wire.Request{Method: method, Path: path, Query: query, Header: http.Header{}}, body)
	})
}

func FuzzRESTXML(f *testing.F) {
	f.Add("PUT", "/b", "acl", "x-amz-acl", []byte(`<AccessControlPolicy><AccessControlList><Grant><Grantee xmlns:xsi="y" xsi:type="Group"><URI>u</URI></Grantee></Grant></AccessControlList></AccessControlPolicy>`))
	f.Add("POST", "/b", "delete", "", []byte(`<Delete><Object><Key>a</Key></Object><Quiet>true</Quiet></Delete>`))
	f.Add("PUT", "/b/k//", "partNumber=1&uploadId=%zz", "x-amz-meta-a", []byte("data"))
	f.Fuzz(func(t *testing.T, method, path, query, header string, body []byte) {
		tryRequest(t, s3.Schema, &wire.Request{Method: method, Path: path, Query: query, Header: http.Header{http.CanonicalHeaderKey(header): {"1"}}}, body)
	})
}

func FuzzAWSQuery(f *testing.F) {
	f.Add([]byte("Action=CreateRole&Tags.member.1.Key=a&Tags.member.3.Value=b&MaxSessionDuration=3"))
	f.Fuzz(func(t *testing.T, body []byte) {
		h := http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}
		tryRequest(t, iam.Schema, &wire.Request{Method: "POST", Path: "/", Header: h}, body)
		tryRequest(t, cloudwatch.Schema, &wire.Request{Method: "POST", Path: "/", Header: h}, body)
	})
}

func FuzzEC2Query(f *testing.F) {
	f.Add([]byte("Action=RunInstances&MinCount=1&BlockDeviceMapping.1.Ebs.VolumeSize=8&TagSpecification.1.Tag.1.Key=k"))
	f.Fuzz(func(t *testing.T, body []byte) {
		tryRequest(t, ec2.Schema, &wire.Request{Method: "POST", Path: "/", Header: http.Header{}}, body)
	})
}

func FuzzCBOR(f *testing.F) {
	f.Add("PutMetricData", []byte("\xbfiNamespace\x7f\x61a\x61b\xffjMetricData\x9f\xbfeValue\xf9\x3e\x00iTimestamp\xc1\xfb\x41\xcc\x36\xa1\xc0\x00\x00\x00\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, op string, body []byte) {
		tryRequest(t, cloudwatch.Schema, &wire.Request{Method: "POST", Path: "/service/GraniteServiceVersion20100801/operation/" + op, Header: http.Header{"Smithy-Protocol": {"rpc-v2-cbor"}}}, body)
		tryRequest(t, kinesis.Schema, &wire.Request{Method: "POST", Path: "/", Header: http.Header{"Content-Type": {"application/x-amz-cbor-1.1"}, "X-Amz-Target": {"Kinesis_20131202." + op}}}, body)
	})
}

func FuzzEventStream(f *testing.F) {
	f.Add(wire.AppendFrame(nil, wire.Frame{Headers: []wire.Header{{Name: ":event-type", Value: "Records"}}, Payload: []byte("x")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := wire.ReadFrame(bytes.NewReader(b))
		if err != nil {
			return
		}
		again, err := wire.ReadFrame(bytes.NewReader(wire.AppendFrame(nil, frame)))
		if err != nil || !reflect.DeepEqual(frame.Payload, again.Payload) {
			t.Fatalf("%v: %+v became %+v", err, frame, again)
		}
	})
}
