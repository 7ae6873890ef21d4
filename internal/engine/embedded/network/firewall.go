//go:build linux && amd64

package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"skerry/internal/engine"
)

// firewall is the security groups in the router of a named network. A packet that
// begins something goes through two hooks:
//
//	egress:  source address      -> the chain of its groups -> a chain for each group -> accepted, or dropped at the end
//	ingress: destination address -> likewise
//
// Addresses in no group are in neither map, and open. Addresses of the same groups
// share a chain, so that one more member is one more element in two maps and in the
// groups' sets. When the groups change, all chains are made anew and the maps'
// elements led to them, in one step.
type firewall struct {
	table *nftables.Table
	sides [2]side
	now   *generation
	count int // of generations
	ids   uint32
}

// side is one of the two hooks.
type side struct {
	name  string
	chain *nftables.Chain
	table *nftables.Set // from addresses to chains
	own   uint32        // where the header has the address whose groups count
	other uint32        // and where the other end's
}

// generation is what was made at once, and goes at once.
type generation struct {
	number  int
	members map[string]*nftables.Set // by group
	chains  []*nftables.Chain
	shared  map[string]int // numbers of the chains that groups have together, by key
}

const (
	egress = iota
	ingress
)

// walls makes what stays: the hooks and their maps. machine is the machine's end
// of the uplink, if there is one.
func (f *firewall) walls(c *nftables.Conn, machine netip.Addr) error {
	f.table = c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "groups"})
	f.sides = [2]side{
		{name: "egress", own: sourceAt, other: destinationAt},
		{name: "ingress", own: destinationAt, other: sourceAt},
	}
	accept := verdict(expr.VerdictAccept)
	for i := range f.sides {
		s := &f.sides[i]
		s.chain = c.AddChain(&nftables.Chain{Name: s.name, Table: f.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookForward,
			Priority: nftables.ChainPriorityRef(nftables.ChainPriority(i))})
		s.table = f.set("by-" + s.name)
		s.table.IsMap, s.table.DataType = true, nftables.TypeVerdict
		if err := c.AddSet(s.table, nil); err != nil {
			return err
		}
		c.AddRule(rule(f.table, s.chain, established(), accept))
		if machine.IsValid() { // which may reach all that it has published
			c.AddRule(rule(f.table, s.chain, from("up"), within(sourceAt, netip.PrefixFrom(machine, 32)), accept))
		}
		if i == egress {
			c.AddRule(rule(f.table, s.chain, from("up"), published(), accept)) // goes on to ingress
			c.AddRule(rule(f.table, s.chain, from("up"), verdict(expr.VerdictDrop)))
		}
		c.AddRule(rule(f.table, s.chain, []expr.Any{header(s.own, 1),
			&expr.Lookup{SourceRegister: 1, IsDestRegSet: true, DestRegister: unix.NFT_REG_VERDICT, SetName: s.table.Name, SetID: s.table.ID}}))
	}
	f.now = &generation{}
	return nil
}

func (f *firewall) set(name string) *nftables.Set {
	f.ids++
	return &nftables.Set{Table: f.table, Name: name, ID: f.ids, KeyType: nftables.TypeIPAddr}
}

// together is the key of a set of groups.
func together(groups []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(groups))), "\x00")
}

// chainOf names the chain of a set of groups on a side.
func (g *generation) chainOf(s *side, key string) string {
	return fmt.Sprintf("%s-%d-%d", s.name, g.number, g.shared[key])
}

// admit lets an address be in groups. It says false when the groups have no chain
// yet, so that all has to be made anew.
func (f *firewall) admit(c *nftables.Conn, addr netip.Addr, groups []string) (bool, error) {
	key := together(groups)
	if _, ok := f.now.shared[key]; !ok {
		return false, nil
	}
	return true, f.place(c, f.now, map[netip.Addr][]string{addr: groups})
}

// dismiss takes an address out of its groups.
func (f *firewall) dismiss(c *nftables.Conn, addr netip.Addr, groups []string) error {
	key := []nftables.SetElement{{Key: addr.AsSlice()}}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(groups))) {
		set := f.now.members[id]
		if set == nil {
			return fmt.Errorf("%s was not admitted", addr)
		}
		if err := c.SetDeleteElements(set, key); err != nil {
			return err
		}
	}
	for i := range f.sides {
		if err := c.SetDeleteElements(f.sides[i].table, key); err != nil {
			return err
		}
	}
	return nil
}

// place adds addresses to the sets of their groups and to the maps.
func (f *firewall) place(c *nftables.Conn, g *generation, members map[netip.Addr][]string) error {
	sets := map[*nftables.Set][]nftables.SetElement{}
	for addr, groups := range members {
		key := together(groups)
		for _, id := range strings.Split(key, "\x00") {
			sets[g.members[id]] = append(sets[g.members[id]], nftables.SetElement{Key: addr.AsSlice()})
		}
		for i := range f.sides {
			s := &f.sides[i]
			sets[s.table] = append(sets[s.table], nftables.SetElement{Key: addr.AsSlice(),
				VerdictData: &expr.Verdict{Kind: expr.VerdictGoto, Chain: g.chainOf(s, key)}})
		}
	}
	for set, all := range sets {
		for part := range slices.Chunk(all, 400) { // a list has 64 KiB at most
			if err := c.SetAddElements(set, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// replace makes all groups anew, for these members, and takes the old ones away.
// The new ones count when the caller says so, once they are in force.
func (f *firewall) replace(c *nftables.Conn, groups []engine.SecurityGroup, members map[netip.Addr][]string) (*generation, error) {
	f.count++
	g := &generation{number: f.count, members: map[string]*nftables.Set{}, shared: map[string]int{}}
	known := map[string]bool{}
	note := func(ids []string) {
		for _, id := range ids {
			known[id] = true
		}
	}
	grouped := map[netip.Addr][]string{}
	for addr, ids := range members {
		if note(ids); len(ids) > 0 {
			grouped[addr] = ids
			key := together(ids)
			if _, ok := g.shared[key]; !ok {
				g.shared[key] = len(g.shared)
			}
		}
	}
	for _, sg := range groups {
		known[sg.ID] = true
		for _, r := range slices.Concat(sg.Ingress, sg.Egress) {
			note(r.Groups)
		}
	}
	for i, id := range slices.Sorted(maps.Keys(known)) {
		g.members[id] = f.set(fmt.Sprintf("members-%d-%d", g.number, i))
		if err := c.AddSet(g.members[id], nil); err != nil {
			return nil, err
		}
	}
	chains := f.groupChains(c, g, groups)
	for key := range g.shared {
		for i := range f.sides {
			s := &f.sides[i]
			all := g.chain(c, f.table, g.chainOf(s, key))
			for _, id := range strings.Split(key, "\x00") {
				if to := chains[i][id]; to != nil { // a group that nobody has told of lets nothing through
					c.AddRule(rule(f.table, all, []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: to.Name}}))
				}
			}
			c.AddRule(rule(f.table, all, verdict(expr.VerdictDrop)))
		}
	}
	for i := range f.sides {
		c.FlushSet(f.sides[i].table)
	}
	if err := f.place(c, g, grouped); err != nil {
		return nil, err
	}
	f.drop(c)
	return g, nil
}

func (g *generation) chain(c *nftables.Conn, t *nftables.Table, name string) *nftables.Chain {
	ch := c.AddChain(&nftables.Chain{Name: name, Table: t})
	g.chains = append(g.chains, ch)
	return ch
}

// groupChains makes a chain a side for each group, with its rules.
func (f *firewall) groupChains(c *nftables.Conn, g *generation, groups []engine.SecurityGroup) (chains [2]map[string]*nftables.Chain) {
	for i := range f.sides {
		s := &f.sides[i]
		chains[i] = map[string]*nftables.Chain{}
		for n, sg := range groups {
			ch := g.chain(c, f.table, fmt.Sprintf("%s-%d-group-%d", s.name, g.number, n))
			chains[i][sg.ID] = ch
			rules := sg.Egress
			if i == ingress {
				rules = sg.Ingress
			}
			for _, r := range rules {
				for _, peer := range g.peers(s, r) {
					c.AddRule(rule(f.table, ch, wanted(r), peer, verdict(expr.VerdictAccept)))
				}
			}
		}
	}
	return chains
}

// drop takes the generation that counts away: first what leads elsewhere, then what
// was led to.
func (f *firewall) drop(c *nftables.Conn) {
	for _, ch := range f.now.chains {
		c.FlushChain(ch)
	}
	for _, ch := range f.now.chains {
		c.DelChain(ch)
	}
	for _, set := range f.now.members {
		c.DelSet(set)
	}
}

// wanted matches the protocol and ports of a rule.
func wanted(r engine.FirewallRule) []expr.Any {
	number := map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "icmp": unix.IPPROTO_ICMP}
	if r.Protocol == "" {
		return nil
	}
	parts := []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{number[r.Protocol]}}}
	if r.From == 0 && r.To == 0 {
		return parts
	}
	return append(parts,
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Range{Op: expr.CmpOpEq, Register: 1, FromData: bigEndian16(r.From), ToData: bigEndian16(r.To)})
}

// peers are the matches of who may be at the other end, any one of which will do.
func (g *generation) peers(s *side, r engine.FirewallRule) (all [][]expr.Any) {
	for _, p := range r.Prefixes {
		switch {
		case !p.Addr().Is4(): // there is nobody of IPv6
		case p.Bits() == 0:
			all = append(all, nil)
		default:
			all = append(all, within(s.other, p))
		}
	}
	for _, id := range r.Groups {
		set := g.members[id]
		all = append(all, []expr.Any{header(s.other, 1), &expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}})
	}
	return all
}

// SetFirewall replaces the groups of a network, at once if it is there.
func (p *Pool) SetFirewall(network string, groups []engine.SecurityGroup) error {
	p.routing.Lock()
	defer p.routing.Unlock()
	if r := p.named[network]; r != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if err := r.refresh(groups); err != nil {
			return fmt.Errorf("network: security groups of %s: %w", network, err)
		}
		r.groups = groups
	}
	p.groups[network] = groups
	if len(groups) == 0 {
		delete(p.groups, network)
	}
	return nil
}

// refresh makes the groups anew; r.mu is held.
func (r *Router) refresh(groups []engine.SecurityGroup) error {
	var g *generation
	if err := r.nft.change(func(c *nftables.Conn) (err error) {
		g, err = r.firewall.replace(c, groups, r.members)
		return err
	}); err != nil {
		return err
	}
	r.firewall.now = g
	return nil
}

// protect puts the groups of a member into force; r.mu is held.
func (r *Router) protect(addr netip.Addr) error {
	known := false
	err := r.nft.change(func(c *nftables.Conn) (err error) {
		known, err = r.firewall.admit(c, addr, r.members[addr])
		return err
	})
	if err == nil && !known {
		err = r.refresh(r.groups)
	}
	if err != nil {
		return fmt.Errorf("network: security groups of %s: %w", addr, err)
	}
	return nil
}
