package gatewaytest

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strings"
	"time"

	"skerry/internal/wire"
)

// filler makes inputs that hold what is required and pass the model's checks.
type filler struct {
	api       *wire.Service
	operation string
	values    map[string]string
}

const maxNesting = 10

// input returns a pointer to a filled input struct.
func (f filler) input(op *wire.Operation) (any, error) {
	in := op.NewInput()
	if err := f.structure(op.Input, reflect.ValueOf(in).Elem(), maxNesting); err != nil {
		return nil, err
	}
	return in, nil
}

// structure fills the required members, those on the path, those for which a
// value is given, and of a union the first.
func (f filler) structure(index uint16, v reflect.Value, depth int) error {
	shape := &f.api.Shapes[index]
	for i := range shape.Members {
		m := &shape.Members[i]
		_, given := f.given(m.Name)
		if m.Is&wire.Required == 0 && m.In != wire.InLabel && !given && shape.Kind != wire.Union {
			continue
		}
		field := v.FieldByName(exported(m.Name))
		if !field.IsValid() {
			return fmt.Errorf("%s has no field for %s", v.Type(), m.Name)
		}
		if err := f.value(m.Shape, m.Name, field, depth); err != nil {
			return fmt.Errorf("%s: %w", m.Name, err)
		}
		if shape.Kind == wire.Union {
			break
		}
	}
	return nil
}

func (f filler) given(name string) (string, bool) {
	if v, ok := f.values[f.operation+"."+name]; ok {
		return v, true
	}
	v, ok := f.values[name]
	return v, ok
}

func (f filler) value(index uint16, name string, v reflect.Value, depth int) error {
	if depth == 0 {
		return fmt.Errorf("nested too deep")
	}
	shape := &f.api.Shapes[index]
	switch v.Type() {
	case reflect.TypeFor[io.Reader](), reflect.TypeFor[io.ReadCloser]():
		v.Set(reflect.ValueOf(io.NopCloser(strings.NewReader("content"))))
		return nil
	case reflect.TypeFor[[]byte]():
		v.SetBytes([]byte("content"))
		return nil
	case reflect.TypeFor[json.RawMessage]():
		v.Set(reflect.ValueOf(json.RawMessage("{}")))
		return nil
	case reflect.TypeFor[*time.Time]():
		v.Set(reflect.ValueOf(wire.Ptr(time.Unix(1_700_000_000, 0))))
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return f.value(index, name, v.Elem(), depth)
	case reflect.Struct:
		return f.structure(index, v, depth-1)
	case reflect.Slice:
		n := max(1, least(shape))
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			if err := f.value(shape.Members[0].Shape, shape.Members[0].Name, v.Index(i), depth-1); err != nil {
				return err
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		if err := f.value(shape.Members[0].Shape, "", key, depth-1); err != nil {
			return err
		}
		if err := f.value(shape.Members[1].Shape, "", value, depth-1); err != nil {
			return err
		}
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString(f.text(shape, name))
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(max(1, least(shape))))
	case reflect.Float64:
		v.SetFloat(float64(max(1, least(shape))))
	}
	return nil
}

func least(s *wire.Shape) int {
	if s.Limits != nil && s.Limits.HasMin {
		return int(s.Limits.Min)
	}
	return 0
}

// samples are texts of which one fits nearly every pattern.
var samples = []string{
	"test", "1", "123456789012", "2012-10-17", "a@example.com", "https://example.com", "s3.amazonaws.com", "/test/", "$LATEST",
	"lambda:InvokeFunction", "arn:aws:iam::123456789012:role/test", "arn:aws:iam::123456789012:saml-provider/test",
	"arn:aws:lambda:us-east-1:123456789012:function:test", "arn:aws:logs:us-east-1:123456789012:log-group:test",
	"arn:aws:lambda:us-east-1:123456789012:layer:test", "arn:aws:lambda:us-east-1:123456789012:code-signing-config:csc-0123456789abcdef0",
	"arn:aws:kinesis:us-east-1:123456789012:stream/test", "arn:aws:kinesis:us-east-1:123456789012:stream/test/consumer/test:1",
	"arn:aws:lambda:us-east-1:123456789012:layer:test:1", "v1", "arn:aws:s3:::test", "12345678-1234-1234-1234-123456789012", "AKIAEXAMPLEEXAMPLE12", "{}", "000000",
	"0123456789abcdef0123456789abcdef01234567", strings.Repeat("0123456789abcdef", 4), strings.Repeat("test", 30),
	"cron(0 12 * * ? *)", "csc-0123456789abcdef0", "test.fifo", "key:value",
}

// text returns a value for a string.
func (f filler) text(s *wire.Shape, name string) string {
	if v, ok := f.given(name); ok {
		return v
	}
	if len(s.Enum) > 0 {
		return s.Enum[0]
	}
	pattern, err := regexp.Compile("^(?:" + s.Pattern + ")$")
	for _, text := range samples {
		if len(text) < least(s) || s.Limits != nil && s.Limits.HasMax && int64(len(text)) > s.Limits.Max {
			continue
		}
		if s.Pattern == "" || err == nil && pattern.MatchString(text) {
			return text
		}
	}
	return strings.Repeat("a", max(1, least(s)))
}
