package wire

import (
	"errors"
	"net/http"
	"reflect"

	"skerry/internal/base/awserr"
)

// ErrStarted is wrapped by errors of Encode that come after the answer's first
// byte: nothing but breaking the connection can tell the client.
var ErrStarted = errors.New("wire: the answer has begun")

// describe makes an error ready for the wire.
func (c *Call) describe(err error) *failure {
	if m, ok := errors.AsType[ModelledError](err); ok {
		if f := describeModelled(m); f != nil {
			return f
		}
	}
	if e, ok := errors.AsType[*awserr.Error](err); ok {
		f := &failure{name: e.Code, code: e.Code, message: e.Message, status: e.Status, server: e.Fault == awserr.Server, detail: e.Detail, header: e.Header}
		if f.status < 300 {
			f.status = http.StatusBadRequest
			if f.server {
				f.status = http.StatusInternalServerError
			}
		}
		c.name(f)
		return f
	}
	if a, ok := errors.AsType[awserr.API](err); ok {
		f := &failure{name: a.ErrorCode(), code: a.ErrorCode(), message: a.ErrorMessage(), status: http.StatusBadRequest}
		c.name(f)
		return f
	}
	return c.internal()
}

// internal is the failure that hides a fault of ours, in the service's words.
func (c *Call) internal() *failure {
	f := &failure{name: "InternalFailure", message: "We encountered an internal error. Please try again.", status: http.StatusInternalServerError, server: true}
	if c.Service != nil && c.Service.NoErrorWrapping {
		f.name = "InternalError"
	}
	f.code = f.name
	return f
}

// name finds the shape's name of an error that carries only a code, for the
// protocols that write the name.
func (c *Call) name(f *failure) {
	if c.Service == nil || !c.Service.QueryCompatible {
		return
	}
	for i := range c.Service.Shapes {
		if e := c.Service.Shapes[i].Error; e != nil && e.Code == f.code {
			f.name = c.Service.Shapes[i].Name
			return
		}
	}
}

func describeModelled(m ModelledError) *failure {
	v := reflect.ValueOf(m)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return nil
	}
	svc, index := m.ErrorShape()
	p, err := svc.planOf(index, v.Elem().Type())
	if err != nil || p.shape.Error == nil {
		return nil
	}
	return &failure{
		name: p.shape.Name, code: m.ErrorCode(), message: m.ErrorMessage(), status: p.shape.Error.Status,
		server: p.shape.Error.Server, plan: p, value: v.Elem(),
	}
}
