package daemon

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"skerry/internal/base/ids"
	"skerry/internal/store"
)

// How a container is on a network, beside none and host.
const (
	modeBridge    = "bridge"    // an address of its own
	modeContainer = "container" // another container's
)

// The networks that are always there. Their ids are the same everywhere.
var (
	bridgeID = fixedID("skerry network bridge")
	hostID   = fixedID("skerry network host")
	noneID   = fixedID("skerry network none")
)

func fixedID(of string) string {
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:])
}

// defaultBridge is the network of containers that name none.
func defaultBridge() *networkRow {
	return &networkRow{ID: bridgeID, Name: network.NetworkBridge, Subnet: "172.17.0.0/16", Gateway: "172.17.0.1"}
}

// predefined lists the networks that cannot be removed, bridge first.
func predefined() []*networkRow {
	return []*networkRow{defaultBridge(), {ID: hostID, Name: network.NetworkHost}, {ID: noneID, Name: network.NetworkNone}}
}

func isPredefined(id string) bool { return id == bridgeID || id == hostID || id == noneID }

// driver is the network's, as Docker calls it.
func (n *networkRow) driver() string {
	switch n.ID {
	case hostID:
		return "host"
	case noneID:
		return "null"
	}
	return network.NetworkBridge
}

// networkName is what a network may be called.
var networkName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// findNetwork returns the network of an id, a name or the beginning of an id.
func findNetwork(tx *store.Tx, ref string) (*networkRow, error) {
	all, err := allNetworks(tx)
	if err != nil {
		return nil, err
	}
	var begins []*networkRow
	for _, n := range all {
		if n.ID == ref || n.Name == ref {
			return n, nil
		}
		if ref != "" && strings.HasPrefix(n.ID, ref) {
			begins = append(begins, n)
		}
	}
	switch len(begins) {
	case 0:
		return nil, notFound("network %s not found", ref)
	case 1:
		return begins[0], nil
	}
	return nil, badRequest("network %s is ambiguous (%d matches found on ID prefix)", ref, len(begins))
}

func allNetworks(tx *store.Tx) ([]*networkRow, error) {
	all := predefined()
	for n, err := range networks.Scan(tx, store.Range{}) {
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// createNetwork answers POST /networks/create.
func (d *Daemon) createNetwork(c *call) error {
	var in network.CreateRequest
	if err := c.body(&in); err != nil {
		return err
	}
	switch {
	case !networkName.MatchString(in.Name):
		return badRequest("invalid network name: %q", in.Name)
	case in.Driver != "" && in.Driver != network.NetworkBridge && in.Driver != network.NetworkDefault:
		if in.Driver == "host" || in.Driver == "null" {
			return forbidden("only one instance of %q network is allowed", in.Driver)
		}
		return notFound("could not find plugin %s in v1 plugin registry: plugin not found", in.Driver)
	case in.EnableIPv6 != nil && *in.EnableIPv6, in.EnableIPv4 != nil && !*in.EnableIPv4:
		return unsupported("IPv6")
	case in.Ingress, in.ConfigOnly, in.ConfigFrom != nil && in.ConfigFrom.Network != "", in.Scope == "swarm":
		return unsupported("networks of swarm mode")
	case len(in.Options) > 0:
		return unsupported("options of a network's driver")
	}
	row := &networkRow{ID: ids.Hex(64), Name: in.Name, Created: d.clock.Now(), Internal: in.Internal, Attachable: in.Attachable, Labels: in.Labels}
	if err := readIPAM(row, in.IPAM); err != nil {
		return err
	}
	used := machineSubnets()
	err := d.db.Update(c.Context(), func(tx *store.Tx) error {
		all, err := allNetworks(tx)
		if err != nil {
			return err
		}
		for _, n := range all {
			if n.Name == row.Name {
				return conflict("network with name %s already exists", row.Name)
			}
		}
		if err := chooseSubnet(row, all, used); err != nil {
			return err
		}
		return networks.Put(tx, row)
	})
	if err != nil {
		return err
	}
	d.tellThing(events.NetworkEventType, events.ActionCreate, row.ID, map[string]string{"name": row.Name, "type": row.driver()})
	return c.created(network.CreateResponse{ID: row.ID})
}

// listNetworks answers GET /networks.
func (d *Daemon) listNetworks(c *call) error {
	f, err := c.filters("dangling", "driver", "id", "label", "name", "scope", "type")
	if err != nil {
		return err
	}
	dangling, err := f.flag("dangling", false)
	if err != nil {
		return err
	}
	out := []*networkView{}
	err = d.db.View(c.Context(), func(tx *store.Tx) error {
		all, err := allNetworks(tx)
		if err != nil {
			return err
		}
		for _, n := range all {
			fits := f.any("driver", func(v string) bool { return n.driver() == v }) && f.any("scope", func(v string) bool { return v == scopeOfHere }) &&
				f.any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) && f.any("name", func(v string) bool { return strings.Contains(n.Name, v) }) &&
				f.any("type", func(v string) bool { return (v == "custom") != isPredefined(n.ID) }) && f.labels(n.Labels)
			if fits && len(f["dangling"]) > 0 {
				used, err := inNetwork(tx, n.ID)
				if err != nil {
					return err
				}
				fits = (len(used) == 0 && !isPredefined(n.ID)) == dangling
			}
			if fits {
				out = append(out, viewNetwork(n))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.ok(out)
}

// inNetwork lists the containers that are in a network, the newest first.
func inNetwork(tx *store.Tx, id string) (rows []*containerRow, err error) {
	for row, err := range byNet.Scan(tx, store.Range{Prefix: store.K(id)}) {
		if err != nil {
			return nil, err
		}
		rows = append(rows, row)
	}
	sortNewest(rows)
	return rows, nil
}

// inspectNetwork answers GET /networks/{id}.
func (d *Daemon) inspectNetwork(c *call) error {
	var v *networkView
	err := d.db.View(c.Context(), func(tx *store.Tx) error {
		n, err := findNetwork(tx, c.vars["id"])
		if err != nil {
			return err
		}
		v = viewNetwork(n)
		rows, err := inNetwork(tx, n.ID)
		for _, row := range rows {
			if row.running() {
				at := row.in(n.ID)
				v.Containers[row.ID] = memberView{Name: row.Name, EndpointID: endpointID(row, n.ID), IPv4Address: withBits(at.Address, n.Subnet)}
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	return c.ok(v)
}

// withBits writes an address with the length of its subnet's prefix.
func withBits(address, subnet string) string {
	if _, bits, ok := strings.Cut(subnet, "/"); ok && address != "" {
		return address + "/" + bits
	}
	return ""
}

// endpointID names a container's place in a network.
func endpointID(row *containerRow, network string) string { return fixedID(network + " " + row.ID) }

// in is a container's place in a network that it is in.
func (r *containerRow) in(network string) *netRow {
	for _, n := range r.nets() {
		if n.ID == network {
			return &n
		}
	}
	return &netRow{}
}

// removeNetwork answers DELETE /networks/{id}.
func (d *Daemon) removeNetwork(c *call) error {
	var n *networkRow
	err := d.db.Update(c.Context(), func(tx *store.Tx) (err error) {
		if n, err = findNetwork(tx, c.vars["id"]); err != nil {
			return err
		}
		if isPredefined(n.ID) {
			return forbidden("%s is a pre-defined network and cannot be removed", n.Name)
		}
		rows, err := inNetwork(tx, n.ID)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if row.running() || row.State == "restarting" {
				return forbidden("error while removing network: network %s has active endpoints (name:%q id:%q)", n.Name, row.Name, row.ID[:12])
			}
		}
		return networks.Delete(tx, store.K(n.ID))
	})
	if err != nil {
		return err
	}
	d.tellThing(events.NetworkEventType, events.ActionDestroy, n.ID, map[string]string{"name": n.Name, "type": n.driver()})
	return c.done()
}

// pruneNetworks answers POST /networks/prune.
func (d *Daemon) pruneNetworks(c *call) error {
	f, err := c.filters("label", "label!", "until")
	if err != nil {
		return err
	}
	until, err := f.before(d.clock.Now())
	if err != nil {
		return err
	}
	var gone []*networkRow
	err = d.db.Update(c.Context(), func(tx *store.Tx) error {
		gone = nil
		for n, err := range networks.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			rows, err := inNetwork(tx, n.ID)
			if err != nil {
				return err
			}
			if len(rows) > 0 || !n.Created.Before(until) || !f.labels(n.Labels) {
				continue
			}
			if err := networks.Delete(tx, store.K(n.ID)); err != nil {
				return err
			}
			gone = append(gone, n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	report := network.PruneReport{NetworksDeleted: []string{}}
	slices.SortFunc(gone, func(a, b *networkRow) int { return cmp.Compare(a.Name, b.Name) })
	for _, n := range gone {
		report.NetworksDeleted = append(report.NetworksDeleted, n.Name)
		d.tellThing(events.NetworkEventType, events.ActionDestroy, n.ID, map[string]string{"name": n.Name, "type": n.driver()})
	}
	return c.ok(report)
}
