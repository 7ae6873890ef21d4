package lambda

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"sync"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
)

var errStopping = errors.New("lambda: the server stops")

// stream carries an answer from a function to its caller, piece by piece. It is a
// runtime.Sink.
type stream struct {
	once   sync.Once
	began  chan struct{} // closed once the content type is known
	kind   string
	pieces chan []byte
	gone   <-chan struct{} // closed when nobody reads any more
	done   chan struct{}   // closed after the invocation has ended
	res    *result
	err    error
}

// Begin implements runtime.Sink.
func (s *stream) Begin(contentType string) {
	s.once.Do(func() { s.kind = contentType; close(s.began) })
}

// Write implements io.Writer. A function whose caller has gone writes to nobody.
func (s *stream) Write(b []byte) (int, error) {
	select {
	case s.pieces <- bytes.Clone(b):
	case <-s.gone:
	}
	return len(b), nil
}

// InvokeWithResponseStream runs a function and answers with what it sends as it
// sends it. Page: "InvokeWithResponseStream".
func (s *Service) InvokeWithResponseStream(ctx context.Context, sc auth.Scope, in *api.InvokeWithResponseStreamInput) (*api.InvokeWithResponseStreamOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	e, err := newEvent(sc, &api.InvokeInput{Payload: in.Payload, LogType: in.LogType, ClientContext: in.ClientContext})
	if err != nil {
		return nil, err
	}
	if in.TenantId != nil {
		return nil, awserr.New(501, "NotImplementedException", "Skerry's Lambda does not have tenants yet.")
	}
	t, err := s.resolve(ctx, r)
	if err != nil {
		return nil, err
	}
	version := new(versionName(t.version.Number))
	if deref(in.InvocationType) == "DryRun" {
		return &api.InvokeWithResponseStreamOutput{StatusCode: new(int32(204)), ExecutedVersion: version}, nil
	}
	st := &stream{began: make(chan struct{}), pieces: make(chan []byte), gone: ctx.Done(), done: make(chan struct{})}
	e.sink = st
	if !s.children.Start("stream/"+e.requestID, func(own context.Context) error {
		defer close(st.done)
		st.res, st.err = s.run(context.WithoutCancel(own), t, e)
		return nil
	}) {
		return nil, errStopping
	}
	select {
	case <-st.began:
	case <-st.done: // it has failed before it answered
		if st.err != nil {
			return nil, st.err
		}
	}
	out := &api.InvokeWithResponseStreamOutput{StatusCode: new(int32(200)), ExecutedVersion: version, EventStream: st.events(e.tail)}
	if isClosed(st.began) {
		out.ResponseStreamContentType = orNil(st.kind)
	}
	return out, nil
}

// events are the pieces, and at the end what has become of the invocation.
func (s *stream) events(tail bool) func(yield func(*api.InvokeWithResponseStreamResponseEvent, error) bool) {
	return func(yield func(*api.InvokeWithResponseStreamResponseEvent, error) bool) {
		for {
			select {
			case b := <-s.pieces:
				if !yield(&api.InvokeWithResponseStreamResponseEvent{PayloadChunk: &api.InvokeResponseStreamUpdate{Payload: b}}, nil) {
					return
				}
				continue
			case <-s.done:
			}
			break
		}
		if s.err != nil {
			yield(nil, s.err)
			return
		}
		end := &api.InvokeWithResponseStreamCompleteEvent{}
		if s.res.failed {
			end.ErrorCode, end.ErrorDetails = new("Unhandled"), new(string(s.res.payload))
		}
		if tail {
			end.LogResult = new(base64.StdEncoding.EncodeToString(s.res.log))
		}
		yield(&api.InvokeWithResponseStreamResponseEvent{InvokeComplete: end}, nil)
	}
}
