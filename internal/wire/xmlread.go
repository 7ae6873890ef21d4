package wire

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"reflect"
	"strings"
)

// xmlReader reads XML by the plans. Package encoding/xml does the lexing; it
// knows no entities but the five and does not read document types.
type xmlReader struct {
	d     *xml.Decoder
	query bool // names of awsQuery
	depth int

	budget budget
}

var errXML = errors.New("wire: malformed XML")

// decodeXMLBody reads a document whose root element, whatever its name, is p.
func (p *plan) decodeXMLBody(b []byte, v reflect.Value) error {
	x := &xmlReader{d: xml.NewDecoder(bytes.NewReader(b)), budget: newBudget(len(b))}
	start, err := x.root()
	if err != nil {
		return err
	}
	if err := x.value(&field{plan: p, member: &Member{}}, start, v); err != nil {
		return err
	}
	return x.end()
}

func (x *xmlReader) root() (xml.StartElement, error) {
	for {
		t, err := x.d.Token()
		if err != nil {
			return xml.StartElement{}, err
		}
		switch t := t.(type) {
		case xml.StartElement:
			return t, nil
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return xml.StartElement{}, errXML
			}
		}
	}
}

func (x *xmlReader) end() error {
	for {
		t, err := x.d.Token()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			return errXML
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return errXML
			}
		}
	}
}

// children calls child for each element inside of the current one.
func (x *xmlReader) children(child func(xml.StartElement) error) error {
	if x.depth++; x.depth > maxDepth {
		return errXML
	}
	defer func() { x.depth-- }()
	for {
		t, err := x.d.Token()
		if err != nil {
			return err
		}
		switch t := t.(type) {
		case xml.StartElement:
			if err := child(t); err != nil {
				return err
			}
		case xml.EndElement:
			return nil
		}
	}
}

func (x *xmlReader) skip(xml.StartElement) error { return x.children(x.skip) }

// value reads the element that start opened into v, up to its end.
func (x *xmlReader) value(f *field, start xml.StartElement, v reflect.Value) error {
	switch f.kind {
	case Structure, Union:
		return x.structure(f.plan, start, target(v))
	case List:
		if v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		return x.children(func(s xml.StartElement) error { return x.element(f, s, v) })
	case Map:
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		return x.children(func(xml.StartElement) error { return x.entry(f, v) })
	}
	text, err := x.text()
	if err != nil {
		return err
	}
	if f.kind != String {
		text = strings.TrimSpace(text)
		if text == "" && f.kind != Blob {
			return nil
		}
	}
	return f.setText(v, text)
}

func (x *xmlReader) structure(p *plan, start xml.StartElement, v reflect.Value) error {
	names := p.byWire
	if x.query {
		names = p.byQuery
	}
	for _, a := range start.Attr {
		if f := names[a.Name.Local]; f != nil && f.is(Attribute) {
			if err := f.setText(v.Field(f.index), a.Value); err != nil {
				return err
			}
		}
	}
	return x.children(func(s xml.StartElement) error {
		f := names[s.Name.Local]
		switch {
		case f == nil || f.is(Attribute):
			return x.skip(s)
		case f.is(Flat) && f.kind == List:
			return x.element(f, s, v.Field(f.index))
		case f.is(Flat) && f.kind == Map:
			m := v.Field(f.index)
			if m.IsNil() {
				m.Set(reflect.MakeMap(m.Type()))
			}
			return x.entry(f, m)
		}
		return x.value(f, s, v.Field(f.index))
	})
}

// element reads an element of a list and appends it.
func (x *xmlReader) element(f *field, start xml.StartElement, list reflect.Value) error {
	if err := x.budget.charge(f.elem.typ.Size()); err != nil {
		return err
	}
	n := list.Len()
	list.Grow(1)
	list.SetLen(n + 1)
	return x.value(f.elem, start, list.Index(n))
}

// entry reads a key and a value of a map.
func (x *xmlReader) entry(f *field, m reflect.Value) error {
	keyName, valueName := f.key.wire, f.elem.wire
	if x.query {
		keyName, valueName = f.key.query, f.elem.query
	}
	if err := x.budget.charge(f.elem.typ.Size()); err != nil {
		return err
	}
	key := ""
	value := reflect.New(m.Type().Elem()).Elem()
	err := x.children(func(s xml.StartElement) error {
		var err error
		switch s.Name.Local {
		case keyName:
			key, err = x.text()
		case valueName:
			err = x.value(f.elem, s, value)
		default:
			err = x.skip(s)
		}
		return err
	})
	if err == nil {
		m.SetMapIndex(reflect.ValueOf(key), value)
	}
	return err
}

// text reads the text of an element up to its end.
func (x *xmlReader) text() (string, error) {
	var b strings.Builder
	for {
		t, err := x.d.Token()
		if err != nil {
			return "", err
		}
		switch t := t.(type) {
		case xml.CharData:
			b.Write(t)
		case xml.StartElement:
			return "", errXML
		case xml.EndElement:
			return b.String(), nil
		}
	}
}
