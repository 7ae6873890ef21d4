package auth

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"time"

	"skerry/internal/base/awserr"
)

// Form is an upload by a browser's form: fields, and a file at their end which
// is read while it arrives. Page: "POST Object".
type Form struct {
	fields   []pair // names in lower case, in the order they came
	FileName string
	file     io.Reader
}

const (
	maxFormFields = 20 << 10 // bytes of fields before the file
	maxPostPolicy = 128      // conditions
)

// IsForm tells whether a request to S3 is a form.
func IsForm(r *http.Request) bool {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return err == nil && r.Method == http.MethodPost && kind == "multipart/form-data"
}

// ReadForm reads a form up to its file. Errors are *awserr.Error.
func ReadForm(r *http.Request) (*Form, error) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return nil, malformedForm()
	}
	parts := multipart.NewReader(&bodyReader{r.Body, r.ContentLength}, params["boundary"])
	f := &Form{}
	for left := int64(maxFormFields); ; {
		part, err := parts.NextRawPart()
		if err == io.EOF {
			return nil, invalidArgument("POST requires exactly one file upload per request.", "file", "0")
		}
		if err != nil {
			return nil, malformedForm()
		}
		name := strings.ToLower(part.FormName())
		if name == "" {
			return nil, malformedForm()
		}
		if name == "file" {
			f.FileName, f.file = part.FileName(), &formFile{part: part, parts: parts}
			return f, nil
		}
		value, err := io.ReadAll(io.LimitReader(part, left+1))
		if err != nil {
			return nil, malformedForm()
		}
		if left -= int64(len(value) + len(name)); left < 0 {
			return nil, awserr.New(http.StatusBadRequest, "MaxPostPreDataLengthExceeded", "Your POST request fields preceding the upload file were too large.")
		}
		f.fields = append(f.fields, pair{name, string(value)})
	}
}

func malformedForm() error {
	return awserr.New(http.StatusBadRequest, "MalformedPOSTRequest", "The body of your POST request is not well-formed multipart/form-data.")
}

// Field returns the value of a field, given in lower case. ${filename} stands for
// the name of the file.
func (f *Form) Field(name string) string {
	for _, p := range f.fields {
		if p.name == name {
			return strings.ReplaceAll(p.value, "${filename}", f.FileName)
		}
	}
	return ""
}

// Names returns the names of the fields in lower case.
func (f *Form) Names() []string {
	names := make([]string, len(f.fields))
	for i, p := range f.fields {
		names[i] = p.name
	}
	return names
}

// formFile is the file; its end is good only if the form is whole.
type formFile struct {
	part  *multipart.Part
	parts *multipart.Reader
}

func (f *formFile) Read(p []byte) (int, error) {
	n, err := f.part.Read(p)
	if err == io.EOF {
		next, after := f.parts.NextRawPart()
		switch {
		case after == nil && strings.EqualFold(next.FormName(), "file"):
			err = invalidArgument("POST requires exactly one file upload per request.", "file", "2")
		case after != nil && after != io.EOF:
			err = shortBody()
		}
		return n, err // fields behind the file count for nothing
	}
	if err != nil {
		err = shortBody()
	}
	return n, err
}

// VerifyForm authenticates a form by the signature over its policy, and holds
// its fields against the policy. A form without a policy is anonymous. The body
// is the file.
func (v *Verifier) VerifyForm(r *http.Request, f *Form, bucket string) (*Verified, error) {
	encoded := f.Field("policy")
	out := &Verified{Body: &Body{reader: f.file, length: -1}, Method: Method{}}
	if f.Field("key") == "" {
		return nil, invalidArgument("Bucket POST must contain a field named 'key'.  If it is specified, please check the order of the fields.", "key", "")
	}
	if encoded == "" {
		if f.Field("x-amz-signature") != "" || f.Field("signature") != "" {
			return nil, invalidArgument("Bucket POST must contain a field named 'policy'.  If it is specified, please check the order of the fields.", "policy", "")
		}
		return out, nil
	}
	if err := v.formSignature(r, f, encoded, out); err != nil {
		return nil, err
	}
	limits, err := f.checkPolicy(encoded, bucket, v.clock.Now())
	if err != nil {
		return nil, err
	}
	if limits != nil {
		limits.in = f.file
		out.Body.reader = limits
	}
	return out, nil
}

func (v *Verifier) formSignature(r *http.Request, f *Form, encoded string, out *Verified) error {
	token := f.Field("x-amz-security-token")
	if key := f.Field("awsaccesskeyid"); key != "" { // version 2
		cred, err := v.credential(r.Context(), S3, key, token)
		if err != nil {
			return err
		}
		signature := f.Field("signature")
		if signature == "" {
			return invalidArgument("Bucket POST must contain a field named 'signature'.  If it is specified, please check the order of the fields.", "signature", "")
		}
		if !sameText(sign2(cred.Secret, encoded), signature) {
			return S3.wrongSignature(key, signature, encoded, "")
		}
		out.Principal, out.Method = cred.Principal, Method{Type: "POST", Version: "AWS"}
		return nil
	}
	s := signature{algorithm: f.Field("x-amz-algorithm"), value: f.Field("x-amz-signature"), stamp: f.Field("x-amz-date")}
	if s.algorithm != algorithm4 {
		return invalidArgument("Only AWS4-HMAC-SHA256 is supported", "X-Amz-Algorithm", s.algorithm)
	}
	if !s.setCredential(f.Field("x-amz-credential")) {
		return invalidArgument(`the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request".`, "X-Amz-Credential", f.Field("x-amz-credential"))
	}
	at, err := time.Parse(isoBasic, s.stamp)
	if err != nil || s.stamp[:8] != s.date {
		return invalidArgument("X-Amz-Date must be formated via ISO8601 Long format", "X-Amz-Date", s.stamp)
	}
	if s.service != "s3" {
		return S3.wrongScope(`incorrect service "` + s.service + `". This endpoint belongs to "s3".`)
	}
	cred, err := v.credential(r.Context(), S3, s.key, token)
	if err != nil {
		return err
	}
	seal := chunkSeal{algorithm: s.algorithm, secret: v.keys.get(&s, cred.Secret)}
	if !seal.valid(encoded, s.value) {
		return S3.wrongSignature(s.key, s.value, encoded, "")
	}
	out.Principal, out.Region, out.Service = cred.Principal, s.region, s.service
	out.Method = Method{Type: "POST", Version: s.algorithm, SignedAt: at}
	return nil
}

// checkPolicy holds the form against its policy. It returns the limits on the
// file's size, if there are any. Page: "Creating a POST Policy".
func (f *Form) checkPolicy(encoded, bucket string, now time.Time) (*sizeReader, error) {
	text, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, badPolicy("Invalid Base64 encoding.")
	}
	var policy map[string]json.RawMessage // its names have a case, unlike those of a struct's members
	var expiration *string
	var conditions []json.RawMessage
	if json.Unmarshal(text, &policy) != nil || unmarshal(policy["expiration"], &expiration) != nil || unmarshal(policy["conditions"], &conditions) != nil {
		return nil, badPolicy("Invalid JSON.")
	}
	if expiration == nil {
		return nil, badPolicy("Policy missing expiration.")
	}
	end, err := time.Parse(time.RFC3339Nano, *expiration)
	if err != nil {
		return nil, badPolicy("Invalid 'expiration' value: '" + *expiration + "'")
	}
	if now.After(end) {
		return nil, accessDenied("Invalid according to Policy: Policy expired.")
	}
	if conditions == nil || len(conditions) > maxPostPolicy {
		return nil, badPolicy("Policy missing conditions.")
	}
	covered := map[string]bool{"bucket": true}
	var limits *sizeReader
	for _, raw := range conditions {
		name, l, err := f.checkCondition(raw, bucket)
		if err != nil {
			return nil, err
		}
		if l != nil {
			limits = l
		}
		covered[name] = true
	}
	for _, p := range f.fields {
		switch {
		case covered[p.name], p.name == "awsaccesskeyid", p.name == "signature", p.name == "policy", p.name == "x-amz-signature",
			strings.HasPrefix(p.name, "x-ignore-"):
		default:
			return nil, accessDenied("Invalid according to Policy: Extra input fields: " + p.name)
		}
	}
	return limits, nil
}

// unmarshal reads a member that may be absent.
func unmarshal(raw json.RawMessage, into any) error {
	if raw == nil {
		return nil
	}
	return json.Unmarshal(raw, into)
}

// checkCondition holds the form against one condition, and returns the name of
// the field that the condition is about.
func (f *Form) checkCondition(raw json.RawMessage, bucket string) (name string, limits *sizeReader, err error) {
	var exact map[string]string
	var list []any
	op, want := "eq", ""
	switch {
	case json.Unmarshal(raw, &exact) == nil && len(exact) == 1:
		for name, want = range exact {
			name = strings.ToLower(name)
		}
	case json.Unmarshal(raw, &list) == nil && len(list) == 3:
		text := [3]string{}
		for i, v := range list {
			switch v := v.(type) {
			case string:
				text[i] = v
			case float64:
				text[i] = strconv.FormatFloat(v, 'f', -1, 64)
			}
		}
		op = strings.ToLower(text[0])
		if op == "content-length-range" {
			limits, err = newSizeReader(text[1], text[2])
			return op, limits, err
		}
		field, ok := strings.CutPrefix(text[1], "$")
		if !ok || op != "eq" && op != "starts-with" {
			return "", nil, badPolicy(fmt.Sprintf("Invalid Condition: %s", raw))
		}
		name, want = strings.ToLower(field), text[2]
	default:
		return "", nil, badPolicy(fmt.Sprintf("Invalid Condition: %s", raw))
	}
	got := f.Field(name)
	if name == "bucket" {
		got = bucket
	}
	if op == "eq" && got != want || op == "starts-with" && !startsWith(name, got, want) {
		return "", nil, accessDenied(fmt.Sprintf(`Invalid according to Policy: Policy Condition failed: ["%s", "$%s", "%s"]`, op, name, want))
	}
	return name, nil, nil
}

// startsWith compares a prefix. A content type may be a list, of which each must
// begin so.
func startsWith(name, got, want string) bool {
	if name != "content-type" {
		return strings.HasPrefix(got, want)
	}
	for _, kind := range strings.Split(got, ",") {
		if !strings.HasPrefix(strings.TrimSpace(kind), want) {
			return false
		}
	}
	return true
}

func badPolicy(text string) error {
	return awserr.New(http.StatusBadRequest, "InvalidPolicyDocument", "%s", "Invalid Policy: "+text)
}

// sizeReader holds a file to content-length-range.
type sizeReader struct {
	in        io.Reader
	low, high int64
	n         int64
}

func newSizeReader(low, high string) (*sizeReader, error) {
	l, err1 := strconv.ParseInt(low, 10, 64)
	h, err2 := strconv.ParseInt(high, 10, 64)
	if err1 != nil || err2 != nil || l < 0 || h < l {
		return nil, badPolicy("Invalid content-length-range.")
	}
	return &sizeReader{low: l, high: h}, nil
}

func (s *sizeReader) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.n += int64(n)
	switch {
	case s.n > s.high:
		return n, awserr.New(http.StatusBadRequest, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size").
			With("ProposedSize", strconv.FormatInt(s.n, 10)).With("MaxSizeAllowed", strconv.FormatInt(s.high, 10))
	case err == io.EOF && s.n < s.low:
		return n, awserr.New(http.StatusBadRequest, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size").
			With("ProposedSize", strconv.FormatInt(s.n, 10)).With("MinSizeAllowed", strconv.FormatInt(s.low, 10))
	}
	return n, err
}
