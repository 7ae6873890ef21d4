package daemon

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/moby/moby/api/types/container"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// containerRow is a container: what was asked for, and how far its life has come.
// The engine has the container itself under the same id.
type containerRow struct {
	ID      string    `cbor:"1,keyasint"`
	Name    string    `cbor:"2,keyasint"` // without the slash
	Created time.Time `cbor:"3,keyasint"`
	Image   string    `cbor:"4,keyasint"` // the image's id; its name is in Config
	// What was asked for, in Docker's JSON: its types grow with the API, and a
	// row must stay readable.
	Config []byte     `cbor:"5,keyasint"` // container.Config, the image's included
	Host   []byte     `cbor:"6,keyasint"` // container.HostConfig
	Mounts []mountRow `cbor:"7,keyasint,omitempty"`
	Net    netRow     `cbor:"8,keyasint"`
	Spec   []byte     `cbor:"9,keyasint"` // engine.Spec in JSON

	State    container.ContainerState `cbor:"10,keyasint"`
	Started  time.Time                `cbor:"11,keyasint"`
	Finished time.Time                `cbor:"12,keyasint"`
	ExitCode int                      `cbor:"13,keyasint,omitempty"`
	OOM      bool                     `cbor:"14,keyasint,omitempty"`
	Error    string                   `cbor:"15,keyasint,omitempty"`
	Restarts int                      `cbor:"16,keyasint,omitempty"` // by its policy
	// RestartAt and Backoff are of a container in State restarting.
	RestartAt time.Time     `cbor:"17,keyasint"`
	Backoff   time.Duration `cbor:"18,keyasint,omitempty"`
	Stopped   bool          `cbor:"19,keyasint,omitempty"` // by a client: its policy does not start it again
	Removing  bool          `cbor:"20,keyasint,omitempty"` // what is left of it goes, whatever happens
	Volumes   bool          `cbor:"21,keyasint,omitempty"` // with Removing: its anonymous volumes as well
	Health    *healthRow    `cbor:"22,keyasint,omitempty"`
	More      []netRow      `cbor:"23,keyasint,omitempty"` // further networks
	Relinking bool          `cbor:"24,keyasint,omitempty"` // the engine may not know of its networks
}

// mountRow is a mount as inspect shows it.
type mountRow struct {
	Type     string `cbor:"1,keyasint"` // bind, volume, tmpfs
	Name     string `cbor:"2,keyasint,omitempty"`
	Source   string `cbor:"3,keyasint,omitempty"`
	Target   string `cbor:"4,keyasint"`
	Mode     string `cbor:"5,keyasint,omitempty"`
	ReadOnly bool   `cbor:"6,keyasint,omitempty"`
	NoCopy   bool   `cbor:"7,keyasint,omitempty"`
	Size     int64  `cbor:"8,keyasint,omitempty"` // tmpfs
	Perm     uint32 `cbor:"9,keyasint,omitempty"` // tmpfs
	Exec     bool   `cbor:"10,keyasint,omitempty"`
}

// netRow is a container's place in a network.
type netRow struct {
	Mode    string   `cbor:"1,keyasint"`           // host, none, container, bridge
	ID      string   `cbor:"2,keyasint,omitempty"` // the network's, or the container's whose network it is
	Name    string   `cbor:"3,keyasint,omitempty"` // as it was asked for
	Address string   `cbor:"4,keyasint,omitempty"`
	Aliases []string `cbor:"5,keyasint,omitempty"`
	Links   []string `cbor:"6,keyasint,omitempty"` // container:alias, by its id in the default network
	// of the network
	Subnet   string `cbor:"7,keyasint,omitempty"`
	Internal bool   `cbor:"8,keyasint,omitempty"`
	Priority int    `cbor:"9,keyasint,omitempty"`  // of the one by which the outside is reached
	Fixed    bool   `cbor:"10,keyasint,omitempty"` // the address was asked for
}

func (n *netRow) addr() netip.Addr {
	a, _ := netip.ParseAddr(n.Address) // written by Addr.String, or empty
	return a
}

func (n *netRow) subnet() netip.Prefix {
	p, _ := netip.ParsePrefix(n.Subnet) // checked when the network was made
	return p
}

// byGateway is Docker's order of the networks of which one leads outside.
func byGateway(a, b netRow) int {
	internal := map[bool]int{true: 1}
	return cmp.Or(cmp.Compare(b.Priority, a.Priority), cmp.Compare(internal[a.Internal], internal[b.Internal]), cmp.Compare(a.Name, b.Name))
}

// healthRow is how a container's health checks went.
type healthRow struct {
	Status  container.HealthStatus `cbor:"1,keyasint"`
	Streak  int                    `cbor:"2,keyasint,omitempty"`
	Results []healthResult         `cbor:"3,keyasint,omitempty"` // the last five
}

type healthResult struct {
	Start  time.Time `cbor:"1,keyasint"`
	End    time.Time `cbor:"2,keyasint"`
	Code   int       `cbor:"3,keyasint,omitempty"`
	Output string    `cbor:"4,keyasint,omitempty"`
}

// execRow is a program that was, is or will be run in a container.
type execRow struct {
	ID        string `cbor:"1,keyasint"`
	Container string `cbor:"2,keyasint"`
	Config    []byte `cbor:"3,keyasint"` // container.ExecCreateRequest in JSON
	Started   bool   `cbor:"4,keyasint,omitempty"`
	Running   bool   `cbor:"5,keyasint,omitempty"`
	Exit      *int   `cbor:"6,keyasint,omitempty"`
}

// networkRow is a network that a client made.
type networkRow struct {
	ID       string            `cbor:"1,keyasint"`
	Name     string            `cbor:"2,keyasint"`
	Created  time.Time         `cbor:"3,keyasint"`
	Subnet   string            `cbor:"4,keyasint"`
	Range    string            `cbor:"5,keyasint,omitempty"` // where addresses are chosen; empty is Subnet
	Gateway  string            `cbor:"6,keyasint"`
	Internal bool              `cbor:"7,keyasint,omitempty"`
	Labels   map[string]string `cbor:"8,keyasint,omitempty"`
	Options  map[string]string `cbor:"9,keyasint,omitempty"`
	// Attachable is shown again: of a network of one machine it says nothing.
	Attachable bool `cbor:"10,keyasint,omitempty"`
}

// volumeRow is a volume: a folder below the daemon's own.
type volumeRow struct {
	Name      string            `cbor:"1,keyasint"`
	Created   time.Time         `cbor:"2,keyasint"`
	Labels    map[string]string `cbor:"3,keyasint,omitempty"`
	Anonymous bool              `cbor:"4,keyasint,omitempty"`
}

var (
	byName = store.NewIndex("name", func(r *containerRow) []store.Key { return []store.Key{store.K(r.Name)} })
	byNet  = store.NewIndex("network", func(r *containerRow) (keys []store.Key) {
		for _, n := range append([]netRow{r.Net}, r.More...) {
			if n.ID != "" {
				keys = append(keys, store.K(n.ID, n.Address))
			}
		}
		return keys
	})
	byVolume = store.NewIndex("volume", func(r *containerRow) (keys []store.Key) {
		for _, m := range r.Mounts {
			if m.Name != "" {
				keys = append(keys, store.K(m.Name))
			}
		}
		return keys
	})
	containers = store.NewTable("daemon/containers", func(r *containerRow) store.Key { return store.K(r.ID) }, byName, byNet, byVolume)

	byContainer = store.NewIndex("container", func(r *execRow) []store.Key { return []store.Key{store.K(r.Container)} })
	execs       = store.NewTable("daemon/execs", func(r *execRow) store.Key { return store.K(r.ID) }, byContainer)

	byNetworkName = store.NewIndex("name", func(r *networkRow) []store.Key { return []store.Key{store.K(r.Name)} })
	networks      = store.NewTable("daemon/networks", func(r *networkRow) store.Key { return store.K(r.ID) }, byNetworkName)

	volumes = store.NewTable("daemon/volumes", func(r *volumeRow) store.Key { return store.K(r.Name) })
)

// config decodes what was asked for.
func (r *containerRow) config() (*container.Config, *container.HostConfig, error) {
	c, h := new(container.Config), new(container.HostConfig)
	if err := json.Unmarshal(r.Config, c); err != nil {
		return nil, nil, fmt.Errorf("daemon: container %s: %w", r.ID, err)
	}
	if err := json.Unmarshal(r.Host, h); err != nil {
		return nil, nil, fmt.Errorf("daemon: container %s: %w", r.ID, err)
	}
	return c, h, nil
}

// spec decodes what the engine was told.
func (r *containerRow) spec() (engine.Spec, error) {
	var s engine.Spec
	if err := json.Unmarshal(r.Spec, &s); err != nil {
		return s, fmt.Errorf("daemon: container %s: %w", r.ID, err)
	}
	return s, nil
}

// running tells whether the container has a process, a paused one included.
func (r *containerRow) running() bool {
	return r.State == container.StateRunning || r.State == container.StatePaused
}
