package dynamodb

import (
	"encoding/json"

	"skerry/internal/wire"
)

// AttributeValue is a value of an item. Of the members that a value may have one
// is set, and only that one takes up memory: items are the hot path of the
// service, and as plain structs their values would be most of a request.
//
// Members unpacks it, Pack makes one.
type AttributeValue struct {
	// held is nil, the one member that is set, or *AttributeValueMembers if a
	// client sent several.
	held any
}

// What a value may hold, by the member. Strings are behind pointers, because the
// reader makes those several at once.
type (
	heldS    string // *heldS
	heldN    string // *heldN
	heldB    []byte
	heldSS   []string
	heldNS   []string
	heldBS   [][]byte
	heldM    map[string]AttributeValue
	heldL    []AttributeValue
	heldNULL bool
	heldBOOL bool
)

// Pack returns the value that has the members.
func (m AttributeValueMembers) Pack() AttributeValue {
	var v AttributeValue
	n := 0
	for held := range m.all {
		v.held = held
		n++
	}
	if n > 1 {
		several := m
		v.held = &several
	}
	return v
}

// all yields the members that are set, as a value holds them.
func (m *AttributeValueMembers) all(yield func(any) bool) {
	_ = (m.S == nil || yield((*heldS)(m.S))) &&
		(m.N == nil || yield((*heldN)(m.N))) &&
		(m.B == nil || yield(heldB(m.B))) &&
		(m.SS == nil || yield(heldSS(m.SS))) &&
		(m.NS == nil || yield(heldNS(m.NS))) &&
		(m.BS == nil || yield(heldBS(m.BS))) &&
		(m.M == nil || yield(heldM(m.M))) &&
		(m.L == nil || yield(heldL(m.L))) &&
		(m.NULL == nil || yield(heldNULL(*m.NULL))) &&
		(m.BOOL == nil || yield(heldBOOL(*m.BOOL)))
}

// Members returns what the value has.
func (v AttributeValue) Members() AttributeValueMembers {
	var m AttributeValueMembers
	m.set(v.held)
	return m
}

// set sets the member that is held.
func (m *AttributeValueMembers) set(held any) {
	switch h := held.(type) {
	case *heldS:
		m.S = (*string)(h)
	case *heldN:
		m.N = (*string)(h)
	case heldB:
		m.B = h
	case heldSS:
		m.SS = h
	case heldNS:
		m.NS = h
	case heldBS:
		m.BS = h
	case heldM:
		m.M = h
	case heldL:
		m.L = h
	case heldNULL:
		m.NULL = (*bool)(&h)
	case heldBOOL:
		m.BOOL = (*bool)(&h)
	case *AttributeValueMembers:
		*m = *h
	}
}

// Unpacked implements wire.Packed.
func (v *AttributeValue) Unpacked() any {
	m := v.Members()
	return &m
}

// What a value, once it is unpacked, and a blob of a set take up, in bytes.
const (
	valueSize = 160
	blobSize  = 24
)

// DecodeJSON implements wire.JSONHook.
func (v *AttributeValue) DecodeJSON(r *wire.JSONReader) error {
	return r.Object(func(name []byte) error {
		held, err := decodeMember(r, name)
		switch {
		case held == nil || err != nil:
		case v.held == nil:
			v.held = held
		default:
			m := v.Members()
			m.set(held)
			*v = m.Pack()
		}
		return err
	})
}

// decodeMember reads the member of a name: nil if there is none of it.
func decodeMember(r *wire.JSONReader, name []byte) (any, error) {
	switch string(name) {
	case "S":
		s, err := r.Text()
		return (*heldS)(s), err
	case "N":
		s, err := r.Text()
		return (*heldN)(s), err
	case "B":
		b, err := r.Blob()
		return heldB(b), err
	case "SS":
		list, err := r.Strings()
		return heldSS(list), err
	case "NS":
		list, err := r.Strings()
		return heldNS(list), err
	case "BS":
		list := heldBS{}
		err := r.Array(func() error {
			if err := r.Charge(blobSize); err != nil {
				return err
			}
			b, err := r.Blob()
			list = append(list, b)
			return err
		})
		return list, err
	case "M":
		m, err := decodeMap(r)
		return heldM(m), err
	case "L":
		list := make(heldL, 0, 4)
		err := r.Array(func() error {
			if err := r.Charge(valueSize); err != nil {
				return err
			}
			list = append(list, AttributeValue{})
			return list[len(list)-1].DecodeJSON(r)
		})
		return list, err
	case "NULL":
		b, err := r.Bool()
		return heldNULL(b), err
	case "BOOL":
		b, err := r.Bool()
		return heldBOOL(b), err
	}
	_, err := r.Skip()
	return nil, err
}

// DecodeJSONMap implements wire.JSONMapHook.
func (*AttributeValue) DecodeJSONMap(r *wire.JSONReader) (any, error) { return decodeMap(r) }

// decodeMap gathers the entries before it makes the map, which then never grows.
func decodeMap(r *wire.JSONReader) (map[string]AttributeValue, error) {
	type entry struct {
		key   string
		value AttributeValue
	}
	var few [16]entry
	entries := few[:0]
	err := r.Object(func(name []byte) error {
		if err := r.Charge(valueSize); err != nil {
			return err
		}
		entries = append(entries, entry{key: r.Key(name)})
		return entries[len(entries)-1].value.DecodeJSON(r)
	})
	if err != nil {
		return nil, err
	}
	m := make(map[string]AttributeValue, len(entries))
	for _, e := range entries {
		m[e.key] = e.value
	}
	return m, nil
}

// AppendJSON implements wire.JSONHook.
func (v *AttributeValue) AppendJSON(b []byte) []byte {
	b = append(b, '{')
	if m, ok := v.held.(*AttributeValueMembers); ok {
		start := len(b)
		for held := range m.all {
			if len(b) > start {
				b = append(b, ',')
			}
			b = appendMember(b, held)
		}
	} else {
		b = appendMember(b, v.held)
	}
	return append(b, '}')
}

// appendMember writes the one member that is held.
func appendMember(b []byte, held any) []byte {
	switch h := held.(type) {
	case *heldS:
		b = wire.AppendJSONString(append(b, `"S":`...), string(*h))
	case *heldN:
		b = wire.AppendJSONString(append(b, `"N":`...), string(*h))
	case heldB:
		b = wire.AppendJSONBlob(append(b, `"B":`...), h)
	case heldSS:
		b = appendList(append(b, `"SS":`...), h, wire.AppendJSONString)
	case heldNS:
		b = appendList(append(b, `"NS":`...), h, wire.AppendJSONString)
	case heldBS:
		b = appendList(append(b, `"BS":`...), h, wire.AppendJSONBlob)
	case heldM:
		b = append(b, `"M":{`...)
		first := true
		for key, value := range h {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(wire.AppendJSONString(b, key), ':')
			b = value.AppendJSON(b)
		}
		b = append(b, '}')
	case heldL:
		b = appendList(append(b, `"L":`...), h, func(b []byte, e AttributeValue) []byte { return e.AppendJSON(b) })
	case heldNULL:
		b = appendBool(append(b, `"NULL":`...), bool(h))
	case heldBOOL:
		b = appendBool(append(b, `"BOOL":`...), bool(h))
	}
	return b
}

func appendList[T any](b []byte, list []T, one func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, v := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = one(b, v)
	}
	return append(b, ']')
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, "true"...)
	}
	return append(b, "false"...)
}

// MarshalJSON implements json.Marshaler: the members, as clients send them.
func (v AttributeValue) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (v *AttributeValue) UnmarshalJSON(b []byte) error {
	var m AttributeValueMembers
	err := json.Unmarshal(b, &m)
	*v = m.Pack()
	return err
}
