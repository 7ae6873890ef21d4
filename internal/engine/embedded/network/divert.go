//go:build linux && amd64

package network

import (
	"fmt"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Diversion leads what is sent inside to a place there to another port of its
// address.
type Diversion struct {
	Stream bool // TCP, or UDP
	From   netip.AddrPort
	To     uint16
}

// insideTable is the name of a sandbox's own rules.
const insideTable = "skerry"

// Divert makes the diversions of a sandbox, in place of those that it has. They
// end with its namespace: such a slot is not given to others.
func (s *Slot) Divert(all []Diversion) error {
	s.diverting.Lock()
	defer s.diverting.Unlock()
	c, err := nftables.New(nftables.WithNetNSFd(s.Net))
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: insideTable}
	if s.diverted {
		c.DelTable(t)
	}
	c.AddTable(t)
	chain := c.AddChain(&nftables.Chain{Name: "inside", Table: t, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
	for _, d := range all {
		c.AddRule(rule(t, chain, destination(netip.PrefixFrom(d.From.Addr(), 32)), d.match(), d.lead()))
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("network: divert: %w", err)
	}
	s.diverted = true
	return nil
}

// match is of the packets to its port.
func (d Diversion) match() []expr.Any {
	proto := byte(unix.IPPROTO_UDP)
	if d.Stream {
		proto = unix.IPPROTO_TCP
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: bigEndian16(d.From.Port())},
	}
}

// lead changes the destination.
func (d Diversion) lead() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: firstRegister, Data: d.From.Addr().AsSlice()},
		&expr.Immediate{Register: secondRegister, Data: padded(bigEndian16(d.To)...)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: firstRegister, RegProtoMin: secondRegister, Specified: true},
	}
}

// diversions is what a slot remembers of its own.
type diversions struct {
	diverting sync.Mutex
	diverted  bool
}
