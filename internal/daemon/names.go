package daemon

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"

	"skerry/internal/engine"
	"skerry/internal/engine/resolver"
	"skerry/internal/store"
)

// nameServer is where a container's /etc/resolv.conf says to ask.
const nameServer = "169.254.169.253:53"

// nameSockets leave port 53 to the container's own programs.
func nameSockets() []engine.Socket {
	return []engine.Socket{{Network: "udp", Address: nameServer, Apart: true}, {Network: "tcp", Address: nameServer, Apart: true}}
}

func namesKey(id string) string { return "names " + id }

// openNames has a container's names resolved. It is called before the program
// runs, so that its first question is heard.
func (d *Daemon) openNames(ctx context.Context, row *containerRow) error {
	if row.Net.Mode != modeBridge || d.keepers.Has(namesKey(row.ID)) {
		return nil
	}
	open, err := d.engine.ListenAll(ctx, engine.ID(row.ID), nameSockets()...)
	if errors.Is(err, engine.ErrUnsupported) {
		return nil // an engine with a resolver of its own
	}
	if err != nil {
		return err
	}
	started := d.keepers.Start(namesKey(row.ID), func(ctx context.Context) error { return d.resolve(ctx, row, open) })
	if !started {
		for _, o := range open {
			_ = o.Close()
		}
	}
	return nil
}

// keepNames is openNames for a container that runs already: the server was away.
func (d *Daemon) keepNames(ctx context.Context, row *containerRow) error {
	open, err := d.engine.ListenAll(ctx, engine.ID(row.ID), nameSockets()...)
	if err != nil {
		if !errors.Is(err, engine.ErrUnsupported) {
			d.log.Debug("docker: no resolver", "id", row.ID, "err", err)
		}
		<-ctx.Done() // wanted for as long as the container runs
		return ctx.Err()
	}
	return d.resolve(ctx, row, open)
}

// resolve answers questions from a container: those about the others in its
// networks by rows, the rest by asking the machine's servers, or those of --dns.
// From internal networks nobody outside is asked.
func (d *Daemon) resolve(ctx context.Context, row *containerRow, open []engine.Listening) error {
	_, h, err := row.config()
	if err != nil {
		return err
	}
	r := &resolver.Resolver{}
	for _, a := range h.DNS {
		r.Upstreams = append(r.Upstreams, net.JoinHostPort(a.String(), "53"))
	}
	r.Lookup = func(ctx context.Context, name string) (resolver.Answer, bool) { return d.lookup(ctx, row.ID, name) }
	r.Reverse = func(ctx context.Context, at netip.Addr) (string, bool) { return d.nameOf(ctx, row.ID, at) }
	ended := make(chan error, len(open))
	for _, o := range open {
		go func() {
			if o.Packets != nil {
				ended <- r.Serve(ctx, o.Packets, nil)
			} else {
				ended <- r.ServeStream(ctx, o.Listener, nil)
			}
		}()
	}
	for range open {
		err = errors.Join(err, <-ended)
	}
	if errors.Is(err, net.ErrClosed) {
		return nil // the container was removed
	}
	return err
}

// lookup resolves a name for a container: by the network, of those that it is in at
// the moment, that leads outside first.
func (d *Daemon) lookup(ctx context.Context, id, name string) (a resolver.Answer, own bool) {
	row, err := d.find(ctx, id)
	if err != nil {
		return resolver.Answer{None: true}, false
	}
	nets := row.nets()
	slices.SortFunc(nets, byGateway)
	for _, at := range nets {
		found := d.linked(ctx, &at, name)
		if len(found) == 0 && at.ID != bridgeID {
			found = d.neighbours(ctx, at.ID, func(n neighbour) bool {
				return slices.ContainsFunc(namesOf(n.containerRow, n.at), func(has string) bool {
					return strings.EqualFold(has, name) || strings.EqualFold(has+"."+at.Name, name)
				})
			})
		}
		for _, n := range found {
			a.Addresses = append(a.Addresses, n.at.addr())
		}
		if len(found) > 0 {
			return a, true
		}
	}
	a.None = true
	return a, !slices.ContainsFunc(nets, func(n netRow) bool { return !n.Internal })
}

// nameOf is the name of an address on a container's networks.
func (d *Daemon) nameOf(ctx context.Context, id string, address netip.Addr) (string, bool) {
	row, err := d.find(ctx, id)
	if err != nil {
		return "", false
	}
	for _, at := range row.nets() {
		if at.ID == bridgeID {
			continue
		}
		if found := d.neighbours(ctx, at.ID, func(n neighbour) bool { return n.at.addr() == address }); len(found) > 0 {
			return found[0].Name + "." + at.Name, true
		}
	}
	return "", false
}

// neighbour is a container and its place in a network.
type neighbour struct {
	*containerRow
	at *netRow
}

// neighbours finds running containers of a network.
func (d *Daemon) neighbours(ctx context.Context, network string, fits func(neighbour) bool) (found []neighbour) {
	err := d.db.View(ctx, func(tx *store.Tx) error {
		found = nil
		rows, err := inNetwork(tx, network)
		for _, row := range rows {
			if n := (neighbour{row, row.in(network)}); row.running() && fits(n) {
				found = append(found, n)
			}
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		d.log.Warn("docker: cannot resolve a name", "err", err)
	}
	return found
}
