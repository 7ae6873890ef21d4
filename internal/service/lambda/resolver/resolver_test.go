package resolver

import (
	"context"
	"net"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

func serve(t *testing.T, r *Resolver) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Serve(ctx, c, func(fn func(context.Context)) bool { go fn(ctx); return true })
	}()
	t.Cleanup(func() { cancel(); <-done })
	return c.LocalAddr().String()
}

func ask(t *testing.T, server, name string, kind dnsmessage.Type) dnsmessage.Message {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
	q, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(q); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	var out dnsmessage.Message
	if err := out.Unpack(buf[:n]); err != nil || out.ID != 7 || !out.Response {
		t.Fatalf("%v %+v", err, out)
	}
	return out
}

func address(m dnsmessage.Message) string {
	for _, a := range m.Answers {
		if r, ok := a.Body.(*dnsmessage.AResource); ok {
			return net.IP(r.A[:]).String()
		}
	}
	return ""
}

func TestResolver(t *testing.T) {
	// The name server of the machine knows one name: everything is 192.0.2.7.
	up := serve(t, &Resolver{Address: "192.0.2.7"})
	other := &Resolver{Address: "169.254.169.253", Upstreams: []string{up}}
	at := serve(t, other)
	for name, want := range map[string]string{"s3.amazonaws.com.": "169.254.169.253", "Bucket.S3.US-east-1.amazonaws.com.": "169.254.169.253",
		"localhost.": "127.0.0.1", "bucket.s3.localhost.": "127.0.0.1", "amazonaws.com.": "169.254.169.253"} {
		if got := address(ask(t, at, name, dnsmessage.TypeA)); got != want {
			t.Errorf("%s is %s, not %s", name, got, want)
		}
	}
	if m := ask(t, at, "s3.amazonaws.com.", dnsmessage.TypeAAAA); m.RCode != dnsmessage.RCodeSuccess || len(m.Answers) != 0 {
		t.Errorf("%+v", m)
	}
	// A name that only looks like one of AWS's goes to the machine's name server,
	// which has no upstream of its own and says that it failed.
	if m := ask(t, at, "evilamazonaws.com.", dnsmessage.TypeA); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("%+v", m)
	}
	if m := ask(t, serve(t, &Resolver{}), "example.com.", dnsmessage.TypeA); m.RCode != dnsmessage.RCodeServerFailure {
		t.Errorf("%+v", m)
	}
}

func FuzzOwn(f *testing.F) {
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.amazonaws.com."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	b, _ := m.Pack()
	f.Add(b)
	r := &Resolver{Address: "169.254.169.253"}
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = r.own(b) })
}
