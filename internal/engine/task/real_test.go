//go:build linux && amd64

package task

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/embedded"
	"skerry/internal/engine/enginetest"
	"skerry/internal/engine/image"
	"skerry/internal/engine/resolver"
	"skerry/internal/store"
)

func TestMain(m *testing.M) {
	embedded.Main("")
	os.Exit(m.Run())
}

// realWorld is a world over the embedded engine, with busybox as "app".
func realWorld(t testing.TB) *world {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	busybox, err := enginetest.Busybox("app:latest")
	if err != nil {
		t.Skip(err)
	}
	w := &world{t: t}
	dir, err := os.MkdirTemp("", "skerry-task-")
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.TempDir(), store.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(t.TempDir(), blob.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	images, err := image.Open(image.Config{Dir: dir + "/layers", Store: db, Blobs: blobs, Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	e, err := embedded.Open(embedded.Config{Data: dir + "/engine", Linger: time.Minute, Images: images})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testPatience)
		defer cancel()
		if err := errors.Join(e.Shutdown(ctx), e.Close(), images.Close(), db.Close()); err != nil {
			t.Error(err)
		}
		if b, _ := os.ReadFile(dir + "/engine/supervisor.log"); len(b) > 0 {
			t.Errorf("the supervisor's log:\n%s", b)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if _, err := images.Load(t.Context(), bytes.NewReader(enginetest.Archive(busybox)), nil); err != nil {
		t.Fatal(err)
	}
	w.data = dir + "/engine"
	return w.build(Config{Engine: e, Clock: clock.Real})
}

// sh is a container that runs a script.
func sh(name, script string) Container {
	return Container{Name: name, Essential: true, Image: "app", Command: []string{"sh", "-c", script}, Log: awslogs("g")}
}

func (w *world) beginReal(all ...Container) *Task {
	w.t.Helper()
	one := task(all...)
	one.Pull = PullOnce
	return w.begin(one)
}

// stream is a container's output.
func (w *world) stream(t *Task, name string) []string { return w.log("p/" + name + "/" + string(t.ID)) }

func TestRealTask(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	w.secrets["/p"] = "hidden"
	main := sh("main", `echo one; echo two; echo $WORD; cat /data/word; id -u; grep -c . /etc/resolv.conf; wget -qO- $ECS_CONTAINER_METADATA_URI_V4/task; exit 3`)
	main.Secrets, main.User, main.Mounts = []Secret{{"WORD", "/p"}}, "app", []MountPoint{{Volume: "data", Path: "/data", ReadOnly: true}}
	main.DependsOn = []Dependency{{"init", OnSuccess}}
	init := sh("init", "echo written > /data/word")
	init.Essential, init.Mounts = false, []MountPoint{{Volume: "data", Path: "/data"}}
	one := task(main, init)
	one.Pull, one.Family, one.Volumes = PullOnce, "family", []Volume{{Name: "data"}}
	w.begin(one)
	s := w.reaches(one, Stopped)
	got := w.stream(one, "main")
	if code(s.of("main")) != 3 || len(got) != 7 || !slices.Equal(got[:5], []string{"one", "two", "hidden", "written", "1000"}) || !strings.Contains(got[6], `"Family":"family"`) {
		t.Errorf("%+v %q", s.Status, got)
	}
	w.empty()
}

func TestRealChain(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	db := sh("db", `sleep 0.3; touch /tmp/up; sleep 1000`)
	db.Health = &HealthCheck{Command: []string{"CMD-SHELL", "test -e /tmp/up || exit 1"}, Interval: 100 * time.Millisecond, Retries: 50}
	db.StopTimeout = 100 * time.Millisecond
	main := sh("main", `trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.05; done`)
	main.DependsOn = []Dependency{{"db", OnHealthy}}
	main.Health = &HealthCheck{Command: []string{"CMD", "false"}, Interval: 50 * time.Millisecond, Retries: 2}
	one := w.beginReal(main, db)
	s := w.until(one, 0, "UNHEALTHY", func(s *Status) bool { return s.Health == Unhealthy })
	if s.of("db").Health != Healthy || s.of("main").Health != Unhealthy || !s.of("main").Started.After(s.of("db").HealthSince) {
		t.Errorf("%+v", s.Status)
	}
	w.until(one, 0, "its trap", func(*Status) bool { return slices.Contains(w.stream(one, "main"), "up") })
	w.halt(one, "done")
	s = w.reaches(one, Stopped)
	if code(s.of("main")) != 4 || code(s.of("db")) != 137 || s.of("db").Finished.Before(s.of("main").Finished) {
		t.Errorf("%+v", s.Status)
	}
	if got := w.stream(one, "main"); !slices.Equal(got, []string{"up", "bye"}) {
		t.Errorf("%q", got)
	}
	w.empty()
}

func TestRealEnds(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	can, err := w.Engine.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	side := sh("side", "sleep 1000")
	side.StopTimeout = 50 * time.Millisecond
	again := sh("again", "echo run >> /runs; test $(wc -l < /runs) -gt 2 && exit 9; sleep 0.1; exit 1")
	again.Restart = &RestartPolicy{Period: 50 * time.Millisecond, Ignored: []int{9}}
	missing := sh("missing", "")
	missing.Command = []string{"/no/such"}
	hungry := sh("hungry", "tail -c 200m /dev/zero | wc -c; sleep 1; exit 0")
	hungry.Command, hungry.Memory = []string{"dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"}, 32<<20
	main := sh("main", "exit 5")
	main.DependsOn = []Dependency{{"side", OnStart}} // else it may have ended by then
	tasks := map[string]*Task{
		"exit": w.beginReal(main, side), "again": w.beginReal(again), "missing": w.beginReal(missing), "hungry": w.beginReal(hungry),
	}
	s := w.reaches(tasks["exit"], Stopped)
	if s.StoppedReason != essentialReason || code(s.of("main")) != 5 || code(s.of("side")) != 137 {
		t.Errorf("%+v", s)
	}
	s = w.reaches(tasks["again"], Stopped)
	if c := s.of("again"); c.Restarts != 2 || code(c) != 9 {
		t.Errorf("%+v", c)
	}
	s = w.reaches(tasks["missing"], Stopped)
	if c := s.of("missing"); code(c) != 127 || !strings.Contains(c.Reason, "CannotStartContainerError: ") || s.StopCode != FailedToStart {
		t.Errorf("%+v", s)
	}
	s = w.reaches(tasks["hungry"], Stopped)
	if c := s.of("hungry"); can.MemoryLimit && can.OOMDetection && (code(c) != 137 || c.Reason != "OutOfMemoryError: Container killed due to memory usage") {
		t.Errorf("%+v", c)
	}
	w.empty()
}

// fetches is a script that prints the one line of a page.
func fetches(host string) string {
	return `printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 ` + host + ` 80 | tail -n 1`
}

// TestRealNetwork: containers of a task have one network; those of another reach
// them by address; a bridge has links and published ports.
func TestRealNetwork(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	w.stop()
	w.config.Resolver = func(*Task) *resolver.Resolver {
		return &resolver.Resolver{Address: netip.MustParseAddr(resolverAddress), Upstreams: []string{}}
	}
	w.start()
	web := func(page string) Container {
		c := sh("web", "mkdir /www; echo "+page+" > /www/index.html; exec httpd -f -p 80 -h /www")
		c.StopTimeout = 50 * time.Millisecond
		c.Health = &HealthCheck{Command: []string{"CMD-SHELL", "wget -qO- 127.0.0.1/ >/dev/null"}, Interval: 50 * time.Millisecond, Retries: 100}
		return c
	}
	vpc := func(address string, all ...Container) *Task {
		one := task(all...)
		one.Pull, one.Network.Name, one.Network.Address = PullOnce, "vpc-"+string(one.ID[:8]), netip.MustParseAddr(address)
		return one
	}
	asks := sh("asks", "wget -qO- 127.0.0.1/; busybox nslookup s3.us-east-1.amazonaws.com 2>&1 | grep -o 'Address.*169.254.169.253$' | tail -n 1 | grep -o 169.*")
	asks.DependsOn = []Dependency{{"web", OnHealthy}}
	one := w.begin(vpc("10.0.0.5", web("shared"), asks))
	s := w.reaches(one, Stopped)
	if got := w.stream(one, "asks"); !slices.Equal(got, []string{"shared", "169.254.169.253"}) || s.Address.String() != "10.0.0.5" {
		t.Errorf("%q, %+v", got, s)
	}
	server := w.begin(vpc("10.0.0.6", web("far")))
	w.until(server, 0, "HEALTHY", func(s *Status) bool { return s.Health == Healthy })
	client := vpc("10.0.0.7", sh("asks", fetches("10.0.0.6")))
	client.Network.Name = server.Network.Name
	w.reaches(w.begin(client), Stopped)
	if got := w.stream(client, "asks"); !slices.Equal(got, []string{"far"}) {
		t.Errorf("%q", got)
	}
	w.halt(server, "")

	linked := web("bridged")
	linked.Ports = []Port{{Container: 80}}
	asks = sh("asks", fetches("$(awk '$2 == \"www\" { print $1 }' /etc/hosts)")+"; sleep 1000")
	asks.StopTimeout, asks.DependsOn, asks.Links = 50*time.Millisecond, []Dependency{{"web", OnHealthy}}, []string{"web:www"}
	bridge := task(linked, asks)
	bridge.Pull, bridge.Network.Mode = PullOnce, Bridge
	w.begin(bridge)
	s = w.until(bridge, 0, "an answer", func(*Status) bool { return slices.Contains(w.stream(bridge, "asks"), "bridged") })
	if p := s.of("web").Ports; len(p) != 1 || p[0].Host == 0 {
		t.Errorf("%+v", s.of("web"))
	} else if c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", p[0].Host)); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
	w.halt(bridge, "")
	for _, one := range []*Task{server, bridge} {
		w.reaches(one, Stopped)
	}
	w.empty()
}

// TestRealKills: the runner's process ends and another begins, again and again,
// while tasks run; nothing is started twice, lost, or left over.
func TestRealKills(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	long := sh("main", "echo begin; sleep 1.5; echo end; exit 6")
	long.Health = &HealthCheck{Command: []string{"CMD", "true"}, Interval: 50 * time.Millisecond}
	var all []*Task
	for range 3 {
		all = append(all, w.beginReal(long))
	}
	for range 6 {
		for range 5 {
			all = append(all, w.beginReal(sh("main", "echo $$ alone; exit 7")))
		}
		w.stop()
		w.start()
	}
	for i, one := range all {
		s := w.reaches(one, Stopped)
		got, want, exit := w.stream(one, "main"), []string{"1 alone"}, 7
		if i < 3 {
			want, exit = []string{"begin", "end"}, 6
		}
		if code(s.of("main")) != exit || !slices.Equal(slices.Compact(got), want) {
			t.Errorf("task %d: %q, %+v", i, got, s.Status)
		}
	}
	w.empty()
}

// TestRealDefinition: what a container's definition says is so inside.
func TestRealDefinition(t *testing.T) {
	w := realWorld(t)
	can, err := w.Engine.Info(t.Context())
	if err != nil || !can.MemoryLimit || !can.CPULimit {
		t.Skipf("it has limits: %v, %v", can.Missing, err)
	}
	inside := map[string]string{ // what to run, and what it prints
		"pwd": "/work", "id -u": "1000", "id -G": "1000 2000", "hostname": "named", "ulimit -n": "500", "ulimit -Hn": "600",
		"cat /proc/sys/net/ipv4/tcp_syn_retries": "3", "stat -f -c %b /dev/shm": "2048", "stat -f -c %b /small": "1024",
		"touch /small/x && echo kept": "", "touch /x || echo closed": "closed", "test $$ -eq 1 || echo child": "child",
		"awk '/^10.1.2.3/ {print $2}' /etc/hosts": "other", "awk '/^search/ {print $2}' /etc/resolv.conf": "example.com",
		"awk '/^nameserver/ {print $2}' /etc/resolv.conf": "10.9.8.7", "awk '/^options/ {print $2}' /etc/resolv.conf": "ndots:3",
		"stat -c %F /dev/mine": "character special file", "awk '/^CapBnd/ {print $2}' /proc/self/status": "0000000000001000",
		"awk '/^NoNewPrivs/ {print $2}' /proc/self/status": "1",
		"echo $GREETING": "good morning", "test -t 1 || echo no terminal": "no terminal", "head -c 1 | wc -c": "0",
	}
	limits := map[string]string{"memory/memory.limit_in_bytes": "67108864", "memory/memory.soft_limit_in_bytes": "33554432",
		"memory/memory.memsw.limit_in_bytes": "75497472", "cpu/cpu.shares": "256"}
	if can.Cgroups == 2 {
		limits = map[string]string{"memory.max": "67108864", "memory.low": "33554432", "memory.swap.max": "8388608", "cpu.weight": "10"}
	}
	for file, value := range limits {
		inside["cat /sys/fs/cgroup/"+file] = value
	}
	var asked []string
	script := ""
	for what := range inside {
		script += fmt.Sprintf("echo '<%d>'; { %s; } 2>/dev/null\n", len(asked), what)
		asked = append(asked, what)
	}
	c := sh("main", "")
	c.EntryPoint, c.Command = []string{"sh", "-c"}, []string{script + "exit 0"}
	c.Dir, c.User, c.Hostname, c.Init, c.ReadonlyRoot, c.NoNewPrivileges = "/work", "app", "named", true, true, true
	c.Ulimits, c.SystemControls = []engine.Rlimit{{Name: "nofile", Soft: 500, Hard: 600}}, map[string]string{"net.ipv4.tcp_syn_retries": "3"}
	c.ShmSize, c.Tmpfs = 8<<20, []Tmpfs{{Path: "/small", Size: 4 << 20, Mode: 0o700}}
	c.ExtraHosts = []engine.Host{{Name: "other", Address: netip.MustParseAddr("10.1.2.3")}}
	c.DNS = engine.DNS{Servers: []netip.Addr{netip.MustParseAddr("10.9.8.7")}, Search: []string{"example.com"}, Options: []string{"ndots:3"}}
	c.Devices, c.DropCapabilities, c.AddCapabilities = []engine.Device{{Source: "/dev/null", Target: "/dev/mine"}}, []string{"ALL"}, []string{"NET_ADMIN"}
	c.Memory, c.MemoryReservation, c.Swap, c.CPU = 64<<20, 32<<20, 8<<20, 256
	c.Environment = []Variable{{"GREETING", "good morning"}}
	terminal := sh("terminal", "test -t 0 && test -t 1 && tty; read line; echo got $line")
	terminal.TTY, terminal.Interactive, terminal.Essential = true, true, false
	c.DependsOn = []Dependency{{"terminal", OnSuccess}}
	one := task(c, terminal)
	one.Pull, one.Network.Mode = PullOnce, Bridge
	w.begin(one)
	w.until(one, 0, "its terminal", func(*Status) bool { return slices.Contains(w.stream(one, "terminal"), "/dev/pts/0") })
	input, err := w.Engine.Input(t.Context(), containerID(one.ID, "terminal"))
	if err == nil {
		_, err = input.Write([]byte("typed\n"))
	}
	if err != nil {
		t.Fatal(err)
	}
	defer input.Close()
	s := w.reaches(one, Stopped)
	if got := w.stream(one, "terminal"); !slices.Contains(got, "got typed") {
		t.Errorf("%q", got)
	}
	all := strings.Join(append(w.stream(one, "main"), "<"), "\n")
	for i, what := range asked {
		_, rest, _ := strings.Cut(all, fmt.Sprintf("<%d>\n", i))
		if got, _, ok := strings.Cut(rest, "<"); !ok || strings.TrimSpace(got) != inside[what] {
			t.Errorf("%s: %.60q, want %q", what, got, inside[what])
		}
	}
	if code(s.of("main")) != 0 {
		t.Errorf("%+v", s.Status)
	}
	w.empty()
}

// TestRealSize: a volume with a size ends there, for all who mount it, and a
// container that is started again finds in it what it wrote.
func TestRealSize(t *testing.T) {
	t.Parallel()
	w := realWorld(t)
	if can, err := w.Engine.Info(t.Context()); err != nil || !can.Disks {
		t.Skipf("no disks: %v", err)
	}
	mounts := []MountPoint{{Volume: "small", Path: "/small"}}
	first := sh("first", "dd if=/dev/zero of=/small/first bs=1M count=10 2>/dev/null || exit 8; test -e /small/again && exit 0; touch /small/again; sleep 0.1; exit 1")
	first.Essential, first.Mounts, first.Restart = false, mounts, &RestartPolicy{Period: 50 * time.Millisecond, Ignored: []int{0}}
	main := sh("main", "dd if=/dev/zero of=/small/file bs=1M count=64 2>/dev/null && exit 9; s=$(stat -c %s /small/file); test $s -gt 4000000 -a $s -lt 8388608 -a -e /small/first || exit 7")
	main.Mounts, main.DependsOn = mounts, []Dependency{{"first", OnSuccess}}
	one := task(main, first)
	one.Pull, one.Volumes, one.Network.Mode = PullOnce, []Volume{{Name: "small", Size: 16 << 20}}, Bridge
	if s := w.reaches(w.begin(one), Stopped); code(s.of("main")) != 0 || s.of("first").Restarts != 1 {
		t.Errorf("%+v %q", s.Status, w.stream(one, "main"))
	}
	w.empty()
}

// TestRealTogether: a task's memory and processors bound its containers together,
// and the one that is killed for memory says so.
func TestRealTogether(t *testing.T) {
	w := realWorld(t)
	can, err := w.Engine.Info(t.Context())
	if err != nil || !can.MemoryLimit || !can.OOMDetection || !can.CPULimit {
		t.Skipf("no limits: %v, %v", can.Missing, err)
	}
	holds := func(name, then string) Container { // in memory, which /dev/shm is
		c := sh(name, "dd if=/dev/zero of=/dev/shm/f bs=1M count=40 2>/dev/null; echo held; "+then)
		c.ShmSize, c.StopTimeout = 64<<20, 50*time.Millisecond
		return c
	}
	first := holds("first", "sleep 1000")
	hungry := sh("hungry", "exec dd if=/dev/zero of=/dev/null bs=50M count=1")
	hungry.Essential, hungry.DependsOn = false, []Dependency{{"first", OnHealthy}}
	first.Health = &HealthCheck{Command: []string{"CMD-SHELL", "test $(stat -c %s /dev/shm/f) = 41943040"}, Interval: 50 * time.Millisecond, Retries: 100}
	one := task(first, hungry)
	one.Pull, one.Memory, one.CPU = PullOnce, 80<<20, 0.5
	w.begin(one)
	s := w.until(one, 0, "the end of one", func(s *Status) bool { return s.of("hungry").State == ContainerStopped })
	if c := s.of("hungry"); code(c) != 137 || !c.OOM || c.Reason != "OutOfMemoryError: Container killed due to memory usage" || s.of("first").State != ContainerRunning {
		t.Errorf("50 MiB beside 40 of 80: %+v", s.Status)
	}
	w.halt(one, "")
	w.reaches(one, Stopped)
	w.empty()
}

// TestRealVolumeOfImage: an empty volume gets what the image has at its place, also
// where it is mounted read-only; a folder of the machine does not.
func TestRealVolumeOfImage(t *testing.T) {
	w := realWorld(t)
	if can, err := w.Engine.Info(t.Context()); err != nil || !can.Disks {
		t.Skipf("no disks: %v", err)
	}
	one := task()
	reads := func(v Volume, change func(*Container)) {
		c := sh("at-"+v.Name, "grep -c root /etc/passwd; stat -c %u /etc")
		c.Mounts = []MountPoint{{Volume: v.Name, Path: "/etc"}}
		if change != nil {
			change(&c)
		}
		one.Volumes, one.Containers = append(one.Volumes, v), append(one.Containers, c)
	}
	reads(Volume{Name: "scratch"}, nil)
	reads(Volume{Name: "closed"}, func(c *Container) { c.Mounts[0].ReadOnly = true })
	reads(Volume{Name: "privileged"}, func(c *Container) { c.Privileged = true })
	reads(Volume{Name: "shared", Docker: &DockerVolume{Shared: true, Create: true}}, nil)
	reads(Volume{Name: "sized", Size: 16 << 20}, func(c *Container) { c.Mounts[0].ReadOnly = true })
	reads(Volume{Name: "machine", Host: t.TempDir()}, nil)
	for i := range one.Containers {
		c := &one.Containers[i]
		c.Image, c.Essential = "app", i == len(one.Containers)-1
		if c.Essential {
			for _, other := range one.Containers[:i] {
				c.DependsOn = append(c.DependsOn, Dependency{other.Name, OnComplete})
			}
		}
	}
	one.Pull = PullOnce
	s := w.reaches(w.begin(one), Stopped)
	for _, c := range s.Status {
		want := []string{"1", "0"}
		if c.Name == "at-machine" {
			want[0] = ""
		}
		if got := w.stream(one, c.Name); want[0] != "" && !slices.Equal(got, want) || want[0] == "" && slices.Contains(got, "1") {
			t.Errorf("%s: %q, %+v", c.Name, got, c)
		}
	}
	w.empty()
}

// BenchmarkOutput is how fast a container's output goes to its sink.
func BenchmarkOutput(b *testing.B) {
	w := realWorld(b)
	w.stop()
	w.config.PutLogs = func(context.Context, LogBatch) error { return nil }
	w.start()
	const size = 64 << 20
	c := sh("main", fmt.Sprint("yes ", strings.Repeat("0123456789", 10), " | head -c ", size))
	c.Log.Options["mode"] = "blocking"
	b.SetBytes(size)
	for b.Loop() {
		w.reaches(w.beginReal(c), Stopped)
	}
}

// BenchmarkTask is a trivial task with its log, from Run to STOPPED, 16 at a time.
func BenchmarkTask(b *testing.B) {
	w := realWorld(b)
	b.ResetTimer()
	var flying []*Task
	for i := 0; i < b.N || len(flying) > 0; {
		for ; i < b.N && len(flying) < 16; i++ {
			flying = append(flying, w.beginReal(sh("main", "echo done")))
		}
		w.reaches(flying[0], Stopped)
		flying = flying[1:]
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tasks/s")
}
