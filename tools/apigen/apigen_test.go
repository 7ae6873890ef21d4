package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestGeneratedIsCurrent generates all packages anew and compares them with
// those in the tree.
func TestGeneratedIsCurrent(t *testing.T) {
	models := os.Getenv("SKERRY_MODELS")
	if models == "" {
		t.Skip("SKERRY_MODELS does not name the folder of the service models")
	}
	out := t.TempDir()
	if err := run(models, "services", out); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(out, "*", "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal("nothing was generated", err)
	}
	for _, path := range files {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rel, _ := filepath.Rel(out, path)
		got, err := os.ReadFile(filepath.Join("../../internal/api", rel))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("internal/api/%s is not what apigen makes; run make gen (%v)", rel, err)
		}
	}
}

func TestWords(t *testing.T) {
	for in, want := range map[string]string{
		"s3:ObjectCreated:*": "S3ObjectCreatedAll", "IN_PROGRESS": "InProgress", "python3.12": "Python3_12", "eu-west-1": "EuWest1", "x86_64": "X86_64", "": "", "ß": "",
	} {
		if got := words(in); got != want {
			t.Errorf("%q became %q, not %q", in, got, want)
		}
	}
}

func TestAllowListNamesOperations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.txt")
	if err := os.WriteFile(path, []byte("model m # comment\n\nmax-request 5\nFly\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := readAllowList(path)
	if err != nil || a.model != "m" || a.maxRequest != "5" || !a.allows("Fly") || a.allows("Walk") {
		t.Fatalf("%+v %v", a, err)
	}
	if err := a.check(&model{}); err == nil {
		t.Error("an operation that the model lacks passes")
	}
}

func TestAllowListChangesStatuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.txt")
	for line, ok := range map[string]bool{"status Fly 204": true, "status Walk 204": false, "status Fly high": false} {
		if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		m := &model{Operations: ordered[operation]{by: map[string]operation{"Fly": {Status: 200}}}}
		a, err := readAllowList(path)
		if err == nil {
			err = a.apply(m)
		}
		if got := m.Operations.by["Fly"].Status; (err == nil) != ok || (got == 204) != ok {
			t.Errorf("%s: status %d, %v", line, got, err)
		}
	}
}
