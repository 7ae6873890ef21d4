package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/api/types/network"

	"skerry/internal/engine"
)

// summary is a line of docker ps. Two fields differ from the library's: an
// address that is not there is left out.
type summary struct {
	container.Summary
	Ports           []portSummary
	Health          *container.HealthSummary `json:",omitempty"`
	NetworkSettings summaryNetworks
}

type portSummary struct {
	IP          string `json:",omitempty"`
	PrivatePort uint16
	PublicPort  uint16 `json:",omitempty"`
	Type        string
}

type summaryNetworks struct{ Networks map[string]*endpoint }

// endpoint is a container's place in a network, as clients of all versions read
// it.
type endpoint struct {
	IPAMConfig          *network.EndpointIPAMConfig
	Links               []string
	Aliases             []string
	MacAddress          string
	DriverOpts          map[string]string
	GwPriority          int
	NetworkID           string
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	DNSNames            []string
}

// networkSettings are those of inspect: with the fields of the default network
// that clients before 1.52 read.
type networkSettings struct {
	Bridge                 string
	SandboxID              string
	SandboxKey             string
	Ports                  map[string][]portBinding
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	EndpointID             string
	Gateway                string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	MacAddress             string
	Networks               map[string]*endpoint
}

type portBinding struct {
	HostIP   string `json:"HostIp"`
	HostPort string
}

// inspected is the answer of inspect.
type inspected struct {
	container.InspectResponse
	GraphDriver     map[string]any
	NetworkSettings *networkSettings
}

// summarise makes the line of a container.
func (d *Daemon) summarise(ctx context.Context, row *containerRow) (*summary, error) {
	c, h, err := row.config()
	if err != nil {
		return nil, err
	}
	s := &summary{}
	s.ID, s.Names, s.Image, s.ImageID = row.ID, []string{"/" + row.Name}, c.Image, row.Image
	s.Command, s.Created, s.Labels = commandLine(c), row.Created.Unix(), c.Labels
	s.State, s.Status = row.State, statusText(row, d.clock.Now())
	s.HostConfig.NetworkMode = string(h.NetworkMode)
	s.Mounts = d.mountPoints(row)
	s.Health = &container.HealthSummary{Status: healthStatus(row)}
	if row.Health != nil {
		s.Health.FailingStreak = row.Health.Streak
	}
	s.NetworkSettings.Networks, err = d.endpoints(ctx, row)
	if err != nil {
		return nil, err
	}
	published, err := d.published(ctx, row)
	if err != nil {
		return nil, err
	}
	s.Ports = []portSummary{}
	shown := map[string]bool{}
	for _, p := range published {
		s.Ports = append(s.Ports, portSummary{IP: hostAddress(p.Address), PrivatePort: p.Container, PublicPort: p.Host, Type: protocolOf(p)})
		shown[fmt.Sprintf("%d/%s", p.Container, protocolOf(p))] = true
	}
	if row.running() {
		for p := range c.ExposedPorts {
			if !shown[p.String()] {
				s.Ports = append(s.Ports, portSummary{PrivatePort: p.Num(), Type: string(p.Proto())})
			}
		}
	}
	return s, nil
}

func protocolOf(p engine.Port) string {
	if p.Protocol == "" {
		return "tcp"
	}
	return p.Protocol
}

func hostAddress(a netip.Addr) string {
	if !a.IsValid() {
		return "0.0.0.0"
	}
	return a.String()
}

// published are the ports of a running container, with the machine's ports that
// were chosen.
func (d *Daemon) published(ctx context.Context, row *containerRow) ([]engine.Port, error) {
	spec, err := row.spec()
	if err != nil || !row.running() || len(spec.Network.Ports) == 0 {
		return nil, err
	}
	st, err := d.engine.Inspect(ctx, engine.ID(row.ID))
	if err != nil {
		return nil, nil // it has just ended
	}
	return st.Ports, nil
}

func commandLine(c *container.Config) string {
	all := append(append([]string{}, c.Entrypoint...), c.Cmd...)
	for i, arg := range all {
		if strings.Contains(arg, " ") && i > 0 {
			all[i] = "'" + arg + "'"
		}
	}
	return strings.Join(all, " ")
}

// statusText says in words how a container is.
func statusText(row *containerRow, now time.Time) string {
	since := func(t time.Time) string { return units.HumanDuration(now.Sub(t)) }
	switch row.State {
	case container.StateRunning, container.StatePaused:
		text := "Up " + since(row.Started)
		if row.State == container.StatePaused {
			return text + " (Paused)"
		}
		switch healthStatus(row) {
		case container.Starting:
			text += " (health: starting)"
		case container.Healthy, container.Unhealthy:
			text += " (" + string(row.Health.Status) + ")"
		}
		return text
	case container.StateRestarting:
		return fmt.Sprintf("Restarting (%d) %s ago", row.ExitCode, since(row.Finished))
	case container.StateExited:
		return fmt.Sprintf("Exited (%d) %s ago", row.ExitCode, since(row.Finished))
	case container.StateCreated:
		return "Created"
	}
	return string(row.State)
}

// inspectContainer answers GET /containers/{id}/json.
func (d *Daemon) inspectContainer(c *call) error {
	row, err := d.find(c.Context(), c.vars["id"])
	if err != nil {
		return err
	}
	cfg, h, err := row.config()
	if err != nil {
		return err
	}
	out := inspected{GraphDriver: map[string]any{"Name": driverName, "Data": nil}}
	out.ID, out.Created, out.Name, out.Image = row.ID, stamp(row.Created), "/"+row.Name, row.Image
	if all := append(append([]string{}, cfg.Entrypoint...), cfg.Cmd...); len(all) > 0 {
		out.Path, out.Args = all[0], all[1:]
	}
	out.RestartCount, out.Driver, out.Platform = row.Restarts, driverName, "linux"
	h.Links = d.shownLinks(c.Context(), row, h.Links)
	out.HostConfig, out.Config, out.Mounts = h, cfg, d.mountPoints(row)
	if out.ExecIDs, err = d.execsOf(c.Context(), row.ID); err != nil {
		return err
	}
	out.State = &container.State{
		Status: row.State, Running: row.running() || row.State == container.StateRestarting, Paused: row.State == container.StatePaused,
		Restarting: row.State == container.StateRestarting, OOMKilled: row.OOM, ExitCode: row.ExitCode, Error: row.Error,
		StartedAt: stamp(row.Started), FinishedAt: stamp(row.Finished),
	}
	if row.Removing {
		out.State.Status = container.StateRemoving
	}
	if row.running() {
		if st, err := d.engine.Inspect(c.Context(), engine.ID(row.ID)); err == nil {
			out.State.Pid = st.Pid
		}
	}
	if row.Health != nil {
		out.State.Health = &container.Health{Status: row.Health.Status, FailingStreak: row.Health.Streak, Log: []*container.HealthcheckResult{}}
		for _, r := range row.Health.Results {
			out.State.Health.Log = append(out.State.Health.Log, &container.HealthcheckResult{Start: r.Start, End: r.End, ExitCode: r.Code, Output: r.Output})
		}
	}
	if out.NetworkSettings, err = d.networkSettings(c.Context(), row, cfg); err != nil {
		return err
	}
	if c.flag("size") {
		written, all, err := d.sizes(c.Context(), row)
		if err != nil {
			return err
		}
		out.SizeRw, out.SizeRootFs = &written, &all
	}
	return c.ok(out)
}

// networkSettings says where a container is on the network.
func (d *Daemon) networkSettings(ctx context.Context, row *containerRow, cfg *container.Config) (*networkSettings, error) {
	n := &networkSettings{Ports: map[string][]portBinding{}, SandboxID: row.ID}
	var err error
	if n.Networks, err = d.endpoints(ctx, row); err != nil {
		return nil, err
	}
	if e := n.Networks[network.NetworkBridge]; e != nil {
		n.EndpointID, n.Gateway, n.IPAddress, n.IPPrefixLen = e.EndpointID, e.Gateway, e.IPAddress, e.IPPrefixLen
	}
	if !row.running() {
		return n, nil
	}
	for p := range cfg.ExposedPorts {
		n.Ports[p.String()] = nil
	}
	published, err := d.published(ctx, row)
	if err != nil {
		return nil, err
	}
	for _, p := range published {
		key := fmt.Sprintf("%d/%s", p.Container, protocolOf(p))
		n.Ports[key] = append(n.Ports[key], portBinding{HostIP: hostAddress(p.Address), HostPort: strconv.Itoa(int(p.Host))})
	}
	return n, nil
}

// stamp writes a time as Docker does; one that is not there is the year 1.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "0001-01-01T00:00:00Z"
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// mountPoints are a container's mounts as clients see them.
func (d *Daemon) mountPoints(row *containerRow) []container.MountPoint {
	out := []container.MountPoint{}
	for _, m := range row.Mounts {
		p := container.MountPoint{
			Type: mount.Type(m.Type), Name: m.Name, Source: m.Source, Destination: m.Target, Mode: m.Mode, RW: !m.ReadOnly,
		}
		switch m.Type {
		case "volume":
			p.Driver, p.Source = "local", d.folder(m.Name)
		case "bind":
			p.Propagation = mount.PropagationRPrivate
		}
		out = append(out, p)
	}
	return out
}
