//go:build linux && amd64

package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// gateway is the router as every sandbox knows it.
var gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// Router is the namespace between sandboxes and the machine: one for all of mode
// NAT, whom it keeps apart, and one for each named network.
type Router struct {
	fd     int
	handle *netlink.Handle
	mtu    int          // of the machine's way to the outside
	pair   netip.Prefix // of the uplink: the machine's address, then the router's; not valid without
	pins   int          // who uses it without being a member; with Pool.routing
	gone   bool         // it has no members any more; likewise
	nft    rules
	nat    *nftables.Table
	ports  *nftables.Set // where published ports lead to

	mu       sync.Mutex
	members  map[netip.Addr][]string // of a named network, with their security groups
	groups   []engine.SecurityGroup
	firewall firewall          // of a named network
	taken    map[endpoint]bool // ports of the uplink's address
}

// newRouter makes a router: one that keeps its sandboxes apart, or of a named
// network, and that leads nowhere without an uplink.
func newRouter(m *machine, uplink, named bool) (*Router, error) {
	r := blankRouter()
	r.mtu = outsideMTU()
	if err := r.open(m, uplink, named); err != nil {
		r.close()
		return nil, fmt.Errorf("network: router: %w", err)
	}
	return r, nil
}

// blankRouter is one that nothing has been made of.
func blankRouter() *Router {
	r := &Router{fd: -1, members: map[netip.Addr][]string{}, taken: map[endpoint]bool{}}
	r.nat = &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "skerry"}
	r.ports = toPort(r.nat, "ports", 1, false)
	return r
}

func (r *Router) open(m *machine, uplink, named bool) (err error) {
	if r.fd, err = newNet(); err != nil {
		return err
	}
	if r.handle, err = netlink.NewHandleAt(netns.NsHandle(r.fd), unix.NETLINK_ROUTE); err != nil {
		return err
	}
	if err := In(r.fd, func() error {
		return errors.Join(
			os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0),
			// a sandbox cannot send under another's address
			os.WriteFile("/proc/sys/net/ipv4/conf/all/rp_filter", []byte("1"), 0),
			os.WriteFile("/proc/sys/net/ipv4/conf/default/rp_filter", []byte("1"), 0),
			noIPv6("all"), noIPv6("default"),
		)
	}); err != nil {
		return err
	}
	if _, err := address(r.handle, "lo", netip.PrefixFrom(gateway, 32)); err != nil {
		return err
	}
	if uplink {
		if r.pair, err = m.link(r); err != nil {
			return fmt.Errorf("uplink: %w", err)
		}
	}
	r.nft.netns = r.fd // nobody hangs on it yet
	return r.nft.change(func(c *nftables.Conn) error { return r.walls(c, named) })
}

// linked sets the router's end of the uplink up.
func (r *Router) linked(pair netip.Prefix) error {
	up, err := address(r.handle, "up", netip.PrefixFrom(pair.Addr().Next(), 31))
	if err != nil {
		return err
	}
	return r.handle.RouteAdd(&netlink.Route{LinkIndex: up, Gw: pair.Addr().AsSlice()})
}

// uplink is the router's address towards the machine.
func (r *Router) uplink() netip.Addr { return r.pair.Addr().Next() }

// noIPv6 keeps the router's rules, which are of IPv4, whole.
func noIPv6(conf string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// address gives a link an address and sets it up.
func address(h *netlink.Handle, name string, addrs ...netip.Prefix) (index int, err error) {
	link, err := h.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", name, err)
	}
	for _, p := range addrs {
		if err := h.AddrAdd(link, &netlink.Addr{IPNet: ipNet(p)}); err != nil {
			return 0, fmt.Errorf("give %s the address %s: %w", name, p, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return 0, fmt.Errorf("set %s up: %w", name, err)
	}
	return link.Attrs().Index, nil
}

// settle waits until a link sends, which it does a moment after its other end is
// up; what it is given before is lost, and asked for again a second later. To ask
// for the link is to bring the moment about (since Linux 6.8).
func settle(h *netlink.Handle, index int) error {
	for deadline := time.Now().Add(time.Second); ; time.Sleep(100 * time.Microsecond) {
		l, err := h.LinkByIndex(index)
		if err != nil {
			return fmt.Errorf("find a link: %w", err)
		}
		if l.Attrs().OperState == netlink.OperUp || time.Now().After(deadline) {
			return nil // the worst is that second
		}
	}
}

func single(a netip.Addr) *net.IPNet { return ipNet(netip.PrefixFrom(a, 32)) }

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// wire gives a slot's namespace an interface of a number that leads to the router.
func (r *Router) wire(s *Slot, h *netlink.Handle, number int) (l *link, err error) {
	name := fmt.Sprintf("s%d", s.number)
	if s.made > 0 {
		name = fmt.Sprintf("s%d-%d", s.number, s.made%10000)
	}
	s.made++
	l = &link{router: r, number: number}
	eth := fmt.Sprintf("eth%d", number)
	// one queue, not one for each processor: a link of this kind sends without a queue's lock
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: r.mtu, NumTxQueues: 1, NumRxQueues: 1},
		PeerName: eth, PeerNamespace: netlink.NsFd(s.Net), PeerNumTxQueues: 1, PeerNumRxQueues: 1}
	if err := r.handle.LinkAdd(veth); err != nil {
		return nil, fmt.Errorf("network: link: %w", err)
	}
	if l.eth, err = address(h, eth); err == nil {
		l.side, err = address(r.handle, name)
	}
	if err == nil {
		err = settle(h, l.eth)
	}
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	return l, nil
}

func byIndex(index int) netlink.Link {
	return &netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: index}}
}

// walls are the rules in the router.
func (r *Router) walls(c *nftables.Conn, named bool) error {
	t := c.AddTable(r.nat)
	if err := c.AddSet(r.ports, nil); err != nil {
		return err
	}
	drop := nftables.ChainPolicyDrop
	closed := func(name string, at *nftables.ChainHook) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: at,
			Priority: nftables.ChainPriorityFilter, Policy: &drop})
	}
	closed("input", nftables.ChainHookInput)
	nat := func(name string, at *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeNAT, Hooknum: at, Priority: prio})
	}
	c.AddRule(rule(t, nat("prerouting", nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest), from("up"), translate(r.ports, false)))
	c.AddRule(rule(t, nat("postrouting", nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource), to("up"), masquerade()))
	if named {
		var machine netip.Addr
		if r.pair.IsValid() {
			machine = r.pair.Addr()
		}
		return r.firewall.walls(c, machine)
	}
	forward := closed("forward", nftables.ChainHookForward)
	accept := verdict(expr.VerdictAccept)
	c.AddRule(rule(t, forward, established(), accept))
	c.AddRule(rule(t, forward, to("up"), accept))
	c.AddRule(rule(t, forward, from("up"), published(), accept))
	return nil
}

// close takes the router away with all that hangs on it, its end on the machine
// included.
func (r *Router) close() {
	r.nft.close()
	if r.handle != nil {
		r.handle.Close()
	}
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
}
