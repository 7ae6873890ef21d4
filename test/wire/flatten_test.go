package wire_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"skerry/internal/wire"
)

// flatten turns a body into leaves by path, so that bodies of one meaning are
// equal. It reads with other libraries than package wire does.
func flatten(contentType string, body []byte) (map[string]string, error) {
	out := map[string]string{}
	if len(bytes.TrimSpace(body)) == 0 {
		return out, nil
	}
	kind, _, _ := strings.Cut(contentType, ";")
	switch {
	case strings.Contains(kind, "json"):
		d := json.NewDecoder(bytes.NewReader(body))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			return nil, err
		}
		flattenValue(out, "", v)
	case strings.Contains(kind, "cbor"):
		var v any
		if err := cbor.Unmarshal(body, &v); err != nil {
			return nil, err
		}
		flattenValue(out, "", v)
	case strings.Contains(kind, "xml"):
		return out, flattenXML(out, body)
	case kind == "application/x-www-form-urlencoded":
		values, err := url.ParseQuery(string(body))
		if err != nil {
			return nil, err
		}
		for k, v := range values {
			out["/"+strings.ReplaceAll(k, ".", "/")] = strings.Join(v, ",")
		}
	default:
		out["/"] = string(body)
	}
	return out, nil
}

func flattenValue(out map[string]string, path string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			flattenValue(out, path+"/"+k, e)
		}
	case map[any]any:
		for k, e := range v {
			flattenValue(out, fmt.Sprintf("%s/%v", path, k), e)
		}
	case []any:
		if len(v) == 0 {
			out[path] = "[]"
		}
		for i, e := range v {
			flattenValue(out, path+"/"+strconv.Itoa(i), e)
		}
	case json.Number:
		f, _ := v.Float64()
		out[path] = number(f)
	case float64:
		out[path] = number(v)
	case float32:
		out[path] = number(float64(v))
	case uint64:
		out[path] = number(float64(v))
	case int64:
		out[path] = number(float64(v))
	case nil:
	default:
		out[path] = fmt.Sprint(v)
	}
}

func number(f float64) string {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return fmt.Sprint(f)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// element is an XML element, read to be compared.
type element struct {
	name     string
	attrs    map[string]string
	children []*element
	text     strings.Builder
	key      string // all that is in it
}

// flattenXML gives equal siblings numbers, in the order of their contents: maps
// have no order of their own.
func flattenXML(out map[string]string, body []byte) error {
	d := xml.NewDecoder(bytes.NewReader(body))
	root := &element{}
	stack := []*element{root}
	for {
		t, err := d.Token()
		if t == nil {
			if len(stack) > 1 || len(root.children) == 0 {
				return err
			}
			root.children[0].flatten(out, "/"+root.children[0].name)
			return nil
		}
		top := stack[len(stack)-1]
		switch t := t.(type) {
		case xml.StartElement:
			e := &element{name: t.Name.Local, attrs: map[string]string{}}
			for _, a := range t.Attr {
				ofAnswer := len(stack) == 1 && a.Name.Local == "xmlns" && strings.HasSuffix(e.name, "Response")
				if a.Name.Space != "xmlns" && !ofAnswer { // the cases do not agree with their models on those
					e.attrs[a.Name.Local] = a.Value
				}
			}
			top.children = append(top.children, e)
			stack = append(stack, e)
		case xml.CharData:
			top.text.Write(t)
		case xml.EndElement:
			top.key = top.text.String()
			for _, c := range top.children {
				top.key += c.name + c.key
			}
			stack = stack[:len(stack)-1]
		}
	}
}

func (e *element) flatten(out map[string]string, path string) {
	for name, value := range e.attrs {
		out[path+"/@"+name] = value
	}
	if len(e.children) == 0 {
		out[path] = strings.Trim(e.text.String(), "\n ")
	}
	slices.SortStableFunc(e.children, func(a, b *element) int { return strings.Compare(a.name+a.key, b.name+b.key) })
	seen := map[string]int{}
	for _, c := range e.children {
		at := path + "/" + c.name
		if n := seen[c.name]; n > 0 {
			at += "/" + strconv.Itoa(n)
		}
		seen[c.name]++
		c.flatten(out, at)
	}
}

// ignoredHeaders say nothing about members.
var ignoredHeaders = map[string]bool{
	"Content-Type": true, "Content-Length": true, "Accept": true, "X-Amz-Target": true, "X-Amzn-Requestid": true, "Smithy-Protocol": true,
	"X-Amzn-Query-Mode": true, "X-Amzn-Query-Error": true, "X-Amzn-Errortype": true, "Transfer-Encoding": true, "X-Amz-Content-Sha256": true,
	"X-Amz-Request-Id": true, "X-Amz-Id-2": true,
}

func flattenHead(out map[string]string, h http.Header, query string) {
	for name, values := range h {
		if !ignoredHeaders[http.CanonicalHeaderKey(name)] {
			out["header/"+http.CanonicalHeaderKey(name)] = strings.ReplaceAll(strings.Join(values, ","), ", ", ",")
		}
	}
	values, _ := url.ParseQuery(query)
	for name, v := range values {
		if name != "x-id" {
			out["query/"+name] = strings.Join(v, ",")
		}
	}
}

// excuse fails the test for members that the tables should know, and returns
// whether there were newer ones, which testdata/newer.txt lists.
func excuse(t *testing.T, svc *wire.Service, name string, shape uint16, missing []string) bool {
	t.Helper()
	bad := false
	for _, path := range missing {
		head, rest, _ := strings.Cut(path, "/")
		unknown := svc.Shapes[shape].Name + "." + rest
		if head == "" {
			unknown = firstUnknown(svc, shape, strings.Split(rest, "/"))
		}
		if !newer(t)[svc.ID+" "+unknown] {
			t.Errorf("%s: %s is lost (%s %s)", name, path, svc.ID, unknown)
			bad = true
		}
	}
	return len(missing) > 0 && !bad
}

// firstUnknown follows a path through the tables and returns the first member
// that is not there, as Shape.member.
func firstUnknown(svc *wire.Service, shape uint16, path []string) string {
	s := &svc.Shapes[shape]
	if len(path) == 0 {
		return s.Name + " itself"
	}
	_, err := strconv.Atoi(path[0])
	switch s.Kind {
	case wire.Structure, wire.Union:
		if err == nil {
			return firstUnknown(svc, shape, path[1:])
		}
		for i := range s.Members {
			m := &s.Members[i]
			if strings.EqualFold(m.WireName(), path[0]) || strings.EqualFold(m.Name, path[0]) || strings.EqualFold(m.Query, path[0]) {
				return firstUnknown(svc, m.Shape, path[1:])
			}
		}
		return s.Name + "." + path[0]
	case wire.List:
		for len(path) > 0 && (err == nil || path[0] == s.Members[0].WireName()) {
			path = path[1:]
			if len(path) > 0 {
				_, err = strconv.Atoi(path[0])
			}
		}
		return firstUnknown(svc, s.Members[0].Shape, path)
	case wire.Map:
		return firstUnknown(svc, s.Members[1].Shape, path[1:])
	}
	return s.Name + " itself"
}

// newer are the members that the SDK's modules have and the models do not yet.
func newer(t *testing.T) map[string]bool {
	t.Helper()
	b, err := os.ReadFile("testdata/newer.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out[line] = true
		}
	}
	return out
}
