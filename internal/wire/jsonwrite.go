package wire

import (
	"encoding/base64"
	"math"
	"math/bits"
	"reflect"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
	"unsafe"
)

// Answers are written through pointers into the structs: reading fields by
// reflection takes more time than all the rest. That every pointer is to what
// the plan says has been proved when the plan was made from the Go type.

// holder says how a struct's field holds what it may lack.
type holder uint8

const (
	byValue   holder = iota // never absent
	byPointer               // *T
	bySlice                 // absent if nil
	byMap                   // absent if nil
	byOther                 // an interface or a function: absent if nil
)

func holderOf(t reflect.Type) holder {
	switch t.Kind() {
	case reflect.Pointer:
		return byPointer
	case reflect.Slice:
		return bySlice
	case reflect.Map:
		return byMap
	case reflect.Interface, reflect.Func:
		return byOther
	}
	return byValue
}

// addr returns where the value of v is, in memory that nobody else changes.
func addr(v reflect.Value) unsafe.Pointer {
	if !v.CanAddr() {
		c := reflect.New(v.Type()).Elem()
		c.Set(v)
		v = c
	}
	return v.Addr().UnsafePointer()
}

// appendJSONValue writes the value of v by its plan.
func (p *plan) appendJSONValue(b []byte, v reflect.Value, m *field) []byte {
	return p.appendJSON(b, addr(v), m)
}

// appendJSON writes the value at a place, which is of the plan's type.
func (p *plan) appendJSON(b []byte, at unsafe.Pointer, m *field) []byte {
	switch p.kind {
	case String:
		return AppendJSONString(b, *(*string)(at))
	case Structure, Union:
		if p.hook {
			return reflect.NewAt(p.typ, at).Interface().(JSONHook).AppendJSON(b)
		}
		return p.appendJSONStruct(b, at)
	case List:
		return p.appendJSONList(b, at)
	case Map:
		return p.appendJSONMap(b, reflect.NewAt(p.typ, at).Elem())
	case Integer:
		return strconv.AppendInt(b, int64(*(*int32)(at)), 10)
	case Long:
		return strconv.AppendInt(b, *(*int64)(at), 10)
	case Float, Double:
		return appendJSONFloat(b, *(*float64)(at))
	case Boolean:
		return strconv.AppendBool(b, *(*bool)(at))
	case Timestamp:
		format, t := timeFormat(m, EpochSeconds), *(*time.Time)(at)
		if format == EpochSeconds {
			return appendTime(b, t, format, false)
		}
		return append(appendTime(append(b, '"'), t, format, false), '"')
	case Blob:
		return AppendJSONBlob(b, *(*[]byte)(at))
	}
	document := *(*[]byte)(at)
	if len(document) == 0 {
		return append(b, "null"...)
	}
	return append(b, document...)
}

func (p *plan) appendJSONList(b []byte, at unsafe.Pointer) []byte {
	list, size := *(*[]byte)(at), p.elem.typ.Size() // any slice: its length and its first element
	b = append(b, '[')
	for i, e := 0, unsafe.Pointer(unsafe.SliceData(list)); i < len(list); i++ {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.elem.appendJSON(b, unsafe.Add(e, uintptr(i)*size), p.elem)
	}
	return append(b, ']')
}

func (p *plan) appendJSONStruct(b []byte, at unsafe.Pointer) []byte {
	b = append(b, '{')
	b = p.appendJSONMembers(b, at, true)
	return append(b, '}')
}

// appendJSONMembers writes the members of the body, the first one without a
// comma before it.
func (p *plan) appendJSONMembers(b []byte, at unsafe.Pointer, first bool) []byte {
	for _, f := range p.body {
		value := unsafe.Add(at, f.offset)
		if f.holder != byValue {
			// pointers, slices, maps and interfaces begin with a word that is nil
			// when they are
			held := *(*unsafe.Pointer)(value)
			if held == nil {
				continue
			}
			if f.holder == byPointer {
				value = held
			}
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
	key, value := reflect.New(p.typ.Key()).Elem(), reflect.New(p.typ.Elem()).Elem()
	at := value.Addr().UnsafePointer()
	first := true
	for it := v.MapRange(); it.Next(); {
		if !first {
			b = append(b, ',')
		}
		first = false
		key.SetIterKey(it)
		value.SetIterValue(it)
		b = append(AppendJSONString(b, key.String()), ':')
		b = p.elem.appendJSON(b, at, p.elem)
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
	b = append(b, '"')
	i := plainLen(s)
	if i < len(s) {
		return appendEscaped(b, s, i)
	}
	return append(append(b, s...), '"')
}

// plain are the bytes that stand in a string as they are.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// plainLen returns how many of the first bytes are plain. It looks at eight at
// once, as a number.
func plainLen[T string | []byte](s T) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	i := 0
	for ; len(s)-i >= 8; i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		quote, slash := w^'"'*ones, w^'\\'*ones
		// a byte's top bit is set where it is not plain; of those above the first
		// the carry may set more
		if odd := (w | (w - ' '*ones) | (quote - ones) | (slash - ones)) & tops; odd != 0 {
			return i + bits.TrailingZeros64(odd)/8
		}
	}
	for i < len(s) && plain[s[i]] {
		i++
	}
	return i
}

// appendEscaped writes a string, of which the first i bytes are plain, and its end.
func appendEscaped(b []byte, s string, i int) []byte {
	const hex = "0123456789abcdef"
	start := 0
	for i < len(s) {
		c := s[i]
		if plain[c] {
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
