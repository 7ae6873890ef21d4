//go:build linux && amd64

package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"skerry/internal/engine"
)

// firewalls is the folder of the networks' security groups, a file each: they are
// told before a network is there and after it has gone, and to one supervisor for
// the next.
func (s *supervisor) firewalls() string { return filepath.Join(s.cfg.Data, "firewall") }

// setFirewall replaces the security groups of a network, and keeps them.
func (s *supervisor) setFirewall(network string, groups []engine.SecurityGroup) error {
	if err := engine.ValidateFirewall(network, groups); err != nil {
		return err
	}
	s.firewall.Lock() // so that what is kept is what is in force
	defer s.firewall.Unlock()
	if err := s.pool.SetFirewall(network, groups); err != nil {
		return err
	}
	path := filepath.Join(s.firewalls(), network)
	if len(groups) == 0 {
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("supervisor: %w", err)
		}
		return nil
	}
	text, err := json.Marshal(groups)
	if err == nil {
		err = os.MkdirAll(s.firewalls(), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path+"~", text, 0o600) // no network has such a name
	}
	if err == nil {
		err = os.Rename(path+"~", path)
	}
	if err != nil {
		return fmt.Errorf("supervisor: keep the security groups of %s: %w", network, err)
	}
	return nil
}

// recoverFirewalls reads what earlier supervisors were told.
func (s *supervisor) recoverFirewalls() error {
	entries, err := os.ReadDir(s.firewalls())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("supervisor: %w", err)
	}
	for _, e := range entries {
		if !engine.ID(e.Name()).Valid() {
			continue // half written
		}
		text, err := os.ReadFile(filepath.Join(s.firewalls(), e.Name()))
		if err != nil {
			return fmt.Errorf("supervisor: %w", err)
		}
		var groups []engine.SecurityGroup
		if err := json.Unmarshal(text, &groups); err != nil {
			return fmt.Errorf("supervisor: security groups of %s: %w", e.Name(), err)
		}
		if err := s.pool.SetFirewall(e.Name(), groups); err != nil {
			return err
		}
	}
	return nil
}
