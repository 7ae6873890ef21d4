//go:build linux && amd64

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"skerry/internal/engine"
)

// connect makes these the networks of a container and of those in its sandbox.
func (s *supervisor) connect(c *container, links []engine.Link) error {
	if err := engine.ValidateLinks(links); err != nil {
		return err
	}
	s.linking.Lock()
	defer s.linking.Unlock()
	c.mu.Lock()
	box, spec, removed := c.box, c.spec, c.removed
	c.mu.Unlock()
	switch {
	case removed:
		return fmt.Errorf("engine: %s: %w", c.id, engine.ErrNotFound)
	case spec == nil:
		return fmt.Errorf("engine: connect %s, of which nothing but its exit is known: %w", c.id, engine.ErrState)
	}
	if box == nil { // lost with an earlier supervisor: its next start makes it
		c.mu.Lock()
		defer c.mu.Unlock()
		if err := changeable(c.spec.Network.Mode); err != nil {
			return err
		}
		return s.relinked(c, links)
	}
	own, ok := s.boxes.hold(box)
	if !ok {
		return fmt.Errorf("engine: %s: %w", c.id, engine.ErrNotFound)
	}
	defer s.leave("", box, true, nil)
	if err := changeable(own.Mode); err != nil {
		return err
	}
	if err := s.relink(box, links); err != nil {
		return errors.Join(err, s.relink(box, own.Links()))
	}
	return nil
}

// changeable says whether the networks of a sandbox can be changed.
func changeable(mode engine.NetworkMode) error {
	switch mode {
	case "", engine.NetworkNone, engine.NetworkNamed:
		return nil
	}
	return fmt.Errorf("engine: %w: other networks beside %q", engine.ErrInvalid, mode)
}

// relink changes the networks of a sandbox, and all that its containers know of
// them; s.linking is held.
func (s *supervisor) relink(box *sandbox, links []engine.Link) error {
	if err := s.pool.Relink(box.slot, links); err != nil {
		return err
	}
	s.boxes.mu.Lock()
	box.network.SetLinks(links)
	s.boxes.mu.Unlock()
	s.mu.Lock()
	all := make([]*container, 0, len(s.containers))
	for _, c := range s.containers {
		all = append(all, c)
	}
	s.mu.Unlock()
	var errs []error
	for _, c := range all {
		c.mu.Lock()
		if c.box == box {
			errs = append(errs, s.relinked(c, links))
		}
		c.mu.Unlock()
	}
	return errors.Join(errs...)
}

// relinked brings a container up to its new networks: what is recorded of it, its
// /etc/hosts, and where its published ports lead; c.mu is held.
func (s *supervisor) relinked(c *container, links []engine.Link) (err error) {
	if c.spec == nil {
		return nil
	}
	before := c.made
	if c.spec.Network.Mode != "" || c.spec.Network.Sandbox == "" {
		c.spec.Network.SetLinks(links)
	}
	if err := s.replace(c, recordFile, c.toRun()); err != nil {
		return err
	}
	if c.tree != nil && c.state != engine.Exited {
		if err := s.renewHosts(c, before); err != nil {
			return fmt.Errorf("supervisor: hosts of %s: %w", c.id, err)
		}
	}
	if old := c.published; old != nil && old.Astray(c.slot) {
		ports := old.Ports // with the numbers that were chosen
		if len(ports) == 0 {
			ports = c.spec.Network.Ports
		}
		s.unpublish(c)
		c.published, err = s.pool.Publish(c.slot, ports)
	}
	return err
}

// renewHosts writes a container's /etc/hosts anew, unless it is not as it was made.
func (s *supervisor) renewHosts(c *container, made string) error {
	path := filepath.Join(s.runs(), string(c.id), "hosts")
	now, err := os.ReadFile(path)
	if err != nil || string(now) != made {
		return err
	}
	text, err := c.hosts()
	if err != nil {
		return err
	}
	c.made = string(text)
	return writeEtc(path, text, false, int(c.base()))
}
