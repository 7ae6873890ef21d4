package lambda

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"time"

	api "skerry/internal/api/lambda"
	"skerry/internal/base/arn"
	"skerry/internal/base/awserr"
	"skerry/internal/events"
	"skerry/internal/store"
)

// asyncKind is the kind of the deliveries that are asynchronous invocations.
const asyncKind = "lambda/async"

// The defaults of "How Lambda handles errors and retries with asynchronous
// invocation".
const (
	defaultRetries = 2
	defaultMaxAge  = 6 * time.Hour
	firstRetry     = time.Minute
	secondRetry    = 2 * time.Minute
	throttledRetry = time.Second // doubles, up to
	throttledMax   = 5 * time.Minute
	asyncWidth     = 8 // invocations of one function's queue at once, for each processor
)

// queue keeps an event until the function has handled it.
func (s *Service) queue(ctx context.Context, t *target, e *event) error {
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		a, err := asyncOf(tx, t.ref)
		if err != nil {
			return err
		}
		retries, age := int32(defaultRetries), defaultMaxAge
		if a != nil {
			set(&retries, a.Retries)
			if a.MaxAge != nil {
				age = time.Duration(*a.MaxAge) * time.Second
			}
		}
		return s.Outbox.Emit(tx, events.Delivery{
			Kind: asyncKind, Target: t.ref.ARN(), Source: t.ref.ARN(), Service: principal, Account: t.ref.Account, Region: t.ref.Region,
			Payload:    e.payload,
			Attributes: map[string]string{"request": e.requestID, "trace": e.trace, "context": e.clientContext},
			Retry:      events.Retry{MaxAttempts: int(retries) + 1, MaxAge: age, First: firstRetry, Max: secondRetry, Exact: true},
		})
	})
	if err != nil {
		return fmt.Errorf("lambda: queue an event: %w", err)
	}
	return nil
}

// asyncOf reads how a function's asynchronous invocations are handled; nil: as
// usual.
func asyncOf(tx *store.Tx, r ref) (*asyncRow, error) {
	q := r.Qualifier
	if q == "" {
		q = latest
	}
	a, err := asyncs.Get(tx, r.key()+store.K(q))
	if err == store.ErrNotFound {
		return nil, nil
	}
	return a, err
}

// asyncTarget runs queued events. It implements events.Target, events.Wide and
// events.Mourner.
type asyncTarget struct{ s *Service }

// Width is how many events of one function run at once.
func (asyncTarget) Width() int { return asyncWidth * runtime.NumCPU() }

// functionError is a failure of the function's own.
type functionError struct {
	res     *result
	version string
}

func (e *functionError) Error() string {
	return "the function failed: " + string(e.res.payload[:min(len(e.res.payload), 1024)])
}

// Deliver runs one event.
func (a asyncTarget) Deliver(ctx context.Context, d events.Delivery) error {
	s := a.s
	r, err := parseARN(d.Target)
	if err != nil {
		return events.Permanent(err)
	}
	t, err := s.resolve(ctx, r)
	switch awserr.Code(err) {
	case "ResourceNotFoundException":
		return events.Permanent(err)
	case "ResourceConflictException": // its version is not active
		return s.soon(err, d)
	}
	if err != nil {
		return err
	}
	e := &event{requestID: d.Attributes["request"], payload: d.Payload, trace: d.Attributes["trace"], clientContext: d.Attributes["context"]}
	res, err := s.run(context.WithoutCancel(ctx), t, e)
	switch {
	case err != nil && throttles(err):
		return s.soon(err, d)
	case err != nil:
		return err
	case res.failed:
		return &functionError{res, versionName(t.version.Number)}
	}
	return events.Done(func(tx *store.Tx) error {
		return s.tell(tx, r, d, "Success", res, versionName(t.version.Number))
	})
}

// soon has an event tried again without using up its retries: throttling and
// faults of Lambda's own do not.
func (s *Service) soon(err error, d events.Delivery) error {
	return events.RetryAt(err, s.Clock.Now().Add(min(throttledRetry<<min(d.Attempt-1, 16), throttledMax)))
}

func throttles(err error) bool {
	_, throttled := errors.AsType[*api.TooManyRequestsException](err)
	return throttled || awserr.Code(err) == ""
}

// parseARN reads the ARN of a delivery.
func parseARN(text string) (ref, error) {
	a, err := arn.Parse(text)
	if err != nil {
		return ref{}, fmt.Errorf("lambda: %s: %w", text, err)
	}
	m := nameForm.FindStringSubmatch(text)
	if m == nil {
		return ref{}, fmt.Errorf("lambda: %s is not a function", text)
	}
	return ref{Account: a.Account, Region: a.Region, Name: m[3], Qualifier: m[4]}, nil
}

// GiveUp is the end of an event that could not be handled: it goes to the failure
// destination and to the dead-letter queue.
func (a asyncTarget) GiveUp(tx *store.Tx, d events.Delivery, cause error) error {
	r, err := parseARN(d.Target)
	if err != nil {
		return nil
	}
	condition := "RetriesExhausted"
	if errors.Is(cause, events.ErrExpired) {
		condition = "EventAgeExceeded"
	}
	var res *result
	version := latest
	if f, ok := errors.AsType[*functionError](cause); ok {
		res, version = f.res, f.version
	}
	if err := a.s.tell(tx, r, d, condition, res, version); err != nil {
		return err
	}
	return a.s.bury(tx, r, d, res, cause)
}

// destinationRecord is what a destination gets: "Capturing records of Lambda
// asynchronous invocations".
type destinationRecord struct {
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	RequestContext  requestContext   `json:"requestContext"`
	RequestPayload  json.RawMessage  `json:"requestPayload"`
	ResponseContext *responseContext `json:"responseContext,omitempty"`
	ResponsePayload json.RawMessage  `json:"responsePayload,omitempty"`
}

type requestContext struct {
	RequestID   string `json:"requestId"`
	FunctionARN string `json:"functionArn"`
	Condition   string `json:"condition"`
	Invokes     int    `json:"approximateInvokeCount"`
}

type responseContext struct {
	StatusCode      int    `json:"statusCode"`
	ExecutedVersion string `json:"executedVersion"`
	FunctionError   string `json:"functionError,omitempty"`
}

// tell sends the record of an invocation to its destination, if there is one.
func (s *Service) tell(tx *store.Tx, r ref, d events.Delivery, condition string, res *result, version string) error {
	cfg, err := asyncOf(tx, r)
	if err != nil || cfg == nil {
		return err
	}
	to := cfg.OnFailure
	if condition == "Success" {
		to = cfg.OnSuccess
	}
	if to == nil {
		return nil
	}
	rec := destinationRecord{
		Version: "1.0", Timestamp: s.Clock.Now().UTC().Format("2006-01-02T15:04:05.000Z"), RequestPayload: d.Payload,
		RequestContext: requestContext{d.Attributes["request"], qualified(r), condition, d.Attempt},
	}
	if res != nil {
		rec.ResponseContext = &responseContext{StatusCode: 200, ExecutedVersion: version}
		if res.failed {
			rec.ResponseContext.FunctionError = "Unhandled"
		}
		if json.Valid(res.payload) {
			rec.ResponsePayload = res.payload
		}
	}
	b, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("lambda: destination: %w", err)
	}
	return s.deliver(tx, r, *to, b, nil)
}

func qualified(r ref) string {
	if r.Qualifier == "" {
		r.Qualifier = latest
	}
	return r.ARN()
}

// bury sends the event itself to the function's dead-letter queue.
func (s *Service) bury(tx *store.Tx, r ref, d events.Delivery, res *result, cause error) error {
	number, err := r.number(tx)
	if err != nil {
		return nil // the function is gone
	}
	v, err := getVersion(tx, r, number)
	if err != nil || v.Config.DeadLetter == "" {
		return nil
	}
	code, text := 500, cause.Error()
	if res != nil {
		var e struct {
			Message string `json:"errorMessage"`
		}
		if json.Unmarshal(res.payload, &e) == nil {
			code, text = 200, e.Message
		}
	}
	return s.deliver(tx, r, v.Config.DeadLetter, d.Payload, map[string]string{
		"RequestID": d.Attributes["request"], "ErrorCode": strconv.Itoa(code), "ErrorMessage": text[:min(len(text), 1024)]})
}

// deliver hands something to another service, as the function's role.
func (s *Service) deliver(tx *store.Tx, r ref, to string, payload []byte, attributes map[string]string) error {
	role := ""
	if v, err := getVersion(tx, r, 0); err == nil {
		role = v.Config.Role
	}
	return s.Outbox.Emit(tx, events.Delivery{Target: to, Source: r.functionARN(), Service: principal, Account: r.Account, Region: r.Region,
		Role: role, Payload: payload, Attributes: attributes})
}
