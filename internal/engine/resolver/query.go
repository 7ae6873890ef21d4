package resolver

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	lasting = time.Minute      // of names that do not change
	passing = 10 * time.Second // of those that may
)

// query is a question, as it came.
type query struct {
	dnsmessage.Question
	text     []byte // the whole message
	header   dnsmessage.Header
	name     string // lower case, without the last dot
	size     int    // the longest answer that is taken, in bytes
	extended bool   // EDNS: the answer has to be too
}

// parse reads a message; nil is that it is no question, and gets no answer.
func parse(text []byte) *query {
	var p dnsmessage.Parser
	h, err := p.Start(text)
	if err != nil || h.Response {
		return nil
	}
	first, err := p.Question()
	if err != nil {
		return nil
	}
	q := &query{Question: first, text: slices.Clone(text), header: h, size: minPacket}
	q.name = strings.TrimSuffix(strings.ToLower(first.Name.String()), ".")
	if _, err := p.Question(); err == nil {
		q.header.RCode = dnsmessage.RCodeFormatError // one at a time, as with everybody
		return q
	}
	if p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil || p.SkipAllAuthorities() != nil {
		return q
	}
	for {
		a, err := p.AdditionalHeader()
		if err != nil {
			return q
		}
		if a.Type == dnsmessage.TypeOPT {
			q.extended, q.size = true, min(max(int(a.Class), minPacket), maxPacket)
		}
		if p.SkipAdditional() != nil {
			return q
		}
	}
}

// refused says by which code a question is refused that nobody is to be bothered
// with.
func (q *query) refused() dnsmessage.RCode {
	const incremental, whole = 251, 252 // zone transfers
	switch {
	case q.header.RCode == dnsmessage.RCodeFormatError:
		return dnsmessage.RCodeFormatError
	case q.header.OpCode != 0:
		return dnsmessage.RCodeNotImplemented
	case q.Type == incremental || q.Type == whole:
		return dnsmessage.RCodeRefused
	}
	return dnsmessage.RCodeSuccess
}

// answer is the reply about a name that is known here.
func (q *query) answer(a Answer) []byte {
	if a.None {
		return q.reply(dnsmessage.RCodeNameError, nil)
	}
	return q.reply(dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder) error {
		ttl := a.TTL
		if ttl == 0 {
			ttl = passing
		}
		head := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: uint32(ttl / time.Second)}
		switch q.Type {
		case dnsmessage.TypeA:
			start := 0
			if len(a.Addresses) > 1 {
				start = rand.IntN(len(a.Addresses))
			}
			for i := range a.Addresses {
				if ip := a.Addresses[(start+i)%len(a.Addresses)].Unmap(); ip.Is4() {
					if err := b.AResource(head, dnsmessage.AResource{A: ip.As4()}); err != nil {
						return err
					}
				}
			}
		case dnsmessage.TypeSRV:
			for _, s := range a.Services {
				target, err := absolute(s.Target)
				if err == nil {
					err = b.SRVResource(head, dnsmessage.SRVResource{Priority: s.Priority, Weight: s.Weight, Port: s.Port, Target: target})
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// pointer is the reply about an address that is known here.
func (q *query) pointer(name string) []byte {
	return q.reply(dnsmessage.RCodeSuccess, func(b *dnsmessage.Builder) error {
		target, err := absolute(name)
		if err != nil {
			return err
		}
		return b.PTRResource(dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: uint32(passing / time.Second)},
			dnsmessage.PTRResource{PTR: target})
	})
}

func absolute(name string) (dnsmessage.Name, error) {
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	return dnsmessage.NewName(name)
}

// reply is an answer with this code and what fill adds. What cannot be written, such
// as a name that is too long, makes it an answer that the server has failed.
func (q *query) reply(code dnsmessage.RCode, fill func(*dnsmessage.Builder) error) []byte {
	text, err := q.build(dnsmessage.Header{RCode: code, Authoritative: code == dnsmessage.RCodeSuccess || code == dnsmessage.RCodeNameError}, fill)
	if err != nil {
		text, _ = q.build(dnsmessage.Header{RCode: dnsmessage.RCodeServerFailure}, nil) // the question itself can be written
	}
	return text
}

func (q *query) build(h dnsmessage.Header, fill func(*dnsmessage.Builder) error) ([]byte, error) {
	h.ID, h.Response, h.OpCode = q.header.ID, true, q.header.OpCode
	h.RecursionDesired, h.RecursionAvailable = q.header.RecursionDesired, true
	b := dnsmessage.NewBuilder(nil, h)
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if err := b.Question(q.Question); err != nil {
		return nil, err
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	if fill != nil {
		if err := fill(&b); err != nil {
			return nil, err
		}
	}
	if q.extended {
		if err := b.StartAdditionals(); err != nil {
			return nil, err
		}
		var head dnsmessage.ResourceHeader
		if err := head.SetEDNS0(maxPacket, dnsmessage.RCodeSuccess, false); err != nil {
			return nil, err
		}
		if err := b.OPTResource(head, dnsmessage.OPTResource{}); err != nil {
			return nil, err
		}
	}
	return b.Finish()
}

// fit makes an answer that is too long for who asks one that says so.
func (q *query) fit(reply []byte) []byte {
	if len(reply) <= q.size {
		return reply
	}
	var p dnsmessage.Parser
	h, err := p.Start(reply)
	if err != nil {
		h = dnsmessage.Header{RCode: dnsmessage.RCodeServerFailure}
	}
	short, _ := q.build(dnsmessage.Header{RCode: h.RCode, Authoritative: h.Authoritative, Truncated: true}, nil)
	return short
}

// within says whether a name is a domain or in it.
func within(name, domain string) bool {
	return name == domain || len(name) > len(domain) && name[len(name)-len(domain)-1] == '.' && strings.HasSuffix(name, domain)
}

// reversed is the address that a name of in-addr.arpa stands for.
func reversed(name string) (a netip.Addr, ok bool) {
	digits, ok := strings.CutSuffix(name, ".in-addr.arpa")
	parts := strings.Split(digits, ".")
	if !ok || len(parts) != 4 {
		return a, false
	}
	var b [4]byte
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 8)
		if err != nil || len(p) > 1 && p[0] == '0' {
			return a, false
		}
		b[3-i] = byte(n)
	}
	return netip.AddrFrom4(b), true
}
