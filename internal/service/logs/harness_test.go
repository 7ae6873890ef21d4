package logs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
	"skerry/internal/meter"
	"skerry/internal/store"
)

const (
	account = "123456789012"
	region  = "us-east-1"
)

// harness is the service over a real store, with a clock that stands.
type harness struct {
	*Service
	t     testing.TB
	clock *clock.Fake
	scope auth.Scope
}

func newHarness(t testing.TB) *harness {
	t.Helper()
	db, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	c := clock.NewFake(time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	return &harness{
		Service: New(Deps{Store: db, Clock: c, Log: slog.New(slog.DiscardHandler), Meter: meter.New(db, c)}),
		t:       t, clock: c,
		scope: auth.Scope{Account: account, Region: region, Principal: auth.Principal{Kind: auth.Root, Account: account}},
	}
}

// do runs a handler that must succeed.
func do[I, O any](h *harness, handler func(context.Context, auth.Scope, *I) (*O, error), in *I) *O {
	h.t.Helper()
	out, err := handler(h.t.Context(), h.scope, in)
	if err != nil {
		h.t.Fatalf("%T: %v", in, err)
	}
	return out
}

// refuse runs a handler that must fail with a code and a text.
func refuse[I, O any](h *harness, handler func(context.Context, auth.Scope, *I) (*O, error), in *I, code, message string) {
	h.t.Helper()
	_, err := handler(h.t.Context(), h.scope, in)
	api, ok := errors.AsType[awserr.API](err)
	if !ok || api.ErrorCode() != code || message != "" && api.ErrorMessage() != message {
		h.t.Errorf("%T: %v, want %s: %s", in, err, code, message)
	}
}

// make makes a group and its streams.
func (h *harness) make(group string, streams ...string) {
	h.t.Helper()
	do(h, h.CreateLogGroup, &logs.CreateLogGroupInput{LogGroupName: &group})
	for _, s := range streams {
		do(h, h.CreateLogStream, &logs.CreateLogStreamInput{LogGroupName: &group, LogStreamName: &s})
	}
}

// batch is events at times relative to now.
func (h *harness) batch(after time.Duration, messages ...string) []logs.InputLogEvent {
	var out []logs.InputLogEvent
	for _, m := range messages {
		out = append(out, logs.InputLogEvent{Timestamp: new(h.clock.Now().Add(after).UnixMilli()), Message: &m})
	}
	return out
}

func (h *harness) put(group, stream string, events []logs.InputLogEvent) *logs.PutLogEventsOutput {
	h.t.Helper()
	return do(h, h.PutLogEvents, &logs.PutLogEventsInput{LogGroupName: &group, LogStreamName: &stream, LogEvents: events})
}

// search returns the messages that FilterLogEvents finds, over all pages.
func (h *harness) search(in logs.FilterLogEventsInput) []string {
	h.t.Helper()
	found := []string{}
	for {
		out := do(h, h.FilterLogEvents, &in)
		for _, e := range out.Events {
			found = append(found, *e.Message)
		}
		if out.NextToken == nil {
			return found
		}
		in.NextToken = out.NextToken
	}
}

func (h *harness) sweepAll() {
	h.t.Helper()
	for {
		report, err := h.sweep(h.t.Context())
		if err != nil {
			h.t.Fatal(err)
		}
		if report == "nothing to delete" {
			return
		}
	}
}

// rows counts the rows of a table.
func rows[R any](h *harness, table *store.Table[R]) int {
	h.t.Helper()
	n := 0
	err := h.Store.View(h.t.Context(), func(tx *store.Tx) error {
		for _, err := range table.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return n
}

func numbered(format string, n int) []string {
	var out []string
	for i := range n {
		out = append(out, fmt.Sprintf(format, i))
	}
	return out
}
