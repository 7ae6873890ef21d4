package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	api "skerry/internal/api/lambda"
	"skerry/internal/base/ids"
	"skerry/internal/events"
)

// inbox is a queue of another service.
type inbox chan events.Delivery

// Deliver implements events.Target.
func (i inbox) Deliver(_ context.Context, d events.Delivery) error { i <- d; return nil }

func (i inbox) get(t *testing.T) events.Delivery {
	t.Helper()
	select {
	case d := <-i:
		return d
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
	return events.Delivery{}
}

func (w *world) later(name, payload string) string {
	w.t.Helper()
	sc := w.scope
	sc.Request.ID = ids.UUID()
	if _, err := w.Invoke(w.t.Context(), sc, &api.InvokeInput{FunctionName: &name, InvocationType: new("Event"), Payload: []byte(payload)}); err != nil {
		w.t.Fatal(err)
	}
	return sc.Request.ID
}

func TestDestinations(t *testing.T) {
	w := newWorld(t, map[string]program{"echo": echo, "fails": func(invocation) reply {
		return reply{body: `{"errorMessage":"no","errorType":"E"}`, failed: "E"}
	}})
	queue := make(inbox, 8)
	w.outbox.Route("sqs", queue)
	ctx := t.Context()
	for _, name := range []string{"echo", "fails"} {
		w.create(name, name, func(in *api.CreateFunctionInput) {
			in.DeadLetterConfig = &api.DeadLetterConfig{TargetArn: new("arn:aws:sqs:us-east-1:000000000000:dead")}
		})
		_, err := w.PutFunctionEventInvokeConfig(ctx, w.scope, &api.PutFunctionEventInvokeConfigInput{FunctionName: &name, MaximumRetryAttempts: new(int32(0)),
			DestinationConfig: &api.DestinationConfig{OnSuccess: &api.OnSuccess{Destination: new("arn:aws:sqs:us-east-1:000000000000:good")},
				OnFailure: &api.OnFailure{Destination: new("arn:aws:sqs:us-east-1:000000000000:bad")}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	var rec destinationRecord
	id := w.later("echo", `{"a":1}`)
	d := queue.get(t)
	if err := json.Unmarshal(d.Payload, &rec); err != nil || d.Target != "arn:aws:sqs:us-east-1:000000000000:good" || d.Role != role ||
		rec.RequestContext.RequestID != id || rec.RequestContext.Condition != "Success" || rec.RequestContext.Invokes != 1 ||
		rec.RequestContext.FunctionARN != "arn:aws:lambda:us-east-1:000000000000:function:echo:$LATEST" ||
		string(rec.RequestPayload) != `{"a":1}` || string(rec.ResponsePayload) != `{"a":1}` || rec.ResponseContext.StatusCode != 200 {
		t.Errorf("%+v %s %v", d, d.Payload, err)
	}
	id = w.later("fails", `{"a":2}`)
	for range 2 {
		d := queue.get(t)
		switch d.Target {
		case "arn:aws:sqs:us-east-1:000000000000:bad":
			rec = destinationRecord{}
			if err := json.Unmarshal(d.Payload, &rec); err != nil || rec.RequestContext.Condition != "RetriesExhausted" ||
				rec.ResponseContext.FunctionError != "Unhandled" || string(rec.ResponsePayload) != `{"errorMessage":"no","errorType":"E"}` {
				t.Errorf("%s %v", d.Payload, err)
			}
		case "arn:aws:sqs:us-east-1:000000000000:dead":
			if string(d.Payload) != `{"a":2}` || d.Attributes["RequestID"] != id || d.Attributes["ErrorCode"] != "200" || d.Attributes["ErrorMessage"] != "no" {
				t.Errorf("%+v", d)
			}
		default:
			t.Errorf("%+v", d)
		}
	}
}

func TestAsyncRetries(t *testing.T) {
	w := newWorld(t, map[string]program{"fails": func(invocation) reply { return reply{body: "{}", failed: "E"} }})
	w.create("fails", "fails")
	a := asyncTarget{w.Service}
	d := events.Delivery{Target: "arn:aws:lambda:us-east-1:000000000000:function:fails", Payload: []byte("1"), Attempt: 1,
		Attributes: map[string]string{"request": ids.UUID()}}
	if _, ok := errors.AsType[*functionError](a.Deliver(t.Context(), d)); !ok {
		t.Error("a function's own failure is tried again by the outbox's schedule")
	}
	d.Target = "arn:aws:lambda:us-east-1:000000000000:function:gone"
	if err := a.Deliver(t.Context(), d); !errors.As(err, new(*api.ResourceNotFoundException)) || err.Error() != events.Permanent(err).Error() {
		t.Errorf("%v", err)
	}
	if _, err := w.PutFunctionConcurrency(t.Context(), w.scope, &api.PutFunctionConcurrencyInput{FunctionName: new("fails"), ReservedConcurrentExecutions: new(int32(0))}); err != nil {
		t.Fatal(err)
	}
	d.Target = "arn:aws:lambda:us-east-1:000000000000:function:fails"
	if err := a.Deliver(t.Context(), d); !errors.As(err, new(*api.TooManyRequestsException)) {
		t.Errorf("%v", err)
	}
}
