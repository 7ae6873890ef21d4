package wire

import (
	"reflect"
	"time"
	"unsafe"
)

// JSONHook is what a hot type may implement on its pointer to read and write
// its own JSON. It must do what the tables say, and let go of the reader.
type JSONHook interface {
	DecodeJSON(r *JSONReader) error
	AppendJSON(b []byte) []byte
}

// JSONMapHook is what a hot type may implement besides, to read maps of itself.
type JSONMapHook interface {
	// DecodeJSONMap returns a map[string]T, T being the type.
	DecodeJSONMap(r *JSONReader) (any, error)
}

// Packed is a hot type that is not itself the struct that fits its shape.
type Packed interface {
	JSONHook
	// Unpacked returns a pointer to the struct.
	Unpacked() any
}

// Like answers, requests are read through pointers into the structs. Whoever
// starts with a reflect.Value calls decodeJSONValue.

// decodeJSONValue fills v, which is addressable, with the next value of r.
func (p *plan) decodeJSONValue(r *JSONReader, v reflect.Value) error {
	return p.decodeJSON(r, v.Addr().UnsafePointer(), nil)
}

// decodeJSON fills the place, which is of the plan's type, with the next value
// of r. m is the member that holds it, or nil.
func (p *plan) decodeJSON(r *JSONReader, at unsafe.Pointer, m *field) error {
	switch p.kind {
	case Structure, Union:
		if p.hook {
			return reflect.NewAt(p.typ, at).Interface().(JSONHook).DecodeJSON(r)
		}
		return p.decodeJSONStruct(r, at)
	case List:
		return p.decodeJSONList(r, at)
	case Map:
		return p.decodeJSONMap(r, at)
	}
	return p.decodeJSONScalar(r, at, m)
}

func (p *plan) decodeJSONStruct(r *JSONReader, at unsafe.Pointer) error {
	return r.Object(func(name []byte) error {
		f := p.byWire[string(name)]
		if f == nil {
			_, err := r.Skip()
			return err
		}
		return f.decodeJSONField(r, unsafe.Add(at, f.offset))
	})
}

// decodeJSONField fills a struct's field. A pointer there is made first.
func (f *field) decodeJSONField(r *JSONReader, at unsafe.Pointer) error {
	if f.holder == byPointer {
		held := (*unsafe.Pointer)(at)
		if *held == nil {
			*held = f.newJSON(r)
		}
		at = *held
	}
	return f.decodeJSON(r, at, f)
}

// newJSON returns a new zero value of the plan's type.
func (p *plan) newJSON(r *JSONReader) unsafe.Pointer {
	switch p.kind {
	case String:
		return unsafe.Pointer(r.newString())
	case Integer:
		return unsafe.Pointer(new(int32))
	case Long:
		return unsafe.Pointer(new(int64))
	case Float, Double:
		return unsafe.Pointer(new(float64))
	case Boolean:
		return unsafe.Pointer(new(bool))
	case Timestamp:
		return unsafe.Pointer(new(time.Time))
	}
	return reflect.New(p.typ).UnsafePointer()
}

func (p *plan) decodeJSONList(r *JSONReader, at unsafe.Pointer) error {
	if p.elem.kind == String {
		list, err := r.Strings()
		*(*[]string)(at) = list
		return err
	}
	v := reflect.NewAt(p.typ, at).Elem()
	v.Set(reflect.MakeSlice(p.typ, 0, 0))
	size := p.elem.typ.Size()
	n := 0
	return r.Array(func() error {
		if err := r.Charge(size); err != nil {
			return err
		}
		v.Grow(1)
		v.SetLen(n + 1)
		n++
		return p.elem.decodeJSON(r, unsafe.Add(v.UnsafePointer(), uintptr(n-1)*size), p.elem)
	})
}

func (p *plan) decodeJSONMap(r *JSONReader, at unsafe.Pointer) error {
	if p.elem.kind == String {
		out := map[string]string{}
		err := r.Object(func(name []byte) error {
			key := r.Key(name)
			s, err := r.String()
			out[key] = s
			return err
		})
		*(*map[string]string)(at) = out
		return err
	}
	v := reflect.NewAt(p.typ, at).Elem()
	if p.elem.maps != nil {
		m, err := p.elem.maps.DecodeJSONMap(r)
		if err == nil {
			v.Set(reflect.ValueOf(m))
		}
		return err
	}
	v.Set(reflect.MakeMap(p.typ))
	key, value := reflect.New(p.typ.Key()).Elem(), reflect.New(p.typ.Elem()).Elem()
	size := p.elem.typ.Size()
	return r.Object(func(name []byte) error {
		if err := r.Charge(size); err != nil {
			return err
		}
		key.SetString(r.Key(name))
		value.SetZero()
		if err := p.elem.decodeJSONValue(r, value); err != nil {
			return err
		}
		v.SetMapIndex(key, value)
		return nil
	})
}

func (p *plan) decodeJSONScalar(r *JSONReader, at unsafe.Pointer, m *field) (err error) {
	switch p.kind {
	case String:
		*(*string)(at), err = p.jsonString(r, m)
	case Integer, Long:
		var n int64
		if n, err = r.integer(p.kind); err != nil {
			return err
		}
		if p.kind == Long {
			*(*int64)(at) = n
		} else {
			*(*int32)(at) = int32(n)
		}
	case Float, Double:
		*(*float64)(at), err = r.float(p.kind)
	case Boolean:
		*(*bool)(at), err = r.Bool()
	case Timestamp:
		*(*time.Time)(at), err = r.time()
	case Blob:
		*(*[]byte)(at), err = r.Blob()
	case Document:
		var text []byte
		text, err = r.Skip()
		*(*[]byte)(at) = append([]byte{}, text...)
	}
	return err
}

// integer reads a whole number that fits the kind.
func (r *JSONReader) integer(k Kind) (int64, error) {
	text, err := r.number(k)
	if err != nil {
		return 0, err
	}
	n, ok := parseInt(string(text))
	if !ok || !inRange(k, n) {
		return 0, errSerialization("DECIMAL_VALUE cannot be converted to " + kindName(k))
	}
	return n, nil
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
