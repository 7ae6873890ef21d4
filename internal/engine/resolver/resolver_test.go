package resolver

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

var aws = netip.MustParseAddr("169.254.169.253")

// serve has a resolver answer at an address, packets and streams.
func serve(t *testing.T, r *Resolver) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	go func() { done <- r.Serve(ctx, c, nil) }()
	go func() { done <- r.ServeStream(ctx, l, nil) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return l.Addr().String()
}

func question(name string, kind dnsmessage.Type) dnsmessage.Message {
	return dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
}

func send(t *testing.T, network, server string, m dnsmessage.Message) dnsmessage.Message {
	t.Helper()
	text, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial(network, server)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	reply := make([]byte, maxMessage)
	if network == "tcp" {
		if err := writeStream(c, text); err != nil {
			t.Fatal(err)
		}
		if reply, err = readStream(c); err != nil {
			t.Fatal(err)
		}
	} else {
		if _, err := c.Write(text); err != nil {
			t.Fatal(err)
		}
		n, err := c.Read(reply)
		if err != nil {
			t.Fatal(err)
		}
		reply = reply[:n]
	}
	var out dnsmessage.Message
	if err := out.Unpack(reply); err != nil || out.ID != m.ID || !out.Response {
		t.Fatalf("%v %+v", err, out)
	}
	return out
}

func askFor(t *testing.T, server, name string, kind dnsmessage.Type) dnsmessage.Message {
	t.Helper()
	return send(t, "udp", server, question(name, kind))
}

// text is what an answer says.
func text(m dnsmessage.Message) string {
	out := []string{}
	if m.RCode != dnsmessage.RCodeSuccess {
		out = append(out, strings.TrimPrefix(m.RCode.String(), "RCode"))
	}
	for _, a := range m.Answers {
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			out = append(out, netip.AddrFrom4(b.A).String())
		case *dnsmessage.SRVResource:
			out = append(out, fmt.Sprintf("%d %d %d %s", b.Priority, b.Weight, b.Port, b.Target))
		case *dnsmessage.PTRResource:
			out = append(out, b.PTR.String())
		default:
			out = append(out, a.Header.Type.String())
		}
	}
	return strings.Join(out, " ")
}

func TestNames(t *testing.T) {
	world := serve(t, &Resolver{Upstreams: []string{}, Lookup: func(_ context.Context, name string) (Answer, bool) {
		return Answer{None: name != "example.com", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}, true
	}})
	at := serve(t, &Resolver{Address: aws, Upstreams: []string{world},
		Lookup: func(_ context.Context, name string) (Answer, bool) {
			switch {
			case name == "web":
				return Answer{Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.5")}, TTL: 3 * time.Second}, true
			case name == "_http._tcp.web.internal":
				return Answer{Services: []Service{{Target: "web.internal", Port: 8080, Priority: 1, Weight: 2}}}, true
			case strings.HasSuffix(name, ".internal"):
				return Answer{None: true}, true
			case name == "long":
				return Answer{Services: []Service{{Target: strings.Repeat("x", 300)}}}, true
			}
			return Answer{}, false
		},
		Reverse: func(_ context.Context, a netip.Addr) (string, bool) {
			return "web.blue", a.String() == "10.0.0.5"
		},
	})
	for _, c := range []struct {
		name string
		kind dnsmessage.Type
		want string
	}{
		{"s3.amazonaws.com.", dnsmessage.TypeA, "169.254.169.253"}, {"Bucket.S3.US-east-1.amazonaws.com.", dnsmessage.TypeA, "169.254.169.253"},
		{"amazonaws.com.", dnsmessage.TypeA, "169.254.169.253"}, {"x.lambda-url.us-east-1.on.aws.", dnsmessage.TypeA, "169.254.169.253"},
		{"s3.amazonaws.com.", dnsmessage.TypeAAAA, ""}, {"s3.amazonaws.com.", dnsmessage.TypeMX, ""},
		{"localhost.", dnsmessage.TypeA, "127.0.0.1"}, {"bucket.s3.localhost.", dnsmessage.TypeA, "127.0.0.1"}, {"localhost.", dnsmessage.TypeAAAA, ""},
		{"1.0.0.127.in-addr.arpa.", dnsmessage.TypePTR, "localhost."},
		{"evilamazonaws.com.", dnsmessage.TypeA, "NameError"}, {"notlocalhost.", dnsmessage.TypeA, "NameError"},
		{"web.", dnsmessage.TypeA, "10.0.0.5"}, {"WEB.", dnsmessage.TypeA, "10.0.0.5"}, {"web.", dnsmessage.TypeAAAA, ""},
		{"_http._tcp.web.internal.", dnsmessage.TypeSRV, "1 2 8080 web.internal."}, {"db.internal.", dnsmessage.TypeA, "NameError"},
		{"5.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "web.blue."}, {"6.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError"},
		{"05.0.0.10.in-addr.arpa.", dnsmessage.TypePTR, "NameError"}, {"long.", dnsmessage.TypeSRV, "ServerFailure"},
		{"example.com.", dnsmessage.TypeA, "192.0.2.7"}, {"example.org.", dnsmessage.TypeA, "NameError"},
		{"example.com.", dnsmessage.Type(252), "Refused"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			if got := text(send(t, network, at, question(c.name, c.kind))); got != c.want {
				t.Errorf("%s %s %s: %q, not %q", network, c.kind, c.name, got, c.want)
			}
		}
	}
	if m := askFor(t, at, "web.", dnsmessage.TypeA); m.Answers[0].Header.TTL != 3 || !m.Authoritative || m.Questions[0].Name.String() != "web." {
		t.Errorf("%+v", m)
	}
	two := question("web.", dnsmessage.TypeA)
	two.Questions = append(two.Questions, two.Questions[0])
	if got := text(send(t, "udp", at, two)); got != "FormatError" {
		t.Errorf("two questions: %q", got)
	}
	notify := question("web.", dnsmessage.TypeA)
	notify.OpCode = 4
	if got := text(send(t, "udp", at, notify)); got != "NotImplemented" {
		t.Errorf("another operation: %q", got)
	}
	if got := text(askFor(t, serve(t, &Resolver{Upstreams: []string{}}), "example.com.", dnsmessage.TypeA)); got != "ServerFailure" {
		t.Errorf("without upstreams: %q", got)
	}
}

// What is too long for a packet says so, and comes whole over TCP, from upstreams as
// well.
func TestLong(t *testing.T) {
	var many []netip.Addr
	for i := range 200 {
		many = append(many, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	own := serve(t, &Resolver{Lookup: func(context.Context, string) (Answer, bool) { return Answer{Addresses: many}, true }})
	through := serve(t, &Resolver{Upstreams: []string{own}})
	for name, at := range map[string]string{"own": own, "upstream's": through} {
		if m := askFor(t, at, "many.", dnsmessage.TypeA); !m.Truncated || len(m.Answers) > 0 {
			t.Errorf("%s: %d answers in a packet, truncated %v", name, len(m.Answers), m.Truncated)
		}
		if m := send(t, "tcp", at, question("many.", dnsmessage.TypeA)); m.Truncated || len(m.Answers) != 200 {
			t.Errorf("%s: %d answers over TCP", name, len(m.Answers))
		}
		q := question("many.", dnsmessage.TypeA)
		var head dnsmessage.ResourceHeader
		if err := head.SetEDNS0(4096, 0, false); err != nil {
			t.Fatal(err)
		}
		q.Additionals = []dnsmessage.Resource{{Header: head, Body: &dnsmessage.OPTResource{}}}
		if m := send(t, "udp", at, q); m.Truncated || len(m.Answers) != 200 || len(m.Additionals) != 1 {
			t.Errorf("%s: %d answers in a large packet", name, len(m.Answers))
		}
	}
}

// fault is a name server with a fault.
func fault(t *testing.T, answer func(query []byte) [][]byte) (address string, asked *atomic.Int64) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	asked = new(atomic.Int64)
	go func() {
		b := make([]byte, maxPacket)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			asked.Add(1)
			for _, a := range answer(b[:n]) {
				_, _ = c.WriteTo(a, from)
			}
		}
	}()
	return c.LocalAddr().String(), asked
}

func TestUpstreams(t *testing.T) {
	good := serve(t, &Resolver{Lookup: func(_ context.Context, name string) (Answer, bool) {
		return Answer{None: name == "missing", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}, true
	}})
	code := func(code dnsmessage.RCode) func([]byte) [][]byte {
		return func(text []byte) [][]byte { return [][]byte{parse(text).reply(code, nil)} }
	}
	silent, _ := fault(t, func([]byte) [][]byte { return nil })
	failing, failed := fault(t, code(dnsmessage.RCodeServerFailure))
	refusing, _ := fault(t, code(dnsmessage.RCodeRefused))
	nowhere := "127.0.0.1:1"
	var last atomic.Int64 // the number that our question had
	// a forger's answers come first: of another number, of another name, and rubbish
	forged, _ := fault(t, func(text []byte) [][]byte {
		last.Store(int64(binary.BigEndian.Uint16(text)))
		lie := func(name string, by uint16) []byte {
			q := parse(text)
			q.header.ID += by
			q.Question.Name = dnsmessage.MustNewName(name)
			return q.answer(Answer{Addresses: []netip.Addr{netip.MustParseAddr("203.0.113.66")}})
		}
		truth := parse(text).answer(Answer{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}})
		return [][]byte{lie("example.com.", 1), lie("other.com.", 0), {1}, text, truth}
	})
	for _, c := range []struct {
		name      string
		upstreams []string
		ask, want string
	}{
		{"the first is silent", []string{silent, good}, "example.com.", "192.0.2.7"},
		{"the first is not there", []string{nowhere, good}, "example.com.", "192.0.2.7"},
		{"the first has failed", []string{failing, good}, "example.com.", "192.0.2.7"},
		{"the first refuses", []string{refusing, good}, "example.com.", "192.0.2.7"},
		{"no such name is an answer", []string{good, failing}, "missing.", "NameError"},
		{"all fail", []string{refusing, failing}, "example.com.", "Refused"},
		{"all are silent", []string{silent, silent}, "example.com.", "ServerFailure"},
		{"forged answers", []string{forged}, "example.com.", "192.0.2.7"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			before := failed.Load()
			m := askFor(t, serve(t, &Resolver{Address: aws, Upstreams: c.upstreams}), c.ask, dnsmessage.TypeA)
			if got := text(m); got != c.want {
				t.Errorf("%q, not %q", got, c.want)
			}
			if c.ask == "missing." && failed.Load() != before && len(c.upstreams) == 1 {
				t.Error("the next one was asked as well")
			}
		})
	}
	t.Cleanup(func() {
		if last.Load() == 7 { // which one of ours is once in 65,536 times
			t.Error("the upstream was sent the program's own number")
		}
	})
}

// A flood does not start more than there is room for, and ends nothing.
func TestFlood(t *testing.T) {
	release := make(chan struct{})
	var under, most atomic.Int64
	at := serve(t, &Resolver{Address: aws, Lookup: func(context.Context, string) (Answer, bool) {
		for n, m := under.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		defer under.Add(-1)
		<-release
		return Answer{None: true}, true
	}})
	c, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	q := question("flood.", dnsmessage.TypeA)
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range 10 * maxPending {
		_, _ = c.Write(b)
		_, _ = c.Write([]byte{0, 1, 2})
	}
	// who is known is still answered; the flood may have taken the socket's space
	// for a question, which a client then asks again
	known := question("s3.amazonaws.com.", dnsmessage.TypeA)
	k, err := known.Pack()
	if err != nil {
		t.Fatal(err)
	}
	asker, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer asker.Close()
	answer := make([]byte, 512)
	n := 0
	for deadline := time.Now().Add(20 * time.Second); n == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no answer")
		}
		if _, err := asker.Write(k); err != nil {
			t.Fatal(err)
		}
		if err := asker.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		n, _ = asker.Read(answer) // nothing in time: once more
	}
	var m dnsmessage.Message
	if err := m.Unpack(answer[:n]); err != nil || text(m) != aws.String() {
		t.Errorf("%q, %v", text(m), err)
	}
	close(release)
	if most.Load() > maxPending {
		t.Errorf("%d questions at once", most.Load())
	}
}

// What a container may send is anything.
func FuzzPacket(f *testing.F) {
	m := question("a.amazonaws.com.", dnsmessage.TypeA)
	b, _ := m.Pack()
	f.Add(b)
	f.Add(append(b, 0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0))
	m = question("5.0.0.10.in-addr.arpa.", dnsmessage.TypePTR)
	b, _ = m.Pack()
	f.Add(b)
	f.Add([]byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1}) // a name that points at itself
	r := &Resolver{Address: aws, Upstreams: []string{},
		Lookup: func(_ context.Context, name string) (Answer, bool) {
			return Answer{Addresses: []netip.Addr{aws}, Services: []Service{{Target: name}}}, len(name)%2 == 0
		},
		Reverse: func(context.Context, netip.Addr) (string, bool) { return "x", true }}
	f.Fuzz(func(t *testing.T, b []byte) {
		q := parse(b)
		if q == nil {
			return
		}
		reply, ok := r.quick(q)
		if !ok {
			reply = r.slow(t.Context(), q)
		}
		if reply = q.fit(reply); len(reply) > q.size {
			t.Errorf("%d bytes for who takes %d", len(reply), q.size)
		}
		var out dnsmessage.Message
		if err := out.Unpack(reply); err != nil || !out.Response || out.ID != q.header.ID {
			t.Errorf("%v: %+v", err, out)
		}
	})
}

// And so is what an upstream may answer.
func FuzzAnswer(f *testing.F) {
	m := question("example.com.", dnsmessage.TypeA)
	asked, _ := m.Pack()
	f.Add(parse(asked).answer(Answer{Addresses: []netip.Addr{aws}}))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if len(b) < 2 {
			b = append(b, 0, 0)
		}
		q := parse(asked)
		if _, ok := answers(b, asked, q); ok {
			_ = q.fit(b)
		}
	})
}
