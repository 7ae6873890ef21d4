//go:build linux && amd64

package supervisor

import (
	"fmt"

	"skerry/internal/engine"
)

// unbuilt refuses what a specification may ask for and this driver does not do
// yet, so that nothing is accepted and then not kept.
func unbuilt(s *engine.Spec) error {
	for what, asked := range map[string]bool{
		"the size of a root":      s.Root.Host != nil && s.Root.Size != 0,
		"lines of /etc/hosts":     s.Root.Host != nil && len(s.Network.Hosts) > 0,
		"a resolver of one's own": s.Root.Host != nil && len(s.Network.DNS.Servers)+len(s.Network.DNS.Search)+len(s.Network.DNS.Options) > 0,
	} {
		if asked {
			return fmt.Errorf("engine: %s: %w", what, engine.ErrUnsupported)
		}
	}
	for _, m := range s.Mounts {
		own := m.Kind == engine.MountBind && m.Owned || m.Kind == engine.MountDisk && m.Source != ""
		if m.Populate && (!own || s.Root.Host != nil) {
			return fmt.Errorf("engine: populate the mount %s %s: %w", m.Kind, m.Target, engine.ErrUnsupported)
		}
	}
	return nil
}
