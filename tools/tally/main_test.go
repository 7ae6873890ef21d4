package main

import (
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	in := `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"noise of a\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"why b failed\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestC","Output":"c needs root\n"}
{"Action":"skip","Package":"p","Test":"TestC"}
{"Action":"fail","Package":"p","Elapsed":1.5}
{"Action":"skip","Package":"empty"}
`
	var out strings.Builder
	if c := count(strings.NewReader(in), &out); c != (counts{1, 1, 1}) {
		t.Errorf("counted %v", c)
	}
	for _, want := range []string{"why b failed", "c needs root", "1 passed, 1 failed, 1 skipped"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "noise of a") {
		t.Error("the output of a passed test is shown")
	}
}
