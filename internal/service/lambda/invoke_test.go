package lambda

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	api "skerry/internal/api/lambda"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/store"
)

func echo(e invocation) reply {
	fmt.Fprintln(e.out, "got", e.body)
	return reply{body: e.body}
}

func TestInvoke(t *testing.T) {
	w := newWorld(t, map[string]program{"echo": echo})
	w.create("f", "echo")
	var first *api.InvokeOutput
	for i := range 3 {
		out := w.invoke("f", `{"n": 1}`)
		if string(out.Payload) != `{"n": 1}` || *out.StatusCode != 200 || out.FunctionError != nil || *out.ExecutedVersion != "$LATEST" {
			t.Fatalf("%+v", out)
		}
		if i == 0 {
			first = out
		}
	}
	if n := w.sandboxes(); n != 1 {
		t.Errorf("%d sandboxes for calls one after the other", n)
	}
	log, _ := base64.StdEncoding.DecodeString(*first.LogResult)
	form := regexp.MustCompile(`^START RequestId: [0-9a-f-]{36} Version: \$LATEST\ngot \{"n": 1\}\nEND RequestId: [0-9a-f-]{36}\n` +
		`REPORT RequestId: [0-9a-f-]{36}\tDuration: [0-9.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: \d+ MB\tInit Duration: [0-9.]+ ms\t\n$`)
	if !form.Match(log) {
		t.Errorf("log: %q", log)
	}
	w.until("the log is written", func() bool { return len(w.written("/aws/lambda/f")) == 13 })
	if l := w.written("/aws/lambda/f"); !strings.HasPrefix(l[0], "INIT_START Runtime Version: provided:al2023.v1\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:") ||
		strings.Contains(l[12], "Init Duration") || l[2] != "got {\"n\": 1}\n" {
		t.Errorf("%q", l)
	}
	w.until("it is frozen", func() bool { return w.states()[0] == engine.Frozen })
	w.invoke("f", "1")
}

func TestInvokeEnvironment(t *testing.T) {
	w := newWorld(t, map[string]program{"env": func(e invocation) reply {
		b, _ := json.Marshal(map[string]any{"env": e.env, "arn": e.header.Get("Lambda-Runtime-Invoked-Function-Arn"),
			"context": e.header.Get("Lambda-Runtime-Client-Context"), "trace": e.header.Get("Lambda-Runtime-Trace-Id")})
		return reply{body: string(b)}
	}})
	w.create("f", "env", func(in *api.CreateFunctionInput) {
		in.Environment = &api.Environment{Variables: map[string]string{"MINE": "ü"}}
		in.MemorySize = new(int32(1769))
	})
	out, err := w.Invoke(t.Context(), w.scope, &api.InvokeInput{FunctionName: new("f:$LATEST"),
		ClientContext: new(base64.StdEncoding.EncodeToString([]byte(`{"custom":{}}`)))})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Env                 map[string]string
		Arn, Context, Trace string
	}
	if err := json.Unmarshal(out.Payload, &got); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"MINE": "ü", "AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
		"_HANDLER": "h", "AWS_ACCESS_KEY_ID": "ASIAX", "AWS_SESSION_TOKEN": "t", "AWS_REGION": region,
		"AWS_ENDPOINT_URL": "http://127.0.0.1:4566", "AWS_EXECUTION_ENV": "AWS_Lambda_provided.al2023"} {
		if got.Env[name] != want {
			t.Errorf("%s is %q, not %q", name, got.Env[name], want)
		}
	}
	if got.Arn != "arn:aws:lambda:us-east-1:000000000000:function:f:$LATEST" || got.Context != `{"custom":{}}` ||
		!regexp.MustCompile(`^Root=1-[0-9a-f]{8}-[0-9a-f]{24};`).MatchString(got.Trace) {
		t.Errorf("%+v", got)
	}
	all, _ := w.engine.List(t.Context())
	if l := w.engine.LimitsOf(all[0].ID); l.CPU != 1 || l.Memory != 1769<<20 {
		t.Errorf("%+v", l)
	}
}

func TestFunctionErrors(t *testing.T) {
	w := newWorld(t, map[string]program{
		"fails": func(invocation) reply { return reply{body: `{"errorMessage":"x"}`, failed: "ValueError"} },
		"exits": func(invocation) reply { return reply{exit: 3} },
		"oom":   func(invocation) reply { return reply{exit: enginetest.OutOfMemory} },
		"hangs": func(e invocation) reply { fmt.Fprintln(e.out, "before"); return reply{hang: true} },
		"big":   func(invocation) reply { return reply{body: `"` + strings.Repeat("x", 6<<20+100) + `"`} },
	})
	for _, c := range []struct{ program, payload, log string }{
		{"fails", `{"errorMessage":"x"}`, `REPORT .*\tInit Duration: [0-9.]+ ms\t\n$`},
		{"exits", `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 3"}`,
			`RequestId: ID Error: Runtime exited with error: exit status 3\nRuntime.ExitError\nEND .*\nREPORT .*Status: error\tError Type: Runtime.ExitError\n$`},
		{"oom", `{"errorType":"Runtime.OutOfMemory","errorMessage":"RequestId: ID Error: Runtime exited with error: signal: killed"}`,
			`signal: killed\n(?s:.*)Error Type: Runtime.OutOfMemory\n$`},
		{"hangs", `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ID Error: Task timed out after 1.00 seconds"}`,
			`before\n\d{4}-\d\d-\d\dT[0-9:.]+Z ID Task timed out after 1.00 seconds\nEND .*\nREPORT .*\tDuration: 1000.00 ms\tBilled Duration: 1\d\d\d ms\t.*Status: timeout\n$`},
		{"big", `{"errorType":"Function.ResponseSizeTooLarge","errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes)."}`,
			`Error Type: Function.ResponseSizeTooLarge\n$`},
		{"none", `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 7"}`,
			`^no program\nINIT_REPORT .*Phase: init\tStatus: error\tError Type: Runtime.ExitError\nno program\nINIT_REPORT .*Phase: invoke\tStatus: error\tError Type: Runtime.ExitError\n` +
				`START .*\nRequestId: ID Error: Runtime exited with error: exit status 7\nRuntime.ExitError\nEND .*\nREPORT .*Max Memory Used: \d+ MB\tStatus: error\tError Type: Runtime.ExitError\n$`},
	} {
		t.Run(c.program, func(t *testing.T) {
			w.create(c.program, c.program, func(in *api.CreateFunctionInput) {
				in.Timeout = new(int32(map[bool]int32{true: 1, false: 30}[c.program == "hangs"]))
			})
			out := w.invoke(c.program, "{}")
			id := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)
			if got := id.ReplaceAllString(string(out.Payload), "ID"); got != c.payload || deref(out.FunctionError) != "Unhandled" {
				t.Errorf("%s %s", got, deref(out.FunctionError))
			}
			log, _ := base64.StdEncoding.DecodeString(*out.LogResult)
			if !regexp.MustCompile(c.log).Match(id.ReplaceAll(log, []byte("ID"))) {
				t.Errorf("%q", log)
			}
		})
	}
	// Those that ended or hung are gone; the others are used again.
	w.until("dead sandboxes are removed", func() bool { return w.sandboxes() == 2 })
}

func TestInvokeRefusals(t *testing.T) {
	w := newWorld(t, map[string]program{"echo": echo})
	w.create("f", "echo")
	for _, c := range []struct {
		name string
		in   api.InvokeInput
		code string
	}{
		{"missing", api.InvokeInput{FunctionName: new("g")}, "ResourceNotFoundException"},
		{"missing version", api.InvokeInput{FunctionName: new("f"), Qualifier: new("3")}, "ResourceNotFoundException"},
		{"missing alias", api.InvokeInput{FunctionName: new("f:live")}, "ResourceNotFoundException"},
		{"two qualifiers", api.InvokeInput{FunctionName: new("f:1"), Qualifier: new("2")}, "InvalidParameterValueException"},
		{"not JSON", api.InvokeInput{FunctionName: new("f"), Payload: []byte("{")}, "InvalidRequestContentException"},
		{"sync size", api.InvokeInput{FunctionName: new("f"), Payload: bytes.Repeat([]byte("1"), 6<<20+1)}, "RequestTooLargeException"},
		{"async size", api.InvokeInput{FunctionName: new("f"), InvocationType: new("Event"), Payload: bytes.Repeat([]byte("1"), 1<<20+1)}, "RequestTooLargeException"},
		{"client context", api.InvokeInput{FunctionName: new("f"), ClientContext: new("{}")}, "InvalidRequestContentException"},
	} {
		if _, err := w.Invoke(t.Context(), w.scope, &c.in); awserr.Code(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	out, err := w.Invoke(t.Context(), w.scope, &api.InvokeInput{FunctionName: new("f"), InvocationType: new("DryRun")})
	if err != nil || *out.StatusCode != 204 || w.sandboxes() != 0 {
		t.Errorf("dry run: %+v %v", out, err)
	}
	_, err = w.Invoke(t.Context(), w.scope, &api.InvokeInput{FunctionName: new("nosuch")})
	if err == nil || err.Error() != "ResourceNotFoundException: Function not found: arn:aws:lambda:us-east-1:000000000000:function:nosuch" {
		t.Error(err)
	}
}

func TestConcurrency(t *testing.T) {
	release, arrived := make(chan struct{}), make(chan struct{}, 8)
	w := newWorld(t, map[string]program{"waits": func(e invocation) reply {
		arrived <- struct{}{}
		<-release
		return reply{body: e.body}
	}})
	w.create("f", "waits")
	if _, err := w.PutFunctionConcurrency(t.Context(), w.scope, &api.PutFunctionConcurrencyInput{FunctionName: new("f"), ReservedConcurrentExecutions: new(int32(3))}); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { w.invoke("f", "1") })
	}
	for range 3 {
		<-arrived
	}
	if n := w.sandboxes(); n != 3 {
		t.Errorf("%d sandboxes", n)
	}
	_, err := w.Invoke(t.Context(), w.scope, &api.InvokeInput{FunctionName: new("f")})
	if e, ok := err.(*api.TooManyRequestsException); !ok || *e.Reason != "ReservedFunctionConcurrentInvocationLimitExceeded" || *e.Message != "Rate Exceeded." {
		t.Errorf("%v", err)
	}
	close(release)
	wg.Wait()
	w.invoke("f", "1")
	if n := w.sandboxes(); n != 3 {
		t.Errorf("%d sandboxes", n)
	}
}

func TestNoPermissionToLog(t *testing.T) {
	w := newWorld(t, map[string]program{"echo": echo})
	w.noLogs = true
	w.create("f", "echo")
	w.invoke("f", "1")
	w.until("it was tried", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.calls["logs.CreateLogStream"] > 0
	})
	if l := w.written("/aws/lambda/f"); len(l) != 0 {
		t.Errorf("%q", l)
	}
}

func TestChangeEndsSandboxes(t *testing.T) {
	w := newWorld(t, map[string]program{"one": func(invocation) reply { return reply{body: "1"} }, "two": func(invocation) reply { return reply{body: "2"} }})
	w.create("f", "one")
	if out := w.invoke("f", "0"); string(out.Payload) != "1" {
		t.Fatal(string(out.Payload))
	}
	_, err := w.UpdateFunctionCode(t.Context(), w.scope, &api.UpdateFunctionCodeInput{FunctionName: new("f"),
		ZipFile: zipped(t, map[string]string{"bootstrap": "", "program": "two"})})
	if err != nil {
		t.Fatal(err)
	}
	if out := w.invoke("f", "0"); string(out.Payload) != "2" {
		t.Fatal(string(out.Payload))
	}
	w.active("f")
	w.until("the old sandbox is gone", func() bool { return w.sandboxes() == 1 })
	if _, err := w.DeleteFunction(t.Context(), w.scope, &api.DeleteFunctionInput{FunctionName: new("f")}); err != nil {
		t.Fatal(err)
	}
	w.until("all sandboxes are gone", func() bool { return w.sandboxes() == 0 })
}

func TestAsync(t *testing.T) {
	ran := make(chan string, 4)
	w := newWorld(t, map[string]program{"echo": func(e invocation) reply {
		ran <- e.body + e.header.Get("Lambda-Runtime-Aws-Request-Id")
		return reply{body: "1"}
	}})
	w.create("f", "echo")
	sc := w.scope
	sc.Request.ID = ids.UUID()
	out, err := w.Invoke(t.Context(), sc, &api.InvokeInput{FunctionName: new("f"), InvocationType: new("Event"), Payload: []byte(`"x"`)})
	if err != nil || *out.StatusCode != 202 || out.Payload != nil || out.ExecutedVersion != nil {
		t.Fatalf("%+v %v", out, err)
	}
	if got := <-ran; got != `"x"`+sc.Request.ID {
		t.Errorf("%s", got)
	}
}

func TestInitTimeout(t *testing.T) {
	w := newWorld(t, nil)
	w.initLimit = 50 * time.Millisecond
	w.create("f", "never ready", func(in *api.CreateFunctionInput) { in.Timeout = new(int32(1)) })
	out := w.invoke("f", "1")
	if !strings.Contains(string(out.Payload), `"errorType":"Sandbox.Timedout"`) || !strings.Contains(string(out.Payload), "Task timed out after 1.00 seconds") {
		t.Errorf("%s", out.Payload)
	}
	w.until("the log is written", func() bool { return len(w.written("/aws/lambda/f")) >= 7 })
	log := strings.Join(w.written("/aws/lambda/f"), "")
	if !regexp.MustCompile(`^INIT_START .*\nINIT_REPORT .*\tPhase: init\tStatus: timeout\nINIT_REPORT .*\tPhase: invoke\tStatus: timeout\n` +
		`START .*\n.* Task timed out after 1.00 seconds\nEND .*\nREPORT .*\tDuration: 1000.00 ms\tBilled Duration: 1000 ms\t.*Used: \d+ MB\tStatus: timeout\n$`).MatchString(log) {
		t.Errorf("%q", log)
	}
	w.until("no sandbox is left", func() bool { return w.sandboxes() == 0 })
}

// A function that is not active yet is not invoked; what was queued for it waits.
func TestPending(t *testing.T) {
	w := newWorld(t, map[string]program{"echo": echo})
	w.create("f", "echo")
	become := func(state string) {
		t.Helper()
		err := w.Store.Update(t.Context(), func(tx *store.Tx) error {
			v, err := getVersion(tx, ref{Account: account, Region: region, Name: "f"}, 0)
			if err != nil {
				return err
			}
			v.State = state
			return versions.Put(tx, v)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	active, err := w.resolve(t.Context(), ref{Account: account, Region: region, Name: "f"})
	if err != nil {
		t.Fatal(err)
	}
	become(statePending)
	for _, kind := range []string{"RequestResponse", "Event"} {
		_, err := w.Invoke(t.Context(), w.scope, &api.InvokeInput{FunctionName: new("f"), InvocationType: &kind})
		if err == nil || err.Error() != "ResourceConflictException: The operation cannot be performed at this time. The function is currently in the following state: Pending" {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if err := w.queue(t.Context(), active, &event{requestID: ids.UUID(), payload: []byte("1")}); err != nil {
		t.Fatal(err)
	}
	w.until("it was tried", func() bool { return w.outbox.Counts().Failed > 0 })
	become(stateActive)
	w.until("the event is handled", func() bool { return len(w.written("/aws/lambda/f")) > 0 })
}

// A program that cannot be executed leaves a log as well.
func TestNoBootstrap(t *testing.T) {
	w := newWorld(t, nil)
	w.create("f", "", func(in *api.CreateFunctionInput) { in.Code.ZipFile = zipped(t, map[string]string{"x": "1"}) })
	out := w.invoke("f", "1")
	if !strings.Contains(string(out.Payload), `"errorType":"Runtime.InvalidEntrypoint"`) || *out.FunctionError != "Unhandled" {
		t.Errorf("%s", out.Payload)
	}
	if log := logOf(t, out); !regexp.MustCompile(`^START .*\nRequestId: .* Error: Couldn't find valid bootstrap\(s\).*\nRuntime.InvalidEntrypoint\nEND .*\nREPORT .*\tStatus: error\tError Type: Runtime.InvalidEntrypoint\n$`).MatchString(log) {
		t.Errorf("%q", log)
	}
	w.until("the log is written", func() bool { return len(w.written("/aws/lambda/f")) == 6 })
}

// However fast a function writes, its log is whole.
func TestLogFlood(t *testing.T) {
	const lines, length = 20_000, 1000
	text := strings.Repeat("x", length)
	w := newWorld(t, map[string]program{"flood": func(e invocation) reply {
		for range lines {
			fmt.Fprintln(e.out, text)
		}
		return reply{body: "1"}
	}})
	w.create("f", "flood", func(in *api.CreateFunctionInput) { in.Timeout = new(int32(60)) })
	w.invoke("f", "1")
	w.until("all is written", func() bool { return len(w.written("/aws/lambda/f")) == lines+4 })
	if all := w.written("/aws/lambda/f"); !strings.HasPrefix(all[1], "START") || !strings.HasPrefix(all[lines+3], "REPORT") {
		t.Errorf("%q %q", all[1], all[lines+3])
	}
}

// A function that opens more connections than it may waits for its own.
func TestConnectionsAreLimited(t *testing.T) {
	w := newWorld(t, map[string]program{"greedy": func(e invocation) reply {
		ask := func(c net.Conn) error {
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // what fails shows in the read
			_, err := c.Read(make([]byte, 1))
			return err
		}
		var open []net.Conn
		for len(open) <= maxRuntime {
			c, err := e.dial(runtimeAPI)
			if err != nil {
				return reply{body: fmt.Sprintf("%q", err)}
			}
			defer c.Close()
			if _, err := io.WriteString(c, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				return reply{body: fmt.Sprintf("%q", err)}
			}
			open = append(open, c)
		}
		if ask(open[maxRuntime]) == nil {
			return reply{body: `"served beyond the limit"`}
		}
		for _, c := range open[:maxRuntime] {
			_ = c.Close()
		}
		for ask(open[maxRuntime]) != nil {
			if e.ctx.Err() != nil {
				return reply{body: `"never served"`}
			}
		}
		return reply{body: `"served in turn"`}
	}})
	w.create("f", "greedy", func(in *api.CreateFunctionInput) { in.Timeout = new(int32(30)) })
	if out := w.invoke("f", "1"); string(out.Payload) != `"served in turn"` {
		t.Errorf("%s", out.Payload)
	}
}

// A second initialisation may succeed; the handler has what is left of the time.
func TestSecondInit(t *testing.T) {
	var starts atomic.Int32
	w := newWorld(t, map[string]program{"echo": echo})
	w.beforeInit = func() int { return map[bool]int{true: 3}[starts.Add(1) == 1] }
	w.create("f", "echo")
	out := w.invoke("f", "1")
	if string(out.Payload) != "1" || out.FunctionError != nil {
		t.Errorf("%s %s", out.Payload, deref(out.FunctionError))
	}
	log := logOf(t, out)
	if !regexp.MustCompile(`^INIT_REPORT .*\tPhase: init\tStatus: error\tError Type: Runtime.ExitError\nSTART .*\ngot 1\nEND .*\nREPORT .*MB\t\n$`).MatchString(log) {
		t.Errorf("%q", log)
	}
	if w.invoke("f", "2"); starts.Load() != 2 {
		t.Error("the sandbox is not used again")
	}
}

func TestJSONLog(t *testing.T) {
	w := newWorld(t, map[string]program{"echo": echo})
	w.create("f", "echo", func(in *api.CreateFunctionInput) {
		in.LoggingConfig = &api.LoggingConfig{LogFormat: new("JSON"), LogGroup: new("mine")}
	})
	w.invoke("f", "1")
	w.until("the log is written", func() bool { return len(w.written("mine")) == 4 })
	var kinds []string
	for _, line := range w.written("mine") {
		var e struct {
			Type   string
			Record struct {
				Status  string
				Metrics struct{ MemorySizeMB int }
			}
		}
		if json.Unmarshal([]byte(line), &e) != nil {
			kinds = append(kinds, strings.TrimSpace(line))
			continue
		}
		kinds = append(kinds, e.Type)
		if e.Type == "platform.report" && (e.Record.Status != "success" || e.Record.Metrics.MemorySizeMB != 128) {
			t.Errorf("%s", line)
		}
	}
	if strings.Join(kinds, "; ") != "platform.initStart; platform.start; got 1; platform.report" {
		t.Errorf("%q", kinds)
	}
}
