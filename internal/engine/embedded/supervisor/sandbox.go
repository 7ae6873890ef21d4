//go:build linux && amd64

package supervisor

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/network"
)

// sandbox is what the containers of one Network.Sandbox share: a slot of
// namespaces. It lasts from the first container's creation to the last one's
// removal.
type sandbox struct {
	name    string
	account string
	made    chan struct{} // closed when there is a slot, or never will be
	slot    *network.Slot

	// with sandboxes.mu
	network engine.Network // as the first container had it, or Connect has made it
	users   int            // containers
	changed bool           // a container may have changed the network
}

// sandboxes are all of them.
type sandboxes struct {
	mu     sync.Mutex
	byName map[string]*sandbox
	shared map[engine.ID]*sandbox // those of containers that are in one of another name
}

// join puts a container into its sandbox, which is made if there is none of that
// name.
func (s *supervisor) join(c *container, n engine.Network) error {
	name := n.Sandbox
	if name == "" {
		name = string(c.id)
	}
	for {
		box, first := s.boxes.enter(c.id, name, c.account, n)
		var err error
		if first {
			err = s.makeSlot(box)
		}
		<-box.made
		own := s.boxes.networkOf(box)
		if err == nil && box.slot != nil {
			err = box.agree(&own, c.account, n)
		}
		if err != nil {
			s.leave(c.id, box, false, nil)
			return err
		}
		if box.slot == nil {
			s.leave(c.id, box, false, nil)
			continue // who was first has failed; now perhaps this one
		}
		c.box, c.slot = box, box.slot
		c.host = own.Mode == engine.NetworkHost
		return nil
	}
}

// enter counts a container in.
func (b *sandboxes) enter(id engine.ID, name, account string, n engine.Network) (box *sandbox, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	box = b.byName[name]
	if box == nil && n.Sandbox != "" {
		box = b.shared[engine.ID(name)]
	}
	if box == nil {
		box = &sandbox{name: name, account: account, network: n, made: make(chan struct{})}
		b.byName[name] = box
		first = true
	}
	if box.name != string(id) {
		b.shared[id] = box
	}
	box.users++
	return box, first
}

func (s *supervisor) makeSlot(box *sandbox) (err error) {
	defer close(box.made)
	switch box.network.Mode {
	case engine.NetworkNamed:
		box.slot, err = s.pool.Join(box.account, box.network)
	case engine.NetworkNAT:
		box.slot, err = s.pool.Take(box.account, network.NAT)
	default:
		box.slot, err = s.pool.Take(box.account, network.None)
	}
	return err
}

// networkOf is a sandbox's network as it is now.
func (b *sandboxes) networkOf(box *sandbox) engine.Network {
	b.mu.Lock()
	defer b.mu.Unlock()
	return box.network
}

// hold keeps a sandbox, until it is left; false: it has ended.
func (b *sandboxes) hold(box *sandbox) (engine.Network, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byName[box.name] != box {
		return engine.Network{}, false
	}
	box.users++
	return box.network, true
}

// agree says whether a container may share the sandbox, which has the network own.
func (b *sandbox) agree(own *engine.Network, account string, n engine.Network) error {
	bad := func(what string, has, wants any) error {
		return fmt.Errorf("engine: %w: the sandbox %s has the %s %q, not %q", engine.ErrInvalid, b.name, what, has, wants)
	}
	mode := func(m engine.NetworkMode) engine.NetworkMode {
		if m == "" {
			return engine.NetworkNone
		}
		return m
	}
	switch {
	case account != b.account:
		return bad("account", b.account, account)
	case n.Mode == "" && n.Sandbox != "":
		if own.Mode != engine.NetworkNAT && own.Mode != engine.NetworkNamed && len(n.Ports) > 0 {
			return fmt.Errorf("engine: %w: published ports in network %q", engine.ErrInvalid, own.Mode)
		}
		return nil
	case mode(n.Mode) != mode(own.Mode):
		return bad("network mode", own.Mode, n.Mode)
	case !slices.EqualFunc(n.Links(), own.Links(), sameLink):
		return bad("networks", text(own.Links()), text(n.Links()))
	}
	return nil
}

func sameLink(a, b engine.Link) bool {
	return a.Name == b.Name && a.Address == b.Address &&
		slices.Equal(slices.Sorted(slices.Values(a.Groups)), slices.Sorted(slices.Values(b.Groups)))
}

func text(all []engine.Link) string {
	var words []string
	for _, l := range all {
		words = append(words, fmt.Sprintf("%s %s %q", l.Name, l.Address, l.Groups))
	}
	return strings.Join(words, ", ")
}

// leave counts a container out; changed says that it may have changed the
// network. With the last one the slot goes back, and what others may want of it
// (its name, its address on a network) is free when this returns.
// rest, if there is any, is done on the side, and before the slot's next container
// comes: it may get this one's root.
func (s *supervisor) leave(id engine.ID, box *sandbox, changed bool, rest func()) {
	s.boxes.mu.Lock()
	delete(s.boxes.shared, id)
	box.changed = box.changed || changed
	box.users--
	last := box.users == 0
	if last {
		delete(s.boxes.byName, box.name)
	}
	s.boxes.mu.Unlock()
	give := last && box.slot != nil
	if give && box.network.Mode == engine.NetworkNamed {
		s.pool.Give(box.slot, !box.changed)
		give = false
	}
	if rest == nil && !give {
		return
	}
	s.janitor.Go(func() {
		if rest != nil {
			rest()
		}
		if give {
			s.pool.Give(box.slot, !box.changed)
		}
	})
}

// alter notes that a sandbox's network is no longer like a new one's.
func (b *sandboxes) alter(box *sandbox) {
	b.mu.Lock()
	defer b.mu.Unlock()
	box.changed = true
}

// publish opens the container's ports on the machine; c.mu is held.
func (s *supervisor) publish(c *container) (err error) {
	if ports := c.spec.Network.Ports; len(ports) > 0 {
		c.published, err = s.pool.Publish(c.slot, ports)
	}
	return err
}

// unpublish closes them; c.mu is held.
func (s *supervisor) unpublish(c *container) {
	if c.published != nil {
		c.published.Close()
		c.published = nil
	}
}
