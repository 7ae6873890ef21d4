package task

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"skerry/internal/engine"
)

// spec makes a container's specification for the engine.
func (r *Runner) spec(ctx context.Context, v *view, c *Container, row *containerRow) (engine.Spec, error) {
	t := v.spec
	image, err := r.Engine.Images().Get(ctx, row.Image)
	if err != nil {
		return engine.Spec{}, err
	}
	read, err := r.prepare(ctx, t)
	if err != nil {
		return engine.Spec{}, err
	}
	mounts, err := r.mounts(v, c)
	if err != nil {
		return engine.Spec{}, err
	}
	network, err := v.network(c)
	if err != nil {
		return engine.Spec{}, err
	}
	log, err := newLogOptions(c.Log)
	if err != nil {
		return engine.Spec{}, err
	}
	s := engine.Spec{
		ID: containerID(t.ID, c.Name), Account: t.Account,
		Labels:  map[string]string{labelService: serviceTask, labelTask: string(t.ID), labelContainer: c.Name},
		Root:    engine.Root{Image: row.Image, Writable: !c.ReadonlyRoot},
		Command: image.Config.Run(c.EntryPoint, c.Command),
		Env:     r.environ(v, c, &image.Config, read),
		Dir:     first(c.Dir, image.Config.Dir), User: engine.User{Name: first(c.User, image.Config.User)},
		Hostname: c.Hostname, TTY: c.TTY, Stdin: c.Interactive, Init: c.Init,
		Mounts: mounts, Devices: c.Devices, ShmSize: c.ShmSize, Network: network, Limits: limits(t, c), Group: group(t),
		Rlimits: c.Ulimits, Sysctls: c.SystemControls,
		Security: engine.Security{AddCapabilities: c.AddCapabilities, DropCapabilities: c.DropCapabilities,
			AllowNewPrivileges: !c.NoNewPrivileges, Privileged: c.Privileged},
		LogFiles: log.files, LogSize: log.size,
	}
	if len(s.Command) == 0 {
		return s, fmt.Errorf("no command specified")
	}
	return s, r.reduce(ctx, &s)
}

// reduce leaves away what a driver cannot do and a task can do without.
func (r *Runner) reduce(ctx context.Context, s *engine.Spec) error {
	if s.Group.Name == "" && len(s.Mounts) == 0 {
		return nil
	}
	can, err := r.Engine.Info(ctx)
	if err != nil {
		return err
	}
	if !can.Groups {
		s.Group = engine.Group{}
	}
	for i := range s.Mounts {
		s.Mounts[i].Populate = s.Mounts[i].Populate && can.Populate
	}
	return nil
}

// limits of a container: its own, and the task's where it has none.
func limits(t *Task, c *Container) engine.Limits {
	l := engine.Limits{Memory: c.Memory, Swap: c.Swap, MemoryReserve: c.MemoryReservation, CPU: t.CPU, CPUShares: max(2, c.CPU)}
	if l.Memory == 0 {
		l.Memory = t.Memory
	}
	return l
}

// group bounds a task's containers together, and has its disks. A task of one
// container does without: its limits are that one's.
func group(t *Task) (g engine.Group) {
	sized := slices.ContainsFunc(t.Volumes, func(v Volume) bool { return v.Size > 0 })
	if !sized && (len(t.Containers) == 1 || t.CPU == 0 && t.Memory == 0) {
		return g
	}
	g = engine.Group{Name: string(t.ID), Limits: engine.Limits{Memory: t.Memory, CPU: t.CPU, CPUShares: int64(t.CPU * 1024)}}
	if t.CPU == 0 {
		for i := range t.Containers {
			g.Limits.CPUShares += max(2, t.Containers[i].CPU)
		}
	}
	for i := range t.Containers {
		if t.Memory > 0 {
			g.Limits.Swap += t.Containers[i].Swap
		}
	}
	return g
}

func first(all ...string) string {
	for _, s := range all {
		if s != "" {
			return s
		}
	}
	return ""
}

// bridgeNetwork is the subnet of each task's own bridge, as Docker's is.
var bridgeNetwork = netip.AddrFrom4([4]byte{172, 17, 0, 0})

// network of a container.
func (v *view) network(c *Container) (engine.Network, error) {
	t := v.spec
	switch t.Network.Mode {
	case None:
		return engine.Network{Mode: engine.NetworkNone, Hosts: c.ExtraHosts, DNS: c.DNS}, nil
	case Host:
		return engine.Network{Mode: engine.NetworkHost, Hosts: c.ExtraHosts, DNS: c.DNS}, nil
	case Bridge:
		return v.bridge(c)
	}
	n := engine.Network{Mode: engine.NetworkNAT, Sandbox: string(t.ID)}
	if t.Network.Internal {
		n.Mode = engine.NetworkNone
	}
	if t.Network.Name != "" {
		n.Mode, n.Name, n.Address = engine.NetworkNamed, t.Network.Name, t.Network.Address
		n.Groups, n.Internal = t.Network.Groups, t.Network.Internal
	}
	if t.Network.Publish && n.Mode != engine.NetworkNone {
		n.Ports = ports(c)
	}
	return n, nil
}

func ports(c *Container) (all []engine.Port) {
	for _, p := range c.Ports {
		all = append(all, engine.Port{Protocol: p.Protocol, Container: p.Container, Host: p.Host})
	}
	return all
}

// bridge is a network of the task alone, on which each container has its place:
// the machine's other tasks cannot be reached but through published ports.
func (v *view) bridge(c *Container) (engine.Network, error) {
	t := v.spec
	n := engine.Network{Mode: engine.NetworkNamed, Name: string(t.ID), Internal: t.Network.Internal, Ports: ports(c), Hosts: c.ExtraHosts, DNS: c.DNS}
	place := func(name string) netip.Addr {
		a := bridgeNetwork.As4()
		for i := range t.Containers {
			if t.Containers[i].Name == name {
				a[2], a[3] = byte((i+2)>>8), byte(i+2)
			}
		}
		return netip.AddrFrom4(a)
	}
	n.Address = place(c.Name)
	for _, l := range c.Links {
		name, alias, ok := strings.Cut(l, ":")
		if t.find(name) == nil {
			return n, invalid("container %s: link %q", c.Name, l)
		}
		n.Hosts = append(n.Hosts, engine.Host{Name: name, Address: place(name)})
		if ok && alias != name {
			n.Hosts = append(n.Hosts, engine.Host{Name: alias, Address: place(name)})
		}
	}
	return n, nil
}

// caBundle is where the bundle of certificate authorities is inside.
const caBundle = "/etc/ssl/certs/ca-certificates.crt"

// mounts of a container: what the runner gives, others' volumes, its own. Of two
// at one place the latter counts.
func (r *Runner) mounts(v *view, c *Container) ([]engine.Mount, error) {
	var all []engine.Mount
	add := func(m engine.Mount) {
		m.Target = path.Clean(m.Target)
		for i := range all {
			if all[i].Target == m.Target {
				all[i] = m
				return
			}
		}
		all = append(all, m)
	}
	if r.CABundle != "" {
		add(engine.Mount{Kind: engine.MountBind, Source: r.CABundle, Target: caBundle, ReadOnly: true})
	}
	for _, f := range c.VolumesFrom {
		own, err := r.ownMounts(v, v.container(f.Container))
		if err != nil {
			return nil, err
		}
		for _, m := range own {
			m.ReadOnly = m.ReadOnly || f.ReadOnly
			add(m)
		}
	}
	own, err := r.ownMounts(v, c)
	if err != nil {
		return nil, err
	}
	for _, m := range own {
		add(m)
	}
	for _, m := range c.Tmpfs {
		add(engine.Mount{Kind: engine.MountTmpfs, Target: m.Path, Size: m.Size, Mode: m.Mode, NoExec: m.NoExec, ReadOnly: m.ReadOnly})
	}
	return all, nil
}
