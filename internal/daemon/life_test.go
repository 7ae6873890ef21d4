package daemon

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

func TestLife(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", object{"Labels": object{"mine": "yes"}, "Env": []string{"A=1", "FROM"}}, nil)
	s := w.inspect("web")
	if s.ID != id || s.Name != "/web" || s.State.Status != "created" || s.Config.Hostname != id[:12] || s.Config.Labels["of"] != "image" || s.Config.Labels["mine"] != "yes" {
		t.Errorf("%+v", s)
	}
	w.fails(409, `Conflict. The container name "/web" is already in use by container "`+id+`".`, "POST", "/containers/create?name=web", object{"Image": "tool:latest"})
	w.fails(404, "No such image: none:latest", "POST", "/containers/create", object{"Image": "none"})
	w.fails(404, "No such container: no", "GET", "/containers/no/json", nil)
	w.fails(409, "is not running", "POST", "/containers/web/kill", nil)
	w.fails(304, "", "POST", "/containers/web/stop", nil)

	w.start("web")
	w.fails(304, "", "POST", "/containers/web/start", nil)
	if s = w.inspect(id[:12]); s.State.Status != "running" || s.NetworkSettings.IPAddress != "172.17.0.2" || s.NetworkSettings.Networks["bridge"].IPAddress != "172.17.0.2" {
		t.Errorf("%+v", s)
	}
	var list []struct{ ID, State, Status string }
	w.must("GET", "/containers/json", nil, &list)
	if len(list) != 1 || list[0].State != "running" || !strings.HasPrefix(list[0].Status, "Up ") {
		t.Errorf("%+v", list)
	}
	w.must("POST", "/containers/web/pause", nil)
	w.fails(409, "is already paused", "POST", "/containers/web/pause", nil)
	w.fails(409, "is paused, unpause the container before exec", "POST", "/containers/web/exec", object{"Cmd": []string{"echo"}})
	if s = w.inspect("web"); s.State.Status != "paused" || !s.State.Running {
		t.Errorf("%+v", s.State)
	}
	w.must("POST", "/containers/web/unpause", nil)
	w.fails(409, "container is running: stop the container before removing or force remove", "DELETE", "/containers/web", nil)
	w.must("POST", "/containers/web/rename?name=site", nil)
	w.must("POST", "/containers/site/stop", nil)
	if s = w.inspect("site"); s.State.Status != "exited" || s.State.ExitCode != 143 {
		t.Errorf("%+v", s.State)
	}
	w.must("POST", "/containers/site/restart", nil)
	w.must("POST", "/containers/site/kill", nil)
	if s = w.inspect("site"); s.State.ExitCode != 137 {
		t.Errorf("%+v", s.State)
	}
	w.must("DELETE", "/containers/site", nil)
	w.fails(404, "No such container", "DELETE", "/containers/site", nil)
	w.must("GET", "/containers/json?all=1", nil, &list)
	if len(list) != 0 {
		t.Errorf("%+v", list)
	}
}

// docker run: attach, wait, start, read, learn the code; with --rm the
// container goes by itself.
func TestRun(t *testing.T) {
	w := newWorld(t)
	for _, rm := range []bool{false, true} {
		id := w.create("", object{"Cmd": []string{"exit", "3"}}, object{"AutoRemove": rm})
		conn, out := w.hijack("/containers/"+id+"/attach?stream=1&stdout=1&stderr=1", "")
		condition, code := "next-exit", make(chan int, 1)
		if rm {
			condition = "removed"
		}
		go func() { code <- w.wait(id, condition) }()
		w.until("somebody waits", func() bool { return w.daemon.bus.listeners() >= 2 })
		w.start(id)
		if stdout, stderr := w.frames(out); stdout != "" || stderr != "code 3\n" {
			t.Errorf("%q %q", stdout, stderr)
		}
		conn.Close()
		if got := <-code; got != 3 {
			t.Errorf("code %d", got)
		}
		if status, _ := w.ask("GET", "/containers/"+id+"/json", nil); (status == 404) != rm {
			t.Errorf("rm %v: %d", rm, status)
		}
	}
}

// Several clients at once: whatever comes of it, each has an answer.
func TestClientsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.create("it", nil, nil)
	for range 10 {
		var all sync.WaitGroup
		for _, what := range []string{"stop?t=0", "kill", "start", "restart?t=0", "pause", "unpause", "stop?t=0"} {
			all.Go(func() {
				if code, text := w.ask("POST", "/containers/it/"+what, nil); code >= 500 {
					t.Errorf("%s: %d %s", what, code, text)
				}
			})
		}
		all.Wait()
	}
	w.must("DELETE", "/containers/it?force=1", nil)
}

func TestInput(t *testing.T) {
	w := newWorld(t)
	id := w.create("", object{"Cmd": []string{"cat"}, "OpenStdin": true, "StdinOnce": true}, nil)
	conn, out := w.hijack("/containers/"+id+"/attach?stream=1&stdin=1&stdout=1", "")
	fmt.Fprint(conn, "early\n")
	w.start(id)
	fmt.Fprint(conn, "late\n")
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if stdout, _ := w.frames(out); stdout != "early\nlate\n" {
		t.Errorf("%q", stdout)
	}
	if code := w.wait(id, ""); code != 5 {
		t.Errorf("code %d", code)
	}
}

// A program need not read what it is sent: the client learns of its end all the
// same, and of no fault.
func TestUnreadInput(t *testing.T) {
	w := newWorld(t)
	id := w.create("", object{"Cmd": []string{"exit", "3"}, "OpenStdin": true, "StdinOnce": true}, nil)
	conn, out := w.hijack("/containers/"+id+"/attach?stream=1&stdin=1&stderr=1", "")
	if _, err := io.WriteString(conn, strings.Repeat("x", 128<<10)); err != nil { // what the socket holds
		t.Fatal(err)
	}
	w.start(id)
	if _, stderr := w.frames(out); stderr != "code 3\n" {
		t.Errorf("%q", stderr)
	}
}

func TestCannotStart(t *testing.T) {
	w := newWorld(t)
	id := w.create("", object{"Cmd": []string{"nothing"}}, nil)
	w.fails(400, `exec: "nothing": executable file not found in $PATH`, "POST", "/containers/"+id+"/start", nil)
	if s := w.inspect(id); s.State.Status != "created" || s.State.ExitCode != 127 || s.State.Error == "" {
		t.Errorf("%+v", s.State)
	}
	id = w.create("", object{"Cmd": []string{"nothing"}}, object{"AutoRemove": true})
	w.fails(400, "executable file not found", "POST", "/containers/"+id+"/start", nil)
	w.fails(404, "", "GET", "/containers/"+id+"/json", nil)
}

func TestLogs(t *testing.T) {
	w := newWorld(t)
	id := w.create("", object{"Cmd": []string{"echo", "one\ntwo\nthree"}}, nil)
	w.start(id)
	w.wait(id, "")
	w.start(id)
	w.wait(id, "")
	for query, want := range map[string]string{
		"stdout=1": "one\ntwo\nthree\none\ntwo\nthree\n", "stdout=1&tail=2": "two\nthree\n", "stdout=1&tail=0": "",
		"stdout=1&tail=4&follow=1": "three\none\ntwo\nthree\n", "stderr=1": "", "stdout=1&since=4000000000": "", "stdout=1&until=1000000000.5": "",
	} {
		if got, _ := w.logs(id, query); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	if got, _ := w.logs(id, "stdout=1&timestamps=1&tail=1"); len(got) != len("2006-01-02T15:04:05.000000000Z three\n") || !strings.HasSuffix(got, "Z three\n") {
		t.Errorf("%q", got)
	}
	w.fails(400, "you must choose at least one stream", "GET", "/containers/"+id+"/logs", nil)
	none := w.create("", nil, object{"LogConfig": object{"Type": "none"}})
	w.fails(501, "configured logging driver does not support reading", "GET", "/containers/"+none+"/logs?stdout=1", nil)
}

func TestExec(t *testing.T) {
	w := newWorld(t)
	id := w.create("", object{"Env": []string{"A=1"}}, nil)
	w.fails(409, "is not running", "POST", "/containers/"+id+"/exec", object{"Cmd": []string{"echo"}})
	w.start(id)
	var x struct{ ID string }
	exec := func(more object) {
		t.Helper()
		body := object{"AttachStdout": true, "AttachStderr": true}
		for k, v := range more {
			body[k] = v
		}
		w.must("POST", "/containers/"+id+"/exec", body, &x)
	}
	ended := func(code int) {
		t.Helper()
		var s struct {
			Running  bool
			ExitCode *int
		}
		w.until("the program to end", func() bool { w.must("GET", "/exec/"+x.ID+"/json", nil, &s); return !s.Running && s.ExitCode != nil })
		if *s.ExitCode != code {
			t.Errorf("code %d, want %d", *s.ExitCode, code)
		}
	}
	exec(object{"Cmd": []string{"exit", "4"}})
	_, out := w.hijack("/exec/"+x.ID+"/start", "{}")
	if stdout, stderr := w.frames(out); stdout != "" || stderr != "code 4\n" {
		t.Errorf("%q %q", stdout, stderr)
	}
	ended(4)
	w.fails(409, "has already run", "POST", "/exec/"+x.ID+"/start", object{})

	exec(object{"Cmd": []string{"cat"}, "AttachStdin": true, "Tty": true})
	conn, out := w.hijack("/exec/"+x.ID+"/start", `{"Tty":true}`)
	w.must("POST", "/exec/"+x.ID+"/resize?h=20&w=60", nil)
	fmt.Fprint(conn, "hello")
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(out); err != nil || string(text) != "hello" {
		t.Errorf("%q %v", text, err)
	}
	ended(5)

	exec(object{"Cmd": []string{"env"}, "Env": []string{"B=2"}})
	_, out = w.hijack("/exec/"+x.ID+"/start", "{}")
	if stdout, _ := w.frames(out); !strings.Contains(stdout, "A=1\n") || !strings.Contains(stdout, "B=2\n") {
		t.Errorf("%q", stdout)
	}
	exec(object{"Cmd": []string{"nothing"}})
	_, out = w.hijack("/exec/"+x.ID+"/start", "{}")
	if _, stderr := w.frames(out); !strings.Contains(stderr, "executable file not found") {
		t.Errorf("%q", stderr)
	}
	ended(127)
	exec(object{"Cmd": []string{"exit", "9"}})
	w.must("POST", "/exec/"+x.ID+"/start", object{"Detach": true})
	ended(9)
	w.fails(404, "No such exec instance", "GET", "/exec/no/json", nil)
}

// A policy starts a container again, until it has had enough or a client stops
// it; what was asked for outlives the daemon.
func TestRestartPolicy(t *testing.T) {
	w := newWorld(t)
	few := w.create("few", object{"Cmd": []string{"exit", "2"}}, object{"RestartPolicy": object{"Name": "on-failure", "MaximumRetryCount": 2}})
	w.start(few)
	if code := w.wait(few, ""); code != 2 {
		t.Errorf("code %d", code)
	}
	if s := w.inspect(few); s.RestartCount != 2 || s.State.Status != "exited" {
		t.Errorf("%d %+v", s.RestartCount, s.State)
	}
	fine := w.create("fine", object{"Cmd": []string{"exit", "0"}}, object{"RestartPolicy": object{"Name": "on-failure"}})
	w.start(fine)
	w.wait(fine, "")
	if s := w.inspect(fine); s.RestartCount != 0 {
		t.Errorf("%d restarts", s.RestartCount)
	}
	ever := w.create("ever", nil, object{"RestartPolicy": object{"Name": "always"}})
	w.start(ever)
	if err := w.engine.Signal(t.Context(), "", 9); err == nil {
		t.Error("no container has no name")
	}
	killed := func() {
		t.Helper()
		before := w.inspect(ever).RestartCount
		if err := w.engine.Signal(t.Context(), idOf(ever), 9); err != nil {
			t.Fatal(err)
		}
		w.until("a restart", func() bool { s := w.inspect(ever); return s.State.Status == "running" && s.RestartCount > before })
	}
	killed()
	w.must("POST", "/containers/ever/stop", nil)
	if s := w.inspect(ever); s.State.Status != "exited" {
		t.Errorf("%+v", s.State)
	}
	w.down() // always means: when the daemon comes up again, too
	w.up()
	w.until("a start with the daemon", func() bool { return w.inspect(ever).State.Status == "running" })
	killed()
	w.fails(400, "can't create 'AutoRemove' container with restart policy", "POST", "/containers/create",
		object{"Image": "tool:latest", "HostConfig": object{"AutoRemove": true, "RestartPolicy": object{"Name": "always"}}})
	w.fails(400, "unknown policy", "POST", "/containers/create", object{"Image": "tool:latest", "HostConfig": object{"RestartPolicy": object{"Name": "often"}}})
}

// While the daemon is away containers end, and some should go.
func TestDaemonAway(t *testing.T) {
	w := newWorld(t)
	plain, gone, kept := w.create("plain", nil, nil), w.create("gone", nil, object{"AutoRemove": true}), w.create("kept", nil, nil)
	for _, id := range []string{plain, gone, kept} {
		w.start(id)
	}
	w.down()
	for _, id := range []string{plain, gone} {
		if err := w.engine.Signal(t.Context(), idOf(id), 9); err != nil {
			t.Fatal(err)
		}
	}
	w.up()
	w.until("exits to be found", func() bool {
		code, _ := w.ask("GET", "/containers/gone/json", nil)
		return code == 404 && w.inspect(plain).State.Status == "exited"
	})
	if s := w.inspect(plain); s.State.ExitCode != 137 {
		t.Errorf("%+v", s.State)
	}
	if s := w.inspect(kept); s.State.Status != "running" {
		t.Errorf("%+v", s.State)
	}
	// What the engine has lost is started anew from the row.
	w.must("POST", "/containers/plain/rename?name=again", nil)
	if err := w.engine.Remove(t.Context(), idOf(plain)); err != nil {
		t.Fatal(err)
	}
	w.start("again")
	if s := w.inspect(plain); s.State.Status != "running" {
		t.Errorf("%+v", s.State)
	}
	// What was lost while the daemon was away is found to be.
	w.down()
	if err := w.engine.Remove(t.Context(), idOf(kept)); err != nil {
		t.Fatal(err)
	}
	w.up()
	w.until("a loss to be found", func() bool { return w.inspect(kept).State.ExitCode == lostCode })
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	for code, want := range map[string]string{"0": "healthy", "1": "unhealthy"} {
		id := w.create("", object{"Healthcheck": object{"Test": []string{"CMD", "exit", code}, "Interval": 10_000_000, "Retries": 2}}, nil)
		w.start(id)
		w.until(want, func() bool { h := w.inspect(id).State.Health; return h != nil && h.Status == want })
		w.must("DELETE", "/containers/"+id+"?force=1", nil)
	}
	w.fails(400, "Interval in Healthcheck cannot be less than 1ms", "POST", "/containers/create",
		object{"Image": "tool:latest", "Healthcheck": object{"Test": []string{"CMD", "true"}, "Interval": 5}})
}
