package lambda

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	api "skerry/internal/api/lambda"
	apilogs "skerry/internal/api/logs"
	apis3 "skerry/internal/api/s3"
	apists "skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/clock"
	"skerry/internal/base/ids"
	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/events"
	"skerry/internal/loop"
	"skerry/internal/meter"
	"skerry/internal/store"
)

const (
	account = "000000000000"
	region  = "us-east-1"
	role    = "arn:aws:iam::000000000000:role/r"
)

// world is Lambda with a fake engine and the few operations of other services that
// it calls.
type world struct {
	*Service
	t      testing.TB
	engine *enginetest.Fake
	loops  *loop.Driver
	outbox *events.Outbox
	scope  auth.Scope

	mu      sync.Mutex
	logs    map[string][]string // by group
	objects map[string][]byte
	calls   map[string]int
	noLogs  bool // the role may not write logs

	// beforeInit, if set, is called as a program starts; not zero is how it exits.
	beforeInit func() int
}

// programs are the functions of the fake engine, by the content of a file
// "program" in the code.
type program func(e invocation) reply

type invocation struct {
	header http.Header
	body   string
	env    map[string]string
	out    io.Writer
	ctx    context.Context
	dial   func(address string) (net.Conn, error)
}

type reply struct {
	body   string
	failed string // error type
	exit   int    // if not zero the program ends with it, enginetest.OutOfMemory included
	hang   bool
}

func newWorld(t testing.TB, programs map[string]program) *world {
	t.Helper()
	w := &world{t: t}
	w.engine = enginetest.NewFake(map[string]enginetest.Program{"/var/task/bootstrap": w.bootstrap(programs)})
	return w.build(w.engine, Config{})
}

// build makes the service over an engine.
func (w *world) build(e engine.Engine, c Config) *world {
	t := w.t
	db, err := store.Open(t.TempDir(), store.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	blobs, err := blob.Open(t.TempDir(), blob.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	w.logs, w.objects, w.calls = map[string][]string{}, map[string][]byte{}, map[string]int{}
	c.Dir, c.Endpoint = t.TempDir(), "http://127.0.0.1:4566"
	log := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	w.outbox = events.New(db, clock.Real, log)
	w.Service = New(Deps{Store: db, Blobs: blobs, Clock: clock.Real, Log: log, Cloud: w, Directory: w, Outbox: w.outbox,
		Meter: meter.New(db, clock.Real), Engine: e, Wake: func(n string) { w.loops.Wake(n) }, Config: c})
	w.loops = loop.NewDriver(clock.Real, log, append(w.Loops(), w.outbox.Loop())...)
	w.loops.Start()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.loops.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := w.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	w.scope = auth.NewScope(auth.Principal{Kind: auth.Root, Account: account}, region, auth.Request{ID: ids.UUID(), Time: time.Now()})
	return w
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if testing.Verbose() {
		fmt.Fprint(os.Stderr, string(b))
	}
	return len(b), nil
}

// bootstrap speaks the Runtime API for the program that the code names.
func (w *world) bootstrap(programs map[string]program) enginetest.Program {
	return func(ctx context.Context, p *enginetest.Process) int {
		dir := ""
		for _, m := range p.Mounts() {
			if m.Target == "/var/task" {
				dir = m.Source
			}
		}
		name, _ := os.ReadFile(dir + "/program")
		run := programs[string(name)]
		env := map[string]string{}
		for _, e := range p.Env {
			k, v, _ := strings.Cut(e, "=")
			env[k] = v
		}
		if string(name) == "never ready" {
			<-ctx.Done()
			return 1
		}
		if w.beforeInit != nil {
			if code := w.beforeInit(); code != 0 {
				return code
			}
		}
		hc := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return p.Dial(ctx, network, runtimeAPI)
		}}}
		defer hc.CloseIdleConnections()
		if run == nil {
			_, _ = fmt.Fprintln(p.Stdout, "no program")
			return 7
		}
		for {
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://runtime/2018-06-01/runtime/invocation/next", nil)
			res, err := hc.Do(req)
			if err != nil {
				return 1
			}
			body, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			r := run(invocation{res.Header, string(body), env, p.Stdout, ctx,
				func(address string) (net.Conn, error) { return p.Dial(ctx, "tcp4", address) }})
			switch {
			case r.exit != 0:
				return r.exit
			case r.hang:
				<-ctx.Done()
				return 1
			}
			what := "response"
			if r.failed != "" {
				what = "error"
			}
			req, _ = http.NewRequestWithContext(ctx, "POST", "http://runtime/2018-06-01/runtime/invocation/"+
				res.Header.Get("Lambda-Runtime-Aws-Request-Id")+"/"+what, strings.NewReader(r.body))
			req.Header.Set("Lambda-Runtime-Function-Error-Type", r.failed)
			if res, err = hc.Do(req); err != nil {
				return 1
			}
			_ = res.Body.Close()
		}
	}
}

// Call implements op.Caller for what Lambda asks of others.
func (w *world) Call(_ context.Context, sc auth.Scope, service, operation string, in any) (any, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[service+"."+operation]++
	switch in := in.(type) {
	case *apists.AssumeRoleInput:
		if *in.RoleArn != role || sc.Principal.Service != principal {
			return nil, awserr.New(403, "AccessDenied", "no")
		}
		return &apists.AssumeRoleOutput{Credentials: &apists.Credentials{AccessKeyId: new("ASIAX"), SecretAccessKey: new("s"),
			SessionToken: new("t"), Expiration: new(time.Now().Add(time.Hour))}}, nil
	case *apilogs.CreateLogGroupInput:
		w.logs[*in.LogGroupName] = []string{}
		return &apilogs.CreateLogGroupOutput{}, nil
	case *apilogs.CreateLogStreamInput:
		if w.noLogs {
			return nil, awserr.New(400, "AccessDeniedException", "no")
		}
		if w.logs[*in.LogGroupName] == nil {
			return nil, awserr.New(400, "ResourceNotFoundException", "no group")
		}
		return &apilogs.CreateLogStreamOutput{}, nil
	case *apilogs.PutLogEventsInput:
		if sc.Principal.Role != role {
			return nil, errors.New("not as the role")
		}
		for _, e := range in.LogEvents {
			w.logs[*in.LogGroupName] = append(w.logs[*in.LogGroupName], *e.Message)
		}
		return &apilogs.PutLogEventsOutput{}, nil
	case *apis3.GetObjectInput:
		b, ok := w.objects[*in.Bucket+"/"+*in.Key]
		if !ok {
			return nil, awserr.New(404, "NoSuchKey", "The specified key does not exist.")
		}
		return &apis3.GetObjectOutput{Body: io.NopCloser(bytes.NewReader(b))}, nil
	}
	return nil, fmt.Errorf("nobody answers %s.%s", service, operation)
}

// Credential implements auth.Directory.
func (w *world) Credential(context.Context, string) (auth.Credential, error) {
	return auth.Credential{Principal: auth.Principal{Kind: auth.AssumedRole, Account: account, Role: role}}, nil
}

// Policies implements auth.Directory.
func (w *world) Policies(context.Context, auth.Principal) (auth.Policies, error) {
	return auth.Policies{}, nil
}

// zipped makes a zip file of names and contents.
func zipped(t testing.TB, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &zip.FileHeader{Name: name, Method: zip.Deflate}
		h.SetMode(0o755)
		f, err := z.CreateHeader(h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, files[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// create makes a function that runs a program, and waits until it is active.
func (w *world) create(name, program string, edit ...func(*api.CreateFunctionInput)) {
	w.t.Helper()
	in := &api.CreateFunctionInput{FunctionName: &name, Runtime: new("provided.al2023"), Handler: new("h"), Role: new(role),
		Code: &api.FunctionCode{ZipFile: zipped(w.t, map[string]string{"bootstrap": "", "program": program})}}
	for _, e := range edit {
		e(in)
	}
	if _, err := w.CreateFunction(w.t.Context(), w.scope, in); err != nil {
		w.t.Fatal(err)
	}
	w.active(name)
}

func (w *world) active(name string) {
	w.t.Helper()
	w.until("the function is active", func() bool {
		c, err := w.GetFunctionConfiguration(w.t.Context(), w.scope, &api.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil {
			w.t.Fatal(err)
		}
		return *c.State == "Active" && deref(c.LastUpdateStatus) == "Successful"
	})
}

// until waits for a condition.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	for !ok() {
		if clock.Sleep(ctx, clock.Real, 2*time.Millisecond) != nil {
			w.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (w *world) invoke(name, payload string) *api.InvokeOutput {
	w.t.Helper()
	sc := w.scope
	sc.Request.ID = ids.UUID()
	out, err := w.Invoke(w.t.Context(), sc, &api.InvokeInput{FunctionName: &name, Payload: []byte(payload), LogType: new("Tail")})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// written are the messages in a log group.
func (w *world) written(group string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.logs[group])
}

func (w *world) sandboxes() int {
	all, err := w.engine.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return len(all)
}

func (w *world) states() (out []engine.State) {
	all, _ := w.engine.List(w.t.Context())
	for _, s := range all {
		out = append(out, s.State)
	}
	return out
}
