package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is an interpreter that runs a handler against a real endpoint.
type program struct {
	*Endpoint
	t      *testing.T
	cmd    *exec.Cmd
	out    bytes.Buffer
	exited chan struct{}
}

type language struct {
	interpreter, bootstrap string
	source                 []byte
}

var (
	python = language{"/usr/bin/python3", "bootstrap.py", PythonBootstrap}
	node   = language{"node", "bootstrap.js", NodeBootstrap}
)

// start runs files (name -> text) with a handler. With ahead, the program is
// started before it knows its function.
func start(t *testing.T, l language, handler string, ahead bool, env map[string]string, files map[string]string) *program {
	t.Helper()
	bin, err := exec.LookPath(l.interpreter)
	if err != nil {
		t.Skip(err)
	}
	root, own := t.TempDir(), t.TempDir()
	for name, text := range files {
		at := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(own, l.bootstrap), l.source, 0o644); err != nil {
		t.Fatal(err)
	}
	server := NewServer()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &program{Endpoint: NewEndpoint(time.Now), t: t, exited: make(chan struct{})}
	go server.Serve(ln, p.Endpoint)
	all := map[string]string{
		"_HANDLER": handler, "LAMBDA_TASK_ROOT": root, "AWS_LAMBDA_FUNCTION_NAME": "f",
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
		"AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f", "AWS_LAMBDA_LOG_STREAM_NAME": "s", "TZ": ":UTC",
	}
	for k, v := range env {
		all[k] = v
	}
	p.cmd = exec.Command(bin, filepath.Join(own, l.bootstrap))
	p.cmd.Env = []string{"AWS_LAMBDA_RUNTIME_API=" + ln.Addr().String(), "PATH=/usr/bin:/bin"}
	if ahead {
		b, _ := json.Marshal(all)
		p.cmd.Env = append(p.cmd.Env, "SKERRY_PRESTART=1")
		p.Assign(b)
	} else {
		for k, v := range all {
			p.cmd.Env = append(p.cmd.Env, k+"="+v)
		}
	}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		_ = ln.Close()
		_ = server.Close()
	})
	return p
}

func (p *program) invoke(payload string) Outcome {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer cancel()
	c, err := p.Invoke(Invocation{RequestID: "6bc28136-xmpl-4365-b021-0ce6b2e64ab0", Payload: []byte(payload),
		Deadline: time.Now().Add(3 * time.Second), FunctionARN: "arn:aws:lambda:us-east-1:000000000000:function:f:live",
		TraceID: "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700", ClientContext: `{"custom":{"a":"ü"},"client":{"app_title":"t"}}`})
	if err != nil {
		p.t.Fatal(err)
	}
	select {
	case o := <-c:
		return o
	case <-p.exited:
		p.t.Fatalf("exited: %s", p.out.String())
	case <-ctx.Done():
		p.t.Fatalf("no answer; output: %s", p.output())
	}
	return Outcome{}
}

// output ends the program and returns all that it wrote.
func (p *program) output() string {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.exited
	return p.out.String()
}

func (p *program) initError() Outcome {
	p.t.Helper()
	select {
	case o := <-p.InitFailed():
		<-p.exited
		return o
	case <-p.Ready():
		p.t.Fatal("initialised")
	case <-time.After(20 * time.Second):
		p.t.Fatalf("no answer; output: %s", p.output())
	}
	return Outcome{}
}

const pythonSource = `
import logging, os, sys, json, decimal
logger = logging.getLogger()
logger.setLevel("INFO")
def echo(event, context):
    return event
def facts(event, context):
    print("plain line")
    logger.info("two\nlines")
    return {"arn": context.invoked_function_arn, "name": context.function_name, "memory": context.memory_limit_in_mb,
            "custom": context.client_context.custom, "app": context.client_context.client.app_title,
            "left": 0 < context.get_remaining_time_in_millis() <= 3000, "trace": os.environ["_X_AMZN_TRACE_ID"],
            "identity": context.identity.cognito_identity_id, "number": decimal.Decimal("1.5"), "cwd": os.getcwd() == os.environ["LAMBDA_TASK_ROOT"]}
def fails(event, context):
    raise ValueError("no: " + event["x"])
def unserialisable(event, context):
    return object()
`

func TestPython(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		files := map[string]string{"pkg/app.py": pythonSource}
		name := map[bool]string{false: "fresh", true: "ahead"}[ahead]
		t.Run(name, func(t *testing.T) {
			p := start(t, python, "pkg/app.echo", ahead, nil, files)
			for _, payload := range []string{`{"a": [1, 2.5, null, true, "ü"]}`, `"x"`, `null`, ` [1]`, `-1e3`} {
				var want, got any
				_ = json.Unmarshal([]byte(payload), &want)
				o := p.invoke(payload)
				if err := json.Unmarshal(o.Payload, &got); err != nil || o.Failed || !equal(want, got) {
					t.Errorf("%s: %s %v", payload, o.Payload, err)
				}
			}
			if o := p.invoke("{"); o.ErrorType != "Runtime.UnmarshalError" ||
				!strings.Contains(string(o.Payload), "Unable to unmarshal input: Expecting property name enclosed in double quotes") {
				t.Errorf("malformed: %s", o.Payload)
			}
			p = start(t, python, "pkg.app.facts", ahead, nil, files)
			o := p.invoke("{}")
			const want = `{"arn": "arn:aws:lambda:us-east-1:000000000000:function:f:live", "name": "f", "memory": "128", ` +
				`"custom": {"a": "\u00fc"}, "app": "t", "left": true, "trace": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700", ` +
				`"identity": null, "number": 1.5, "cwd": true}`
			if string(o.Payload) != want {
				t.Errorf("facts: %s", o.Payload)
			}
			out := p.output()
			if !strings.Contains(out, "plain line\n\x02[INFO]\t2") || !strings.Contains(out, "Z\t6bc28136-xmpl-4365-b021-0ce6b2e64ab0\ttwo\x1flines\n") {
				t.Errorf("log: %q", out)
			}
			p = start(t, python, "pkg.app.fails", ahead, nil, files)
			o = p.invoke(`{"x": "y"}`)
			var e struct {
				ErrorMessage, ErrorType, RequestID string
				StackTrace                         []string
			}
			if err := json.Unmarshal(o.Payload, &e); err != nil || !o.Failed || o.ErrorType != "ValueError" || e.ErrorMessage != "no: y" ||
				len(e.StackTrace) != 1 || !strings.HasSuffix(e.StackTrace[0], "/pkg/app.py\", line 15, in fails\n    raise ValueError(\"no: \" + event[\"x\"])\n") {
				t.Errorf("error: %s", o.Payload)
			}
			if out := p.output(); !strings.Contains(out, "\x02[ERROR] ValueError: no: y\x1fTraceback (most recent call last):\x1f\u00a0\u00a0File ") {
				t.Errorf("log: %q", out)
			}
			p = start(t, python, "pkg.app.unserialisable", ahead, nil, files)
			if o := p.invoke("1"); o.ErrorType != "Runtime.MarshalError" ||
				!strings.Contains(string(o.Payload), "Unable to marshal response: Object of type object is not JSON serializable") {
				t.Errorf("%s", o.Payload)
			}
		})
	}
}

func equal(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return bytes.Equal(x, y)
}

func TestPythonInitErrors(t *testing.T) {
	files := map[string]string{"app.py": pythonSource, "broken.py": "def f(:\n", "needs.py": "import nothere\n", "raises.py": "1/0\n"}
	for _, c := range []struct{ handler, kind, text string }{
		{"app.none", "Runtime.HandlerNotFound", "Handler 'none' missing on module 'app'"},
		{"absent.f", "Runtime.ImportModuleError", "Unable to import module 'absent': No module named 'absent'"},
		{"needs.f", "Runtime.ImportModuleError", "Unable to import module 'needs': No module named 'nothere'"},
		{"broken.f", "Runtime.UserCodeSyntaxError", "Syntax error in module 'broken': invalid syntax (broken.py, line 1)"},
		{"raises.f", "ZeroDivisionError", "division by zero"},
		{"nodot", "Runtime.MalformedHandlerName", "Bad handler 'nodot': not enough values to unpack (expected 2, got 1)"},
	} {
		t.Run(c.handler, func(t *testing.T) {
			o := start(t, python, c.handler, false, nil, files).initError()
			var e struct{ ErrorMessage, ErrorType string }
			if err := json.Unmarshal(o.Payload, &e); err != nil || e.ErrorType != c.kind || e.ErrorMessage != c.text || o.ErrorType != c.kind {
				t.Errorf("%s", o.Payload)
			}
		})
	}
}

const nodeSource = `
exports.echo = async (event) => event;
exports.callback = (event, context, callback) => { setTimeout(() => callback(null, {got: event}), 5); };
exports.nowait = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = false; setInterval(() => {}, 1000); callback(null, 'at once'); };
exports.nothing = (event, context, callback) => {};
exports.hangs = async () => { await new Promise(() => {}); };
exports.facts = async (event, context) => {
  console.log('plain %s', 'line\nsecond'); console.error('bad');
  return {arn: context.invokedFunctionArn, name: context.functionName, memory: context.memoryLimitInMB, custom: context.clientContext.custom,
    left: context.getRemainingTimeInMillis() > 0, trace: process.env._X_AMZN_TRACE_ID, cwd: process.cwd() === process.env.LAMBDA_TASK_ROOT};
};
exports.fails = async () => { throw new TypeError('no'); };
exports.callbackError = (event, context, callback) => callback('text');
exports.stream = awslambda.streamifyResponse(async (event, stream) => { stream.write('a'); stream.write('b'); stream.end(); });
`

func TestNode(t *testing.T) {
	files := map[string]string{"app.js": nodeSource, "esm.mjs": "export const handler = async (e) => ({esm: e});\n"}
	for _, c := range []struct{ handler, payload, want string }{
		{"app.echo", `{"a":[1,"ü"]}`, `{"a":[1,"ü"]}`},
		{"app.echo", `null`, `null`},
		{"app.callback", `1`, `{"got":1}`},
		{"app.nowait", `1`, `"at once"`},
		{"app.nothing", `1`, `null`},
		{"esm.handler", `1`, `{"esm":1}`},
		{"app.stream", `1`, `ab`},
		{"app.facts", `1`, `{"arn":"arn:aws:lambda:us-east-1:000000000000:function:f:live","name":"f","memory":"128","custom":{"a":"ü"},` +
			`"left":true,"trace":"Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700","cwd":true}`},
	} {
		for _, ahead := range []bool{false, true} {
			t.Run(c.handler, func(t *testing.T) {
				p := start(t, node, c.handler, ahead, nil, files)
				for range 2 {
					if o := p.invoke(c.payload); string(o.Payload) != c.want || o.Failed {
						t.Fatalf("%+v %s\n%s", o, o.Payload, p.output())
					}
				}
				if c.handler == "app.facts" && !strings.Contains(p.output(), "Z\t6bc28136-xmpl-4365-b021-0ce6b2e64ab0\tINFO\tplain line\x1fsecond\n2") {
					t.Errorf("log: %q", p.out.String())
				}
			})
		}
	}
	for _, c := range []struct{ handler, kind, text string }{
		{"app.fails", "TypeError", "no"}, {"app.callbackError", "string", "text"}, {"app.hangs", "Runtime.NodeJsExit", ""},
	} {
		o := start(t, node, c.handler, false, nil, files).invoke("{}")
		var e struct {
			ErrorMessage, ErrorType string
			Trace                   []string
		}
		if err := json.Unmarshal(o.Payload, &e); err != nil || !o.Failed || e.ErrorType != c.kind || e.ErrorMessage != c.text {
			t.Errorf("%s: %+v %s", c.handler, o, o.Payload)
		}
	}
}

func TestNodeInitErrors(t *testing.T) {
	files := map[string]string{"app.js": nodeSource, "broken.js": "function {", "needs.js": "require('nothere')", "raises.js": "null.x"}
	for _, c := range []struct{ handler, kind, text string }{
		{"app.none", "Runtime.HandlerNotFound", "app.none is undefined or not exported"},
		{"absent.f", "Runtime.ImportModuleError", "Error: Cannot find module 'absent'"},
		{"needs.f", "Runtime.ImportModuleError", "Error: Cannot find module 'nothere'"},
		{"broken.f", "Runtime.UserCodeSyntaxError", "SyntaxError: Unexpected token '{'"},
		{"raises.f", "TypeError", "Cannot read properties of null (reading 'x')"},
		{"nodot", "Runtime.MalformedHandlerName", "Bad handler"},
	} {
		t.Run(c.handler, func(t *testing.T) {
			o := start(t, node, c.handler, false, nil, files).initError()
			var e struct{ ErrorMessage, ErrorType string }
			if err := json.Unmarshal(o.Payload, &e); err != nil || e.ErrorType != c.kind || !strings.HasPrefix(e.ErrorMessage, c.text) {
				t.Errorf("%s", o.Payload)
			}
		})
	}
}
