package wire

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Client speaks to a service as an SDK does, for tests and for tools in
// process. It signs nothing and adds no defaults.
type Client struct {
	Service  *Service
	Protocol Protocol
	Endpoint string // scheme, host and port
}

// outgoing is a request being made.
type outgoing struct {
	method string
	path   string // escaped
	query  []pair
	header http.Header
	body   []byte
	stream io.Reader
}

// Request makes the HTTP request of an operation. in is a pointer to its input
// struct.
func (cl Client) Request(ctx context.Context, operation string, in any) (*http.Request, error) {
	c, err := cl.call(operation)
	if err != nil {
		return nil, err
	}
	v := reflect.ValueOf(in).Elem()
	p, err := cl.Service.planOf(c.Operation.Input, v.Type())
	if err != nil {
		return nil, err
	}
	out := &outgoing{method: http.MethodPost, path: "/", header: http.Header{}}
	switch cl.Protocol {
	case RESTJSON1, RESTXML:
		err = out.rest(c, p, v)
	case AWSQuery, EC2Query:
		out.queryForm(c, p, v)
	case RPCV2CBOR, KinesisCBOR:
		out.cbor(c, p, v)
	default:
		out.header.Set("X-Amz-Target", cl.Service.TargetPrefix+"."+operation)
		out.header.Set("Content-Type", c.jsonType())
		out.body = p.appendJSONStruct(nil, addr(v))
	}
	if err != nil {
		return nil, err
	}
	return out.request(ctx, cl.Endpoint)
}

func (cl Client) call(operation string) (*Call, error) {
	op := cl.Service.Operation(operation)
	if op == nil || !op.Built() {
		return nil, fmt.Errorf("wire: %s has no operation %s", cl.Service.ID, operation)
	}
	return &Call{Service: cl.Service, Protocol: cl.Protocol, Operation: op}, nil
}

func (o *outgoing) request(ctx context.Context, endpoint string) (*http.Request, error) {
	target := strings.TrimSuffix(endpoint, "/") + o.path
	for i, q := range o.query {
		sep := "&"
		if i == 0 {
			sep = "?"
		}
		target += sep + escape(q.name, false) + "=" + escape(q.value, false)
	}
	body := o.stream
	if body == nil {
		body = bytes.NewReader(o.body)
	}
	r, err := http.NewRequestWithContext(ctx, o.method, target, body)
	if err != nil {
		return nil, err
	}
	r.Header = o.header
	if text := o.header.Get("Content-Length"); text != "" {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && o.stream != nil {
			r.ContentLength = n
		}
		delete(o.header, "Content-Length")
	}
	return r, nil
}

// escape escapes all but the unreserved characters, and of a path not the
// slashes.
func escape(s string, path bool) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == '~', path && c == '/':
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

func (o *outgoing) rest(c *Call, p *plan, v reflect.Value) error {
	op := c.Operation
	if op.Method != "" {
		o.method = op.Method
	}
	path, query, _ := strings.Cut(op.URI, "?")
	o.path = path
	if path == "" {
		o.path = "/"
	}
	for part := range strings.SplitSeq(query, "&") {
		if name, value, _ := strings.Cut(part, "="); name != "" {
			o.query = append(o.query, pair{name, value})
		}
	}
	for _, f := range p.bound {
		value, ok := present(v.Field(f.index))
		if !ok {
			continue
		}
		if err := o.bind(f, p, value); err != nil {
			return err
		}
	}
	if i := strings.IndexByte(o.path, '{'); i >= 0 {
		return fmt.Errorf("wire: %s: no value for the label in %s", op.Name, o.path[i:])
	}
	return o.restBody(c, p, v)
}

func (o *outgoing) bind(f *field, p *plan, v reflect.Value) error {
	switch f.member.In {
	case InLabel:
		text := f.text(v, DateTime)
		if text == "" {
			return fmt.Errorf("wire: the label %s is empty", f.member.Name)
		}
		o.path = strings.Replace(o.path, "{"+f.member.Name+"}", escape(text, false), 1)
		o.path = strings.Replace(o.path, "{"+f.member.Name+"+}", escape(text, true), 1)
	case InHeader, InPrefixHeaders:
		f.writeHeader(o.header, v)
	case InQuery:
		if f.kind != List {
			o.query = append(o.query, pair{f.wire, f.text(v, DateTime)})
			break
		}
		for i := range v.Len() {
			o.query = append(o.query, pair{f.wire, f.elem.text(v.Index(i), DateTime)})
		}
	case InQueryParams:
		o.bindParams(p, v)
	}
	return nil
}

func (o *outgoing) bindParams(p *plan, v reflect.Value) {
	for _, key := range sortedKeys(v) {
		if slices.ContainsFunc(p.bound, func(f *field) bool { return f.member.In == InQuery && f.wire == key }) {
			continue
		}
		switch values := v.MapIndex(reflect.ValueOf(key)); values.Kind() {
		case reflect.String:
			o.query = append(o.query, pair{key, values.String()})
		case reflect.Slice:
			for i := range values.Len() {
				o.query = append(o.query, pair{key, values.Index(i).String()})
			}
		}
	}
}

func (o *outgoing) restBody(c *Call, p *plan, v reflect.Value) error {
	kind := ""
	switch f := p.payload; {
	case f == nil && len(p.body) == 0:
	case f == nil && c.Protocol == RESTJSON1:
		kind, o.body = "application/json", p.appendJSONStruct(nil, addr(v))
	case f == nil:
		kind, o.body = "application/xml", c.xmlRequest(p, v, c.Operation.InputRoot, c.Operation.InputXMLNS)
	default:
		value, ok := present(v.Field(f.index))
		switch {
		case !ok && f.kind == Structure && c.Protocol == RESTJSON1:
			kind, o.body = "application/json", []byte("{}")
		case !ok:
		case f.streaming():
			kind, o.stream = "application/octet-stream", value.Interface().(io.Reader)
		case f.kind == Blob:
			kind, o.body = "application/octet-stream", value.Bytes()
		case f.kind == String:
			kind, o.body = "text/plain", []byte(value.String())
		case c.Protocol == RESTJSON1:
			kind, o.body = "application/json", f.appendJSONValue(nil, value, f)
		default:
			namespace := ""
			if f.member.XMLNS != nil {
				namespace = f.member.XMLNS.URI
			}
			kind, o.body = "application/xml", c.xmlRequest(f.plan, value, f.wire, namespace)
		}
	}
	if kind != "" && o.header.Get("Content-Type") == "" {
		o.header.Set("Content-Type", kind)
	}
	return nil
}

func (c *Call) xmlRequest(p *plan, v reflect.Value, root, namespace string) []byte {
	if root == "" {
		root = p.shape.Name
	}
	x := xmlWriter{}
	x.document(p, v, root, namespace)
	return x.b
}

func (o *outgoing) cbor(c *Call, p *plan, v reflect.Value) {
	codec := cborCodec{kinesis: c.Protocol == KinesisCBOR}
	if codec.kinesis {
		o.header.Set("X-Amz-Target", c.Service.TargetPrefix+"."+c.Operation.Name)
	} else {
		o.path = "/service/" + c.Service.TargetPrefix + "/operation/" + c.Operation.Name
		o.header.Set("Smithy-Protocol", "rpc-v2-cbor")
		o.header.Set("Accept", "application/cbor")
	}
	if c.Operation.Input == 0 && !codec.kinesis {
		return
	}
	o.header.Set("Content-Type", codec.contentType())
	x := cborWriter{milliTimes: codec.kinesis}
	x.structure(p, v)
	o.body = x.b
}

func (o *outgoing) queryForm(c *Call, p *plan, v reflect.Value) {
	o.header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := formWriter{ec2: c.Protocol == EC2Query}
	w.add("Action", c.Operation.Name)
	w.add("Version", c.Service.Version)
	w.structure(p, "", v)
	o.body = w.b
}

// formWriter writes members as parameters.
type formWriter struct {
	b   []byte
	ec2 bool
}

func (w *formWriter) add(name, value string) {
	if len(w.b) > 0 {
		w.b = append(w.b, '&')
	}
	w.b = append(append(append(w.b, url.QueryEscape(name)...), '='), url.QueryEscape(value)...)
}

func (w *formWriter) structure(p *plan, prefix string, v reflect.Value) {
	for _, f := range p.body {
		value, ok := present(v.Field(f.index))
		if !ok {
			continue
		}
		name := f.query
		if w.ec2 {
			name = f.ec2
		}
		w.value(f, prefix+name, value)
	}
}

func (w *formWriter) value(f *field, name string, v reflect.Value) {
	switch f.kind {
	case Structure, Union:
		w.structure(f.plan, name+".", v)
	case List:
		if v.Len() == 0 && !w.ec2 {
			w.add(name, "")
			return
		}
		if !w.ec2 && !f.is(Flat) {
			name += "." + f.elem.query
		}
		for i := range v.Len() {
			w.value(f.elem, name+"."+strconv.Itoa(i+1), v.Index(i))
		}
	case Map:
		if !f.is(Flat) {
			name += ".entry"
		}
		for i, key := range sortedKeys(v) {
			entry := name + "." + strconv.Itoa(i+1) + "."
			w.add(entry+f.key.query, key)
			w.value(f.elem, entry+f.elem.query, mapValue(v, key))
		}
	default:
		w.add(name, f.text(v, DateTime))
	}
}
