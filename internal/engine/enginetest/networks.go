package enginetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
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

// hears runs a container that connects to an address, and returns what it hears.
func (s *suite) hears(n engine.Network, address string) string {
	s.Helper()
	spec := Spec(fmt.Sprintf(`exec python3 -c 'import socket; s=socket.create_connection(("%s",80),1); s.settimeout(1); print(s.recv(99).decode())' 2>/dev/null`, address))
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
		if got := s.hears(s.network(c.network, c.from), "10.77.0.2"); got != c.want {
			s.Errorf("on the network %s: %q", c.network, got)
		}
	}
	shared := engine.Network{Sandbox: string(id)}
	if got := s.hears(shared, "127.0.0.1"); got != "hello from 10.77.0.2" {
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
		if got := s.hears(s.network("one", "10.77.0.3"), "10.77.0.2"); got != c.want {
			s.Errorf("with a rule for %q: %q", c.prefix, got)
		}
	}
	s.is(s.e.SetFirewall(s.ctx, "one", []engine.SecurityGroup{{}}), engine.ErrInvalid)
}
