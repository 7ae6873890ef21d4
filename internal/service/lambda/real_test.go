package lambda

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	api "skerry/internal/api/lambda"
	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/embedded"
	"skerry/internal/engine/enginetest"
	"skerry/internal/engine/image"
	"skerry/internal/store"
)

func TestMain(m *testing.M) {
	embedded.Main("") // does not return in the engine's supervisor
	os.Exit(m.Run())
}

// realWorld is Lambda over the embedded engine: functions really run.
func realWorld(t testing.TB, c Config) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("sandboxes need root")
	}
	dir, err := os.MkdirTemp("", "skerry-lambda-")
	if err != nil {
		t.Fatal(err)
	}
	e, err := embedded.Open(embedded.Config{Data: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return (&world{t: t}).build(e, c)
}

// function makes a function of source files.
func (w *world) function(name, runtime, handler string, files map[string]string, edit ...func(*api.CreateFunctionInput)) {
	w.t.Helper()
	w.create(name, "", append([]func(*api.CreateFunctionInput){func(in *api.CreateFunctionInput) {
		in.Runtime, in.Handler, in.Code.ZipFile = &runtime, &handler, zipped(w.t, files)
		in.Timeout = new(int32(10))
	}}, edit...)...)
}

func logOf(t testing.TB, out *api.InvokeOutput) string {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(deref(out.LogResult))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

const realPython = `
import json, os, sys, time, logging
logging.getLogger().setLevel("INFO")
def handler(event, context):
    what = event.get("do") if isinstance(event, dict) else None
    if what == "facts":
        logging.info("two\nlines")
        return {"uid": os.getuid(), "cwd": os.getcwd(), "files": sorted(os.listdir("/var/task")), "pid": os.getpid(),
                "name": context.function_name, "mine": os.environ.get("MINE"), "key": os.environ["AWS_ACCESS_KEY_ID"]}
    if what == "write":
        try:
            open("/var/task/x", "w")
        except OSError as e:
            return e.strerror
    if what == "fill":
        n = 0
        try:
            with open("/tmp/fill", "wb") as f:
                while n < event["mb"]:
                    f.write(b"x" * (1 << 20))
                    n += 1
        except OSError as e:
            return [e.strerror, n]
        finally:
            os.remove("/tmp/fill")
        return [None, n]
    if what == "tmp":
        n = 0
        try:
            with open("/tmp/big", "wb") as f:
                while True:
                    os.posix_fallocate(f.fileno(), n << 20, 1 << 20)
                    n += 1
        except OSError as e:
            os.remove("/tmp/big")
            return [e.strerror, n]
    if what == "spin":
        end = time.time() + event["for"]
        n = 0
        c = time.process_time()
        while time.time() < end:
            n += 1
        return time.process_time() - c
    if what == "memory":
        x = []
        while True:
            x.append(b"x" * (8 << 20))
    if what == "sleep":
        time.sleep(event["for"])
    if what == "exit":
        sys.exit(event["code"])
    if what == "state":
        globals()["count"] = globals().get("count", 0) + 1
        return globals()["count"]
    if what == "raise":
        raise RuntimeError("no")
    return event
`

func TestRealPython(t *testing.T) {
	t.Parallel()
	for _, ahead := range []int{0, 1} {
		t.Run(map[int]string{0: "fresh", 1: "ahead"}[ahead], func(t *testing.T) {
			w := realWorld(t, Config{Ahead: ahead})
			w.function("f", "python3.11", "app.handler", map[string]string{"app.py": realPython}, func(in *api.CreateFunctionInput) {
				in.Environment = &api.Environment{Variables: map[string]string{"MINE": "yes"}}
			})
			if ahead > 0 {
				w.fleet.takeAhead(aheadKey{account, "python3.11"}, w.Clock.Now()) // as an earlier function would have
				w.loops.Wake(loopAhead)
				w.until("an interpreter waits", func() bool { return w.ready("python3.11") == 1 })
			}
			out := w.invoke("f", `{"do": "facts"}`)
			var facts struct {
				UID            int
				Cwd, Name, Key string
				Mine           string
				Files          []string
				Pid            int
			}
			if err := json.Unmarshal(out.Payload, &facts); err != nil || out.FunctionError != nil {
				t.Fatalf("%s\n%s", out.Payload, logOf(t, out))
			}
			if facts.UID != functionUID || facts.Cwd != "/var/task" || facts.Name != "f" || facts.Key != "ASIAX" || facts.Mine != "yes" ||
				strings.Join(facts.Files, " ") != "app.py" || facts.Pid > 10 {
				t.Errorf("%+v", facts)
			}
			log := logOf(t, out)
			t.Log(log)
			if !regexp.MustCompile(`(?s)^START RequestId: \S+ Version: \$LATEST\n\[INFO\]\t\S+Z\t[0-9a-f-]{36}\ttwo\nlines\nEND RequestId: \S+\nREPORT .*Max Memory Used: [1-9]\d* MB\tInit Duration: [0-9.]+ ms\t\n$`).MatchString(log) {
				t.Errorf("%q", log)
			}
			if out := w.invoke("f", `{"do": "write"}`); string(out.Payload) != `"Read-only file system"` {
				t.Errorf("%s", out.Payload)
			}
			for want := 1; want < 4; want++ {
				if out := w.invoke("f", `{"do": "state"}`); string(out.Payload) != string(rune('0'+want)) {
					t.Errorf("%s, not %d", out.Payload, want)
				}
				w.until("it is frozen", func() bool { return w.frozen() == 1 })
			}
		})
	}
}

// ready is how many interpreters wait for a function.
func (w *world) ready(runtime string) int {
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	return len(w.fleet.ahead[aheadKey{account, runtime}])
}

// frozen is how many sandboxes with a function are.
func (w *world) frozen() (n int) {
	w.fleet.mu.Lock()
	var all []*sandbox
	for _, list := range w.fleet.idle {
		all = append(all, list...)
	}
	w.fleet.mu.Unlock()
	for _, sb := range all {
		if sb.isFrozen() {
			n++
		}
	}
	return n
}

func TestRealFailures(t *testing.T) {
	t.Parallel()
	w := realWorld(t, Config{})
	w.function("f", "python3.11", "app.handler", map[string]string{"app.py": realPython}, func(in *api.CreateFunctionInput) {
		in.Timeout = new(int32(2))
	})
	id := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`)
	for _, c := range []struct{ event, payload, log string }{
		{`{"do":"exit","code":3}`, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited with error: exit status 3"}`, `Error Type: Runtime.ExitError`},
		{`{"do":"exit","code":0}`, `{"errorType":"Runtime.ExitError","errorMessage":"RequestId: ID Error: Runtime exited without providing a reason"}`, ``},
		{`{"do":"memory"}`, `{"errorType":"Runtime.OutOfMemory","errorMessage":"RequestId: ID Error: Runtime exited with error: signal: killed"}`, `Max Memory Used: 12[78] MB`},
		{`{"do":"sleep","for":30}`, `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: ID Error: Task timed out after 2.00 seconds"}`, `Status: timeout`},
		{`{"do":"raise"}`, `{"errorMessage": "no", "errorType": "RuntimeError", "requestId": "ID", "stackTrace": ["  File \"/var/task/app.py\", line 56, in handler\n    raise RuntimeError(\"no\")\n"]}`, `\[ERROR\] RuntimeError: no\nTraceback`},
	} {
		out := w.invoke("f", c.event)
		if got := id.ReplaceAllString(string(out.Payload), "ID"); got != c.payload || deref(out.FunctionError) != "Unhandled" {
			t.Errorf("%s: %s", c.event, got)
		}
		if log := logOf(t, out); !regexp.MustCompile(c.log).MatchString(log) {
			t.Errorf("%s: %s", c.event, log)
		}
	}
}

func TestRealLimits(t *testing.T) {
	w := realWorld(t, Config{})
	w.function("tmp", "python3.11", "app.handler", map[string]string{"app.py": realPython}, func(in *api.CreateFunctionInput) {
		in.MemorySize, in.EphemeralStorage = new(int32(1024)), &api.EphemeralStorage{Size: new(int32(600))}
	})
	if out := w.invoke("tmp", `{"do":"tmp"}`); string(out.Payload) != `["No space left on device", 600]` && string(out.Payload) != `["No space left on device", 599]` {
		t.Errorf("%s", out.Payload)
	}
	// a disk, which does not count towards the function's memory
	w.function("disk", "python3.11", "app.handler", map[string]string{"app.py": realPython}, func(in *api.CreateFunctionInput) {
		in.MemorySize, in.Timeout = new(int32(128)), new(int32(60))
	})
	if out := w.invoke("disk", `{"do":"fill","mb":300}`); string(out.Payload) != `[null, 300]` {
		t.Errorf("300 MB beside 128 MB of memory: %s %s", out.Payload, logOf(t, out))
	}
	if out := w.invoke("disk", `{"do":"tmp"}`); string(out.Payload) != `["No space left on device", 512]` {
		t.Errorf("512 MB beside 128 MB of memory: %s %s", out.Payload, logOf(t, out))
	}
	w.function("cpu", "python3.11", "app.handler", map[string]string{"app.py": realPython}, func(in *api.CreateFunctionInput) { in.MemorySize = new(int32(354)) })
	w.invoke("cpu", `1`)
	out := w.invoke("cpu", `{"do":"spin","for":1}`)
	var used float64
	if err := json.Unmarshal(out.Payload, &used); err != nil || used > 0.3 || used < 0.05 {
		t.Errorf("a fifth of a processor worked %s s in a second", out.Payload)
	}
}

func TestRealNode(t *testing.T) {
	t.Parallel()
	w := realWorld(t, Config{Ahead: 1})
	w.function("f", "nodejs20.x", "index.handler", map[string]string{"index.mjs": `
export const handler = async (event, context) => { console.log('hi', context.functionName); return {event, uid: process.getuid(), mine: process.env.MINE}; };
`}, func(in *api.CreateFunctionInput) {
		in.Environment = &api.Environment{Variables: map[string]string{"MINE": "yes"}}
	})
	for _, kind := range []string{"fresh", "ahead"} {
		out := w.invoke("f", `{"a":1}`)
		if string(out.Payload) != `{"event":{"a":1},"uid":993,"mine":"yes"}` {
			t.Fatalf("%s: %s\n%s", kind, out.Payload, logOf(t, out))
		}
		if log := logOf(t, out); !strings.Contains(log, "\tINFO\thi f\n") || !strings.Contains(log, "Init Duration") {
			t.Errorf("%s: %s", kind, log)
		}
		t.Log(logOf(t, out))
		w.until("an interpreter waits", func() bool { return w.ready("nodejs20.x") == 1 })
		w.forget(ref{Account: account, Region: region, Name: "f"})
		w.until("the sandbox is gone", func() bool { return len(w.fleetIdle()) == 0 })
	}
}

func (w *world) fleetIdle() []*sandbox {
	w.fleet.mu.Lock()
	defer w.fleet.mu.Unlock()
	var all []*sandbox
	for _, list := range w.fleet.idle {
		all = append(all, list...)
	}
	return all
}

// goBootstrap builds a static program that speaks the Runtime API.
func goBootstrap(t testing.TB) string {
	t.Helper()
	buildOnce.Do(func() {
		dir, err := os.MkdirTemp("", "skerry-bootstrap-")
		if err != nil {
			buildErr = err
			return
		}
		defer os.RemoveAll(dir)
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", filepath.Join(dir, "bootstrap"), "./testdata/echo")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			buildErr = err
			t.Logf("%s", out)
			return
		}
		var b []byte
		if b, buildErr = os.ReadFile(filepath.Join(dir, "bootstrap")); buildErr == nil {
			built = string(b)
		}
	})
	if buildErr != nil {
		t.Fatal(buildErr)
	}
	return built
}

var (
	buildOnce sync.Once
	buildErr  error
	built     string
)

func TestRealGo(t *testing.T) {
	t.Parallel()
	w := realWorld(t, Config{})
	w.function("f", "provided.al2023", "bootstrap", map[string]string{"bootstrap": goBootstrap(t)})
	for range 3 {
		out := w.invoke("f", `{"a":1}`)
		if string(out.Payload) != `{"a":1}` {
			t.Fatalf("%s\n%s", out.Payload, logOf(t, out))
		}
		t.Log(logOf(t, out))
	}
	w.function("none", "provided.al2", "h", map[string]string{"other": "x"})
	if out := w.invoke("none", `1`); !strings.Contains(string(out.Payload), "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]") {
		t.Errorf("%s", out.Payload)
	}
	w.function("bad", "provided.al2", "h", map[string]string{"bootstrap": "not a program"})
	if out := w.invoke("bad", `1`); !strings.Contains(string(out.Payload), "fork/exec /var/task/bootstrap: exec format error") {
		t.Errorf("%s", out.Payload)
	}
}

func TestMissingInterpreter(t *testing.T) {
	// A version manager's wrapper is there for a version that is not chosen.
	shims := t.TempDir()
	if err := os.WriteFile(filepath.Join(shims, "python3.19"), []byte("#!/bin/sh\necho not found >&2\nexit 127\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", shims+":"+os.Getenv("PATH"))
	w := newWorld(t, nil)
	w.create("f", "", func(in *api.CreateFunctionInput) { in.Runtime = new("python3.19") })
	_, err := w.Invoke(t.Context(), w.scope, &api.InvokeInput{FunctionName: new("f")})
	if e, ok := err.(*api.InvalidRuntimeException); !ok || !strings.Contains(*e.Message, "Python 3.19, which runs functions of the runtime python3.19, is not on this machine") {
		t.Errorf("%v", err)
	}
}

// A runtime that the machine lacks comes out of its published image.
func TestPublishedInterpreter(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("sandboxes need root")
	}
	program := filepath.Join(t.TempDir(), "bootstrap")
	build := exec.Command("go", "build", "-o", program, "skerry/test/bench/bootstrap")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	images := realImages(t)
	e, err := embedded.Open(embedded.Config{Data: t.TempDir(), Images: images})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w := (&world{t: t}).build(e, Config{})
	archive := enginetest.Archive(enginetest.ImageSpec{
		Names: []string{"public.ecr.aws/lambda/python:3.19"}, Config: engine.ImageConfig{Env: []string{"PATH=/var/lang/bin"}},
		Layers: [][]enginetest.ImageFile{{{Name: "var/runtime/bootstrap", Mode: 0o755, Content: content}}},
	})
	if _, err := images.Load(t.Context(), bytes.NewReader(archive), nil); err != nil {
		t.Fatal(err)
	}
	w.function("f", "python3.19", "handler.handler", map[string]string{"handler.py": "# the image's program reads it"})
	out := w.invoke("f", `{"a":1}`)
	if out.FunctionError != nil || string(out.Payload) != `{"a":1}` {
		t.Errorf("%s: %s", deref(out.FunctionError), out.Payload)
	}
	if again := w.invoke("f", `2`); string(again.Payload) != `2` {
		t.Errorf("%s", again.Payload)
	}
}

func realImages(t *testing.T) *image.Store {
	t.Helper()
	dir := t.TempDir()
	db, err := store.Open(filepath.Join(dir, "store"), store.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(filepath.Join(dir, "blob"), blob.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Open(image.Config{Dir: filepath.Join(dir, "layers"), Store: db, Blobs: blobs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(images.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	return images
}
