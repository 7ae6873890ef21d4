package wire_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"time"

	"skerry/internal/wire"
)

// fill puts a value of a test case into v.
func fill(svc *wire.Service, shape uint16, v reflect.Value, in any) {
	s := &svc.Shapes[shape]
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch s.Kind {
	case wire.Structure, wire.Union:
		object, _ := in.(map[string]any)
		for i, m := range s.Members {
			if value, ok := object[m.Name]; ok && value != nil {
				fill(svc, m.Shape, v.Field(i), value)
			}
		}
	case wire.List:
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		for _, e := range in.([]any) {
			if e == nil {
				continue
			}
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			fill(svc, s.Members[0].Shape, v.Index(v.Len()-1), e)
		}
	case wire.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for k, e := range in.(map[string]any) {
			if e == nil {
				continue
			}
			value := reflect.New(v.Type().Elem()).Elem()
			fill(svc, s.Members[1].Shape, value, e)
			v.SetMapIndex(reflect.ValueOf(k), value)
		}
	default:
		fillScalar(s.Kind, v, in)
	}
}

func fillScalar(kind wire.Kind, v reflect.Value, in any) {
	switch kind {
	case wire.String:
		text, ok := in.(string)
		if !ok {
			b, _ := json.Marshal(in)
			text = string(b)
		}
		v.SetString(text)
	case wire.Integer, wire.Long:
		n, err := in.(json.Number).Int64()
		if err != nil {
			panic(err)
		}
		v.SetInt(n)
	case wire.Float, wire.Double:
		v.SetFloat(caseFloat(in))
	case wire.Boolean:
		v.SetBool(in.(bool))
	case wire.Timestamp:
		f := caseFloat(in)
		v.Set(reflect.ValueOf(time.UnixMilli(int64(math.Round(f * 1000))).UTC()))
	case wire.Blob:
		v.SetBytes([]byte(in.(string)))
	case wire.Document:
		b, _ := json.Marshal(in)
		v.SetBytes(b)
	}
}

func caseFloat(in any) float64 {
	switch v := in.(type) {
	case json.Number:
		f, _ := v.Float64()
		return f
	case string:
		switch v {
		case "NaN":
			return math.NaN()
		case "Infinity":
			return math.Inf(1)
		case "-Infinity":
			return math.Inf(-1)
		}
	}
	panic(fmt.Sprintf("%v is no number", in))
}

// show turns a value into leaves by path; showCase does the same to a value of
// a test case.
func show(svc *wire.Service, shape uint16, v reflect.Value) map[string]string {
	out := map[string]string{}
	showValue(svc, shape, v, "", out)
	return out
}

func showValue(svc *wire.Service, shape uint16, v reflect.Value, path string, out map[string]string) {
	s := &svc.Shapes[shape]
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		if v.IsNil() {
			return
		}
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	switch s.Kind {
	case wire.Structure, wire.Union:
		out[path] = "{}"
		for i, m := range s.Members {
			showValue(svc, m.Shape, v.Field(i), path+"/"+m.Name, out)
		}
	case wire.List:
		out[path] = "[]"
		for i := range v.Len() {
			showValue(svc, s.Members[0].Shape, v.Index(i), fmt.Sprintf("%s/%d", path, i), out)
		}
	case wire.Map:
		out[path] = "{}"
		for _, k := range v.MapKeys() {
			showValue(svc, s.Members[1].Shape, v.MapIndex(k), path+"/"+k.String(), out)
		}
	case wire.Timestamp:
		out[path] = number(float64(v.Interface().(time.Time).UnixMilli()) / 1000)
	case wire.Float, wire.Double:
		out[path] = number(float64(float32(v.Float())))
	case wire.Blob:
		out[path] = string(v.Bytes())
	case wire.Document:
		var d any
		if err := json.Unmarshal(v.Bytes(), &d); err != nil {
			out[path] = err.Error()
			return
		}
		b, _ := json.Marshal(d)
		out[path] = string(b)
	default:
		out[path] = fmt.Sprint(v.Interface())
	}
}

// showCase fills a value of the same type and shows that.
func showCase(svc *wire.Service, shape uint16, typ reflect.Type, in any) map[string]string {
	v := reflect.New(typ).Elem()
	fill(svc, shape, v, in)
	return show(svc, shape, v)
}

// caseBody returns the bytes of a case's body, which is base64 in CBOR.
func caseBody(p wire.Protocol, body string) []byte {
	if p == wire.RPCV2CBOR {
		if b, err := base64.StdEncoding.DecodeString(body); err == nil {
			return b
		}
	}
	return []byte(body)
}
