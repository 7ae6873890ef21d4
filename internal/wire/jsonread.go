package wire

import (
	"strconv"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"
)

// maxDepth is how deep a body may nest. DynamoDB's own limit of 32 levels needs
// 64 of JSON.
const maxDepth = 128

// JSONReader reads a JSON text in memory, token by token.
type JSONReader struct {
	b     []byte
	i     int
	depth int
	buf   []byte // of strings with escapes
	// text is a small b, of which strings are parts: no allocation at all. Of a
	// large one they would keep too much alive.
	text  string
	plain bool // the last string read is b[from:to]
	from  int
	to    int

	spare []string // made together, to be pointed to one by one
	list  []string // the elements of the list that is read

	budget budget
}

// Charge takes the size of a list's element or a map's value, in bytes, off what
// the body may grow to. Hooks call it for each.
func (r *JSONReader) Charge(size uintptr) error { return r.budget.charge(size) }

// maxShared is the largest body of which strings are parts.
const maxShared = 32 << 10

// jsonReaders are readers that are free, with their buffers.
var jsonReaders = sync.Pool{New: func() any { return new(JSONReader) }}

// newJSONReader reads b, which nobody changes any more.
func newJSONReader(b []byte) *JSONReader {
	r := jsonReaders.Get().(*JSONReader)
	*r = JSONReader{b: b, budget: newBudget(len(b)), buf: r.buf, list: r.list}
	if len(b) <= maxShared {
		r.text = unsafe.String(unsafe.SliceData(b), len(b))
	}
	return r
}

// free gives the reader back. It holds on to nothing that it has read, and of its
// buffers to small ones only.
func (r *JSONReader) free() {
	list := r.list[:cap(r.list)]
	clear(list)
	*r = JSONReader{buf: r.buf[:0], list: list[:0]}
	if cap(r.buf)+cap(list)*int(unsafe.Sizeof("")) <= maxKept {
		jsonReaders.Put(r)
	}
}

func errJSONSyntax() error { return errSerialization("Unexpected token received from parser") }
func errJSONEnd() error    { return errSerialization("Unexpected end of input") }
func errDepth() error      { return errSerialization("The request body is nested too deeply") }

// Peek returns the first byte of the next token, 0 at the end.
func (r *JSONReader) Peek() byte {
	for r.i < len(r.b) {
		switch c := r.b[r.i]; c {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return c
		}
	}
	return 0
}

// Object reads an object and calls member for each name, which is valid until
// the next read. member reads the value, whatever it is but null: names with null are
// left out.
func (r *JSONReader) Object(member func(name []byte) error) error {
	if r.Peek() != '{' {
		return r.unexpected()
	}
	if err := r.enter(); err != nil {
		return err
	}
	if r.Peek() == '}' {
		r.leave()
		return nil
	}
	for {
		if r.Peek() != '"' {
			return errJSONSyntax()
		}
		name, err := r.StringBytes()
		if err != nil {
			return err
		}
		if r.Peek() != ':' {
			return errJSONSyntax()
		}
		r.i++
		if r.Peek() == 'n' {
			if err := r.word("null"); err != nil {
				return err
			}
		} else if err := member(name); err != nil {
			return err
		}
		switch r.Peek() {
		case ',':
			r.i++
		case '}':
			r.leave()
			return nil
		default:
			return errJSONSyntax()
		}
	}
}

// Array reads an array and calls element for each value but null.
func (r *JSONReader) Array(element func() error) error {
	if r.Peek() != '[' {
		return r.unexpected()
	}
	if err := r.enter(); err != nil {
		return err
	}
	if r.Peek() == ']' {
		r.leave()
		return nil
	}
	for {
		if r.Peek() == 'n' {
			if err := r.word("null"); err != nil {
				return err
			}
		} else if err := element(); err != nil {
			return err
		}
		switch r.Peek() {
		case ',':
			r.i++
		case ']':
			r.leave()
			return nil
		default:
			return errJSONSyntax()
		}
	}
}

func (r *JSONReader) enter() error {
	r.i++
	r.depth++
	if r.depth > maxDepth {
		return errDepth()
	}
	return nil
}

// leave passes the end of an object or array. After an error nothing more is
// read, so the depth then does not matter.
func (r *JSONReader) leave() {
	r.i++
	r.depth--
}

func (r *JSONReader) word(w string) error {
	if len(r.b)-r.i < len(w) || string(r.b[r.i:r.i+len(w)]) != w {
		return errJSONSyntax()
	}
	r.i += len(w)
	return nil
}

// String reads a string.
func (r *JSONReader) String() (string, error) {
	b, err := r.StringBytes()
	if err != nil {
		return "", err
	}
	return r.last(b), nil
}

// Text reads a string and returns a pointer to it.
func (r *JSONReader) Text() (*string, error) {
	s, err := r.String()
	p := r.newString()
	*p = s
	return p, err
}

// newString returns a pointer to an empty string. Those of a small body are made
// several at once.
func (r *JSONReader) newString() *string {
	if len(r.spare) == 0 {
		if r.text == "" {
			return new(string)
		}
		r.spare = make([]string, 16)
	}
	p := &r.spare[0]
	r.spare = r.spare[1:]
	return p
}

// Strings reads a list of strings.
func (r *JSONReader) Strings() ([]string, error) {
	start := len(r.list)
	err := r.Array(func() error {
		s, err := r.String()
		r.list = append(r.list, s)
		return err
	})
	list := append(make([]string, 0, len(r.list)-start), r.list[start:]...)
	r.list = r.list[:start]
	return list, err
}

// Key returns the name that Object has just handed on as a string.
func (r *JSONReader) Key(name []byte) string { return r.last(name) }

// last returns b, the bytes of the last string read, as a string.
func (r *JSONReader) last(b []byte) string {
	if r.plain && r.text != "" {
		return r.text[r.from:r.to]
	}
	return string(b)
}

// StringBytes reads a string; the bytes are valid until the next call.
func (r *JSONReader) StringBytes() ([]byte, error) {
	if r.Peek() != '"' {
		return nil, r.mismatch("String")
	}
	start := r.i + 1
	i := start + plainLen(r.b[start:])
	if i == len(r.b) {
		return nil, errJSONEnd()
	}
	if r.b[i] != '"' {
		return r.slowString(start, i)
	}
	r.i = i + 1
	r.plain, r.from, r.to = true, start, i
	return r.b[start:i], nil
}

// slowString reads on from i a string that has escapes or is not ASCII.
func (r *JSONReader) slowString(start, i int) ([]byte, error) {
	r.plain = false
	r.buf = append(r.buf[:0], r.b[start:i]...)
	for i < len(r.b) {
		switch c := r.b[i]; {
		case c == '"':
			r.i = i + 1
			return r.buf, nil
		case c < ' ':
			return nil, errJSONSyntax()
		case c == '\\':
			n := r.escape(r.b[i+1:])
			if n == 0 {
				return nil, errJSONSyntax()
			}
			i += 1 + n
		case c < utf8.RuneSelf:
			n := plainLen(r.b[i:])
			r.buf = append(r.buf, r.b[i:i+n]...)
			i += n
		default:
			u, n := utf8.DecodeRune(r.b[i:])
			if u == utf8.RuneError && n == 1 {
				return nil, errJSONSyntax()
			}
			r.buf = append(r.buf, r.b[i:i+n]...)
			i += n
		}
	}
	return nil, errJSONEnd()
}

// escape appends what the escape after a backslash means, and returns its
// length, 0 if it is wrong.
func (r *JSONReader) escape(b []byte) int {
	if len(b) == 0 {
		return 0
	}
	switch c := b[0]; c {
	case '"', '\\', '/':
		r.buf = append(r.buf, c)
	case 'b':
		r.buf = append(r.buf, '\b')
	case 'f':
		r.buf = append(r.buf, '\f')
	case 'n':
		r.buf = append(r.buf, '\n')
	case 'r':
		r.buf = append(r.buf, '\r')
	case 't':
		r.buf = append(r.buf, '\t')
	case 'u':
		u, ok := hex4(b[1:])
		if !ok {
			return 0
		}
		if utf16.IsSurrogate(u) {
			if len(b) >= 11 && b[5] == '\\' && b[6] == 'u' {
				if low, ok := hex4(b[7:]); ok {
					if pair := utf16.DecodeRune(u, low); pair != utf8.RuneError {
						r.buf = utf8.AppendRune(r.buf, pair)
						return 11
					}
				}
			}
			u = utf8.RuneError
		}
		r.buf = utf8.AppendRune(r.buf, u)
		return 5
	default:
		return 0
	}
	return 1
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var u rune
	for _, c := range b[:4] {
		switch {
		case c >= '0' && c <= '9':
			u = u<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			u = u<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			u = u<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return u, true
}

// Number reads a number and returns its text.
func (r *JSONReader) Number() ([]byte, error) {
	c := r.Peek()
	if c != '-' && (c < '0' || c > '9') {
		return nil, r.mismatch("Number")
	}
	n := numberLen(r.b[r.i:])
	if n == 0 {
		return nil, errJSONSyntax()
	}
	text := r.b[r.i : r.i+n]
	r.i += n
	return text, nil
}

// numberLen returns the length of the number that b begins with, 0 if there is
// none.
func numberLen(b []byte) int {
	i := 0
	digits := func() bool {
		start := i
		for i < len(b) && b[i] >= '0' && b[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if !digits() {
		return 0
	}
	if i < len(b) && b[i] == '.' {
		i++
		if !digits() {
			return 0
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if !digits() {
			return 0
		}
	}
	return i
}

// Bool reads true or false.
func (r *JSONReader) Bool() (bool, error) {
	switch r.Peek() {
	case 't':
		return true, r.word("true")
	case 'f':
		return false, r.word("false")
	}
	return false, r.mismatch("Boolean")
}

// Blob reads a base64 string.
func (r *JSONReader) Blob() ([]byte, error) {
	if r.Peek() != '"' {
		return nil, r.mismatch("Blob")
	}
	s, err := r.StringBytes()
	if err != nil {
		return nil, err
	}
	b, ok := decodeBase64(s)
	if !ok {
		return nil, errSerialization("Invalid base64")
	}
	return b, nil
}

// Skip passes over a value of any type, and returns its text.
func (r *JSONReader) Skip() ([]byte, error) {
	c := r.Peek()
	start := r.i
	var err error
	switch c {
	case '{':
		err = r.Object(func([]byte) error { _, err := r.Skip(); return err })
	case '[':
		err = r.Array(func() error { _, err := r.Skip(); return err })
	case '"':
		_, err = r.StringBytes()
	case 't', 'f':
		_, err = r.Bool()
	case 'n':
		err = r.word("null")
	case 0:
		err = errJSONEnd()
	default:
		if n := numberLen(r.b[r.i:]); n > 0 {
			r.i += n
		} else {
			err = errJSONSyntax()
		}
	}
	return r.b[start:r.i], err
}

// End fails if anything but white space is left.
func (r *JSONReader) End() error {
	if r.Peek() != 0 || r.i < len(r.b) {
		return errJSONSyntax()
	}
	return nil
}

// mismatch is the fault of a value of another type than the model's.
func (r *JSONReader) mismatch(want string) error {
	switch c := r.Peek(); c {
	case '{':
		return errSerialization("Start of structure or map found where not expected")
	case '[':
		return errSerialization("Start of list found where not expected")
	case '"':
		return errSerialization("STRING_VALUE cannot be converted to " + want)
	case 't':
		return errSerialization("TRUE_VALUE cannot be converted to " + want)
	case 'f':
		return errSerialization("FALSE_VALUE cannot be converted to " + want)
	default:
		n := numberLen(r.b[r.i:])
		if n == 0 {
			return errJSONSyntax()
		}
		if _, err := strconv.ParseInt(string(r.b[r.i:r.i+n]), 10, 64); err != nil {
			return errSerialization("DECIMAL_VALUE cannot be converted to " + want)
		}
		return errSerialization("NUMBER_VALUE cannot be converted to " + want)
	}
}

// unexpected is the fault of something else where a list or a map stands.
func (r *JSONReader) unexpected() error {
	switch r.Peek() {
	case 0:
		return errJSONEnd()
	case '{':
		return errSerialization("Start of structure or map found where not expected")
	case '[':
		return errSerialization("Start of list found where not expected")
	case '"', 't', 'f', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		return errSerialization("Unexpected field type")
	}
	return errJSONSyntax()
}
