package wire

import (
	"encoding/base64"
	"errors"
	"io"
	"math"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// The setters write into a member (a pointer that is made) or into an element
// of a list or map (the value itself). v is addressable.

func setString(v reflect.Value, s string) {
	if v.Kind() == reflect.Pointer {
		*v.Addr().Interface().(**string) = &s
		return
	}
	v.SetString(s)
}

func setInt(v reflect.Value, n int64) {
	switch p := v.Addr().Interface().(type) {
	case **int32:
		n := int32(n)
		*p = &n
	case **int64:
		*p = &n
	default:
		v.SetInt(n)
	}
}

func setFloat(v reflect.Value, n float64) {
	if v.Kind() == reflect.Pointer {
		*v.Addr().Interface().(**float64) = &n
		return
	}
	v.SetFloat(n)
}

func setBool(v reflect.Value, b bool) {
	if v.Kind() == reflect.Pointer {
		*v.Addr().Interface().(**bool) = &b
		return
	}
	v.SetBool(b)
}

func setTime(v reflect.Value, t time.Time) {
	switch p := v.Addr().Interface().(type) {
	case **time.Time:
		*p = &t
	case *time.Time:
		*p = t
	}
}

// target returns what v holds, made if v is a nil pointer.
func target(v reflect.Value) reflect.Value {
	if v.Kind() != reflect.Pointer {
		return v
	}
	if v.IsNil() {
		v.Set(reflect.New(v.Type().Elem()))
	}
	return v.Elem()
}

// present returns what v holds, and false if it is absent.
func present(v reflect.Value) (reflect.Value, bool) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return v, false
		}
		return v.Elem(), true
	case reflect.Slice, reflect.Map, reflect.Interface, reflect.Func:
		return v, !v.IsNil()
	}
	return v, true
}

// timeOf returns the time that v holds, without a copy where it can.
func timeOf(v reflect.Value) time.Time {
	if v.CanAddr() {
		return *v.Addr().Interface().(*time.Time)
	}
	return v.Interface().(time.Time)
}

// inRange says whether n fits the shape's kind.
func inRange(k Kind, n int64) bool {
	return k == Long || n >= math.MinInt32 && n <= math.MaxInt32
}

// parseInt reads a whole number; 3.0 and 3e2 are whole too.
func parseInt(s string) (int64, bool) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<63 || strings.ContainsAny(s, "xXpP_nN") {
		return 0, false
	}
	return int64(f), true
}

// parseFloat reads a number, NaN, Infinity or -Infinity.
func parseFloat(s string) (float64, bool) {
	switch s {
	case "NaN":
		return math.NaN(), true
	case "Infinity":
		return math.Inf(1), true
	case "-Infinity":
		return math.Inf(-1), true
	}
	if s == "" || strings.ContainsAny(s, "xXpP_nN") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// appendFloat writes a number as JSON does, with words for what JSON lacks.
func appendFloat(b []byte, f float64) []byte {
	switch {
	case math.IsNaN(f):
		return append(b, "NaN"...)
	case math.IsInf(f, 1):
		return append(b, "Infinity"...)
	case math.IsInf(f, -1):
		return append(b, "-Infinity"...)
	case f == math.Trunc(f) && math.Abs(f) < 1e15:
		return append(strconv.AppendInt(b, int64(f), 10), ".0"...)
	}
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.AppendFloat(b, f, 'E', -1, 64)
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

// maxEpoch is the last second of the year 9999.
const maxEpoch = 253402300799

// epochTime makes a time of seconds with milliseconds, within the years that
// dates can be written in.
func epochTime(seconds float64) (time.Time, bool) {
	if math.IsNaN(seconds) || seconds < -62135596800 || seconds > maxEpoch+1 {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), true
}

// parseTime reads a timestamp in any of the forms, whichever it is meant to
// be in: clients disagree.
func parseTime(s string) (time.Time, bool) {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 64 {
		return time.Time{}, false
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999Z0700", "2006-01-02 15:04:05", "2006-01-02", "20060102T150405Z"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	if f, ok := parseFloat(s); ok {
		return epochTime(f)
	}
	if t, err := http.ParseTime(s); err == nil {
		return t.UTC(), true
	}
	for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05.999999999 GMT", "Mon, 2 Jan 2006 15:04:05 GMT", time.RFC1123Z} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}

// timeFormat returns how a member's timestamp is written, where unset is the
// format of the place.
func timeFormat(f *field, unset TimeFormat) TimeFormat {
	if f.member.Time != DefaultTime {
		return f.member.Time
	}
	if f.shape.Time != DefaultTime {
		return f.shape.Time
	}
	return unset
}

// appendTime writes a timestamp. Fractions are written to the millisecond, and
// only if there are any; millis writes them always.
func appendTime(b []byte, t time.Time, format TimeFormat, millis bool) []byte {
	t = t.UTC()
	switch format {
	case EpochSeconds:
		ms := t.UnixMilli()
		if ms%1000 == 0 {
			return strconv.AppendInt(b, ms/1000, 10)
		}
		return strconv.AppendFloat(b, float64(ms)/1000, 'f', -1, 64)
	case HTTPDate:
		return t.AppendFormat(b, http.TimeFormat)
	}
	if millis || t.Nanosecond() >= int(time.Millisecond) {
		return t.AppendFormat(b, "2006-01-02T15:04:05.000Z")
	}
	return t.AppendFormat(b, "2006-01-02T15:04:05Z")
}

// decodeBase64 reads standard base64, with its padding.
func decodeBase64[T string | []byte](s T) ([]byte, bool) {
	b := make([]byte, base64.StdEncoding.DecodedLen(len(s)))
	n, err := base64.StdEncoding.Decode(b, []byte(s))
	return b[:n], err == nil
}
