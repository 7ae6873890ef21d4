package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"skerry/internal/cloud"
)

// A server of another build goes on with the containers of the one before, and so
// does their supervisor, as that build.
func TestUpgrade(t *testing.T) {
	d := startDocker(t)
	second := filepath.Join(t.TempDir(), "skerry")
	if err := build(second, "-ldflags", "-X main.version=second"); err != nil {
		t.Fatal(err)
	}
	d.docker("run", "-d", "--name", "counts", "busybox", "sh", "-c", "i=0; while ! test -e /end; do i=$((i+1)); echo line $i; sleep 0.01; done; exit 5")
	d.docker("run", "-d", "--name", "serves", "-p", "127.0.0.1::80", "busybox", "httpd", "-f", "-p", "80", "-h", "/www")
	port := strings.TrimSpace(d.docker("port", "serves", "80"))
	pid := strings.TrimSpace(d.docker("inspect", "-f", "{{.State.Pid}}", "counts"))
	lines := func() int { return strings.Count(d.docker("logs", "counts"), "line ") }
	more := func() {
		t.Helper()
		before := lines()
		eventually(t, patience, func() error {
			if n := lines(); n <= before {
				return fmt.Errorf("%d lines, as before", n)
			}
			return nil
		})
	}
	first := engineOf(d.server).Version
	for _, program := range []string{second, binary, second} {
		more()
		if d.program == second {
			d.kill()
		} else {
			d.stop()
		}
		d.program = program
		d.restart()
		want := "second"
		if program == binary {
			want = first
		}
		if e := engineOf(d.server); e.Version != want || e.Containers != 2 {
			t.Errorf("the engine is %+v, want version %q", e, want)
		}
		d.says(pid, "inspect", "-f", "{{.State.Pid}}", "counts")
		if out, err := fetch("http://" + port + "/page"); err != nil || out != "served\n" {
			t.Errorf("the published port: %q %v", out, err)
		}
	}
	if out, e, err := d.run("", second, "status", "--data", d.Data); err != nil || !strings.Contains(out, "embedded second") {
		t.Errorf("skerry status: %v\n%s%s", err, out, e)
	}
	more()
	d.docker("exec", "counts", "touch", "/end")
	d.says("5", "wait", "counts")
	for i, line := range strings.Split(strings.TrimSpace(d.docker("logs", "counts")), "\n") {
		if line != fmt.Sprint("line ", i+1) {
			t.Fatalf("line %d is %q", i+1, line)
		}
	}
	d.docker("rm", "-f", "counts", "serves")
}

// fetch gets a page by a connection of its own.
func fetch(url string) (string, error) {
	c := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := c.Get(url)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

// engineOf asks a server for the state of its engine.
func engineOf(s *server) cloud.EngineStatus {
	s.t.Helper()
	out, e, err := s.run("", s.program, "status", "--json", "--data", s.Data)
	var st cloud.Status
	if err == nil {
		err = json.Unmarshal([]byte(out), &st)
	}
	if err != nil {
		s.t.Fatalf("status: %v\n%s%s", err, out, e)
	}
	return st.Engine
}
