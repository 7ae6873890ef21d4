package daemon

import (
	"io/fs"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"skerry/internal/engine"
)

// owned marks the daemon's containers among the engine's. Its value is the
// container's id.
const owned = "skerry.docker"

// shmSize is the size of /dev/shm when nothing is said, in bytes: Docker's and the
// engine's default.
const shmSize = 64 << 20

// order is what a container is made of, with everything looked up that is
// elsewhere: the image, volumes, addresses, other containers.
type order struct {
	ID, Name string
	Account  string
	Image    engine.Image
	Config   *container.Config // the image's configuration included
	Host     *container.HostConfig
	Mounts   []engine.Mount
	Network  engine.Network // without ports
	// Free tells whether a port of the machine can be had, for ranges.
	Free func(engine.Port) bool
}

// mergeImage completes what was asked for by what the image says, as Docker
// does.
func mergeImage(c *container.Config, i *engine.ImageConfig) {
	if c.User == "" {
		c.User = i.User
	}
	if len(i.Ports) > 0 && c.ExposedPorts == nil {
		c.ExposedPorts = network.PortSet{}
	}
	for _, text := range i.Ports {
		if p, err := network.ParsePort(text); err == nil {
			c.ExposedPorts[p] = struct{}{}
		}
	}
	c.Env = slices.Concat(imageEnv(i.Env, c.Env), c.Env)
	labels := maps.Clone(i.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, c.Labels)
	c.Labels = labels
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = i.Command
		}
		if c.Entrypoint == nil {
			c.Entrypoint = i.Entrypoint
		}
	} else if c.Entrypoint[0] == "" {
		c.Entrypoint = nil // --entrypoint "" takes the image's away
	}
	if c.WorkingDir == "" {
		c.WorkingDir = i.Dir
	}
	if len(i.Volumes) > 0 && c.Volumes == nil {
		c.Volumes = map[string]struct{}{}
	}
	for _, v := range i.Volumes {
		c.Volumes[v] = struct{}{}
	}
	if c.StopSignal == "" {
		c.StopSignal = i.StopSignal
	}
	if c.Shell == nil {
		c.Shell = i.Shell
	}
	mergeHealth(c, i.Health)
}

// imageEnv is the image's environment without what is given anew. There is
// always a PATH.
func imageEnv(image, given []string) []string {
	var c engine.ImageConfig
	c.Env = image
	return slices.DeleteFunc(c.Environ(nil), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.ContainsFunc(given, func(g string) bool { n, _, _ := strings.Cut(g, "="); return n == name })
	})
}

func mergeHealth(c *container.Config, i *engine.ImageHealth) {
	if i == nil || len(i.Test) == 0 {
		return
	}
	if c.Healthcheck == nil {
		c.Healthcheck = &container.HealthConfig{}
	}
	h := c.Healthcheck
	if len(h.Test) == 0 {
		h.Test = i.Test
	}
	if h.Interval == 0 {
		h.Interval = i.Interval
	}
	if h.Timeout == 0 {
		h.Timeout = i.Timeout
	}
	if h.StartPeriod == 0 {
		h.StartPeriod = i.Start
	}
	if h.StartInterval == 0 {
		h.StartInterval = i.StartEvery
	}
	if h.Retries == 0 {
		h.Retries = i.Retries
	}
}

// specOf maps an order to the engine. It is pure: what cannot be honoured is
// refused, by refuse before and here.
func specOf(o order) (engine.Spec, error) {
	c, h := o.Config, o.Host
	s := engine.Spec{
		ID: engine.ID(o.ID), Account: o.Account, Labels: map[string]string{owned: o.ID},
		Root:    engine.Root{Image: o.Image.ID, Writable: !h.ReadonlyRootfs},
		Command: slices.Concat(c.Entrypoint, c.Cmd), Dir: c.WorkingDir,
		User: engine.User{Name: c.User, Further: h.GroupAdd}, Hostname: c.Hostname,
		TTY: c.Tty, Stdin: c.OpenStdin, Init: h.Init != nil && *h.Init,
		Mounts: o.Mounts, Network: o.Network, Sysctls: h.Sysctls,
	}
	if h.ShmSize != shmSize {
		s.ShmSize = h.ShmSize
	}
	if len(s.Command) == 0 {
		return s, badRequest("no command specified")
	}
	s.Env = environ(c)
	if size := h.StorageOpt["size"]; size != "" {
		n, err := units.RAMInBytes(size)
		if err != nil {
			return s, badRequest("invalid storage option size=%s", size)
		}
		s.Root.Size = n
	}
	for _, d := range h.Devices {
		s.Devices = append(s.Devices, engine.Device{Source: d.PathOnHost, Target: d.PathInContainer, Permissions: d.CgroupPermissions})
	}
	for _, u := range h.Ulimits {
		s.Rlimits = append(s.Rlimits, engine.Rlimit{Name: u.Name, Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	var err error
	s.Limits = limitsOf(&h.Resources)
	if s.Security, err = securityOf(h); err != nil {
		return s, err
	}
	if s.LogFiles, s.LogSize, err = logLimits(h.LogConfig); err != nil {
		return s, err
	}
	if err := completeNetwork(&s.Network, h); err != nil {
		return s, err
	}
	if s.Network.Mode == engine.NetworkNamed { // elsewhere, as with Docker, published ports mean nothing
		if s.Network.Ports, err = portsOf(c, h, o.Free); err != nil {
			return s, err
		}
	}
	return s, s.Validate()
}

// environ is the environment of the program. A name without = takes a variable
// away.
func environ(c *container.Config) []string {
	own := []string{"HOSTNAME=" + c.Hostname}
	if c.Tty {
		own = append(own, "TERM=xterm")
	}
	var none engine.ImageConfig
	env := (&engine.ImageConfig{Env: none.Environ(own)}).Environ(c.Env)
	return slices.DeleteFunc(env, func(e string) bool { return !strings.Contains(e, "=") })
}

// limitsOf maps the limits.
func limitsOf(r *container.Resources) engine.Limits {
	l := engine.Limits{Memory: r.Memory, MemoryReserve: r.MemoryReservation, CPUShares: r.CPUShares, Pids: -1,
		CPUs: r.CpusetCpus, Mems: r.CpusetMems}
	switch {
	case r.Memory == 0: // no swap without a limit beside it
	case r.MemorySwap > 0:
		l.Swap = r.MemorySwap - r.Memory
	default:
		l.Swap = r.MemorySwap
	}
	switch {
	case r.NanoCPUs > 0:
		l.CPU = float64(r.NanoCPUs) / 1e9
	case r.CPUQuota > 0:
		period := r.CPUPeriod
		if period == 0 {
			period = 100_000 // microseconds
		}
		l.CPU = float64(r.CPUQuota) / float64(period)
	}
	if r.PidsLimit != nil && *r.PidsLimit > 0 {
		l.Pids = *r.PidsLimit
	}
	return l
}

// securityOf maps capabilities and --security-opt. Docker lets setuid programs
// work unless told otherwise.
func securityOf(h *container.HostConfig) (engine.Security, error) {
	s := engine.Security{
		AddCapabilities: h.CapAdd, DropCapabilities: h.CapDrop, AllowNewPrivileges: true, Privileged: h.Privileged,
	}
	for _, option := range h.SecurityOpt {
		name, value, cut := strings.Cut(option, "=")
		if !cut {
			name, value, _ = strings.Cut(option, ":")
		}
		switch name {
		case "no-new-privileges":
			off, err := strconv.ParseBool(value)
			if value != "" && err != nil {
				return s, badRequest("invalid --security-opt 2: %q", option)
			}
			s.AllowNewPrivileges = value != "" && !off
		case "seccomp":
			switch value {
			case "unconfined":
				s.SeccompUnconfined = true
			case "builtin":
			default: // the file's text: clients read it
				s.Seccomp = value
			}
		case "apparmor":
			if value != "unconfined" {
				return s, unsupported("AppArmor profiles")
			}
		case "label":
			if value != "disable" {
				return s, unsupported("SELinux labels")
			}
		default:
			return s, badRequest("invalid --security-opt 2: %q", option)
		}
	}
	return s, nil
}

// The logs of drivers that keep little.
const (
	noneFiles, noneSize   = 2, 1 << 20  // what attach needs
	localFiles, localSize = 5, 20 << 20 // Docker's default of the local driver
)

// logLimits maps a log driver to the size of the engine's log.
func logLimits(l container.LogConfig) (files int, size int64, err error) {
	switch l.Type {
	case "", "json-file":
	case "local":
		files, size = localFiles, localSize
	case "none":
		return noneFiles, noneSize, nil
	default:
		return 0, 0, unsupported("log driver %q; there are json-file, local and none", l.Type)
	}
	for name, value := range l.Config {
		switch name {
		case "max-size":
			if size, err = units.RAMInBytes(value); err != nil || size <= 0 {
				return 0, 0, badRequest("invalid value for max-size: %q", value)
			}
			if files == 0 {
				files = 1
			}
		case "max-file":
			if files, err = strconv.Atoi(value); err != nil || files < 1 {
				return 0, 0, badRequest("invalid value for max-file: %q", value)
			}
		case "mode":
			if value != "blocking" {
				return 0, 0, unsupported("log mode %q", value)
			}
		case "compress":
			if value != "false" {
				return 0, 0, unsupported("compressed logs")
			}
		default:
			return 0, 0, unsupported("log option %q of driver %q", name, l.Type)
		}
	}
	if l.Type != "local" && l.Config["max-file"] != "" && l.Config["max-size"] == "" {
		return 0, 0, badRequest("log option max-file needs max-size")
	}
	return files, size, nil
}

// completeNetwork adds hosts and resolvers.
func completeNetwork(n *engine.Network, h *container.HostConfig) error {
	for _, line := range h.ExtraHosts {
		name, text, ok := strings.Cut(line, ":")
		if n, t, eq := strings.Cut(line, "="); eq && !ok {
			name, text = n, t
		}
		if text == "host-gateway" {
			return unsupported("host-gateway: a container cannot reach the machine's own services")
		}
		a, err := netip.ParseAddr(strings.Trim(text, "[]"))
		if name == "" || err != nil {
			return badRequest("invalid IP address in add-host: %q", text)
		}
		n.Hosts = append(n.Hosts, engine.Host{Name: name, Address: a})
	}
	if n.Mode != engine.NetworkNamed || n.Name == bridgeID && len(n.Further) == 0 && len(h.Links) == 0 { // elsewhere the resolver asks them
		n.DNS.Servers = append(n.DNS.Servers, h.DNS...)
	}
	n.DNS.Search = append(n.DNS.Search, h.DNSSearch...)
	n.DNS.Options = append(n.DNS.Options, h.DNSOptions...)
	return nil
}

// portsOf lists the ports to publish, in the order of their numbers. From a
// range of the machine's ports the first free one is taken.
func portsOf(c *container.Config, h *container.HostConfig, free func(engine.Port) bool) ([]engine.Port, error) {
	var out []engine.Port
	for p, bindings := range h.PortBindings {
		if p.Proto() != network.TCP && p.Proto() != network.UDP {
			return nil, unsupported("published ports of protocol %q", p.Proto())
		}
		if p.Num() == 0 {
			return nil, badRequest("invalid port %q", p.String())
		}
		if len(bindings) == 0 {
			bindings = []network.PortBinding{{}}
		}
		for _, b := range bindings {
			port := engine.Port{Protocol: string(p.Proto()), Container: p.Num(), Address: b.HostIP}
			if b.HostIP.IsValid() && b.HostIP.IsUnspecified() {
				port.Address = netip.Addr{}
			}
			if b.HostPort != "" {
				r, err := network.ParsePortRange(b.HostPort)
				if err != nil {
					return nil, badRequest("invalid port specification: %q", b.HostPort)
				}
				port.Host = r.Start()
				for port.Host < r.End() && (!free(port) || slices.Contains(out, port)) {
					port.Host++
				}
			}
			out = append(out, port)
		}
	}
	if h.PublishAllPorts {
		for p := range c.ExposedPorts {
			if _, bound := h.PortBindings[p]; !bound {
				out = append(out, engine.Port{Protocol: string(p.Proto()), Container: p.Num()})
			}
		}
	}
	slices.SortFunc(out, func(a, b engine.Port) int {
		if a.Container != b.Container {
			return int(a.Container) - int(b.Container)
		}
		return strings.Compare(a.Protocol, b.Protocol)
	})
	return out, nil
}

// modeOf turns Unix permissions into Go's.
func modeOf(perm uint32) fs.FileMode {
	m := fs.FileMode(perm & 0o777)
	if perm&0o1000 != 0 {
		m |= fs.ModeSticky
	}
	return m
}
