package lambda

import (
	"strings"
	"testing"

	api "skerry/internal/api/lambda"
	"skerry/internal/base/awserr"
)

func TestInvokeWithResponseStream(t *testing.T) {
	w := newWorld(t, map[string]program{"big": func(invocation) reply { return reply{body: strings.Repeat("x", 8<<20)} },
		"fails": func(invocation) reply { return reply{body: `{"errorMessage":"no"}`, failed: "E"} }, "exits": func(invocation) reply { return reply{exit: 2} }})
	read := func(name string) (string, *api.InvokeWithResponseStreamCompleteEvent) {
		w.create(name, name)
		out, err := w.InvokeWithResponseStream(t.Context(), w.scope, &api.InvokeWithResponseStreamInput{FunctionName: &name, LogType: new("Tail")})
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		for e, err := range out.EventStream {
			if err != nil {
				t.Fatal(err)
			}
			if e.InvokeComplete != nil {
				return text.String(), e.InvokeComplete
			}
			text.Write(e.PayloadChunk.Payload)
		}
		t.Fatal("the stream has no end")
		return "", nil
	}
	if text, end := read("big"); len(text) != 8<<20 || end.ErrorCode != nil || deref(end.LogResult) == "" {
		t.Errorf("%d bytes, %+v", len(text), end)
	}
	if text, end := read("fails"); text != "" || deref(end.ErrorCode) != "Unhandled" || *end.ErrorDetails != `{"errorMessage":"no"}` {
		t.Errorf("%q %+v", text, end)
	}
	if text, end := read("exits"); text != "" || !strings.Contains(deref(end.ErrorDetails), "exit status 2") {
		t.Errorf("%q %+v", text, end)
	}
	if _, err := w.InvokeWithResponseStream(t.Context(), w.scope, &api.InvokeWithResponseStreamInput{FunctionName: new("none")}); awserr.Code(err) != "ResourceNotFoundException" {
		t.Error(err)
	}
}
