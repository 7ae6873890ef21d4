package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"skerry/internal/auth"
)

// Whatever arrives, the answer is an error of the client's: never a fault of
// ours, never a panic.
func FuzzServe(f *testing.F) {
	f.Add("POST", "/", "localhost", "AmazonSQS.SendMessage", json10, `{"QueueUrl":"q","MessageBody":"b"}`, true)
	f.Add("POST", "/", "sts.amazonaws.com", "", form, "Action=GetCallerIdentity&Version=2011-06-15", true)
	f.Add("PUT", "/b/%zz?x=%&y", "b.s3.localhost", "", "", "body", false)
	f.Add("POST", "/b", "b.localhost", "", "multipart/form-data; boundary=x", "--x\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n--x--", false)
	f.Add("POST", "/service/GraniteServiceVersion20100801/operation/ListMetrics", "", "", "application/cbor", "\xa0", true)
	w := newWorld(f)
	services := map[string]string{json10: "sqs", form: "sts", "application/cbor": "monitoring"}
	f.Fuzz(func(t *testing.T, method, target, host, header, kind, body string, sign bool) {
		r := httptest.NewRequest("POST", "/", strings.NewReader(body))
		r.Method, r.RequestURI, r.Host = method, target, host
		r.Header.Set("Content-Type", kind)
		if header != "" {
			r.Header.Set("X-Amz-Target", header)
		}
		if kind == "application/cbor" {
			r.Header.Set("Smithy-Protocol", "rpc-v2-cbor")
		}
		if sign {
			auth.Sign(r, guest, "us-east-1", services[kind], []byte(body), now)
		}
		a := httptest.NewRecorder()
		before := w.gateway.Failures()
		w.gateway.ServeHTTP(a, r)
		if w.gateway.Failures() != before || a.Code >= http.StatusInternalServerError && a.Code != http.StatusNotImplemented {
			t.Fatalf("%d %s", a.Code, a.Body)
		}
	})
}
