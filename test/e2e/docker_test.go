package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"skerry/internal/engine"
	dockerengine "skerry/internal/engine/docker"
	"skerry/internal/engine/enginetest"
)

// docker is the stock client, pointed at a server's own socket.
type docker struct {
	*server
	socket, home string
}

// startDocker starts a server with a socket for docker clients, and loads the
// image busybox:latest, whose volume /data has a file.
func startDocker(t *testing.T) *docker {
	t.Helper()
	needRoot(t)
	need(t, "docker")
	dir := t.TempDir()
	d := &docker{socket: filepath.Join(dir, "docker.sock"), home: dir}
	d.server = start(t, "--docker-socket", d.socket)
	t.Cleanup(func() {
		_, _, _ = d.try("", "sh", "-c", "docker rm -f $(docker ps -aq)") // what a failed test left
	})
	image, err := enginetest.Busybox()
	if err != nil {
		t.Fatalf("%v; tools/needs test installs busybox-static", err)
	}
	image.Names = []string{"busybox:latest"}
	image.Config = engine.ImageConfig{Command: []string{"sh"}, Env: []string{"PATH=/bin"}}
	image.Layers = append(image.Layers, []enginetest.ImageFile{
		{Name: "data/"}, {Name: "data/seed", Content: []byte("seeded\n")}, {Name: "tmp/", Mode: 0o777}, {Name: "www/"}, {Name: "www/page", Content: []byte("served\n")},
	})
	archive := filepath.Join(dir, "busybox.tar")
	if err := os.WriteFile(archive, enginetest.Archive(image), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := d.docker("load", "-i", archive); !strings.Contains(out, "Loaded image: busybox:latest") {
		t.Errorf("%q", out)
	}
	return d
}

// try runs a program in the docker client's environment.
func (d *docker) try(stdin, name string, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(d.env(), "DOCKER_HOST=unix://"+d.socket, "DOCKER_CONFIG="+d.home)
	cmd.Stdin = strings.NewReader(stdin)
	var o, e strings.Builder
	cmd.Stdout, cmd.Stderr = &o, &e
	err = cmd.Run()
	return o.String(), e.String(), err
}

// docker runs the client and returns what it printed; an error fails the test.
func (d *docker) docker(args ...string) string {
	d.t.Helper()
	out, e, err := d.try("", "docker", args...)
	if err != nil {
		d.t.Fatalf("docker %s: %v\n%s%s", strings.Join(args, " "), err, out, e)
	}
	return out
}

// says runs the client and compares what it printed.
func (d *docker) says(want string, args ...string) {
	d.t.Helper()
	if got := d.docker(args...); strings.TrimSpace(got) != want {
		d.t.Errorf("docker %s: %q, want %q", strings.Join(args, " "), got, want)
	}
}

// fails runs the client, which has to end with a code and to say something.
func (d *docker) fails(code int, words string, args ...string) {
	d.t.Helper()
	out, e, err := d.try("", "docker", args...)
	var exit *exec.ExitError
	got := 0
	if err != nil {
		if x, ok := err.(*exec.ExitError); ok {
			exit, got = x, x.ExitCode()
		}
	}
	if exit == nil && code != 0 || got != code || !strings.Contains(out+e, words) {
		d.t.Errorf("docker %s: code %d, want %d with %q:\n%s%s", strings.Join(args, " "), got, code, words, out, e)
	}
}

func TestDockerRun(t *testing.T) {
	d := startDocker(t)
	d.says("hello", "run", "--rm", "busybox", "echo", "hello")
	d.fails(3, "", "run", "--rm", "busybox", "sh", "-c", "exit 3")
	d.fails(127, "executable file not found in $PATH", "run", "--rm", "busybox", "nosuch")
	d.fails(126, "", "run", "--rm", "busybox", "/data")
	d.fails(125, "No such container", "run", "--rm", "--network", "container:nobody", "busybox", "true")
	d.fails(125, "does not support", "run", "--rm", "--blkio-weight", "99", "busybox", "true")
	d.fails(125, "Requested CPUs are not available - requested 7000, available: 0", "run", "--rm", "--cpuset-cpus", "7000", "busybox", "true")
	d.fails(125, "Invalid value x for cpuset cpus", "run", "--rm", "--cpuset-cpus", "x", "busybox", "true")
	d.says("1", "run", "--rm", "--cpuset-cpus", "0", "busybox", "nproc")
	profile := filepath.Join(d.home, "profile.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	d.fails(1, "Operation not permitted", "run", "--rm", "--security-opt", "seccomp="+profile, "busybox", "chmod", "700", "/data")
	d.says("", "run", "--rm", "busybox", "chmod", "700", "/data")
	if out, e, err := d.try("through\n", "docker", "run", "-i", "--rm", "busybox", "cat"); err != nil || out != "through\n" {
		t.Errorf("%q %q %v", out, e, err)
	}
	out := d.docker("run", "--rm", "--memory", "64m", "--pids-limit", "50", "--ulimit", "nofile=99", "--read-only", "--tmpfs", "/t:size=1m", "--init", "--cap-drop", "ALL",
		"--hostname", "hh", "--add-host", "db:1.2.3.4", "--shm-size", "8m", "--sysctl", "net.core.somaxconn=55", "-e", "A=b", "-w", "/tmp", "--user", "7:8", "--group-add", "9", "busybox", "sh", "-c",
		"hostname; grep -w db /etc/hosts; df /dev/shm | grep -o 8192 | head -1; ulimit -n; cat /proc/sys/net/core/somaxconn; grep CapEff /proc/self/status; echo $A; pwd; id -u; id -G; touch /x 2>&1; echo; test $$ = 1 || echo init")
	want := "hh\n1.2.3.4\tdb\n8192\n99\n55\nCapEff:\t0000000000000000\nb\n/tmp\n7\n8 9\ntouch: /x: Read-only file system\n\ninit\n"
	if out != want {
		t.Errorf("%q, want %q", out, want)
	}
	d.says("mounted", "run", "--rm", "--privileged", "--device", "/dev/null:/dev/nothing", "busybox", "sh", "-c", "test -c /dev/nothing && mount -t tmpfs x /tmp && echo mounted")
	d.says("", "ps", "-aq") // --rm left nothing
	d.docker("version")
	if out := d.docker("info"); !strings.Contains(out, "Images: 1") {
		t.Error(out)
	}
}

func TestDockerLife(t *testing.T) {
	d := startDocker(t)
	id := strings.TrimSpace(d.docker("run", "-d", "--name", "job", "--health-cmd", "true", "--health-interval", "100ms", "busybox", "sh", "-c", "i=0; trap 'exit 9' TERM; while :; do i=$((i+1)); echo line $i; sleep 0.05; done"))
	d.fails(125, "is already in use by container \""+id+"\"", "run", "--name", "job", "busybox", "true")
	if out := d.docker("ps", "--format", "{{.Names}} {{.State}} {{.Image}}"); out != "job running busybox\n" {
		t.Errorf("%q", out)
	}
	eventually(t, patience, func() error {
		if out := d.docker("ps", "--format", "{{.Status}}"); !strings.Contains(out, "(healthy)") {
			return fmt.Errorf("%q", out)
		}
		return nil
	})
	d.says("inside", "exec", "-e", "A=inside", "job", "sh", "-c", "echo $A")
	d.fails(5, "", "exec", "job", "sh", "-c", "exit 5")
	d.fails(127, "executable file not found", "exec", "job", "nosuch")
	// A terminal of script's, so that docker asks for one.
	out, e, err := d.try("", "script", "-qec", "docker exec -it job sh -c 'tty; stty -g >/dev/null && echo done'", "/dev/null")
	if err != nil || !strings.Contains(out, "/dev/pts/") || !strings.Contains(out, "done\r\n") {
		t.Errorf("%q %q %v", out, e, err)
	}
	if out := d.docker("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", "job"); !regexp.MustCompile(`^job [1-9]`).MatchString(out) {
		t.Errorf("%q", out)
	}
	if out := d.docker("top", "job"); !strings.Contains(out, "line $i") {
		t.Errorf("%q", out)
	}
	d.docker("pause", "job")
	d.says("paused", "inspect", "-f", "{{.State.Status}}", "job")
	d.docker("unpause", "job")
	// logs -f ends with the container.
	followed := make(chan string, 1)
	go func() {
		out, _, _ := d.try("", "docker", "logs", "-f", "--tail", "3", "job")
		followed <- out
	}()
	d.docker("stop", "job")
	if lines := strings.Count(<-followed, "line "); lines < 3 {
		t.Errorf("%d lines were followed", lines)
	}
	d.says("exited 9", "inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "job")
	d.docker("start", "job")
	d.docker("kill", "job")
	d.says("137", "wait", "job")
	d.docker("rename", "job", "work")
	d.docker("rm", "work")
	d.fails(1, "No such", "inspect", "work")
}

func TestDockerFiles(t *testing.T) {
	d := startDocker(t)
	d.docker("create", "--name", "box", "-v", "named:/v:nocopy", "busybox", "cat", "/data/seed", "/tmp/in")
	in := filepath.Join(d.home, "in")
	if err := os.WriteFile(in, []byte("copied\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.docker("cp", in, "box:/tmp/in")
	d.says("seeded\ncopied", "start", "-a", "box")
	d.docker("cp", "box:/tmp/in", filepath.Join(d.home, "out"))
	if text, err := os.ReadFile(filepath.Join(d.home, "out")); err != nil || string(text) != "copied\n" {
		t.Errorf("%q %v", text, err)
	}
	d.fails(1, "/none", "cp", "box:/none", d.home)
	d.fails(1, "volume is in use", "volume", "rm", "named")
	d.docker("rm", "box")
	d.docker("run", "--rm", "-v", "named:/v:nocopy", "busybox", "sh", "-c", "echo more >> /v/seed")
	d.says("more", "run", "--rm", "-v", "named:/v:ro,nocopy", "busybox", "cat", "/v/seed")
	d.fails(1, "Read-only", "run", "--rm", "--mount", "type=volume,src=named,dst=/v,readonly,volume-nocopy", "busybox", "touch", "/v/x")
	d.docker("run", "--rm", "-v", d.home+":/host", "busybox", "sh", "-c", "echo bound > /host/bound")
	if text, err := os.ReadFile(filepath.Join(d.home, "bound")); err != nil || string(text) != "bound\n" {
		t.Errorf("%q %v", text, err)
	}
	d.says("named", "volume", "ls", "-q")
	d.docker("volume", "rm", "named")
	d.docker("run", "--rm", "-v", "fresh:/data", "busybox", "sh", "-c", "echo more >> /data/seed") // filled from the image
	d.says("seeded\nmore", "run", "--rm", "-v", "fresh:/data", "busybox", "cat", "/data/seed")
	d.says("seeded", "run", "--rm", "-v", "/data", "busybox", "cat", "/data/seed")
	d.says("seeded", "run", "--rm", "-v", "closed:/data:ro", "busybox", "cat", "/data/seed") // filled, then closed
	d.docker("volume", "rm", "closed")
	d.says("fresh", "volume", "ls", "-q") // the anonymous one went with its container
	d.docker("tag", "busybox", "other:v1")
	saved := filepath.Join(d.home, "saved.tar")
	d.docker("save", "-o", saved, "other:v1")
	d.docker("rmi", "other:v1", "busybox")
	d.says("", "images", "-q")
	d.docker("load", "-i", saved)
	d.says("other:v1", "images", "--format", "{{.Repository}}:{{.Tag}}")
	d.says("again", "run", "--rm", "other:v1", "echo", "again")
	// What one container has becomes an image of its own.
	d.docker("create", "--name", "donor", "other:v1")
	d.docker("export", "-o", saved, "donor")
	d.docker("import", "-c", `CMD ["cat", "/data/seed"]`, "-m", "by hand", saved, "flat:v1")
	d.says("seeded", "run", "--rm", "flat:v1")
	d.fails(1, "unexpected EOF", "import", truncated(t, saved), "flat:v2")
	d.docker("rm", "donor")
}

// diff, commit and sizes, of what a container has written.
func TestDockerCommit(t *testing.T) {
	d := startDocker(t)
	d.docker("run", "-d", "--name", "box", "-v", "/elsewhere", "busybox", "sh", "-c",
		"echo 12345 > /data/more; rm /data/seed; mkdir /new; echo x > /elsewhere/x; touch /new/done; while :; do sleep 0.05; done")
	eventually(t, patience, func() error { _, _, err := d.try("", "docker", "exec", "box", "test", "-e", "/new/done"); return err })
	d.says("C /data\nA /data/more\nD /data/seed\nA /elsewhere\nA /new\nA /new/done", "diff", "box")
	if out := d.docker("ps", "-s", "--format", "{{.Size}}"); !regexp.MustCompile(`^6B \(virtual [0-9.]+MB\)\n$`).MatchString(out) {
		t.Errorf("%q", out)
	}
	d.says("6", "inspect", "-s", "-f", "{{.SizeRw}}", "box")
	d.docker("commit", "-a", "somebody", "-m", "by hand", "-c", `CMD ["cat", "/data/more"]`, "-c", "LABEL made=yes", "box", "made:v1")
	d.says("12345", "run", "--rm", "made:v1")
	d.says("more", "run", "--rm", "made:v1", "ls", "/data")
	d.says("somebody by hand yes", "inspect", "-f", "{{.Author}} {{.Comment}} {{.Config.Labels.made}}", "made:v1")
	d.says("running", "inspect", "-f", "{{.State.Status}}", "box")
	d.docker("rm", "-f", "-v", "box")
	// The image is like any other: it can be saved, and what it was made of removed.
	saved := filepath.Join(d.home, "made.tar")
	d.docker("save", "-o", saved, "made:v1")
	d.docker("rmi", "made:v1", "busybox")
	d.docker("load", "-i", saved)
	d.says("12345", "run", "--rm", "made:v1")
}

// truncated is a copy of the first half of a file.
func truncated(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path+".half", text[:len(text)/2], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path + ".half"
}

func TestDockerNetwork(t *testing.T) {
	d := startDocker(t)
	need(t, "curl")
	d.docker("network", "create", "back")
	d.docker("run", "-d", "--name", "web", "--network", "back", "--network-alias", "site", "-p", "0:80", "busybox", "httpd", "-f", "-p", "80", "-h", "/www")
	port := regexp.MustCompile(`:(\d+)\s*$`).FindStringSubmatch(d.docker("port", "web", "80"))
	if port == nil {
		t.Fatal("no port is published")
	}
	eventually(t, patience, func() error {
		out, _, err := d.try("", "curl", "-sf", "-m", "5", "http://127.0.0.1:"+port[1]+"/page")
		if err == nil && out != "served\n" {
			err = fmt.Errorf("%q", out)
		}
		return err
	})
	for _, name := range []string{"web", "site"} {
		d.says("served", "run", "--rm", "--network", "back", "busybox", "wget", "-qO-", "http://"+name+"/page")
	}
	d.fails(1, "bad address", "run", "--rm", "busybox", "wget", "-qO-", "http://web/page")
	d.says("served", "run", "--rm", "--network", "container:web", "busybox", "wget", "-qO-", "http://127.0.0.1/page")
	d.fails(1, "has active endpoints", "network", "rm", "back")
	d.says("lo", "run", "--rm", "--network", "none", "busybox", "sh", "-c", "ls /sys/class/net")
	// A port is free again for the next once its container is gone.
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fixed := strconv.Itoa(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	for range 2 {
		d.docker("run", "-d", "--name", "fixed", "-p", fixed+":80", "busybox", "httpd", "-f", "-p", "80", "-h", "/www")
		d.docker("rm", "-f", "fixed")
	}
	d.docker("rm", "-f", "web")
	d.docker("network", "rm", "back")
	d.docker("run", "-d", "--name", "old", "busybox", "httpd", "-f", "-p", "80", "-h", "/www")
	d.says("served", "run", "--rm", "--link", "old:site", "busybox", "wget", "-qO-", "http://site/page")
	d.docker("rm", "-f", "old")
}

// Front and back: a container on both serves both, and joins nothing; what it is taken
// off is out of reach.
func TestDockerSeveralNetworks(t *testing.T) {
	d := startDocker(t)
	need(t, "curl")
	d.docker("network", "create", "front")
	d.docker("network", "create", "--internal", "back")
	serve := func(name string, args ...string) {
		t.Helper()
		args = append([]string{"run", "-d", "--name", name}, args...)
		d.docker(append(args, "busybox", "httpd", "-f", "-p", "80", "-h", "/www")...)
	}
	serve("web", "--network", "front", "--network-alias", "site")
	serve("db", "--network", "back")
	serve("app", "--network", "name=front,alias=shown", "--network", "name=back,alias=hidden", "-p", "127.0.0.1:0:80")
	asks := func(want bool, from, name string) {
		t.Helper()
		eventually(t, patience, func() error {
			out, e, err := d.try("", "docker", "exec", from, "busybox", "timeout", "2", "wget", "-qO-", "http://"+name+"/page")
			if got := err == nil && out == "served\n"; got != want {
				return fmt.Errorf("%s of %s: %q %q %v", from, name, out, e, err)
			}
			return nil
		})
	}
	outside := func() {
		t.Helper()
		at := strings.TrimSpace(d.docker("port", "app", "80"))
		eventually(t, patience, func() error {
			if out, _, err := d.try("", "curl", "-sf", "-m", "5", "http://"+at+"/page"); err != nil || out != "served\n" {
				return fmt.Errorf("published at %s: %q %v", at, out, err)
			}
			return nil
		})
	}
	for _, x := range [][2]string{{"app", "site"}, {"app", "db"}, {"web", "shown"}, {"db", "hidden"}, {"db", "app"}} {
		asks(true, x[0], x[1])
	}
	database := d.address("db", "back")
	for _, x := range [][2]string{{"web", "hidden"}, {"web", "db"}, {"db", "shown"}, {"db", "web"}, {"web", database}, {"web", d.address("app", "back")}} {
		asks(false, x[0], x[1])
	}
	outside()
	d.docker("network", "disconnect", "back", "app")
	asks(false, "app", database)
	asks(false, "db", "app")
	asks(true, "web", "app")
	d.docker("network", "connect", "--alias", "again", "back", "app")
	asks(true, "db", "again")
	// Its ports go with the network that leads outside.
	d.docker("network", "create", "apart")
	d.docker("network", "connect", "apart", "app")
	d.docker("network", "disconnect", "front", "app")
	asks(false, "web", "app")
	outside()
	d.kill()
	d.restart()
	asks(true, "db", "again")
	outside()
	d.docker("restart", "-t", "0", "app")
	asks(true, "app", "db")
	outside()
	d.says("apart back", "inspect", "-f", "{{range $n, $e := .NetworkSettings.Networks}}{{$n}} {{end}}", "app")
	d.fails(1, "has active endpoints", "network", "rm", "back")
	d.docker("rm", "-f", "web", "db", "app")
	d.docker("network", "rm", "front", "back", "apart")
}

// address is a container's on a network.
func (d *docker) address(name, network string) string {
	d.t.Helper()
	return strings.TrimSpace(d.docker("inspect", "-f", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", name))
}

// kill -9 of the server: containers go on, and what was asked for holds.
func TestDockerKilledServer(t *testing.T) {
	d := startDocker(t)
	d.docker("network", "create", "back")
	d.docker("run", "-d", "--name", "keep", "--network", "back", "busybox", "sh", "-c", "i=0; while :; do i=$((i+1)); echo line $i; sleep 0.05; done")
	d.docker("run", "-d", "--name", "again", "--restart", "always", "busybox", "sh", "-c", "sleep 0.3; exit 4")
	d.docker("run", "-d", "--name", "gone", "--rm", "busybox", "sleep", "1")
	pid := d.docker("inspect", "-f", "{{.State.Pid}}", "keep")
	leaving := strings.TrimSpace(d.docker("inspect", "-f", "{{.State.Pid}}", "gone"))
	d.kill()
	eventually(t, patience, func() error { // it ends while the server is away
		if _, err := os.Stat("/proc/" + leaving); err == nil {
			return fmt.Errorf("process %s runs", leaving)
		}
		return nil
	})
	d.restart()
	d.says(strings.TrimSpace(pid), "inspect", "-f", "{{.State.Pid}}", "keep")
	if n := strings.Count(d.docker("logs", "keep"), "line "); n < 5 {
		t.Errorf("%d lines", n)
	}
	eventually(t, patience, func() error {
		if out := d.docker("inspect", "-f", "{{.RestartCount}}", "again"); out < "2" {
			return fmt.Errorf("%s restarts", out)
		}
		if out := d.docker("ps", "-aq", "-f", "name=gone"); out != "" {
			return fmt.Errorf("the container of --rm is there: %s", out)
		}
		return nil
	})
	if out := d.docker("run", "--rm", "--network", "back", "busybox", "ping", "-c1", "-w9", "keep"); !strings.Contains(out, "1 packets received") {
		t.Errorf("%q", out)
	}
	d.docker("stop", "-t", "0", "keep", "again")
	d.says("", "ps", "-q")
	d.docker("rm", "keep", "again")
}

// The engine's driver for Docker daemons finds in Skerry all that the contract of
// engines wants of one.
func TestDockerContract(t *testing.T) {
	d := startDocker(t)
	e := dockerengine.Open(d.socket)
	defer e.Close()
	if info, err := e.Info(t.Context()); err != nil || !info.Runs {
		t.Fatalf("%+v, %v", info, err)
	}
	enginetest.Run(t, e)
	d.says("", "ps", "-aq")
}

// An image goes to Skerry's own registry and comes back.
func TestDockerPush(t *testing.T) {
	d := startDocker(t)
	d.aws("ecr", "create-repository", "--repository-name", "app")
	host := "localhost" + d.Endpoint[strings.LastIndex(d.Endpoint, ":"):]
	name := host + "/000000000000/us-east-1/app:v1"
	d.docker("tag", "busybox", name)
	d.fails(1, "denied", "push", name)
	if out, e, err := d.try("wrong", "docker", "login", "-u", "AWS", "--password-stdin", host); err == nil {
		t.Errorf("a wrong password: %s%s", out, e)
	}
	password := d.aws("ecr", "get-login-password")
	if out, e, err := d.try(password, "docker", "login", "-u", "AWS", "--password-stdin", host); err != nil || !strings.Contains(out, "Login Succeeded") {
		t.Fatalf("%s%s %v", out, e, err)
	}
	if out := d.docker("push", name); !strings.Contains(out, "digest: sha256:") {
		t.Errorf("%q", out)
	}
	second := strings.TrimSuffix(name, "v1") + "v2"
	d.docker("tag", name, second)
	if out := d.docker("push", "--all-tags", strings.TrimSuffix(name, ":v1")); !strings.Contains(out, "v1: digest: ") || !strings.Contains(out, "v2: digest: ") {
		t.Errorf("%q", out)
	}
	d.docker("rmi", name, second, "busybox")
	if out, e, err := d.try("", "docker", "run", "--rm", name, "echo", "pulled"); err != nil || out != "pulled\n" || !strings.Contains(e, "Pull complete") {
		t.Errorf("%q %q %v", out, e, err)
	}
	if out := d.docker("pull", name); !strings.Contains(out, "Image is up to date") {
		t.Errorf("%q", out)
	}
}
