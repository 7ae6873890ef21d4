package engine

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// NetworkMode says which network a container has.
type NetworkMode string

// The networks.
const (
	// NetworkNone: a network namespace of its own with nothing but loopback.
	// The default.
	NetworkNone NetworkMode = "none"
	// NetworkNAT: a namespace of its own, an address of its own, and the
	// outside world by address translation. Neither the machine's services
	// nor other containers can be reached, but by ports that are published
	// on an address of the machine.
	NetworkNAT NetworkMode = "nat"
	// NetworkNamed: an address of its own on the network Name, which it shares
	// with the other containers there, and the outside world by address
	// translation. A VPC and a Docker network are such networks: two may have
	// the same addresses, and cannot reach each other.
	NetworkNamed NetworkMode = "named"
	// NetworkHost: the machine's own network. No wall.
	NetworkHost NetworkMode = "host"
)

// LocalAddresses are on every container's loopback beside 127.0.0.1, for Listen:
// the resolver (169.254.169.253), instance metadata and task metadata.
var LocalAddresses = []netip.Addr{
	netip.AddrFrom4([4]byte{169, 254, 169, 253}),
	netip.AddrFrom4([4]byte{169, 254, 169, 254}),
	netip.AddrFrom4([4]byte{169, 254, 170, 2}),
}

// Network is a container's network.
type Network struct {
	Mode NetworkMode // empty is NetworkNone
	// Name of the network, in NetworkNamed: 1 to 64 of the characters of an ID.
	// A network is made with its first container and gone with its last.
	Name string
	// Internal networks have no outside world. The network's first container
	// decides. NetworkNamed only.
	Internal bool
	// Subnet has the addresses of the network Name. NetworkNamed only, and needed
	// there with Further.
	Subnet netip.Prefix
	// Further are more networks that the container is on (see Engine.Connect). It
	// reaches the outside world by the first of all that is not Internal, and its
	// ports are published by way of that one. It forwards nothing between them.
	// NetworkNamed only.
	Further []Link
	// Address on the network Name, IPv4. Nobody else there may have it
	// (ErrExists). NetworkNamed only, and needed there.
	Address netip.Addr
	// Sandbox names what containers share who have one network namespace, one
	// address and one range of user ids: a task. The first container with the
	// name makes it of its Mode, Name, Address and Groups; the later ones are of
	// the same account and repeat those, or have the empty Mode (ErrInvalid); it
	// is gone with the last. Empty is the container's own ID, and the ID of a
	// container names the sandbox that it is in. Not in NetworkHost.
	Sandbox string
	// Groups are the security groups that the address is in (SetFirewall).
	// Without any, everybody on the network may connect. NetworkNamed only.
	Groups []string
	// Ports are published on the machine while the container runs; Start fails
	// with ErrPort if one is taken. Each container of a sandbox has its own.
	// NetworkNAT and NetworkNamed only; while all networks are Internal, nothing
	// is published.
	Ports []Port

	// Hosts are further lines of /etc/hosts, of an image's root.
	Hosts []Host
	// DNS replaces the engine's /etc/resolv.conf, of an image's root: the
	// machine's for NetworkHost, else the resolver at 169.254.169.253, which
	// is the caller's to serve (Engine.ListenPacket).
	DNS DNS
}

// Link is a container's place on a named network.
type Link struct {
	Name     string
	Internal bool
	Address  netip.Addr
	Subnet   netip.Prefix
	Groups   []string
}

// Links are the named networks.
func (n *Network) Links() []Link {
	if n.Mode != NetworkNamed {
		return nil
	}
	return append([]Link{{n.Name, n.Internal, n.Address, n.Subnet, n.Groups}}, n.Further...)
}

// SetLinks replaces them; without any the mode is NetworkNone.
func (n *Network) SetLinks(all []Link) {
	n.Mode, n.Name, n.Internal, n.Address, n.Subnet, n.Groups, n.Further = NetworkNone, "", false, netip.Addr{}, netip.Prefix{}, nil, nil
	if len(all) > 0 {
		l := all[0]
		n.Mode, n.Name, n.Internal, n.Address, n.Subnet, n.Groups = NetworkNamed, l.Name, l.Internal, l.Address, l.Subnet, l.Groups
		n.Further = slices.Clone(all[1:])
	}
}

// MaxLinks is how many named networks a container can be on.
const MaxLinks = 64

// ValidateLinks checks the arguments of Connect for faults that no driver accepts.
// Its errors are ErrInvalid.
func ValidateLinks(all []Link) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("engine: %w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	if len(all) > MaxLinks {
		return bad("%d networks", len(all))
	}
	for i, l := range all {
		a := l.Address
		switch {
		case !ID(l.Name).Valid():
			return bad("network name %q", l.Name)
		case !a.Is4() || a.IsLoopback() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsUnspecified():
			return bad("address %s", a)
		case l.Subnet.IsValid() && (l.Subnet != l.Subnet.Masked() || !l.Subnet.Contains(a)):
			return bad("address %s of the subnet %s", a, l.Subnet)
		case len(all) > 1 && (!l.Subnet.IsValid() || l.Subnet.Bits() == 0):
			return bad("network %s has no subnet beside others", l.Name)
		}
		for _, id := range l.Groups {
			if id == "" || len(id) > 255 || strings.ContainsRune(id, 0) {
				return bad("security group %q", id)
			}
		}
		for _, other := range all[:i] {
			if other.Name == l.Name || other.Subnet.Overlaps(l.Subnet) {
				return bad("the networks %s and %s are one, or have the same addresses", other.Name, l.Name)
			}
		}
	}
	return nil
}

// Port is a port of a container that is published on the machine.
type Port struct {
	Protocol  string     // "tcp" or "udp"; empty is tcp
	Container uint16     // in the container
	Host      uint16     // on the machine; zero: a free one from 32768 to 60999 is chosen
	Address   netip.Addr // of the machine, IPv4; not valid, or 0.0.0.0: all of them
}

// Host is a line of /etc/hosts.
type Host struct {
	Name    string
	Address netip.Addr
}

// DNS is what a container's /etc/resolv.conf says.
type DNS struct {
	Servers []netip.Addr
	Search  []string
	Options []string
}

// SecurityGroup says who may connect to the addresses that are in it, and where
// those may connect to. A packet passes when one of the address's groups has a
// rule for it; answers always pass.
type SecurityGroup struct {
	ID      string
	Ingress []FirewallRule
	Egress  []FirewallRule
}

// MaxGroups is how many security groups a network can have, and MaxRules how many
// rules, prefixes and groups of rules they can have together.
const (
	MaxGroups = 10_000
	MaxRules  = 100_000
)

// ValidateFirewall checks the arguments of SetFirewall for faults that no driver
// accepts. Its errors are ErrInvalid.
func ValidateFirewall(network string, groups []SecurityGroup) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("engine: %w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	if !ID(network).Valid() {
		return bad("network name %q", network)
	}
	if len(groups) > MaxGroups {
		return bad("%d security groups", len(groups))
	}
	seen, peers := map[string]bool{}, 0
	for _, g := range groups {
		if g.ID == "" || len(g.ID) > 255 || strings.ContainsRune(g.ID, 0) || seen[g.ID] {
			return bad("security group %q, empty or twice", g.ID)
		}
		seen[g.ID] = true
		for _, r := range slices.Concat(g.Ingress, g.Egress) {
			ports := r.From != 0 || r.To != 0
			switch {
			case r.Protocol != "" && r.Protocol != "tcp" && r.Protocol != "udp" && r.Protocol != "icmp":
				return bad("protocol %q in security group %s", r.Protocol, g.ID)
			case ports && r.Protocol != "tcp" && r.Protocol != "udp", r.From > r.To:
				return bad("ports %d to %d of protocol %q in security group %s", r.From, r.To, r.Protocol, g.ID)
			}
			for _, p := range r.Prefixes {
				if !p.IsValid() {
					return bad("a prefix that is none in security group %s", g.ID)
				}
			}
			peers += len(r.Prefixes) + len(r.Groups)
		}
	}
	if peers > MaxRules {
		return bad("%d rules of security groups", peers)
	}
	return nil
}

// FirewallRule lets packets through.
type FirewallRule struct {
	Protocol string // "tcp", "udp", "icmp", or empty for all
	From, To uint16 // ports, for tcp and udp; 0 and 0 is all
	// Who is at the other end: in one of Prefixes, or an address in one of
	// Groups. With neither, nobody.
	Prefixes []netip.Prefix
	Groups   []string
}

// Validate checks a network for faults that no driver accepts. Its errors are
// ErrInvalid.
func (n *Network) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("engine: %w: %s", ErrInvalid, fmt.Sprintf(format, args...))
	}
	switch n.Mode {
	case "", NetworkNone, NetworkNAT, NetworkHost:
		if n.Name != "" || n.Address.IsValid() || n.Subnet.IsValid() || len(n.Groups) > 0 || n.Internal || len(n.Further) > 0 {
			return bad("network %q with a name, address or security groups", n.Mode)
		}
	case NetworkNamed:
		if err := ValidateLinks(n.Links()); err != nil {
			return err
		}
	default:
		return bad("network %q", n.Mode)
	}
	if n.Sandbox != "" && (!ID(n.Sandbox).Valid() || n.Mode == NetworkHost) {
		return bad("sandbox %q in network %q", n.Sandbox, n.Mode)
	}
	shares := n.Mode == "" && n.Sandbox != "" // what the sandbox's mode is, its maker has said
	if len(n.Ports) > 0 && (n.Mode != NetworkNAT && n.Mode != NetworkNamed && !shares) {
		return bad("published ports in network %q", n.Mode)
	}
	for _, p := range n.Ports {
		if p.Container == 0 || p.Protocol != "" && p.Protocol != "tcp" && p.Protocol != "udp" {
			return bad("port %d/%s", p.Container, p.Protocol)
		}
		if p.Address.IsValid() && !p.Address.Is4() {
			return bad("port %d on %s: only IPv4 is published", p.Container, p.Address)
		}
	}
	return nil
}
