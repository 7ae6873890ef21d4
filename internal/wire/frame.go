package wire

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"time"
)

// Header is a header of an event stream's frame. Value is a bool, int8, int16,
// int32, int64, []byte, string, time.Time or a 16-byte array (a UUID).
type Header struct {
	Name  string
	Value any
}

// Frame is a message of an event stream (application/vnd.amazon.eventstream).
type Frame struct {
	Headers []Header
	Payload []byte
}

// The limits of a frame, in bytes.
const (
	maxFrame        = 24 << 20
	maxFrameHeaders = 128 << 10
	framePrelude    = 12
)

var errFrame = errors.New("wire: malformed event stream frame")

// Text returns a header that is a string, or "".
func (f *Frame) Text(name string) string {
	for _, h := range f.Headers {
		if h.Name == name {
			s, _ := h.Value.(string)
			return s
		}
	}
	return ""
}

// AppendFrame appends a frame in its wire form.
func AppendFrame(b []byte, f Frame) []byte {
	start := len(b)
	b = append(b, make([]byte, framePrelude)...)
	for _, h := range f.Headers {
		b = appendFrameHeader(b, h)
	}
	headers := len(b) - start - framePrelude
	b = append(b, f.Payload...)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start+4))
	binary.BigEndian.PutUint32(b[start+4:], uint32(headers))
	binary.BigEndian.PutUint32(b[start+8:], crc32.ChecksumIEEE(b[start:start+8]))
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b[start:]))
}

func appendFrameHeader(b []byte, h Header) []byte {
	b = append(append(b, byte(len(h.Name))), h.Name...)
	switch v := h.Value.(type) {
	case bool:
		if v {
			return append(b, 0)
		}
		return append(b, 1)
	case int8:
		return append(b, 2, byte(v))
	case int16:
		return binary.BigEndian.AppendUint16(append(b, 3), uint16(v))
	case int32:
		return binary.BigEndian.AppendUint32(append(b, 4), uint32(v))
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 5), uint64(v))
	case []byte:
		return append(binary.BigEndian.AppendUint16(append(b, 6), uint16(len(v))), v...)
	case string:
		return append(binary.BigEndian.AppendUint16(append(b, 7), uint16(len(v))), v...)
	case time.Time:
		return binary.BigEndian.AppendUint64(append(b, 8), uint64(v.UnixMilli()))
	case [16]byte:
		return append(append(b, 9), v[:]...)
	}
	return append(b, 0)
}

// ReadFrame reads a frame and checks its sums. At the end of the stream it
// returns io.EOF.
func ReadFrame(r io.Reader) (Frame, error) {
	var prelude [framePrelude]byte
	if _, err := io.ReadFull(r, prelude[:]); err != nil {
		return Frame{}, err
	}
	total := binary.BigEndian.Uint32(prelude[:])
	headers := binary.BigEndian.Uint32(prelude[4:])
	if binary.BigEndian.Uint32(prelude[8:]) != crc32.ChecksumIEEE(prelude[:8]) ||
		total < framePrelude+4 || total > maxFrame || headers > maxFrameHeaders || headers > total-framePrelude-4 {
		return Frame{}, errFrame
	}
	rest := make([]byte, total-framePrelude)
	if _, err := io.ReadFull(r, rest); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Frame{}, err
	}
	body := rest[:len(rest)-4]
	sum := crc32.Update(crc32.ChecksumIEEE(prelude[:]), crc32.IEEETable, body)
	if binary.BigEndian.Uint32(rest[len(rest)-4:]) != sum {
		return Frame{}, errFrame
	}
	list, err := parseFrameHeaders(body[:headers])
	return Frame{Headers: list, Payload: body[headers:]}, err
}

func parseFrameHeaders(b []byte) ([]Header, error) {
	var list []Header
	for len(b) > 0 {
		n := int(b[0])
		if len(b) < n+2 {
			return nil, errFrame
		}
		h := Header{Name: string(b[1 : n+1])}
		kind := b[n+1]
		var ok bool
		if h.Value, b, ok = parseFrameValue(kind, b[n+2:]); !ok {
			return nil, errFrame
		}
		list = append(list, h)
	}
	return list, nil
}

// frameValueSize is the size of a header's value by its type; -1 for those that
// say their length.
var frameValueSize = [...]int{0, 0, 1, 2, 4, 8, -1, -1, 8, 16}

func parseFrameValue(kind byte, b []byte) (v any, rest []byte, ok bool) {
	if int(kind) >= len(frameValueSize) {
		return nil, nil, false
	}
	size := frameValueSize[kind]
	if size < 0 {
		if len(b) < 2 {
			return nil, nil, false
		}
		size = int(binary.BigEndian.Uint16(b))
		b = b[2:]
	}
	if len(b) < size {
		return nil, nil, false
	}
	raw := b[:size]
	switch kind {
	case 0, 1:
		v = kind == 0
	case 2:
		v = int8(raw[0])
	case 3:
		v = int16(binary.BigEndian.Uint16(raw))
	case 4:
		v = int32(binary.BigEndian.Uint32(raw))
	case 5:
		v = int64(binary.BigEndian.Uint64(raw))
	case 6:
		v = append([]byte{}, raw...)
	case 7:
		v = string(raw)
	case 8:
		v = time.UnixMilli(int64(binary.BigEndian.Uint64(raw))).UTC()
	case 9:
		v = [16]byte(raw)
	}
	return v, b[size:], true
}
