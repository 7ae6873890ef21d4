package console

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, path string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Result()
}

func TestServes(t *testing.T) {
	for path, kind := range map[string]string{
		"/_skerry/":          "text/html",
		"/_skerry/app.js":    "javascript",
		"/_skerry/style.css": "text/css",
		"/_skerry/icon.svg":  "image/svg+xml",
	} {
		r := get(t, http.MethodGet, path)
		if r.StatusCode != http.StatusOK || !strings.Contains(r.Header.Get("Content-Type"), kind) {
			t.Errorf("%s: %s %s", path, r.Status, r.Header.Get("Content-Type"))
		}
		if !strings.Contains(r.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s has no policy", path)
		}
	}
	if r := get(t, http.MethodGet, "/_skerry/no"); r.StatusCode != http.StatusNotFound {
		t.Errorf("a missing file: %s", r.Status)
	}
	if r := get(t, http.MethodPost, "/_skerry/"); r.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %s", r.Status)
	}
}

// The page must work on a machine without a network, and under its own policy.
func TestNeedsNothingElse(t *testing.T) {
	for _, name := range []string{"page/index.html", "page/app.js", "page/style.css"} {
		b, err := embedded.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if m := regexp.MustCompile(`https?://[^\s"'`+"`"+`<]+`).FindAll(b, -1); len(m) > 0 {
			t.Errorf("%s refers to %q", name, m)
		}
		for _, bad := range []string{"innerHTML", "eval(", " style=", "onclick=", "<script>"} {
			if strings.Contains(string(b), bad) {
				t.Errorf("%s has %q", name, bad)
			}
		}
	}
}

// Every element that the script asks for is in the page.
func TestScriptFindsItsElements(t *testing.T) {
	page, err := embedded.ReadFile("page/index.html")
	if err != nil {
		t.Fatal(err)
	}
	script, err := embedded.ReadFile("page/app.js")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`\$\("([a-z-]+)"\)`).FindAllSubmatch(script, -1)
	if len(found) < 10 {
		t.Fatalf("only %d elements are asked for", len(found))
	}
	for _, m := range found {
		if !strings.Contains(string(page), `id="`+string(m[1])+`"`) {
			t.Errorf("there is no element %s", m[1])
		}
	}
}
