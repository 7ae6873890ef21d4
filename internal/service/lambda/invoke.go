package lambda

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/engine"
	"skerry/internal/service/lambda/runtime"
	"skerry/internal/store"
)

// The limits of "Lambda quotas: Function configuration, deployment, and
// execution", in bytes.
const (
	maxSyncPayload   = 6 << 20
	maxAsyncPayload  = 1 << 20
	maxClientContext = 3583
)

// target is a version that is about to be invoked, and the name it was called by.
type target struct {
	ref      ref
	function *functionRow
	version  *versionRow
}

func (t *target) fleetKey() fleetKey {
	return fleetKey{t.ref.Account, t.ref.Region, t.ref.Name, t.version.Number, t.version.Revision}
}

// resolve reads what a name stands for. An alias with weights draws.
func (s *Service) resolve(ctx context.Context, r ref) (*target, error) {
	t := &target{ref: r}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		f, err := getFunction(tx, r)
		if err != nil {
			return r.missing()
		}
		var number int64
		if r.kind() == kindAlias {
			a, err := aliases.Get(tx, r.key()+store.K(r.Qualifier))
			if err == store.ErrNotFound {
				return r.missing()
			}
			if err != nil {
				return err
			}
			number = parseVersion(a.draw(rand.Float64()))
		} else if number, err = r.number(tx); err != nil {
			return err
		}
		t.function = f
		t.version, err = getVersion(tx, r, number)
		return err
	})
	if err != nil {
		return nil, err
	}
	if state := t.version.State; state == stateFailed || state == statePending {
		return nil, conflict("The operation cannot be performed at this time. The function is currently in the following state: %s", state)
	}
	return t, nil
}

// draw picks a version by the weights; chance is in [0, 1).
func (a *aliasRow) draw(chance float64) string {
	for version, weight := range a.Weights {
		if chance < weight {
			return version
		}
		chance -= weight
	}
	return a.Version
}

// Invoke runs a function now (RequestResponse), later (Event), or not at all
// (DryRun). Page: "Invoke".
func (s *Service) Invoke(ctx context.Context, sc auth.Scope, in *api.InvokeInput) (*api.InvokeOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	e, err := newEvent(sc, in)
	if err != nil {
		return nil, err
	}
	if in.DurableExecutionName != nil || in.TenantId != nil {
		return nil, awserr.New(501, "NotImplementedException", "Skerry's Lambda does not have durable functions and tenants yet.")
	}
	t, err := s.resolve(ctx, r)
	if err != nil {
		return nil, err
	}
	switch deref(in.InvocationType) {
	case "DryRun":
		return &api.InvokeOutput{StatusCode: new(int32(204)), ExecutedVersion: new(versionName(t.version.Number))}, nil
	case "Event":
		if err := s.queue(ctx, t, e); err != nil {
			return nil, err
		}
		return &api.InvokeOutput{StatusCode: new(int32(202))}, nil
	}
	// An invocation runs to its end even if nobody waits for it any more.
	res, err := s.run(context.WithoutCancel(ctx), t, e)
	if err != nil {
		return nil, err
	}
	out := &api.InvokeOutput{StatusCode: new(int32(200)), Payload: res.payload, ExecutedVersion: new(versionName(t.version.Number))}
	if res.failed {
		out.FunctionError = new("Unhandled")
	}
	if e.tail {
		out.LogResult = new(base64.StdEncoding.EncodeToString(res.log))
	}
	return out, nil
}

// event is an invocation as it was asked for.
type event struct {
	requestID     string
	payload       []byte
	clientContext string // JSON
	trace         string
	tail          bool
	sink          runtime.Sink // of InvokeWithResponseStream; nil: the answer is kept
}

func newEvent(sc auth.Scope, in *api.InvokeInput) (*event, error) {
	e := &event{requestID: sc.Request.ID, payload: in.Payload, tail: deref(in.LogType) == "Tail", trace: newTrace(sc)}
	if e.requestID == "" {
		e.requestID = ids.UUID()
	}
	kind := deref(in.InvocationType)
	switch {
	case kind == "Event" && len(e.payload) > maxAsyncPayload:
		return nil, tooLarge(maxAsyncPayload, "InvokeFunction")
	case len(e.payload) > maxSyncPayload:
		return nil, tooLarge(maxSyncPayload, "InvokeFunction")
	case len(e.payload) == 0:
		e.payload = []byte("{}")
	case !json.Valid(e.payload):
		var why error
		var any json.RawMessage
		why = json.Unmarshal(e.payload, &any)
		return nil, &api.InvalidRequestContentException{Type: new(faultUser),
			Message: new("Could not parse request body into json: Could not parse payload into json: " + why.Error())}
	}
	if c := deref(in.ClientContext); c != "" {
		if len(c) > maxClientContext {
			return nil, invalid("Client context must be smaller than %d bytes", maxClientContext)
		}
		b, err := base64.StdEncoding.DecodeString(c)
		if err != nil || !json.Valid(b) {
			return nil, &api.InvalidRequestContentException{Type: new(faultUser), Message: new("Client context must be a valid Base64-encoded JSON object.")}
		}
		e.clientContext = string(b)
	}
	return e, nil
}

// newTrace makes the X-Amzn-Trace-Id of an invocation.
func newTrace(sc auth.Scope) string {
	return "Root=1-" + hexTime(sc) + "-" + ids.Hex(24) + ";Parent=" + ids.Hex(16) + ";Sampled=0;Lineage=1:" + ids.Hex(8) + ":0"
}

func hexTime(sc auth.Scope) string {
	const digits = "0123456789abcdef"
	n := uint32(sc.Request.Time.Unix())
	var b [8]byte
	for i := range b {
		b[7-i] = digits[n&15]
		n >>= 4
	}
	return string(b[:])
}

// roleFault tells why a function's role cannot be assumed.
func (s *Service) roleFault(err error) error {
	if awserr.Code(err) == "" {
		return err
	}
	return awserr.New(403, "AccessDeniedException", "The role defined for the function cannot be assumed by Lambda.")
}

// runtimeFault is the answer to an invocation that cannot run here.
func runtimeFault(err error) error {
	if m, ok := errors.AsType[*missing](err); ok {
		return &api.InvalidRuntimeException{Type: new(faultUser), Message: &m.text}
	}
	if errors.Is(err, engine.ErrUnsupported) {
		text := fmt.Sprintf("Functions cannot run on this machine as it is (%v). Start Skerry as root on Linux; `skerry doctor` says what is missing.", err)
		return &api.InvalidRuntimeException{Type: new(faultService), Message: &text}
	}
	return err
}
