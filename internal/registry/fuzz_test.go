package registry

import (
	"bytes"
	"net/http/httptest"
	"strings"
	"testing"
)

// FuzzParse reads manifests: it does not panic, and what it takes is bounded and
// names only digests.
func FuzzParse(f *testing.F) {
	d := `{"mediaType":"x","digest":"sha256:` + strings.Repeat("a", 64) + `","size":1}`
	f.Add(OCIManifest, `{"schemaVersion":2,"config":`+d+`,"layers":[`+d+`],"subject":`+d+`}`)
	f.Add("", `{"schemaVersion":2,"manifests":[`+d+`]}`)
	f.Add(DockerManifest, `{"schemaVersion":1}`)
	f.Fuzz(func(t *testing.T, mediaType, body string) {
		m, err := Parse(mediaType, []byte(body))
		if err != nil {
			if CodeOf(err) != ParameterInvalid {
				t.Fatal(err)
			}
			return
		}
		for _, d := range append(m.blobs(), m.Manifests...) {
			if !ValidDigest(d.Digest) || d.Size < 0 {
				t.Fatalf("%+v", d)
			}
		}
		if m.Size != int64(len(body)) || m.Digest != Digest([]byte(body)) {
			t.Fatalf("%+v", m)
		}
	})
}

// FuzzServe sends anything at all: no answer is a fault of ours.
func FuzzServe(f *testing.F) {
	f.Add("GET", "/v2/a/b/manifests/v1", "", "", "")
	f.Add("PUT", "/v2/a/b/manifests/v1?tag=x", "Content-Type", OCIManifest, "{}")
	f.Add("POST", "/v2/a/b/blobs/uploads/?mount=sha256:00&from=x", "", "", "")
	f.Add("POST", "/v2/a/b/blobs/uploads/?digest="+Digest(nil), "Content-Range", "0-1", "")
	f.Add("GET", "/v2/_catalog?n=1&last=x", "Range", "bytes=1-", "")
	c := newClient(f)
	c.repo("a/b")
	f.Fuzz(func(t *testing.T, method, target, header, value, body string) {
		if !strings.HasPrefix(target, "/v2") || strings.ContainsAny(target+method, " \r\n\t\x00") || method == "" {
			t.Skip()
		}
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/v2/", bytes.NewReader([]byte(body)))
		u, err := r.URL.Parse(target)
		if err != nil {
			t.Skip()
		}
		r.Method, r.URL = method, u
		r.SetBasicAuth("AWS", c.password)
		if header != "" && header != "Authorization" {
			r.Header.Set(header, value)
		}
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Fatalf("%s %s: %d %s", method, target, w.Code, w.Body)
		}
	})
}
