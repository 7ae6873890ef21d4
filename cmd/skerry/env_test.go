package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestAssignment(t *testing.T) {
	for _, c := range []struct{ shell, want string }{
		{"bash", `export K='a'\''b\c'`},
		{"fish", `set -gx K 'a\'b\\c'`},
		{"powershell", `$Env:K = 'a''b\c'`},
	} {
		if got, err := assignment(c.shell, "K", `a'b\c`); err != nil || got != c.want {
			t.Errorf("%s: got %s, %v", c.shell, got, err)
		}
	}
	if _, err := assignment("tcl", "K", "v"); err == nil {
		t.Error("an unknown shell passes")
	}
}

func TestEnvWithoutServer(t *testing.T) {
	var out bytes.Buffer
	if err := env(t.Context(), []string{"--data", t.TempDir(), "--shell", "sh"}, &out); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"export AWS_ENDPOINT_URL='http://127.0.0.1:4566'", "export AWS_ACCESS_KEY_ID='test'", "export AWS_REGION='us-east-1'",
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("no line %s in\n%s", line, out.String())
		}
	}
}
