package wire

import (
	"errors"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"skerry/internal/base/awserr"
)

// rest is restJson1 and restXml: members in the path, the query, the headers
// and the body.
type rest struct{ json bool }

func (rc rest) decodeRequest(c *Call, p *plan, in reflect.Value) error {
	for _, f := range p.bound {
		if err := c.bind(f, in.Field(f.index)); err != nil {
			return err
		}
	}
	switch {
	case p.payload != nil:
		return rc.decodePayload(c, p.payload, in.Field(p.payload.index))
	case len(p.body) > 0:
		b, err := c.readBody()
		if err != nil {
			return err
		}
		return rc.decodeBody(p, b, in)
	}
	return nil
}

func (rc rest) decodePayload(c *Call, f *field, v reflect.Value) error {
	if f.streaming() {
		body := c.request.Body
		if body == nil {
			body = http.NoBody
		}
		if v.Type() == typeCloser {
			closer, ok := body.(io.ReadCloser)
			if !ok {
				closer = io.NopCloser(body)
			}
			v.Set(reflect.ValueOf(closer))
			return nil
		}
		v.Set(reflect.ValueOf(body))
		return nil
	}
	b, err := c.readBody()
	if err != nil || len(b) == 0 {
		return err
	}
	switch f.kind {
	case Blob:
		v.SetBytes(b)
	case String:
		setString(v, string(b))
	case Document:
		r := JSONReader{b: b}
		text, err := r.Skip()
		if err != nil {
			return err
		}
		v.SetBytes(append([]byte{}, text...))
		return r.End()
	default:
		return rc.decodeBody(f.plan, b, v)
	}
	return nil
}

func (rc rest) decodeBody(p *plan, b []byte, v reflect.Value) error {
	if rc.json {
		return p.decodeJSONBody(b, v)
	}
	if len(b) == 0 {
		return nil
	}
	if err := p.decodeXMLBody(b, v); err != nil {
		return awserr.New(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
	}
	return nil
}

// bind fills a member that is not in the body.
func (c *Call) bind(f *field, v reflect.Value) error {
	h := c.request.Header
	switch f.member.In {
	case InLabel:
		if i := slices.Index(c.labelNames, f.member.Name); i >= 0 {
			return c.bindText(f, v, c.labels[i])
		}
	case InHeader:
		values := h[f.header]
		if f.header == "Content-Length" && c.request.Length >= 0 {
			if c.request.Length == 0 && len(values) == 0 {
				return awserr.New(http.StatusLengthRequired, "MissingContentLength", "You must provide the Content-Length HTTP header.")
			}
			values = []string{strconv.FormatInt(c.request.Length, 10)}
		}
		if len(values) > 0 {
			return c.bindHeader(f, v, values)
		}
	case InPrefixHeaders:
		if m := prefixHeaders(h, f.wire); len(m) > 0 {
			v.Set(reflect.ValueOf(m))
		}
	case InQuery:
		return c.bindQuery(f, v)
	case InQueryParams:
		c.bindParams(v)
	}
	return nil
}

// prefixHeaders returns the headers whose names begin with prefix, without it
// and in lower case.
func prefixHeaders(h http.Header, prefix string) map[string]string {
	var m map[string]string
	for name, values := range h {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			if m == nil {
				m = map[string]string{}
			}
			m[strings.ToLower(name[len(prefix):])] = strings.Join(values, ",")
		}
	}
	return m
}

func (c *Call) bindHeader(f *field, v reflect.Value, values []string) error {
	if f.kind != List {
		return c.bindText(f, v, strings.TrimSpace(values[0]))
	}
	httpDates := f.elem.kind == Timestamp && timeFormat(f.elem, HTTPDate) == HTTPDate
	list := splitHeader(strings.Join(values, ","), httpDates)
	return c.bindList(f, v, list)
}

// splitHeader takes a list apart: elements are separated by commas and may be
// quoted; every date has a comma of its own.
func splitHeader(s string, dates bool) []string {
	var list []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if s[0] == '"' {
			text, rest := unquoteHeader(s)
			list = append(list, text)
			_, s, _ = strings.Cut(rest, ",")
			continue
		}
		end := strings.IndexByte(s, ',')
		if dates && end >= 0 {
			if more := strings.IndexByte(s[end+1:], ','); more >= 0 {
				end += 1 + more
			} else {
				end = -1
			}
		}
		if end < 0 {
			return append(list, s)
		}
		list = append(list, strings.TrimSpace(s[:end]))
		s = s[end+1:]
	}
	return list
}

func unquoteHeader(s string) (text, rest string) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			return b.String(), s[i+1:]
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}

func (c *Call) bindQuery(f *field, v reflect.Value) error {
	if f.kind == List {
		var list []string
		for _, q := range c.query {
			if q.name == f.wire {
				list = append(list, q.value)
			}
		}
		if list == nil {
			return nil
		}
		return c.bindList(f, v, list)
	}
	text, ok := lookup(c.query, f.wire)
	if !ok || text == "" && f.kind != String {
		return nil
	}
	return c.bindText(f, v, text)
}

func (c *Call) bindList(f *field, v reflect.Value, list []string) error {
	v.Set(reflect.MakeSlice(v.Type(), len(list), len(list)))
	for i, text := range list {
		if err := c.bindText(f.elem, v.Index(i), text); err != nil {
			return err
		}
	}
	return nil
}

// bindParams collects all query parameters, those of other members too, as
// Smithy's httpQueryParams has it.
func (c *Call) bindParams(v reflect.Value) {
	if len(c.query) == 0 {
		return
	}
	switch m := v.Addr().Interface().(type) {
	case *map[string]string:
		*m = map[string]string{}
		for _, q := range c.query {
			if _, ok := (*m)[q.name]; !ok {
				(*m)[q.name] = q.value
			}
		}
	case *map[string][]string:
		*m = map[string][]string{}
		for _, q := range c.query {
			(*m)[q.name] = append((*m)[q.name], q.value)
		}
	}
}

// bindText reads a scalar from a label, a header or the query.
func (c *Call) bindText(f *field, v reflect.Value, text string) error {
	if f.kind == String && f.is(JSONValue) && f.member.In == InHeader {
		if b, ok := decodeBase64(text); ok {
			text = string(b)
		}
	}
	if f.kind == Timestamp && c.Service.NoErrorWrapping && strings.HasPrefix(f.wire, "If-") {
		if t, ok := parseTime(text); ok {
			setTime(v, t)
		}
		return nil // S3 disregards a condition that is no date
	}
	if err := f.setText(v, text); err != nil {
		return c.badText(f, text)
	}
	return nil
}

// setText reads a scalar of any kind from text.
func (f *field) setText(v reflect.Value, text string) error {
	ok := true
	switch f.kind {
	case String:
		setString(v, text)
	case Integer, Long:
		var n int64
		if n, ok = parseInt(text); ok && inRange(f.kind, n) {
			setInt(v, n)
		} else {
			ok = false
		}
	case Float, Double:
		var n float64
		if n, ok = parseFloat(text); ok {
			setFloat(v, n)
		}
	case Boolean:
		switch {
		case strings.EqualFold(text, "true"):
			setBool(v, true)
		case strings.EqualFold(text, "false"):
			setBool(v, false)
		default:
			ok = false
		}
	case Timestamp:
		var t time.Time
		if t, ok = parseTime(text); ok {
			setTime(v, t)
		}
	case Blob:
		var b []byte
		if b, ok = decodeBase64(text); ok {
			v.SetBytes(b)
		}
	case Document:
		v.SetBytes([]byte(text))
	default:
		ok = false
	}
	if !ok {
		return errText
	}
	return nil
}

var errText = errors.New("wire: not a value of the type")

// badText is the answer to a parameter of the wrong type.
func (c *Call) badText(f *field, text string) error {
	if c.Service.NoErrorWrapping {
		message := "Invalid argument"
		if f.kind == Integer || f.kind == Long {
			message = "Provided " + f.wire + " not an integer or within integer range"
		}
		return awserr.New(400, "InvalidArgument", "%s", message).With("ArgumentName", f.wire).With("ArgumentValue", text)
	}
	return errSerialization("STRING_VALUE cannot be converted to " + kindName(f.kind))
}
