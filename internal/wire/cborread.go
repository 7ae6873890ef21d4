package wire

import (
	"encoding/binary"
	"math"
	"reflect"
	"time"
	"unicode/utf8"
)

// cborReader reads CBOR (RFC 8949) in memory.
type cborReader struct {
	b     []byte
	i     int
	depth int
	// milliTimes says that a whole number is a time in milliseconds, as the Java
	// SDK writes to Kinesis.
	milliTimes bool
	budget     budget
}

func errCBOR() error { return errSerialization("The request body is not valid CBOR") }

// The major types of CBOR.
const (
	cborUint = iota
	cborNegative
	cborBytes
	cborText
	cborArray
	cborMap
	cborTag
	cborSimple
)

// indefinite is the length of an item whose end is marked by a break.
const indefinite = math.MaxUint64

// head reads the head of an item: its major type, the low bits of the first
// byte and the argument. Of an indefinite length the argument is indefinite.
func (r *cborReader) head() (major, low byte, arg uint64, err error) {
	if r.i >= len(r.b) {
		return 0, 0, 0, errCBOR()
	}
	c := r.b[r.i]
	r.i++
	major, low = c>>5, c&31
	size := 0
	switch {
	case low < 24:
		return major, low, uint64(low), nil
	case low < 28:
		size = 1 << (low - 24)
	case low == 31 && (major >= cborBytes && major <= cborMap || major == cborSimple):
		return major, low, indefinite, nil
	default:
		return 0, 0, 0, errCBOR()
	}
	if len(r.b)-r.i < size {
		return 0, 0, 0, errCBOR()
	}
	var buf [8]byte
	copy(buf[8-size:], r.b[r.i:r.i+size])
	r.i += size
	arg = binary.BigEndian.Uint64(buf[:])
	if arg == indefinite && major != cborUint && major != cborNegative && major != cborSimple {
		return 0, 0, 0, errCBOR()
	}
	return major, low, arg, nil
}

// peek returns the next byte, 0 at the end, which no caller looks for.
func (r *cborReader) peek() byte {
	if r.i >= len(r.b) {
		return 0
	}
	return r.b[r.i]
}

// null reads null or undefined, if it is next.
func (r *cborReader) null() bool {
	if c := r.peek(); c == 0xf6 || c == 0xf7 {
		r.i++
		return true
	}
	return false
}

// stop reads a break, if it is next.
func (r *cborReader) stop() bool {
	if r.i < len(r.b) && r.b[r.i] == 0xff {
		r.i++
		return true
	}
	return false
}

// chunks reads a byte or text string, of one piece or several.
func (r *cborReader) chunks(want byte) ([]byte, error) {
	major, _, n, err := r.head()
	if err != nil {
		return nil, err
	}
	if major != want {
		return nil, errSerialization("Unexpected field type")
	}
	if n != indefinite {
		return r.take(n)
	}
	out := []byte{}
	for !r.stop() {
		major, _, n, err := r.head()
		if err != nil || major != want || n == indefinite {
			return nil, errCBOR()
		}
		piece, err := r.take(n)
		if err != nil {
			return nil, err
		}
		out = append(out, piece...)
	}
	return out, nil
}

func (r *cborReader) take(n uint64) ([]byte, error) {
	if n > uint64(len(r.b)-r.i) {
		return nil, errCBOR()
	}
	b := r.b[r.i : r.i+int(n)]
	r.i += int(n)
	return b, nil
}

func (r *cborReader) text() (string, error) {
	b, err := r.chunks(cborText)
	if err == nil && !utf8.Valid(b) {
		return "", errCBOR()
	}
	return string(b), err
}

// items calls item for each element of an array or each entry of a map.
func (r *cborReader) items(want byte, item func() error) error {
	major, _, n, err := r.head()
	if err != nil {
		return err
	}
	if major != want {
		return errSerialization("Unexpected field type")
	}
	if r.depth++; r.depth > maxDepth {
		return errDepth()
	}
	defer func() { r.depth-- }()
	for i := uint64(0); i < n; i++ {
		if n == indefinite && r.stop() {
			return nil
		}
		if r.i >= len(r.b) {
			return errCBOR()
		}
		if err := item(); err != nil {
			return err
		}
	}
	return nil
}

// skip passes over an item.
func (r *cborReader) skip() error {
	c := r.peek()
	switch c >> 5 {
	case cborBytes, cborText:
		_, err := r.chunks(c >> 5)
		return err
	case cborArray:
		return r.items(cborArray, r.skip)
	case cborMap:
		return r.items(cborMap, func() error {
			if err := r.skip(); err != nil {
				return err
			}
			return r.skip()
		})
	}
	major, low, _, err := r.head()
	switch {
	case err != nil:
		return err
	case major == cborSimple && low == 31:
		return errCBOR()
	case major == cborTag:
		if r.depth++; r.depth > maxDepth {
			return errDepth()
		}
		defer func() { r.depth-- }()
		return r.skip()
	}
	return nil
}

// number is what a CBOR number was: whole, or a float.
type number struct {
	whole bool
	n     int64
	f     float64
}

func (r *cborReader) number() (number, error) {
	major, low, arg, err := r.head()
	if err != nil {
		return number{}, err
	}
	switch {
	case major == cborUint && arg <= math.MaxInt64:
		return number{true, int64(arg), float64(arg)}, nil
	case major == cborNegative && arg <= math.MaxInt64:
		return number{true, -1 - int64(arg), -1 - float64(arg)}, nil
	case major == cborUint:
		return number{f: float64(arg)}, nil
	case major == cborNegative:
		return number{f: -1 - float64(arg)}, nil
	case major == cborSimple && low == 25:
		return number{f: halfFloat(uint16(arg))}, nil
	case major == cborSimple && low == 26:
		return number{f: float64(math.Float32frombits(uint32(arg)))}, nil
	case major == cborSimple && low == 27:
		return number{f: math.Float64frombits(arg)}, nil
	}
	return number{}, errSerialization("Unexpected field type")
}

// halfFloat converts a 16-bit float.
func halfFloat(h uint16) float64 {
	exp, frac := int(h>>10&31), float64(h&1023)
	var f float64
	switch exp {
	case 0:
		f = math.Ldexp(frac, -24)
	case 31:
		f = math.Inf(1)
		if frac != 0 {
			f = math.NaN()
		}
	default:
		f = math.Ldexp(1024+frac, exp-25)
	}
	if h>>15 == 1 {
		return -f
	}
	return f
}

// time reads a timestamp: tag 1 with seconds, or a plain number.
func (r *cborReader) time() (time.Time, error) {
	tagged := false
	if r.peek()>>5 == cborTag {
		_, _, tag, err := r.head()
		if err != nil {
			return time.Time{}, err
		}
		if tag != 1 {
			return time.Time{}, errCBOR()
		}
		tagged = true
	}
	n, err := r.number()
	if err != nil {
		return time.Time{}, err
	}
	if r.milliTimes && n.whole {
		n.f /= 1000
	}
	_ = tagged
	t, ok := epochTime(n.f)
	if !ok {
		return t, errSerialization("The timestamp is not valid")
	}
	return t, nil
}

// decodeCBOR fills v, which is addressable, with the next item.
func (p *plan) decodeCBOR(r *cborReader, v reflect.Value) error {
	switch p.kind {
	case Structure, Union:
		return p.decodeCBORStruct(r, target(v))
	case List:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		return r.items(cborArray, func() error {
			if r.null() {
				return nil
			}
			if err := r.budget.charge(p.elem.typ.Size()); err != nil {
				return err
			}
			n := v.Len()
			v.Grow(1)
			v.SetLen(n + 1)
			return p.elem.decodeCBOR(r, v.Index(n))
		})
	case Map:
		v.Set(reflect.MakeMap(v.Type()))
		return r.items(cborMap, func() error {
			key, err := r.text()
			if err != nil || r.null() {
				return err
			}
			if err := r.budget.charge(p.elem.typ.Size()); err != nil {
				return err
			}
			value := reflect.New(v.Type().Elem()).Elem()
			if err := p.elem.decodeCBOR(r, value); err != nil {
				return err
			}
			v.SetMapIndex(reflect.ValueOf(key), value)
			return nil
		})
	}
	return p.decodeCBORScalar(r, v)
}

func (p *plan) decodeCBORStruct(r *cborReader, v reflect.Value) error {
	return r.items(cborMap, func() error {
		name, err := r.text()
		if err != nil {
			return err
		}
		f := p.byName[name]
		switch {
		case f == nil:
			return r.skip()
		case r.null():
			return nil
		}
		return f.decodeCBOR(r, v.Field(f.index))
	})
}

func (p *plan) decodeCBORScalar(r *cborReader, v reflect.Value) error {
	switch p.kind {
	case String:
		s, err := r.text()
		if err != nil {
			return err
		}
		setString(v, s)
	case Integer, Long:
		n, err := r.number()
		if err != nil {
			return err
		}
		if !n.whole && n.f == math.Trunc(n.f) && math.Abs(n.f) < 1<<63 {
			n.whole, n.n = true, int64(n.f)
		}
		if !n.whole || !inRange(p.kind, n.n) {
			return errSerialization("DECIMAL_VALUE cannot be converted to " + kindName(p.kind))
		}
		setInt(v, n.n)
	case Float, Double:
		n, err := r.number()
		if err != nil {
			return err
		}
		setFloat(v, n.f)
	case Boolean:
		switch r.peek() {
		case 0xf4, 0xf5:
			setBool(v, r.peek() == 0xf5)
			r.i++
		default:
			return errSerialization("Unexpected field type")
		}
	case Timestamp:
		t, err := r.time()
		if err != nil {
			return err
		}
		setTime(v, t)
	case Blob:
		b, err := r.chunks(cborBytes)
		if err != nil {
			return err
		}
		v.SetBytes(append([]byte{}, b...))
	default:
		return errSerialization("Unexpected field type")
	}
	return nil
}
