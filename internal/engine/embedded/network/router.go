//go:build linux && amd64

package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// gateway is the router as every sandbox knows it.
var gateway = netip.AddrFrom4([4]byte{169, 254, 1, 1})

// Router is the namespace between the sandboxes and the machine.
type Router struct {
	name   string // of the interface on the machine and of the nftables table
	fd     int
	handle *netlink.Handle
	mtu    int // of the machine's way to the outside
}

// LinkName is the name that an engine's interface on the machine has, and its
// nftables table.
func LinkName(engine string) string { return fmt.Sprintf("sk%08x", hash(engine)) }

func hash(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}

// NewRouter makes the router of an engine of that name, and takes away what an
// earlier one has left behind.
func NewRouter(name string) (*Router, error) {
	r := &Router{name: LinkName(name), fd: -1}
	r.sweep()
	if err := r.open(hash(name)); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Router) open(seed uint32) (err error) {
	if r.fd, err = newNet(); err != nil {
		return err
	}
	if r.handle, err = netlink.NewHandleAt(netns.NsHandle(r.fd), unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("network: router: %w", err)
	}
	pair, err := r.uplink(seed)
	if err != nil {
		return fmt.Errorf("network: uplink: %w", err)
	}
	if err := r.rules(pair); err != nil {
		return fmt.Errorf("network: nftables: %w", err)
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
		return fmt.Errorf("network: router: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("network: let this machine forward: %w", err)
	}
	return nil
}

// noIPv6 keeps the router's rules, which are of IPv4, whole.
func noIPv6(conf string) error {
	err := os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/disable_ipv6", []byte("1"), 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// outsideMTU is the packet size of the machine's default route.
func outsideMTU() int {
	routes, err := netlink.RouteGet(net.IPv4(192, 0, 2, 1))
	if err == nil && len(routes) > 0 {
		if link, err := netlink.LinkByIndex(routes[0].LinkIndex); err == nil && link.Attrs().MTU >= 576 {
			return min(link.Attrs().MTU, 9000)
		}
	}
	return 1500
}

// uplink joins router and machine by a veth with a pair of link-local
// addresses that the machine does not use yet; the machine has the even one.
func (r *Router) uplink(seed uint32) (netip.Prefix, error) {
	var none netip.Prefix
	used, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return none, err
	}
	pair := none
	for i := range uint32(1 << 15) {
		n := (seed + i) % (1 << 15) * 2
		if n>>8 < 2 || n>>8 >= 160 && n>>8 < 180 || n>>8 > 253 {
			continue // the first and last are reserved, 169.254.169.254 and its like are well known
		}
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, byte(n >> 8), byte(n)}), 31)
		free := true
		for _, a := range used {
			ip, _ := netip.AddrFromSlice(a.IP.To4())
			free = free && !p.Contains(ip)
		}
		if free {
			pair = p
			break
		}
	}
	r.mtu = outsideMTU()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: r.name, MTU: r.mtu}, PeerName: "up", PeerNamespace: netlink.NsFd(r.fd)}
	if err := netlink.LinkAdd(veth); err != nil {
		return none, err
	}
	machine, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return none, err
	}
	defer machine.Close()
	if _, err := address(machine, r.name, pair); err != nil {
		return none, err
	}
	up, err := address(r.handle, "up", netip.PrefixFrom(pair.Addr().Next(), 31))
	if err != nil {
		return none, err
	}
	if _, err := address(r.handle, "lo", netip.PrefixFrom(gateway, 32)); err != nil {
		return none, err
	}
	return pair, r.handle.RouteAdd(&netlink.Route{LinkIndex: up, Gw: pair.Addr().AsSlice()})
}

// address gives a link an address and sets it up.
func address(h *netlink.Handle, name string, addrs ...netip.Prefix) (index int, err error) {
	link, err := h.LinkByName(name)
	if err != nil {
		return 0, fmt.Errorf("find %s: %w", name, err)
	}
	for _, p := range addrs {
		n := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := h.AddrAdd(link, &netlink.Addr{IPNet: n}); err != nil {
			return 0, fmt.Errorf("give %s the address %s: %w", name, p, err)
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return 0, fmt.Errorf("set %s up: %w", name, err)
	}
	return link.Attrs().Index, nil
}

// attach gives a sandbox's namespace an eth0 with an address, routed.
func (r *Router) attach(n, netfd int, h *netlink.Handle, addr netip.Addr) error {
	name := fmt.Sprintf("s%d", n)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: r.mtu}, PeerName: "eth0", PeerNamespace: netlink.NsFd(netfd)}
	if err := r.handle.LinkAdd(veth); err != nil {
		return fmt.Errorf("network: link: %w", err)
	}
	eth, err := address(h, "eth0", netip.PrefixFrom(addr, 32))
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	side, err := address(r.handle, name)
	if err != nil {
		return fmt.Errorf("network: %w", err)
	}
	one := func(a netip.Addr) *net.IPNet { return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)} }
	err = errors.Join(
		r.handle.RouteAdd(&netlink.Route{LinkIndex: side, Dst: one(addr), Scope: netlink.SCOPE_LINK}),
		h.RouteAdd(&netlink.Route{LinkIndex: eth, Dst: one(gateway), Scope: netlink.SCOPE_LINK}),
		h.RouteAdd(&netlink.Route{LinkIndex: eth, Gw: gateway.AsSlice(), Src: addr.AsSlice()}),
	)
	if err != nil {
		return fmt.Errorf("network: routes: %w", err)
	}
	return nil
}

// rules are the walls: on the machine and in the router.
func (r *Router) rules(pair netip.Prefix) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: r.name})
	hook := func(name string, kind nftables.ChainType, at *nftables.ChainHook, prio *nftables.ChainPriority) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: at, Priority: prio})
	}
	early := nftables.ChainPriorityRef(-10)
	input := hook("input", nftables.ChainTypeFilter, nftables.ChainHookInput, early)
	c.AddRule(rule(t, input, from(r.name), verdict(expr.VerdictDrop)))
	forward := hook("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, early)
	// the machine's own metadata service and the rest of the link-local world
	c.AddRule(rule(t, forward, from(r.name), destination(netip.MustParsePrefix("169.254.0.0/16")), verdict(expr.VerdictDrop)))
	nat := hook("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	c.AddRule(rule(t, nat, source(pair), []expr.Any{&expr.Masq{}}))
	if err := c.Flush(); err != nil {
		return err
	}

	if c, err = nftables.New(nftables.WithNetNSFd(r.fd)); err != nil {
		return err
	}
	t = c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "skerry"})
	drop := nftables.ChainPolicyDrop
	closed := func(name string, at *nftables.ChainHook) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: at,
			Priority: nftables.ChainPriorityFilter, Policy: &drop})
	}
	closed("input", nftables.ChainHookInput)
	forward = closed("forward", nftables.ChainHookForward)
	c.AddRule(rule(t, forward, from("up"), established(), verdict(expr.VerdictAccept)))
	c.AddRule(rule(t, forward, to("up"), verdict(expr.VerdictAccept)))
	nat = hook("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	c.AddRule(rule(t, nat, to("up"), []expr.Any{&expr.Masq{}}))
	return c.Flush()
}

func rule(t *nftables.Table, c *nftables.Chain, parts ...[]expr.Any) *nftables.Rule {
	r := &nftables.Rule{Table: t, Chain: c}
	for _, p := range parts {
		r.Exprs = append(r.Exprs, p...)
	}
	return r
}

func iface(key expr.MetaKey, name string) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return []expr.Any{&expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b}}
}

func from(name string) []expr.Any { return iface(expr.MetaKeyIIFNAME, name) }
func to(name string) []expr.Any   { return iface(expr.MetaKeyOIFNAME, name) }

func verdict(k expr.VerdictKind) []expr.Any { return []expr.Any{&expr.Verdict{Kind: k}} }

// within compares an address of the IPv4 header with a prefix.
func within(offset uint32, p netip.Prefix) []expr.Any {
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: mask, Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: p.Masked().Addr().AsSlice()},
	}
}

func source(p netip.Prefix) []expr.Any      { return within(12, p) }
func destination(p netip.Prefix) []expr.Any { return within(16, p) }

func established() []expr.Any {
	return []expr.Any{
		&expr.Ct{Register: 1, Key: expr.CtKeySTATE},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Xor: make([]byte, 4),
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitESTABLISHED | expr.CtStateBitRELATED)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
	}
}

// sweep removes the machine's end and its rules.
func (r *Router) sweep() {
	if link, err := netlink.LinkByName(r.name); err == nil {
		_ = netlink.LinkDel(link)
	}
	if c, err := nftables.New(); err == nil {
		c.DelTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: r.name})
		_ = c.Flush() // there is none as a rule
	}
}

// Close takes the router away with all that hangs on it.
func (r *Router) Close() error {
	if r.handle != nil {
		r.handle.Close()
	}
	if r.fd >= 0 {
		unix.Close(r.fd)
	}
	r.sweep()
	return nil
}
