package auth_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"time"

	"skerry/internal/auth"
)

// form makes a form whose fields come in pairs; the last field is the file.
func form(t *testing.T, fields ...string) *http.Request {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	for i := 0; i < len(fields); i += 2 {
		var part io.Writer
		var err error
		if fields[i] == "file" {
			part, err = w.CreateFormFile("file", "cat.png")
		} else {
			part, err = w.CreateFormField(fields[i])
		}
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(part, fields[i+1])
	}
	w.Close()
	r := request(t, "POST", "http://localhost:4566/b", b.Bytes())
	r.Header.Set("Content-Type", w.FormDataContentType())
	return arrive(r)
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// signed returns the fields of a form signed by ann.
func signed(policy, secret string) []string {
	encoded := base64.StdEncoding.EncodeToString([]byte(policy))
	key := mac(mac(mac(mac([]byte("AWS4"+secret), "20260807"), "us-east-1"), "s3"), "aws4_request")
	return []string{
		"X-Amz-Algorithm", "AWS4-HMAC-SHA256", "X-Amz-Credential", annKey + "/20260807/us-east-1/s3/aws4_request",
		"X-Amz-Date", "20260807T120000Z", "Policy", encoded, "X-Amz-Signature", hex.EncodeToString(mac(key, encoded)),
	}
}

const conditions = `{"x-amz-algorithm":"AWS4-HMAC-SHA256"},["starts-with","$x-amz-credential",""],["starts-with","$x-amz-date","2026"],{"bucket":"b"}`

func TestForms(t *testing.T) {
	good := `{"expiration":"2026-08-07T13:00:00Z","conditions":[` + conditions +
		`,["starts-with","$key","up/"],["eq","$acl","private"],["content-length-range",2,5]]}`
	tests := []struct {
		name, policy, secret string
		fields               []string
		file                 string
		code                 string
		late                 bool // the fault shows when the file is read
	}{
		{"good", good, annSecret, []string{"key", "up/${filename}", "acl", "private"}, "abc", "", false},
		{"ignored field", good, annSecret, []string{"key", "up/x", "acl", "private", "x-ignore-me", "1"}, "abc", "", false},
		{"wrong secret", good, "x", []string{"key", "up/x", "acl", "private"}, "abc", "SignatureDoesNotMatch", false},
		{"wrong prefix", good, annSecret, []string{"key", "x", "acl", "private"}, "abc", "AccessDenied", false},
		{"wrong value", good, annSecret, []string{"key", "up/x", "acl", "public-read"}, "abc", "AccessDenied", false},
		{"extra field", good, annSecret, []string{"key", "up/x", "acl", "private", "x-amz-meta-a", "1"}, "abc", "AccessDenied", false},
		{"no key", good, annSecret, []string{"acl", "private"}, "abc", "InvalidArgument", false},
		{"too large", good, annSecret, []string{"key", "up/x", "acl", "private"}, "abcdef", "EntityTooLarge", true},
		{"too small", good, annSecret, []string{"key", "up/x", "acl", "private"}, "a", "EntityTooSmall", true},
		{"expired", `{"expiration":"2026-08-07T11:00:00Z","conditions":[]}`, annSecret, []string{"key", "x"}, "abc", "AccessDenied", false},
		{"no JSON", `{`, annSecret, []string{"key", "x"}, "abc", "InvalidPolicyDocument", false},
		{"names in another case", `{"expiration":"2026-08-07T13:00:00Z","CONDITIONS":[]}`, annSecret, []string{"key", "x"}, "abc", "InvalidPolicyDocument", false},
		{"no text", `{"expiration":1,"conditions":[]}`, annSecret, []string{"key", "x"}, "abc", "InvalidPolicyDocument", false},
		{"strange condition", `{"expiration":"2026-08-07T13:00:00Z","conditions":[["like","$key","a"]]}`, annSecret, []string{"key", "x"}, "abc", "InvalidPolicyDocument", false},
		{"fields too long", good, annSecret, []string{"key", strings.Repeat("x", 30000)}, "abc", "MaxPostPreDataLengthExceeded", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, v := world()
			r := form(t, append(append(signed(tt.policy, tt.secret), tt.fields...), "file", tt.file)...)
			if !auth.IsForm(r) {
				t.Fatal("no form")
			}
			f, err := auth.ReadForm(r)
			var got *auth.Verified
			if err == nil {
				got, err = v.VerifyForm(r, f, "b")
			}
			if err != nil || !tt.late && tt.code != "" {
				checkCode(t, tt.name, err, tt.code, 0)
				return
			}
			content, err := io.ReadAll(got.Body)
			checkCode(t, tt.name, err, tt.code, 0)
			if err == nil && (string(content) != tt.file || got.Method.Type != "POST" || got.Principal.Name != "ann") {
				t.Errorf("%q, %+v", content, got)
			}
		})
	}
}

func TestFormsAtTheEdge(t *testing.T) {
	_, _, v := world()
	anonymous := form(t, "key", "${filename}", "file", "abc")
	f, err := auth.ReadForm(anonymous)
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.VerifyForm(anonymous, f, "b")
	if err != nil || got.Principal.Kind != auth.Anonymous || f.Field("key") != "cat.png" {
		t.Errorf("%+v, %v", got, err)
	}
	_, err = auth.ReadForm(form(t, "key", "x"))
	checkCode(t, "no file", err, "InvalidArgument", 400)
	two := form(t, "key", "x", "file", "a", "file", "b")
	if f, err = auth.ReadForm(two); err != nil {
		t.Fatal(err)
	}
	got, err = v.VerifyForm(two, f, "b")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(got.Body)
	checkCode(t, "two files", err, "InvalidArgument", 400)
	broken := form(t, "key", "x", "file", strings.Repeat("a", 1000))
	broken.Body = io.NopCloser(io.LimitReader(broken.Body, 800))
	if f, err = auth.ReadForm(broken); err != nil {
		t.Fatal(err)
	}
	if got, err = v.VerifyForm(broken, f, "b"); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(got.Body)
	checkCode(t, "cut off", err, "IncompleteBody", 400)
}

// Forms signed by version 2, as old libraries make them.
func TestFormOfVersion2(t *testing.T) {
	_, c, v := world()
	c.Advance(time.Minute)
	policy := base64.StdEncoding.EncodeToString([]byte(`{"expiration":"2026-08-07T13:00:00Z","conditions":[{"bucket":"b"},{"key":"x"}]}`))
	for signature, code := range map[string]string{auth.Sign2ForTest(annSecret, policy): "", "x": "SignatureDoesNotMatch", "": "InvalidArgument"} {
		r := form(t, "AWSAccessKeyId", annKey, "policy", policy, "signature", signature, "key", "x", "file", "abc")
		f, err := auth.ReadForm(r)
		if err == nil {
			_, err = v.VerifyForm(r, f, "b")
		}
		checkCode(t, signature, err, code, 0)
	}
}
