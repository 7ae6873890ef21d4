package wire

import (
	"errors"
	"net/http"
	"reflect"

	"skerry/internal/base/awserr"
)

const eventStreamType = "application/vnd.amazon.eventstream"

// sendEvents answers with an event stream. Protocols without headers for the
// output's other members send those in an initial-response first, which their
// clients wait for.
func (c *Call) sendEvents(p *plan, out reflect.Value, w http.ResponseWriter) error {
	stream := out.Field(p.stream.index).Addr().Interface().(eventSource)
	w.Header()["Content-Type"] = []string{eventStreamType}
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	var b []byte
	put := func(f Frame) error {
		b = AppendFrame(b[:0], f)
		if _, err := w.Write(b); err != nil {
			return started(err)
		}
		if err := flush.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return started(err)
		}
		return nil
	}
	if c.Protocol != RESTJSON1 && c.Protocol != RESTXML {
		kind, payload := c.eventBody(&field{plan: p, member: &Member{}}, out)
		if err := put(eventFrame("initial-response", kind, payload)); err != nil {
			return err
		}
	} else if err := flush.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return started(err)
	}
	for event, err := range stream.events() {
		if err != nil {
			return put(c.exceptionFrame(p.stream.elem.plan, err))
		}
		f, err := c.frame(p.stream.elem.plan, reflect.ValueOf(event).Elem())
		if err == nil {
			err = put(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func eventFrame(name, contentType string, payload []byte) Frame {
	f := Frame{Headers: []Header{{":message-type", "event"}, {":event-type", name}}, Payload: payload}
	if contentType != "" {
		f.Headers = append(f.Headers, Header{":content-type", contentType})
	}
	return f
}

// frame makes the frame of an event, a union with one member set.
func (c *Call) frame(union *plan, v reflect.Value) (Frame, error) {
	for _, f := range union.body {
		event, ok := present(v.Field(f.index))
		if !ok {
			continue
		}
		if f.shape.Error != nil {
			m, _ := event.Addr().Interface().(ModelledError)
			return c.exceptionFrame(union, m), nil
		}
		return c.event(f, event), nil
	}
	return Frame{}, started(errors.New("wire: an event without a member"))
}

func (c *Call) event(f *field, event reflect.Value) Frame {
	var headers []Header
	for _, m := range f.fields {
		v, ok := present(event.Field(m.index))
		if ok && m.is(EventHeader) {
			headers = append(headers, Header{m.member.Name, eventHeaderValue(&m, v)})
		}
	}
	kind, payload := "", []byte(nil)
	if m := f.eventPayload(); m != nil {
		if v, ok := present(event.Field(m.index)); ok {
			kind, payload = c.eventBody(m, v)
		}
	} else if len(f.body) > len(headers) {
		kind, payload = c.eventBody(f, event)
	}
	out := eventFrame(f.wire, kind, payload)
	out.Headers = append(out.Headers, headers...)
	return out
}

// eventPayload returns the member of an event that is its whole payload.
func (f *field) eventPayload() *field {
	for i := range f.fields {
		if f.fields[i].is(EventPayload) {
			return &f.fields[i]
		}
	}
	return nil
}

func eventHeaderValue(f *field, v reflect.Value) any {
	switch f.kind {
	case Boolean:
		return v.Bool()
	case Integer:
		return int32(v.Int())
	case Long:
		return v.Int()
	case Timestamp:
		return timeOf(v)
	case Blob:
		return v.Bytes()
	}
	return f.text(v, DateTime)
}

// eventBody returns the content type and the bytes of a value in a frame.
func (c *Call) eventBody(f *field, v reflect.Value) (string, []byte) {
	switch f.kind {
	case Blob:
		return "application/octet-stream", v.Bytes()
	case String:
		return "text/plain", []byte(v.String())
	}
	switch c.Protocol {
	case RESTXML:
		x := xmlWriter{millis: c.Service.NoErrorWrapping}
		x.document(f.plan, v, f.shape.Name, c.Service.XMLNamespace)
		return "text/xml", x.b
	case RPCV2CBOR, KinesisCBOR:
		x := cborWriter{milliTimes: c.Protocol == KinesisCBOR}
		x.structure(f.plan, v)
		return cborCodec{kinesis: c.Protocol == KinesisCBOR}.contentType(), x.b
	case RESTJSON1:
		return "application/json", f.appendJSONValue(nil, v, f)
	}
	return c.jsonType(), f.plan.appendJSONStruct(nil, addr(v))
}

// exceptionFrame tells an error within a stream: as an exception if the stream
// models it.
func (c *Call) exceptionFrame(union *plan, err error) Frame {
	f := c.describe(err)
	if f.plan != nil {
		for _, m := range union.body {
			if m.shape == f.plan.shape {
				kind, payload := c.eventBody(&field{plan: f.plan, member: &Member{}}, f.value)
				return Frame{Headers: []Header{{":message-type", "exception"}, {":exception-type", m.wire}, {":content-type", kind}}, Payload: payload}
			}
		}
	}
	return Frame{Headers: []Header{{":message-type", "error"}, {":error-code", f.code}, {":error-message", f.message}}}
}

// readEvent fills event, a pointer to a union, with the next frame of a stream.
func (c *Call) readEvent(f Frame, union *plan, v reflect.Value) error {
	switch f.Text(":message-type") {
	case "exception":
		return c.readException(f, union)
	case "error":
		return awserr.New(500, f.Text(":error-code"), "%s", f.Text(":error-message"))
	}
	m := union.byWire[f.Text(":event-type")]
	if m == nil {
		return nil
	}
	event := target(v.Field(m.index))
	for _, h := range f.Headers {
		for i := range m.fields {
			if e := &m.fields[i]; e.is(EventHeader) && e.member.Name == h.Name {
				readEventHeader(event.Field(i), h.Value)
			}
		}
	}
	if e := m.eventPayload(); e != nil {
		return c.readEventBody(e, f.Payload, event.Field(e.index))
	}
	if len(f.Payload) == 0 {
		return nil
	}
	return c.readEventBody(m, f.Payload, event)
}

func readEventHeader(v reflect.Value, value any) {
	switch p := v.Addr().Interface().(type) {
	case **bool:
		if b, ok := value.(bool); ok {
			*p = &b
		}
	case **string:
		if s, ok := value.(string); ok {
			*p = &s
		}
	case **int32:
		if n, ok := value.(int32); ok {
			*p = &n
		}
	case **int64:
		if n, ok := value.(int64); ok {
			*p = &n
		}
	case *[]byte:
		*p, _ = value.([]byte)
	}
}

func (c *Call) readEventBody(f *field, b []byte, v reflect.Value) error {
	switch f.kind {
	case Blob:
		v.SetBytes(append([]byte{}, b...))
		return nil
	case String:
		setString(v, string(b))
		return nil
	}
	switch c.Protocol {
	case RESTXML:
		return f.decodeXMLBody(b, v)
	case RPCV2CBOR, KinesisCBOR:
		return f.decodeCBORBody(b, target(v), c.Protocol == KinesisCBOR)
	}
	return f.decodeJSONBody(b, v)
}

func (c *Call) readException(f Frame, union *plan) error {
	name := f.Text(":exception-type")
	if m := union.byWire[name]; m != nil && m.shape.Error != nil {
		e := reflect.New(m.typ)
		if err := c.readEventBody(&field{plan: m.plan, member: &Member{}}, f.Payload, e.Elem()); err == nil {
			if modelled, ok := e.Interface().(ModelledError); ok {
				return modelled
			}
		}
	}
	return awserr.New(400, name, "%s", string(f.Payload))
}
