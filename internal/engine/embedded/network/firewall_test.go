//go:build linux && amd64

package network

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"skerry/internal/engine"
)

func prefixes(all ...string) (out []netip.Prefix) {
	for _, p := range all {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func in(groups ...string) func(*engine.Network) {
	return func(n *engine.Network) { n.Groups = groups }
}

// everywhere lets all out, as AWS's new groups do.
var everywhere = []engine.FirewallRule{{Prefixes: prefixes("0.0.0.0/0")}}

func set(t testing.TB, p *Pool, network string, groups ...engine.SecurityGroup) {
	t.Helper()
	if err := engine.ValidateFirewall(network, groups); err != nil {
		t.Fatal(err)
	}
	if err := p.SetFirewall(network, groups); err != nil {
		t.Fatal(err)
	}
}

// question is who asks whom, and what is answered.
type question struct {
	from        *Slot
	network, to string
	want        string
}

func check(t *testing.T, what string, all ...question) {
	t.Helper()
	var wait sync.WaitGroup
	for _, q := range all {
		wait.Go(func() {
			if got := ask(t, q.from, q.network, q.to); got != q.want {
				t.Errorf("%s: %s %s answers %q, not %q", what, q.network, q.to, got, q.want)
			}
		})
	}
	wait.Wait()
}

func TestGroups(t *testing.T) {
	p := pool(t)
	set(t, p, "blue", // before the network is there
		engine.SecurityGroup{ID: "sg-web", Egress: everywhere, Ingress: []engine.FirewallRule{
			{Protocol: "tcp", From: 80, To: 80, Prefixes: prefixes("10.0.0.0/24", "2001:db8::/32")},
			{Protocol: "tcp", From: 8000, To: 8010, Prefixes: prefixes("10.0.1.0/24", "10.0.2.7/32")},
			{Protocol: "udp", From: 53, To: 53, Groups: []string{"sg-client", "sg-nobody"}},
		}},
		engine.SecurityGroup{ID: "sg-client", Egress: []engine.FirewallRule{
			{Protocol: "tcp", From: 1, To: 8005, Prefixes: prefixes("10.0.0.0/16")},
			{Protocol: "udp", Groups: []string{"sg-web"}},
		}},
	)
	web := join(t, p, named("blue", "10.0.0.1", in("sg-web")))
	for _, port := range []string{"80", "81", "8000", "8005", "8006", "8010", "8011"} {
		greet(t, web, "tcp", "0.0.0.0:"+port, "web")
	}
	greet(t, web, "udp", "0.0.0.0:53", "web")
	greet(t, web, "udp", "0.0.0.0:54", "web")
	open := join(t, p, named("blue", "10.0.0.9")) // in no group
	greet(t, open, "tcp", "0.0.0.0:80", "open")
	far := join(t, p, named("blue", "10.0.1.9"))
	one, two := join(t, p, named("blue", "10.0.2.7")), join(t, p, named("blue", "10.0.2.8"))
	client := join(t, p, named("blue", "10.0.1.5", in("sg-client")))
	unknown := join(t, p, named("blue", "10.0.0.66", in("sg-later")))
	greet(t, unknown, "tcp", "0.0.0.0:80", "unknown")

	check(t, "ports, ranges and prefixes",
		question{open, "tcp", "10.0.0.1:80", "web 10.0.0.9"}, question{open, "tcp", "10.0.0.1:81", ""},
		question{far, "tcp", "10.0.0.1:80", ""}, question{far, "tcp", "10.0.0.1:8000", "web 10.0.1.9"},
		question{far, "tcp", "10.0.0.1:8010", "web 10.0.1.9"}, question{far, "tcp", "10.0.0.1:8011", ""},
		question{one, "tcp", "10.0.0.1:8005", "web 10.0.2.7"}, question{two, "tcp", "10.0.0.1:8005", ""},
	)
	check(t, "groups",
		question{client, "udp", "10.0.0.1:53", "web 10.0.1.5"}, question{open, "udp", "10.0.0.1:53", ""},
		question{client, "udp", "10.0.0.1:54", ""},
	)
	check(t, "what one may send",
		question{client, "tcp", "10.0.0.1:8005", "web 10.0.1.5"}, question{client, "tcp", "10.0.0.1:8006", ""},
		question{client, "tcp", "10.0.0.9:80", "open 10.0.1.5"},
		question{web, "tcp", "10.0.0.9:80", "open 10.0.0.1"},
	)
	check(t, "a group that nobody has told of",
		question{unknown, "tcp", "10.0.0.9:80", ""}, question{open, "tcp", "10.0.0.66:80", ""},
	)
	set(t, p, "blue", engine.SecurityGroup{ID: "sg-later", Egress: everywhere, Ingress: []engine.FirewallRule{{Groups: []string{"sg-client"}, Prefixes: prefixes("10.0.0.9/32")}}})
	check(t, "once it is told",
		question{unknown, "tcp", "10.0.0.9:80", "open 10.0.0.66"}, question{open, "tcp", "10.0.0.66:80", "unknown 10.0.0.9"},
		question{far, "tcp", "10.0.0.66:80", ""},
		question{open, "tcp", "10.0.0.1:80", ""}, // whose group is told of no more
	)
	// two groups let through what either does
	both := join(t, p, named("blue", "10.0.0.30", in("sg-later", "sg-none")))
	greet(t, both, "tcp", "0.0.0.0:80", "both")
	check(t, "two groups", question{open, "tcp", "10.0.0.30:80", "both 10.0.0.9"}, question{far, "tcp", "10.0.0.30:80", ""})

	// the same addresses on another network, with rules of their own
	x, y := join(t, p, named("red", "10.0.0.1", in("sg-web"))), join(t, p, named("red", "10.0.0.9"))
	greet(t, x, "tcp", "0.0.0.0:80", "red")
	check(t, "another network", question{y, "tcp", "10.0.0.1:80", ""})
	set(t, p, "red", engine.SecurityGroup{ID: "sg-web", Ingress: []engine.FirewallRule{{Protocol: "tcp", Prefixes: prefixes("0.0.0.0/0")}}})
	check(t, "another network's groups", question{y, "tcp", "10.0.0.1:80", "red 10.0.0.9"}, question{open, "tcp", "10.0.0.1:80", ""})
}

// A connection lives on when what let it in is revoked; a new one is not let in.
// Changes that do not concern it do not disturb it.
func TestRevoke(t *testing.T) {
	p := pool(t)
	from := func(prefix string) engine.SecurityGroup {
		return engine.SecurityGroup{ID: "sg", Ingress: []engine.FirewallRule{{Protocol: "tcp", From: 80, To: 80, Prefixes: prefixes(prefix)}}}
	}
	set(t, p, "blue", from("10.0.0.9/32"))
	server, client := join(t, p, named("blue", "10.0.0.1", in("sg"))), join(t, p, named("blue", "10.0.0.9"))
	var l net.Listener
	if err := In(server.Net, func() (err error) { l, err = net.Listen("tcp4", ":80"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var c net.Conn
	if err := In(client.Net, func() (err error) { c, err = net.DialTimeout("tcp", "10.0.0.1:80", 5*time.Second); return err }); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	talk := func() {
		t.Helper()
		for _, end := range [][2]net.Conn{{c, s}, {s, c}} {
			b := make([]byte, 5)
			_ = end[1].SetDeadline(time.Now().Add(5 * time.Second))
			if _, err := end[0].Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, err := end[1].Read(b); err != nil || string(b) != "hello" {
				t.Fatalf("%q, %v", b, err)
			}
		}
	}
	talk()
	for i := range 50 {
		set(t, p, "blue", from("10.0.0.9/32"), engine.SecurityGroup{ID: fmt.Sprint("sg-", i)})
		talk()
	}
	set(t, p, "blue", from("10.0.0.8/32"))
	talk()
	if err := dial(client, "10.0.0.1:80"); err == nil {
		t.Error("a new connection was let in")
	}
	set(t, p, "blue")
	talk()
	if err := dial(client, "10.0.0.1:80"); err == nil {
		t.Error("a new connection was let in by no group")
	}
}

// While the groups change all the time, what they allow is never refused, and what
// they do not is never let through.
func TestGroupsAtomic(t *testing.T) {
	p := pool(t)
	rules := engine.SecurityGroup{ID: "sg", Ingress: []engine.FirewallRule{{Protocol: "tcp", From: 80, To: 80, Prefixes: prefixes("10.0.0.9/32")}}}
	set(t, p, "blue", rules)
	server, client := join(t, p, named("blue", "10.0.0.1", in("sg"))), join(t, p, named("blue", "10.0.0.9"))
	for _, port := range []string{":80", ":81"} {
		greet(t, server, "tcp", port, "server")
	}
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for ; ; n++ {
			select {
			case <-stop:
				done <- n
				return
			default:
				set(t, p, "blue", rules)
			}
		}
	}()
	for i := range 200 {
		begin := time.Now()
		if err := dialFor(client, "10.0.0.1:80", 900*time.Millisecond); err != nil { // a lost packet is sent again after a second
			t.Fatalf("connection %d: %v after %v", i, err, time.Since(begin))
		}
	}
	for range 3 {
		if err := dial(client, "10.0.0.1:81"); err == nil {
			t.Error("let through")
		}
	}
	close(stop)
	if n := <-done; n < 20 {
		t.Errorf("only %d changes meanwhile", n)
	}
}

// Published ports: the rules see the client, and the machine itself may always.
func TestGroupsOfPorts(t *testing.T) {
	p := pool(t)
	other := guest(t)
	web := join(t, p, named("blue", "10.0.0.1", in("sg")))
	greet(t, web, "tcp", "0.0.0.0:80", "web")
	port := publish(t, p, web, engine.Port{Container: 80}).Ports[0].Host
	outer, inner := fmt.Sprintf("198.51.100.1:%d", port), fmt.Sprintf("127.0.0.1:%d", port)
	member := join(t, p, named("red", "10.0.0.9"))
	check(t, "closed", question{other, "tcp", outer, ""}, question{member, "tcp", outer, ""})
	if got := ask(t, nil, "tcp", inner); !strings.HasPrefix(got, "web ") {
		t.Errorf("the machine: %q", got)
	}
	// of the container's port, not the machine's
	set(t, p, "blue", engine.SecurityGroup{ID: "sg", Ingress: []engine.FirewallRule{{Protocol: "tcp", From: 80, To: 80, Prefixes: prefixes("198.51.100.0/24")}}})
	check(t, "open", question{other, "tcp", outer, "web 198.51.100.2"}, question{member, "tcp", outer, ""})
	set(t, p, "blue", engine.SecurityGroup{ID: "sg", Ingress: []engine.FirewallRule{{Protocol: "tcp", From: 80, To: 80, Prefixes: prefixes("198.51.100.9/32")}}})
	check(t, "for another", question{other, "tcp", outer, ""})
}

// Many members of many groups: what one more costs, and a change of the groups.
func TestManyGroups(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	p := pool(t)
	var groups []engine.SecurityGroup
	for i := range 20 {
		g := engine.SecurityGroup{ID: fmt.Sprint("sg-", i), Egress: everywhere}
		for port := range uint16(30) {
			g.Ingress = append(g.Ingress, engine.FirewallRule{Protocol: "tcp", From: 1000 + port, To: 1000 + port, Groups: []string{fmt.Sprint("sg-", (i+1)%20)}})
		}
		groups = append(groups, g)
	}
	r, err := p.enter(engine.Link{Name: "wide", Address: netip.MustParseAddr("10.1.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer p.exit("wide", r, netip.MustParseAddr("10.1.0.1"), nil)
	set(t, p, "wide", groups...)
	var times []time.Duration
	for i := range 1000 { // the addresses alone: links are TestManyMembers' matter
		n := named("wide", fmt.Sprintf("10.2.%d.%d", i/250, i%250+1), in(fmt.Sprint("sg-", i%20), fmt.Sprint("sg-", (i+7)%20)))
		if _, err := p.enter(n.Links()[0]); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		r.mu.Lock()
		err := r.protect(n.Address)
		r.mu.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, time.Since(begin))
		defer p.exit("wide", r, n.Address, nil)
	}
	begin := time.Now()
	set(t, p, "wide", groups...)
	change := time.Since(begin)
	last := times[len(times)-100:] // all sets of groups are known
	slices.Sort(last)
	t.Logf("one more member: %v, at worst %v; a change of 600 rules for 1000 members: %v", last[50], last[99], change)
	if change > 5*time.Second || last[50] > 50*time.Millisecond {
		t.Error("that takes too long")
	}
}
