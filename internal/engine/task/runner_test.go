package task

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/store"
)

func TestRunsToTheEnd(t *testing.T) {
	w := newWorld(t)
	one := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"exit", "3"}}))
	s := w.reaches(one, Stopped)
	c := s.of("main")
	if s.StopCode != EssentialExited || s.StoppedReason != "Essential container in task exited" || code(c) != 3 || c.Image != "sha256:app" || c.ImageDigest != "sha256:d" {
		t.Errorf("%+v", s)
	}
	var trail []State
	w.until(one, 0, "to be told", func(*Status) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		trail = w.trail[one.ID]
		return slices.Contains(trail, Stopped)
	})
	if want := []State{Pending, Activating, Running, Deactivating, Stopping, Deprovisioning, Stopped}; !slices.Equal(trail, want) {
		// a container that ends before it was seen to run is not RUNNING before
		if want = slices.DeleteFunc(want, func(s State) bool { return s == Running }); !slices.Equal(trail, want) {
			t.Errorf("states %v", trail)
		}
	}
	for _, at := range []time.Time{s.PullStarted, s.PullStopped, s.Stopping, s.ExecutionStopped, s.Stopped, c.Started, c.Finished} {
		if at.IsZero() {
			t.Errorf("a time is missing: %+v", s)
		}
	}
	w.empty()
	if err := w.db.Update(t.Context(), func(tx *store.Tx) error { return w.Delete(tx, one.ID) }); err != nil {
		t.Fatal(err)
	}
	if _, err := w.statusOf(t.Context(), one.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after Delete: %v", err)
	}
}

func TestStop(t *testing.T) {
	w := newWorld(t)
	one := w.begin(task(
		Container{Name: "main", Essential: true, Command: []string{"wait"}, DependsOn: []Dependency{{"hard", OnStart}}},
		Container{Name: "hard", Command: []string{"stubborn"}, StopTimeout: 2 * time.Second},
	))
	w.reaches(one, Running)
	if err := w.db.Update(t.Context(), func(tx *store.Tx) error { return w.Delete(tx, one.ID) }); !errors.Is(err, engine.ErrState) {
		t.Errorf("Delete of a running task: %v", err)
	}
	w.halt(one, "enough")
	w.halt(one, "too late")
	s := w.until(one, 0, "the end of main", func(s *Status) bool { return s.of("main").State == ContainerStopped })
	if s.of("hard").State != ContainerRunning || s.State != Stopping {
		t.Errorf("main has ended: %+v", s)
	}
	s = w.until(one, 100*time.Millisecond, "the end", func(s *Status) bool { return s.State == Stopped })
	if s.StopCode != UserInitiated || s.StoppedReason != "enough" || code(s.of("main")) != 0 || code(s.of("hard")) != 137 {
		t.Errorf("%+v", s)
	}
	if d := s.Stopped.Sub(s.Stopping); d < 2*time.Second {
		t.Errorf("killed after %v", d)
	}
	w.empty()
}

func TestDependsOn(t *testing.T) {
	w := newWorld(t)
	one := w.begin(task(
		Container{Name: "main", Essential: true, Command: []string{"wait"}, DependsOn: []Dependency{{"init", OnSuccess}, {"db", OnHealthy}}},
		Container{Name: "init", Command: []string{"exit", "0"}},
		Container{Name: "db", Essential: true, Command: []string{"wait"}, Health: &HealthCheck{Command: []string{"CMD", "exit", "0"}}, DependsOn: []Dependency{{"init", OnComplete}}},
	))
	s := w.until(one, 0, "db to run", func(s *Status) bool { return s.of("db").State == ContainerRunning })
	if s.State != Pending || s.of("main").State == ContainerRunning || s.of("init").State != ContainerStopped || s.Health != Unknown {
		t.Errorf("%+v", s)
	}
	s = w.until(one, time.Second, "main to run", func(s *Status) bool { return s.State == Running })
	if s.of("db").Health != Healthy || s.Health != Unknown || s.of("main").Started.Before(s.of("db").HealthSince.Add(-time.Minute)) {
		t.Errorf("%+v", s)
	}
	w.halt(one, "")
	w.reaches(one, Stopped)
}

func TestDependencyFails(t *testing.T) {
	for name, tt := range map[string]struct {
		on     Container
		cond   Condition
		reason string
	}{
		"code":    {Container{Command: []string{"exit", "2"}}, OnSuccess, "did not exit successfully"},
		"never":   {Container{Command: []string{"nosuch"}}, OnStart, "dependency will never start"},
		"timeout": {Container{Command: []string{"wait"}, StartTimeout: time.Minute}, OnComplete, "has timed out"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tt.on.Name = "on"
			one := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"wait"}, DependsOn: []Dependency{{"on", tt.cond}}}, tt.on))
			s := w.until(one, time.Second, "the end", func(s *Status) bool { return s.State == Stopped })
			c := s.of("main")
			if code(c) != 143 || !strings.HasPrefix(c.Reason, "CannotStartContainerError: dependency graph: ") || !strings.Contains(c.Reason, tt.reason) ||
				s.StopCode != FailedToStart || s.StoppedReason != "Task failed to start" {
				t.Errorf("%+v", s)
			}
			w.empty()
		})
	}
}

func TestHealth(t *testing.T) {
	w := newWorld(t)
	ill := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"wait"},
		Health: &HealthCheck{Command: []string{"CMD", "exit", "1"}, Interval: 10 * time.Second, Retries: 2, Start: time.Minute}}))
	began := w.reaches(ill, Running).of("main").Started
	s := w.until(ill, time.Second, "UNHEALTHY", func(s *Status) bool { return s.Health == Unhealthy })
	if d := s.of("main").HealthSince.Sub(began); d < time.Minute {
		t.Errorf("unhealthy after %v, in its start period", d)
	}
	if s.State != Running || s.of("main").HealthCode != 1 {
		t.Errorf("%+v", s)
	}
	slow := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"wait"},
		Health: &HealthCheck{Command: []string{"CMD", "stubborn"}, Timeout: 10 * time.Millisecond, Retries: 1}}))
	s = w.until(slow, time.Second, "UNHEALTHY", func(s *Status) bool { return s.Health == Unhealthy })
	if out := s.of("main").HealthOutput; out != "Health check exceeded timeout (10ms)" {
		t.Errorf("output %q", out)
	}
	for _, one := range []*Task{ill, slow} {
		w.halt(one, "")
		w.reaches(one, Stopped)
	}
}

func TestRecord(t *testing.T) {
	h := HealthCheck{Retries: 2, Start: time.Minute}.filled()
	run := time.Unix(1000, 0)
	row := &healthRow{Run: run, Health: Unknown}
	for i, c := range []struct {
		after time.Duration
		code  int
		want  Health
	}{
		{30 * time.Second, 1, Unknown}, {59 * time.Second, 1, Unknown}, {61 * time.Second, 1, Unknown}, {70 * time.Second, 1, Unhealthy},
		{80 * time.Second, 0, Healthy}, {90 * time.Second, 1, Healthy}, {100 * time.Second, 0, Healthy}, {110 * time.Second, 1, Healthy}, {120 * time.Second, 1, Unhealthy},
	} {
		if row.record(h, run.Add(c.after), c.code, ""); row.Health != c.want {
			t.Errorf("check %d: %s, want %s", i, row.Health, c.want)
		}
	}
	row = &healthRow{Run: run, Health: Unknown}
	row.record(h, run.Add(time.Second), 0, "") // a success ends the start period
	row.record(h, run.Add(2*time.Second), 1, "")
	if row.record(h, run.Add(3*time.Second), 1, ""); row.Health != Unhealthy {
		t.Errorf("after a success in the start period: %s", row.Health)
	}
}

func TestTaskHealth(t *testing.T) {
	spec := &Task{Containers: []Container{{Name: "a", Essential: true}, {Name: "b", Essential: true}, {Name: "c"}}}
	for _, c := range []struct{ a, b, c, want Health }{
		{Healthy, Healthy, Unhealthy, Healthy}, {Healthy, Unknown, Healthy, Unknown}, {Unknown, Unhealthy, Healthy, Unhealthy}, {Unhealthy, Unknown, Healthy, Unhealthy},
	} {
		of := map[string]Health{"a": c.a, "b": c.b, "c": c.c}
		if got := taskHealth(spec, func(n string) Health { return of[n] }); got != c.want {
			t.Errorf("%v: %s", c, got)
		}
	}
}

func TestRestartPolicy(t *testing.T) {
	w := newWorld(t)
	again := task(Container{Name: "main", Essential: true, Command: []string{"once"}, Restart: &RestartPolicy{Period: time.Nanosecond}, Mounts: []MountPoint{{Volume: "v", Path: "/v"}}})
	again.Volumes = []Volume{{Name: "v"}}
	w.begin(again)
	s := w.until(again, 10*time.Millisecond, "a restart", func(s *Status) bool {
		return s.of("main").Restarts == 1 && s.State == Running && s.of("main").Started.After(s.of("main").Finished)
	})
	if c := s.of("main"); code(c) != 1 || c.State != ContainerRunning {
		t.Errorf("%+v", c)
	}
	w.halt(again, "")
	w.reaches(again, Stopped)
	for name, p := range map[string]RestartPolicy{"ignored": {Ignored: []int{1}, Period: time.Nanosecond}, "early": {}} {
		one := task(Container{Name: "main", Essential: true, Command: []string{"exit", "1"}, Restart: &p})
		if s := w.reaches(w.begin(one), Stopped); s.of("main").Restarts != 0 || code(s.of("main")) != 1 {
			t.Errorf("%s: %+v", name, s)
		}
	}
	w.empty()
}

func TestOutOfMemory(t *testing.T) {
	w := newWorld(t)
	s := w.reaches(w.begin(task(Container{Name: "main", Essential: true, Command: []string{"oom"}})), Stopped)
	if c := s.of("main"); c.Reason != "OutOfMemoryError: Container killed due to memory usage" || code(c) != 137 || !c.OOM {
		t.Errorf("%+v", c)
	}
}

func TestFailsToStart(t *testing.T) {
	w := newWorld(t)
	for name, tt := range map[string]struct {
		c            Container
		task, reason string
		code         int
	}{
		"no image":   {Container{Image: "nosuch"}, "CannotPullContainerError: pull access denied for nosuch", "CannotPullContainerError: ", -1000},
		"no program": {Container{Command: []string{"nosuch"}}, "Task failed to start", `CannotStartContainerError: unable to start container process: exec: "nosuch": executable file not found in $PATH`, 127},
		"no path":    {Container{Command: []string{"/no/such"}}, "Task failed to start", `CannotStartContainerError: unable to start container process: exec: "/no/such": no such file or directory`, 127},
		"secret": {Container{Secrets: []Secret{{"PASSWORD", "arn:aws:secretsmanager:us-east-1:000000000000:secret:db"}}},
			"ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secret from asm: service call has been retried 1 time(s): failed to fetch secret arn:aws:secretsmanager:us-east-1:000000000000:secret:db from secrets manager: ResourceNotFoundException: Secrets Manager can't find the specified secret.", "", -1000},
		"parameter": {Container{Secrets: []Secret{{"PASSWORD", "/db/password"}}}, "ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: unable to retrieve secrets from ssm: service call has been retried 1 time(s): ", "", -1000},
		"file":      {Container{EnvironmentFiles: []string{"arn:aws:s3:::b/k.env"}}, "ResourceInitializationError: failed to download env files: ", "", -1000},
	} {
		tt.c.Name, tt.c.Essential = "main", true
		s := w.reaches(w.begin(task(tt.c, Container{Name: "side", Essential: true, Command: []string{"wait"}})), Stopped)
		c := s.of("main")
		if s.StopCode != FailedToStart || !strings.HasPrefix(s.StoppedReason, tt.task) || !strings.HasPrefix(c.Reason, tt.reason) || code(c) != tt.code {
			t.Errorf("%s: %s %q; %d %q", name, s.StopCode, s.StoppedReason, code(c), c.Reason)
		}
	}
	w.empty()
}

func TestEnvironment(t *testing.T) {
	w := newWorld(t)
	w.secrets["/p"] = "from ssm"
	w.files["one"] = "# a comment\nFILE=1\nFROM=file\n=no\nnothing\nQUOTED=\"a b\" \nNAME=file\nSECRET=file"
	w.files["two"] = "FILE=2\nTWO=2"
	s := w.reaches(w.begin(task(Container{Name: "main", Essential: true, Command: []string{"env", ""}, EnvironmentFiles: []string{"one", "two"},
		Environment: []Variable{{"NAME", "definition"}, {"SECRET", "definition"}}, Secrets: []Secret{{"SECRET", "/p"}},
		Log: awslogs("g")})), Stopped)
	got := w.log("p/main/" + string(s.ID))
	for _, want := range []string{"FROM=file", "IMAGE=yes", "FILE=1", "TWO=2", `QUOTED="a b" `, "NAME=definition", "SECRET=from ssm",
		"ECS_CONTAINER_METADATA_URI_V4=http://169.254.170.2/v4/" + string(s.of("main").ID)} {
		if !slices.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func awslogs(group string) Log {
	return Log{Driver: "awslogs", Options: map[string]string{"awslogs-group": group, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "p"}}
}

func TestVolumes(t *testing.T) {
	w := newWorld(t)
	shared := Volume{Name: "kept", Docker: &DockerVolume{Shared: true, Create: true}}
	host := t.TempDir()
	one := task(
		Container{Name: "main", Essential: true, Command: []string{"has", "a"}, Mounts: []MountPoint{{Volume: "scratch", Path: "/s", ReadOnly: true}}, DependsOn: []Dependency{{"first", OnSuccess}, {"keep", OnSuccess}, {"host", OnSuccess}, {"from", OnSuccess}}},
		Container{Name: "first", Command: []string{"touch", "a"}, Mounts: []MountPoint{{Volume: "scratch", Path: "/s"}}},
		Container{Name: "keep", Command: []string{"touch", "b"}, Mounts: []MountPoint{{Volume: "kept", Path: "/s"}}},
		Container{Name: "host", Command: []string{"touch", "c"}, Mounts: []MountPoint{{Volume: "host", Path: "/s"}}},
		Container{Name: "from", Command: []string{"has", "a"}, VolumesFrom: []VolumesFrom{{"first", true}}, DependsOn: []Dependency{{"first", OnSuccess}}},
	)
	one.Volumes = []Volume{{Name: "scratch"}, shared, {Name: "host", Host: host}}
	s := w.reaches(w.begin(one), Stopped)
	for _, c := range s.Status {
		if code(c) != 0 {
			t.Errorf("%+v", c)
		}
	}
	if _, err := os.Stat(filepath.Join(host, "c")); err != nil {
		t.Error(err)
	}
	w.empty()
	next := task(Container{Name: "main", Essential: true, Command: []string{"has", "b"}, Mounts: []MountPoint{{Volume: "kept", Path: "/s"}}})
	next.Volumes = []Volume{{Name: "kept", Docker: &DockerVolume{Shared: true}}}
	if s := w.reaches(w.begin(next), Stopped); code(s.of("main")) != 0 {
		t.Errorf("a shared volume is not kept: %+v", s.Status)
	}
	none := task(Container{Name: "main", Essential: true})
	none.Volumes = []Volume{{Name: "unknown", Docker: &DockerVolume{Shared: true}}}
	if s := w.reaches(w.begin(none), Stopped); s.StoppedReason != "CannotInspectVolumeError: get unknown: no such volume" {
		t.Errorf("%+v", s)
	}
}

func TestRegistered(t *testing.T) {
	w := newWorld(t)
	one := task(Container{Name: "main", Essential: true, Command: []string{"wait"}})
	one.Registered = true
	w.begin(one)
	proceed := func() {
		t.Helper()
		if err := w.db.Update(context.Background(), func(tx *store.Tx) error { return w.Proceed(tx, one.ID) }); err != nil {
			t.Fatal(err)
		}
	}
	w.reaches(one, Activating)
	proceed()
	w.reaches(one, Running)
	w.halt(one, "")
	w.reaches(one, Deactivating)
	if s := w.status(one); s.of("main").State != ContainerRunning {
		t.Errorf("stopped before the owner has let it go: %+v", s)
	}
	proceed()
	w.reaches(one, Stopped)
}

func TestBridge(t *testing.T) {
	w := newWorld(t)
	one := task(
		Container{Name: "web", Essential: true, Command: []string{"wait"}, Links: []string{"db:database"}, Ports: []Port{{Container: 80}, {Container: 443, Host: 8443}}},
		Container{Name: "db", Essential: true, Command: []string{"wait"}},
	)
	one.Network.Mode = Bridge
	w.begin(one)
	s := w.reaches(one, Running)
	web := s.of("web")
	if len(web.Ports) != 2 || web.Ports[0].Host < 32768 || web.Ports[1].Host != 8443 || s.of("db").Address == web.Address || !web.Address.IsValid() {
		t.Errorf("%+v", s.Status)
	}
	if !web.Started.After(s.of("db").Started) {
		t.Error("a link does not wait for what it links to")
	}
	w.halt(one, "")
	w.reaches(one, Stopped)
	w.empty()
}

func TestRunnerEnds(t *testing.T) {
	w := newWorld(t)
	one := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"say-and-wait", "hello"}, Log: awslogs("g")}))
	w.reaches(one, Running)
	id := containerID(one.ID, "main")
	w.until(one, 0, "output", func(*Status) bool { return w.written(id) > 0 })
	w.stop()
	if err := w.fake.Signal(t.Context(), id, 9); err != nil {
		t.Fatal(err)
	}
	if _, err := w.fake.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	w.start()
	s := w.reaches(one, Stopped)
	if code(s.of("main")) != 137 || s.StopCode != EssentialExited {
		t.Errorf("%+v", s)
	}
	if got := w.log("p/main/" + string(one.ID)); !slices.Equal(got, []string{"hello"}) {
		t.Errorf("log %q", got)
	}
	w.empty()
}

func TestSweep(t *testing.T) {
	w := newWorld(t)
	w.stop()
	if _, err := w.fake.Images().Pull(t.Context(), "app", engine.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	for id, labels := range map[engine.ID]map[string]string{"gone-1": {labelService: serviceTask, labelTask: "gone"}, "others": {labelService: "lambda"}} {
		if _, err := w.fake.Create(t.Context(), engine.Spec{ID: id, Labels: labels, Root: engine.Root{Image: "app"}, Command: []string{"wait"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(w.taskFolder("gone"), "volumes"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.start()
	one := w.begin(task(Container{Name: "main", Essential: true}))
	w.reaches(one, Stopped)
	left, err := w.fake.List(t.Context())
	if err != nil || len(left) != 1 || left[0].ID != "others" || len(w.taskFolders()) != 0 {
		t.Errorf("%v, %v, %v", left, err, w.taskFolders())
	}
}

func TestValidate(t *testing.T) {
	for name, change := range map[string]func(t *Task){
		"no containers":    func(t *Task) { t.Containers = nil },
		"none essential":   func(t *Task) { t.Containers[0].Essential = false },
		"same name":        func(t *Task) { t.Containers = append(t.Containers, t.Containers[0]) },
		"circle":           func(t *Task) { t.Containers[0].DependsOn = []Dependency{{"side", OnStart}} },
		"unknown":          func(t *Task) { t.Containers[0].DependsOn = []Dependency{{"nobody", OnStart}} },
		"end of essential": func(t *Task) { t.Containers[1].DependsOn = []Dependency{{"main", OnSuccess}} },
		"no health check":  func(t *Task) { t.Containers[1].DependsOn = []Dependency{{"main", OnHealthy}} },
		"volume":           func(t *Task) { t.Containers[0].Mounts = []MountPoint{{Volume: "v", Path: "/v"}} },
		"gpu":              func(t *Task) { t.Containers[0].GPU = 1 },
		"driver":           func(t *Task) { t.Containers[0].Log.Driver = "splunk" },
		"no group":         func(t *Task) { t.Containers[0].Log.Driver = "awslogs" },
		"log option":       func(t *Task) { t.Containers[0].Log = Log{"awslogs", map[string]string{"awslogs-group": "g", "x": "y"}} },
		"host name":        func(t *Task) { t.Containers[0].Hostname = "h" },
		"links":            func(t *Task) { t.Containers[0].Links = []string{"side"} },
		"memory":           func(t *Task) { t.Memory, t.Containers[0].Memory = 1, 2 },
		"swap":             func(t *Task) { t.Containers[0].Swap = 1 },
		"processors":       func(t *Task) { t.CPU = math.Inf(1) },
		"volume name":      func(t *Task) { t.Volumes = []Volume{{Name: "../x"}} },
	} {
		one := task(Container{Name: "main", Essential: true}, Container{Name: "side", DependsOn: []Dependency{{"main", OnStart}}})
		if err := one.Validate(); err != nil {
			t.Fatal(err)
		}
		change(one)
		if err := one.Validate(); !errors.Is(err, engine.ErrInvalid) && !errors.Is(err, engine.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMetadata(t *testing.T) {
	w := newWorld(t)
	one := task(Container{Name: "main", Essential: true, Image: "app", Log: awslogs("g"), DependsOn: []Dependency{{"side", OnStart}}, Command: []string{"get",
		"${ECS_CONTAINER_METADATA_URI_V4}", "${ECS_CONTAINER_METADATA_URI_V4}/task", "${ECS_CONTAINER_METADATA_URI_V4}/stats",
		"${ECS_CONTAINER_METADATA_URI_V4}/task/stats", "http://169.254.170.2${AWS_CONTAINER_CREDENTIALS_RELATIVE_URI}",
		"http://169.254.170.2/v2/credentials/x", "http://169.254.170.2/v4/x"}}, Container{Name: "side", Command: []string{"wait"}})
	one.TaskRole, one.Family, one.Revision, one.CPU, one.Memory = "arn:aws:iam::000000000000:role/r", "f", "7", 0.25, 512<<20
	one.Network.Name, one.Network.Address = "vpc-1", netip.MustParseAddr("10.0.0.9")
	w.begin(one)
	s := w.reaches(one, Stopped)
	got := w.log("p/main/" + string(one.ID))
	if code(s.of("main")) != 0 || len(got) != 7 {
		t.Fatalf("%+v %q", s.Status, got)
	}
	for i, want := range [][]string{
		{`200 {"DockerId":"` + string(s.of("main").ID), `"Name":"main"`, `"KnownStatus":"`, `"IPv4Addresses":["10.0.0.9"]`, `"NetworkMode":"awsvpc"`},
		{`200 {"Cluster":`, `"TaskARN":"` + one.ARN, `"Family":"f"`, `"Revision":"7"`, `"Limits":{"CPU":0.25,"Memory":512}`, `"Name":"side"`},
		{`200 {"read":`, `"memory_stats":`}, {`200 {"` + string(one.ID)},
		{`200 {"RoleArn":"arn:aws:iam::000000000000:role/r","AccessKeyId":"ASIA","SecretAccessKey":"s","Token":"t","Expiration":"2033-05-18T03:33:20Z"}`},
		{`400 {"code":"InvalidIdInRequest","message":"CredentialsV2Request: Credentials not found"}`}, {`404 "V4 container metadata handler:`},
	} {
		for _, text := range want {
			if !strings.Contains(got[i], text) {
				t.Errorf("answer %d: no %s in %s", i, text, got[i])
			}
		}
	}
}

// TestInsideAgain: a new process serves inside of the containers that it finds.
func TestInsideAgain(t *testing.T) {
	w := newWorld(t)
	ask := make(chan struct{})
	w.fake.Programs["asked"] = func(ctx context.Context, p *enginetest.Process) int {
		<-ask
		return programs["get"](ctx, p)
	}
	one := w.begin(task(Container{Name: "main", Essential: true, Command: []string{"asked", "${ECS_CONTAINER_METADATA_URI_V4}"}, Log: awslogs("g")}))
	w.reaches(one, Running)
	w.stop()
	w.start()
	w.until(one, 0, "listeners", func(*Status) bool {
		w.Runner.mu.Lock()
		defer w.Runner.mu.Unlock()
		_, ok := w.Runner.mu.surrounded[one.ID]
		return ok
	})
	close(ask)
	if s := w.reaches(one, Stopped); code(s.of("main")) != 0 {
		t.Errorf("%+v %q", s.Status, w.log("p/main/"+string(one.ID)))
	}
}
