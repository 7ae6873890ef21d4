//go:build linux && amd64

package network

import (
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// link is a slot's way to a router: an interface with an address.
type link struct {
	router    *Router
	number    int // of the interface: 0 is eth0
	eth, side int // its ends: the slot's own, and the router's
	// on a named network
	network string
	address netip.Addr
	subnet  netip.Prefix // of whoever is there; not valid where all else is there
	groups  []string
}

// gate is the link by which a slot reaches the outside, and by which its ports are
// published: the first to a network that leads there, else the first; nil without.
// s.mu is held, or nobody else has the slot.
func (s *Slot) gate() *link {
	for _, l := range s.links {
		if l.router.pair.IsValid() {
			return l
		}
	}
	if len(s.links) > 0 {
		return s.links[0]
	}
	return nil
}

// Addresses are a slot's, that by which it is known outside first.
func (s *Slot) Addresses() (all []netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.gate()
	if g != nil {
		all = append(all, g.address)
	}
	for _, l := range s.links {
		if l != g {
			all = append(all, l.address)
		}
	}
	return all
}

// Address is the first of them; not valid without.
func (s *Slot) Address() netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if g := s.gate(); g != nil {
		return g.address
	}
	return netip.Addr{}
}

// Relink makes a slot's networks these, in this order, and leaves those alone that
// it has already. The slot is no other's afterwards. After an error it has those
// that it had. Errors: engine.ErrExists, if an address is another's.
func (p *Pool) Relink(s *Slot, want []engine.Link) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own = true
	h, err := netlink.NewHandleAt(netns.NsHandle(s.Net), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer h.Close()
	old := s.links
	var fresh []*link
	s.links = nil
	for _, n := range want {
		i := slices.IndexFunc(old, func(l *link) bool { return l.network == n.Name && l.address == n.Address })
		if i >= 0 {
			old[i].subnet = n.Subnet
			s.links = append(s.links, old[i])
			continue
		}
		l, err := p.connect(s, h, n, slices.Concat(old, fresh))
		if err != nil {
			p.undo(s, h, old, fresh)
			return err
		}
		s.links, fresh = append(s.links, l), append(fresh, l)
	}
	if err := s.arrange(h); err != nil {
		p.undo(s, h, old, fresh)
		return err
	}
	for _, l := range old {
		if !slices.Contains(s.links, l) {
			p.disconnect(l)
		}
	}
	return nil
}

// undo gives a slot its old links back, in place of new ones.
func (p *Pool) undo(s *Slot, h *netlink.Handle, old, fresh []*link) {
	for _, l := range fresh {
		p.disconnect(l)
	}
	s.links = old
	if err := s.arrange(h); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// connect gives a slot one more link; with are those that it has.
func (p *Pool) connect(s *Slot, h *netlink.Handle, n engine.Link, with []*link) (*link, error) {
	r, err := p.enter(n)
	if err != nil {
		return nil, err
	}
	number := 0
	for slices.ContainsFunc(with, func(l *link) bool { return l.number == number }) {
		number++
	}
	l, err := r.wire(s, h, number)
	if err != nil {
		p.exit(n.Name, r, n.Address, nil)
		return nil, err
	}
	l.network, l.address, l.subnet, l.groups = n.Name, n.Address, n.Subnet, n.Groups
	if err = l.protect(); err == nil {
		err = l.reach(h)
	}
	if err != nil {
		p.disconnect(l)
		return nil, err
	}
	return l, nil
}

// disconnect takes a link away, and the address with it.
func (p *Pool) disconnect(l *link) {
	if err := l.router.handle.LinkDel(byIndex(l.side)); err != nil {
		fmt.Fprintf(os.Stderr, "network: take %s off: %v\n", l.address, err)
	}
	p.exit(l.network, l.router, l.address, nil)
}

// leaveAll takes a slot off all its networks and ends it.
func (p *Pool) leaveAll(s *Slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if err := l.router.handle.RouteDel(l.towards()); err != nil {
			fmt.Fprintf(os.Stderr, "network: take %s off: %v\n", l.address, err)
		}
		p.exit(l.network, l.router, l.address, nil)
	}
	s.links = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(s)
}

// arrange leads what a slot sends to the networks that it is on, and all else to
// the outside.
func (s *Slot) arrange(h *netlink.Handle) error {
	for _, l := range s.links {
		if !l.subnet.IsValid() {
			continue
		}
		to := &netlink.Route{LinkIndex: l.eth, Dst: ipNet(l.subnet), Gw: gateway.AsSlice(), Src: l.address.AsSlice()}
		to.SetFlag(netlink.FLAG_ONLINK)
		if err := h.RouteReplace(to); err != nil {
			return fmt.Errorf("network: route to %s: %w", l.subnet, err)
		}
	}
	g := s.gate()
	if g == nil {
		return nil
	}
	out := &netlink.Route{LinkIndex: g.eth, Gw: gateway.AsSlice(), Src: g.address.AsSlice()}
	out.SetFlag(netlink.FLAG_ONLINK)
	if err := h.RouteReplace(out); err != nil {
		return fmt.Errorf("network: default route of %s: %w", g.address, err)
	}
	return nil
}

// place gives a link of a slot its address, and the slot the routes of one that has
// no other.
func (l *link) place(h *netlink.Handle) error {
	if err := l.reach(h); err != nil {
		return err
	}
	err := h.RouteAdd(&netlink.Route{LinkIndex: l.eth, Dst: single(gateway), Scope: netlink.SCOPE_LINK})
	if err == nil {
		err = h.RouteAdd(&netlink.Route{LinkIndex: l.eth, Gw: gateway.AsSlice(), Src: l.address.AsSlice()})
	}
	if err != nil {
		return fmt.Errorf("network: routes of %s: %w", l.address, err)
	}
	return nil
}

// reach gives a link its address, at both ends.
func (l *link) reach(h *netlink.Handle) error {
	err := h.AddrAdd(byIndex(l.eth), &netlink.Addr{IPNet: single(l.address)})
	if err == nil {
		err = l.router.handle.RouteAdd(l.towards())
	}
	if err != nil {
		return fmt.Errorf("network: address and route of %s: %w", l.address, err)
	}
	return nil
}

// displace takes the address and routes of a slot's only link away: from the
// router, and from the slot, if that is to be used again.
func (s *Slot) displace(l *link, again bool) error {
	if err := l.router.handle.RouteDel(l.towards()); err != nil {
		return fmt.Errorf("network: take %s off: %w", l.address, err)
	}
	if !again {
		return nil
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(s.Net), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer h.Close()
	// with its only address a link loses its routes
	if err := h.AddrDel(byIndex(l.eth), &netlink.Addr{IPNet: single(l.address)}); err != nil {
		return fmt.Errorf("network: take %s off: %w", l.address, err)
	}
	return nil
}

// towards is the router's route to a link's slot.
func (l *link) towards() *netlink.Route {
	return &netlink.Route{LinkIndex: l.side, Dst: single(l.address), Scope: netlink.SCOPE_LINK}
}

// protect puts the groups of a link into force.
func (l *link) protect() error {
	if len(l.groups) == 0 {
		return nil
	}
	l.router.mu.Lock()
	defer l.router.mu.Unlock()
	return l.router.protect(l.address)
}
