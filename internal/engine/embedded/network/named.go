//go:build linux && amd64

package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// Join returns a slot for that account with an address on each network of a
// container, which are made where it has no other member. Errors: engine.ErrExists,
// if an address is another's.
func (p *Pool) Join(account string, n engine.Network) (*Slot, error) {
	all := n.Links()
	first := all[0]
	r, err := p.enter(first)
	if err != nil {
		return nil, err
	}
	s, err := p.take(account, kind{Named, first.Name})
	if err != nil {
		p.exit(first.Name, r, first.Address, nil)
		return nil, err
	}
	l := s.links[0]
	l.network, l.address, l.subnet, l.groups = first.Name, first.Address, first.Subnet, first.Groups
	if err := s.plug(l); err != nil {
		p.exit(first.Name, r, first.Address, nil)
		p.mu.Lock()
		p.end(s)
		p.mu.Unlock()
		return nil, err
	}
	if len(all) > 1 {
		if err := p.Relink(s, all); err != nil {
			p.Give(s, false)
			return nil, err
		}
	}
	return s, nil
}

// plug gives a slot its address on a network, behind the walls of its groups.
func (s *Slot) plug(l *link) error {
	if err := l.protect(); err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(s.Net), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer h.Close()
	return l.place(h)
}

// errGone says that a network has gone while something was made for it.
var errGone = errors.New("network: it has gone")

// makeNamed makes a slot that is wired to its network, with no address yet: the
// link is most of what a member costs.
func (p *Pool) makeNamed(k kind) (*Slot, error) {
	p.routing.Lock()
	r := p.named[k.network]
	if r == nil {
		p.routing.Unlock()
		return nil, errGone
	}
	r.pins++
	p.routing.Unlock()
	defer p.unpin(r)
	s, err := p.fetch(kind{mode: None})
	if err != nil {
		return nil, err
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(s.Net), unix.NETLINK_ROUTE)
	var l *link
	if err == nil {
		l, err = r.wire(s, h, 0)
		h.Close()
	}
	if err != nil {
		p.mu.Lock()
		p.end(s)
		p.mu.Unlock()
		return nil, err
	}
	s.kind, s.links = k, []*link{l}
	return s, nil
}

// unpin lets go of a router, which ends if that was awaited.
func (p *Pool) unpin(r *Router) {
	p.routing.Lock()
	defer p.routing.Unlock()
	r.pins--
	if r.gone && r.pins == 0 {
		r.close()
	}
}

// enter takes an address of a network.
func (p *Pool) enter(n engine.Link) (*Router, error) {
	p.routing.Lock()
	defer p.routing.Unlock()
	r := p.named[n.Name]
	if r == nil {
		m, err := p.outside()
		if err != nil {
			return nil, err
		}
		if r, err = newRouter(m, !n.Internal, true); err != nil {
			return nil, err
		}
		r.groups = p.groups[n.Name]
		p.named[n.Name] = r
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.members[n.Address]; taken {
		return nil, fmt.Errorf("engine: the address %s on the network %s: %w", n.Address, n.Name, engine.ErrExists)
	}
	r.members[n.Address] = n.Groups
	return r, nil
}

// exit gives an address back, and ends the network with the last one. The slot
// that had it is kept for the network, if there is one to keep.
func (p *Pool) exit(name string, r *Router, addr netip.Addr, keep *Slot) {
	p.routing.Lock()
	defer p.routing.Unlock()
	r.mu.Lock()
	groups := r.members[addr]
	delete(r.members, addr)
	left := len(r.members)
	if left > 0 && len(groups) > 0 {
		if err := r.nft.change(func(c *nftables.Conn) error { return r.firewall.dismiss(c, addr, groups) }); err != nil {
			_ = r.refresh(r.groups) // it was not let in yet
		}
	}
	r.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if keep != nil {
		p.give(keep, left > 0)
	}
	if left > 0 || p.named[name] != r {
		return
	}
	delete(p.named, name)
	k := kind{Named, name}
	for _, s := range p.fresh[k] {
		p.end(s)
	}
	delete(p.fresh, k)
	for _, s := range slices.Clone(p.idle) {
		if s.kind == k {
			p.unuse(s)
		}
	}
	if r.gone = true; r.pins == 0 {
		p.wait.Go(r.close)
	}
}

// leave takes a slot off its network.
func (p *Pool) leave(s *Slot, clean bool) {
	l := s.links[0]
	if err := s.displace(l, clean); err != nil {
		fmt.Fprintln(os.Stderr, err)
		clean = false
	}
	addr := l.address
	l.address = netip.Addr{}
	if clean {
		p.exit(s.kind.network, l.router, addr, s)
		return
	}
	p.exit(s.kind.network, l.router, addr, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(s)
}
