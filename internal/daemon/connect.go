package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"slices"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// connectNetwork answers POST /networks/{id}/connect.
func (d *Daemon) connectNetwork(c *call) error {
	var in network.ConnectRequest
	if err := c.body(&in); err != nil {
		return err
	}
	var n *networkRow
	row, err := d.relink(c, in.Container, func(tx *store.Tx, row *containerRow) (err error) {
		if n, err = findNetwork(tx, c.vars["id"]); err != nil {
			return err
		}
		if err := mayConnect(row, n); err != nil {
			return err
		}
		at, err := joinNetwork(tx, n.ID, in.EndpointConfig)
		if err == nil && in.EndpointConfig != nil {
			err = linkTo(tx, &at, in.EndpointConfig.Links)
		}
		if err != nil {
			return err
		}
		return row.setNets(append(row.nets(), at))
	})
	if err != nil {
		return err
	}
	if row.running() {
		d.tellNet(row, n, events.ActionConnect)
	}
	c.w.WriteHeader(200)
	return nil
}

// mayConnect refuses what Docker does.
func mayConnect(row *containerRow, n *networkRow) error {
	switch {
	case row.Removing:
		return conflict("container %s is marked for removal and cannot be connected or disconnected to the network %s", row.ID, n.Name)
	case row.Net.Mode == modeContainer:
		return badRequest("container sharing network namespace with another container or host cannot be connected to any other network")
	case slices.ContainsFunc(row.nets(), func(has netRow) bool { return has.ID == n.ID }):
		return forbidden("endpoint with name %s already exists in network %s", row.Name, n.Name)
	case row.Net.Mode == network.NetworkHost, n.ID == hostID:
		return badRequest("container cannot be disconnected from host network or connected to host network")
	case row.Net.Mode == network.NetworkNone, n.ID == noneID:
		return badRequest("container cannot be connected to multiple networks with one of the networks in private (none) mode")
	}
	return nil
}

// disconnectNetwork answers POST /networks/{id}/disconnect.
func (d *Daemon) disconnectNetwork(c *call) error {
	var in network.DisconnectRequest
	if err := c.body(&in); err != nil {
		return err
	}
	var n *networkRow
	row, err := d.relink(c, in.Container, func(tx *store.Tx, row *containerRow) (err error) {
		if n, err = findNetwork(tx, c.vars["id"]); err != nil {
			return err
		}
		left := slices.DeleteFunc(row.nets(), func(has netRow) bool { return has.ID == n.ID })
		switch {
		case len(left) == len(row.nets()):
			return forbidden("container %s is not connected to network %s", row.ID, n.Name)
		case n.ID == hostID:
			return badRequest("container cannot be disconnected from host network or connected to host network")
		}
		return row.setNets(left)
	})
	if err != nil {
		return err
	}
	if row.running() {
		d.tellNet(row, n, events.ActionDisconnect)
	}
	c.w.WriteHeader(200)
	return nil
}

// relink changes the networks of a container, in its row and then in the engine.
func (d *Daemon) relink(c *call, ref string, fn func(*store.Tx, *containerRow) error) (*containerRow, error) {
	ctx := context.WithoutCancel(c.Context())
	row, err := d.find(ctx, ref)
	if err != nil {
		return nil, err
	}
	defer d.locks.lock(row.ID)()
	return d.relinkLocked(ctx, row.ID, fn)
}

// relinkLocked is relink with the container's lock held. A row says that it is
// underway, so that after a kill of the server in between the loop does the rest.
func (d *Daemon) relinkLocked(ctx context.Context, id string, fn func(*store.Tx, *containerRow) error) (*containerRow, error) {
	var before []netRow
	row, _, err := d.rewrite(ctx, id, func(tx *store.Tx, row *containerRow) error {
		before, row.Relinking = row.nets(), true
		return fn(tx, row)
	})
	if err != nil {
		return nil, err
	}
	err = d.engine.Connect(ctx, engine.ID(id), row.links())
	if errors.Is(err, engine.ErrNotFound) { // lost with the machine's last run: its next start makes it anew
		err = nil
	}
	row, nerr := d.note(ctx, id, func(row *containerRow) error {
		row.Relinking = false
		if err != nil {
			return row.setNets(before)
		}
		return nil
	})
	if err = errors.Join(createFault(err), nerr); err != nil {
		return nil, err
	}
	d.wake(containerLoop) // whose names are to be resolved may be others
	return row, nil
}

// rejoin gives a container that has been taken off all its networks, and is to
// start, the one back that it was made for, as Docker does.
func (d *Daemon) rejoin(ctx context.Context, row *containerRow) (*containerRow, error) {
	if row.Net.Mode != modeBridge || len(row.nets()) > 0 {
		return row, nil
	}
	_, h, err := row.config()
	if err != nil {
		return nil, err
	}
	return d.relinkLocked(ctx, row.ID, func(tx *store.Tx, row *containerRow) error {
		if h.NetworkMode.IsNone() {
			row.Net = noNet()
			return nil
		}
		at, err := joinNetwork(tx, string(h.NetworkMode), nil)
		if err != nil {
			return err
		}
		return row.setNets([]netRow{at})
	})
}

// finishRelink does what a kill of the server has left undone.
func (d *Daemon) finishRelink(ctx context.Context, id string) error {
	defer d.locks.lock(id)()
	row, err := d.find(ctx, id)
	if err != nil || !row.Relinking {
		return err
	}
	_, err = d.relinkLocked(ctx, id, func(*store.Tx, *containerRow) error { return nil })
	return err
}

// nets are the networks that a container is in.
func (r *containerRow) nets() []netRow {
	if r.Net.ID == "" || r.Net.Mode == modeContainer {
		return nil
	}
	return append([]netRow{r.Net}, r.More...)
}

// setNets replaces them, for the engine as well.
func (r *containerRow) setNets(all []netRow) error {
	r.Net, r.More = netRow{Mode: modeBridge}, nil
	if len(all) > 0 {
		r.Net, r.More = all[0], slices.Clone(all[1:])
	}
	spec, err := r.spec()
	if err != nil {
		return err
	}
	spec.Network.SetLinks(r.links())
	r.Spec, err = json.Marshal(spec)
	return err
}

// links are a container's networks as the engine is told of them: the one by which
// the outside is reached first, by Docker's rule.
func (r *containerRow) links() (all []engine.Link) {
	if r.Net.Mode != modeBridge {
		return nil
	}
	nets := r.nets()
	slices.SortFunc(nets, byGateway)
	for _, n := range nets {
		all = append(all, engine.Link{Name: n.ID, Internal: n.Internal, Address: n.addr(), Subnet: n.subnet()})
	}
	return all
}

// tellNet tells that a container is on a network, or no more.
func (d *Daemon) tellNet(row *containerRow, n *networkRow, action events.Action) {
	d.tellThing(events.NetworkEventType, action, n.ID, map[string]string{"container": row.ID, "name": n.Name, "type": n.driver()})
}

// tellNets tells it of all the networks of a container that starts or has ended.
func (d *Daemon) tellNets(row *containerRow, action events.Action) {
	for _, n := range row.nets() {
		d.tellNet(row, &networkRow{ID: n.ID, Name: n.Name}, action)
	}
}

// sharedNetwork is the network of a container that is in another's, as that has it
// now.
func (d *Daemon) sharedNetwork(ctx context.Context, row *containerRow, n *engine.Network) error {
	if row.Net.Mode != modeContainer {
		return nil
	}
	other, err := d.find(ctx, row.Net.ID)
	if err == nil && other.Net.Mode == modeBridge {
		n.SetLinks(other.links())
	}
	return err
}

// noNet is the place of a container without a network.
func noNet() netRow { return netRow{Mode: network.NetworkNone, ID: noneID, Name: network.NetworkNone} }
