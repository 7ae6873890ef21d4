package wire_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"skerry/internal/api/dynamodb"
	"skerry/internal/api/ecs"
	"skerry/internal/api/lambda"
	"skerry/internal/api/logs"
	"skerry/internal/api/s3"
	"skerry/internal/wire"
)

// putItem is a request of about 1 kB, as in study of the API layer.
var putItem = []byte(`{"TableName":"orders","Item":{"pk":{"S":"customer#0123456789"},"sk":{"S":"order#2026-08-07T12:30:15Z"},"total":{"N":"129.95"},"currency":{"S":"EUR"},` +
	`"paid":{"BOOL":true},"note":{"NULL":true},"tags":{"SS":["new","priority","gift"]},"lines":{"L":[{"M":{"sku":{"S":"A-100"},"qty":{"N":"2"},"price":{"N":"19.95"}}},` +
	`{"M":{"sku":{"S":"B-200"},"qty":{"N":"1"},"price":{"N":"90.05"}}}]},"address":{"M":{"street":{"S":"1 Long Street"},"city":{"S":"Lerwick"},"zip":{"S":"ZE1"},"country":{"S":"GB"}}},` +
	`"thumb":{"B":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v"}},"ConditionExpression":"attribute_not_exists(#pk) AND #total > :min",` +
	`"ExpressionAttributeNames":{"#pk":"pk","#total":"total"},"ExpressionAttributeValues":{":min":{"N":"0"}},"ReturnValues":"NONE","ReturnConsumedCapacity":"TOTAL"}`)

// cpu reports the processor time of an operation besides the time that passed,
// which on a busy machine is more.
func cpu(b *testing.B) {
	used := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	start := used()
	b.Cleanup(func() { b.ReportMetric(float64(used()-start)/float64(b.N), "cpu-ns/op") })
}

func decodePutItem(tb testing.TB, h http.Header) {
	c, err := wire.Identify(dynamodb.Schema, &wire.Request{Method: "POST", Path: "/", Header: h, Body: bytes.NewReader(putItem), Length: int64(len(putItem))})
	if err == nil {
		err = c.Decode(&dynamodb.PutItemInput{})
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// BenchmarkDecodePutItem: the bar is 8 µs and 95 allocations.
func BenchmarkDecodePutItem(b *testing.B) {
	h := http.Header{"X-Amz-Target": {"DynamoDB_20120810.PutItem"}}
	b.ReportAllocs()
	b.SetBytes(int64(len(putItem)))
	cpu(b)
	for b.Loop() {
		decodePutItem(b, h)
	}
}

// plainValue is dynamodb.AttributeValue as a plain struct.
type plainValue struct {
	S, N       *string
	B          []byte
	SS, NS     []string
	BS         [][]byte
	M          map[string]plainValue
	L          []plainValue
	NULL, BOOL *bool
}

// BenchmarkStandardDecodePutItem is the standard library on the same body and
// plain structs, for the ratio: figures of different moments don't compare.
func BenchmarkStandardDecodePutItem(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(putItem)))
	cpu(b)
	for b.Loop() {
		var in struct {
			dynamodb.PutItemInput
			Item, ExpressionAttributeValues map[string]plainValue
		}
		if err := json.Unmarshal([]byte(putItem), &in); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDecodePutItemAllocations holds the bar that does not depend on the machine.
func TestDecodePutItemAllocations(t *testing.T) {
	h := http.Header{"X-Amz-Target": {"DynamoDB_20120810.PutItem"}}
	if n := testing.AllocsPerRun(100, func() { decodePutItem(t, h) }); n > 95 {
		t.Errorf("%v allocations", n)
	}
}

func runTaskOutput() *ecs.RunTaskOutput {
	container := func(name string) ecs.Container {
		return ecs.Container{
			ContainerArn: new("arn:aws:ecs:eu-west-1:000000000000:container/default/0123/" + name), TaskArn: new("arn:aws:ecs:eu-west-1:000000000000:task/default/0123"),
			Name: new(name), Image: new("public.ecr.aws/nginx/nginx:1"), LastStatus: new("PENDING"), NetworkInterfaces: []ecs.NetworkInterface{}, Cpu: new("0"), Memory: new("128"),
		}
	}
	return &ecs.RunTaskOutput{Failures: []ecs.Failure{}, Tasks: []ecs.Task{{
		Attachments: []ecs.Attachment{{Id: new("a"), Type: new("ElasticNetworkInterface"), Status: new("PRECREATED"), Details: []ecs.KeyValuePair{{Name: new("subnetId"), Value: new("subnet-1")}}}},
		Attributes:  []ecs.Attribute{{Name: new("ecs.cpu-architecture"), Value: new("x86_64")}}, AvailabilityZone: new("eu-west-1a"), ClusterArn: new("arn:aws:ecs:eu-west-1:000000000000:cluster/default"),
		Containers: []ecs.Container{container("web"), container("log")}, Cpu: new("256"), Memory: new("512"), CreatedAt: &day, DesiredStatus: new("RUNNING"), LastStatus: new("PROVISIONING"),
		EnableExecuteCommand: new(false), Group: new("family:web"), LaunchType: new("FARGATE"), PlatformVersion: new("1.4.0"), PlatformFamily: new("Linux"),
		Overrides:         &ecs.TaskOverride{ContainerOverrides: []ecs.ContainerOverride{{Name: new("web")}, {Name: new("log")}}, InferenceAcceleratorOverrides: []ecs.InferenceAcceleratorOverride{}},
		TaskArn:           new("arn:aws:ecs:eu-west-1:000000000000:task/default/0123"),
		TaskDefinitionArn: new("arn:aws:ecs:eu-west-1:000000000000:task-definition/web:1"), Version: new(int64(1)), Tags: []ecs.Tag{},
	}}}
}

// discard is a response writer that keeps nothing.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// BenchmarkEncodeRunTask: the bar is 2 µs.
func BenchmarkEncodeRunTask(b *testing.B) {
	c := wire.NewCall(ecs.Schema, wire.AWSJSON11, nil)
	c.Operation = ecs.Schema.Operation("RunTask")
	out := runTaskOutput()
	w := discard{http.Header{}}
	b.ReportAllocs()
	cpu(b)
	for b.Loop() {
		clear(w.h)
		if err := c.Encode(w, out, "request-1"); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkStandardEncodeRunTask is the standard library on the same struct.
func BenchmarkStandardEncodeRunTask(b *testing.B) {
	out := runTaskOutput()
	b.ReportAllocs()
	cpu(b)
	for b.Loop() {
		if _, err := json.Marshal(out); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkIdentifyGetObject: routing and binding of the plainest S3 request.
func BenchmarkIdentifyGetObject(b *testing.B) {
	h := http.Header{"Authorization": {strings.Repeat("x", 200)}, "X-Amz-Date": {"20260807T123015Z"}, "User-Agent": {"aws-sdk"}}
	b.ReportAllocs()
	cpu(b)
	for b.Loop() {
		c, err := wire.Identify(s3.Schema, &wire.Request{Method: "GET", Path: "/bucket/some/longer/key.jpg", Query: "x-id=GetObject", Header: h})
		if err == nil {
			err = c.Decode(&s3.GetObjectInput{})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodePutLogEvents: a hundred lines of a function's log.
func BenchmarkDecodePutLogEvents(b *testing.B) {
	event := `{"timestamp":1786105815123,"message":"2026-08-07T12:30:15.123Z 8f14e45f-ceea-467f-a0e4-2f1c3a1b9d11 INFO handled order 0123456789 in 12 ms\n"}`
	body := []byte(`{"logGroupName":"/aws/lambda/orders","logStreamName":"2026/08/07/[$LATEST]0123456789abcdef","logEvents":[` + event + strings.Repeat(","+event, 99) + `]}`)
	h := http.Header{"X-Amz-Target": {"Logs_20140328.PutLogEvents"}}
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	cpu(b)
	for b.Loop() {
		c, err := wire.Identify(logs.Schema, &wire.Request{Method: "POST", Path: "/", Header: h, Body: bytes.NewReader(body), Length: int64(len(body))})
		if err == nil {
			err = c.Decode(&logs.PutLogEventsInput{})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkDecodeInvoke: the request of the shortest functions.
func BenchmarkDecodeInvoke(b *testing.B) {
	body := []byte(`{"key":"value"}`)
	h := http.Header{"Authorization": {strings.Repeat("x", 200)}, "X-Amz-Date": {"20260807T123015Z"}, "User-Agent": {"aws-sdk"}, "X-Amz-Invocation-Type": {"RequestResponse"}}
	b.ReportAllocs()
	cpu(b)
	for b.Loop() {
		c, err := wire.Identify(lambda.Schema, &wire.Request{Method: "POST", Path: "/2015-03-31/functions/orders/invocations", Header: h, Body: bytes.NewReader(body), Length: int64(len(body))})
		if err == nil {
			err = c.Decode(&lambda.InvokeInput{})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkValidatePutItem: what validation adds to a request.
func BenchmarkValidatePutItem(b *testing.B) {
	in := &dynamodb.PutItemInput{}
	c, err := wire.Identify(dynamodb.Schema, &wire.Request{Method: "POST", Path: "/", Header: http.Header{"X-Amz-Target": {"DynamoDB_20120810.PutItem"}}, Body: bytes.NewReader(putItem), Length: -1})
	if err == nil {
		err = c.Decode(in)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	cpu(b)
	for b.Loop() {
		if err := wire.Validate(dynamodb.Schema, c.Operation, in); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAllPlans: what the first use of every operation costs together; the
// bar for all tables is 30 ms.
func BenchmarkAllPlans(b *testing.B) {
	cpu(b)
	for b.Loop() {
		for _, svc := range services() {
			fresh := &wire.Service{ID: svc.ID, Protocols: svc.Protocols, Operations: svc.Operations, Shapes: svc.Shapes}
			if err := fresh.Check(); err != nil {
				b.Fatal(err)
			}
		}
	}
}
