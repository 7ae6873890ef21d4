package dynamodb

import "skerry/internal/wire"

// What a value and a blob of a set take up, in bytes.
const (
	valueSize = 160
	blobSize  = 24
)

// DecodeJSON implements wire.JSONHook: items are the hot path of the service.
func (v *AttributeValue) DecodeJSON(r *wire.JSONReader) error {
	return r.Object(func(name []byte) error {
		var err error
		switch string(name) {
		case "S":
			v.S, err = r.Text()
		case "N":
			v.N, err = r.Text()
		case "B":
			v.B, err = r.Blob()
		case "SS":
			v.SS, err = r.Strings()
		case "NS":
			v.NS, err = r.Strings()
		case "BS":
			v.BS = [][]byte{}
			err = r.Array(func() error {
				if err := r.Charge(blobSize); err != nil {
					return err
				}
				b, err := r.Blob()
				v.BS = append(v.BS, b)
				return err
			})
		case "M":
			v.M, err = values(r)
		case "L":
			v.L = []AttributeValue{}
			err = r.Array(func() error {
				if err := r.Charge(valueSize); err != nil {
					return err
				}
				v.L = append(v.L, AttributeValue{})
				return v.L[len(v.L)-1].DecodeJSON(r)
			})
		case "NULL":
			v.NULL, err = truth(r)
		case "BOOL":
			v.BOOL, err = truth(r)
		default:
			_, err = r.Skip()
		}
		return err
	})
}

// DecodeJSONMap implements wire.JSONMapHook.
func (*AttributeValue) DecodeJSONMap(r *wire.JSONReader) (any, error) { return values(r) }

func truth(r *wire.JSONReader) (*bool, error) {
	b, err := r.Bool()
	return &b, err
}

func values(r *wire.JSONReader) (map[string]AttributeValue, error) {
	m := map[string]AttributeValue{}
	var v AttributeValue
	err := r.Object(func(name []byte) error {
		if err := r.Charge(valueSize); err != nil {
			return err
		}
		key := r.Key(name)
		v = AttributeValue{}
		err := v.DecodeJSON(r)
		m[key] = v
		return err
	})
	return m, err
}

// AppendJSON implements wire.JSONHook.
func (v *AttributeValue) AppendJSON(b []byte) []byte {
	start := len(b) + 1
	b = append(b, '{')
	member := func(name string) {
		if len(b) > start {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), name...), '"', ':')
	}
	if v.S != nil {
		member("S")
		b = wire.AppendJSONString(b, *v.S)
	}
	if v.N != nil {
		member("N")
		b = wire.AppendJSONString(b, *v.N)
	}
	if v.B != nil {
		member("B")
		b = wire.AppendJSONBlob(b, v.B)
	}
	if v.SS != nil {
		member("SS")
		b = appendList(b, v.SS, wire.AppendJSONString)
	}
	if v.NS != nil {
		member("NS")
		b = appendList(b, v.NS, wire.AppendJSONString)
	}
	if v.BS != nil {
		member("BS")
		b = appendList(b, v.BS, wire.AppendJSONBlob)
	}
	if v.M != nil {
		member("M")
		b = append(b, '{')
		first := true
		for key, value := range v.M {
			if !first {
				b = append(b, ',')
			}
			first = false
			b = append(wire.AppendJSONString(b, key), ':')
			b = value.AppendJSON(b)
		}
		b = append(b, '}')
	}
	if v.L != nil {
		member("L")
		b = append(b, '[')
		for i := range v.L {
			if i > 0 {
				b = append(b, ',')
			}
			b = v.L[i].AppendJSON(b)
		}
		b = append(b, ']')
	}
	if v.NULL != nil {
		member("NULL")
		b = appendBool(b, *v.NULL)
	}
	if v.BOOL != nil {
		member("BOOL")
		b = appendBool(b, *v.BOOL)
	}
	return append(b, '}')
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
