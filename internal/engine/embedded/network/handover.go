//go:build linux && amd64

package network

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// PoolState is a pool as it is handed to another program that goes on with it in
// the same process. Descriptors keep their numbers. Slots that nobody has taken are
// not in it: they end with the program that has made them.
type PoolState struct {
	Next    int
	Freed   []int
	Machine *MachineState
	Router  *RouterState
	Named   map[string]*RouterState
}

// MachineState is what the engine has on the machine, likewise.
type MachineState struct {
	Links int
	Port  uint16
}

// RouterState is a router likewise.
type RouterState struct {
	FD, MTU  int
	Pair     netip.Prefix
	Members  map[netip.Addr][]string
	Groups   []engine.SecurityGroup
	Firewall *FirewallState
}

// FirewallState is a named network's firewall likewise: the names of what was made.
type FirewallState struct {
	Count, Number int
	Members       map[string]string // by group
	Chains        []string
	Shared        map[string]int
}

// SlotState is a slot likewise.
type SlotState struct {
	User, Net int
	Base      uint32
	Mode      Mode
	Network   string // of Mode
	Number    int
	Account   string
	Diverted  bool
	Links     []LinkState
	Made      int
	Own       bool
}

// LinkState is one of a slot's links. Without a network it is one of mode NAT.
type LinkState struct {
	Number, Eth, Side int
	Network           string
	Address           netip.Addr
	Subnet            netip.Prefix
	Groups            []string
}

// PublishedState are published ports likewise.
type PublishedState struct {
	Ports []engine.Port
	Gate  int  // among the slot's links; -1: none of them
	Open  bool // or the slot's networks lead nowhere
	Leads []LeadState
}

// LeadState is one of them.
type LeadState struct {
	Socket               int
	Protocol             uint8
	Outer, Middle, Inner netip.AddrPort
	Everywhere           bool
}

// Hold returns once nothing is being made ahead, and nothing will be until Go.
func (p *Pool) Hold() {
	p.mu.Lock()
	p.held = true
	p.mu.Unlock()
	p.wait.Wait()
}

// Go ends Hold.
func (p *Pool) Go() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = false
}

// State describes the pool, which is held and which nobody uses meanwhile. keep is
// told its descriptors.
func (p *Pool) State(keep func(fds ...int)) PoolState {
	s := PoolState{Next: p.next, Freed: slices.Clone(p.freed), Named: map[string]*RouterState{}}
	for _, list := range p.fresh {
		for _, slot := range list {
			s.Freed = append(s.Freed, slot.number)
		}
	}
	for _, slot := range p.idle {
		s.Freed = append(s.Freed, slot.number)
	}
	if m := p.machine; m != nil {
		s.Machine = &MachineState{m.links, m.ports.next}
	}
	if p.router != nil {
		s.Router = p.router.state(keep)
	}
	for name, r := range p.named {
		s.Named[name] = r.state(keep)
		f := &r.firewall
		fs := &FirewallState{Count: f.count, Number: f.now.number, Members: map[string]string{}, Shared: f.now.shared}
		for id, set := range f.now.members {
			fs.Members[id] = set.Name
		}
		for _, ch := range f.now.chains {
			fs.Chains = append(fs.Chains, ch.Name)
		}
		s.Named[name].Firewall = fs
	}
	return s
}

func (r *Router) state(keep func(fds ...int)) *RouterState {
	keep(r.fd)
	return &RouterState{FD: r.fd, MTU: r.mtu, Pair: r.pair, Members: r.members, Groups: r.groups}
}

// TakeOver makes an empty pool the one of a description. Nothing of the machine is
// changed. The security groups of networks that are not there are the caller's to
// tell before.
func (p *Pool) TakeOver(s PoolState) (err error) {
	p.next, p.freed = s.Next, s.Freed
	if s.Machine != nil {
		p.machine = describe(p.name)
		p.machine.links, p.machine.ports.next = s.Machine.Links, s.Machine.Port
	}
	if s.Router != nil {
		if p.router, err = takeOverRouter(s.Router); err != nil {
			return err
		}
	}
	for name, rs := range s.Named {
		if p.named[name], err = takeOverRouter(rs); err != nil {
			return err
		}
	}
	return nil
}

func takeOverRouter(s *RouterState) (r *Router, err error) {
	r = blankRouter()
	r.fd, r.nft.netns, r.mtu, r.pair, r.groups = s.FD, s.FD, s.MTU, s.Pair, s.Groups
	for addr, groups := range s.Members {
		r.members[addr] = groups
	}
	if r.handle, err = netlink.NewHandleAt(netns.NsHandle(r.fd), unix.NETLINK_ROUTE); err != nil {
		return nil, fmt.Errorf("network: router: %w", err)
	}
	// the rules are there; to tell them to nobody is to know what they are called
	if err := r.walls(new(nftables.Conn), s.Firewall != nil); err != nil {
		return nil, fmt.Errorf("network: router: %w", err)
	}
	if s.Firewall == nil {
		return r, nil
	}
	f := &r.firewall
	f.count = s.Firewall.Count
	f.now = &generation{number: s.Firewall.Number, members: map[string]*nftables.Set{}, shared: s.Firewall.Shared}
	for id, name := range s.Firewall.Members {
		f.now.members[id] = f.set(name)
	}
	for _, name := range s.Firewall.Chains {
		f.now.chains = append(f.now.chains, &nftables.Chain{Name: name, Table: f.table})
	}
	return r, nil
}

// State describes the slot.
func (s *Slot) State(keep func(fds ...int)) SlotState {
	s.mu.Lock()
	defer s.mu.Unlock()
	keep(s.User, s.Net)
	state := SlotState{User: s.User, Net: s.Net, Base: s.Base, Mode: s.kind.mode, Network: s.kind.network, Number: s.number,
		Account: s.account, Diverted: s.diverted, Made: s.made, Own: s.own}
	for _, l := range s.links {
		state.Links = append(state.Links, LinkState{l.number, l.eth, l.side, l.network, l.address, l.subnet, l.groups})
	}
	return state
}

// TakeOverSlot returns the slot of a description, which has been taken.
func (p *Pool) TakeOverSlot(s SlotState) (*Slot, error) {
	slot := &Slot{User: s.User, Net: s.Net, Base: s.Base, kind: kind{s.Mode, s.Network}, number: s.Number, account: s.Account,
		made: s.Made, own: s.Own}
	slot.diverted = s.Diverted
	for _, l := range s.Links {
		r := p.router
		if l.Network != "" {
			r = p.named[l.Network]
		}
		if r == nil {
			return nil, fmt.Errorf("network: no router of %q", l.Network)
		}
		slot.links = append(slot.links, &link{r, l.Number, l.Eth, l.Side, l.Network, l.Address, l.Subnet, l.Groups})
	}
	return slot, nil
}

// State describes the ports of a slot; nil is none.
func (b *Published) State(s *Slot, keep func(fds ...int)) *PublishedState {
	if b == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	state := &PublishedState{Ports: b.Ports, Gate: slices.Index(s.links, b.gate), Open: b.router != nil}
	for _, l := range b.leads {
		keep(l.socket)
		state.Leads = append(state.Leads, LeadState{l.socket, l.outer.proto, l.outer.at, l.middle.at, l.inner, l.everywhere})
	}
	return state
}

// TakeOverPublished returns the ports of a slot that a description has; nil is none.
func (p *Pool) TakeOverPublished(slot *Slot, s *PublishedState) *Published {
	if s == nil {
		return nil
	}
	b := &Published{Ports: s.Ports}
	if s.Gate >= 0 {
		b.gate = slot.links[s.Gate]
	}
	if !s.Open || b.gate == nil {
		return b
	}
	b.machine, b.router = p.machine, b.gate.router
	for _, l := range s.Leads {
		one := lead{l.Socket, endpoint{l.Protocol, l.Outer}, endpoint{l.Protocol, l.Middle}, l.Inner, l.Everywhere}
		b.router.taken[one.middle] = true
		b.leads = append(b.leads, one)
	}
	return b
}

// Container tells whether an id of the machine's users is one of the ranges from
// which containers have theirs.
func Container(id uint32) bool { return id >= firstID && id < firstID+ranges*IDs }
