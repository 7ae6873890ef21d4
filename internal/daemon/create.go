package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"skerry/internal/base/ids"
	"skerry/internal/engine"
	"skerry/internal/store"
)

// createContainer answers POST /containers/create.
func (d *Daemon) createContainer(c *call) error {
	var in container.CreateRequest
	if err := c.body(&in); err != nil {
		return err
	}
	if in.Config == nil {
		return badRequest("config cannot be empty in order to create a container")
	}
	if in.HostConfig == nil {
		in.HostConfig = &container.HostConfig{}
	}
	name := c.query.Get("name")
	if name != "" && !containerName.MatchString(name) {
		return badRequest("Invalid container name (%s), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed", name)
	}
	ctx := context.WithoutCancel(c.Context())
	image, err := d.imageFor(ctx, in.Config.Image, c.query.Get("platform"))
	if err != nil {
		return err
	}
	row, err := d.create(ctx, strings.TrimPrefix(name, "/"), image, &in)
	if missing(err) {
		return badRequest("%v", err) // 404 would have clients pull the image
	}
	if err != nil {
		return err
	}
	d.tell(row, events.ActionCreate, nil)
	d.wake(containerLoop)
	return c.created(container.CreateResponse{ID: row.ID, Warnings: []string{}})
}

// imageFor finds the image of a new container.
func (d *Daemon) imageFor(ctx context.Context, name, platform string) (engine.Image, error) {
	if name == "" {
		return engine.Image{}, badRequest("no image specified")
	}
	image, err := d.engine.Images().Get(ctx, name)
	if errors.Is(err, engine.ErrNotFound) {
		return image, notFound("No such image: %s", withTag(name))
	}
	if err != nil {
		return image, err
	}
	if want, err := parsePlatform(platform); err != nil {
		return image, err
	} else if want != (engine.Platform{}) && !samePlatform(want, image.Platform) {
		return image, notFound("image with reference %s was found but does not provide the specified platform (%s)", name, platform)
	}
	return image, nil
}

// validate checks what is asked for, apart from what rows say.
func validate(c *container.Config, h *container.HostConfig) error {
	if err := refuse(c, h); err != nil {
		return err
	}
	if err := container.ValidateRestartPolicy(h.RestartPolicy); err != nil {
		return badRequest("%v", err)
	}
	if h.AutoRemove && !h.RestartPolicy.IsNone() {
		return badRequest("can't create 'AutoRemove' container with restart policy")
	}
	if c.StopSignal != "" {
		if _, err := signalOf(c.StopSignal); err != nil {
			return err
		}
	}
	if len(h.Links) > 0 && (h.NetworkMode.IsHost() || h.NetworkMode.IsContainer() || h.NetworkMode.IsNone()) {
		kind, _, _ := strings.Cut(string(h.NetworkMode), ":")
		return badRequest("conflicting options: %s type networking can't be used with links. This would result in undefined behavior", kind)
	}
	return validateHealth(c.Healthcheck)
}

// create writes the container's row, then has the engine make it. Without the
// engine's part there is no row.
func (d *Daemon) create(ctx context.Context, name string, image engine.Image, in *container.CreateRequest) (*containerRow, error) {
	cfg, h := in.Config, in.HostConfig
	mergeImage(cfg, &image.Config)
	if err := validate(cfg, h); err != nil {
		return nil, err
	}
	row := &containerRow{ID: ids.Hex(64), Name: name, Created: d.clock.Now(), Image: image.ID, State: container.StateCreated}
	if cfg.Hostname == "" {
		cfg.Hostname = row.ID[:12]
		if name, err := os.Hostname(); err == nil && h.NetworkMode.IsHost() {
			cfg.Hostname = name
		}
	}
	if err := d.settings(ctx, row, cfg, h); err != nil {
		return nil, err
	}
	var made []string
	err := d.db.Update(ctx, func(tx *store.Tx) (err error) {
		if row.Name, err = pickName(tx, name); err != nil {
			return err
		}
		net, err := d.place(tx, row, cfg, in)
		if err != nil {
			return err
		}
		if made, err = d.claimVolumes(tx, row); err != nil {
			return err
		}
		o := order{ID: row.ID, Name: row.Name, Account: d.account, Image: image, Config: cfg, Host: h, Network: net, Free: portFree}
		for i := range row.Mounts {
			o.Mounts = append(o.Mounts, row.Mounts[i].engineMount(d.folder))
		}
		spec, err := specOf(o)
		if err != nil {
			return err
		}
		if row.Spec, err = json.Marshal(spec); err != nil {
			return err
		}
		if row.Config, err = json.Marshal(cfg); err != nil {
			return err
		}
		if row.Host, err = json.Marshal(h); err != nil {
			return err
		}
		return containers.Insert(tx, row)
	})
	if err != nil {
		return nil, err
	}
	if err = d.checkVolumes(ctx, row); err == nil {
		var spec engine.Spec
		if spec, err = row.spec(); err == nil {
			_, err = d.engine.Create(ctx, spec)
		}
	}
	if err != nil {
		return nil, errors.Join(createFault(err), d.undo(ctx, row, made))
	}
	for _, v := range made {
		d.tellThing(events.VolumeEventType, events.ActionCreate, v, map[string]string{"driver": "local"})
	}
	return row, nil
}

// createFault gives Docker's text to what clients look for.
func createFault(err error) error {
	if errors.Is(err, engine.ErrExists) {
		return &fault{http.StatusInternalServerError, "failed to set up container networking: driver failed programming external connectivity: " + err.Error()}
	}
	return err
}

// undo takes back the rows of a container that could not be made.
func (d *Daemon) undo(ctx context.Context, row *containerRow, made []string) error {
	err := d.db.Update(ctx, func(tx *store.Tx) error {
		for _, v := range made {
			if err := volumes.Delete(tx, store.K(v)); err != nil {
				return err
			}
		}
		return containers.Delete(tx, store.K(row.ID))
	})
	for _, v := range made {
		err = errors.Join(err, d.dropFolder(v))
	}
	return err
}

// settings completes what was asked for by the defaults, and lists the mounts.
func (d *Daemon) settings(ctx context.Context, row *containerRow, cfg *container.Config, h *container.HostConfig) error {
	if h.NetworkMode == "" || h.NetworkMode.IsDefault() {
		h.NetworkMode = network.NetworkBridge
	}
	if h.Memory > 0 && h.MemorySwap == 0 {
		h.MemorySwap = 2 * h.Memory // as Docker has it
	}
	if h.ShmSize == 0 {
		h.ShmSize = shmSize
	}
	if h.LogConfig.Type == "" {
		h.LogConfig.Type = "json-file"
	}
	if h.RestartPolicy.Name == "" {
		h.RestartPolicy.Name = container.RestartPolicyDisabled
	}
	if h.IpcMode == "" {
		h.IpcMode = container.IPCModePrivate
	}
	var from []mountRow
	for _, ref := range h.VolumesFrom {
		ref, mode, _ := strings.Cut(ref, ":")
		other, err := d.find(ctx, ref)
		if err != nil {
			return err
		}
		if mode != "" && mode != "rw" && mode != "ro" {
			return badRequest("invalid mode for volumes-from: %s", mode)
		}
		for _, m := range other.Mounts {
			if m.Type != "tmpfs" {
				m.ReadOnly = m.ReadOnly || mode == "ro"
				from = append(from, m)
			}
		}
	}
	var err error
	if row.Mounts, err = mountsOf(cfg, h, from); err != nil {
		return err
	}
	for _, m := range row.Mounts {
		if m.Type != "bind" {
			continue
		}
		if _, err := os.Stat(m.Source); err != nil {
			if m.NoCopy { // of --mount
				return badRequest(`invalid mount config for type "bind": bind source path does not exist: %s`, m.Source)
			}
			if err := os.MkdirAll(m.Source, 0o755); err != nil {
				return badRequest("error while creating mount source path '%s': %v", m.Source, err)
			}
		}
	}
	return nil
}

// place gives a container its place in its networks: the one of its mode, or those
// that are listed.
func (d *Daemon) place(tx *store.Tx, row *containerRow, cfg *container.Config, in *container.CreateRequest) (n engine.Network, err error) {
	mode := in.HostConfig.NetworkMode
	row.Net, row.More = netRow{}, nil // the transaction may run again
	switch {
	case mode.IsNone():
		row.Net = noNet()
		return engine.Network{Mode: engine.NetworkNone}, nil
	case mode.IsHost():
		row.Net = netRow{Mode: network.NetworkHost, ID: hostID, Name: network.NetworkHost}
		return engine.Network{Mode: engine.NetworkHost}, nil
	case mode.IsContainer():
		return joinContainer(tx, row, cfg, in.HostConfig)
	}
	asked := map[string]*network.EndpointSettings{}
	if in.NetworkingConfig != nil {
		for name, e := range in.NetworkingConfig.EndpointsConfig {
			if name == network.NetworkDefault {
				name = network.NetworkBridge
			}
			asked[name] = e
		}
	}
	if len(asked) == 0 {
		asked[string(mode)] = nil
	}
	for _, name := range slices.Sorted(maps.Keys(asked)) {
		at, err := joinNetwork(tx, name, asked[name])
		if err != nil {
			return n, err
		}
		main := len(asked) == 1 || name == string(mode) || at.ID == string(mode) || at.Name == string(mode)
		links := slices.Clone(endpointLinks(asked[name]))
		if main {
			links = append(slices.Clone(in.HostConfig.Links), links...)
		}
		if err := linkTo(tx, &at, links); err != nil {
			return n, err
		}
		switch {
		case slices.ContainsFunc(row.nets(), func(has netRow) bool { return has.ID == at.ID }):
			return n, badRequest("invalid container networks: network %s is given twice", at.Name)
		case row.Net.ID == "":
			row.Net = at
		case main:
			row.Net, row.More = at, append(row.More, row.Net)
		default:
			row.More = append(row.More, at)
		}
	}
	n.SetLinks(row.links())
	return n, nil
}

func endpointLinks(e *network.EndpointSettings) []string {
	if e == nil {
		return nil
	}
	return e.Links
}

// joinContainer shares another container's network.
func joinContainer(tx *store.Tx, row *containerRow, cfg *container.Config, h *container.HostConfig) (engine.Network, error) {
	other, err := findContainer(tx, h.NetworkMode.ConnectedContainer())
	switch {
	case err != nil:
		return engine.Network{}, err
	case other.Net.Mode == network.NetworkHost || other.Net.Mode == modeContainer:
		return engine.Network{}, unsupported("the network of a container in network %q", other.Net.Mode)
	case cfg.Hostname != row.ID[:12]:
		return engine.Network{}, badRequest("conflicting options: hostname and the network mode")
	case len(h.PortBindings) > 0 || h.PublishAllPorts:
		return engine.Network{}, badRequest("conflicting options: port publishing and the container type network mode")
	case len(h.DNS) > 0 || len(h.ExtraHosts) > 0:
		return engine.Network{}, badRequest("conflicting options: dns, custom host-to-IP mapping and the network mode")
	}
	spec, err := other.spec()
	if err != nil {
		return engine.Network{}, err
	}
	net := spec.Network
	net.Sandbox, net.Ports = other.ID, nil
	cfg.Hostname = spec.Hostname
	h.NetworkMode = container.NetworkMode("container:" + other.ID)
	row.Net = netRow{Mode: modeContainer, ID: other.ID, Name: "container:" + other.ID}
	return net, nil
}

// pickName returns the name of a new container: the one asked for, or one that
// is free.
func pickName(tx *store.Tx, name string) (string, error) {
	if name != "" {
		return name, nameFree(tx, name)
	}
	for {
		name := madeUpName()
		other, err := named(tx, name)
		if err != nil {
			return "", err
		}
		if other == nil {
			return name, nil
		}
	}
}

// portFree tells whether nobody on the machine listens on a port.
func portFree(p engine.Port) bool {
	a := p.Address
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	at := net.JoinHostPort(a.String(), strconv.Itoa(int(p.Host)))
	if protocolOf(p) == "udp" {
		l, err := net.ListenPacket("udp", at)
		if err == nil {
			_ = l.Close()
		}
		return err == nil
	}
	l, err := net.Listen("tcp", at)
	if err == nil {
		_ = l.Close()
	}
	return err == nil
}

// parsePlatform reads os/architecture[/variant] or an architecture; empty is
// this machine's.
func parsePlatform(text string) (engine.Platform, error) {
	if text == "" {
		return engine.Platform{}, nil
	}
	parts := strings.Split(text, "/")
	if len(parts) > 3 {
		return engine.Platform{}, badRequest("invalid platform %q", text)
	}
	if len(parts) == 1 {
		if parts[0] == "linux" {
			return engine.Platform{}, nil
		}
		return engine.Platform{OS: "linux", Architecture: parts[0]}, nil
	}
	p := engine.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

func samePlatform(want, have engine.Platform) bool {
	return want.OS == have.OS && want.Architecture == have.Architecture && (want.Variant == "" || want.Variant == have.Variant)
}

// withTag completes an image's name by Docker's default tag.
func withTag(name string) string {
	if strings.Contains(name, "@") || strings.Contains(name[strings.LastIndex(name, "/")+1:], ":") {
		return name
	}
	return name + ":latest"
}

// The words of made up names.
const (
	adjectives = "amber bold brisk calm clear cool deep eager fair fresh gentle grand green keen kind lively lucid merry mild neat noble proud quiet rapid salty silver smooth steady still swift warm windy"
	nouns      = "anchor auk bay beacon buoy cliff cod cove crab dune eider fjord gannet gull harbour heron islet kelp lagoon mast otter petrel pier puffin reef sail seal shoal skua tern tide wharf"
)

func madeUpName() string {
	a, n := strings.Fields(adjectives), strings.Fields(nouns)
	r := ids.Hex(6)
	x, _ := strconv.ParseUint(r, 16, 32)
	return fmt.Sprintf("%s_%s_%d", a[x%uint64(len(a))], n[x>>5%uint64(len(n))], x>>10%1000)
}
