package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the skerry that is tested.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "skerry-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		if binary = os.Getenv("SKERRY_BINARY"); binary == "" {
			binary = filepath.Join(dir, "skerry")
			if err := build(binary); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return m.Run()
	}())
}

// build builds skerry.
func build(to string, flags ...string) error {
	cmd := exec.Command("go", append(append([]string{"build", "-o", to}, flags...), "skerry/cmd/skerry")...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s%w", out, err)
	}
	return nil
}

// patience is how long a test waits for anything at all.
const patience = 60 * time.Second

// server is one running skerry.
type server struct {
	t        testing.TB
	Data     string
	Endpoint string // http://127.0.0.1:port
	program  string // the binary
	flags    []string
	cmd      *exec.Cmd
	log      *logBuffer
	ended    chan struct{}
}

// logBuffer keeps what a server logs, for the report of a failed test.
type logBuffer struct {
	mu struct {
		sync.Mutex
		b bytes.Buffer
	}
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.b.String()
}

// start starts a server on an empty data folder. It ends with the test.
func start(t testing.TB, flags ...string) *server {
	t.Helper()
	s := &server{t: t, Data: t.TempDir(), program: binary, flags: flags, log: &logBuffer{}}
	s.up("127.0.0.1:0")
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			t.Logf("the server's log:\n%s", tail(s.log.String(), 20_000))
		}
	})
	return s
}

var endpointLine = regexp.MustCompile(`endpoint\s+(http://\S+)`)

// up starts the binary and waits for its banner.
func (s *server) up(listen string) {
	s.t.Helper()
	args := append([]string{"up", "--listen", listen, "--data", s.Data}, s.flags...)
	s.cmd = exec.Command(s.program, args...)
	s.cmd.Env = append(clean(os.Environ()), "SKERRY_LOG_LEVEL=debug")
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	s.ended = ended
	found := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if m := endpointLine.FindStringSubmatch(lines.Text()); m != nil {
				found <- m[1]
			}
		}
		_ = s.cmd.Wait() // how it ended is the test's business, not the harness's
		close(ended)
	}()
	select {
	case s.Endpoint = <-found:
	case <-ended:
		s.t.Fatalf("the server ended at its start:\n%s", s.log)
	case <-time.After(patience):
		s.t.Fatalf("the server is not up after %v:\n%s", patience, s.log)
	}
}

// kill ends the server as a power cut would: kill -9.
func (s *server) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	<-s.ended
}

// restart starts the server again on the same port and folder.
func (s *server) restart() {
	s.t.Helper()
	s.up(strings.TrimPrefix(s.Endpoint, "http://"))
}

// stop ends the server in the orderly way and waits for it.
func (s *server) stop() {
	select {
	case <-s.ended:
		return
	default:
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended meanwhile
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.t.Errorf("the server does not stop")
		s.kill()
	}
}

// env is the environment of a client that is the root user.
func (s *server) env(more ...string) []string {
	config, err := filepath.Abs("testdata/aws-config")
	if err != nil {
		s.t.Fatal(err)
	}
	return append(clean(os.Environ()), append([]string{
		"AWS_ENDPOINT_URL=" + s.Endpoint,
		"AWS_ACCESS_KEY_ID=test",
		"AWS_SECRET_ACCESS_KEY=test",
		"AWS_REGION=us-east-1",
		"AWS_DEFAULT_REGION=us-east-1",
		"AWS_CONFIG_FILE=" + config,
		"AWS_SHARED_CREDENTIALS_FILE=/dev/null",
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_PAGER=",
	}, more...)...)
}

// run runs a client to its end and returns what it printed.
func (s *server) run(dir string, name string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = s.env()
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

// aws runs the AWS CLI and returns what it printed; an error fails the test. The
// CLI of Debian 12 does not know AWS_ENDPOINT_URL, so the endpoint is an
// argument.
func (s *server) aws(args ...string) string {
	s.t.Helper()
	out, e, err := s.tryAWS(args...)
	if err != nil {
		s.t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, e)
	}
	return out
}

// tryAWS is aws for calls that may fail.
func (s *server) tryAWS(args ...string) (stdout, stderr string, err error) {
	s.t.Helper()
	need(s.t, "aws")
	return s.run("", "aws", append([]string{"--endpoint-url", s.Endpoint}, args...)...)
}

// python runs a script with boto3 and returns what it printed.
func (s *server) python(script string, args ...string) string {
	s.t.Helper()
	py := pythonWith(s.t, "boto3")
	out, e, err := s.run("", py, append([]string{"-c", script}, args...)...)
	if err != nil {
		s.t.Fatalf("python: %v\n%s%s", err, out, e)
	}
	return out
}

// pythonWith finds an interpreter that has a module: the system's first.
func pythonWith(t testing.TB, module string) string {
	t.Helper()
	for _, py := range []string{"/usr/bin/python3", "python3"} {
		if exec.Command(py, "-c", "import "+module).Run() == nil {
			return py
		}
	}
	t.Fatalf("no Python with %s; tools/needs test installs it", module)
	return ""
}

// need fails the test if a program is missing: what tests need is installed by
// tools/needs, so that nothing is skipped in silence.
func need(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Fatalf("%s is missing; tools/needs test installs it", program)
	}
}

// needRoot skips a test that isolates real work.
func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: functions run in sandboxes")
	}
}

// eventually waits until a condition holds, and fails the test with what it
// said last if it does not within the time given.
func eventually(t testing.TB, limit time.Duration, condition func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %v", limit, err)
		}
	}
}

// get asks one of the server's own pages.
func (s *server) get(path string) (int, string) {
	s.t.Helper()
	return s.send(http.MethodGet, path)
}

func (s *server) send(method, path string) (int, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.Endpoint+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer a.Body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(a.Body); err != nil {
		s.t.Fatal(err)
	}
	return a.StatusCode, b.String()
}

// clean drops the variables that would change what a client or the server does.
func clean(env []string) []string {
	out := make([]string, 0, len(env))
	for _, v := range env {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "SKERRY_") {
			out = append(out, v)
		}
	}
	return out
}

// tail returns the last n bytes of a text.
func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}
