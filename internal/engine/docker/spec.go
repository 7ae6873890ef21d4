package docker

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"skerry/internal/base/ids"
	"skerry/internal/engine"
)

// The Docker Engine API's "Create a container", as far as it is used.
type (
	createBody struct {
		Image                                  string
		Entrypoint, Cmd                        []string
		Env                                    []string
		WorkingDir, User, Hostname             string
		Tty, OpenStdin, AttachStdin, StdinOnce bool
		AttachStdout, AttachStderr             bool
		Labels                                 map[string]string
		ExposedPorts                           map[string]struct{} `json:",omitempty"`
		HostConfig                             hostConfig
	}
	hostConfig struct {
		limits
		Mounts         []mount
		Devices        []device            `json:",omitempty"`
		Tmpfs          map[string]string   `json:",omitempty"`
		PortBindings   map[string][]portOf `json:",omitempty"`
		NetworkMode    string
		ShmSize        int64             `json:",omitempty"`
		Init           bool              `json:",omitempty"`
		Privileged     bool              `json:",omitempty"`
		ReadonlyRootfs bool              `json:",omitempty"`
		CapAdd         []string          `json:",omitempty"`
		CapDrop        []string          `json:",omitempty"`
		SecurityOpt    []string          `json:",omitempty"`
		GroupAdd       []string          `json:",omitempty"`
		Ulimits        []ulimit          `json:",omitempty"`
		Sysctls        map[string]string `json:",omitempty"`
		ExtraHosts     []string          `json:",omitempty"`
		DNS            []string          `json:"Dns,omitempty"`
		DNSSearch      []string          `json:"DnsSearch,omitempty"`
		DNSOptions     []string          `json:"DnsOptions,omitempty"`
		StorageOpt     map[string]string `json:",omitempty"`
		LogConfig      struct {
			Type   string
			Config map[string]string
		}
	}
	limits struct {
		Memory, MemorySwap, MemoryReservation int64
		NanoCPUs                              int64 `json:"NanoCpus"`
		CPUShares                             int64 `json:"CpuShares"`
		PidsLimit                             int64
		CpusetCpus, CpusetMems                string
	}
	mount struct {
		Type, Source, Target string
		ReadOnly             bool
	}
	device struct{ PathOnHost, PathInContainer, CgroupPermissions string }
	portOf struct{ HostIP, HostPort string } // HostIp, in any case of letters
	ulimit struct {
		Name       string
		Soft, Hard int64
	}
)

// Create makes a container.
func (d *Driver) Create(ctx context.Context, spec engine.Spec) (engine.ID, error) {
	if err := spec.Validate(); err != nil {
		return "", err
	}
	if spec.ID == "" {
		spec.ID = engine.ID(ids.Hex(16))
	}
	body, err := translate(&spec)
	if err != nil {
		return "", err
	}
	if spec.Root.Host != nil {
		if body.Image, err = d.prepare(ctx, *spec.Root.Host, &body.HostConfig.Mounts); err != nil {
			return "", err
		}
	}
	err = d.do(ctx, http.MethodPost, "/containers/create", url.Values{"name": {string(spec.ID)}}, body, nil)
	if err != nil {
		return "", fmt.Errorf("engine: create %s: %w", spec.ID, err)
	}
	return spec.ID, nil
}

// limitsOf are a container's limits as Docker has them.
func limitsOf(l engine.Limits) limits {
	out := limits{Memory: l.Memory, MemorySwap: l.Memory + l.Swap, MemoryReservation: l.MemoryReserve, NanoCPUs: int64(l.CPU * 1e9),
		CPUShares: l.CPUShares, PidsLimit: l.Pids, CpusetCpus: l.CPUs, CpusetMems: l.Mems}
	if l.Swap < 0 {
		out.MemorySwap = -1
	}
	switch {
	case l.Pids == 0:
		out.PidsLimit = engine.DefaultPids
	case l.Pids < 0:
		out.PidsLimit = -1
	}
	return out
}

// translate makes Docker's specification of the engine's, but for the image of a
// prepared root.
func translate(s *engine.Spec) (*createBody, error) {
	if s.Group.Name != "" {
		return nil, unsupported("limits of several containers together")
	}
	b := &createBody{
		Image: s.Root.Image, Entrypoint: s.Command[:1], Cmd: s.Command[1:], Env: s.Env, WorkingDir: s.Dir, Hostname: s.Hostname,
		Tty: s.TTY, OpenStdin: s.Stdin || s.TTY, StdinOnce: s.Stdin && !s.TTY, AttachStdout: true, AttachStderr: true,
		Labels: map[string]string{labelID: string(s.ID), labelAccount: s.Account},
	}
	for name, value := range s.Labels {
		b.Labels[labelKey+name] = value
	}
	b.User = s.User.Name
	if b.User == "" {
		b.User = fmt.Sprintf("%d:%d", s.User.UID, s.User.GID)
	}
	h := &b.HostConfig
	h.limits = limitsOf(s.Limits)
	h.ShmSize, h.Init, h.Privileged, h.ReadonlyRootfs, h.Sysctls = s.ShmSize, s.Init, s.Security.Privileged, !s.Root.Writable, s.Sysctls
	h.CapAdd, h.CapDrop = s.Security.AddCapabilities, s.Security.DropCapabilities
	if !s.Security.AllowNewPrivileges && !s.Security.Privileged {
		h.SecurityOpt = append(h.SecurityOpt, "no-new-privileges")
	}
	if s.Security.SeccompUnconfined {
		h.SecurityOpt = append(h.SecurityOpt, "seccomp=unconfined")
	}
	if s.Security.Seccomp != "" {
		h.SecurityOpt = append(h.SecurityOpt, "seccomp="+s.Security.Seccomp)
	}
	for _, g := range s.User.Groups {
		h.GroupAdd = append(h.GroupAdd, strconv.FormatUint(uint64(g), 10))
	}
	h.GroupAdd = append(h.GroupAdd, s.User.Further...)
	for _, r := range s.Rlimits {
		h.Ulimits = append(h.Ulimits, ulimit{strings.ToLower(r.Name), int64(r.Soft), int64(r.Hard)})
	}
	for _, v := range s.Devices {
		target, permissions := v.Target, v.Permissions
		if target == "" {
			target = v.Source
		}
		if permissions == "" {
			permissions = "rwm"
		}
		h.Devices = append(h.Devices, device{v.Source, target, permissions})
	}
	if s.Root.Size > 0 {
		h.StorageOpt = map[string]string{"size": strconv.FormatInt(s.Root.Size, 10)}
	}
	h.LogConfig.Type = "json-file"
	h.LogConfig.Config = map[string]string{}
	if s.LogSize > 0 {
		h.LogConfig.Config["max-size"] = strconv.FormatInt(s.LogSize, 10)
	}
	if s.LogFiles > 0 {
		h.LogConfig.Config["max-file"] = strconv.Itoa(s.LogFiles)
	}
	if err := h.mount(s); err != nil {
		return nil, err
	}
	return b, b.network(&s.Network)
}

func (h *hostConfig) mount(s *engine.Spec) error {
	for _, m := range s.Mounts {
		switch m.Kind {
		case engine.MountBind:
			if m.NoExec || m.Populate {
				return unsupported("mounts that are noexec, or filled from the image")
			}
			h.Mounts = append(h.Mounts, mount{"bind", m.Source, m.Target, m.ReadOnly})
		case engine.MountTmpfs:
			var options []string
			size, mode := m.Size, m.Mode.Perm()
			if size == 0 {
				size = s.Limits.Memory / 2
			}
			if size > 0 {
				options = append(options, "size="+strconv.FormatInt(size, 10))
			}
			text := "1777"
			if m.Mode != 0 {
				text = strconv.FormatUint(uint64(mode), 8)
			}
			options = append(options, "mode="+text)
			if m.ReadOnly {
				options = append(options, "ro")
			}
			if !m.NoExec {
				options = append(options, "exec")
			}
			if h.Tmpfs == nil {
				h.Tmpfs = map[string]string{}
			}
			h.Tmpfs[m.Target] = strings.Join(options, ",")
		default:
			return unsupported("mounts of the kind " + string(m.Kind))
		}
	}
	return nil
}

func (b *createBody) network(n *engine.Network) error {
	h := &b.HostConfig
	switch {
	case n.Mode == engine.NetworkNamed || len(n.Groups) > 0:
		return unsupported("named networks")
	case n.Mode == engine.NetworkHost:
		h.NetworkMode = "host"
		b.Hostname = ""
	case n.Sandbox != "" && n.Sandbox != b.Labels[labelID]:
		h.NetworkMode = "container:" + n.Sandbox
		b.Hostname = "" // the sandbox's
		if len(n.Ports) > 0 {
			return unsupported("ports of a container that shares another's sandbox")
		}
	case n.Mode == engine.NetworkNAT:
		h.NetworkMode = "bridge"
	default:
		h.NetworkMode = "none"
	}
	for _, p := range n.Ports {
		protocol := p.Protocol
		if protocol == "" {
			protocol = "tcp"
		}
		name := fmt.Sprintf("%d/%s", p.Container, protocol)
		at := portOf{}
		if p.Address.IsValid() {
			at.HostIP = p.Address.String()
		}
		if p.Host != 0 {
			at.HostPort = strconv.Itoa(int(p.Host))
		}
		if h.PortBindings == nil {
			h.PortBindings, b.ExposedPorts = map[string][]portOf{}, map[string]struct{}{}
		}
		h.PortBindings[name] = append(h.PortBindings[name], at)
		b.ExposedPorts[name] = struct{}{}
	}
	for _, e := range n.Hosts {
		h.ExtraHosts = append(h.ExtraHosts, e.Name+":"+e.Address.String())
	}
	for _, a := range n.DNS.Servers {
		h.DNS = append(h.DNS, a.String())
	}
	h.DNSSearch, h.DNSOptions = slices.Clone(n.DNS.Search), slices.Clone(n.DNS.Options)
	return nil
}
