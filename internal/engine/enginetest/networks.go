package enginetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"skerry/internal/engine"
)

// able skips the test on an engine that cannot do it.
func (s *suite) able(what string, has func(engine.Capabilities) bool) {
	s.Helper()
	c, err := s.e.Info(s.ctx)
	s.must(err)
	if !has(c) {
		s.Skipf("the engine has no %s", what)
	}
}

func (s *suite) network(name, address string, groups ...string) engine.Network {
	return engine.Network{Mode: engine.NetworkNamed, Name: name, Address: netip.MustParseAddr(address), Groups: groups}
}

// member makes a container of a network, in which a listener at port 80 greets.
func (s *suite) member(n engine.Network) engine.ID {
	s.Helper()
	spec := Spec(scriptWait)
	spec.Network = n
	id, err := s.e.Create(s.ctx, spec)
	s.must(err)
	s.Cleanup(func() { s.must(s.e.Remove(context.Background(), id)) })
	l, err := s.e.Listen(s.ctx, id, "tcp", "0.0.0.0:80")
	s.must(err)
	s.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello from "+n.Address.String())
			_ = c.Close()
		}
	}()
	s.must(s.e.Start(s.ctx, id))
	return id
}

// answerTime is how long to wait for an answer, in seconds: for one that shall not
// come not long, as a busy machine cannot make it come.
func answerTime(wanted bool) float64 {
	if wanted {
		return 10
	}
	return 0.3
}

// hears runs a container that connects to an address, and returns what it hears.
func (s *suite) hears(n engine.Network, address string, wanted bool) string {
	s.Helper()
	spec := Spec(fmt.Sprintf(`exec python3 -c 'import socket; s=socket.create_connection(("%s",80),%v); print(s.recv(99).decode())' 2>/dev/null`,
		address, answerTime(wanted)))
	spec.Network = n
	id, err := s.e.Create(s.ctx, spec)
	s.must(err)
	defer func() { s.must(s.e.Remove(context.Background(), id)) }()
	s.must(s.e.Start(s.ctx, id))
	_, err = s.e.Wait(s.ctx, id)
	s.must(err)
	return strings.TrimSpace(s.output(id, engine.Stdout))
}

func (s *suite) networks() {
	s.able("named networks", func(c engine.Capabilities) bool { return c.NamedNetworks })
	id := s.member(s.network("one", "10.77.0.2"))
	st, err := s.e.Inspect(s.ctx, id)
	s.must(err)
	if st.Address.String() != "10.77.0.2" {
		s.Errorf("address %s", st.Address)
	}
	for _, c := range []struct{ network, from, want string }{
		{"one", "10.77.0.3", "hello from 10.77.0.2"}, {"two", "10.77.0.3", ""},
	} {
		if got := s.hears(s.network(c.network, c.from), "10.77.0.2", c.want != ""); got != c.want {
			s.Errorf("on the network %s: %q", c.network, got)
		}
	}
	shared := engine.Network{Sandbox: string(id)}
	if got := s.hears(shared, "127.0.0.1", true); got != "hello from 10.77.0.2" {
		s.Errorf("in its sandbox: %q", got)
	}
	spec := Spec(scriptTrue)
	spec.Network = s.network("one", "10.77.0.2")
	_, err = s.e.Create(s.ctx, spec)
	s.is(err, engine.ErrExists)
	spec.Network = shared
	spec.Account = "111111111111"
	_, err = s.e.Create(s.ctx, spec)
	s.is(err, engine.ErrInvalid)
}

// A container comes to further networks and leaves them, created, running and
// exited; what it leaves it cannot reach, nor be reached by.
func (s *suite) connect() {
	s.able("named networks", func(c engine.Capabilities) bool { return c.NamedNetworks && c.Exec })
	link := func(name, address string) engine.Link {
		a := netip.MustParseAddr(address)
		p, _ := a.Prefix(24)
		return engine.Link{Name: name, Address: a, Subnet: p}
	}
	var cancel context.CancelFunc
	s.ctx, cancel = context.WithTimeout(context.Background(), 12*patience) // it asks much that is not answered
	defer cancel()
	one, two, three := link("one", "10.77.0.2"), link("two", "10.78.0.2"), link("three", "10.79.0.2")
	s.member(s.network("two", "10.78.0.9"))
	n := s.network("one", "10.77.0.2")
	n.Subnet, n.Further = one.Subnet, []engine.Link{three}
	id := s.member(n)
	is := func(when string, want map[string]bool) {
		s.Helper()
		for name, at := range map[string]string{"one": "10.77.0", "two": "10.78.0", "three": "10.79.0"} {
			n := s.network(name, at+".3")
			if got := s.soon(want[name], func() bool { return s.hears(n, at+".2", want[name]) != "" }); got != want[name] {
				s.Errorf("%s, on the network %s heard: %v", when, name, got)
			}
		}
		if got := s.soon(want["two"], func() bool { return s.reaches(id, "10.78.0.9", want["two"]) }); got != want["two"] {
			s.Errorf("%s it reaches the network two: %v", when, got)
		}
	}
	is("created", map[string]bool{"one": true, "three": true})
	s.must(s.e.Connect(s.ctx, id, []engine.Link{one, two}))
	s.must(s.e.Connect(s.ctx, id, []engine.Link{one, two}))
	is("connected", map[string]bool{"one": true, "two": true})
	if got := s.hears(s.network("one", "10.77.0.3"), "10.78.0.9", false); got != "" {
		s.Errorf("through it, from one network to the other: %q", got)
	}
	s.is(s.e.Connect(s.ctx, id, []engine.Link{one, link("two", "10.78.0.9")}), engine.ErrExists)
	s.is(s.e.Connect(s.ctx, id, []engine.Link{one, {Name: "two", Address: two.Address}}), engine.ErrInvalid)
	s.is(s.e.Connect(s.ctx, id, []engine.Link{one, link("four", "10.77.0.4")}), engine.ErrInvalid)
	is("after faults", map[string]bool{"one": true, "two": true})
	s.must(s.e.Connect(s.ctx, id, []engine.Link{two}))
	is("without its first", map[string]bool{"two": true})
	if st, err := s.e.Inspect(s.ctx, id); err != nil || st.Address != two.Address {
		s.Errorf("address %s, %v", st.Address, err)
	}
	s.must(s.e.Connect(s.ctx, id, nil))
	is("without any", nil)
	s.must(s.e.Connect(s.ctx, id, []engine.Link{three, two}))
	is("with others", map[string]bool{"two": true, "three": true})
	s.must(s.e.Signal(s.ctx, id, syscall.SIGKILL))
	_, err := s.e.Wait(s.ctx, id)
	s.must(err)
	s.must(s.e.Connect(s.ctx, id, []engine.Link{one}))
	s.must(s.e.Start(s.ctx, id))
	s.is(s.e.Connect(s.ctx, "nobody", nil), engine.ErrNotFound)
	spec := Spec(scriptTrue)
	spec.Network = engine.Network{Mode: engine.NetworkNAT}
	apart, err := s.e.Create(s.ctx, spec)
	s.must(err)
	s.Cleanup(func() { s.must(s.e.Remove(context.Background(), apart)) })
	s.is(s.e.Connect(s.ctx, apart, []engine.Link{one}), engine.ErrInvalid)
	is("again", map[string]bool{"one": true})
}

// soon asks until the answer is as it is wanted, or, of what takes a busy machine its
// time, for as long as that may be. What is not wanted is asked once.
func (s *suite) soon(want bool, ask func() bool) (got bool) {
	for deadline := time.Now().Add(patience); ; {
		if got = ask(); got || !want || time.Now().After(deadline) {
			return got
		}
	}
}

// reaches tells whether a running container is greeted at an address. That
// something there takes the connection proves nothing: it may be the machine's way out.
func (s *suite) reaches(id engine.ID, address string, wanted bool) bool {
	s.Helper()
	script := fmt.Sprintf(`import socket,sys; s=socket.create_connection(("%s",80),%v); sys.exit(not s.recv(9))`, address, answerTime(wanted))
	e, err := s.e.Exec(s.ctx, id, engine.ExecSpec{Command: []string{"python3", "-c", script}}, engine.Streams{})
	s.must(err)
	return e.Code == 0
}

func (s *suite) ports() {
	s.able("published ports", func(c engine.Capabilities) bool { return c.Ports && c.NamedNetworks })
	n := s.network("one", "10.77.0.2")
	n.Ports = []engine.Port{{Container: 80, Address: netip.MustParseAddr("127.0.0.1")}}
	id := s.member(n)
	st, err := s.e.Inspect(s.ctx, id)
	s.must(err)
	if len(st.Ports) != 1 || st.Ports[0].Host == 0 || st.Ports[0].Container != 80 {
		s.Fatalf("ports %+v", st.Ports)
	}
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", st.Ports[0].Host), patience)
	s.must(err)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(c); string(b) != "hello from 10.77.0.2" {
		s.Errorf("heard %q, %v", b, err)
	}
	spec := Spec(scriptTrue)
	spec.Network = engine.Network{Mode: engine.NetworkNAT, Ports: st.Ports}
	other, err := s.e.Create(s.ctx, spec)
	s.must(err)
	defer func() { s.must(s.e.Remove(context.Background(), other)) }()
	s.is(s.e.Start(s.ctx, other), engine.ErrPort)
}

func (s *suite) firewall() {
	s.able("security groups", func(c engine.Capabilities) bool { return c.Firewall && c.NamedNetworks })
	rule := func(prefix string) []engine.SecurityGroup {
		return []engine.SecurityGroup{{ID: "sg", Ingress: []engine.FirewallRule{{Protocol: "tcp", From: 80, To: 80, Prefixes: []netip.Prefix{netip.MustParsePrefix(prefix)}}}}}
	}
	s.Cleanup(func() { s.must(s.e.SetFirewall(context.Background(), "one", nil)) })
	s.member(s.network("one", "10.77.0.2", "sg"))
	for _, c := range []struct{ prefix, want string }{
		{"", ""}, {"10.77.0.3/32", "hello from 10.77.0.2"}, {"10.77.0.4/32", ""},
	} {
		if c.prefix != "" {
			s.must(s.e.SetFirewall(s.ctx, "one", rule(c.prefix)))
		}
		if got := s.hears(s.network("one", "10.77.0.3"), "10.77.0.2", c.want != ""); got != c.want {
			s.Errorf("with a rule for %q: %q", c.prefix, got)
		}
	}
	s.is(s.e.SetFirewall(s.ctx, "one", []engine.SecurityGroup{{}}), engine.ErrInvalid)
}
