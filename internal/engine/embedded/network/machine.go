//go:build linux && amd64

package network

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// linkLocal is where the routers' uplinks have their addresses; nothing of it is
// forwarded.
var linkLocal = netip.MustParsePrefix("169.254.0.0/16")

// neighbour is whom a container sees that another reaches through a port that is
// published on the machine.
var neighbour = netip.AddrFrom4([4]byte{169, 254, 1, 2})

// machine is what an engine has in the machine's own network: the interfaces of
// its routers, and a table of nftables with the walls around them and the ports
// that it publishes.
type machine struct {
	name  string // of the table, and the beginning of the interfaces' names
	links int    // made so far
	ports ports
	nft   rules
	table *nftables.Table
	// where published ports lead to: those of all of the machine's addresses,
	// and those of one
	everywhere, single *nftables.Set
}

// LinkName is how the names of an engine's interfaces on the machine begin, and
// the name of its nftables table.
func LinkName(engine string) string { return fmt.Sprintf("sk%08x", hash(engine)) }

func hash(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}

// describe is what an engine of that name has, or will have.
func describe(engine string) *machine {
	m := &machine{name: LinkName(engine)}
	m.table = &nftables.Table{Family: nftables.TableFamilyIPv4, Name: m.name}
	m.everywhere, m.single = toPort(m.table, "everywhere", 1, false), toPort(m.table, "single", 2, true)
	return m
}

// newMachine takes away what an earlier engine of that name has left behind, and
// puts the walls up.
func newMachine(engine string) (*machine, error) {
	m := describe(engine)
	m.sweep()
	if err := m.nft.change(m.walls); err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return nil, fmt.Errorf("network: let this machine forward: %w", err)
	}
	return m, nil
}

// walls are the rules on the machine's side.
func (m *machine) walls(c *nftables.Conn) error {
	t := c.AddTable(m.table)
	for _, s := range []*nftables.Set{m.everywhere, m.single} {
		if err := c.AddSet(s, nil); err != nil {
			return err
		}
	}
	chain := func(name string, kind nftables.ChainType, at *nftables.ChainHook, prio *nftables.ChainPriority) func(...[]expr.Any) {
		ch := c.AddChain(&nftables.Chain{Name: name, Table: t, Type: kind, Hooknum: at, Priority: prio})
		return func(parts ...[]expr.Any) { c.AddRule(rule(t, ch, parts...)) }
	}
	early := nftables.ChainPriorityRef(-10)
	accept, drop := verdict(expr.VerdictAccept), verdict(expr.VerdictDrop)

	// nothing of containers comes in to the machine but answers
	input := chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, early)
	input(fromAny(m.name), established(), accept)
	input(fromAny(m.name), drop)

	// to containers: what published ports let in. From containers: not to the
	// machine's metadata service, nor to the rest of the link-local world.
	forward := chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, early)
	forward(toAny(m.name), established(), accept)
	forward(toAny(m.name), published(), accept)
	forward(toAny(m.name), drop)
	forward(fromAny(m.name), established(), accept)
	forward(fromAny(m.name), published(), accept)
	forward(fromAny(m.name), destination(linkLocal), drop)

	// Loopback addresses are the machine's own programs' alone: they come
	// through output. One that arrives from elsewhere would be thrown away after
	// this hook, unless it were translated here.
	loopback := netip.MustParsePrefix("127.0.0.0/8")
	come := chain("prerouting", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, nftables.ChainPriorityNATDest)
	come(destination(loopback), accept)
	leave := chain("output", nftables.ChainTypeNAT, nftables.ChainHookOutput, nftables.ChainPriorityNATDest)
	for _, hook := range []func(...[]expr.Any){come, leave} {
		hook(translate(m.single, true))
		hook(own(expr.Fib{FlagDADDR: true}), translate(m.everywhere, false))
	}

	// The machine's programs come to a published port as the machine's end of
	// the uplink; containers do so as the neighbour, whom no rule takes for the
	// machine. Others keep their address.
	out := chain("postrouting", nftables.ChainTypeNAT, nftables.ChainHookPostrouting, nftables.ChainPriorityNATSource)
	out(toAny(m.name), own(expr.Fib{FlagSADDR: true}), masquerade())
	out(toAny(m.name), fromAny(m.name), []expr.Any{
		&expr.Immediate{Register: 1, Data: neighbour.AsSlice()},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
	})
	out(fromAny(m.name), masquerade())
	return nil
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

// link joins a router to the machine by a veth, whose end in there is "up", with a
// pair of link-local addresses that nobody else on the machine has. The machine
// has the even one.
func (m *machine) link(r *Router) (pair netip.Prefix, err error) {
	// Another engine may look for a pair at the same time. What they share is
	// the machine's namespace.
	lock, err := os.Open("/proc/self/ns/net")
	if err != nil {
		return pair, err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return pair, fmt.Errorf("wait for the machine's other engines: %w", err)
	}
	if pair, err = freePair(hash(m.name) + uint32(m.links)); err != nil {
		return pair, err
	}
	name := m.name
	if m.links > 0 { // names are not used again: the kernel takes its time to remove what bears them
		name = fmt.Sprintf("%s-%d", m.name, m.links%10000)
	}
	m.links++
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: r.mtu}, PeerName: "up", PeerNamespace: netlink.NsFd(r.fd)}
	if err := netlink.LinkAdd(veth); err != nil {
		return pair, err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return pair, err
	}
	defer h.Close()
	index, err := address(h, name, pair)
	if err != nil {
		return pair, err
	}
	if err := r.linked(pair); err != nil {
		return pair, err
	}
	// answers to the machine's programs that came from 127.0.0.1
	if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+name+"/route_localnet", []byte("1"), 0); err != nil {
		return pair, err
	}
	return pair, settle(h, index)
}

// maxDumps is how often a list is asked for that does not stand still.
const maxDumps = 16

// dump asks the kernel for a list, and again if that changed while it was told, as
// it does on a busy machine. In the end it takes what it got.
func dump[T any](list func() ([]T, error)) (all []T, err error) {
	for range maxDumps {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, nil
}

// addresses lists the machine's addresses.
func addresses() ([]netlink.Addr, error) {
	return dump(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_V4) })
}

// freePair finds two link-local addresses that the machine does not use.
func freePair(seed uint32) (pair netip.Prefix, err error) {
	addrs, err := addresses()
	if err != nil {
		return pair, err
	}
	used := map[netip.Addr]bool{}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP.To4()); ok {
			used[ip] = true
		}
	}
	for i := range uint32(1 << 15) {
		n := (seed + i) % (1 << 15) * 2
		if n>>8 < 2 || n>>8 >= 160 && n>>8 < 180 || n>>8 > 253 {
			continue // the first and last are reserved, 169.254.169.254 and its like are well known
		}
		first := netip.AddrFrom4([4]byte{169, 254, byte(n >> 8), byte(n)})
		if !used[first] && !used[first.Next()] {
			return netip.PrefixFrom(first, 31), nil
		}
	}
	return pair, errors.New("all link-local addresses are in use")
}

// sweep removes the interfaces and the table.
func (m *machine) sweep() {
	links, _ := dump(netlink.LinkList)
	for _, l := range links {
		if name := l.Attrs().Name; name == m.name || strings.HasPrefix(name, m.name+"-") {
			_ = netlink.LinkDel(l) // or it goes by itself at this moment
		}
	}
	_ = m.nft.change(func(c *nftables.Conn) error { // there is none as a rule
		c.DelTable(m.table)
		return nil
	})
}

// close takes all away.
func (m *machine) close() {
	m.sweep()
	m.nft.close()
}
