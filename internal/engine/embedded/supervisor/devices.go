//go:build linux && amd64

package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/cgroup"
	"skerry/internal/engine/embedded/network"
	"skerry/internal/engine/embedded/rootfs"
)

// openDev makes the /dev of a container that does not share the usual one:
// because of its terminal, its devices, what is mounted there, or since it is
// privileged. It comes before the container's group is joined, which has to allow
// the devices.
func (s *supervisor) openDev(c *container) error {
	places, err := c.placesInDev()
	if err != nil {
		return err
	}
	if !c.tty && len(c.spec.Devices) == 0 && !c.bounds.privileged && len(places) == 0 {
		return nil
	}
	var all []node
	if c.bounds.privileged {
		found, err := devicesBelow("/dev", "/dev")
		if err != nil {
			return err
		}
		all = found
	}
	for _, d := range c.spec.Devices {
		found, err := devicesOf(d)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	if err := s.allow(c, all); err != nil {
		return err
	}
	nodes := make([]rootfs.Node, len(all))
	for i, n := range all {
		nodes[i] = n.in(c.base())
	}
	c.ready.dev, err = rootfs.Dev(c.base(), append(nodes, places...), c.bounds.privileged)
	return err
}

// placesInDev are the files and folders in /dev on which something of the
// container's is mounted; c.mu is held.
func (c *container) placesInDev() (all []rootfs.Node, err error) {
	for _, m := range c.ready.mounts {
		rest, ok := strings.CutPrefix(filepath.Clean(m.target), "/dev/")
		if first, _, _ := strings.Cut(rest, "/"); !ok || slices.Contains(notDevices, first) {
			continue
		}
		n := rootfs.Node{Path: rest, Mode: unix.S_IFREG | 0o644, UID: c.base(), GID: c.base()}
		var st unix.Stat_t
		if err := unix.Fstat(m.fd, &st); err != nil {
			return nil, fmt.Errorf("supervisor: what is mounted at %s: %w", m.target, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			n.Mode = unix.S_IFDIR | 0o755
		}
		all = append(all, n)
	}
	return all, nil
}

// node is a device of the machine and where it goes.
type node struct {
	at     string // below /dev in the container
	stat   unix.Stat_t
	access string
}

// devicesOf finds what a specification's device means, with Docker's errors.
func devicesOf(d engine.Device) ([]node, error) {
	bad := func(what string) error {
		return fmt.Errorf("engine: %w: error gathering device information while adding custom device %q: %s", engine.ErrInvalid, d.Source, what)
	}
	access := d.Permissions
	if access == "" {
		access = "rwm"
	}
	n := node{at: d.Place(), access: access}
	if err := unix.Stat(d.Source, &n.stat); err != nil {
		return nil, bad(err.Error())
	}
	if n.device() {
		return []node{n}, nil
	}
	if n.stat.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, bad("not a device node")
	}
	all, err := devicesBelow(d.Source, n.at)
	for i := range all {
		all[i].access = access
	}
	return all, err
}

// notDevices are what a container has of its own in /dev.
var notDevices = []string{"pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"}

// devicesBelow finds the devices in a folder of the machine.
func devicesBelow(dir, at string) (all []node, err error) {
	err = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil {
			return err
		}
		rest := strings.TrimPrefix(path, dir)
		for _, name := range notDevices {
			if rest == "/"+name {
				if e.IsDir() {
					return fs.SkipDir
				}
				return nil
			}
		}
		n := node{at: at + rest, access: "rwm"}
		if e.Type()&os.ModeDevice != 0 && unix.Lstat(path, &n.stat) == nil && n.device() {
			all = append(all, n)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("supervisor: devices: %w", err)
	}
	return all, nil
}

func (n node) device() bool {
	kind := n.stat.Mode & unix.S_IFMT
	return kind == unix.S_IFCHR || kind == unix.S_IFBLK
}

// in is the node for a container with that base of ids.
func (n node) in(base uint32) rootfs.Node {
	id := func(id uint32) uint32 {
		if id >= network.IDs && base > 0 { // it has no such id
			return base
		}
		return base + id
	}
	return rootfs.Node{Path: strings.TrimPrefix(n.at, "/dev/"), Mode: n.stat.Mode, Device: n.stat.Rdev, UID: id(n.stat.Uid), GID: id(n.stat.Gid)}
}

// allow lets the container's group use the devices, as a second line behind its
// /dev, and the only one for their permissions.
func (s *supervisor) allow(c *container, all []node) error {
	if c.bounds.privileged {
		return c.group.AllowAllDevices()
	}
	if len(all) == 0 {
		return nil
	}
	rules := make([]cgroup.Device, len(all))
	part := false
	for i, n := range all {
		rules[i] = cgroup.Device{Block: n.stat.Mode&unix.S_IFMT == unix.S_IFBLK, Major: unix.Major(n.stat.Rdev), Minor: unix.Minor(n.stat.Rdev), Access: n.access}
		part = part || !strings.Contains(n.access, "r") || !strings.Contains(n.access, "w")
	}
	err := c.group.AllowDevices(rules)
	if errors.Is(err, errors.ErrUnsupported) && !part {
		return nil // nothing has to be kept off
	}
	return unsupported(err)
}
