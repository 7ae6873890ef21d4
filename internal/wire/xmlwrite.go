package wire

import (
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
)

const xmlHead = `<?xml version="1.0" encoding="UTF-8"?>` + "\n"

// xmlWriter writes XML into memory.
type xmlWriter struct {
	b      []byte
	query  bool // names of awsQuery
	millis bool // times always carry milliseconds
}

func (x *xmlWriter) name(f *field) string {
	if x.query {
		return f.query
	}
	return f.wire
}

func (x *xmlWriter) open(name, namespace string) {
	x.b = append(append(x.b, '<'), name...)
	if namespace != "" {
		x.b = append(x.b, ` xmlns="`...)
		x.b = appendXMLText(x.b, namespace)
		x.b = append(x.b, '"')
	}
	x.b = append(x.b, '>')
}

func (x *xmlWriter) close(name string) {
	x.b = append(append(append(x.b, "</"...), name...), '>')
}

// simple writes an element that holds text.
func (x *xmlWriter) simple(name, text string) {
	x.open(name, "")
	x.b = appendXMLText(x.b, text)
	x.close(name)
}

// document writes a structure as the root element.
func (x *xmlWriter) document(p *plan, v reflect.Value, root, namespace string) {
	x.b = append(append(x.b, '<'), root...)
	if namespace != "" {
		x.b = append(x.b, ` xmlns="`...)
		x.b = appendXMLText(x.b, namespace)
		x.b = append(x.b, '"')
	}
	if p.kind == Structure || p.kind == Union {
		x.attributes(p, v)
		x.b = append(x.b, '>')
		x.members(p, v)
	} else {
		x.b = append(x.b, '>')
		x.content(&field{plan: p, member: &Member{}}, v)
	}
	x.close(root)
}

func (x *xmlWriter) attributes(p *plan, v reflect.Value) {
	for _, f := range p.body {
		if !f.is(Attribute) {
			continue
		}
		if value, ok := present(v.Field(f.index)); ok {
			x.b = append(append(append(x.b, ' '), f.wire...), '=', '"')
			x.b = appendXMLText(x.b, f.text(value, DateTime))
			x.b = append(x.b, '"')
		}
	}
}

func (x *xmlWriter) members(p *plan, v reflect.Value) {
	for _, f := range p.body {
		if f.is(Attribute) {
			continue
		}
		value, ok := present(v.Field(f.index))
		switch {
		case !ok:
		case f.is(Flat) && f.kind == List:
			for i := range value.Len() {
				x.element(f.elem, x.name(f), value.Index(i), f.elem.member.XMLNS)
			}
		case f.is(Flat) && f.kind == Map:
			x.entries(f, x.name(f), value, f.member.XMLNS)
		default:
			x.element(f, x.name(f), value, f.member.XMLNS)
		}
	}
}

// start writes a tag up to its attributes.
func (x *xmlWriter) start(name string, ns *XMLNamespace) {
	x.b = append(append(x.b, '<'), name...)
	if ns == nil {
		return
	}
	x.b = append(x.b, " xmlns"...)
	if ns.Prefix != "" {
		x.b = append(append(x.b, ':'), ns.Prefix...)
	}
	x.b = append(x.b, `="`...)
	x.b = appendXMLText(x.b, ns.URI)
	x.b = append(x.b, '"')
}

// element writes a value between its tags.
func (x *xmlWriter) element(f *field, name string, v reflect.Value, ns *XMLNamespace) {
	x.start(name, ns)
	if f.kind == Structure || f.kind == Union {
		x.attributes(f.plan, v)
	}
	x.b = append(x.b, '>')
	x.content(f, v)
	x.close(name)
}

func (x *xmlWriter) content(f *field, v reflect.Value) {
	switch f.kind {
	case Structure, Union:
		x.members(f.plan, v)
	case List:
		name := "member"
		if n := x.name(f.elem); n != "" {
			name = n
		}
		for i := range v.Len() {
			x.element(f.elem, name, v.Index(i), f.elem.member.XMLNS)
		}
	case Map:
		x.entries(f, "entry", v, nil)
	default:
		x.text(f, v)
	}
}

// entries writes a map as repeated elements of a key and a value.
func (x *xmlWriter) entries(f *field, name string, v reflect.Value, ns *XMLNamespace) {
	for _, key := range sortedKeys(v) {
		x.start(name, ns)
		x.b = append(x.b, '>')
		x.element(f.key, x.name(f.key), reflect.ValueOf(key), f.key.member.XMLNS)
		x.element(f.elem, x.name(f.elem), mapValue(v, key), f.elem.member.XMLNS)
		x.close(name)
	}
}

func (x *xmlWriter) text(f *field, v reflect.Value) {
	switch f.kind {
	case String:
		x.b = appendXMLText(x.b, v.String())
	case Integer, Long:
		x.b = strconv.AppendInt(x.b, v.Int(), 10)
	case Boolean:
		x.b = strconv.AppendBool(x.b, v.Bool())
	case Timestamp:
		x.b = appendTime(x.b, timeOf(v), timeFormat(f, DateTime), x.millis)
	default:
		x.b = appendXMLText(x.b, f.text(v, DateTime))
	}
}

// appendXMLText writes text for an element or an attribute. Carriage returns
// and line feeds are written as references, since parsers change them; so are
// the control characters that XML 1.0 lacks, as S3 does.
func appendXMLText(b []byte, s string) []byte {
	if !strings.ContainsFunc(s, needsEscape) {
		return append(b, s...)
	}
	for _, r := range s {
		switch {
		case r == '&':
			b = append(b, "&amp;"...)
		case r == '<':
			b = append(b, "&lt;"...)
		case r == '>':
			b = append(b, "&gt;"...)
		case r == '"':
			b = append(b, "&quot;"...)
		case r < ' ' && r != '\t':
			b = append(b, "&#x"...)
			b = append(b, strings.ToUpper(strconv.FormatInt(int64(r), 16))...)
			b = append(b, ';')
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}

func needsEscape(r rune) bool {
	return r == '&' || r == '<' || r == '>' || r == '"' || r < ' ' && r != '\t' || r == utf8.RuneError
}
