package wire

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"skerry/internal/base/awserr"
)

// codec returns the protocol's codec.
func (c *Call) codec() codec {
	switch c.Protocol {
	case RESTJSON1:
		return rest{json: true}
	case RESTXML:
		return rest{}
	case AWSQuery, EC2Query:
		return queryCodec{}
	case RPCV2CBOR:
		return cborCodec{}
	case KinesisCBOR:
		return cborCodec{kinesis: true}
	}
	return awsJSON{}
}

// awsJSON is awsJson1_0 and awsJson1_1: the operation in X-Amz-Target, all else
// in the body.
type awsJSON struct{}

// target finds the operation by X-Amz-Target, which is Prefix.Operation.
func (c *Call) target() error {
	name := c.request.header("X-Amz-Target")
	if name == "" {
		return awserr.New(404, "UnknownOperationException", "")
	}
	prefix, name, ok := cutLast(name, '.')
	if !ok || prefix != c.Service.TargetPrefix {
		return awserr.New(400, "UnknownOperationException", "")
	}
	if c.Operation = c.Service.Operation(name); c.Operation == nil {
		return awserr.New(400, "UnknownOperationException", "")
	}
	return nil
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func (awsJSON) decodeRequest(c *Call, p *plan, in reflect.Value) error {
	b, err := c.readBody()
	if err != nil {
		return err
	}
	return p.decodeJSONBody(b, in)
}

// decodeJSONBody reads a whole body. An empty one and null are an empty object.
func (p *plan) decodeJSONBody(b []byte, v reflect.Value) error {
	r := newJSONReader(b)
	defer r.free()
	switch r.Peek() {
	case 0:
		return r.End()
	case 'n':
		if err := r.word("null"); err != nil {
			return err
		}
	default:
		if err := p.decodeJSONValue(r, target(v)); err != nil {
			return err
		}
	}
	return r.End()
}

func (awsJSON) encodeResponse(c *Call, p *plan, out reflect.Value, w http.ResponseWriter, requestID string) error {
	w.Header()["X-Amzn-Requestid"] = []string{requestID}
	if p.stream != nil {
		return c.sendEvents(p, out, w)
	}
	return c.sendJSON(w, http.StatusOK, c.jsonType(), func(b []byte) []byte { return p.appendJSONStruct(b, addr(out)) })
}

// maxKept is the largest buffer that is kept for the next answer, in bytes.
const maxKept = 64 << 10

// sendJSON writes an answer from a buffer that is used again.
func (c *Call) sendJSON(w http.ResponseWriter, status int, contentType string, appendTo func([]byte) []byte) error {
	buf, ok := c.Service.buffers.Get().(*[]byte)
	if !ok {
		buf = new([]byte)
	}
	b := appendTo((*buf)[:0])
	err := send(w, status, contentType, b)
	if cap(b) <= maxKept {
		*buf = b
		c.Service.buffers.Put(buf)
	}
	return err
}

func (c *Call) jsonType() string {
	if c.Protocol == AWSJSON10 {
		return "application/x-amz-json-1.0"
	}
	return "application/x-amz-json-1.1"
}

func (awsJSON) encodeError(c *Call, f *failure, w http.ResponseWriter, requestID string) {
	w.Header()["X-Amzn-Requestid"] = []string{requestID}
	status := c.queryError(f, w)
	name := f.name
	if c.Protocol == AWSJSON10 && c.Service != nil {
		if f.plan != nil {
			name = c.Service.ErrorNamespace + "#" + name
		} else {
			name = "com.amazon.coral.service#" + name
		}
	}
	b := f.appendJSON([]byte(`{"__type":`), name)
	_ = send(w, status, c.jsonType(), b) // the client is gone if this fails
}

// queryError adds the header of awsQueryCompatible services, and returns the
// status: that of the query protocol to clients that ask for it.
func (c *Call) queryError(f *failure, w http.ResponseWriter) int {
	for name, value := range f.header {
		w.Header()[name] = []string{value}
	}
	if c.Service == nil || !c.Service.QueryCompatible {
		return f.status
	}
	w.Header()["X-Amzn-Query-Error"] = []string{f.code + ";" + senderOrReceiver(f)}
	if f.server || c.request != nil && c.request.Header.Get("X-Amzn-Query-Mode") == "true" {
		return f.status
	}
	return http.StatusBadRequest
}

func senderOrReceiver(f *failure) string {
	if f.server {
		return "Receiver"
	}
	return "Sender"
}

// appendJSON writes the members of an error after b, which ends where the name
// of the error goes.
func (f *failure) appendJSON(b []byte, name string) []byte {
	if name != "" {
		b = AppendJSONString(b, name)
	}
	first := b[len(b)-1] == '{'
	hasMessage := false
	if f.plan != nil {
		n := len(b)
		b = f.plan.appendJSONMembers(b, addr(f.value), first)
		first = first && len(b) == n
		for _, m := range f.plan.body {
			hasMessage = hasMessage || strings.EqualFold(m.wire, "message")
		}
	}
	add := func(name, value string) {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(AppendJSONString(b, name), ':')
		b = AppendJSONString(b, value)
	}
	if !hasMessage && (f.message != "" || f.plan == nil) {
		add("message", f.message)
	}
	for _, d := range f.detail {
		add(d.Name, d.Value)
	}
	return append(b, '}')
}

// send writes a whole answer.
func send(w http.ResponseWriter, status int, contentType string, body []byte) error {
	h := w.Header()
	if contentType != "" && len(h["Content-Type"]) == 0 {
		h["Content-Type"] = []string{contentType}
	}
	if status != http.StatusNoContent && status != http.StatusNotModified {
		h["Content-Length"] = []string{strconv.Itoa(len(body))}
	} else {
		body = nil
	}
	w.WriteHeader(status)
	if len(body) > 0 {
		if _, err := w.Write(body); err != nil {
			return started(err)
		}
	}
	return nil
}
