package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"skerry/internal/base/clock"
	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/loop"
	"skerry/internal/store"
)

// patience is how long a test waits for anything at all.
const patience = 20 * time.Second

// world is a daemon on a socket, over the real store and the Fake engine.
type world struct {
	t      *testing.T
	dir    string
	engine *enginetest.Fake
	db     *store.DB
	daemon *Daemon
	loops  *loop.Driver
	server *httptest.Server
	socket string
	client *http.Client
	disk   disk
}

// programs stand for those of the image "tool:latest".
func programs() map[string]enginetest.Program {
	return map[string]enginetest.Program{
		"echo": func(_ context.Context, p *enginetest.Process) int {
			fmt.Fprintln(p.Stdout, strings.Join(p.Args[1:], " "))
			return 0
		},
		"exit": func(_ context.Context, p *enginetest.Process) int {
			code, _ := strconv.Atoi(p.Args[1])
			fmt.Fprintln(p.Stderr, "code", code)
			return code
		},
		"sleep": func(ctx context.Context, p *enginetest.Process) int {
			select {
			case sig := <-p.Signals:
				return 128 + int(sig)
			case <-ctx.Done():
				return 0
			}
		},
		"cat": func(_ context.Context, p *enginetest.Process) int {
			_, _ = io.Copy(p.Stdout, p.Stdin)
			return 5
		},
		"env": func(_ context.Context, p *enginetest.Process) int {
			for _, e := range p.Env {
				fmt.Fprintln(p.Stdout, e)
			}
			return 0
		},
	}
}

// toolImage is an image with something of all that an image can say.
func toolImage() engine.Image {
	return engine.Image{
		ID: "sha256:" + strings.Repeat("7", 64), Names: []string{"tool:latest"}, Created: time.Unix(1_700_000_000, 0).UTC(), Size: 1 << 20,
		Platform: engine.Platform{OS: "linux", Architecture: "amd64"},
		Config: engine.ImageConfig{
			Command: []string{"sleep", "1000"}, Env: []string{"FROM=image", "PATH=/bin"}, Labels: map[string]string{"of": "image"}, Ports: []string{"80/tcp"},
		},
		History: []engine.ImageHistory{{CreatedBy: "COPY", Created: time.Unix(1_700_000_000, 0)}, {CreatedBy: "CMD", Empty: true}},
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), engine: enginetest.NewFake(programs()), disk: disk{FS: vfs.Default}}
	w.engine.Restarts, w.engine.Pullable = true, map[string]engine.Image{"tool:latest": toolImage()}
	w.up()
	if _, err := w.engine.Images().Pull(t.Context(), "tool:latest", engine.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.down() })
	return w
}

// up starts the daemon on what the last one left.
func (w *world) up() {
	w.t.Helper()
	var err error
	log := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	if w.db, err = store.Open(filepath.Join(w.dir, "store"), store.Options{Relaxed: true, FS: &w.disk}); err != nil {
		w.t.Fatal(err)
	}
	w.daemon = New(Deps{
		Store: w.db, Engine: w.engine, Clock: clock.Real, Log: log, Dir: filepath.Join(w.dir, "docker"), Account: "000000000000", Version: "test",
		Wake: func(name string) { w.loops.Wake(name) },
	})
	w.loops = loop.NewDriver(clock.Real, log, w.daemon.Loops()...)
	w.loops.Start()
	w.socket = filepath.Join(w.dir, "s")
	l, err := net.Listen("unix", w.socket)
	if err != nil {
		w.t.Fatal(err)
	}
	w.server = &httptest.Server{Listener: l, Config: &http.Server{Handler: w.daemon}}
	w.server.Start()
	w.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", w.socket)
	}}}
}

// down ends the daemon; the engine goes on.
func (w *world) down() {
	w.daemon.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := w.loops.Stop(ctx); err != nil {
		w.t.Error(err)
	}
	w.client.CloseIdleConnections()
	w.server.CloseClientConnections()
	w.server.Close()
	if err := w.db.Close(); err != nil {
		w.t.Error(err)
	}
}

// ask sends a request and returns the answer's status and body.
func (w *world) ask(method, path string, body any) (int, string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	var in io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			w.t.Fatal(err)
		}
		in = bytes.NewReader(text)
	}
	if !strings.HasPrefix(path, "/v1.") {
		path = "/v1.47" + path
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, in)
	if err != nil {
		w.t.Fatal(err)
	}
	a, err := w.client.Do(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a.StatusCode, string(text)
}

// must is ask for what has to succeed; it decodes the answer if into is given.
func (w *world) must(method, path string, body any, into ...any) {
	w.t.Helper()
	code, text := w.ask(method, path, body)
	if code >= 300 {
		w.t.Fatalf("%s %s: %d %s", method, path, code, text)
	}
	for _, v := range into {
		if err := json.Unmarshal([]byte(text), v); err != nil {
			w.t.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
}

// fails is ask for what must not succeed.
func (w *world) fails(code int, words, method, path string, body any) {
	w.t.Helper()
	got, text := w.ask(method, path, body)
	var m struct{ Message string }
	if code != http.StatusNotModified {
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			w.t.Errorf("%s %s: %d %q is no error", method, path, got, text)
		}
	}
	if got != code || !strings.Contains(m.Message, words) {
		w.t.Errorf("%s %s: %d %q, want %d %q", method, path, got, text, code, words)
	}
}

// object is a JSON object.
type object = map[string]any

// create makes a container and returns its id.
func (w *world) create(name string, config, host object) string {
	w.t.Helper()
	body := object{"Image": "tool:latest"}
	for k, v := range config {
		body[k] = v
	}
	if host != nil {
		body["HostConfig"] = host
	}
	path := "/containers/create"
	if name != "" {
		path += "?name=" + name
	}
	var out struct{ ID string }
	w.must("POST", path, body, &out)
	return out.ID
}

func (w *world) start(id string) {
	w.t.Helper()
	w.must("POST", "/containers/"+id+"/start", nil)
}

// state is the part of inspect that tests look at.
type state struct {
	ID           string `json:"Id"`
	Name         string
	RestartCount int
	State        struct {
		Status   string
		Running  bool
		ExitCode int
		Error    string
		Health   *struct {
			Status        string
			FailingStreak int
		}
	}
	Mounts []struct{ Type, Name, Source, Destination string }
	Config struct {
		Hostname string
		Env      []string
		Labels   map[string]string
	}
	HostConfig      object
	NetworkSettings struct {
		IPAddress string
		Ports     map[string][]struct{ HostIP, HostPort string }
		Networks  map[string]struct{ IPAddress, NetworkID string }
	}
}

func (w *world) inspect(id string) (s state) {
	w.t.Helper()
	w.must("GET", "/containers/"+id+"/json", nil, &s)
	return s
}

// until waits for a condition.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// wait asks for an exit code.
func (w *world) wait(id, condition string) int {
	w.t.Helper()
	var out struct{ StatusCode int }
	w.must("POST", "/containers/"+id+"/wait?condition="+condition, nil, &out)
	return out.StatusCode
}

// hijack opens a connection that becomes a stream.
func (w *world) hijack(path, body string) (net.Conn, *bufio.Reader) {
	w.t.Helper()
	conn, err := net.Dial("unix", w.socket)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "POST /v1.47%s HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil || !strings.Contains(line, " 101 ") {
		w.t.Fatalf("%s: %q %v", path, line, err)
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			w.t.Fatal(err)
		}
		if line == "\r\n" {
			return conn, r
		}
	}
}

// frames reads a stream of frames to its end.
func (w *world) frames(r io.Reader) (stdout, stderr string) {
	w.t.Helper()
	out := [3]strings.Builder{}
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err == io.EOF {
			return out[1].String(), out[2].String()
		} else if err != nil || head[0] > 2 {
			w.t.Fatalf("frame %v: %v", head, err)
		}
		if _, err := io.CopyN(&out[head[0]], r, int64(binary.BigEndian.Uint32(head[4:]))); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) logs(id, query string) (stdout, stderr string) {
	w.t.Helper()
	code, text := w.ask("GET", "/containers/"+id+"/logs?"+query, nil)
	if code != 200 {
		w.t.Fatalf("logs: %d %s", code, text)
	}
	return w.frames(strings.NewReader(text))
}
