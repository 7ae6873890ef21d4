package daemon

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"skerry/internal/engine"
)

// ordered reads a create request as a client sends it, completes it, and maps
// it.
func ordered(t *testing.T, body string) (engine.Spec, error) {
	t.Helper()
	in := container.CreateRequest{Config: &container.Config{}, HostConfig: &container.HostConfig{}}
	if err := json.Unmarshal([]byte(body), &in); err != nil {
		t.Fatal(err)
	}
	image := toolImage()
	mergeImage(in.Config, &image.Config)
	if err := validate(in.Config, in.HostConfig); err != nil {
		return engine.Spec{}, err
	}
	o := order{ID: strings.Repeat("a", 64), Name: "x", Account: "1", Image: image, Config: in.Config, Host: in.HostConfig,
		Network: engine.Network{Mode: engine.NetworkNamed, Name: bridgeID, Address: netip.MustParseAddr("172.17.0.2")},
		Free:    func(p engine.Port) bool { return p.Host != 8000 }}
	mounts, err := mountsOf(in.Config, in.HostConfig, nil)
	if err != nil {
		return engine.Spec{}, err
	}
	for _, m := range mounts {
		o.Mounts = append(o.Mounts, m.engineMount(func(v string) string { return "/volumes/" + v }))
	}
	return specOf(o)
}

func TestSpec(t *testing.T) {
	for body, check := range map[string]func(s engine.Spec) any{
		`{}`: func(s engine.Spec) any {
			return slices.Equal(s.Command, []string{"sleep", "1000"}) && s.Root.Writable && s.Security.AllowNewPrivileges && s.Limits.Pids == -1
		},
		`{"Cmd":["a","b"]}`:               func(s engine.Spec) any { return slices.Equal(s.Command, []string{"a", "b"}) },
		`{"Entrypoint":["e"]}`:            func(s engine.Spec) any { return slices.Equal(s.Command, []string{"e"}) },
		`{"Entrypoint":[""],"Cmd":["c"]}`: func(s engine.Spec) any { return slices.Equal(s.Command, []string{"c"}) },
		`{"Env":["FROM=run","X=1"],"Hostname":"h"}`: func(s engine.Spec) any {
			return slices.Equal(s.Env, []string{"PATH=/bin", "HOSTNAME=h", "FROM=run", "X=1"})
		},
		`{"Env":["FROM"],"Hostname":"h"}`:                func(s engine.Spec) any { return slices.Equal(s.Env, []string{"PATH=/bin", "HOSTNAME=h"}) },
		`{"Tty":true,"OpenStdin":true}`:                  func(s engine.Spec) any { return s.TTY && s.Stdin && slices.Contains(s.Env, "TERM=xterm") },
		`{"User":"1:2","WorkingDir":"/w"}`:               func(s engine.Spec) any { return s.User.Name == "1:2" && s.Dir == "/w" },
		`{"HostConfig":{"GroupAdd":["audio","7"]}}`:      func(s engine.Spec) any { return slices.Equal(s.User.Further, []string{"audio", "7"}) },
		`{"HostConfig":{"ReadonlyRootfs":true}}`:         func(s engine.Spec) any { return !s.Root.Writable },
		`{"HostConfig":{"Init":true,"ShmSize":1048576}}`: func(s engine.Spec) any { return s.Init && s.ShmSize == 1<<20 },
		`{"HostConfig":{"Memory":67108864,"MemoryReservation":33554432,"NanoCpus":1500000000,"CpuShares":512,"PidsLimit":99}}`: func(s engine.Spec) any {
			return s.Limits == engine.Limits{Memory: 64 << 20, MemoryReserve: 32 << 20, CPU: 1.5, CPUShares: 512, Pids: 99}
		},
		`{"HostConfig":{"SecurityOpt":["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]}}`: func(s engine.Spec) any { return s.Security.Seccomp == `{"defaultAction":"SCMP_ACT_ALLOW"}` },
		`{"HostConfig":{"CpuQuota":50000}}`:                                                 func(s engine.Spec) any { return s.Limits.CPU == 0.5 },
		`{"HostConfig":{"CpusetCpus":"0-1","CpusetMems":"0"}}`:                              func(s engine.Spec) any { return s.Limits.CPUs == "0-1" && s.Limits.Mems == "0" },
		`{"HostConfig":{"SecurityOpt":["no-new-privileges","seccomp=unconfined"],"CapAdd":["NET_ADMIN"],"CapDrop":["ALL"]}}`: func(s engine.Spec) any {
			return !s.Security.AllowNewPrivileges && s.Security.SeccompUnconfined && s.Security.AddCapabilities[0] == "NET_ADMIN" && s.Security.DropCapabilities[0] == "ALL"
		},
		`{"HostConfig":{"Privileged":true,"Devices":[{"PathOnHost":"/dev/fuse","PathInContainer":"/dev/f","CgroupPermissions":"rw"}]}}`: func(s engine.Spec) any {
			return s.Security.Privileged && s.Devices[0] == engine.Device{Source: "/dev/fuse", Target: "/dev/f", Permissions: "rw"}
		},
		`{"HostConfig":{"Ulimits":[{"Name":"nofile","Soft":10,"Hard":20}],"Sysctls":{"net.core.somaxconn":"9"}}}`: func(s engine.Spec) any {
			return s.Rlimits[0] == engine.Rlimit{Name: "nofile", Soft: 10, Hard: 20} && s.Sysctls["net.core.somaxconn"] == "9"
		},
		`{"HostConfig":{"LogConfig":{"Type":"json-file","Config":{"max-size":"1m","max-file":"3"}}}}`: func(s engine.Spec) any { return s.LogSize == 1<<20 && s.LogFiles == 3 },
		`{"HostConfig":{"Tmpfs":{"/t":"size=1m,mode=700,exec"}}}`: func(s engine.Spec) any {
			return s.Mounts[0] == engine.Mount{Kind: engine.MountTmpfs, Target: "/t", Size: 1 << 20, Mode: 0o700}
		},
		`{"HostConfig":{"Binds":["vv:/a:nocopy","/b:/b:ro"]}}`: func(s engine.Spec) any {
			return s.Mounts[0] == engine.Mount{Kind: engine.MountBind, Source: "/volumes/vv", Target: "/a", Owned: true} &&
				s.Mounts[1] == engine.Mount{Kind: engine.MountBind, Source: "/b", Target: "/b", ReadOnly: true, Owned: true}
		},
		`{"HostConfig":{"PortBindings":{"80/tcp":[{"HostIp":"127.0.0.1","HostPort":"8080"}],"53/udp":[{"HostPort":""}],"81/tcp":[{"HostPort":"8000-8002"}]}}}`: func(s engine.Spec) any {
			return reflect.DeepEqual(s.Network.Ports, []engine.Port{{Protocol: "udp", Container: 53}, {Protocol: "tcp", Container: 80, Host: 8080, Address: netip.MustParseAddr("127.0.0.1")}, {Protocol: "tcp", Container: 81, Host: 8001}})
		},
		`{"HostConfig":{"PublishAllPorts":true}}`: func(s engine.Spec) any {
			return len(s.Network.Ports) == 1 && s.Network.Ports[0].Container == 80 && s.Network.Ports[0].Host == 0
		},
		`{"HostConfig":{"ExtraHosts":["db:10.0.0.1"],"Dns":["10.0.0.2"],"DnsSearch":["x.test"]}}`: func(s engine.Spec) any {
			return s.Network.Hosts[0] == engine.Host{Name: "db", Address: netip.MustParseAddr("10.0.0.1")} && s.Network.DNS.Servers[0].String() == "10.0.0.2" && s.Network.DNS.Search[0] == "x.test"
		},
	} {
		s, err := ordered(t, body)
		if err != nil {
			t.Errorf("%s: %v", body, err)
		} else if check(s) != true {
			t.Errorf("%s: %+v", body, s)
		}
	}
}

func TestRefused(t *testing.T) {
	for body, want := range map[string]int{
		`{"HostConfig":{"CpusetCpus":"0-x"}}`: 400, `{"HostConfig":{"BlkioWeight":9}}`: 501, `{"HostConfig":{"PidMode":"host"}}`: 501, `{"HostConfig":{"Links":["a:b"],"NetworkMode":"host"}}`: 400, `{"Domainname":"d"}`: 501,
		`{"HostConfig":{"DeviceRequests":[{"Count":1}]}}`: 501, `{"HostConfig":{"LogConfig":{"Type":"syslog"}}}`: 501, `{"HostConfig":{"Memory":1000}}`: 400,
		`{"HostConfig":{"NanoCpus":9000000000000}}`: 400, `{"HostConfig":{"CpuPeriod":10,"CpuQuota":5000}}`: 400,
		`{"HostConfig":{"SecurityOpt":["odd"]}}`: 400, `{"HostConfig":{"Binds":["/a:b"]}}`: 400,
		`{"HostConfig":{"Binds":["/a:/b:shared"]}}`: 501, `{"HostConfig":{"Binds":["../a:/b"]}}`: 400, `{"HostConfig":{"Binds":["/a:/x","/b:/x/"]}}`: 400,
		`{"HostConfig":{"Binds":["/a:/"]}}`: 400, `{"HostConfig":{"ExtraHosts":["h:host-gateway"]}}`: 501, `{"StopSignal":"SIGNOT"}`: 400,
		`{"HostConfig":{"MemorySwap":67108864}}`: 400, `{"HostConfig":{"MemorySwap":67108864,"Memory":67108865}}`: 400, `{"HostConfig":{"MemorySwap":-2,"Memory":67108864}}`: 400,
		`{"HostConfig":{"IpcMode":"host"}}`: 501, `{"Healthcheck":{"Test":["WHAT"]}}`: 400,
		`{"HostConfig":{"PortBindings":{"80/sctp":[{}]}}}`: 501, `{"HostConfig":{"PortBindings":{"80/tcp":[{"HostPort":"x"}]}}}`: 400,
	} {
		_, err := ordered(t, body)
		if code, text := status(err); err == nil || code != want {
			t.Errorf("%s: %d %s, want %d", body, code, text, want)
		}
	}
}

func TestSwap(t *testing.T) {
	const limit = 64 << 20
	for both, want := range map[int64]int64{0: 0, limit: 0, 3 * limit: 2 * limit, -1: -1} {
		if l := limitsOf(&container.Resources{Memory: limit, MemorySwap: both}); l.Memory != limit || l.Swap != want {
			t.Errorf("%d: %+v", both, l)
		}
	}
	if l := limitsOf(&container.Resources{MemorySwap: -1}); l.Swap != 0 {
		t.Errorf("no limit: %+v", l)
	}
}

func TestAfterExit(t *testing.T) {
	start := time.Unix(1000, 0)
	exit := func(code int, after time.Duration) engine.Exit {
		return engine.Exit{Code: code, Finished: start.Add(after)}
	}
	for _, x := range []struct {
		host    string
		row     containerRow
		exit    engine.Exit
		kept    bool
		state   container.ContainerState
		backoff time.Duration
		gone    bool
	}{
		{host: `{}`, exit: exit(1, 1), state: "exited"},
		{host: `{"AutoRemove":true}`, exit: exit(0, 1), state: "exited", gone: true},
		{host: `{"AutoRemove":true}`, exit: exit(0, 1), kept: true, state: "exited"},
		{host: `{"RestartPolicy":{"Name":"always"}}`, exit: exit(0, 1), state: "restarting", backoff: firstBackoff},
		{host: `{"RestartPolicy":{"Name":"always"}}`, row: containerRow{Backoff: 40 * time.Second}, exit: exit(0, 1), state: "restarting", backoff: lastBackoff},
		{host: `{"RestartPolicy":{"Name":"always"}}`, row: containerRow{Backoff: 40 * time.Second}, exit: exit(0, time.Minute), state: "restarting", backoff: firstBackoff},
		{host: `{"RestartPolicy":{"Name":"always"}}`, row: containerRow{Stopped: true}, exit: exit(0, 1), state: "exited"},
		{host: `{"RestartPolicy":{"Name":"on-failure"}}`, exit: exit(0, 1), state: "exited"},
		{host: `{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":2}}`, row: containerRow{Restarts: 1}, exit: exit(1, 1), state: "restarting", backoff: firstBackoff},
		{host: `{"RestartPolicy":{"Name":"on-failure","MaximumRetryCount":2}}`, row: containerRow{Restarts: 2}, exit: exit(1, 1), state: "exited"},
	} {
		row := x.row
		row.Config, row.Host, row.State, row.Started = []byte(`{}`), []byte(x.host), container.StateRunning, start
		if err := afterExit(&row, x.exit, x.exit.Finished, x.kept); err != nil {
			t.Fatal(err)
		}
		if row.State != x.state || row.Removing != x.gone || x.backoff != 0 && (row.Backoff != x.backoff || !row.RestartAt.Equal(x.exit.Finished.Add(x.backoff))) {
			t.Errorf("%s: %+v", x.host, row)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, x := range []struct{ pattern, path, vars string }{
		{"/containers/{id}/json", "/containers/a/json", "id=a"}, {"/containers/{id}/json", "/containers//json", "-"},
		{"/images/{name...}/json", "/images/a/b:c/json", "name=a/b:c"}, {"/images/{name...}/json", "/images/json", "-"},
		{"/images/{name...}", "/images/a/b", "name=a/b"}, {"/images/json", "/images/json", ""}, {"/images/json", "/images/json/", "-"},
	} {
		vars, ok := match(x.pattern, x.path)
		got := "-"
		if ok {
			got = ""
			for k, v := range vars {
				got += k + "=" + v
			}
		}
		if got != x.vars {
			t.Errorf("%s of %s: %q, want %q", x.path, x.pattern, got, x.vars)
		}
	}
}

func TestMoment(t *testing.T) {
	now := time.Unix(10_000, 0)
	for text, want := range map[string]time.Time{
		"5000.5": time.Unix(5000, 5e8), "5000": time.Unix(5000, 0), "10m": time.Unix(9400, 0), "1970-01-01T01:00:00Z": time.Unix(3600, 0), "1970-01-02": time.Unix(86400, 0),
	} {
		if got, err := moment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v %v", text, got, err)
		}
	}
	if _, err := moment("soon", now); err == nil {
		t.Error("soon is no time")
	}
	var f *fault
	if _, err := moment("1.x", now); !errors.As(err, &f) || f.status != http.StatusBadRequest {
		t.Errorf("%v", err)
	}
}
