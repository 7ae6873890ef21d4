package daemon

import (
	"slices"
	"testing"

	"skerry/internal/store"
)

// threeNetworks makes front, back and the internal one inner.
func (w *world) threeNetworks() {
	w.t.Helper()
	for i, name := range []string{"front", "back", "inner"} {
		subnet := "10." + string(rune('1'+i)) + ".0.0/24"
		w.must("POST", "/networks/create", object{"Name": name, "Internal": name == "inner", "IPAM": object{"Config": []object{{"Subnet": subnet}}}})
	}
}

// addresses are a container's, by network.
func (w *world) addresses(name string) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for network, e := range w.inspect(name).NetworkSettings.Networks {
		out[network] = e.IPAddress
	}
	return out
}

// gate is the address by which the engine has a container reach the outside.
func (w *world) gate(name string) string {
	w.t.Helper()
	st, err := w.engine.Inspect(w.t.Context(), idOf(w.inspect(name).ID))
	if err != nil {
		w.t.Fatal(err)
	}
	return st.Address.String()
}

func TestSeveralNetworks(t *testing.T) {
	w := newWorld(t)
	w.threeNetworks()
	endpoints := object{"front": object{"Aliases": []string{"f"}, "IPAMConfig": object{"IPv4Address": "10.1.0.9"}}, "inner": object{"Aliases": []string{"i"}}}
	w.must("POST", "/containers/create?name=both", object{"Image": "tool:latest", "HostConfig": object{"NetworkMode": "inner"}, "NetworkingConfig": object{"EndpointsConfig": endpoints}})
	w.create("outer", nil, object{"NetworkMode": "front"})
	w.create("inside", nil, object{"NetworkMode": "inner"})
	for _, name := range []string{"both", "outer", "inside"} {
		w.start(name)
	}
	if a := w.addresses("both"); len(a) != 2 || a["front"] != "10.1.0.9" || a["inner"] != "10.3.0.2" {
		t.Errorf("%v", a)
	}
	if at := w.gate("both"); at != "10.1.0.9" {
		t.Errorf("out by %s, though front leads there", at)
	}
	resolves := func(from, name string) string {
		t.Helper()
		a, own := w.daemon.lookup(t.Context(), w.inspect(from).ID, name)
		switch {
		case len(a.Addresses) > 0:
			return a.Addresses[0].String()
		case own:
			return "none"
		}
		return ""
	}
	for _, x := range [][3]string{
		{"outer", "both", "10.1.0.9"}, {"outer", "f", "10.1.0.9"}, {"outer", "i", ""}, {"outer", "inside", ""},
		{"inside", "both", "10.3.0.2"}, {"inside", "i", "10.3.0.2"}, {"inside", "f", "none"}, {"inside", "outer", "none"},
		{"both", "outer", "10.1.0.2"}, {"both", "inside.inner", "10.3.0.3"}, {"both", "elsewhere", ""},
	} {
		if got := resolves(x[0], x[1]); got != x[2] {
			t.Errorf("%s resolves %s: %q, want %q", x[0], x[1], got, x[2])
		}
	}
	var seen []string
	for _, network := range []string{"front", "inner", "back"} {
		var n struct {
			Containers map[string]struct{ Name, IPv4Address string }
		}
		w.must("GET", "/networks/"+network, nil, &n)
		for _, c := range n.Containers {
			if c.Name == "both" {
				seen = append(seen, c.IPv4Address)
			}
		}
		var list []object
		w.must("GET", `/containers/json?filters={"network":["`+network+`"],"name":["both"]}`, nil, &list)
		if (len(list) == 1) != (network != "back") {
			t.Errorf("listed in %s: %v", network, list)
		}
	}
	if !slices.Equal(seen, []string{"10.1.0.9/24", "10.3.0.2/24"}) {
		t.Errorf("seen as %v", seen)
	}
	w.fails(403, "has active endpoints", "DELETE", "/networks/front", nil)
}

func TestConnect(t *testing.T) {
	w := newWorld(t)
	w.threeNetworks()
	connect := func(network string, more object) object { return object{"Container": "it", "EndpointConfig": more} }
	w.create("it", nil, object{"NetworkMode": "front"})
	w.create("host", nil, object{"NetworkMode": "host"})
	w.create("none", nil, object{"NetworkMode": "none"})
	w.create("part", nil, object{"NetworkMode": "container:it"})
	for _, running := range []bool{false, true} {
		if running {
			w.start("it")
		}
		w.must("POST", "/networks/back/connect", connect("back", object{"Aliases": []string{"b"}}))
		w.fails(403, "endpoint with name it already exists in network back", "POST", "/networks/back/connect", connect("back", nil))
		w.must("POST", "/networks/front/disconnect", object{"Container": "it"})
		w.fails(403, "is not connected to network front", "POST", "/networks/front/disconnect", object{"Container": "it"})
		if at := w.gate("it"); at != "10.2.0.2" {
			t.Errorf("running %v: out by %s", running, at)
		}
		w.must("POST", "/networks/front/connect", connect("front", object{"IPAMConfig": object{"IPv4Address": "10.1.0.7"}}))
		if at := w.gate("it"); at != "10.2.0.2" { // back comes before front
			t.Errorf("running %v: out by %s", running, at)
		}
		w.must("POST", "/networks/back/disconnect", object{"Container": "it"})
	}
	if a := w.addresses("it"); len(a) != 1 || a["front"] != "10.1.0.7" {
		t.Errorf("%v", a)
	}
	w.fails(400, "one of the networks in private (none) mode", "POST", "/networks/front/connect", object{"Container": "none"})
	w.fails(400, "one of the networks in private (none) mode", "POST", "/networks/none/connect", object{"Container": "it"})
	w.fails(400, "connected to host network", "POST", "/networks/front/connect", object{"Container": "host"})
	w.fails(400, "connected to host network", "POST", "/networks/host/disconnect", object{"Container": "host"})
	w.fails(400, "sharing network namespace with another container", "POST", "/networks/back/connect", object{"Container": "part"})
	w.fails(400, "network-scoped alias is supported only for containers in user defined networks", "POST", "/networks/bridge/connect", object{"Container": "it", "EndpointConfig": object{"Aliases": []string{"x"}}})
	w.fails(404, "network nowhere not found", "POST", "/networks/nowhere/connect", object{"Container": "it"})
	w.fails(404, "No such container: nobody", "POST", "/networks/back/connect", object{"Container": "nobody"})
	w.must("POST", "/networks/none/disconnect", object{"Container": "none"})
	w.must("POST", "/networks/back/connect", object{"Container": "none"})
	w.fails(403, "Address already in use", "POST", "/networks/front/connect", object{"Container": "none", "EndpointConfig": object{"IPAMConfig": object{"IPv4Address": "10.1.0.7"}}})
	w.start("none")
	if a := w.addresses("none"); len(a) != 1 || a["back"] == "" {
		t.Errorf("%v", a)
	}
	// Off all its networks, a container that is started gets the first one back.
	w.must("POST", "/containers/it/stop?t=0", nil)
	w.must("POST", "/networks/front/disconnect", object{"Container": "it"})
	w.start("it")
	if a := w.addresses("it"); len(a) != 1 || a["front"] != "10.1.0.2" {
		t.Errorf("%v", a)
	}
}

// A kill of the server while a container is moved: the next one ends it.
func TestConnectKilled(t *testing.T) {
	w := newWorld(t)
	w.threeNetworks()
	id := w.create("it", nil, object{"NetworkMode": "front"})
	w.start("it")
	_, _, err := w.daemon.rewrite(t.Context(), id, func(tx *store.Tx, row *containerRow) error {
		at, err := joinNetwork(tx, "back", nil)
		if err != nil {
			return err
		}
		row.Relinking = true
		return row.setNets([]netRow{at})
	})
	if err != nil {
		t.Fatal(err)
	}
	w.down()
	w.up()
	w.until("the engine knows", func() bool { return w.gate("it") == "10.2.0.2" })
	w.until("the row says so", func() bool {
		row, err := w.daemon.find(t.Context(), id)
		return err == nil && !row.Relinking
	})
}
