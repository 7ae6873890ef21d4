//go:build linux && amd64

package network

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// The machine's ports of which one is chosen when none is asked for: the kernel's
// own range.
const (
	firstFree = 32768
	lastFree  = 60999
)

// ports chooses ports.
type ports struct {
	mu   sync.Mutex
	next uint16
}

// choose returns a port to try.
func (p *ports) choose() uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.next < firstFree || p.next > lastFree {
		p.next = firstFree + uint16(rand.IntN(lastFree-firstFree+1))
	}
	n := p.next
	p.next++
	return n
}

// Published are ports of the machine that lead to a slot.
type Published struct {
	Ports []engine.Port // with the machine's ports that were chosen

	machine *machine
	router  *Router // nil: there are none
	gate    *link
	leads   []lead
}

// Astray says that the ports do not lead to a slot by its gate, which is another by
// now.
func (b *Published) Astray(s *Slot) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gate() != b.gate
}

// lead is one of them: from the machine's port over one of the router's to the
// slot's.
type lead struct {
	socket        int // keeps the machine's programs off the port
	outer, middle endpoint
	inner         netip.AddrPort
	everywhere    bool // at all of the machine's addresses
}

// Publish lets ports of the machine lead to a slot by its gate, until Close; none of
// a slot whose networks lead nowhere. Errors: engine.ErrPort, engine.ErrInvalid.
func (p *Pool) Publish(s *Slot, ports []engine.Port) (b *Published, err error) {
	s.mu.Lock()
	gate := s.gate()
	s.mu.Unlock()
	b = &Published{gate: gate}
	if gate == nil || !gate.router.pair.IsValid() {
		return b, nil
	}
	b.machine, b.router = p.machine, gate.router
	for _, want := range ports {
		if err := b.add(gate.address, want); err != nil {
			b.release()
			return nil, err
		}
	}
	if err := b.write((*nftables.Conn).SetAddElements); err != nil {
		b.Close()
		return nil, fmt.Errorf("network: publish: %w", err)
	}
	if err := b.redirect(); err != nil {
		b.Close()
		return nil, err
	}
	return b, nil
}

// redirect makes those who have been sending to a UDP port start anew. The kernel
// takes what they send for one connection as long as they go on, and would lead it
// where it has been going: to nobody, or to a container that has ended.
func (b *Published) redirect() error {
	for _, l := range b.leads {
		if l.outer.proto != unix.IPPROTO_UDP {
			continue
		}
		places := []*net.IPNet{single(l.outer.at.Addr())}
		if l.everywhere {
			all, err := addresses()
			if err != nil {
				return fmt.Errorf("network: redirect: %w", err)
			}
			places = nil
			for _, a := range all {
				if !a.IP.IsLoopback() { // of whose whole range the machine is
					a.Mask = net.CIDRMask(32, 32)
				}
				places = append(places, a.IPNet)
			}
		}
		err := forget(0, l.outer.at.Port(), places...)
		if err == nil {
			err = forget(b.router.fd, l.middle.at.Port(), single(l.middle.at.Addr()))
		}
		if err != nil {
			return fmt.Errorf("network: redirect port %d: %w", l.outer.at.Port(), err)
		}
	}
	return nil
}

// forget drops what a namespace (zero is the machine's) remembers of packets of UDP
// to a port at these places.
func forget(netns int, port uint16, places ...*net.IPNet) error {
	var filters []netlink.CustomConntrackFilter
	for _, place := range places {
		f := &netlink.ConntrackFilter{}
		if err := errors.Join(f.AddProtocol(unix.IPPROTO_UDP), f.AddPort(netlink.ConntrackOrigDstPort, port), f.AddIPNet(netlink.ConntrackOrigDstIP, place)); err != nil {
			return err
		}
		filters = append(filters, f)
	}
	h, err := handle(netns, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer h.Close()
	_, err = h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filters...)
	return err
}

func handle(at, family int) (*netlink.Handle, error) {
	if at == 0 {
		return netlink.NewHandle(family)
	}
	return netlink.NewHandleAt(netns.NsHandle(at), family)
}

// Close closes the ports. Connections that are open go on.
func (b *Published) Close() {
	if b.router == nil {
		return
	}
	// one that is not in the map fails the whole, which is to be gone anyway; and the
	// router may have gone, when the slot has left its network
	_ = b.write((*nftables.Conn).SetDeleteElements)
	b.release()
}

func (b *Published) release() {
	b.router.mu.Lock()
	defer b.router.mu.Unlock()
	for _, l := range b.leads {
		delete(b.router.taken, l.middle)
		unix.Close(l.socket)
	}
	b.leads = nil
}

// add takes a port on the machine and one of the router.
func (b *Published) add(to netip.Addr, want engine.Port) error {
	l := lead{everywhere: !want.Address.IsValid() || want.Address.IsUnspecified(), inner: netip.AddrPortFrom(to, want.Container)}
	at := want.Address
	if l.everywhere {
		at = netip.IPv4Unspecified()
	}
	proto := uint8(unix.IPPROTO_TCP)
	if want.Protocol == "udp" {
		proto = unix.IPPROTO_UDP
	}
	var err error
	if want.Host != 0 {
		l.outer = endpoint{proto, netip.AddrPortFrom(at, want.Host)}
		l.socket, err = keep(l.outer)
	} else {
		for range lastFree - firstFree + 1 {
			l.outer = endpoint{proto, netip.AddrPortFrom(at, b.machine.ports.choose())}
			if l.socket, err = keep(l.outer); !errors.Is(err, engine.ErrPort) {
				break
			}
		}
	}
	if err != nil {
		return err
	}
	l.middle = b.router.port(proto, l.outer.at.Port())
	b.leads = append(b.leads, l)
	want.Host = l.outer.at.Port()
	b.Ports = append(b.Ports, want)
	return nil
}

// port takes a port of the router's uplink: the same number as on the machine, if
// another address of the machine has not got it.
func (r *Router) port(proto uint8, like uint16) endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		e := endpoint{proto, netip.AddrPortFrom(r.uplink(), like)}
		if like != 0 && !r.taken[e] {
			r.taken[e] = true
			return e
		}
		like++
	}
}

// keep binds a port of the machine. Nobody can take it then, and nobody who
// reaches the socket would be served: packets to it go to the container.
func keep(e endpoint) (fd int, err error) {
	typ := unix.SOCK_STREAM
	if e.proto == unix.IPPROTO_UDP {
		typ = unix.SOCK_DGRAM
	}
	if fd, err = unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return -1, fmt.Errorf("network: %w", err)
	}
	if typ == unix.SOCK_STREAM { // what an earlier server's connections have left is no hindrance
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(e.at.Port()), Addr: e.at.Addr().As4()})
	}
	if err == nil && typ == unix.SOCK_STREAM {
		err = unix.Listen(fd, 0) // a bound one that does not listen could be taken
	}
	if err == nil {
		return fd, nil
	}
	unix.Close(fd)
	if err == unix.EADDRINUSE {
		return -1, fmt.Errorf("engine: Bind for %s failed: %w", e.at, engine.ErrPort)
	}
	return -1, fmt.Errorf("engine: bind for %s: %w: %w", e.at, engine.ErrInvalid, err)
}

// write adds or deletes the elements of the maps, in the router first.
func (b *Published) write(change func(*nftables.Conn, *nftables.Set, []nftables.SetElement) error) error {
	var inner, everywhere, single []nftables.SetElement
	for _, l := range b.leads {
		inner = append(inner, leads(l.middle, false, l.inner))
		if l.everywhere {
			everywhere = append(everywhere, leads(l.outer, false, l.middle.at))
		} else {
			single = append(single, leads(l.outer, true, l.middle.at))
		}
	}
	err := b.router.nft.change(func(c *nftables.Conn) error { return change(c, b.router.ports, inner) })
	return errors.Join(err, b.machine.nft.change(func(c *nftables.Conn) (err error) {
		if len(everywhere) > 0 {
			err = change(c, b.machine.everywhere, everywhere)
		}
		if len(single) > 0 {
			err = errors.Join(err, change(c, b.machine.single, single))
		}
		return err
	}))
}
