package wire

import (
	"encoding/base64"
	"math"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"
)

// appendJSON writes the value of v by its plan.
func (p *plan) appendJSON(b []byte, v reflect.Value, m *field) []byte {
	if p.hook && v.CanAddr() {
		return v.Addr().Interface().(JSONHook).AppendJSON(b)
	}
	switch p.kind {
	case Structure, Union:
		return p.appendJSONStruct(b, v)
	case List:
		b = append(b, '[')
		for i := range v.Len() {
			if i > 0 {
				b = append(b, ',')
			}
			b = p.elem.appendJSON(b, v.Index(i), p.elem)
		}
		return append(b, ']')
	case Map:
		return p.appendJSONMap(b, v)
	case String:
		return AppendJSONString(b, v.String())
	case Integer, Long:
		return strconv.AppendInt(b, v.Int(), 10)
	case Float, Double:
		return appendJSONFloat(b, v.Float())
	case Boolean:
		return strconv.AppendBool(b, v.Bool())
	case Timestamp:
		format := timeFormat(m, EpochSeconds)
		if format == EpochSeconds {
			return appendTime(b, timeOf(v), format, false)
		}
		return append(appendTime(append(b, '"'), timeOf(v), format, false), '"')
	case Blob:
		return AppendJSONBlob(b, v.Bytes())
	}
	if v.Len() == 0 {
		return append(b, "null"...)
	}
	return append(b, v.Bytes()...)
}

func (p *plan) appendJSONStruct(b []byte, v reflect.Value) []byte {
	b = append(b, '{')
	b = p.appendJSONMembers(b, v, true)
	return append(b, '}')
}

// appendJSONMembers writes the members of the body, the first one without a
// comma before it.
func (p *plan) appendJSONMembers(b []byte, v reflect.Value, first bool) []byte {
	for _, f := range p.body {
		value, ok := present(v.Field(f.index))
		if !ok {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, f.json...)
		b = f.appendJSON(b, value, f)
	}
	return b
}

func (p *plan) appendJSONMap(b []byte, v reflect.Value) []byte {
	b = append(b, '{')
	key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
	first := true
	for it := v.MapRange(); it.Next(); {
		if !first {
			b = append(b, ',')
		}
		first = false
		key.SetIterKey(it)
		value.SetIterValue(it)
		b = append(AppendJSONString(b, key.String()), ':')
		b = p.elem.appendJSON(b, value, p.elem)
	}
	return append(b, '}')
}

// sortedKeys returns the keys of a map in order.
func sortedKeys(v reflect.Value) []string {
	keys := make([]string, 0, v.Len())
	key := reflect.New(v.Type().Key()).Elem()
	for it := v.MapRange(); it.Next(); {
		key.SetIterKey(it)
		keys = append(keys, key.String())
	}
	slices.Sort(keys)
	return keys
}

// mapValue returns an addressable copy of a map's value.
func mapValue(v reflect.Value, key string) reflect.Value {
	value := v.MapIndex(reflect.ValueOf(key).Convert(v.Type().Key()))
	if k := value.Kind(); k != reflect.Struct {
		return value
	}
	c := reflect.New(value.Type()).Elem()
	c.Set(value)
	return c
}

func appendJSONFloat(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(appendFloat(append(b, '"'), f), '"')
	}
	return appendFloat(b, f)
}

// AppendJSONBlob writes bytes as a base64 string.
func AppendJSONBlob(b, blob []byte) []byte {
	b = append(b, '"')
	b = base64.StdEncoding.AppendEncode(b, blob)
	return append(b, '"')
}

// AppendJSONString writes a string. Bytes that are not UTF-8 become U+FFFD.
func AppendJSONString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			u, n := utf8.DecodeRuneInString(s[i:])
			if u == utf8.RuneError && n == 1 {
				b = append(append(b, s[start:i]...), "\ufffd"...)
				start = i + n
			}
			i += n
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
