package wire

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
)

func started(err error) error { return errors.Join(ErrStarted, err) }

func (rc rest) encodeResponse(c *Call, p *plan, out reflect.Value, w http.ResponseWriter, requestID string) error {
	rc.requestID(c, w, requestID)
	status := c.Operation.Status
	if status == 0 {
		status = http.StatusOK
	}
	for _, f := range p.bound {
		v, ok := present(out.Field(f.index))
		switch {
		case !ok:
		case f.member.In == InStatus:
			status = int(v.Int())
		case f.member.In == InHeader || f.member.In == InPrefixHeaders:
			f.writeHeader(w.Header(), v)
		}
	}
	if status == http.StatusOK && len(w.Header()["Content-Range"]) > 0 {
		status = http.StatusPartialContent
	}
	if status < 200 || status > 599 {
		return fmt.Errorf("wire: %s answers with status %d", c.Operation.Name, status)
	}
	switch {
	case p.stream != nil:
		return c.sendEvents(p, out, w)
	case p.payload != nil && p.payload.streaming():
		return c.sendStream(p.payload, out.Field(p.payload.index), w, status)
	}
	contentType, body := rc.body(c, p, out)
	if c.isHead() {
		return sendHead(w, status, contentType)
	}
	return send(w, status, contentType, body)
}

func (c *Call) isHead() bool { return c.request != nil && c.request.Method == http.MethodHead }

// sendHead writes an answer to HEAD, which has the headers of the body but no
// body.
func sendHead(w http.ResponseWriter, status int, contentType string) error {
	if h := w.Header(); contentType != "" && len(h["Content-Type"]) == 0 {
		h["Content-Type"] = []string{contentType}
	}
	w.WriteHeader(status)
	return nil
}

// requestID sets the headers that identify the answer. S3 has its own.
func (rc rest) requestID(c *Call, w http.ResponseWriter, id string) {
	if c.Service != nil && c.Service.NoErrorWrapping {
		w.Header()["x-amz-request-id"] = []string{id}
		w.Header()["x-amz-id-2"] = []string{hostID(id)}
		return
	}
	w.Header()["X-Amzn-Requestid"] = []string{id}
}

// hostID is S3's second id of a request.
func hostID(requestID string) string {
	return base64.StdEncoding.EncodeToString([]byte(requestID))
}

// body returns the content type and the bytes of an answer's body.
func (rc rest) body(c *Call, p *plan, out reflect.Value) (string, []byte) {
	if p.payload == nil {
		switch {
		case len(p.body) == 0:
			return "", nil
		case rc.json:
			return "application/json", p.appendJSONStruct(make([]byte, 0, 512), addr(out))
		}
		root := c.Operation.OutputRoot
		if root == "" {
			root = p.shape.Name
		}
		if c.Operation.Unwrapped {
			return "application/xml", c.unwrapped(p, out, root)
		}
		return "application/xml", c.appendXMLDocument(p, out, root, c.Service.XMLNamespace)
	}
	f := p.payload
	v, ok := present(out.Field(f.index))
	if !ok {
		if f.kind == Structure && rc.json {
			return "application/json", []byte("{}")
		}
		return "", nil
	}
	switch f.kind {
	case Blob:
		return "application/octet-stream", v.Bytes()
	case String:
		return "text/plain", []byte(v.String())
	case Document:
		return "application/json", v.Bytes()
	}
	if rc.json {
		return "application/json", f.appendJSONValue(make([]byte, 0, 512), v, f)
	}
	namespace := c.Service.XMLNamespace
	if ns := f.member.XMLNS; ns != nil && ns.Prefix == "" {
		namespace = ns.URI
	}
	return "application/xml", c.appendXMLDocument(f.plan, v, f.wire, namespace)
}

func (c *Call) appendXMLDocument(p *plan, v reflect.Value, root, namespace string) []byte {
	x := xmlWriter{b: append(make([]byte, 0, 1024), xmlHead...), millis: c.Service.NoErrorWrapping}
	x.document(p, v, root, namespace)
	return x.b
}

// unwrapped writes an answer whose only member is the root element itself.
func (c *Call) unwrapped(p *plan, out reflect.Value, root string) []byte {
	x := xmlWriter{b: append(make([]byte, 0, 256), xmlHead...)}
	f := p.body[0]
	v, ok := present(out.Field(f.index))
	x.open(root, c.Service.XMLNamespace)
	if ok {
		x.text(f, v)
	}
	x.close(root)
	return x.b
}

// writeHeader writes a member into headers, with the letter case of the model.
func (f *field) writeHeader(h http.Header, v reflect.Value) {
	switch {
	case f.member.In == InPrefixHeaders:
		for _, key := range sortedKeys(v) {
			h[f.wire+key] = []string{headerText(v.MapIndex(reflect.ValueOf(key)).String())}
		}
	case f.kind == List:
		var list []string
		for i := range v.Len() {
			text := f.elem.headerValue(v.Index(i))
			if f.elem.kind == String && strings.ContainsAny(text, `",`) {
				text = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
			}
			list = append(list, text)
		}
		if len(list) > 0 {
			h[headerName(f.wire)] = []string{strings.Join(list, ", ")}
		}
	default:
		if text := f.headerValue(v); text != "" || f.kind == String {
			h[headerName(f.wire)] = []string{text}
		}
	}
}

// headerName leaves the case of a name alone, but for those that net/http
// itself looks for.
func headerName(name string) string {
	switch k := http.CanonicalHeaderKey(name); k {
	case "Content-Type", "Content-Length", "Content-Encoding", "Content-Range", "Date", "Connection", "Trailer":
		return k
	}
	return name
}

func (f *field) headerValue(v reflect.Value) string {
	if f.kind == String && f.is(JSONValue) {
		return base64.StdEncoding.EncodeToString([]byte(v.String()))
	}
	return headerText(f.text(v, HTTPDate))
}

// headerText removes what could end a header.
func headerText(s string) string {
	if !strings.ContainsAny(s, "\r\n\x00") {
		return s
	}
	return strings.NewReplacer("\r", " ", "\n", " ", "\x00", "").Replace(s)
}

// text returns a scalar as text, for places other than JSON and CBOR.
func (f *field) text(v reflect.Value, unset TimeFormat) string {
	switch f.kind {
	case String:
		return v.String()
	case Integer, Long:
		return strconv.FormatInt(v.Int(), 10)
	case Float, Double:
		return string(appendFloat(nil, v.Float()))
	case Boolean:
		return strconv.FormatBool(v.Bool())
	case Timestamp:
		return string(appendTime(nil, timeOf(v), timeFormat(f, unset), false))
	case Blob:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case Document:
		return string(v.Bytes())
	}
	return ""
}

// sendStream copies a body to the client, without holding it in memory.
func (c *Call) sendStream(f *field, v reflect.Value, w http.ResponseWriter, status int) error {
	body, _ := v.Interface().(io.ReadCloser)
	if body != nil {
		defer body.Close()
	}
	h := w.Header()
	if len(h["Content-Type"]) == 0 {
		h["Content-Type"] = []string{"binary/octet-stream"}
	}
	if body == nil && len(h["Content-Length"]) == 0 && !c.isHead() && status != http.StatusNotModified && status != http.StatusNoContent {
		h["Content-Length"] = []string{"0"}
	}
	w.WriteHeader(status)
	if body == nil || c.isHead() || status == http.StatusNotModified || status == http.StatusNoContent {
		return nil
	}
	if _, err := io.Copy(w, body); err != nil {
		return started(err)
	}
	return nil
}

func (rc rest) encodeError(c *Call, f *failure, w http.ResponseWriter, requestID string) {
	rc.requestID(c, w, requestID)
	h := w.Header()
	for name, value := range f.header {
		h[headerName(name)] = []string{headerText(value)}
	}
	if f.plan != nil {
		for _, m := range f.plan.bound {
			if v, ok := present(f.value.Field(m.index)); ok && m.member.In != InStatus {
				m.writeHeader(h, v)
			}
		}
	}
	var body []byte
	contentType := "application/json"
	switch {
	case rc.json:
		h["x-amzn-ErrorType"] = []string{f.name}
		body = f.appendJSON([]byte("{"), "")
	case c.Service != nil && c.Service.NoErrorWrapping:
		contentType, body = "application/xml", f.s3Error(requestID)
	default:
		contentType, body = "text/xml", f.wrappedError(c, requestID)
	}
	if c.isHead() || f.status == http.StatusNotModified || f.status == http.StatusNoContent {
		if c.isHead() {
			h["Content-Type"] = []string{contentType}
		}
		w.WriteHeader(f.status)
		return
	}
	delete(h, "Content-Length")
	h["Content-Type"] = []string{contentType}
	_ = send(w, f.status, contentType, body) // the client is gone if this fails
}
