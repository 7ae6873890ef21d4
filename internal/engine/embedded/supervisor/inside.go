//go:build linux && amd64

package supervisor

import (
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"skerry/internal/engine"
	"skerry/internal/engine/embedded/network"
	"skerry/internal/engine/embedded/protocol"
	"skerry/internal/engine/embedded/rootfs"
)

// attach mounts into a container, for this run and later ones; c.mu is held.
func (s *supervisor) attach(c *container, m engine.Mount) (err error) {
	if err := m.Validate(); err != nil {
		return err
	}
	switch {
	case c.state == engine.Exited:
		return fmt.Errorf("engine: attach to %s, which has exited: %w", c.id, engine.ErrState)
	case c.state != engine.Created:
		err = s.attachRunning(c, m)
	case c.tree != nil:
		err = s.reassemble(c, m)
	default:
		err = s.addMount(c, m)
	}
	if err != nil {
		return fmt.Errorf("engine: mount %s in %s: %w", m.Target, c.id, err)
	}
	c.spec.Mounts = append(c.spec.Mounts, m)
	return nil
}

// addMount has a container's start mount something.
func (s *supervisor) addMount(c *container, m engine.Mount) error {
	fd, err := s.detach(c, m)
	if err != nil {
		return fmt.Errorf("mount %s: %w", m.Target, err)
	}
	c.ready.mounts = append(c.ready.mounts, detached{fd, m.Target})
	return nil
}

// attachRunning mounts into a container that runs: by a thread whose root is the
// container's, so whatever its links say, the target is inside.
func (s *supervisor) attachRunning(c *container, m engine.Mount) error {
	p, err := s.piece(c, m)
	if err != nil {
		return err
	}
	defer unix.Close(p.FD)
	return s.spawner.Visit(c.where(), unix.CLONE_NEWNS, -1, func() error {
		if c.tree == nil {
			return unix.MoveMount(p.FD, "", unix.AT_FDCWD, p.Target, unix.MOVE_MOUNT_F_EMPTY_PATH)
		}
		return rootfs.Place(c.base(), p)
	})
}

// detach makes a mount that is nowhere yet.
func (s *supervisor) detach(c *container, m engine.Mount) (int, error) {
	attrs := uint64(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV)
	if c.bounds.privileged {
		attrs = 0
	}
	if m.ReadOnly {
		attrs |= unix.MOUNT_ATTR_RDONLY
	}
	if m.NoExec {
		attrs |= unix.MOUNT_ATTR_NOEXEC
	}
	mode, size := m.Mode, m.Size
	if mode == 0 {
		mode = fs.ModeSticky | 0o777
	}
	switch m.Kind {
	case engine.MountDisk:
		if m.Source != "" {
			return s.groupDisk(c, m, mode, attrs)
		}
		fd, err := s.disks.Take(size)
		if err != nil {
			return -1, err
		}
		return rootfs.Own(fd, int(c.base()), mode, attrs)
	case engine.MountTmpfs:
		if size == 0 {
			size = c.limits.Memory / 2
		}
		return rootfs.Tmpfs(size, mode, c.base(), int(attrs))
	}
	userns := 0
	if m.Owned { // a privileged container's ids are the machine's as they are
		userns = c.userns()
	}
	return rootfs.Bind(m.Source, attrs, userns)
}

// listen opens sockets in a container's network and returns their descriptors.
func (s *supervisor) listen(c *container, sockets []engine.Socket) (fds []int, err error) {
	if len(sockets) == 0 || len(sockets) > protocol.MaxSockets {
		return nil, fmt.Errorf("engine: %w: %d sockets at once", engine.ErrInvalid, len(sockets))
	}
	type place struct {
		typ   int
		at    netip.AddrPort
		apart bool
	}
	c.mu.Lock() // it may be half made, when a former caller was killed over it
	slot, box, state, host := c.slot, c.box, c.state, c.host
	c.mu.Unlock()
	var places []place
	var diverted []network.Diversion
	for _, l := range sockets {
		at, err := netip.ParseAddrPort(l.Address)
		if err != nil {
			return nil, fmt.Errorf("engine: %w: %w", engine.ErrInvalid, err)
		}
		switch l.Network {
		case "tcp", "tcp4", "tcp6":
			places = append(places, place{unix.SOCK_STREAM, at, l.Apart})
		case "udp", "udp4", "udp6":
			places = append(places, place{unix.SOCK_DGRAM, at, l.Apart})
		default:
			return nil, fmt.Errorf("engine: %w: network %q", engine.ErrInvalid, l.Network)
		}
		if l.Apart && (host || !slices.Contains(engine.LocalAddresses, at.Addr())) {
			return nil, fmt.Errorf("engine: %w: a socket apart on %s", engine.ErrInvalid, l.Address)
		}
	}
	if state == engine.Exited || slot == nil || box == nil {
		return nil, fmt.Errorf("engine: listen in %s, which has exited: %w", c.id, engine.ErrState)
	}
	open := func() error {
		for _, p := range places {
			at := p.at
			if p.apart {
				at = netip.AddrPortFrom(at.Addr(), 0) // any that is free
			}
			fd, err := socket(p.typ, at)
			if err != nil {
				return fmt.Errorf("engine: listen on %s in %s: %w", p.at, c.id, err)
			}
			fds = append(fds, fd)
			if p.apart {
				to, err := portOf(fd)
				if err != nil {
					return fmt.Errorf("engine: listen on %s in %s: %w", p.at, c.id, err)
				}
				diverted = append(diverted, network.Diversion{Stream: p.typ == unix.SOCK_STREAM, From: p.at, To: to})
			}
		}
		return nil
	}
	if host {
		err = open()
	} else {
		err = network.In(slot.Net, open)
	}
	if err == nil && len(diverted) > 0 {
		s.boxes.alter(box)
		err = slot.Divert(diverted)
	}
	if err != nil {
		closeAll(fds...)
		return nil, err
	}
	return fds, nil
}

// portOf is the port that a socket has got.
func portOf(fd int) (uint16, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	if a, ok := sa.(*unix.SockaddrInet4); ok {
		return uint16(a.Port), nil
	}
	return 0, unix.EAFNOSUPPORT
}

func socket(typ int, at netip.AddrPort) (fd int, err error) {
	family := unix.AF_INET
	var sa unix.Sockaddr = &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().Unmap().As4()}
	if at.Addr().Is6() && !at.Addr().Is4In6() {
		family = unix.AF_INET6
		sa = &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	}
	if fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
		return -1, err
	}
	if typ == unix.SOCK_STREAM {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, sa)
	}
	if err == nil && typ == unix.SOCK_STREAM {
		err = unix.Listen(fd, 1024)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s *supervisor) stats(c *container) (engine.Stats, error) {
	c.mu.Lock()
	state, pid, group := c.state, c.pid, c.group
	c.mu.Unlock()
	if state == engine.Exited {
		return engine.Stats{}, fmt.Errorf("engine: stats of %s, which has exited: %w", c.id, engine.ErrState)
	}
	g := group.Stats()
	out := engine.Stats{Time: time.Now(), Memory: g.Memory, MemoryPeak: g.Peak, CPU: g.CPU, Throttled: g.Throttled,
		Pids: g.Pids, OOMKills: g.OOMKills}
	if pid > 0 && !c.host {
		out.Received, out.Sent = traffic(pid)
	}
	return out, nil
}

// traffic sums the interfaces of a process's network, loopback left out.
func traffic(pid int) (received, sent int64) {
	b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev") // gone with the process
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		f := strings.Fields(rest)
		if !ok || name == "lo" || len(f) < 9 {
			continue
		}
		in, _ := strconv.ParseInt(f[0], 10, 64)
		out, _ := strconv.ParseInt(f[8], 10, 64)
		received += in
		sent += out
	}
	return received, sent
}

// capabilities says what this machine lets the engine do.
func (s *supervisor) capabilities() engine.Capabilities {
	has := s.tree.Controllers
	c := engine.Capabilities{
		Driver: "embedded", Version: s.version, Runs: true, Cgroups: s.tree.Version, MemoryLimit: has["memory"], CPULimit: has["cpu"],
		PidsLimit: has["pids"], OOMDetection: has["memory"], Freeze: has["freezer"], Exec: true, Attach: true, Listen: true,
		UserNamespaces: true, Seccomp: true, Terminals: true, Init: true, Groups: true, Populate: true,
		CPUSet: has["cpuset"], CPUs: s.tree.CPUs, Mems: s.tree.Mems,
	}
	for _, name := range []string{"memory", "cpu", "pids"} {
		if !has[name] {
			why := s.tree.Why[name]
			if why == nil {
				why = fmt.Errorf("the %s controller of cgroup version %d is not there", name, s.tree.Version)
			}
			c.Missing = append(c.Missing, engine.Missing{
				What: name + " limit",
				Why:  why.Error(),
				Mend: "start the kernel with cgroup_enable=" + name + ", or give this system's cgroup the controller (systemd: Delegate=yes)",
			})
		}
	}
	if err := s.tree.Why["devices"]; err != nil {
		c.Missing = append(c.Missing, engine.Missing{What: "control of devices", Why: err.Error(),
			Mend: "run a kernel with CONFIG_CGROUP_BPF; without it a container has only what its /dev has, and may be given no others"})
	}
	if err := rootfs.HasLoops(); err != nil {
		c.Missing = append(c.Missing, engine.Missing{What: "disks of a fixed size", Why: err.Error(), Mend: "modprobe loop"})
	} else {
		c.Disks = true
	}
	if _, err := s.pool.Router(); err != nil {
		c.Missing = append(c.Missing, engine.Missing{What: "the outside world from sandboxes", Why: err.Error(),
			Mend: "modprobe nf_tables nft_masq nft_ct nf_conntrack veth"})
	} else {
		c.Outside, c.NamedNetworks, c.Ports, c.Firewall = true, true, true, true
	}
	return c
}
