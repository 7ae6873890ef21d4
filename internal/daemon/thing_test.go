package daemon

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"skerry/internal/engine"
)

func idOf(id string) engine.ID { return engine.ID(id) }

func TestVersions(t *testing.T) {
	w := newWorld(t)
	for path, code := range map[string]int{"/_ping": 200, "/v1.24/_ping": 200, "/v1.47/version": 200, "/v1.48/version": 400, "/v1.12/version": 400, "/v1.47/nothing": 404, "/info": 200} {
		r, err := w.client.Get("http://docker" + path)
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		if r.StatusCode != code || r.Header.Get("Api-Version") != maxVersion || r.Header.Get("Ostype") != "linux" {
			t.Errorf("%s: %d %v", path, r.StatusCode, r.Header)
		}
	}
	w.fails(501, "docker build", "POST", "/build", nil)
	w.fails(501, "swarm", "POST", "/swarm/init", nil)
	w.fails(405, "", "DELETE", "/info", nil)
	w.fails(400, "invalid JSON", "POST", "/containers/create", "text")
	w.fails(400, "config cannot be empty", "POST", "/containers/create", object{})
}

func TestNetworks(t *testing.T) {
	w := newWorld(t)
	var list []struct {
		Name, ID, Driver string
		Internal         bool
		IPAM             struct {
			Config []struct{ Subnet, Gateway string }
		}
		Containers map[string]object
	}
	w.must("GET", "/networks", nil, &list)
	if len(list) != 3 || list[0].Name != "bridge" || list[1].Driver != "host" || list[2].Driver != "null" {
		t.Errorf("%+v", list)
	}
	var made struct{ ID string }
	w.must("POST", "/networks/create", object{"Name": "back", "Internal": true, "IPAM": object{"Config": []object{{"Subnet": "10.9.0.0/24", "IPRange": "10.9.0.128/25"}}}}, &made)
	w.fails(409, "network with name back already exists", "POST", "/networks/create", object{"Name": "back"})
	w.fails(403, "Pool overlaps", "POST", "/networks/create", object{"Name": "b2", "IPAM": object{"Config": []object{{"Subnet": "10.9.0.0/16"}}}})
	w.fails(400, "it should be 10.8.0.0/16", "POST", "/networks/create", object{"Name": "b2", "IPAM": object{"Config": []object{{"Subnet": "10.8.0.1/16"}}}})
	w.fails(501, "IPv6", "POST", "/networks/create", object{"Name": "b2", "EnableIPv6": true})
	w.fails(404, "plugin", "POST", "/networks/create", object{"Name": "b2", "Driver": "overlay"})
	first := w.create("first", nil, object{"NetworkMode": "back"})
	fixed := object{"Image": "tool:latest", "HostConfig": object{"NetworkMode": "back"}, "NetworkingConfig": object{"EndpointsConfig": object{"back": object{"Aliases": []string{"db"}, "IPAMConfig": object{"IPv4Address": "10.9.0.7"}}}}}
	w.must("POST", "/containers/create?name=second", fixed)
	w.fails(403, "Address already in use", "POST", "/containers/create?name=third", fixed)
	w.start("first")
	w.start("second")
	for name, want := range map[string]string{"first": "10.9.0.128", "second": "10.9.0.7"} {
		if s := w.inspect(name); s.NetworkSettings.Networks["back"].IPAddress != want || s.NetworkSettings.Networks["back"].NetworkID != made.ID || s.NetworkSettings.IPAddress != "" {
			t.Errorf("%s: %+v", name, s.NetworkSettings)
		}
	}
	one := list[0]
	w.must("GET", "/networks/"+made.ID[:8], nil, &one)
	if !one.Internal || one.IPAM.Config[0].Gateway != "10.9.0.1" || one.Containers[first]["IPv4Address"] != "10.9.0.128/24" {
		t.Errorf("%+v", one)
	}
	w.fails(403, "has active endpoints", "DELETE", "/networks/back", nil)
	w.fails(403, "pre-defined", "DELETE", "/networks/bridge", nil)
	w.fails(400, "network nowhere not found", "POST", "/containers/create", object{"Image": "tool:latest", "HostConfig": object{"NetworkMode": "nowhere"}})
	shared := w.create("shared", nil, object{"NetworkMode": "container:first"})
	w.start(shared)
	for _, name := range []string{"first", "second", "shared"} {
		w.must("DELETE", "/containers/"+name+"?force=1", nil)
	}
	w.must("POST", "/networks/create", object{"Name": "auto"}, &made)
	w.must("GET", "/networks/auto", nil, &one)
	if s := one.IPAM.Config[0].Subnet; !strings.HasPrefix(s, "172.") {
		t.Errorf("subnet %s", s)
	}
	var report struct{ NetworksDeleted []string }
	w.must("POST", "/networks/prune", nil, &report)
	if strings.Join(report.NetworksDeleted, " ") != "auto back" {
		t.Errorf("%+v", report)
	}
}

func TestLinks(t *testing.T) {
	w := newWorld(t)
	link := func(name, network string, links ...string) {
		t.Helper()
		body := object{"Image": "tool:latest", "HostConfig": object{"NetworkMode": network, "Links": links}}
		w.must("POST", "/containers/create?name="+name, body)
	}
	db := w.create("db", nil, nil)
	w.must("POST", "/networks/create", object{"Name": "back"})
	w.fails(400, "could not get container for nosuch: No such container: nosuch", "POST", "/containers/create", object{"Image": "tool:latest", "HostConfig": object{"Links": []string{"nosuch:x"}}})
	w.fails(400, "bad format for links: :x", "POST", "/containers/create", object{"Image": "tool:latest", "HostConfig": object{"Links": []string{":x"}}})
	link("web", "bridge", "db:data", "/db")
	w.fails(400, "Cannot link to a non running container: /db AS /web/data", "POST", "/containers/web/start", nil)
	w.start("db")
	w.start("web")
	var s struct{ HostConfig struct{ Links []string } }
	w.must("GET", "/containers/web/json", nil, &s)
	if l := s.HostConfig.Links; len(l) != 2 || l[0] != "/db:/web/data" || l[1] != "/db:/web/db" {
		t.Errorf("%q", l)
	}
	link("late", "back", "base:data") // who that is, is seen when it is asked for
	w.start("late")
	link("base", "back")
	w.fails(400, "Cannot link to /base, as it does not belong to the default network", "POST", "/containers/create", object{"Image": "tool:latest", "HostConfig": object{"Links": []string{"base"}}})
	w.start("base")
	find := func(from, name string) string {
		row, err := w.daemon.find(t.Context(), from)
		if err != nil {
			t.Fatal(err)
		}
		if found := w.daemon.linked(t.Context(), &row.Net, name); len(found) == 1 {
			return found[0].Name
		}
		return ""
	}
	for _, x := range [][3]string{{"web", "DATA", "db"}, {"web", "db", "db"}, {"web", db[:12], "db"}, {"web", "base", ""}, {"late", "data", "base"}, {"late", "db", ""}} {
		if got := find(x[0], x[1]); got != x[2] {
			t.Errorf("%s finds %q for %s, want %q", x[0], got, x[1], x[2])
		}
	}
	w.must("DELETE", "/containers/db?force=1", nil)
	if got := find("web", "data"); got != "" {
		t.Errorf("a container that is gone: %q", got)
	}
}

func TestVolumes(t *testing.T) {
	w := newWorld(t)
	var v struct{ Name, Mountpoint string }
	w.must("POST", "/volumes/create", object{"Name": "data", "Labels": object{"a": "b"}}, &v)
	if st, err := os.Stat(v.Mountpoint); err != nil || !st.IsDir() {
		t.Errorf("%s: %v", v.Mountpoint, err)
	}
	source := filepath.Join(t.TempDir(), "made")
	w.create("user", object{"Volumes": object{"/anonymous": object{}}}, object{"Binds": []string{"data:/data:ro", source + ":/bound", "fresh:/fresh"}})
	s := w.inspect("user")
	if len(s.Mounts) != 4 || s.Mounts[0].Type != "volume" || len(s.Mounts[0].Name) != 64 || s.Mounts[1].Source != source || s.Mounts[2].Name != "data" || s.Mounts[3].Name != "fresh" {
		t.Errorf("%+v", s.Mounts)
	}
	if _, err := os.Stat(source); err != nil {
		t.Error(err)
	}
	spec := w.spec("user")
	if m := spec.Mounts; len(m) != 4 || !m[0].Populate || m[1].Populate || !m[2].ReadOnly || !m[2].Owned || m[2].Source != v.Mountpoint {
		t.Errorf("%+v", m)
	}
	w.fails(409, "remove data: volume is in use - ["+s.ID+"]", "DELETE", "/volumes/data", nil)
	w.fails(404, "get none: no such volume", "GET", "/volumes/none", nil)
	w.fails(400, "bind source path does not exist", "POST", "/containers/create", object{"Image": "tool:latest", "HostConfig": object{"Mounts": []object{{"Type": "bind", "Source": source + "/no", "Target": "/x"}}}})
	w.must("DELETE", "/containers/user?v=1", nil)
	var list struct{ Volumes []struct{ Name string } }
	w.must("GET", "/volumes", nil, &list)
	if len(list.Volumes) != 2 { // the anonymous one is gone
		t.Errorf("%+v", list)
	}
	w.must("POST", "/volumes/prune", nil)
	w.must("GET", "/volumes?filters="+`{"dangling":{"true":true}}`, nil, &list)
	if len(list.Volumes) != 2 {
		t.Errorf("named volumes were pruned: %+v", list)
	}
	w.must("POST", `/volumes/prune?filters={"all":["true"]}`, nil)
	if _, err := os.Stat(v.Mountpoint); !os.IsNotExist(err) {
		t.Errorf("%s: %v", v.Mountpoint, err)
	}
}

// spec reads what the engine was told.
func (w *world) spec(name string) engine.Spec {
	w.t.Helper()
	row, err := w.daemon.find(w.t.Context(), name)
	if err != nil {
		w.t.Fatal(err)
	}
	s, err := row.spec()
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestFilters(t *testing.T) {
	w := newWorld(t)
	w.create("one", object{"Labels": object{"color": "red"}}, nil)
	w.create("two", object{"Labels": object{"color": "blue"}}, nil)
	w.start("two")
	for query, want := range map[string]int{
		`all=1`: 2, ``: 1, `limit=1`: 1, `filters={"label":["color=red"]}&all=1`: 1, `filters={"label":["color"]}&all=1`: 2, `filters={"name":{"tw":true}}`: 1,
		`filters={"status":["created"]}`: 1, `filters={"ancestor":["none"]}`: 0, `filters={"ancestor":["tool:latest"]}`: 1, `filters={"network":["bridge"]}&all=1`: 2,
		`filters={"label!":["color=red"]}&all=1`: 1,
	} {
		var list []object
		w.must("GET", "/containers/json?"+query, nil, &list)
		if len(list) != want {
			t.Errorf("%s: %d, want %d", query, len(list), want)
		}
	}
	w.fails(400, "invalid filter 'colour'", "GET", `/containers/json?filters={"colour":["red"]}`, nil)
	var report struct{ ContainersDeleted []string }
	w.must("POST", "/containers/prune", nil, &report)
	if len(report.ContainersDeleted) != 1 {
		t.Errorf("%+v", report)
	}
}

func TestEvents(t *testing.T) {
	w := newWorld(t)
	r, err := http.NewRequestWithContext(t.Context(), "GET", `http://docker/events?filters={"type":["container"]}`, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	id := w.create("xx", object{"Cmd": []string{"exit", "6"}}, object{"AutoRemove": true})
	w.start(id)
	lines := bufio.NewScanner(a.Body)
	for _, want := range []string{"create", "start", "die", "destroy"} {
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		if string(m.Action) != want || m.Status != want || m.Actor.ID != id || m.Actor.Attributes["name"] != "xx" || want == "die" && m.Actor.Attributes["exitCode"] != "6" {
			t.Errorf("%+v, want %s", m, want)
		}
	}
}

func TestEventFilters(t *testing.T) {
	w := newWorld(t)
	id := w.create("web", nil, nil)
	w.create("web2", object{"Labels": object{"of": "mine"}}, nil)
	w.start(id)
	w.must("DELETE", "/containers/"+id+"?force=1", nil)
	for filter, want := range map[string]string{
		`{"event":["create"]}`: "create web,create web2", `{"container":["web2"]}`: "create web2", `{"container":["` + id[:6] + `"],"event":["create","start"]}`: "create web,start web",
		`{"container":["web"],"event":["create"]}`: "create web,create web2", `{"image":["tool"],"event":["die"]}`: "die web", `{"image":["tool:latest"],"event":["die"]}`: "die web",
		`{"image":["to"]}`: "", `{"label":["of=mine"]}`: "create web2", `{"type":["network"]}`: "connect bridge,disconnect bridge", `{"network":["bridge"],"event":["connect"]}`: "connect bridge",
		`{"scope":["swarm"]}`: "", `{"type":["volume"]}`: "",
	} {
		code, text := w.ask("GET", "/events?since=1&until="+strconv.FormatInt(time.Now().Unix(), 10)+"&filters="+url.QueryEscape(filter), nil)
		var got []string
		for lines := json.NewDecoder(strings.NewReader(text)); lines.More(); {
			var m message
			if err := lines.Decode(&m); err != nil {
				t.Fatal(err)
			}
			got = append(got, string(m.Action)+" "+m.Actor.Attributes["name"])
		}
		if code != 200 || strings.Join(got, ",") != want {
			t.Errorf("%s: %d %q, want %q", filter, code, got, want)
		}
	}
}

func TestSharing(t *testing.T) {
	all, shared := sharing([]engine.Image{
		{ID: "a", Size: 10, Layers: []string{"x", "y"}, LayerSizes: []int64{7, 3}}, {ID: "b", Size: 12, Layers: []string{"x", "z", "z"}, LayerSizes: []int64{7, 5, 5}},
		{ID: "c", Size: 1, Layers: []string{"w"}, LayerSizes: []int64{1}}, {ID: "d", Size: 100, Layers: []string{"x"}},
	})
	if all != 7+3+5+1+100 || shared["a"] != 7 || shared["b"] != 7 || shared["c"] != 0 || shared["d"] != 0 {
		t.Errorf("%d, %v", all, shared)
	}
}

func TestImages(t *testing.T) {
	w := newWorld(t)
	var list []struct {
		ID       string `json:"Id"`
		RepoTags []string
	}
	w.must("GET", "/images/json", nil, &list)
	if len(list) != 1 || list[0].RepoTags[0] != "tool:latest" {
		t.Errorf("%+v", list)
	}
	w.must("GET", `/images/json?filters={"reference":["too*"]}`, nil, &list)
	if len(list) != 1 {
		t.Errorf("%+v", list)
	}
	var one struct {
		Architecture string
		Config       struct{ Cmd []string }
	}
	w.must("GET", "/images/tool:latest/json", nil, &one)
	if one.Architecture != "amd64" || len(one.Config.Cmd) != 2 {
		t.Errorf("%+v", one)
	}
	var old struct{ ContainerConfig *struct{ Cmd []string } }
	if w.must("GET", "/v1.44/images/tool:latest/json", nil, &old); old.ContainerConfig == nil || len(old.ContainerConfig.Cmd) != 2 {
		t.Errorf("to docker-compose 1: %+v", old)
	}
	var steps []object
	w.must("GET", "/images/tool:latest/history", nil, &steps)
	if len(steps) != 2 || steps[0]["CreatedBy"] != "CMD" || steps[1]["Size"] != float64(1<<20) {
		t.Errorf("%+v", steps)
	}
	w.fails(404, "No such image: some/where/none:latest", "GET", "/images/some/where/none/json", nil)
	w.fails(404, "pull access denied", "POST", "/images/create?fromImage=none&tag=latest", nil)
	w.must("POST", "/images/create?fromImage=tool&tag=latest", nil)
	w.create("user", nil, nil)
	w.fails(409, "must force", "DELETE", "/images/tool:latest", nil)
	w.must("DELETE", "/containers/user", nil)
	for _, x := range []struct {
		filters string
		gone    int
	}{{`{"dangling":["0"],"label":["of=nobody"]}`, 0}, {`{"dangling":["0"],"until":["2000-01-01"]}`, 0}, {`{"label":["of=image"]}`, 0}, {`{"dangling":["0"],"label":["of=image"]}`, 2}} {
		var report struct{ ImagesDeleted []object }
		w.must("POST", "/images/prune?filters="+x.filters, nil, &report)
		if len(report.ImagesDeleted) != x.gone {
			t.Errorf("%s: %v", x.filters, report)
		}
	}
	w.must("POST", "/build/prune", nil) // of docker system prune
}

func TestStats(t *testing.T) {
	w := newWorld(t)
	id := w.create("", nil, object{"Memory": 64 << 20})
	w.start(id)
	var s struct {
		Memory struct{ Limit int64 } `json:"memory_stats"`
		CPU    struct {
			System int64 `json:"system_cpu_usage"`
		} `json:"cpu_stats"`
	}
	w.must("GET", "/containers/"+id+"/stats?stream=0&one-shot=1", nil, &s)
	if s.Memory.Limit != 64<<20 || s.CPU.System == 0 {
		t.Errorf("%+v", s)
	}
	w.must("POST", "/containers/"+id+"/update", object{"Memory": 128 << 20, "RestartPolicy": object{"Name": "always"}})
	if l := w.engine.LimitsOf(idOf(id)); l.Memory != 128<<20 {
		t.Errorf("%+v", l)
	}
	if s := w.inspect(id); s.HostConfig["Memory"] != float64(128<<20) {
		t.Errorf("%v", s.HostConfig["Memory"])
	}
	w.fails(409, "update the memoryswap at the same time", "POST", "/containers/"+id+"/update", object{"Memory": 256 << 20})
	w.must("POST", "/containers/"+id+"/update", object{"Memory": 256 << 20, "MemorySwap": -1})
	if l := w.engine.LimitsOf(idOf(id)); l.Memory != 256<<20 || l.Swap != -1 {
		t.Errorf("%+v", l)
	}
}
