package enginetest

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"skerry/internal/engine"
)

// Images are those of Pullable that were pulled.
func (f *Fake) Images() engine.Images {
	if f.Pullable == nil {
		return engine.NoImages{}
	}
	return fakeImages{f: f}
}

// fakeImages pulls from a table, keeps names, tells of them and forgets them. It
// does nothing else.
type fakeImages struct {
	engine.NoImages
	f *Fake
}

// Pull finds an image in the table.
func (i fakeImages) Pull(_ context.Context, name string, _ engine.PullOptions) (engine.Image, error) {
	i.f.mu.Lock()
	defer i.f.mu.Unlock()
	image, ok := i.f.Pullable[name]
	if !ok {
		return engine.Image{}, fmt.Errorf("pull access denied for %s, repository does not exist or may require 'docker login': %w", name, engine.ErrNotFound)
	}
	if i.f.pulled == nil {
		i.f.pulled = map[string]engine.Image{}
	}
	i.f.pulled[name] = image
	return image, nil
}

// Ensure returns what was pulled, or pulls it.
func (i fakeImages) Ensure(ctx context.Context, name string, o engine.PullOptions) (engine.Image, error) {
	if image, err := i.Get(ctx, name); err == nil {
		return image, nil
	}
	return i.Pull(ctx, name, o)
}

// Get finds what was pulled, by name or id.
func (i fakeImages) Get(_ context.Context, name string) (engine.Image, error) {
	i.f.mu.Lock()
	defer i.f.mu.Unlock()
	for n, image := range i.f.pulled {
		if n == name || image.ID == name {
			return image, nil
		}
	}
	return engine.Image{}, fmt.Errorf("no such image: %s: %w", name, engine.ErrNotFound)
}

// List tells of what was pulled.
func (i fakeImages) List(context.Context) (all []engine.Image, err error) {
	i.f.mu.Lock()
	defer i.f.mu.Unlock()
	for _, image := range i.f.pulled {
		all = append(all, image)
	}
	slices.SortFunc(all, func(a, b engine.Image) int { return b.Created.Compare(a.Created) })
	return all, nil
}

// Remove forgets what was pulled, by name or, with force, by id.
func (i fakeImages) Remove(_ context.Context, name string, force bool) (out engine.Removed, err error) {
	i.f.mu.Lock()
	defer i.f.mu.Unlock()
	for n, image := range i.f.pulled {
		if n == name || image.ID == name && force {
			delete(i.f.pulled, n)
			return engine.Removed{Names: []string{n}, Images: []string{image.ID}}, nil
		}
	}
	return out, fmt.Errorf("no such image: %s: %w", name, engine.ErrNotFound)
}

// imageOf returns the id of a container's image.
func (f *Fake) imageOf(spec *engine.Spec) (string, error) {
	if spec.Root.Image == "" {
		return "", nil
	}
	image, err := f.Images().Get(context.Background(), spec.Root.Image)
	return image.ID, err
}

// connect gives a container its address and ports: those of its sandbox, if it
// is there already. f.mu is held.
func (f *Fake) connect(spec *engine.Spec) (netip.Addr, []engine.Port, error) {
	n := &spec.Network
	for _, c := range f.containers {
		if sandboxOf(&c.spec) == sandboxOf(spec) {
			return c.status.Address, c.status.Ports, nil
		}
	}
	if err := f.taken(sandboxOf(spec), n.Links()); err != nil {
		return netip.Addr{}, nil, err
	}
	ports := slices.Clone(n.Ports)
	for i := range ports {
		if ports[i].Host == 0 {
			f.ports++
			ports[i].Host = 32767 + f.ports
		}
	}
	switch n.Mode {
	case engine.NetworkNamed:
		return n.Address, ports, nil
	case engine.NetworkNAT:
		f.seq++
		return netip.AddrFrom4([4]byte{10, 254, byte(f.seq >> 8), byte(f.seq)}), ports, nil
	}
	return netip.Addr{}, ports, nil
}

// taken says whether another sandbox has one of some addresses. f.mu is held.
func (f *Fake) taken(sandbox string, links []engine.Link) error {
	for _, c := range f.containers {
		if sandboxOf(&c.spec) == sandbox {
			continue
		}
		for _, has := range c.spec.Network.Links() {
			for _, l := range links {
				if l.Name == has.Name && l.Address == has.Address {
					return fmt.Errorf("engine: address %s: %w", l.Address, engine.ErrExists)
				}
			}
		}
	}
	return nil
}

// sandboxOf names the network that a container is in.
func sandboxOf(s *engine.Spec) string {
	if s.Network.Sandbox != "" {
		return s.Network.Sandbox
	}
	return string(s.ID)
}
