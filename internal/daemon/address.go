package daemon

import (
	"net"
	"net/netip"
	"slices"

	"github.com/moby/moby/api/types/network"

	"skerry/internal/store"
)

// joinNetwork finds a place for a container on a network.
func joinNetwork(tx *store.Tx, name string, asked *network.EndpointSettings) (netRow, error) {
	n, err := findNetwork(tx, name)
	if err != nil {
		return netRow{}, err
	}
	at := netRow{Mode: modeBridge, ID: n.ID, Name: n.Name, Subnet: n.Subnet, Internal: n.Internal}
	var want netip.Addr
	if asked != nil {
		if len(asked.MacAddress) > 0 || len(asked.DriverOpts) > 0 {
			return at, unsupported("MAC addresses and driver options of a container's network")
		}
		if n.ID == bridgeID && len(asked.Aliases) > 0 {
			return at, badRequest("network-scoped alias is supported only for containers in user defined networks")
		}
		at.Aliases, at.Priority = asked.Aliases, asked.GwPriority
		if i := asked.IPAMConfig; i != nil {
			if i.IPv6Address.IsValid() || len(i.LinkLocalIPs) > 0 {
				return at, unsupported("IPv6 and link-local addresses")
			}
			want = i.IPv4Address
		}
	}
	at.Fixed = want.IsValid()
	if at.Fixed && n.ID == bridgeID {
		return at, badRequest("invalid config for network bridge: user specified IP address is supported on user defined networks only")
	}
	taken := map[netip.Addr]bool{}
	for other, err := range byNet.Scan(tx, store.Range{Prefix: store.K(n.ID)}) {
		if err != nil {
			return at, err
		}
		taken[other.in(n.ID).addr()] = true
	}
	a, err := chooseAddress(n, taken, want)
	at.Address = a.String()
	return at, err
}

// chooseAddress takes the one that is wanted, or the first that is free.
func chooseAddress(n *networkRow, taken map[netip.Addr]bool, want netip.Addr) (netip.Addr, error) {
	subnet, err := netip.ParsePrefix(n.Subnet)
	if err != nil {
		return netip.Addr{}, err
	}
	gateway, err := netip.ParseAddr(n.Gateway)
	if err != nil {
		return netip.Addr{}, err
	}
	from := subnet
	if n.Range != "" {
		if from, err = netip.ParsePrefix(n.Range); err != nil {
			return netip.Addr{}, err
		}
	}
	usable := func(a netip.Addr) bool {
		return subnet.Contains(a) && a != subnet.Addr() && a != broadcast(subnet) && a != gateway && !taken[a]
	}
	if want.IsValid() {
		if !subnet.Contains(want) {
			return want, badRequest("invalid config for network %s: invalid endpoint settings:\nno configured subnet contains IP address %s", n.Name, want)
		}
		if !usable(want) {
			return want, forbidden("Address already in use")
		}
		return want, nil
	}
	for a := from.Addr(); from.Contains(a); a = a.Next() {
		if usable(a) {
			return a, nil
		}
	}
	return netip.Addr{}, forbidden("no available IPv4 addresses on this network's address pools: %s (%s)", n.Name, n.ID)
}

// broadcast is the last address of a prefix.
func broadcast(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}

// readIPAM takes the subnet that is asked for.
func readIPAM(row *networkRow, in *network.IPAM) error {
	if in == nil {
		return nil
	}
	if in.Driver != "" && in.Driver != "default" || len(in.Options) > 0 {
		return unsupported("IPAM driver %q and its options", in.Driver)
	}
	for i, c := range in.Config {
		if c.Subnet == (netip.Prefix{}) && !c.Gateway.IsValid() && !c.IPRange.IsValid() && len(c.AuxAddress) == 0 {
			continue
		}
		switch {
		case i > 0:
			return badRequest("bridge driver doesn't support multiple subnets")
		case len(c.AuxAddress) > 0:
			return unsupported("auxiliary addresses")
		case !c.Subnet.IsValid() || !c.Subnet.Addr().Is4() || c.Subnet.Bits() > 30:
			return badRequest("invalid subnet %s", c.Subnet)
		case c.Subnet.Masked() != c.Subnet:
			return badRequest("invalid subnet %s: it should be %s", c.Subnet, c.Subnet.Masked())
		case c.IPRange.IsValid() && (!c.Subnet.Contains(c.IPRange.Addr()) || c.IPRange.Bits() < c.Subnet.Bits()):
			return badRequest("invalid ip-range %s: parent subnet is %s", c.IPRange, c.Subnet)
		case c.Gateway.IsValid() && !c.Subnet.Contains(c.Gateway):
			return badRequest("invalid gateway %s: parent subnet is %s", c.Gateway, c.Subnet)
		}
		row.Subnet, row.Gateway = c.Subnet.String(), c.Subnet.Addr().Next().String()
		if c.Gateway.IsValid() {
			row.Gateway = c.Gateway.String()
		}
		if c.IPRange.IsValid() {
			row.Range = c.IPRange.Masked().String()
		}
	}
	return nil
}

// chooseSubnet gives a network its addresses: those asked for, or the first of
// Docker's pools that nobody has.
func chooseSubnet(row *networkRow, others []*networkRow, machine []netip.Prefix) error {
	var have []netip.Prefix
	for _, n := range others {
		if p, err := netip.ParsePrefix(n.Subnet); err == nil {
			have = append(have, p)
		}
	}
	overlaps := func(p netip.Prefix, with []netip.Prefix) bool { return slices.ContainsFunc(with, p.Overlaps) }
	if row.Subnet != "" {
		p, err := netip.ParsePrefix(row.Subnet)
		if err == nil && overlaps(p, have) {
			err = forbidden("invalid pool request: Pool overlaps with other one on this address space")
		}
		return err
	}
	for _, p := range pools() {
		if !overlaps(p, have) && !overlaps(p, machine) {
			row.Subnet, row.Gateway = p.String(), p.Addr().Next().String()
			return nil
		}
	}
	return forbidden("all predefined address pools have been fully subnetted")
}

// pools are the subnets that Docker gives to networks by itself.
func pools() []netip.Prefix {
	var all []netip.Prefix
	for i := range 14 {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(18 + i), 0, 0}), 16))
	}
	for i := range 16 {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(16 * i), 0}), 20))
	}
	return all
}

// machineSubnets are those that the machine is in, which a network would hide.
func machineSubnets() (all []netip.Prefix) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil // nothing is avoided then
	}
	for _, a := range addresses {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			all = append(all, p.Masked())
		}
	}
	return all
}
