package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Setenv("SKERRY_LOG_FORMAT", "json")
	t.Setenv("SKERRY_ROOT_KEY", "ONE:1,TWO:2")
	f := flagSet("up", "test")
	f.SetOutput(io.Discard)
	format := f.String("log-format", "text", "")
	region := f.String("region", "us-east-1", "")
	var keys rootKeys
	f.Var(&keys, "root-key", "")
	if err := parse(f, []string{"--region", "eu-west-1", "--root-key", "THREE:3"}); err != nil {
		t.Fatal(err)
	}
	if *format != "json" || *region != "eu-west-1" || keys.String() != "ONE,TWO,THREE" {
		t.Errorf("got %s %s %s", *format, *region, keys.String())
	}
	if err := parse(f, []string{"--log-format", "text"}); err != nil || *format != "text" {
		t.Errorf("an argument must win over the environment: %s, %v", *format, err)
	}
	if err := parse(f, []string{"stray"}); !errors.Is(err, errUsage) {
		t.Errorf("a stray word: %v", err)
	}
	if err := parse(f, []string{"-h"}); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	t.Setenv("SKERRY_ROOT_KEY", "nonsense")
	if err := parse(f, nil); err == nil || !strings.Contains(err.Error(), "SKERRY_ROOT_KEY") {
		t.Errorf("a wrong variable: %v", err)
	}
}

func TestRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), []string{"version"}, &out); err != nil || !strings.HasPrefix(out.String(), "skerry ") {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := run(t.Context(), []string{"fly"}, &out); !errors.Is(err, errUsage) {
		t.Errorf("an unknown command: %v", err)
	}
}
