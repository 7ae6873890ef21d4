//go:build linux && amd64

package supervisor

import (
	"fmt"
	"io/fs"
	"os"
	"sync"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/cgroup"
	"skerry/internal/engine/embedded/rootfs"
)

// bound is what limits the containers of one Spec.Group together. It lasts from the
// first container's creation to the last one's removal.
type bound struct {
	account string
	group   engine.Group
	parent  *cgroup.Parent

	// with boundaries.mu
	users int // containers
	disks map[string]groupDisk
}

// groupDisk is a disk that a group's containers share.
type groupDisk struct {
	*rootfs.SharedDisk
	size int64
}

// boundaries are all of them.
type boundaries struct {
	mu     sync.Mutex
	byName map[string]*bound
}

// makeGroup makes the control group of a container's run; c.mu is held.
func (s *supervisor) makeGroup(c *container, l cgroup.Limits) (err error) {
	if c.spec.Group.Name == "" {
		c.group, err = s.tree.Create(l)
		return err
	}
	if c.bound == nil {
		if c.bound, err = s.bind(c.account, c.spec.Group); err != nil {
			return err
		}
	}
	c.group, err = c.bound.parent.Create(l)
	return err
}

// bind counts a container in.
func (s *supervisor) bind(account string, g engine.Group) (*bound, error) {
	s.together.mu.Lock()
	defer s.together.mu.Unlock()
	b := s.together.byName[g.Name]
	switch {
	case b != nil && b.account != account:
		return nil, fmt.Errorf("engine: %w: the group %s is of the account %q, not %q", engine.ErrInvalid, g.Name, b.account, account)
	case b != nil && b.group != g:
		return nil, fmt.Errorf("engine: %w: the group %s has the limits %+v, not %+v", engine.ErrInvalid, g.Name, b.group.Limits, g.Limits)
	case b == nil:
		parent, err := s.tree.Parent(groupLimits(g.Limits))
		if err != nil {
			return nil, err
		}
		b = &bound{account: account, group: g, parent: parent, disks: map[string]groupDisk{}}
		s.together.byName[g.Name] = b
	}
	b.users++
	return b, nil
}

// unbind counts one out. The control group goes with the last container's own.
func (s *supervisor) unbind(b *bound) {
	s.together.mu.Lock()
	b.users--
	last := b.users == 0
	if last {
		delete(s.together.byName, b.group.Name)
	}
	s.together.mu.Unlock()
	if !last {
		return
	}
	for _, d := range b.disks {
		d.Close()
	}
	s.janitor.Go(func() {
		if err := b.parent.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	})
}

// groupDisk mounts a disk of a container's group, which is made with the first
// that mounts it.
func (s *supervisor) groupDisk(c *container, m engine.Mount, mode fs.FileMode, attrs uint64) (fd int, err error) {
	if c.bound == nil {
		return -1, fmt.Errorf("%w: the disk %s of no group", engine.ErrInvalid, m.Source)
	}
	s.together.mu.Lock()
	defer s.together.mu.Unlock()
	disk, ok := c.bound.disks[m.Source]
	if !ok {
		disk.size = m.Size
		if disk.SharedDisk, err = s.disks.Share(m.Size, mode); err != nil {
			return -1, err
		}
		c.bound.disks[m.Source] = disk
	}
	if disk.size != m.Size {
		return -1, fmt.Errorf("%w: the disk %s has %d bytes, not %d", engine.ErrInvalid, m.Source, disk.size, m.Size)
	}
	return disk.Mount(attrs, c.userns())
}
