package main

import (
	"strings"
	"testing"
)

func TestCheckFile(t *testing.T) {
	for _, c := range []struct{ path, body, want string }{
		{"internal/service/s3/a.go", "func f() { go f() }", "no goroutine"},
		{"internal/gateway/a.go", "func f() { go f() }", ""},
		{"internal/service/s3/a.go", "var t = time.Now()", "base/clock"},
		{"internal/service/s3/a_test.go", "var t = time.Now()", ""},
		{"internal/store/a_test.go", "func f() { time.Sleep(1) }", "do not sleep"},
		{"internal/store/a_test.go", "func f() { for !ok() { time.Sleep(1) } }", ""},
		{"internal/service/s3/a.go", "var s = auth.Scope{Account: x}", "mint a Scope"},
		{"internal/service/s3/a.go", "var s = auth.Scope{}", ""},
		{"internal/gateway/a.go", "var s = auth.Scope{Account: x}", ""},
		{"internal/store/a.go", "func f() { fmt.Println() }", "log, or return"},
		{"cmd/skerry/a.go", "func f() { fmt.Println() }", ""},
		{"cmd/skerry/a.go", "// TODO: some day\nvar x int", "owner"},
		{"cmd/skerry/a.go", "// TODO(store): some day\nvar x int", ""},
	} {
		got, err := checkFile(c.path, []byte("package p\n"+c.body+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		all := strings.Join(got, "\n")
		if (c.want == "") != (all == "") || !strings.Contains(all, c.want) {
			t.Errorf("%s %q: got %q, want %q", c.path, c.body, all, c.want)
		}
	}
}
