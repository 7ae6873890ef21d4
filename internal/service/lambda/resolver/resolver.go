// Package resolver is the name server inside of a function's sandbox. It sends
// AWS's host names to Skerry, so that code written for AWS finds it with no
// endpoint in its configuration, and asks the machine's own name servers for
// everything else.
package resolver

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// The domains whose names are Skerry's.
var ours = []string{"amazonaws.com.", "amazonaws.com.cn.", "api.aws.", "on.aws."}

const (
	maxMessage = 4096
	timeToLive = 60 // seconds
	patience   = 4 * time.Second
	maxPending = 64 // questions under way at the machine's name servers, of one sandbox
)

// Resolver answers questions about names.
type Resolver struct {
	Address   string   // IPv4 address that Skerry's names lead to
	Upstreams []string // host:port of the name servers for other names
}

// SystemUpstreams are the name servers of /etc/resolv.conf.
func SystemUpstreams() []string {
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []string
	for scan := bufio.NewScanner(f); scan.Scan(); {
		if fields := strings.Fields(scan.Text()); len(fields) >= 2 && fields[0] == "nameserver" {
			out = append(out, net.JoinHostPort(fields[1], "53"))
		}
	}
	return out
}

// Serve answers what comes in, until ctx ends or the socket is closed. beside
// runs a function beside it, for questions that others must answer.
func (r *Resolver) Serve(ctx context.Context, c net.PacketConn, beside func(func(context.Context)) bool) error {
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	pending := make(chan struct{}, maxPending)
	buf := make([]byte, maxMessage)
	for {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		query := append([]byte(nil), buf[:n]...)
		reply, known := r.own(query)
		if known {
			if reply != nil {
				_, _ = c.WriteTo(reply, from)
			}
			continue
		}
		select {
		case pending <- struct{}{}:
		default:
			continue // a flood; the program asks again
		}
		ok := beside(func(ctx context.Context) {
			defer func() { <-pending }()
			if reply := r.forward(ctx, query); reply != nil {
				_, _ = c.WriteTo(reply, from)
			}
		})
		if !ok {
			<-pending
		}
	}
}

// own answers about Skerry's names. known is false for names that are others'; a
// message that is no question gets no answer.
func (r *Resolver) own(query []byte) (reply []byte, known bool) {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil || h.Response {
		return nil, true
	}
	q, err := p.Question()
	if err != nil {
		return nil, true
	}
	address, known := r.addressOf(strings.ToLower(q.Name.String()))
	if !known {
		return nil, false
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: h.ID, Response: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true, Authoritative: true})
	b.EnableCompression()
	if b.StartQuestions() != nil || b.Question(q) != nil || b.StartAnswers() != nil {
		return nil, true
	}
	if q.Type == dnsmessage.TypeA && q.Class == dnsmessage.ClassINET {
		head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: timeToLive}
		if b.AResource(head, dnsmessage.AResource{A: address}) != nil {
			return nil, true
		}
	}
	reply, err = b.Finish()
	if err != nil {
		return nil, true
	}
	return reply, true
}

func (r *Resolver) addressOf(name string) ([4]byte, bool) {
	if name == "localhost." || strings.HasSuffix(name, ".localhost.") {
		return [4]byte{127, 0, 0, 1}, true
	}
	for _, domain := range ours {
		if name == domain || strings.HasSuffix(name, "."+domain) {
			a, err := netip.ParseAddr(r.Address)
			if err != nil {
				return [4]byte{}, false
			}
			return a.As4(), true
		}
	}
	return [4]byte{}, false
}

// forward asks the machine's name servers in turn; without an answer it says that
// the name server failed.
func (r *Resolver) forward(ctx context.Context, query []byte) []byte {
	for _, up := range r.Upstreams {
		if reply := exchange(ctx, up, query); reply != nil {
			return reply
		}
	}
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	h.Response, h.RecursionAvailable, h.RCode = true, true, dnsmessage.RCodeServerFailure
	m := dnsmessage.Message{Header: h}
	if m.Questions, err = p.AllQuestions(); err != nil {
		return nil
	}
	reply, err := m.Pack()
	if err != nil {
		return nil
	}
	return reply
}

func exchange(ctx context.Context, server string, query []byte) []byte {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "udp", server)
	if err != nil {
		return nil
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	if _, err := c.Write(query); err != nil {
		return nil
	}
	buf := make([]byte, maxMessage)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil
		}
		if n >= 2 && len(query) >= 2 && buf[0] == query[0] && buf[1] == query[1] {
			return buf[:n]
		}
	}
}
