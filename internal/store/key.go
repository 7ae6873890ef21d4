package store

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"reflect"
	"strings"
	"time"
)

// Key is an encoded tuple. Keys compare (with < as strings) as their tuples do,
// part by part; a tuple's key is a prefix of the key of every longer tuple that
// begins with it, and of no other; and keys concatenate: K(a)+K(b) == K(a, b).
// The empty Key is the empty tuple, which begins every key.
type Key string

// The tags that begin each part. Their order is the order of kinds.
const (
	tagBytes  = 0x02
	tagString = 0x03
	tagZero   = 0x14 // an integer of n bytes is tagZero+n, a negative one tagZero-n
	tagFalse  = 0x20
	tagTrue   = 0x21
	tagTime   = 0x30
)

// K encodes a tuple of strings, byte slices, integers of any kind, bools and
// times, named types of those included. It panics on anything else, as that is
// a mistake in the program.
func K(parts ...any) Key {
	var stack [64]byte
	return Key(appendParts(stack[:0], parts))
}

// KPrefix is like K, but its last part, a string or byte slice, stands for all
// parts that begin with it: Range{Prefix: KPrefix("bucket", "img/")} holds every
// object of the bucket whose name begins with img/.
func KPrefix(parts ...any) Key {
	k := K(parts...)
	switch reflect.ValueOf(parts[len(parts)-1]).Kind() {
	case reflect.String, reflect.Slice:
		return k[:len(k)-1] // without the zero byte that ends it
	}
	panic(fmt.Sprintf("store: KPrefix ends in a %T", parts[len(parts)-1]))
}

// End returns the least key that comes after every key that begins with k: the
// From of a range that skips them all, the To of one that ends with them.
func (k Key) End() Key { return Key(successor([]byte(k))) }

// successor returns the least byte string after all that begin with p.
func successor(p []byte) []byte {
	for n := len(p); n > 0; n-- {
		if p[n-1] != 0xff {
			out := append([]byte(nil), p[:n]...)
			out[n-1]++
			return out
		}
	}
	return nil
}

func appendParts(b []byte, parts []any) []byte {
	for _, p := range parts {
		b = appendPart(b, p)
	}
	return b
}

func appendPart(b []byte, part any) []byte {
	switch v := part.(type) {
	case string:
		return appendText(append(b, tagString), v)
	case []byte:
		return appendText(append(b, tagBytes), string(v))
	case int:
		return appendInt(b, int64(v))
	case int64:
		return appendInt(b, v)
	case uint64:
		return appendUint(b, v)
	case bool:
		if v {
			return append(b, tagTrue)
		}
		return append(b, tagFalse)
	case time.Time:
		b = append(b, tagTime)
		b = binary.BigEndian.AppendUint64(b, uint64(v.Unix())^1<<63)
		return binary.BigEndian.AppendUint32(b, uint32(v.Nanosecond()))
	}
	v := reflect.ValueOf(part)
	switch v.Kind() {
	case reflect.String:
		return appendPart(b, v.String())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return appendInt(b, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return appendUint(b, v.Uint())
	case reflect.Bool:
		return appendPart(b, v.Bool())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return appendPart(b, v.Bytes())
		}
	}
	panic(fmt.Sprintf("store: a key cannot hold a %T", part))
}

// appendText writes text so that a zero byte can end it: 0 becomes 1 1, and 1
// becomes 1 2, which keeps the order.
func appendText(b []byte, s string) []byte {
	for {
		i := strings.IndexAny(s, "\x00\x01")
		if i < 0 {
			return append(append(b, s...), 0)
		}
		b = append(append(b, s[:i]...), 1, s[i]+1)
		s = s[i+1:]
	}
}

func appendUint(b []byte, v uint64) []byte {
	n := (bits.Len64(v) + 7) / 8
	b = append(b, byte(tagZero+n))
	for i := n - 1; i >= 0; i-- {
		b = append(b, byte(v>>(8*i)))
	}
	return b
}

func appendInt(b []byte, v int64) []byte {
	if v >= 0 {
		return appendUint(b, uint64(v))
	}
	m := -uint64(v) // the magnitude, also of the least integer
	n := (bits.Len64(m) + 7) / 8
	b = append(b, byte(tagZero-n))
	for i := n - 1; i >= 0; i-- {
		b = append(b, ^byte(m>>(8*i)))
	}
	return b
}

// Parts decodes the tuple: strings, byte slices, int64 (uint64 when it does not
// fit), bools and UTC times. It fails on bytes that K does not make.
func (k Key) Parts() ([]any, error) {
	var parts []any
	for rest := string(k); rest != ""; {
		part, left, ok := cutPart(rest)
		if !ok {
			return parts, fmt.Errorf("store: %q is no key", string(k))
		}
		parts, rest = append(parts, part), left
	}
	return parts, nil
}

// String shows the tuple for people: ("a", 1). Broken keys show as bytes.
func (k Key) String() string {
	parts, err := k.Parts()
	if err != nil {
		return fmt.Sprintf("%q", string(k))
	}
	var b strings.Builder
	for i, p := range parts {
		if i > 0 {
			b.WriteString(", ")
		}
		switch v := p.(type) {
		case string, []byte:
			fmt.Fprintf(&b, "%q", v)
		case time.Time:
			b.WriteString(v.Format(time.RFC3339Nano))
		default:
			fmt.Fprint(&b, v)
		}
	}
	return "(" + b.String() + ")"
}

func cutPart(s string) (part any, rest string, ok bool) {
	tag, s := s[0], s[1:]
	switch {
	case tag == tagString:
		return cutText(s)
	case tag == tagBytes:
		text, rest, ok := cutText(s)
		if !ok {
			return nil, "", false
		}
		return []byte(text.(string)), rest, true
	case tag == tagFalse || tag == tagTrue:
		return tag == tagTrue, s, true
	case tag == tagTime:
		if len(s) < 12 {
			return nil, "", false
		}
		sec := int64(binary.BigEndian.Uint64([]byte(s[:8])) ^ 1<<63)
		nsec := binary.BigEndian.Uint32([]byte(s[8:12]))
		return time.Unix(sec, int64(nsec)).UTC(), s[12:], nsec < 1e9
	case tag >= tagZero-8 && tag <= tagZero+8:
		return cutInt(tag, s)
	}
	return nil, "", false
}

func cutText(s string) (text any, rest string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case 0:
			return b.String(), s[i+1:], true
		case 1:
			if i++; i == len(s) || s[i] != 1 && s[i] != 2 {
				return nil, "", false
			}
			b.WriteByte(s[i] - 1)
		default:
			b.WriteByte(s[i])
		}
	}
	return nil, "", false
}

func cutInt(tag byte, s string) (v any, rest string, ok bool) {
	n := int(tag) - tagZero
	var flip byte
	if n < 0 {
		n, flip = -n, 0xff
	}
	if len(s) < n || n > 0 && s[0]^flip == 0 {
		return nil, "", false
	}
	var m uint64
	for i := range n {
		m = m<<8 | uint64(s[i]^flip)
	}
	switch {
	case flip != 0 && m > 1<<63:
		return nil, "", false
	case flip != 0:
		return int64(-m), s[n:], true
	case m > 1<<63-1:
		return m, s[n:], true
	}
	return int64(m), s[n:], true
}
