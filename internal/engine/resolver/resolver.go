// Package resolver is the name server inside of sandboxes. It sends AWS's host
// names to Skerry, so that code written for AWS finds it with no endpoint in its
// configuration; knows what its user tells it (the containers of a Docker network,
// a task's service discovery); and asks the machine's own name servers for
// everything else.
//
// It is of IPv4, as the sandboxes are: the names that it knows itself have no AAAA
// records. Not built: zone transfers, other classes than IN, DNSSEC of its own
// (that of others passes through), a cache.
package resolver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	maxPacket  = 4096      // of what is read of UDP, and of what is sent to who takes so much
	minPacket  = 512       // what everybody takes
	maxMessage = 1<<16 - 1 // over TCP
	maxPending = 64        // questions under way for one socket
	maxStreams = 16        // connections of one listener
	idle       = 10 * time.Second
)

// Resolver answers questions about names. One may serve any number of sandboxes; one
// whose Lookup is a sandbox's own serves that.
type Resolver struct {
	// Address is what AWS's host names lead to.
	Address netip.Addr
	// Upstreams are the name servers for all other names, host:port. Nil is the
	// machine's (SystemUpstreams), looked up each time.
	Upstreams []string
	// Lookup tells of further names, lower case and without the last dot. It is
	// asked after AWS's names and localhost, and before the upstreams, who are
	// asked if known is false. It may be nil, and may take its time.
	Lookup func(ctx context.Context, name string) (answer Answer, known bool)
	// Reverse tells whose an address is. It may be nil.
	Reverse func(ctx context.Context, a netip.Addr) (name string, known bool)
}

// Answer is what there is of a name.
type Answer struct {
	// None says that the name is nobody's, though others of its domain may be: an
	// answer of no such name. Without it, a question for what the name has not is
	// answered by nothing.
	None      bool
	Addresses []netip.Addr  // IPv4; given in turn, each first once in a while
	Services  []Service     // SRV records
	TTL       time.Duration // zero is 10 seconds
}

// Service is where a service is: an SRV record.
type Service struct {
	Target           string // a name, with or without the last dot
	Port             uint16
	Priority, Weight uint16
}

// Beside runs a function beside the caller, and says false if it does not.
type Beside func(func(context.Context)) bool

// Serve answers what comes in as packets, until ctx ends or the socket is closed.
// What may take time is done beside; a nil Beside is a goroutine.
func (r *Resolver) Serve(ctx context.Context, c net.PacketConn, beside Beside) error {
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	beside = orGo(ctx, beside)
	pending := make(chan struct{}, maxPending)
	buf := make([]byte, maxPacket)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return ended(ctx, err)
		}
		q := parse(buf[:n])
		if q == nil {
			continue
		}
		if reply, ok := r.quick(q); ok {
			_, _ = c.WriteTo(q.fit(reply), from)
			continue
		}
		select {
		case pending <- struct{}{}:
		default:
			continue // a flood; the program asks again
		}
		if !beside(func(ctx context.Context) {
			defer func() { <-pending }()
			_, _ = c.WriteTo(q.fit(r.slow(ctx, q)), from)
		}) {
			<-pending
		}
	}
}

// ServeStream answers over TCP, where programs ask again for what was too long for
// a packet.
func (r *Resolver) ServeStream(ctx context.Context, l net.Listener, beside Beside) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	beside = orGo(ctx, beside)
	streams := make(chan struct{}, maxStreams)
	for {
		c, err := l.Accept()
		if err != nil {
			return ended(ctx, err)
		}
		select {
		case streams <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		if !beside(func(ctx context.Context) {
			defer func() { <-streams }()
			defer c.Close()
			defer context.AfterFunc(ctx, func() { _ = c.Close() })()
			r.stream(ctx, c)
		}) {
			_ = c.Close()
			<-streams
		}
	}
}

// stream answers a connection's questions, one after the other.
func (r *Resolver) stream(ctx context.Context, c net.Conn) {
	for {
		_ = c.SetDeadline(time.Now().Add(idle))
		text, err := readStream(c)
		if err != nil {
			return
		}
		q := parse(text)
		if q == nil {
			return
		}
		q.size = maxMessage
		reply, ok := r.quick(q)
		if !ok {
			reply = r.slow(ctx, q)
		}
		_ = c.SetDeadline(time.Now().Add(idle))
		if err := writeStream(c, q.fit(reply)); err != nil {
			return
		}
	}
}

func readStream(c io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return nil, err
	}
	text := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(c, text)
	return text, err
}

func writeStream(c io.Writer, text []byte) error {
	_, err := c.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, len(text)+2), uint16(len(text))), text...))
	return err
}

func orGo(ctx context.Context, beside Beside) Beside {
	if beside != nil {
		return beside
	}
	return func(fn func(context.Context)) bool { go fn(ctx); return true }
}

func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// quick answers what needs nobody else; false is that it does.
func (r *Resolver) quick(q *query) ([]byte, bool) {
	if code := q.refused(); code != dnsmessage.RCodeSuccess {
		return q.reply(code, nil), true
	}
	if q.Class != dnsmessage.ClassINET {
		return nil, false
	}
	if a, ok := r.ours(q.name); ok {
		return q.answer(a), true
	}
	if q.Type == dnsmessage.TypePTR && q.name == "1.0.0.127.in-addr.arpa" {
		return q.pointer("localhost"), true
	}
	return nil, false
}

// slow answers by asking others.
func (r *Resolver) slow(ctx context.Context, q *query) []byte {
	if q.Class == dnsmessage.ClassINET {
		if r.Lookup != nil {
			if a, known := r.Lookup(ctx, q.name); known {
				return q.answer(a)
			}
		}
		if r.Reverse != nil && q.Type == dnsmessage.TypePTR {
			if a, ok := reversed(q.name); ok {
				if name, known := r.Reverse(ctx, a); known {
					return q.pointer(name)
				}
			}
		}
	}
	return r.forward(ctx, q)
}

// ours are the names that lead to Skerry, and to the sandbox itself.
func (r *Resolver) ours(name string) (Answer, bool) {
	if within(name, "localhost") {
		return Answer{Addresses: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, TTL: lasting}, true
	}
	if !r.Address.Is4() {
		return Answer{}, false
	}
	for _, domain := range [...]string{"amazonaws.com", "amazonaws.com.cn", "api.aws", "on.aws"} {
		if within(name, domain) {
			return Answer{Addresses: []netip.Addr{r.Address}, TTL: lasting}, true
		}
	}
	return Answer{}, false
}
