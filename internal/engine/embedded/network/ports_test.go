//go:build linux && amd64

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// publish opens ports until the test's end.
func publish(t testing.TB, p *Pool, s *Slot, ports ...engine.Port) *Published {
	t.Helper()
	b, err := p.Publish(s, ports)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// guest is a namespace beside the machine, as another computer on its network:
// the machine is 198.51.100.1 there.
func guest(t *testing.T) *Slot {
	t.Helper()
	ns, err := newNet()
	if err != nil {
		t.Fatal(err)
	}
	name := "skg" + fmt.Sprint(time.Now().UnixNano()%1e9)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = netlink.LinkDel(veth)
		unix.Close(ns)
	})
	side := func(name, addr string) error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			return err
		}
		return errors.Join(netlink.AddrAdd(l, a), netlink.LinkSetUp(l))
	}
	if err := side(name, "198.51.100.1/24"); err != nil {
		t.Fatal(err)
	}
	if err := In(ns, func() error {
		err := side("eth0", "198.51.100.2/24")
		return errors.Join(err, netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(198, 51, 100, 1)}))
	}); err != nil {
		t.Fatal(err)
	}
	return &Slot{Net: ns}
}

func TestPublish(t *testing.T) {
	p := pool(t)
	other := guest(t)
	for _, c := range []struct {
		name string
		slot *Slot
	}{{"nat", take(t, p, "one", NAT)}, {"named", join(t, p, named("blue", "10.0.0.5"))}} {
		if c.name == "nat" {
			defer p.Give(c.slot, false)
		}
		for _, network := range []string{"tcp", "udp"} {
			t.Run(c.name+"/"+network, func(t *testing.T) {
				greet(t, c.slot, network, "0.0.0.0:80", "x")
				b := publish(t, p, c.slot, engine.Port{Protocol: network, Container: 80})
				port := b.Ports[0].Host
				if port < firstFree || port > lastFree {
					t.Errorf("port %d was chosen", port)
				}
				machine := c.slot.links[0].router.pair.Addr().String()
				for _, q := range []struct {
					from       *Slot
					to, client string
				}{
					{nil, "127.0.0.1", machine}, {nil, "127.5.5.5", machine}, {nil, "198.51.100.1", machine},
					{other, "198.51.100.1", "198.51.100.2"}, {other, "127.0.0.1", ""},
					{c.slot, "198.51.100.1", "169.254.1.2"}, // itself, round by the machine
				} {
					want := "x " + q.client
					if q.client == "" {
						want = ""
					}
					if got := ask(t, q.from, network, fmt.Sprintf("%s:%d", q.to, port)); got != want {
						t.Errorf("%s: %q, not %q", q.to, got, want)
					}
				}
				b.Close()
				if got := ask(t, nil, network, fmt.Sprintf("127.0.0.1:%d", port)); got != "" {
					t.Errorf("after its end: %q", got)
				}
			})
		}
	}
}

// The machine's other addresses and other computers do not reach a port that is
// published on one address.
func TestPublishOnOneAddress(t *testing.T) {
	p := pool(t)
	other := guest(t)
	s := join(t, p, named("blue", "10.0.0.5"))
	greet(t, s, "tcp", "0.0.0.0:80", "local")
	greet(t, s, "tcp", "0.0.0.0:81", "outer")
	b := publish(t, p, s, engine.Port{Container: 80, Address: netip.MustParseAddr("127.0.0.1")})
	port := b.Ports[0].Host
	// the same port at another address leads elsewhere
	publish(t, p, s, engine.Port{Container: 81, Host: port, Address: netip.MustParseAddr("198.51.100.1")})
	at := func(ip string) string { return fmt.Sprintf("%s:%d", ip, port) }
	if got := ask(t, nil, "tcp", at("127.0.0.1")); !strings.HasPrefix(got, "local ") {
		t.Errorf("the machine itself: %q", got)
	}
	if got := ask(t, nil, "tcp", at("198.51.100.1")); !strings.HasPrefix(got, "outer ") {
		t.Errorf("the other address: %q", got)
	}
	if got := ask(t, other, "tcp", at("198.51.100.1")); got != "outer 198.51.100.2" {
		t.Errorf("another computer: %q", got)
	}
	// a neighbour that sends packets for 127.0.0.1, and for the router itself,
	// to this machine
	if err := In(other.Net, func() error {
		eth, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		_ = netlink.RouteDel(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: &net.IPNet{IP: net.IPv4(127, 0, 0, 0), Mask: net.CIDRMask(8, 32)}, Table: 255, Type: unix.RTN_LOCAL})
		return netlink.RouteReplace(&netlink.Route{LinkIndex: eth.Attrs().Index, Gw: net.IPv4(198, 51, 100, 1), Dst: &net.IPNet{IP: net.IPv4(127, 0, 0, 1), Mask: net.CIDRMask(32, 32)}})
	}); err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{at("127.0.0.1"), at(s.links[0].router.uplink().String()), "10.0.0.5:80"} {
		if got := ask(t, other, "tcp", to); got != "" {
			t.Errorf("another computer at %s: %q", to, got)
		}
	}
	// nor does a container of another network
	c := join(t, p, named("red", "10.0.0.6"))
	for _, to := range []string{at(s.links[0].router.uplink().String()), at(s.links[0].router.pair.Addr().String()), at("127.0.0.1")} {
		if got := ask(t, c, "tcp", to); got != "" {
			t.Errorf("a container at %s: %q", to, got)
		}
	}
}

func TestPortTaken(t *testing.T) {
	p := pool(t)
	a, b := join(t, p, named("blue", "10.0.0.5")), join(t, p, named("red", "10.0.0.5"))
	first := publish(t, p, a, engine.Port{Container: 80}, engine.Port{Container: 81})
	port := first.Ports[0].Host
	if first.Ports[1].Host == port {
		t.Error("a port was chosen twice")
	}
	want := fmt.Sprintf("Bind for 0.0.0.0:%d failed: port is already allocated", port)
	if _, err := p.Publish(b, []engine.Port{{Container: 90}, {Container: 80, Host: port}}); !errors.Is(err, engine.ErrPort) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v", err)
	}
	if len(b.links[0].router.taken) != 0 {
		t.Error("a port of the router is still held")
	}
	publish(t, p, b, engine.Port{Container: 80, Host: port, Protocol: "udp"}) // is another
	// the machine's programs
	if l, err := net.Listen("tcp4", fmt.Sprintf(":%d", port)); err == nil {
		_ = l.Close()
		t.Error("a program of the machine took a published port")
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := p.Publish(b, []engine.Port{{Container: 80, Host: uint16(l.Addr().(*net.TCPAddr).Port)}}); !errors.Is(err, engine.ErrPort) {
		t.Errorf("a program's port: %v", err)
	}
	if _, err := p.Publish(b, []engine.Port{{Container: 80, Address: netip.MustParseAddr("192.0.2.99")}}); !errors.Is(err, engine.ErrInvalid) {
		t.Errorf("an address that the machine has not: %v", err)
	}
	first.Close()
	publish(t, p, b, engine.Port{Container: 80, Host: port})
}

// Who keeps sending to a UDP port reaches the container that has it now.
func TestPublishUnderWay(t *testing.T) {
	p := pool(t)
	a, b := join(t, p, named("blue", "10.0.0.5")), join(t, p, named("blue", "10.0.0.6"))
	other := take(t, p, "one", NAT)
	defer p.Give(other, false)
	for name, s := range map[string]*Slot{"a": a, "b": b, "other": other} {
		greet(t, s, "udp", "0.0.0.0:80", name)
	}
	first := publish(t, p, a, engine.Port{Protocol: "udp", Container: 80})
	port := first.Ports[0].Host
	first.Close()
	c, err := net.Dial("udp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	send := func() string {
		_ = c.SetDeadline(time.Now().Add(2 * time.Second))
		if _, err := c.Write([]byte("?")); err != nil {
			_, err = c.Write([]byte("?")) // the first told of an earlier refusal
			if err != nil {
				t.Fatal(err)
			}
		}
		b := make([]byte, 100)
		n, _ := c.Read(b)
		name, _, _ := strings.Cut(string(b[:n]), " ")
		return name
	}
	if got := send(); got != "" {
		t.Fatalf("nobody has the port: %q", got)
	}
	for _, next := range []struct {
		name string
		slot *Slot
	}{{"a", a}, {"b", b}, {"other", other}, {"a", a}} {
		now := publish(t, p, next.slot, engine.Port{Protocol: "udp", Container: 80, Host: port})
		if got := send(); got != next.name {
			t.Errorf("%q answers, not %q", got, next.name)
		}
		now.Close()
	}
}

func BenchmarkPublish(b *testing.B) {
	p := pool(b)
	s := join(b, p, named("blue", "10.0.0.5"))
	for b.Loop() {
		x, err := p.Publish(s, []engine.Port{{Container: 80}})
		if err != nil {
			b.Fatal(err)
		}
		x.Close()
	}
}

func BenchmarkJoin(b *testing.B) {
	p := pool(b)
	join(b, p, named("blue", "10.0.0.1"))
	for b.Loop() {
		s, err := p.Join("one", named("blue", "10.0.0.5"))
		if err != nil {
			b.Fatal(err)
		}
		p.Give(s, true)
	}
}
