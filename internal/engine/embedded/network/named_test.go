//go:build linux && amd64

package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

func named(name, address string, change ...func(*engine.Network)) engine.Network {
	n := engine.Network{Mode: engine.NetworkNamed, Name: name, Address: netip.MustParseAddr(address)}
	for _, c := range change {
		c(&n)
	}
	return n
}

// join takes a slot on a network until the test's end.
func join(t testing.TB, p *Pool, n engine.Network) *Slot {
	t.Helper()
	s, err := p.Join("one", n)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Give(s, false) })
	return s
}

// greet has a slot's namespace, or the machine with none, answer at an address
// with the name of who answers and the address of who asks.
func greet(t testing.TB, s *Slot, network, address, name string) {
	t.Helper()
	open := func() error {
		if network == "udp" {
			c, err := net.ListenPacket("udp4", address)
			if err != nil {
				return err
			}
			t.Cleanup(func() { _ = c.Close() })
			go func() {
				b := make([]byte, 1500)
				for {
					_, peer, err := c.ReadFrom(b)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte(name+" "+peer.(*net.UDPAddr).IP.String()), peer)
				}
			}()
			return nil
		}
		l, err := net.Listen("tcp4", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = fmt.Fprintf(c, "%s %s", name, c.RemoteAddr().(*net.TCPAddr).IP)
				_ = c.Close()
			}
		}()
		return nil
	}
	err := error(nil)
	if s == nil {
		err = open()
	} else {
		err = In(s.Net, open)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// ask connects from a slot, or from the machine with none, and returns what is
// answered; nothing when there is no answer.
func ask(t testing.TB, s *Slot, network, address string) (answer string) {
	t.Helper()
	limit := 300 * time.Millisecond
	open := func() error {
		c, err := net.DialTimeout(network, address, limit)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(limit)) // an address of nobody's is asked for outside, where anybody may answer
		if network == "udp" {
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
			b := make([]byte, 100)
			n, err := c.Read(b)
			answer = string(b[:n])
			return err
		}
		b, err := io.ReadAll(c)
		answer = string(b)
		return err
	}
	if s == nil {
		_ = open()
	} else {
		_ = In(s.Net, open)
	}
	return answer
}

func TestNamed(t *testing.T) {
	p := pool(t)
	world, peers := outside(t)
	a, b := join(t, p, named("blue", "10.0.0.5")), join(t, p, named("blue", "10.0.0.6"))
	// another network with the same addresses
	c, d := join(t, p, named("red", "10.0.0.5")), join(t, p, named("red", "10.0.0.7"))
	for name, s := range map[string]*Slot{"a": a, "b": b, "c": c, "d": d} {
		greet(t, s, "tcp", "0.0.0.0:80", name)
		greet(t, s, "udp", "0.0.0.0:80", name)
	}
	for _, network := range []string{"tcp", "udp"} {
		for _, q := range []struct {
			from *Slot
			to   string
			want string
		}{
			{a, "10.0.0.6", "b 10.0.0.5"}, {b, "10.0.0.5", "a 10.0.0.6"}, {c, "10.0.0.7", "d 10.0.0.5"}, {d, "10.0.0.5", "c 10.0.0.7"},
			{a, "10.0.0.7", ""}, {c, "10.0.0.6", ""}, {b, "10.0.0.7", ""}, {d, "10.0.0.6", ""},
			{a, "10.0.0.5", "a 10.0.0.5"},
		} {
			if got := ask(t, q.from, network, q.to+":80"); got != q.want {
				t.Errorf("%s %s on %s asks %s: %q, not %q", network, q.from.Address(), q.from.kind.network, q.to, got, q.want)
			}
		}
	}
	for _, s := range []*Slot{a, d} {
		if err := dialFor(s, world, 10*time.Second); err != nil {
			t.Errorf("to the outside: %v", err)
		} else if peer := <-peers; peer != "203.0.113.1" {
			t.Errorf("the world sees %s", peer)
		}
	}
	// neither each other by the routers' own addresses, nor the machine
	greet(t, nil, "tcp", "0.0.0.0:8099", "machine")
	addrs, err := addresses()
	if err != nil {
		t.Fatal(err)
	}
	targets := []string{p.named["red"].uplink().String(), p.named["blue"].uplink().String(), gateway.String()}
	for _, ip := range addrs {
		if !ip.IP.IsLoopback() { // those are its own
			targets = append(targets, ip.IP.String())
		}
	}
	var wait sync.WaitGroup
	for _, ip := range targets {
		for _, port := range []string{":8099", ":80"} {
			wait.Go(func() {
				if got := ask(t, a, "tcp", ip+port); got != "" {
					t.Errorf("%s%s: %q", ip, port, got)
				}
			})
		}
	}
	wait.Wait()
	// nor can it speak as another
	if err := In(a.Net, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: single(netip.MustParseAddr("10.0.0.99"))})
	}); err != nil {
		t.Fatal(err)
	}
	if err := In(a.Net, func() error {
		_, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 99)}, Timeout: 200 * time.Millisecond}).Dial("tcp4", "10.0.0.6:80")
		return err
	}); err == nil {
		t.Error("spoke as an address that it has not")
	}
}

func TestInternal(t *testing.T) {
	p := pool(t)
	world, _ := outside(t)
	internal := func(n *engine.Network) { n.Internal = true }
	a, b := join(t, p, named("inner", "10.0.0.5", internal)), join(t, p, named("inner", "10.0.0.6", internal))
	greet(t, b, "tcp", "0.0.0.0:80", "b")
	if got := ask(t, a, "tcp", "10.0.0.6:80"); got != "b 10.0.0.5" {
		t.Errorf("inside: %q", got)
	}
	if err := dial(a, world); err == nil {
		t.Error("reached the outside")
	}
	if none := publish(t, p, a, engine.Port{Container: 80}); len(none.Ports) > 0 {
		t.Errorf("published %v", none.Ports)
	}
}

// A slot that is given more networks reaches each by its own link and none through
// another, and publishes by the first that leads outside.
func TestRelink(t *testing.T) {
	p := pool(t)
	world, _ := outside(t)
	link := func(name, address string, internal bool) engine.Link {
		a := netip.MustParseAddr(address)
		return engine.Link{Name: name, Address: a, Subnet: netip.PrefixFrom(a, 24).Masked(), Internal: internal}
	}
	inner, front, back := link("inner", "10.0.0.5", true), link("front", "10.0.1.5", false), link("back", "10.0.2.5", false)
	a := join(t, p, named("inner", "10.0.0.5", func(n *engine.Network) { n.Internal, n.Subnet = true, inner.Subnet }))
	b := join(t, p, named("front", "10.0.1.6"))
	greet(t, a, "tcp", "0.0.0.0:80", "a")
	greet(t, b, "tcp", "0.0.0.0:80", "b")
	relink := func(gate string, all ...engine.Link) {
		t.Helper()
		if err := p.Relink(a, all); err != nil {
			t.Fatal(err)
		}
		if got := a.Address().String(); got != gate {
			t.Errorf("it is known as %s", got)
		}
	}
	relink("10.0.1.5", inner, front)
	ports := publish(t, p, a, engine.Port{Container: 80})
	for _, c := range []struct {
		from     *Slot
		to, want string
	}{{a, "10.0.1.6:80", "b 10.0.1.5"}, {b, "10.0.1.5:80", "a 10.0.1.6"}, {b, "10.0.0.5:80", ""}} {
		if got := ask(t, c.from, "tcp", c.to); got != c.want {
			t.Errorf("asked %s: %q, not %q", c.to, got, c.want)
		}
	}
	if err := dial(a, world); err != nil {
		t.Errorf("the outside: %v", err)
	}
	if ports.Astray(a) {
		t.Error("its ports are taken for another's")
	}
	relink("10.0.2.5", back, front)
	if !ports.Astray(a) {
		t.Error("its ports lead where they led")
	}
	if got := ask(t, b, "tcp", "10.0.1.5:80"); got != "a 10.0.1.6" {
		t.Errorf("on the network that stayed: %q", got)
	}
	taken := join(t, p, named("inner", "10.0.0.5")) // free again
	if err := p.Relink(a, []engine.Link{front, inner}); !errors.Is(err, engine.ErrExists) {
		t.Errorf("the address of %v: %v", taken.Address(), err)
	}
	if err := dial(a, world); err != nil {
		t.Errorf("the outside, after a fault: %v", err)
	}
	relink("invalid IP")
	if err := dial(a, world); err == nil {
		t.Error("the outside is reached without a network")
	}
	relink("10.0.1.5", front)
}

func TestAddresses(t *testing.T) {
	p := pool(t)
	a, err := p.Join("one", named("blue", "10.0.0.5"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Join("two", named("blue", "10.0.0.5")); !errors.Is(err, engine.ErrExists) {
		t.Errorf("a taken address: %v", err)
	}
	join(t, p, named("blue", "10.0.0.6"))
	p.Give(a, true)
	b := join(t, p, named("blue", "10.0.0.5")) // at once, and in the same slot
	if b != a {
		t.Error("the slot was not used again")
	}
	greet(t, b, "tcp", "0.0.0.0:80", "b")
	if got := ask(t, idle(t, p), "tcp", "10.0.0.5:80"); got != "" {
		t.Errorf("from a slot without a network: %q", got)
	}
	if got := ask(t, b, "tcp", "10.0.0.6:80"); got != "" {
		t.Errorf("nobody listens: %q", got)
	}
}

// idle takes a slot without a network.
func idle(t *testing.T, p *Pool) *Slot {
	t.Helper()
	s := take(t, p, "one", None)
	t.Cleanup(func() { p.Give(s, true) })
	return s
}

// A slot that is used again has its new address alone, and is another account's
// never.
func TestUsedAgain(t *testing.T) {
	p := pool(t)
	keeper := join(t, p, named("blue", "10.0.0.1"))
	greet(t, keeper, "tcp", "0.0.0.0:80", "keeper")
	first, err := p.Join("one", named("blue", "10.0.0.5"))
	if err != nil {
		t.Fatal(err)
	}
	p.Give(first, true)
	other, err := p.Join("two", named("blue", "10.0.0.5"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Give(other, false)
	if other == first {
		t.Error("another account got the slot")
	}
	again := join(t, p, named("blue", "10.0.0.6"))
	if again != first {
		t.Error("the account did not get its slot again")
	}
	greet(t, again, "tcp", "0.0.0.0:80", "again")
	check(t, "a slot that is used again", question{again, "tcp", "10.0.0.1:80", "keeper 10.0.0.6"}, question{keeper, "tcp", "10.0.0.6:80", "again 10.0.0.1"},
		question{keeper, "tcp", "10.0.0.5:80", ""})
	addrs := 0
	if err := In(again.Net, func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		all, err := netlink.AddrList(l, netlink.FAMILY_V4)
		addrs = len(all)
		return err
	}); err != nil || addrs != 1 {
		t.Errorf("%d addresses, %v", addrs, err)
	}
}

// A network goes with its last member, and comes again.
func TestNetworkGone(t *testing.T) {
	p := pool(t)
	for i := range 3 {
		s, err := p.Join("one", named("blue", "10.0.0.5"))
		if err != nil {
			t.Fatal(i, err)
		}
		p.Give(s, true)
		if len(p.named) != 0 {
			t.Fatal("the network is still there")
		}
	}
	await(t, "its interfaces are gone", func() bool { return links(t, p) == 0 })
}

func links(t testing.TB, p *Pool) (n int) {
	t.Helper()
	all, err := dump(netlink.LinkList)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range all {
		if strings.HasPrefix(l.Attrs().Name, LinkName(p.name)) {
			n++
		}
	}
	return n
}

func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within twenty seconds: %s", what)
		}
	}
}

// More than a bridge could hold.
func TestManyMembers(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	p := pool(t)
	const many = 1100
	address := func(i int) string { return fmt.Sprintf("10.1.%d.%d", i/250, i%250+1) }
	var first, last *Slot
	for i := range many {
		last = join(t, p, named("wide", address(i)))
		if i == 0 {
			first = last
		}
	}
	greet(t, last, "tcp", "0.0.0.0:80", "last")
	if got := ask(t, first, "tcp", address(many-1)+":80"); got != "last "+address(0) {
		t.Errorf("%q", got)
	}
}

// machineTable says whether an engine's rules are on the machine.
func machineTable(t testing.TB, name string) bool {
	t.Helper()
	c, err := nftables.New()
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.ListTables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range all {
		if table.Name == LinkName(name) {
			return true
		}
	}
	return false
}

// What a killed engine has left, the next one of its name takes away.
func TestSweep(t *testing.T) {
	p := pool(t)
	join(t, p, named("blue", "10.0.0.5"))
	if !machineTable(t, p.name) || links(t, p) == 0 {
		t.Fatal("nothing to take away")
	}
	left := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: LinkName(p.name) + "-77"}, PeerName: "skpeer77"}
	if err := netlink.LinkAdd(left); err != nil && !errors.Is(err, unix.EEXIST) {
		t.Fatal(err)
	}
	q := NewPool(p.name, nil)
	if _, err := q.Router(); err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "nothing of it is left", func() bool { return links(t, p) == 0 && !machineTable(t, p.name) })
}
