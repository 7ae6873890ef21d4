package wire_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"skerry/internal/api/kinesis"
	"skerry/internal/api/lambda"
	"skerry/internal/api/logs"
	"skerry/internal/api/s3"
	"skerry/internal/wire"
)

// answer serves one output over HTTP and returns the response.
func answer(t *testing.T, svc *wire.Service, p wire.Protocol, op string, out any) *http.Response {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := wire.NewCall(svc, p, wire.NewRequest(r))
		c.Operation = svc.Operation(op)
		if err := c.Encode(w, out, "request-1"); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(srv.Close)
	req, err := http.NewRequestWithContext(context.Background(), "POST", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

// TestInitialResponse: RPC protocols send one before the first event, restJson1
// does not.
func TestInitialResponse(t *testing.T) {
	res := answer(t, kinesis.Schema, wire.AWSJSON11, "SubscribeToShard", &kinesis.SubscribeToShardOutput{})
	f, err := wire.ReadFrame(res.Body)
	if err != nil || f.Text(":event-type") != "initial-response" || string(f.Payload) != "{}" || f.Text(":content-type") != "application/x-amz-json-1.1" {
		t.Errorf("%v %+v", err, f)
	}
	if got := res.Header.Get("Content-Type"); got != "application/vnd.amazon.eventstream" {
		t.Error(got)
	}
	res = answer(t, lambda.Schema, wire.RESTJSON1, "InvokeWithResponseStream", &lambda.InvokeWithResponseStreamOutput{StatusCode: new(int32(200)), ExecutedVersion: new("1"),
		EventStream: func(yield func(*lambda.InvokeWithResponseStreamResponseEvent, error) bool) {
			yield(&lambda.InvokeWithResponseStreamResponseEvent{PayloadChunk: &lambda.InvokeResponseStreamUpdate{Payload: []byte("hi")}}, nil)
		}})
	f, err = wire.ReadFrame(res.Body)
	if err != nil || f.Text(":event-type") != "PayloadChunk" || string(f.Payload) != "hi" || res.Header.Get("X-Amz-Executed-Version") != "1" {
		t.Errorf("%v %+v", err, f)
	}
}

// TestEventsAreFlushed: an event arrives before the next one is made.
func TestEventsAreFlushed(t *testing.T) {
	next := make(chan struct{})
	out := &logs.StartLiveTailOutput{ResponseStream: func(yield func(*logs.StartLiveTailResponseStream, error) bool) {
		if !yield(&logs.StartLiveTailResponseStream{SessionStart: &logs.LiveTailSessionStart{SessionId: new("s")}}, nil) {
			return
		}
		select {
		case <-next:
		case <-time.After(10 * time.Second):
			t.Error("the first event did not arrive")
		}
		yield(nil, &logs.SessionTimeoutException{Message: new("over")})
	}}
	got := &logs.StartLiveTailOutput{}
	if err := (wire.Client{Service: logs.Schema, Protocol: wire.AWSJSON11}).Response("StartLiveTail", answer(t, logs.Schema, wire.AWSJSON11, "StartLiveTail", out), got); err != nil {
		t.Fatal(err)
	}
	n := 0
	for event, err := range got.ResponseStream {
		if n++; n == 1 {
			if err != nil || *event.SessionStart.SessionId != "s" {
				t.Fatalf("%v %+v", err, event)
			}
			close(next)
			continue
		}
		if e, ok := errors.AsType[*logs.SessionTimeoutException](err); !ok || e.ErrorMessage() != "over" {
			t.Errorf("%T %v", err, err)
		}
	}
	if n != 2 {
		t.Errorf("%d events", n)
	}
}

// TestEventPayloads: raw bytes, XML, empty events, and errors that the stream
// does not model.
func TestEventPayloads(t *testing.T) {
	out := &s3.SelectObjectContentOutput{Payload: func(yield func(*s3.SelectObjectContentEventStream, error) bool) {
		_ = yield(&s3.SelectObjectContentEventStream{Records: &s3.RecordsEvent{Payload: []byte("a,b\n")}}, nil) &&
			yield(&s3.SelectObjectContentEventStream{Stats: &s3.StatsEvent{Details: &s3.Stats{BytesReturned: new(int64(4))}}}, nil) &&
			yield(&s3.SelectObjectContentEventStream{End: &s3.EndEvent{}}, nil) &&
			yield(nil, errors.New("secret"))
	}}
	got := &s3.SelectObjectContentOutput{}
	if err := (wire.Client{Service: s3.Schema, Protocol: wire.RESTXML}).Response("SelectObjectContent", answer(t, s3.Schema, wire.RESTXML, "SelectObjectContent", out), got); err != nil {
		t.Fatal(err)
	}
	var events []*s3.SelectObjectContentEventStream
	var last error
	for event, err := range got.Payload {
		if last = err; err == nil {
			events = append(events, event)
		}
	}
	if len(events) != 3 || string(events[0].Records.Payload) != "a,b\n" || *events[1].Stats.Details.BytesReturned != 4 || events[2].End == nil {
		t.Errorf("%+v", events)
	}
	if last == nil || bytes.Contains([]byte(last.Error()), []byte("secret")) {
		t.Error(last)
	}
}

// TestFrames: headers of every type come back, and a flipped bit is found.
func TestFrames(t *testing.T) {
	in := wire.Frame{Payload: []byte("payload"), Headers: []wire.Header{{Name: "t", Value: true}, {Name: "f", Value: false}, {Name: "i8", Value: int8(-1)}, {Name: "i16", Value: int16(-2)}, {Name: "i32", Value: int32(-3)},
		{Name: "i64", Value: int64(-4)}, {Name: "b", Value: []byte{1}}, {Name: "s", Value: "text"}, {Name: "time", Value: time.UnixMilli(1786105815123).UTC()}, {Name: "uuid", Value: [16]byte{1, 2}}}}
	b := wire.AppendFrame(nil, in)
	out, err := wire.ReadFrame(bytes.NewReader(b))
	if err != nil || len(out.Headers) != len(in.Headers) || out.Text("s") != "text" || string(out.Payload) != "payload" || out.Headers[9].Value != in.Headers[9].Value {
		t.Errorf("%v %+v", err, out)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := wire.ReadFrame(bytes.NewReader(bad)); err == nil {
			t.Errorf("byte %d may be wrong", i)
		}
	}
	if _, err := wire.ReadFrame(bytes.NewReader(nil)); err != io.EOF {
		t.Error(err)
	}
}
