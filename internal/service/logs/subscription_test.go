package logs

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"skerry/internal/api/lambda"
	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/events"
	"skerry/internal/loop"
)

const function = "arn:aws:lambda:us-east-1:123456789012:function:sink"

// lambdas stands for Lambda: it says whether a function may be invoked, and keeps
// what is delivered.
type lambdas struct {
	t      *testing.T
	refuse bool
	got    chan events.Delivery
}

func (l *lambdas) Call(_ context.Context, sc auth.Scope, service, operation string, in any) (any, error) {
	invoke, ok := in.(*lambda.InvokeInput)
	if !ok || service != "lambda" || operation != "Invoke" || *invoke.InvocationType != "DryRun" || *invoke.FunctionName != function {
		l.t.Errorf("called %s.%s with %+v", service, operation, in)
	}
	if sc.Principal.Service != "logs.amazonaws.com" || sc.Request.SourceARN != "arn:aws:logs:us-east-1:123456789012:log-group:g:*" {
		l.t.Errorf("called as %+v for %s", sc.Principal, sc.Request.SourceARN)
	}
	if l.refuse {
		return nil, errors.New("no")
	}
	return &lambda.InvokeOutput{StatusCode: new(int32(204))}, nil
}

func (l *lambdas) Deliver(_ context.Context, d events.Delivery) error {
	l.got <- d
	return nil
}

// subscribe is a harness whose outbox delivers.
func subscribe(t *testing.T) (*harness, *lambdas) {
	h := newHarness(t)
	l := &lambdas{t: t, got: make(chan events.Delivery, 100)}
	quiet := slog.New(slog.DiscardHandler)
	h.Cloud, h.Outbox = l, events.New(h.Store, h.clock, quiet)
	h.Outbox.Route("lambda", l)
	d := loop.NewDriver(clock.Real, quiet, h.Outbox.Loop())
	d.Start()
	t.Cleanup(func() {
		if err := d.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return h, l
}

// unpack reads what a function is sent.
func unpack(t *testing.T, payload []byte) subscribed {
	t.Helper()
	var event struct {
		Logs struct{ Data []byte } `json:"awslogs"`
	}
	var m subscribed
	if err := json.Unmarshal(payload, &event); err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(event.Logs.Data))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSubscription(t *testing.T) {
	h, l := subscribe(t)
	h.make("g", "s")
	in := &logs.PutSubscriptionFilterInput{LogGroupName: new("g"), FilterName: new("f"), FilterPattern: new("ERROR"), DestinationArn: new(function)}
	do(h, h.PutSubscriptionFilter, in)
	h.put("g", "s", h.batch(0, "fine"))
	h.put("g", "s", h.batch(0, "ERROR <1>", "fine", "ERROR 2"))
	var d events.Delivery
	select {
	case d = <-l.got:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is delivered")
	}
	if d.Target != function || d.Service != "logs.amazonaws.com" || d.Account != account {
		t.Errorf("delivered %+v", d)
	}
	m := unpack(t, d.Payload)
	if m.MessageType != "DATA_MESSAGE" || m.Owner != account || m.LogGroup != "g" || m.LogStream != "s" ||
		len(m.LogEvents) != 2 || m.LogEvents[0].Message != "ERROR <1>" || len(m.LogEvents[0].ID) != 56 || m.SubscriptionFilters[0] != "f" {
		t.Errorf("message %+v", m)
	}

	got := do(h, h.DescribeSubscriptionFilters, &logs.DescribeSubscriptionFiltersInput{LogGroupName: new("g")}).SubscriptionFilters
	if len(got) != 1 || *got[0].DestinationArn != function || *got[0].Distribution != "ByLogStream" {
		t.Errorf("described as %+v", got)
	}
	in.FilterName = new("f2")
	do(h, h.PutSubscriptionFilter, in)
	in.FilterName = new("f3")
	refuse(h, h.PutSubscriptionFilter, in, "LimitExceededException", "Resource limit exceeded.")
	for _, name := range []string{"f", "f2"} {
		do(h, h.DeleteSubscriptionFilter, &logs.DeleteSubscriptionFilterInput{LogGroupName: new("g"), FilterName: &name})
	}
	refuse(h, h.DeleteSubscriptionFilter, &logs.DeleteSubscriptionFilterInput{LogGroupName: new("g"), FilterName: new("f")},
		"ResourceNotFoundException", "The specified subscription filter does not exist.")
	h.put("g", "s", h.batch(0, "ERROR 3"))
	if c := h.Outbox.Counts(); c.Delivered > 1 {
		t.Errorf("%d deliveries", c.Delivered)
	}
}

func TestSubscriptionRefusals(t *testing.T) {
	h, l := subscribe(t)
	h.make("g", "s")
	h.make("/aws/lambda/sink")
	in := func(group, destination string) *logs.PutSubscriptionFilterInput {
		return &logs.PutSubscriptionFilterInput{LogGroupName: &group, FilterName: new("f"), FilterPattern: new(""), DestinationArn: &destination}
	}
	refuse(h, h.PutSubscriptionFilter, in("no", function), "ResourceNotFoundException", "The specified log group does not exist.")
	refuse(h, h.PutSubscriptionFilter, in("g", "arn:aws:kinesis:us-east-1:123456789012:stream/x"), "InvalidParameterException", "")
	refuse(h, h.PutSubscriptionFilter, in("/aws/lambda/sink", function),
		"InvalidParameterException", "The log group provided is reserved for the function logs of the destination function.")
	l.refuse = true
	refuse(h, h.PutSubscriptionFilter, in("g", function), "InvalidParameterException",
		"Could not execute the lambda function. Make sure you have given CloudWatch Logs permission to execute your function.")
}

func TestLargeMessagesAreSplit(t *testing.T) {
	m := subscribed{MessageType: "DATA_MESSAGE"}
	noise := func(i int) string { // which gzip can't shrink much
		var b strings.Builder
		for x := uint32(i + 1); b.Len() < 40_000; x = x*1664525 + 1013904223 {
			b.WriteByte(byte('!' + x>>24%90))
		}
		return b.String()
	}
	for i := range 20 {
		m.LogEvents = append(m.LogEvents, subscribedEvent{Timestamp: int64(i), Message: noise(i)})
	}
	parts, err := m.payloads()
	if err != nil || len(parts) < 2 {
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	next := int64(0)
	for _, p := range parts {
		if len(p) > maxPayload {
			t.Errorf("a part of %d bytes", len(p))
		}
		for _, e := range unpack(t, p).LogEvents {
			if e.Timestamp != next {
				t.Fatalf("event %d where %d belongs", e.Timestamp, next)
			}
			next++
		}
	}
	if next != 20 {
		t.Errorf("%d events", next)
	}
}
