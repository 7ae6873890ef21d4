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
// network by rows, the rest by asking the machine's servers, or those of --dns.
// From an internal network nobody outside is asked.
func (d *Daemon) resolve(ctx context.Context, row *containerRow, open []engine.Listening) error {
	_, h, err := row.config()
	if err != nil {
		return err
	}
	spec, err := row.spec()
	if err != nil {
		return err
	}
	r := &resolver.Resolver{}
	for _, a := range h.DNS {
		r.Upstreams = append(r.Upstreams, net.JoinHostPort(a.String(), "53"))
	}
	if row.Net.ID == bridgeID {
		r.Lookup = func(ctx context.Context, name string) (resolver.Answer, bool) {
			found := d.linked(ctx, row, name)
			return addressesOf(found), len(found) > 0
		}
	} else {
		r.Lookup = func(ctx context.Context, name string) (resolver.Answer, bool) {
			if found := d.linked(ctx, row, name); len(found) > 0 {
				return addressesOf(found), true
			}
			found := d.neighbours(ctx, row.Net.ID, func(n *containerRow) bool {
				return slices.ContainsFunc(namesOf(n), func(has string) bool {
					return strings.EqualFold(has, name) || strings.EqualFold(has+"."+row.Net.Name, name)
				})
			})
			return addressesOf(found), len(found) > 0 || spec.Network.Internal
		}
		r.Reverse = func(ctx context.Context, at netip.Addr) (string, bool) {
			found := d.neighbours(ctx, row.Net.ID, func(n *containerRow) bool { return n.Net.addr() == at })
			if len(found) == 0 {
				return "", false
			}
			return found[0].Name + "." + row.Net.Name, true
		}
	}
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

// addressesOf answers with the addresses of containers; of none, that there is no
// such name.
func addressesOf(found []*containerRow) resolver.Answer {
	a := resolver.Answer{None: len(found) == 0}
	for _, n := range found {
		a.Addresses = append(a.Addresses, n.Net.addr())
	}
	return a
}

// neighbours finds running containers of a network.
func (d *Daemon) neighbours(ctx context.Context, network string, fits func(*containerRow) bool) (found []*containerRow) {
	err := d.db.View(ctx, func(tx *store.Tx) error {
		found = nil
		rows, err := inNetwork(tx, network)
		for _, row := range rows {
			if row.running() && fits(row) {
				found = append(found, row)
			}
		}
		return err
	})
	if err != nil && ctx.Err() == nil {
		d.log.Warn("docker: cannot resolve a name", "err", err)
	}
	return found
}
