package wire

import (
	"encoding/binary"
	"math"
	"net/http"
	"net/url"
	"reflect"
	"strings"

	"skerry/internal/base/awserr"
)

// cborCodec is rpcv2Cbor, and what the Java SDK speaks to Kinesis.
type cborCodec struct{ kinesis bool }

// rpcPath finds the operation by the path's end:
// /service/<name>/operation/<Operation>.
func (c *Call) rpcPath() error {
	unknown := awserr.New(404, "UnknownOperationException", "")
	if c.request.Header.Get("X-Amz-Target") != "" || c.request.Method != http.MethodPost {
		return unknown
	}
	parts := strings.Split(c.request.Path, "/")
	if len(parts) < 4 {
		return unknown
	}
	parts = parts[len(parts)-4:]
	name, err := url.PathUnescape(parts[3])
	if err != nil || parts[0] != "service" || parts[1] != c.Service.TargetPrefix || parts[2] != "operation" {
		return unknown
	}
	if c.Operation = c.Service.Operation(name); c.Operation == nil {
		return unknown
	}
	return nil
}

func (cc cborCodec) decodeRequest(c *Call, p *plan, in reflect.Value) error {
	b, err := c.readBody()
	if err != nil || len(b) == 0 {
		return err
	}
	return p.decodeCBORBody(b, in, cc.kinesis)
}

func (p *plan) decodeCBORBody(b []byte, v reflect.Value, milliTimes bool) error {
	r := cborReader{b: b, milliTimes: milliTimes, budget: newBudget(len(b))}
	if !r.null() {
		if err := p.decodeCBORStruct(&r, v); err != nil {
			return err
		}
	}
	if r.i != len(b) {
		return errCBOR()
	}
	return nil
}

func (cc cborCodec) contentType() string {
	if cc.kinesis {
		return "application/x-amz-cbor-1.1"
	}
	return "application/cbor"
}

func (cc cborCodec) encodeResponse(c *Call, p *plan, out reflect.Value, w http.ResponseWriter, requestID string) error {
	cc.head(w, requestID)
	if p.stream != nil {
		return c.sendEvents(p, out, w)
	}
	if len(p.fields) == 0 && c.Operation.Output == 0 && !cc.kinesis {
		return send(w, http.StatusOK, "", nil)
	}
	x := cborWriter{b: make([]byte, 0, 512), milliTimes: cc.kinesis}
	x.structure(p, out)
	return send(w, http.StatusOK, cc.contentType(), x.b)
}

func (cc cborCodec) head(w http.ResponseWriter, requestID string) {
	w.Header()["X-Amzn-Requestid"] = []string{requestID}
	if !cc.kinesis {
		w.Header()["Smithy-Protocol"] = []string{"rpc-v2-cbor"}
	}
}

func (cc cborCodec) encodeError(c *Call, f *failure, w http.ResponseWriter, requestID string) {
	cc.head(w, requestID)
	status := c.queryError(f, w)
	name := f.name
	if c.Service != nil && c.Service.ErrorNamespace != "" && f.plan != nil {
		name = c.Service.ErrorNamespace + "#" + name
	}
	x := cborWriter{b: make([]byte, 0, 256), milliTimes: cc.kinesis}
	x.b = append(x.b, 0xbf)
	x.text("__type")
	x.text(name)
	hasMessage := false
	if f.plan != nil {
		x.members(f.plan, f.value)
		for _, m := range f.plan.body {
			hasMessage = hasMessage || strings.EqualFold(m.member.Name, "message")
		}
	}
	if !hasMessage {
		x.text("message")
		x.text(f.message)
	}
	for _, d := range f.detail {
		x.text(d.Name)
		x.text(d.Value)
	}
	x.b = append(x.b, 0xff)
	_ = send(w, status, cc.contentType(), x.b) // the client is gone if this fails
}

// cborWriter writes CBOR into memory.
type cborWriter struct {
	b          []byte
	milliTimes bool
}

func (x *cborWriter) head(major byte, n uint64) {
	m := major << 5
	switch {
	case n < 24:
		x.b = append(x.b, m|byte(n))
	case n <= math.MaxUint8:
		x.b = append(x.b, m|24, byte(n))
	case n <= math.MaxUint16:
		x.b = binary.BigEndian.AppendUint16(append(x.b, m|25), uint16(n))
	case n <= math.MaxUint32:
		x.b = binary.BigEndian.AppendUint32(append(x.b, m|26), uint32(n))
	default:
		x.b = binary.BigEndian.AppendUint64(append(x.b, m|27), n)
	}
}

func (x *cborWriter) text(s string) {
	s = strings.ToValidUTF8(s, "\ufffd")
	x.head(cborText, uint64(len(s)))
	x.b = append(x.b, s...)
}

func (x *cborWriter) int(n int64) {
	if n < 0 {
		x.head(cborNegative, uint64(-1-n))
		return
	}
	x.head(cborUint, uint64(n))
}

// float writes the shortest form that loses nothing.
func (x *cborWriter) float(f float64) {
	if f32 := float32(f); float64(f32) == f || math.IsNaN(f) {
		x.b = binary.BigEndian.AppendUint32(append(x.b, cborSimple<<5|26), math.Float32bits(f32))
		return
	}
	x.double(f)
}

func (x *cborWriter) double(f float64) {
	x.b = binary.BigEndian.AppendUint64(append(x.b, cborSimple<<5|27), math.Float64bits(f))
}

func (x *cborWriter) structure(p *plan, v reflect.Value) {
	x.b = append(x.b, 0xbf)
	x.members(p, v)
	x.b = append(x.b, 0xff)
}

func (x *cborWriter) members(p *plan, v reflect.Value) {
	for _, f := range p.body {
		if value, ok := present(v.Field(f.index)); ok {
			x.text(f.member.Name)
			x.value(f.plan, value)
		}
	}
}

func (x *cborWriter) value(p *plan, v reflect.Value) {
	switch p.kind {
	case Structure, Union:
		x.structure(p, v)
	case List:
		x.head(cborArray, uint64(v.Len()))
		for i := range v.Len() {
			x.value(p.elem.plan, v.Index(i))
		}
	case Map:
		x.head(cborMap, uint64(v.Len()))
		for _, key := range sortedKeys(v) {
			x.text(key)
			x.value(p.elem.plan, mapValue(v, key))
		}
	case String:
		x.text(v.String())
	case Integer, Long:
		x.int(v.Int())
	case Float:
		x.float(v.Float())
	case Double:
		x.double(v.Float())
	case Boolean:
		x.b = append(x.b, 0xf4)
		if v.Bool() {
			x.b[len(x.b)-1] = 0xf5
		}
	case Timestamp:
		ms := timeOf(v).UnixMilli()
		if x.milliTimes {
			x.int(ms)
			return
		}
		x.head(cborTag, 1)
		x.double(float64(ms) / 1000)
	case Blob:
		x.head(cborBytes, uint64(v.Len()))
		x.b = append(x.b, v.Bytes()...)
	default:
		x.b = append(x.b, 0xf6)
	}
}
