package wire

import (
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/base/awserr"
)

// queryCodec is awsQuery and ec2Query: parameters with dotted names in, XML out.
type queryCodec struct{}

// maxParameters bounds the parameters of one request.
const maxParameters = 50_000

// form holds the parameters of a request, sorted by name, so that all that
// belong to one member stand together.
type form []pair

// parseForm takes parameters apart.
func parseForm(raw string) (form, error) {
	n := strings.Count(raw, "&") + 1
	if n > maxParameters {
		return nil, awserr.New(400, "MalformedQueryString", "The query string has too many parameters")
	}
	out := make(form, 0, n)
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil {
			return nil, awserr.New(400, "MalformedQueryString", "The query string contains a syntax error")
		}
		out = append(out, pair{name, value})
	}
	return out, nil
}

// get returns the value of a parameter, the first one if it is repeated.
func (f form) get(name string) (string, bool) {
	i, ok := slices.BinarySearchFunc(f, name, func(p pair, n string) int { return strings.Compare(p.name, n) })
	if !ok {
		return "", false
	}
	return f[i].value, true
}

// under returns the parameters whose names begin with prefix.
func (f form) under(prefix string) form {
	from, _ := slices.BinarySearchFunc(f, prefix, func(p pair, n string) int { return strings.Compare(p.name, n) })
	rest := f[from:]
	n, _ := slices.BinarySearchFunc(rest, prefix, func(p pair, prefix string) int {
		if strings.HasPrefix(p.name, prefix) {
			return -1
		}
		return 1
	})
	return rest[:n]
}

// has says whether there is the parameter or one below it.
func (f form) has(name string) bool {
	if _, ok := f.get(name); ok {
		return true
	}
	return len(f.under(name+".")) > 0
}

// numbers returns the numbers that follow prefix in names, in order. Gaps are
// fine.
func (f form) numbers(prefix string) []int {
	var out []int
	for _, p := range f.under(prefix) {
		text, _, _ := strings.Cut(p.name[len(prefix):], ".")
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || text != strconv.Itoa(n) {
			continue
		}
		if len(out) == 0 || out[len(out)-1] != n {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// action reads the parameters of the body and the URL and finds the operation.
func (c *Call) action() error {
	var err error
	if c.form, err = parseForm(c.request.Query); err != nil {
		return err
	}
	kind := mediaType(c.request.Header.Get("Content-Type"))
	if c.request.Method == http.MethodPost && (kind == "" || kind == "application/x-www-form-urlencoded" || len(c.form) == 0) {
		b, err := c.readBody()
		if err != nil {
			return err
		}
		inBody, err := parseForm(string(b))
		if err != nil {
			return err
		}
		c.form = append(inBody, c.form...)
	}
	slices.SortStableFunc(c.form, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	name, ok := c.form.get("Action")
	if !ok || name == "" {
		return awserr.New(400, "MissingAction", "The request is missing an action or a required parameter.")
	}
	if c.Operation = c.Service.Operation(name); c.Operation == nil {
		if c.Protocol == EC2Query {
			return awserr.New(400, "InvalidAction", "The action %s is not valid for this web service.", name)
		}
		version, _ := c.form.get("Version")
		return awserr.New(400, "InvalidAction", "Could not find operation %s for version %s", name, version)
	}
	return nil
}

func (queryCodec) decodeRequest(c *Call, p *plan, in reflect.Value) error {
	q := queryReader{form: c.form, ec2: c.Protocol == EC2Query}
	if err := q.structure(p, "", in); err != nil {
		return err
	}
	c.queueURL(p, in)
	return nil
}

// queueURL takes the queue from the path, where SQS clients of old put it.
func (c *Call) queueURL(p *plan, in reflect.Value) {
	if len(c.request.Path) < 2 {
		return
	}
	f := p.byQuery["QueueUrl"]
	if f == nil || f.kind != String || !in.Field(f.index).IsNil() {
		return
	}
	host := c.request.Host
	if host == "" {
		host = "localhost"
	}
	setString(in.Field(f.index), "http://"+host+c.request.Path)
}

// queryReader reads members from parameters.
type queryReader struct {
	form  form
	ec2   bool
	depth int
}

func (q *queryReader) name(f *field) string {
	if q.ec2 {
		return f.ec2
	}
	return f.query
}

// find returns the name under which the request has the member: the model's
// query name, or one that other protocols and old versions have for it.
func (q *queryReader) find(prefix string, f *field) (string, bool) {
	name := prefix + q.name(f)
	if q.form.has(name) {
		return name, true
	}
	for _, other := range []string{f.wire, f.member.Name, strings.ToUpper(f.member.Name[:1]) + f.member.Name[1:]} {
		if other != q.name(f) && q.form.has(prefix+other) {
			return prefix + other, true
		}
	}
	return name, false
}

func (q *queryReader) structure(p *plan, prefix string, v reflect.Value) error {
	if q.depth++; q.depth > maxDepth/2 {
		return awserr.New(400, "MalformedQueryString", "The query string is nested too deeply")
	}
	defer func() { q.depth-- }()
	for _, f := range p.body {
		if name, ok := q.find(prefix, f); ok {
			if err := q.value(f, name, v.Field(f.index)); err != nil {
				return err
			}
		}
	}
	return nil
}

// value reads the parameter of that name, or all those below it.
func (q *queryReader) value(f *field, name string, v reflect.Value) error {
	switch f.kind {
	case Structure, Union:
		return q.structure(f.plan, name+".", target(v))
	case List:
		return q.list(f, name, v)
	case Map:
		return q.mapping(f, name, v)
	}
	text, ok := q.form.get(name)
	if !ok {
		return nil
	}
	if text == "" && f.kind != String && f.kind != Blob {
		return nil
	}
	if err := f.setText(v, text); err != nil {
		return q.bad(f, name, text)
	}
	return nil
}

// bad is the answer to a value of the wrong type.
func (q *queryReader) bad(f *field, name, text string) error {
	if q.ec2 {
		return awserr.New(400, "InvalidParameterValue", "Value (%s) for parameter %s is invalid. Expected %s.", text, lowerFirst(name), strings.ToLower(kindName(f.kind)))
	}
	return awserr.New(400, "MalformedInput", "STRING_VALUE cannot be converted to %s", kindName(f.kind))
}

func (q *queryReader) list(f *field, name string, v reflect.Value) error {
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	prefix := name + "."
	if !q.ec2 && !f.is(Flat) {
		for _, element := range []string{f.elem.query, f.elem.wire, "member"} {
			if element != "" && len(q.form.under(prefix+element+".")) > 0 {
				prefix += element + "."
				break
			}
		}
	}
	n := 0
	for _, number := range q.form.numbers(prefix) {
		v.Grow(1)
		v.SetLen(n + 1)
		if err := q.value(f.elem, prefix+strconv.Itoa(number), v.Index(n)); err != nil {
			return err
		}
		n++
	}
	return nil
}

func (q *queryReader) mapping(f *field, name string, v reflect.Value) error {
	v.Set(reflect.MakeMap(v.Type()))
	prefix := name + "."
	if !f.is(Flat) && len(q.form.under(prefix+"entry.")) > 0 {
		prefix += "entry."
	}
	for _, number := range q.form.numbers(prefix) {
		entry := prefix + strconv.Itoa(number) + "."
		keyName, _ := q.find(entry, f.key)
		key, ok := q.form.get(keyName)
		if !ok {
			continue
		}
		value := reflect.New(v.Type().Elem()).Elem()
		valueName, _ := q.find(entry, f.elem)
		if err := q.value(f.elem, valueName, value); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key), value)
	}
	return nil
}

func lowerFirst(s string) string {
	if s == "" {
		return s
	}
	return strings.ToLower(s[:1]) + s[1:]
}

func (queryCodec) encodeResponse(c *Call, p *plan, out reflect.Value, w http.ResponseWriter, requestID string) error {
	w.Header()["x-amzn-RequestId"] = []string{requestID}
	name := c.Operation.Name
	switch {
	case c.Protocol == EC2Query:
		x := xmlWriter{b: append(make([]byte, 0, 1024), xmlHead...), millis: true}
		x.open(name+"Response", strings.TrimSuffix(c.Service.XMLNamespace, "/")+"/")
		x.simple("requestId", requestID)
		x.members(p, out)
		x.close(name + "Response")
		return send(w, http.StatusOK, "text/xml;charset=UTF-8", x.b)
	case c.wantJSON:
		b := append(AppendJSONString([]byte{'{'}, name+"Response"), ":{"...)
		if c.Operation.ResultWrapper != "" || len(p.fields) > 0 {
			b = append(AppendJSONString(b, c.resultName()), ':')
			b = append(p.appendJSONStruct(b, addr(out)), ',')
		}
		b = append(b, `"ResponseMetadata":{"RequestId":`...)
		b = append(AppendJSONString(b, requestID), "}}}"...)
		return send(w, http.StatusOK, "application/json", b)
	}
	x := xmlWriter{b: make([]byte, 0, 1024), query: true}
	x.open(name+"Response", c.Service.XMLNamespace)
	if c.Operation.ResultWrapper != "" || len(p.fields) > 0 {
		x.open(c.resultName(), "")
		x.members(p, out)
		x.close(c.resultName())
	}
	x.open("ResponseMetadata", "")
	x.simple("RequestId", requestID)
	x.close("ResponseMetadata")
	x.close(name + "Response")
	return send(w, http.StatusOK, "text/xml", x.b)
}

// resultName is the element around an awsQuery answer's members.
func (c *Call) resultName() string {
	if c.Operation.ResultWrapper != "" {
		return c.Operation.ResultWrapper
	}
	return c.Operation.Name + "Result"
}

func (queryCodec) encodeError(c *Call, f *failure, w http.ResponseWriter, requestID string) {
	h := w.Header()
	h["x-amzn-RequestId"] = []string{requestID}
	for name, value := range f.header {
		h[headerName(name)] = []string{headerText(value)}
	}
	body, contentType := f.wrappedError(c, requestID), "text/xml"
	switch {
	case c.Protocol == EC2Query:
		body, contentType = f.ec2Error(requestID), "text/xml;charset=UTF-8"
	case c.wantJSON:
		b := append([]byte(`{"Error":{"Type":`), `"`+senderOrReceiver(f)+`","Code":`...)
		b = append(AppendJSONString(b, f.code), `,"Message":`...)
		b = append(AppendJSONString(b, f.message), `},"RequestId":`...)
		body, contentType = append(AppendJSONString(b, requestID), '}'), "application/json"
	}
	_ = send(w, f.status, contentType, body) // the client is gone if this fails
}
