package wire

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"reflect"
	"strings"

	"skerry/internal/base/awserr"
)

// Response reads the answer to an operation into out, a pointer to its output
// struct. An error answer is returned as the service's modelled error, or as an
// *awserr.Error. The body is closed, but for a stream's, which out then holds.
func (cl Client) Response(operation string, r *http.Response, out any) error {
	c, err := cl.call(operation)
	if err != nil {
		return err
	}
	v := reflect.ValueOf(out).Elem()
	p, err := cl.Service.planOf(c.Operation.Output, v.Type())
	if err != nil {
		return err
	}
	if r.StatusCode >= 300 {
		defer r.Body.Close()
		return c.readError(r)
	}
	if cl.Protocol == RESTJSON1 || cl.Protocol == RESTXML {
		if err := c.readHeaders(p, r, v); err != nil {
			return err
		}
	}
	if p.stream != nil {
		return c.readStream(p, r, v)
	}
	if p.payload != nil && p.payload.streaming() {
		v.Field(p.payload.index).Set(reflect.ValueOf(r.Body))
		return nil
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	return c.readOutput(p, b, v)
}

func (c *Call) readOutput(p *plan, b []byte, v reflect.Value) error {
	switch c.Protocol {
	case RESTXML:
		if c.Operation.Unwrapped {
			return c.readUnwrapped(p, b, v)
		}
		fallthrough
	case RESTJSON1:
		rc := rest{json: c.Protocol == RESTJSON1}
		if p.payload == nil {
			return rc.decodeBody(p, b, v)
		}
		c.request = &Request{Body: bytes.NewReader(b), Header: http.Header{}, Length: int64(len(b))}
		return rc.decodePayload(c, p.payload, v.Field(p.payload.index))
	case AWSQuery:
		return c.readQuery(p, b, v)
	case EC2Query:
		return p.decodeXMLBody(b, v)
	case RPCV2CBOR, KinesisCBOR:
		if len(b) == 0 {
			return nil
		}
		return p.decodeCBORBody(b, v, c.Protocol == KinesisCBOR)
	}
	return p.decodeJSONBody(b, v)
}

// readHeaders fills the members of an output that are not in the body.
func (c *Call) readHeaders(p *plan, r *http.Response, v reflect.Value) error {
	c.request = &Request{Header: lowerCased(r.Header), Length: r.ContentLength}
	for _, f := range p.bound {
		switch f.member.In {
		case InStatus:
			setInt(v.Field(f.index), int64(r.StatusCode))
		case InHeader, InPrefixHeaders:
			if err := c.bind(f, v.Field(f.index)); err != nil {
				return err
			}
		}
	}
	return nil
}

// lowerCased returns headers under their canonical names.
func lowerCased(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for name, values := range h {
		k := http.CanonicalHeaderKey(name)
		out[k] = append(out[k], values...)
	}
	return out
}

func (c *Call) readUnwrapped(p *plan, b []byte, v reflect.Value) error {
	if len(b) == 0 {
		return nil
	}
	x := &xmlReader{d: xml.NewDecoder(bytes.NewReader(b))}
	start, err := x.root()
	if err != nil {
		return err
	}
	return x.value(p.body[0], start, v.Field(p.body[0].index))
}

// readQuery reads <XResponse><XResult>members.
func (c *Call) readQuery(p *plan, b []byte, v reflect.Value) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	x := &xmlReader{d: xml.NewDecoder(bytes.NewReader(b)), query: true, budget: newBudget(len(b))}
	if _, err := x.root(); err != nil {
		return err
	}
	return x.children(func(s xml.StartElement) error {
		if s.Name.Local == c.resultName() {
			return x.structure(p, s, v)
		}
		return x.skip(s)
	})
}

// readStream makes the event stream of an output, after the initial response.
func (c *Call) readStream(p *plan, r *http.Response, v reflect.Value) error {
	if c.Protocol != RESTJSON1 && c.Protocol != RESTXML {
		f, err := ReadFrame(r.Body)
		if err != nil {
			return err
		}
		if f.Text(":event-type") == "initial-response" {
			if err := c.readEventBody(&field{plan: p, member: &Member{}}, f.Payload, v); err != nil {
				return err
			}
		}
	}
	union := p.stream.elem.plan
	v.Field(p.stream.index).Addr().Interface().(eventSource).set(func(event any) error {
		f, err := ReadFrame(r.Body)
		if err != nil {
			return err
		}
		return c.readEvent(f, union, reflect.ValueOf(event).Elem())
	}, func() { r.Body.Close() })
	return nil
}

// readError reads an error answer.
func (c *Call) readError(r *http.Response) error {
	b, err := io.ReadAll(io.LimitReader(r.Body, DefaultMaxRequest))
	if err != nil {
		return err
	}
	switch c.Protocol {
	case RESTXML, AWSQuery, EC2Query:
		return c.readXMLError(b, r)
	case RPCV2CBOR, KinesisCBOR:
		return c.readCBORError(b, r)
	}
	var fields struct{ typ, message string }
	if typ := r.Header.Get("X-Amzn-Errortype"); typ != "" {
		fields.typ = typ
	}
	jr := newJSONReader(b)
	defer jr.free()
	if len(b) > 0 {
		err := jr.Object(func(name []byte) error {
			var to *string
			switch n := strings.ToLower(string(name)); {
			case (n == "__type" || n == "code") && fields.typ == "":
				to = &fields.typ
			case n == "message":
				to = &fields.message
			}
			if to == nil || jr.Peek() != '"' {
				_, err := jr.Skip()
				return err
			}
			var err error
			*to, err = jr.String()
			return err
		})
		if err != nil {
			return awserr.New(r.StatusCode, "UnknownError", "%s", string(b))
		}
	}
	return c.modelled(r, shortName(fields.typ), "", fields.message, func(p *plan, v reflect.Value) error {
		if len(b) == 0 {
			return nil
		}
		return p.decodeJSONBody(b, v)
	})
}

// shortName takes the name out of namespace#Name:http://....
func shortName(s string) string {
	if i := strings.IndexByte(s, ':'); i >= 0 {
		s = s[:i]
	}
	_, name, ok := cutLast(s, '#')
	if !ok {
		return s
	}
	return name
}

func (c *Call) readCBORError(b []byte, r *http.Response) error {
	name, message := "", ""
	cr := cborReader{b: b}
	err := cr.items(cborMap, func() error {
		key, err := cr.text()
		if err != nil {
			return err
		}
		switch strings.ToLower(key) {
		case "__type":
			name, err = cr.text()
		case "message":
			if cr.null() {
				return nil
			}
			message, err = cr.text()
		default:
			err = cr.skip()
		}
		return err
	})
	if err != nil {
		return awserr.New(r.StatusCode, "UnknownError", "%s", r.Status)
	}
	return c.modelled(r, shortName(name), "", message, func(p *plan, v reflect.Value) error {
		return p.decodeCBORBody(b, v, c.Protocol == KinesisCBOR)
	})
}

// modelled makes the service's own error of a name or a code, filled by fill, or
// an *awserr.Error.
func (c *Call) modelled(r *http.Response, name, code, message string, fill func(*plan, reflect.Value) error) error {
	if code == "" {
		code, _, _ = strings.Cut(r.Header.Get("X-Amzn-Query-Error"), ";")
	}
	for i := range c.Service.Shapes {
		s := &c.Service.Shapes[i]
		if s.Error == nil || s.Type == nil || !(s.Name == name || code != "" && (s.Error.Code == code || s.Error.Code == "" && s.Name == code)) {
			continue
		}
		typ := reflect.TypeOf(s.Type).Elem()
		e := reflect.New(typ)
		m, ok := e.Interface().(ModelledError)
		p, err := c.Service.planOf(uint16(i), typ)
		if !ok || err != nil || fill(p, e.Elem()) != nil {
			break
		}
		_ = c.readHeaders(p, r, e.Elem()) // what can't be read is left out
		if f := e.Elem().FieldByName("Message"); f.IsValid() && f.Kind() == reflect.Pointer && f.IsNil() && message != "" {
			setString(f, message)
		}
		return m
	}
	if code == "" {
		code = name
	}
	return awserr.New(r.StatusCode, code, "%s", message)
}

// readXMLError reads the error document of restXml, awsQuery and ec2Query.
func (c *Call) readXMLError(b []byte, r *http.Response) error {
	if len(bytes.TrimSpace(b)) == 0 {
		return awserr.New(r.StatusCode, strings.ReplaceAll(http.StatusText(r.StatusCode), " ", ""), "")
	}
	code, message := "", ""
	var at int64
	x := &xmlReader{d: xml.NewDecoder(bytes.NewReader(b)), query: c.Protocol == AWSQuery}
	var visit func(s xml.StartElement) error
	visit = func(s xml.StartElement) error {
		var err error
		switch s.Name.Local {
		case "Error", "Errors":
			if at == 0 && s.Name.Local == "Error" {
				at = x.d.InputOffset()
			}
			return x.children(visit)
		case "Code":
			code, err = x.text()
		case "Message", "message":
			message, err = x.text()
		default:
			err = x.skip(s)
		}
		return err
	}
	start, err := x.root()
	if err == nil {
		if start.Name.Local == "Error" {
			at = x.d.InputOffset()
		}
		err = x.children(visit)
	}
	if err != nil {
		return awserr.New(r.StatusCode, "UnknownError", "%s", string(b))
	}
	return c.modelled(r, "", code, message, func(p *plan, v reflect.Value) error {
		inner := &xmlReader{d: xml.NewDecoder(bytes.NewReader(append([]byte("<Error>"), b[at:]...))), query: x.query, budget: newBudget(len(b))}
		s, err := inner.root()
		if err != nil {
			return err
		}
		return inner.structure(p, s, v)
	})
}
