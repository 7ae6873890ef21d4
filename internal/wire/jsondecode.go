package wire

import (
	"reflect"
	"time"
)

// JSONHook is what a hot type may implement on its pointer to read and write
// its own JSON. It must do what the tables say.
type JSONHook interface {
	DecodeJSON(r *JSONReader) error
	AppendJSON(b []byte) []byte
}

// JSONMapHook is what a hot type may implement besides, to read maps of itself.
type JSONMapHook interface {
	// DecodeJSONMap returns a map[string]T, T being the type.
	DecodeJSONMap(r *JSONReader) (any, error)
}

// decodeJSON fills v, which is addressable, with the next value of r.
func (p *plan) decodeJSON(r *JSONReader, v reflect.Value, m *field) error {
	if p.hook {
		return target(v).Addr().Interface().(JSONHook).DecodeJSON(r)
	}
	switch p.kind {
	case Structure, Union:
		return p.decodeJSONStruct(r, target(v))
	case List:
		return p.decodeJSONList(r, v)
	case Map:
		return p.decodeJSONMap(r, v)
	}
	return p.decodeJSONScalar(r, v, m)
}

func (p *plan) decodeJSONStruct(r *JSONReader, v reflect.Value) error {
	return r.Object(func(name []byte) error {
		f := p.byWire[string(name)]
		if f == nil {
			_, err := r.Skip()
			return err
		}
		return f.decodeJSON(r, v.Field(f.index), f)
	})
}

func (p *plan) decodeJSONList(r *JSONReader, v reflect.Value) error {
	if list, ok := v.Addr().Interface().(*[]string); ok && p.elem.kind == String {
		out := []string{}
		err := r.Array(func() error {
			s, err := r.String()
			out = append(out, s)
			return err
		})
		*list = out
		return err
	}
	n := 0
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	size := p.elem.typ.Size()
	return r.Array(func() error {
		if err := r.Charge(size); err != nil {
			return err
		}
		v.Grow(1)
		v.SetLen(n + 1)
		n++
		return p.elem.decodeJSON(r, v.Index(n-1), p.elem)
	})
}

func (p *plan) decodeJSONMap(r *JSONReader, v reflect.Value) error {
	if m, ok := v.Addr().Interface().(*map[string]string); ok && p.elem.kind == String {
		out := map[string]string{}
		err := r.Object(func(name []byte) error {
			key := r.Key(name)
			s, err := r.String()
			out[key] = s
			return err
		})
		*m = out
		return err
	}
	if p.elem.maps != nil {
		m, err := p.elem.maps.DecodeJSONMap(r)
		if err == nil {
			v.Set(reflect.ValueOf(m))
		}
		return err
	}
	v.Set(reflect.MakeMap(v.Type()))
	key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
	size := p.elem.typ.Size()
	return r.Object(func(name []byte) error {
		if err := r.Charge(size); err != nil {
			return err
		}
		key.SetString(r.Key(name))
		value.SetZero()
		if err := p.elem.decodeJSON(r, value, p.elem); err != nil {
			return err
		}
		v.SetMapIndex(key, value)
		return nil
	})
}

func (p *plan) decodeJSONScalar(r *JSONReader, v reflect.Value, m *field) error {
	switch p.kind {
	case String:
		s, err := p.jsonString(r, m)
		if err != nil {
			return err
		}
		setString(v, s)
	case Integer, Long:
		text, err := r.number(p.kind)
		if err != nil {
			return err
		}
		n, ok := parseInt(string(text))
		if !ok || !inRange(p.kind, n) {
			return errSerialization("DECIMAL_VALUE cannot be converted to " + kindName(p.kind))
		}
		setInt(v, n)
	case Float, Double:
		f, err := r.float(p.kind)
		if err != nil {
			return err
		}
		setFloat(v, f)
	case Boolean:
		b, err := r.Bool()
		if err != nil {
			return err
		}
		setBool(v, b)
	case Timestamp:
		t, err := r.time()
		if err != nil {
			return err
		}
		setTime(v, t)
	case Blob:
		b, err := r.Blob()
		if err != nil {
			return err
		}
		v.SetBytes(b)
	case Document:
		text, err := r.Skip()
		if err != nil {
			return err
		}
		v.SetBytes(append([]byte{}, text...))
	}
	return nil
}

// jsonString reads a string, or of a JSON value member whatever there is.
func (p *plan) jsonString(r *JSONReader, m *field) (string, error) {
	if m != nil && m.is(JSONValue) && r.Peek() != '"' {
		text, err := r.Skip()
		return string(text), err
	}
	return r.String()
}

func kindName(k Kind) string {
	return [...]string{"Structure", "Union", "List", "Map", "String", "Integer", "Long", "Float", "Double", "Boolean", "Timestamp", "Blob", "Document"}[k]
}

func (r *JSONReader) number(k Kind) ([]byte, error) {
	if c := r.Peek(); c != '-' && (c < '0' || c > '9') {
		return nil, r.mismatch(kindName(k))
	}
	return r.Number()
}

// float reads a number or one of the words NaN, Infinity and -Infinity in a
// string.
func (r *JSONReader) float(k Kind) (float64, error) {
	if r.Peek() == '"' {
		at := r.i
		s, err := r.String()
		if err != nil {
			return 0, err
		}
		switch s {
		case "NaN", "Infinity", "-Infinity":
			f, _ := parseFloat(s)
			return f, nil
		}
		r.i = at
		return 0, r.mismatch(kindName(k))
	}
	text, err := r.number(k)
	if err != nil {
		return 0, err
	}
	f, ok := parseFloat(string(text))
	if !ok {
		return 0, errSerialization("NUMBER_VALUE cannot be converted to " + kindName(k))
	}
	return f, nil
}

// time reads a timestamp: seconds as a number, or any form in a string.
func (r *JSONReader) time() (time.Time, error) {
	var t time.Time
	ok := false
	if r.Peek() == '"' {
		s, err := r.String()
		if err != nil {
			return t, err
		}
		t, ok = parseTime(s)
	} else {
		text, err := r.number(Timestamp)
		if err != nil {
			return t, err
		}
		if f, isFloat := parseFloat(string(text)); isFloat {
			t, ok = epochTime(f)
		}
	}
	if !ok {
		return t, errSerialization("The timestamp is not valid")
	}
	return t, nil
}
