//go:build linux && amd64

package network

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// Join returns a slot for that account with an address on a named network, which
// is made if it has no other member. Errors: engine.ErrExists, if the address is
// another's.
func (p *Pool) Join(account string, n engine.Network) (*Slot, error) {
	r, err := p.enter(n)
	if err != nil {
		return nil, err
	}
	s, err := p.Take(account, None)
	if err != nil {
		p.exit(n.Name, r, n.Address)
		return nil, err
	}
	s.mode, s.router, s.network, s.Address = Named, r, n.Name, n.Address
	if err := s.plug(n.Groups); err != nil {
		p.Give(s, false)
		return nil, err
	}
	return s, nil
}

// plug hangs a slot on its router, behind the walls of its groups.
func (s *Slot) plug(groups []string) error {
	if len(groups) > 0 {
		s.router.mu.Lock()
		err := s.router.protect(s.Address)
		s.router.mu.Unlock()
		if err != nil {
			return err
		}
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(s.Net), unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	defer h.Close()
	return s.router.attach(s.number, s.Net, h, s.Address)
}

// enter takes an address of a network.
func (p *Pool) enter(n engine.Network) (*Router, error) {
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

// exit gives an address back, and ends the network with the last one.
func (p *Pool) exit(name string, r *Router, addr netip.Addr) {
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
	if left == 0 && p.named[name] == r {
		delete(p.named, name)
		p.wait.Go(r.close)
	}
}

// leave takes a slot off its network.
func (p *Pool) leave(s *Slot) {
	if err := s.router.detach(s.Address); err != nil && !errors.Is(err, os.ErrClosed) {
		fmt.Fprintln(os.Stderr, err)
	}
	p.exit(s.network, s.router, s.Address)
}
