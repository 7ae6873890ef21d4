//go:build linux && amd64

package supervisor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/embedded/rootfs"
)

// image is what main has resolved a container's image to.
type image struct {
	id     string
	layers []string // folders, the lowest first
}

// upper is the folder of what a container of an image has written.
func (s *supervisor) upper(id engine.ID) string { return filepath.Join(s.uppers(), string(id)) }

// makeRoot makes a container's root with its mounts; c.mu is held.
func (s *supervisor) makeRoot(c *container) error {
	if c.spec.Root.Host != nil {
		var err error
		if c.ready.root, err = s.roots.Host(*c.spec.Root.Host, c.spec.Root.Writable); err != nil {
			return err
		}
		for _, m := range c.spec.Mounts {
			if err := s.addMount(c, m); err != nil {
				return fmt.Errorf("engine: %w", err)
			}
		}
		return nil
	}
	if c.tree == nil {
		if err := s.makeTree(c, c.spec.Root.Writable); err != nil {
			return err
		}
	}
	err := s.assemble(c)
	if errors.Is(err, unix.EROFS) && !c.written {
		// a read-only root that lacks places for its mounts: they are made above
		// the image, and nothing else can be written
		c.tree.Close()
		if err := s.makeTree(c, true); err != nil {
			return err
		}
		err = s.assemble(c)
	}
	if err != nil {
		return fmt.Errorf("engine: the root of %s: %w", c.id, err)
	}
	return nil
}

// makeTree mounts a container's image, with a folder for what is written or none.
func (s *supervisor) makeTree(c *container, written bool) (err error) {
	if _, err := os.Lstat(s.upper(c.id)); err != nil && s.keptRoot(c, written) {
		return nil
	}
	i := rootfs.Image{Layers: c.image.layers, Userns: c.userns(), Base: c.base(), Trusted: c.bounds.newPrivileges, Devices: c.bounds.privileged}
	if written {
		i.Upper = s.upper(c.id)
		if err := s.makeUpper(i.Upper); err != nil {
			return err
		}
		if size := c.spec.Root.Size; size > 0 {
			if i.Disk, err = rootfs.Disk(protocol.DiskFolder(s.cfg.Data), filepath.Join(i.Upper, "disk.ext4"), size); err != nil {
				return err
			}
		}
	}
	c.written = written
	c.tree, err = s.roots.Image(i)
	return err
}

// spares are folders for what containers write that were made ahead: ext4 takes
// its time to find a place for a new folder.
type spares struct {
	mu    sync.Mutex
	ready []string
}

const maxSpares = 4

// makeUpper makes a folder for what a container writes, unless it is there.
func (s *supervisor) makeUpper(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	var spare string
	s.spares.mu.Lock()
	if n := len(s.spares.ready); n > 0 {
		spare, s.spares.ready = s.spares.ready[n-1], s.spares.ready[:n-1]
	}
	s.spares.mu.Unlock()
	s.janitor.Go(s.makeSpare)
	if spare != "" && os.Rename(spare, path) == nil {
		return nil
	}
	return rootfs.NewUpper(path)
}

func (s *supervisor) makeSpare() {
	s.spares.mu.Lock()
	if len(s.spares.ready) >= maxSpares {
		s.spares.mu.Unlock()
		return
	}
	s.spares.mu.Unlock()
	path := s.place()
	if err := rootfs.NewUpper(path); err != nil {
		return // who needs one sees the error
	}
	s.spares.mu.Lock()
	defer s.spares.mu.Unlock()
	s.spares.ready = append(s.spares.ready, path)
}

// assemble mounts what belongs to a container on the root of its image.
func (s *supervisor) assemble(c *container) (err error) {
	pieces, err := s.etc(c)
	defer func() {
		for _, p := range pieces {
			unix.Close(p.FD)
		}
	}()
	if err != nil {
		return err
	}
	for _, m := range c.spec.Mounts {
		late := m.ReadOnly && m.Populate // it is written once, here
		m.ReadOnly = m.ReadOnly && !late
		p, err := s.piece(c, m)
		if err != nil {
			return err
		}
		p.Populate, p.ReadOnly = m.Populate && !p.File && c.exit == nil, late // before the first run
		pieces = append(pieces, p)
	}
	fd, later, err := c.tree.Assemble(pieces, c.dir, !c.spec.Root.Writable)
	if err != nil {
		return err
	}
	c.ready.root = fd
	for _, p := range later {
		fd, err := unix.FcntlInt(uintptr(p.FD), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return fmt.Errorf("supervisor: %w", err)
		}
		c.ready.mounts = append(c.ready.mounts, detached{fd, p.Target})
	}
	return nil
}

// reassemble mounts one thing more on the root of a container that is to start.
func (s *supervisor) reassemble(c *container, m engine.Mount) error {
	all := c.spec.Mounts
	c.spec.Mounts = append(slices.Clone(all), m)
	old := *c.ready
	c.ready.root, c.ready.mounts = -1, nil
	err := s.assemble(c)
	c.spec.Mounts = all
	if err != nil {
		closeMounts(c.ready)
		c.ready.root, c.ready.mounts = old.root, old.mounts
		return err
	}
	closeMounts(&old)
	return nil
}

func closeMounts(p *prepared) {
	closeAll(p.root)
	for _, m := range p.mounts {
		unix.Close(m.fd)
	}
}

// rootOf opens (O_PATH) a container's root with what is mounted on it, as far as it
// is: that of an image whose container has exited has nothing on it. c.mu is held.
func (s *supervisor) rootOf(c *container) (fd int, err error) {
	switch {
	case c.state == engine.Running || c.state == engine.Frozen || c.bare != nil:
		err = s.spawner.Visit(c.where(), unix.CLONE_NEWNS, -1, func() (err error) {
			fd, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
			return err
		})
	case c.ready != nil:
		fd, err = unix.FcntlInt(uintptr(c.ready.root), unix.F_DUPFD_CLOEXEC, 3)
	case c.tree != nil:
		fd, err = c.tree.Open()
	case c.spec != nil && c.spec.Root.Host != nil && !c.spec.Root.Writable:
		fd, err = s.roots.Host(*c.spec.Root.Host, false)
	default:
		err = fmt.Errorf("its files are gone: %w", engine.ErrState)
	}
	if err != nil {
		return -1, fmt.Errorf("engine: the root of %s: %w", c.id, err)
	}
	return fd, nil
}

// rootFor is rootOf for main, which has no other way to a container's files. That
// of a container whose supervisor was lost is mounted for it. c.mu is held.
func (s *supervisor) rootFor(c *container) (fd int, root protocol.Root, err error) {
	if c.removed {
		return -1, root, fmt.Errorf("engine: %s: %w", c.id, engine.ErrNotFound)
	}
	if c.state == engine.Exited && c.tree == nil && c.spec != nil && c.spec.Root.Image != "" {
		if err := s.remount(c); err != nil {
			return -1, root, err
		}
	}
	if fd, err = s.rootOf(c); err != nil {
		return -1, root, err
	}
	c.opened = true
	root.ReadOnly = c.state == engine.Exited && !c.spec.Root.Writable
	if c.slot != nil {
		root.Base = c.slot.Base
	}
	return fd, root, nil
}

// layerOf opens (O_PATH) the folder of what a container of an image has written; -1:
// nothing could be. c.mu is held.
func (s *supervisor) layerOf(c *container) (fd int, root protocol.Root, err error) {
	if c.spec == nil || c.image.id == "" {
		return -1, root, fmt.Errorf("engine: what %s has written: only that of an image is known: %w", c.id, engine.ErrUnsupported)
	}
	fd, root, err = s.rootFor(c)
	if err != nil {
		return -1, root, err
	}
	unix.Close(fd)
	root.Image, root.Layers = c.image.id, append([]string{s.skeleton()}, c.image.layers...)
	if !c.written {
		return -1, root, nil
	}
	fd, err = c.tree.OpenUpper()
	return fd, root, err
}

// skeleton is the folder of the lowest layer of all images.
func (s *supervisor) skeleton() string { return filepath.Join(s.cfg.Data, "skeleton") }

// remount mounts the root of a container that has exited; c.mu is held.
func (s *supervisor) remount(c *container) error {
	if c.box == nil {
		if err := s.join(c, c.spec.Network); err != nil {
			return err
		}
	}
	_, err := os.Lstat(s.upper(c.id))
	if err := s.makeTree(c, err == nil); err != nil {
		return err
	}
	return c.tree.Mount()
}

// piece makes a mount of a container that is nowhere yet.
func (s *supervisor) piece(c *container, m engine.Mount) (p rootfs.Piece, err error) {
	p = rootfs.Piece{Target: m.Target}
	if p.FD, err = s.detach(c, m); err != nil {
		return p, fmt.Errorf("mount %s: %w", m.Target, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(p.FD, &st); err != nil {
		unix.Close(p.FD)
		return p, fmt.Errorf("mount %s: %w", m.Target, err)
	}
	p.File = st.Mode&unix.S_IFMT != unix.S_IFDIR
	return p, nil
}
