package wire_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"skerry/internal/wire"
)

// sdkModules are the modules whose snapshots are read, by service.
var sdkModules = map[string]string{
	"cloudwatch": "cloudwatch@v1.75.4",
	"dynamodb":   "dynamodb@v1.73.0",
	"ec2":        "ec2@v1.344.0",
	"ecs":        "ecs@v1.104.0",
	"iam":        "iam@v1.64.7",
	"kinesis":    "kinesis@v1.56.10",
	"lambda":     "lambda@v1.114.1",
	"logs":       "cloudwatchlogs@v1.91.1",
	"s3":         "s3@v1.114.7",
	"sqs":        "sqs@v1.52.9",
	"sts":        "sts@v1.51.7",
}

// sdkFolder returns the folder of a service's SDK module, downloaded if it is
// not in the cache. Outside of CI a test skips when that fails.
func sdkFolder(t *testing.T, service string) string {
	t.Helper()
	module := "github.com/aws/aws-sdk-go-v2/service/" + sdkModules[service]
	cmd := exec.Command("go", "mod", "download", "-json", module)
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	var answer struct{ Dir, Error string }
	if jsonErr := json.Unmarshal(out, &answer); err != nil || jsonErr != nil || answer.Dir == "" {
		if os.Getenv("CI") != "" {
			t.Fatalf("cannot download %s: %v %s", module, err, answer.Error)
		}
		t.Skipf("%s is neither in the module cache nor to be had: %v %s", module, err, answer.Error)
	}
	return answer.Dir
}

// excused are the snapshots that are wrong, with the reason.
var excused = map[string]string{
	"s3 GetObjectAttributes": "the snapshot has text for a part number, which the service refuses",
	"s3 ListParts":           "the snapshot has text for a part number, which the service refuses",
	"lambda InvokeAsync":     "the snapshot has the HTTP status in the body",
	"lambda DeleteFunction":  "the snapshot has the HTTP status in the body",
}

func isExcused(t *testing.T, svc *wire.Service, name string) bool {
	why, ok := excused[svc.ID+" "+name]
	if ok {
		t.Logf("%s is excused: %s", name, why)
	}
	return ok
}

// message is a snapshot of a request or a response.
type message struct {
	method, path, query string
	status              int
	header              http.Header
	body                []byte
}

func readSnapshot(t *testing.T, path string, response bool) message {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	line, rest, _ := bytes.Cut(b, []byte("\n"))
	m := message{header: http.Header{}}
	if response {
		if m.status, err = strconv.Atoi(string(line)); err != nil {
			t.Fatal(err)
		}
	} else {
		method, target, _ := strings.Cut(string(line), " ")
		m.method = method
		m.path, m.query, _ = strings.Cut(target, "?")
		rest = rest[1:]
	}
	for {
		line, after, _ := bytes.Cut(rest, []byte("\n"))
		rest = after
		name, value, ok := strings.Cut(string(line), ": ")
		if !ok {
			break
		}
		m.header[http.CanonicalHeaderKey(name)] = append(m.header.Values(name), value)
	}
	m.body = rest
	return m
}

// clientProtocol is the protocol of a service's Go SDK.
func clientProtocol(svc *wire.Service) wire.Protocol { return svc.Protocols[0] }

// TestRequestSnapshots decodes each request of the SDK as the server does and
// encodes the result again as a client does: nothing may be lost or changed.
func TestRequestSnapshots(t *testing.T) {
	total, newer := 0, 0
	for _, svc := range services() {
		t.Run(svc.ID, func(t *testing.T) {
			folder := filepath.Join(sdkFolder(t, svc.ID), "request_snapshot")
			for i := range svc.Operations {
				op := &svc.Operations[i]
				path := filepath.Join(folder, op.Name+".request.snap")
				if _, err := os.Stat(path); !op.Built() || err != nil {
					continue
				}
				if isExcused(t, svc, op.Name) {
					continue
				}
				missing, err := requestRoundTrip(svc, op, readSnapshot(t, path, false))
				if err != nil {
					t.Errorf("%s: %v", op.Name, err)
					continue
				}
				total++
				if excuse(t, svc, op.Name, op.Input, missing) {
					newer++
				}
			}
		})
	}
	t.Logf("%d requests decoded and encoded again identically, %d of them but for members newer than the models", total, newer)
}

func requestRoundTrip(svc *wire.Service, op *wire.Operation, m message) (missing []string, err error) {
	path := m.path
	if svc.ID == "s3" && strings.HasPrefix(op.URI, "/{Bucket}") {
		path = "/bucket" + path
	}
	r := &wire.Request{Method: m.method, Path: path, Query: m.query, Header: m.header, Body: bytes.NewReader(m.body), Length: -1}
	c, err := wire.Identify(svc, r)
	if err != nil {
		return nil, fmt.Errorf("identify: %w", err)
	}
	if c.Operation != op {
		return nil, fmt.Errorf("identified as %s", c.Operation.Name)
	}
	in := op.NewInput()
	if err := c.Decode(in); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	again, err := wire.Client{Service: svc, Protocol: c.Protocol, Endpoint: "http://x"}.Request(context.Background(), op.Name, in)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	body, err := io.ReadAll(again.Body)
	if err != nil {
		return nil, err
	}
	gotPath := again.URL.EscapedPath()
	if svc.ID == "s3" {
		gotPath = "/" + strings.TrimPrefix(strings.TrimPrefix(gotPath, "/bucket"), "/")
	}
	if strings.TrimSuffix(gotPath, "/") != strings.TrimSuffix(m.path, "/") || again.Method != m.method {
		return nil, fmt.Errorf("%s %s became %s %s", m.method, m.path, again.Method, gotPath)
	}
	want, err := flatten(m.header.Get("Content-Type"), m.body)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	got, err := flatten(again.Header.Get("Content-Type"), body)
	if err != nil {
		return nil, fmt.Errorf("encoded: %w", err)
	}
	flattenHead(want, m.header, m.query)
	flattenHead(got, again.Header, again.URL.RawQuery)
	return compare(want, got)
}

// TestResponseSnapshots decodes each response of the SDK's tests as a client
// does and encodes the result again as the server does.
func TestResponseSnapshots(t *testing.T) {
	total, newer := 0, 0
	for _, svc := range services() {
		t.Run(svc.ID, func(t *testing.T) {
			files, _ := filepath.Glob(filepath.Join(sdkFolder(t, svc.ID), "response_snapshot", "*.snap"))
			for _, path := range files {
				name, kind, _ := strings.Cut(filepath.Base(path), ".")
				m := readSnapshot(t, path, true)
				var missing []string
				var err error
				if isExcused(t, svc, name) {
					continue
				}
				if kind == "error.snap" {
					if svc.Shape(name) == nil {
						t.Logf("%s is newer than the models", name)
						continue
					}
					missing, err = errorRoundTrip(svc, name, m)
				} else if op := svc.Operation(name); op == nil || !op.Built() {
					continue
				} else {
					missing, err = responseRoundTrip(svc, op, m)
				}
				if err != nil {
					t.Errorf("%s: %v", filepath.Base(path), err)
					continue
				}
				total++
				if excuse(t, svc, name, answerShape(svc, name), missing) {
					newer++
				}
			}
		})
	}
	t.Logf("%d responses and errors decoded and encoded again identically, %d of them but for members newer than the models", total, newer)
}

// answerShape is the shape of an operation's output or of an error.
func answerShape(svc *wire.Service, name string) uint16 {
	if op := svc.Operation(name); op != nil {
		return op.Output
	}
	for i := range svc.Shapes {
		if svc.Shapes[i].Name == name {
			return uint16(i)
		}
	}
	return 0
}

func responseRoundTrip(svc *wire.Service, op *wire.Operation, m message) ([]string, error) {
	p := clientProtocol(svc)
	out := op.NewOutput()
	err := wire.Client{Service: svc, Protocol: p}.Response(op.Name, m.response(), out)
	if err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	c := wire.NewCall(svc, p, nil)
	c.Operation = op
	w := httptest.NewRecorder()
	if err := c.Encode(w, out, "id"); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return m.compareTo(w)
}

func errorRoundTrip(svc *wire.Service, name string, m message) ([]string, error) {
	p := clientProtocol(svc)
	op := ""
	for i := range svc.Operations {
		if svc.Operations[i].Built() {
			op = svc.Operations[i].Name
			break
		}
	}
	err := wire.Client{Service: svc, Protocol: p}.Response(op, m.response(), svc.Operation(op).NewOutput())
	modelled, ok := errors.AsType[wire.ModelledError](err)
	if !ok {
		return nil, fmt.Errorf("%s decoded as %T: %v", name, err, err)
	}
	if _, index := modelled.ErrorShape(); svc.Shapes[index].Name != name {
		return nil, fmt.Errorf("decoded as %T", modelled)
	}
	w := httptest.NewRecorder()
	wire.NewCall(svc, p, &wire.Request{Header: http.Header{"X-Amzn-Query-Mode": {"true"}}}).EncodeError(w, err, "id")
	return m.compareTo(w)
}

func (m message) response() *http.Response {
	return &http.Response{StatusCode: m.status, Header: m.header, Body: io.NopCloser(bytes.NewReader(m.body)), ContentLength: int64(len(m.body))}
}

func (m message) compareTo(w *httptest.ResponseRecorder) ([]string, error) {
	want, err := flatten(m.header.Get("Content-Type"), m.body)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	got, err := flatten(w.Header().Get("Content-Type"), w.Body.Bytes())
	if err != nil {
		return nil, fmt.Errorf("encoded: %w", err)
	}
	for name, v := range map[string]map[string]string{"want": want, "got": got} {
		if typ, ok := v["/__type"]; ok {
			_, after, found := strings.Cut(typ, "#")
			if found {
				v["/__type"] = after
			}
			_ = name
		}
		if got["/__type"] == "" {
			delete(want, "/__type") // in a header
		}
	}
	flattenHead(want, m.header, "")
	header := http.Header{}
	for k, v := range w.Header() {
		header[http.CanonicalHeaderKey(k)] = v
	}
	flattenHead(got, header, "")
	// The SDK's snapshots have 200 for all successes, and statuses of errors that
	// the RPC protocols do not use.
	if m.status/100 != w.Code/100 {
		return nil, fmt.Errorf("status %d became %d", m.status, w.Code)
	}
	return compare(want, got)
}

func sameNumber(a, b string) bool {
	x, errX := strconv.ParseFloat(a, 64)
	y, errY := strconv.ParseFloat(b, 64)
	return errX == nil && errY == nil && x == y
}

// compare returns the paths that are in want only, and an error for any other
// difference.
func compare(want, got map[string]string) (missing []string, err error) {
	for _, path := range slices.Sorted(maps.Keys(want)) {
		g, ok := got[path]
		switch {
		case !ok:
			missing = append(missing, path)
		case g != want[path] && !sameNumber(g, want[path]):
			return nil, fmt.Errorf("%s: %q became %q", path, want[path], g)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[path]; !ok {
			return nil, fmt.Errorf("%s: %q came from nowhere", path, got[path])
		}
	}
	return missing, nil
}
