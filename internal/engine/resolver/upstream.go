package resolver

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	patience  = 4 * time.Second // for all servers; programs ask again after five seconds
	oneServer = 2 * time.Second
)

// SystemUpstreams are the name servers of the machine's /etc/resolv.conf.
func SystemUpstreams() []string {
	f, err := os.Open("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	defer f.Close()
	var out []string
	for scan := bufio.NewScanner(f); scan.Scan() && len(out) < 3; { // as many as the C library takes
		if fields := strings.Fields(scan.Text()); len(fields) >= 2 && fields[0] == "nameserver" {
			out = append(out, net.JoinHostPort(fields[1], "53"))
		}
	}
	return out
}

// forward asks the upstreams in turn. One that refuses or has failed is like one
// that is silent, but that its answer is passed on if none has a better one.
func (r *Resolver) forward(ctx context.Context, q *query) []byte {
	upstreams := r.Upstreams
	if upstreams == nil {
		upstreams = SystemUpstreams()
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var worse []byte
	for _, server := range upstreams {
		reply, code := ask(ctx, server, q)
		switch {
		case reply == nil:
		case code == dnsmessage.RCodeSuccess || code == dnsmessage.RCodeNameError:
			return reply
		case worse == nil:
			worse = reply
		}
	}
	if worse != nil {
		return worse
	}
	return q.reply(dnsmessage.RCodeServerFailure, nil)
}

// ask asks one server: by a packet, and by TCP for what is too long for one. The
// number of the question is our own, as whoever may guess it may answer.
func ask(ctx context.Context, server string, q *query) ([]byte, dnsmessage.RCode) {
	ctx, cancel := context.WithTimeout(ctx, oneServer)
	defer cancel()
	text := slices.Clone(q.text)
	_, _ = rand.Read(text[:2])
	reply, h := exchange(ctx, "udp", server, text, q)
	if reply != nil && h.Truncated {
		if whole, full := exchange(ctx, "tcp", server, text, q); whole != nil {
			reply, h = whole, full
		}
	}
	if reply != nil {
		binary.BigEndian.PutUint16(reply, q.header.ID)
	}
	return reply, h.RCode
}

// exchange sends a question and waits for its answer; nil is that none came.
func exchange(ctx context.Context, network, server string, text []byte, q *query) (reply []byte, h dnsmessage.Header) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, server)
	if err != nil {
		return nil, h
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })()
	if network == "tcp" {
		if writeStream(c, text) != nil {
			return nil, h
		}
		if reply, err = readStream(c); err != nil {
			return nil, h
		}
		h, ok := answers(reply, text, q)
		if !ok {
			return nil, h
		}
		return reply, h
	}
	if _, err := c.Write(text); err != nil {
		return nil, h
	}
	buf := make([]byte, maxPacket)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return nil, h
		}
		if h, ok := answers(buf[:n], text, q); ok {
			h.Truncated = h.Truncated || n == len(buf)
			return slices.Clone(buf[:n]), h
		}
	}
}

// answers says whether a message is the answer to this very question.
func answers(reply, text []byte, q *query) (h dnsmessage.Header, ok bool) {
	var p dnsmessage.Parser
	h, err := p.Start(reply)
	if err != nil || !h.Response || !bytes.Equal(reply[:2], text[:2]) {
		return h, false
	}
	same, err := p.Question()
	if err != nil { // some leave it out when they refuse
		return h, h.RCode != dnsmessage.RCodeSuccess
	}
	return h, same.Type == q.Type && same.Class == q.Class && strings.EqualFold(same.Name.String(), q.Question.Name.String())
}
