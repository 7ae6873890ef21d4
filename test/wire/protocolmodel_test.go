package wire_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"skerry/internal/wire"
)

// suite is a file's element of the published protocol test cases: a model in
// botocore's form and cases for one operation.
type suite struct {
	Description string
	Metadata    struct {
		Protocol, APIVersion, TargetPrefix, JSONVersion, XMLNamespace string
		AWSQueryCompatible                                            map[string]any
	}
	Shapes map[string]botoShape
	Cases  []protocolCase

	made map[string]*wire.Service // by operation
}

type botoShape struct {
	Type                                   string
	Members                                orderedRefs
	Member, Key, Value                     *botoRef
	Payload, TimestampFormat, LocationName string
	Required                               []string
	Union, Document                        bool
	XMLNamespace                           any
	Error                                  *struct {
		Code           string
		HTTPStatusCode int
		SenderFault    bool
	}
}

type botoRef struct {
	Shape, Location, LocationName          string
	Flattened, JSONValue, XMLAttribute     bool
	HostLabel, IdempotencyToken, Streaming bool
	XMLNamespace                           any
}

type orderedRefs struct {
	names []string
	by    map[string]*botoRef
}

func (o *orderedRefs) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if _, err := d.Token(); err != nil {
		return err
	}
	o.by = map[string]*botoRef{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		r := &botoRef{}
		if err := d.Decode(r); err != nil {
			return err
		}
		o.names = append(o.names, t.(string))
		o.by[t.(string)] = r
	}
	return nil
}

type protocolCase struct {
	ID    string
	Given struct {
		Name string
		HTTP struct {
			Method, RequestURI string
			ResponseCode       int
		}
		Input, Output *struct {
			Shape, LocationName, ResultWrapper string
			XMLNamespace                       any
		}
	}
	Params     any
	Serialized struct {
		Method, URI, Body string
		Headers           map[string]string
	}
	Result                  any
	Error                   any
	ErrorCode, ErrorMessage string
	Response                struct {
		StatusCode int `json:"status_code"`
		Headers    map[string]string
		Body       string
	}
}

var suiteProtocols = map[string]wire.Protocol{
	"query": wire.AWSQuery, "ec2": wire.EC2Query, "rest-json": wire.RESTJSON1, "rest-xml": wire.RESTXML, "smithy-rpc-v2-cbor": wire.RPCV2CBOR,
}

func (s *suite) protocol() wire.Protocol {
	if s.Metadata.Protocol == "json" {
		if s.Metadata.JSONVersion == "1.0" {
			return wire.AWSJSON10
		}
		return wire.AWSJSON11
	}
	return suiteProtocols[s.Metadata.Protocol]
}

// maxUnroll is how often a shape may stand inside of itself.
const maxUnroll = 2

// builder makes a service of a suite. Types that contain themselves can't be
// made at run time: each use of a shape becomes a shape of its own, down to a
// depth.
type builder struct {
	s      *suite
	svc    *wire.Service
	output bool
	depth  map[string]int
}

// service makes the service of a case, with its one operation.
func (s *suite) service(c *protocolCase) *wire.Service {
	key := fmt.Sprint(c.Given.Name, c.Given.HTTP)
	if g := c.Given; g.Input != nil {
		key += fmt.Sprint(*g.Input)
	}
	if g := c.Given; g.Output != nil {
		key += fmt.Sprint(*g.Output)
	}
	if s.made[key] == nil {
		if s.made == nil {
			s.made = map[string]*wire.Service{}
		}
		s.made[key] = s.makeService(c)
	}
	return s.made[key]
}

func (s *suite) makeService(c *protocolCase) *wire.Service {
	b := builder{s: s, depth: map[string]int{}, svc: &wire.Service{
		ID: "test", Version: s.Metadata.APIVersion, Protocols: []wire.Protocol{s.protocol()}, TargetPrefix: s.Metadata.TargetPrefix,
		QueryCompatible: s.Metadata.AWSQueryCompatible != nil, XMLNamespace: s.Metadata.XMLNamespace, Shapes: make([]wire.Shape, 1),
	}}
	g := &c.Given
	op := wire.Operation{Name: g.Name, Method: g.HTTP.Method, URI: g.HTTP.RequestURI, Status: g.HTTP.ResponseCode}
	empty := reflect.TypeFor[struct{}]()
	in, out := empty, empty
	if g.Input != nil {
		op.Input, in = b.shape(g.Input.Shape)
		op.InputRoot, op.InputXMLNS = g.Input.LocationName, namespaceURI(g.Input.XMLNamespace)
		if op.InputXMLNS == "" {
			op.InputXMLNS = namespaceURI(s.Shapes[g.Input.Shape].XMLNamespace)
		}
		if op.InputRoot == "" {
			op.InputRoot = s.Shapes[g.Input.Shape].LocationName
		}
	}
	b.output = true
	if g.Output != nil {
		op.Output, out = b.shape(g.Output.Shape)
		if ns := namespaceURI(s.Shapes[g.Output.Shape].XMLNamespace); ns != "" && s.protocol() == wire.RESTXML {
			b.svc.XMLNamespace = ns
		}
		op.OutputRoot, op.ResultWrapper = s.Shapes[g.Output.Shape].LocationName, g.Output.ResultWrapper
	}
	op.In, op.Out = reflect.Zero(reflect.PointerTo(in)).Interface(), reflect.Zero(reflect.PointerTo(out)).Interface()
	b.svc.Operations = []wire.Operation{op}
	return b.svc
}

func namespaceURI(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case map[string]any:
		s, _ := v["uri"].(string)
		return s
	}
	return ""
}

var botoKinds = map[string]wire.Kind{
	"structure": wire.Structure, "list": wire.List, "map": wire.Map, "string": wire.String, "character": wire.String, "integer": wire.Integer, "long": wire.Long,
	"float": wire.Float, "double": wire.Double, "boolean": wire.Boolean, "timestamp": wire.Timestamp, "blob": wire.Blob,
}

var goTypes = map[wire.Kind]reflect.Type{
	wire.String: reflect.TypeFor[string](), wire.Integer: reflect.TypeFor[int32](), wire.Long: reflect.TypeFor[int64](), wire.Float: reflect.TypeFor[float64](),
	wire.Double: reflect.TypeFor[float64](), wire.Boolean: reflect.TypeFor[bool](), wire.Timestamp: reflect.TypeFor[time.Time](),
	wire.Blob: reflect.TypeFor[[]byte](), wire.Document: reflect.TypeFor[json.RawMessage](),
}

// shape adds a shape and all below it, and returns its index and its type.
func (b *builder) shape(name string) (uint16, reflect.Type) {
	s := b.s.Shapes[name]
	kind, ok := botoKinds[s.Type]
	if !ok {
		panic(fmt.Sprintf("unknown type %q of %s", s.Type, name))
	}
	switch {
	case s.Union:
		kind = wire.Union
	case s.Document:
		kind = wire.Document
	}
	b.depth[name]++
	defer func() { b.depth[name]-- }()
	out := wire.Shape{Name: name, Kind: kind, Payload: s.Payload, Time: botoTime(s.TimestampFormat)}
	typ := goTypes[kind]
	switch kind {
	case wire.Structure, wire.Union:
		typ = b.members(&out, s)
	case wire.List:
		m, t := b.member("member", s.Member)
		out.Members, typ = []wire.Member{m}, reflect.SliceOf(t)
	case wire.Map:
		k, _ := b.member("key", s.Key)
		v, t := b.member("value", s.Value)
		out.Members, typ = []wire.Member{k, v}, reflect.MapOf(goTypes[wire.String], t)
	}
	b.svc.Shapes = append(b.svc.Shapes, out)
	return uint16(len(b.svc.Shapes) - 1), typ
}

func botoTime(format string) wire.TimeFormat {
	return map[string]wire.TimeFormat{"iso8601": wire.DateTime, "unixTimestamp": wire.EpochSeconds, "rfc822": wire.HTTPDate}[format]
}

func (b *builder) members(out *wire.Shape, s botoShape) reflect.Type {
	var fields []reflect.StructField
	for _, name := range s.Members.names {
		r := s.Members.by[name]
		if b.depth[r.Shape] > maxUnroll {
			continue
		}
		m, typ := b.member(name, r)
		target := b.s.Shapes[r.Shape]
		if s.Payload == name && (r.LocationName == "" || r.LocationName == name) {
			m.Wire = target.LocationName
			if m.Wire == "" && target.Type != "list" {
				m.Wire = r.Shape
			}
		}
		if k := typ.Kind(); k != reflect.Slice && k != reflect.Map && k != reflect.Interface {
			typ = reflect.PointerTo(typ)
		}
		out.Members = append(out.Members, m)
		fields = append(fields, reflect.StructField{Name: strings.ToUpper(name[:1]) + name[1:], Type: typ})
	}
	return reflect.StructOf(fields)
}

func (b *builder) member(name string, r *botoRef) (wire.Member, reflect.Type) {
	index, typ := b.shape(r.Shape)
	target := b.s.Shapes[r.Shape]
	m := wire.Member{Name: name, Shape: index}
	if r.LocationName != name {
		m.Wire = r.LocationName
	}
	if b.output && (r.Location == "querystring" || r.Location == "uri") {
		r = &botoRef{Shape: r.Shape, LocationName: r.LocationName}
	}
	m.In = map[string]wire.Location{"header": wire.InHeader, "headers": wire.InPrefixHeaders, "querystring": wire.InQuery, "uri": wire.InLabel, "statusCode": wire.InStatus}[r.Location]
	if m.In == wire.InQuery && target.Type == "map" {
		m.In = wire.InQueryParams
	}
	for t, on := range map[wire.Traits]bool{wire.Flat: r.Flattened, wire.Attribute: r.XMLAttribute, wire.JSONValue: r.JSONValue} {
		if on {
			m.Is |= t
		}
	}
	if r.Flattened && !b.output && target.Member != nil && target.Member.LocationName != "" {
		m.Query = target.Member.LocationName
	}
	namespace := r.XMLNamespace
	if namespace == nil {
		namespace = target.XMLNamespace
	}
	if uri := namespaceURI(namespace); uri != "" {
		ns, _ := namespace.(map[string]any)
		prefix, _ := ns["prefix"].(string)
		m.XMLNS = &wire.XMLNamespace{URI: uri, Prefix: prefix}
	}
	if r.Streaming {
		m.Is |= wire.Streaming
		typ = reflect.TypeFor[io.Reader]()
	}
	return m, typ
}
