//go:build linux && amd64

package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
)

// serve is the probe that says its name, and who asks, to all who connect.
func serve(address, name string) int {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("serving")
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		_, _ = fmt.Fprintf(c, "%s %s", name, c.RemoteAddr().(*net.TCPAddr).IP)
		_ = c.Close()
	}
}

// asked connects and returns what is said; nothing when nobody is there.
func asked(address string) string {
	c, err := net.DialTimeout("tcp", address, 500*time.Millisecond)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(500 * time.Millisecond))
	b, _ := io.ReadAll(c)
	return string(b)
}

func withNamed(name, address string) engine.Network {
	return engine.Network{Mode: engine.NetworkNamed, Name: name, Address: netip.MustParseAddr(address)}
}

// server starts a container that serves on port 80, and waits until it does.
func server(t testing.TB, d *Driver, name string, n engine.Network) engine.ID {
	t.Helper()
	spec := probeSpec(t, "serve", "0.0.0.0:80", name)
	spec.ID, spec.Network = engine.ID(name), n
	id := started(t, d, spec)
	serving(t, d, id)
	return id
}

func serving(t testing.TB, d *Driver, id engine.ID) {
	t.Helper()
	await(t, "it serves", func() bool { out, _ := output(t, d, id); return strings.HasSuffix(out, "serving\n") })
}

// ask runs a container that asks, and returns what it was told.
func ask(t testing.TB, d *Driver, n engine.Network, address string) string {
	t.Helper()
	spec := probeSpec(t, "ask", address)
	if _, err := os.Stat("/usr/bin/busybox"); err == nil { // starts in less time
		spec = enginetest.Spec("busybox nc -w 1 " + strings.Replace(address, ":", " ", 1) + " </dev/null 2>/dev/null")
	}
	spec.Network = n
	return strings.TrimSpace(run(t, d, spec).out)
}

func hasNetworks(t *testing.T, d *Driver) {
	t.Helper()
	needs(t, d, "networks", func(c engine.Capabilities) bool { return c.NamedNetworks && c.Ports })
}

func TestNamedNetworks(t *testing.T) {
	t.Parallel()
	d := open(t)
	hasNetworks(t, d)
	server(t, d, "a", withNamed("blue", "10.0.0.5"))
	server(t, d, "b", withNamed("red", "10.0.0.5")) // the same address on another network
	for _, c := range []struct{ network, from, want string }{
		{"blue", "10.0.0.6", "a 10.0.0.6"}, {"red", "10.0.0.6", "b 10.0.0.6"}, {"green", "10.0.0.6", ""},
	} {
		if got := ask(t, d, withNamed(c.network, c.from), "10.0.0.5:80"); got != c.want {
			t.Errorf("from %s: %q, not %q", c.network, got, c.want)
		}
	}
	spec := enginetest.Spec("true")
	spec.Network = withNamed("blue", "10.0.0.5")
	if _, err := d.Create(context.Background(), spec); !errors.Is(err, engine.ErrExists) {
		t.Errorf("an address that another has: %v", err)
	}
	if st, err := d.Inspect(context.Background(), "a"); err != nil || st.Address.String() != "10.0.0.5" {
		t.Errorf("%+v, %v", st, err)
	}
	if err := d.Remove(context.Background(), "a"); err != nil {
		t.Fatal(err)
	}
	server(t, d, "c", withNamed("blue", "10.0.0.5")) // free at once
}

// Published ports follow a container from a network that ends with that to the one
// that it moves to.
func TestPortsMove(t *testing.T) {
	t.Parallel()
	d := open(t)
	hasNetworks(t, d)
	links := []engine.Link{
		{Name: "blue", Address: netip.MustParseAddr("10.0.0.5"), Subnet: netip.MustParsePrefix("10.0.0.0/24")},
		{Name: "red", Address: netip.MustParseAddr("10.1.0.5"), Subnet: netip.MustParsePrefix("10.1.0.0/24")},
	}
	n := engine.Network{Ports: []engine.Port{{Container: 80}}}
	n.SetLinks(links[:1])
	id := server(t, d, "moves", n)
	st, err := d.Inspect(context.Background(), id)
	if err != nil || len(st.Ports) != 1 {
		t.Fatalf("%+v, %v", st, err)
	}
	for _, to := range [][]engine.Link{links, links[1:], links[:1]} {
		if err := d.Connect(context.Background(), id, to); err != nil {
			t.Fatal(err)
		}
		await(t, "the port leads to it", func() bool {
			return strings.HasPrefix(asked(fmt.Sprintf("127.0.0.1:%d", st.Ports[0].Host)), "moves ")
		})
	}
}

func TestSandbox(t *testing.T) {
	t.Parallel()
	d := open(t)
	hasNetworks(t, d)
	ctx := context.Background()
	in := func(n engine.Network, sandbox string) engine.Network { n.Sandbox = sandbox; return n }
	for name, n := range map[string]engine.Network{
		"none": {}, "nat": {Mode: engine.NetworkNAT}, "named": withNamed("blue", "10.0.0.5"),
	} {
		t.Run(name, func(t *testing.T) {
			first := server(t, d, name+"-first", n)
			// two that repeat the network, and one that takes what there is
			second := probeSpec(t, "serve", "127.0.0.1:81", "second")
			second.Network = in(n, string(first))
			serving(t, d, started(t, d, second))
			if got := ask(t, d, in(n, string(first)), "127.0.0.1:80"); got != name+"-first 127.0.0.1" {
				t.Errorf("who repeats the network: %q", got)
			}
			if got := ask(t, d, in(engine.Network{}, string(first)), "127.0.0.1:81"); got != "second 127.0.0.1" {
				t.Errorf("who takes what there is: %q", got)
			}
			for what, change := range map[string]func(*engine.Spec){
				"another account": func(s *engine.Spec) { s.Account = "111111111111" },
				"another mode":    func(s *engine.Spec) { s.Network = in(withNamed("other", "10.0.0.9"), string(first)) },
				"another address": func(s *engine.Spec) { s.Network = in(withNamed("blue", "10.0.0.9"), string(first)) },
			} {
				spec := enginetest.Spec("true")
				spec.Network = in(n, string(first))
				change(&spec)
				if _, err := d.Create(ctx, spec); !errors.Is(err, engine.ErrInvalid) {
					t.Errorf("%s: %v", what, err)
				}
			}
			// it lasts as long as the last one
			before, err := d.Inspect(ctx, first)
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Remove(ctx, first); err != nil {
				t.Fatal(err)
			}
			third := enginetest.Spec("sleep 1000")
			third.Network.Sandbox = string(first)
			st, err := d.Inspect(ctx, started(t, d, third))
			if err != nil || st.Address != before.Address {
				t.Errorf("address %s, it was %s: %v", st.Address, before.Address, err)
			}
			if got := ask(t, d, in(engine.Network{}, string(first)), "127.0.0.1:81"); got != "second 127.0.0.1" {
				t.Errorf("after the first one's end: %q", got)
			}
		})
	}
	// a container's id names the sandbox that it is in, its own or not
	a := enginetest.Spec("sleep 1000")
	a.ID, a.Network = "member", engine.Network{Mode: engine.NetworkNAT, Sandbox: "task"}
	id := started(t, d, a)
	st, err := d.Inspect(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	b := enginetest.Spec("sleep 1000")
	b.Network.Sandbox = "member"
	if other, err := d.Inspect(ctx, started(t, d, b)); err != nil || other.Address != st.Address {
		t.Errorf("%+v, %v", other, err)
	}
	// user ids are shared with the namespace
	owner := func(pid int) string {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/uid_map", pid))
		return string(b)
	}
	if other, err := d.Inspect(ctx, id); err != nil || owner(other.Pid) != owner(st.Pid) {
		t.Error("two ranges of user ids")
	}
}

// Many who come and go at once in one sandbox: one makes it, and nothing is left.
func TestSandboxAtOnce(t *testing.T) {
	t.Parallel()
	d := open(t)
	hasNetworks(t, d)
	for i := range 5 {
		errs := make(chan error, 8)
		addresses := make(chan netip.Addr, 8)
		for range 8 {
			go func() {
				spec := enginetest.Spec("true")
				spec.Network = withNamed("blue", "10.0.0.5")
				spec.Network.Sandbox = fmt.Sprint("task", i)
				id, err := d.Create(context.Background(), spec)
				if err == nil {
					st, _ := d.Inspect(context.Background(), id)
					addresses <- st.Address
					err = d.Start(context.Background(), id)
				}
				if err == nil {
					err = d.Remove(context.Background(), id)
				}
				errs <- err
			}()
		}
		for range 8 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
	}
}

func TestPorts(t *testing.T) {
	d := open(t)
	hasNetworks(t, d)
	ctx := context.Background()
	named := withNamed("blue", "10.0.0.5")
	named.Ports = []engine.Port{{Container: 80}}
	// of a main that goes away, and takes nothing along
	first, err := Open(Config{Data: d.cfg.Data})
	if err != nil {
		t.Fatal(err)
	}
	web := probeSpec(t, "serve", "0.0.0.0:80", "web")
	web.Network = named
	id, err := first.Create(ctx, web)
	if err == nil {
		err = errors.Join(first.Start(ctx, id), first.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Remove(ctx, id) }()
	serving(t, d, id)
	st, err := d.Inspect(ctx, id)
	if err != nil || len(st.Ports) != 1 || st.Ports[0].Host < 32768 || st.Ports[0].Host > 60999 {
		t.Fatalf("%+v, %v", st, err)
	}
	port := st.Ports[0].Host
	at := fmt.Sprintf("127.0.0.1:%d", port)
	if got := asked(at); !strings.HasPrefix(got, "web 169.254.") {
		t.Errorf("%q", got)
	}
	// another container with the same port can be made, but not started
	spec := probeSpec(t, "serve", "0.0.0.0:80", "other")
	spec.Network = engine.Network{Mode: engine.NetworkNAT, Ports: []engine.Port{{Container: 80, Host: port}}}
	other, err := d.Create(ctx, spec)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Remove(ctx, other) }()
	want := fmt.Sprintf("Bind for 0.0.0.0:%d failed: port is already allocated", port)
	if err := d.Start(ctx, other); !errors.Is(err, engine.ErrPort) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
	if st, err := d.Inspect(ctx, other); err != nil || st.State != engine.Created || st.Ports != nil {
		t.Errorf("%+v, %v", st, err)
	}
	// the port ends with the program, and is the other's then
	if err := d.Signal(ctx, id, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Wait(ctx, id); err != nil {
		t.Fatal(err)
	}
	if st, err := d.Inspect(ctx, id); err != nil || st.Ports != nil {
		t.Errorf("%+v, %v", st, err)
	}
	if err := d.Start(ctx, other); err != nil {
		t.Fatal(err)
	}
	serving(t, d, other)
	if got := asked(at); !strings.HasPrefix(got, "other ") {
		t.Errorf("%q", got)
	}
	// and with the first's next start, another one is chosen
	if err := d.Start(ctx, id); err != nil {
		t.Fatal(err)
	}
	st, err = d.Inspect(ctx, id)
	if err != nil || len(st.Ports) != 1 || st.Ports[0].Host == port {
		t.Fatalf("%+v, %v", st, err)
	}
	await(t, "it serves again", func() bool { return strings.HasPrefix(asked(fmt.Sprintf("127.0.0.1:%d", st.Ports[0].Host)), "web ") })
	bad := enginetest.Spec("true")
	bad.Network = engine.Network{Ports: []engine.Port{{Container: 80}}}
	if _, err := d.Create(ctx, bad); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("ports without a network: %v", err)
	}
}

// What a killed supervisor has left of networks and ports is taken away by the
// next one, and nothing holds the names.
func TestNetworksOfKilledSupervisor(t *testing.T) {
	t.Parallel()
	d := open(t)
	hasNetworks(t, d)
	n := withNamed("blue", "10.0.0.5")
	n.Ports = []engine.Port{{Container: 80}}
	id := server(t, d, "web", n)
	st, err := d.Inspect(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	pid := supervisorPid(t, d)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the supervisor is gone", func() bool { return reaped(pid) })
	if _, err := d.Wait(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(context.Background(), id); err != nil {
		t.Fatal(err)
	}
	n.Ports[0].Host = st.Ports[0].Host
	server(t, d, "web", n)
	if got := asked(fmt.Sprintf("127.0.0.1:%d", st.Ports[0].Host)); !strings.HasPrefix(got, "web ") {
		t.Errorf("%q", got)
	}
}

// Security groups are told before a network is there, and to one supervisor for the
// next.
func TestFirewallIsKept(t *testing.T) {
	t.Parallel()
	d := open(t)
	hasNetworks(t, d)
	ctx := context.Background()
	group := func(prefix string) []engine.SecurityGroup {
		return []engine.SecurityGroup{{ID: "sg", Ingress: []engine.FirewallRule{{Protocol: "tcp", From: 80, To: 80, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}}}}
	}
	if err := d.SetFirewall(ctx, "blue", group("10.0.0.8/31")); err != nil {
		t.Fatal(err)
	}
	closed := withNamed("blue", "10.0.0.5")
	closed.Groups = []string{"sg"}
	look := func(when string) {
		t.Helper()
		id := server(t, d, "web", closed)
		for from, want := range map[string]string{"10.0.0.9": "web 10.0.0.9", "10.0.0.10": ""} {
			if got := ask(t, d, withNamed("blue", from), "10.0.0.5:80"); got != want {
				t.Errorf("%s, from %s: %q", when, from, got)
			}
		}
		if err := d.Remove(ctx, id); err != nil {
			t.Fatal(err)
		}
	}
	look("told before")
	look("the network is gone and here again")
	pid := supervisorPid(t, d)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "the supervisor is gone", func() bool { return reaped(pid) })
	look("of another supervisor")
	if err := d.SetFirewall(ctx, "blue", nil); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(d.cfg.Data + "/firewall"); len(left) > 0 {
		t.Errorf("kept: %v", left)
	}
}
