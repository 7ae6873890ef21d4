//go:build linux && amd64

package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// rules is the nftables of a namespace. Its connection stays open: to close one
// is to wait until the kernel has cleared away all that was deleted, 10 ms.
type rules struct {
	netns int // descriptor; zero is the machine's

	mu     sync.Mutex
	conn   *nftables.Conn
	closed bool // the descriptor is, or will be
}

// change sends what fill says in one step: all of it is done or nothing.
func (r *rules) change(fill func(*nftables.Conn) error) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return errors.New("nftables: the namespace has gone")
	}
	if r.conn == nil {
		options := []nftables.ConnOption{nftables.AsLasting(), nftables.WithSockOptions(buffers)}
		if r.netns > 0 {
			options = append(options, nftables.WithNetNSFd(r.netns))
		}
		if r.conn, err = nftables.New(options...); err != nil {
			r.conn = nil
			return fmt.Errorf("nftables: %w", err)
		}
	}
	if err = fill(r.conn); err == nil {
		err = r.conn.Flush()
	}
	if err != nil { // what is left unsent or unread goes with the connection
		_ = r.conn.CloseLasting()
		r.conn = nil
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}

// buffers makes room for large changes, which are one message, and their answers.
func buffers(c *netlink.Conn) error {
	const room = 8 << 20
	return errors.Join(c.SetWriteBuffer(room), c.SetReadBuffer(room))
}

func (r *rules) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.conn != nil {
		_ = r.conn.CloseLasting()
		r.conn = nil
	}
}

// What rules are put together from: each function returns a part of one, a match
// or what is done then.

// Registers of four bytes, as parts of a key that has several.
const (
	firstRegister  = 1 // by its old name, the first of four
	secondRegister = 9
	thirdRegister  = 10
)

// ctDNAT is the bit of a connection's status that says that its destination was
// translated.
const ctDNAT = 1 << 5

func rule(t *nftables.Table, c *nftables.Chain, parts ...[]expr.Any) *nftables.Rule {
	r := &nftables.Rule{Table: t, Chain: c}
	for _, p := range parts {
		r.Exprs = append(r.Exprs, p...)
	}
	return r
}

// iface compares a whole name.
func iface(key expr.MetaKey, name string) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return prefixed(key, string(b))
}

// prefixed compares the beginning of an interface's name.
func prefixed(key expr.MetaKey, prefix string) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte(prefix)}}
}

func from(name string) []expr.Any           { return iface(expr.MetaKeyIIFNAME, name) }
func to(name string) []expr.Any             { return iface(expr.MetaKeyOIFNAME, name) }
func fromAny(prefix string) []expr.Any      { return prefixed(expr.MetaKeyIIFNAME, prefix) }
func toAny(prefix string) []expr.Any        { return prefixed(expr.MetaKeyOIFNAME, prefix) }
func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }
func masquerade() []expr.Any                { return []expr.Any{&expr.Masq{}} }

// Where addresses are in the header of IPv4.
const (
	sourceAt      = 12
	destinationAt = 16
)

func header(at, register uint32) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: at, Len: 4}
}

// within compares an address of the header with a prefix.
func within(at uint32, p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{
		header(at, 1),
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func destination(p netip.Prefix) []expr.Any { return within(destinationAt, p) }

// tracked compares bits of what is known of the packet's connection.
func tracked(key expr.CtKey, bits uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: key},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4), Mask: binaryutil.NativeEndian.PutUint32(bits)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// established is of a connection that was let through before.
func established() []expr.Any {
	return tracked(expr.CtKeySTATE, expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED)
}

// published is of a connection that came to a published port.
func published() []expr.Any { return tracked(expr.CtKeySTATUS, ctDNAT) }

// own is of an address of the namespace itself.
func own(fib expr.Fib) []expr.Any {
	fib.Register, fib.ResultADDRTYPE = 1, true
	return []expr.Any{&fib, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)}}
}

// translate sends a packet to the address and port that a map has for its
// protocol and port, and its address where the map's keys have one.
func translate(m *nftables.Set, address bool) []expr.Any {
	var parts []expr.Any
	proto, port := uint32(firstRegister), uint32(secondRegister)
	if address {
		parts = append(parts, header(destinationAt, firstRegister))
		proto, port = secondRegister, thirdRegister
	}
	return append(parts,
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: proto},
		&expr.Payload{DestRegister: port, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: firstRegister, DestRegister: firstRegister, IsDestRegSet: true, SetName: m.Name, SetID: m.ID},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: firstRegister, RegProtoMin: secondRegister, Specified: true},
	)
}

// The types of the maps of translate.
func toPort(t *nftables.Table, name string, id uint32, address bool) *nftables.Set {
	key := []nftables.SetDatatype{nftables.TypeInetProto, nftables.TypeInetService}
	if address {
		key = append([]nftables.SetDatatype{nftables.TypeIPAddr}, key...)
	}
	return &nftables.Set{Table: t, Name: name, ID: id, IsMap: true, KeyType: nftables.MustConcatSetType(key...),
		DataType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}
}

// endpoint is a place that packets go to.
type endpoint struct {
	proto uint8 // unix.IPPROTO_TCP or UDP
	at    netip.AddrPort
}

func bigEndian16(n uint16) []byte { return binary.BigEndian.AppendUint16(nil, n) }

// padded is a number of a key, as the registers have it.
func padded(b ...byte) []byte { return append(b, make([]byte, 4-len(b))...) }

// leads is the element of a map of toPort.
func leads(from endpoint, address bool, to netip.AddrPort) nftables.SetElement {
	var e nftables.SetElement
	if address {
		e.Key = from.at.Addr().AsSlice()
	}
	e.Key = append(e.Key, padded(from.proto)...)
	e.Key = append(e.Key, padded(bigEndian16(from.at.Port())...)...)
	e.Val = append(to.Addr().AsSlice(), padded(bigEndian16(to.Port())...)...)
	return e
}
