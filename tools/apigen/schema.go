package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

var protocols = map[string]string{
	"awsJson1_0": "AWSJSON10", "awsJson1_1": "AWSJSON11", "restJson1": "RESTJSON1", "restXml": "RESTXML",
	"awsQuery": "AWSQuery", "ec2Query": "EC2Query", "rpcv2Cbor": "RPCV2CBOR",
}

var kinds = map[string]string{
	"structure": "Structure", "union": "Union", "list": "List", "map": "Map", "string": "String", "integer": "Integer",
	"long": "Long", "float": "Float", "double": "Double", "boolean": "Boolean", "timestamp": "Timestamp", "blob": "Blob",
	"document": "Document",
}

var locations = map[string]string{
	"header": "InHeader", "prefixHeaders": "InPrefixHeaders", "query": "InQuery", "queryParams": "InQueryParams",
	"label": "InLabel", "status": "InStatus",
}

var timeFormats = map[string]string{"date-time": "DateTime", "epoch-seconds": "EpochSeconds", "http-date": "HTTPDate"}

// literal collects the fields of a composite literal and leaves out the zero
// ones.
type literal struct{ parts []string }

func (l *literal) str(name, v string) {
	if v != "" {
		l.parts = append(l.parts, name+": "+strconv.Quote(v))
	}
}

func (l *literal) raw(name, v string) {
	if v != "" {
		l.parts = append(l.parts, name+": "+v)
	}
}

func (l *literal) yes(name string, v bool) {
	if v {
		l.parts = append(l.parts, name+": true")
	}
}

func (l *literal) num(name string, v int) {
	if v != 0 {
		l.parts = append(l.parts, name+": "+strconv.Itoa(v))
	}
}

func (l *literal) String() string { return "{" + strings.Join(l.parts, ", ") + "}" }

func (g *generator) schemaFile() ([]byte, error) {
	var b bytes.Buffer
	m := g.m
	fmt.Fprintf(&b, "// Schema is the table of the service.\nvar Schema = &wire.Service{\n")
	var names []string
	for _, p := range m.Protocols {
		if protocols[p] == "" {
			return nil, fmt.Errorf("unknown protocol %s", p)
		}
		names = append(names, "wire."+protocols[p])
	}
	head := literal{}
	head.str("ID", g.allow.pkg)
	head.str("SDKID", m.SDKID)
	head.str("Title", m.Title)
	head.str("Version", m.APIVersion)
	head.raw("Protocols", "[]wire.Protocol{"+strings.Join(names, ", ")+"}")
	head.yes("QueryCompatible", m.QueryCompatible)
	head.str("TargetPrefix", m.TargetPrefix)
	head.str("SigningName", m.SigningName)
	head.str("EndpointPrefix", m.EndpointPrefix)
	head.str("GlobalEndpoint", m.GlobalEndpoint)
	head.str("XMLNamespace", m.XMLNamespace)
	head.yes("NoErrorWrapping", m.NoErrorWrapping)
	head.str("ErrorNamespace", m.ErrorNamespace)
	head.str("ARNNamespace", m.ARNNamespace)
	head.str("CloudTrailSource", m.CloudTrailSource)
	head.str("CloudFormationName", m.CloudFormationName)
	head.str("ModelDate", m.ModelDate)
	head.raw("MaxRequest", g.allow.maxRequest)
	head.str("Validation", g.allow.validation)
	var wordings []string
	for _, w := range g.allow.wordings {
		wordings = append(wordings, fmt.Sprintf("{Pattern: %q, Text: %q}", w[0], w[1]))
	}
	if len(wordings) > 0 {
		head.raw("Wordings", "[]wire.Wording{"+strings.Join(wordings, ", ")+"}")
	}
	b.WriteString(strings.Join(head.parts, ",\n"))
	b.WriteString(",\nOperations: []wire.Operation{\n")
	for _, op := range g.ops {
		fmt.Fprintf(&b, "%s,\n", g.operation(op))
	}
	b.WriteString("},\nShapes: []wire.Shape{\n{},\n")
	for _, s := range g.shapes {
		line, err := g.shape(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		fmt.Fprintf(&b, "%s,\n", line)
	}
	b.WriteString("},\n}\n")
	return g.source("", &b)
}

func (g *generator) operation(name string) string {
	o := g.m.Operations.by[name]
	l := &literal{}
	l.str("Name", name)
	if len(o.HTTP) == 2 && o.HTTP[0] != "POST" {
		l.str("Method", o.HTTP[0])
	}
	if len(o.HTTP) == 2 && o.HTTP[1] != "/" {
		l.str("URI", o.HTTP[1])
	}
	if o.Status != 200 {
		l.num("Status", o.Status)
	}
	if g.allow.allows(name) {
		l.num("Input", int(g.index[o.Input]))
		l.num("Output", int(g.index[o.Output]))
		l.raw("In", "(*"+name+"Input)(nil)")
		l.raw("Out", "(*"+name+"Output)(nil)")
		var errs []string
		for _, e := range o.Errors {
			errs = append(errs, strconv.Itoa(int(g.index[e])))
		}
		if len(errs) > 0 {
			l.raw("Errors", "[]uint16{"+strings.Join(errs, ", ")+"}")
		}
		l.str("InputRoot", o.InputRoot)
		l.str("InputXMLNS", o.InputXMLNS)
		l.str("OutputRoot", o.OutputRoot)
	}
	l.str("ResultWrapper", o.ResultWrapper)
	l.str("HostPrefix", o.HostPrefix)
	if c := o.Checksum; c != nil {
		cl := &literal{}
		cl.yes("Required", c.Required)
		cl.str("AlgorithmMember", c.AlgorithmMember)
		cl.str("ValidationMember", c.ValidationMember)
		cl.raw("Response", stringList(c.Response))
		l.raw("Checksum", "&wire.Checksum"+cl.String())
	}
	l.yes("Unwrapped", o.Unwrapped)
	l.yes("NoAuth", o.Auth == "none")
	l.yes("Unsigned", o.Unsigned)
	l.yes("Gzip", o.Compression != nil)
	l.yes("Idempotent", o.Idempotent)
	l.yes("ReadOnly", o.ReadOnly)
	l.yes("Deprecated", o.Deprecated)
	return l.String()
}

func (g *generator) shape(name string) (string, error) {
	s := g.m.Shapes.by[name]
	l := &literal{}
	l.str("Name", name)
	if kinds[s.Type] == "" {
		return "", fmt.Errorf("unknown type %s", s.Type)
	}
	if s.Type != "structure" {
		l.raw("Kind", "wire."+kinds[s.Type])
	}
	var members []string
	for _, m := range s.Members.names {
		r := s.Members.by[m]
		members = append(members, g.member(m, &r))
	}
	for _, e := range []struct {
		name string
		r    *ref
	}{{"member", s.Member}, {"key", s.Key}, {"value", s.Value}} {
		if e.r != nil {
			members = append(members, g.member(e.name, e.r))
		}
	}
	if len(members) > 0 {
		l.raw("Members", "[]wire.Member{"+strings.Join(members, ", ")+"}")
	}
	l.str("Payload", s.Payload)
	if g.nested[name] {
		l.raw("Type", "(*"+goName(name)+")(nil)")
	}
	limits, err := limits(s.Min, s.Max)
	if err != nil {
		return "", err
	}
	l.raw("Limits", limits)
	l.str("Pattern", s.Pattern)
	if !s.Open {
		l.raw("Enum", stringList(s.Enum))
	}
	if s.Timestamp != "" {
		l.raw("Time", "wire."+timeFormats[s.Timestamp])
	}
	l.raw("Is", traits(trait{"Sensitive", s.Sensitive}, trait{"Streaming", s.Streaming}, trait{"EventStreamUnion", s.EventStream}))
	if s.Error != nil {
		l.raw("Error", g.fault(s.Error))
	}
	return l.String(), nil
}

func (g *generator) fault(e *fault) string {
	f := &literal{}
	f.yes("Server", e.Fault == "server")
	status := e.Status
	if status == 0 {
		status = 400
		if e.Fault == "server" {
			status = 500
		}
	}
	f.num("Status", status)
	f.str("Code", e.Code)
	return "&wire.Fault" + f.String()
}

func (g *generator) member(name string, r *ref) string {
	l := &literal{}
	l.str("Name", name)
	if r.Name != name {
		l.str("Wire", r.Name)
	}
	l.str("Query", r.QName)
	l.num("Shape", int(g.index[r.Shape]))
	if r.In != "" {
		l.raw("In", "wire."+locations[r.In])
	}
	if r.Timestamp != "" {
		l.raw("Time", "wire."+timeFormats[r.Timestamp])
	}
	l.raw("Is", traits(trait{"Required", r.Required}, trait{"Flat", r.Flat}, trait{"Attribute", r.Attr}, trait{"IdempotencyToken", r.Token},
		trait{"HostLabel", r.HostLabel}, trait{"Streaming", r.Streaming}, trait{"JSONValue", r.JSONValue},
		trait{"EventPayload", r.Payload}, trait{"EventHeader", r.Header}, trait{"Deprecated", r.Depr}))
	if r.XMLNS != nil {
		x := &literal{}
		x.str("URI", r.XMLNS.URI)
		x.str("Prefix", r.XMLNS.Prefix)
		l.raw("XMLNS", "&wire.XMLNamespace"+x.String())
	}
	return l.String()
}

type trait struct {
	name string
	on   bool
}

func traits(all ...trait) string {
	var on []string
	for _, t := range all {
		if t.on {
			on = append(on, "wire."+t.name)
		}
	}
	return strings.Join(on, " | ")
}

func limits(lo, hi *json.Number) (string, error) {
	if lo == nil && hi == nil {
		return "", nil
	}
	l := &literal{}
	for _, n := range []struct {
		name string
		v    *json.Number
	}{{"Min", lo}, {"Max", hi}} {
		if n.v == nil {
			continue
		}
		f, err := n.v.Float64()
		if err != nil || f != float64(int64(f)) && f < 1<<62 {
			return "", fmt.Errorf("limit %s is not whole", n.v)
		}
		text := n.v.String()
		if f >= 1<<62 {
			text = "1<<63 - 1"
		} else if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			text = strconv.FormatInt(i, 10)
		} else {
			text = strconv.FormatInt(int64(f), 10)
		}
		l.raw(n.name, text)
		l.yes("Has"+n.name, true)
	}
	return "&wire.Limits" + l.String(), nil
}

func stringList(list []string) string {
	if len(list) == 0 {
		return ""
	}
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return "[]string{" + strings.Join(quoted, ", ") + "}"
}
