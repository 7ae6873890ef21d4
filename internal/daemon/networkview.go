package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"skerry/internal/store"
)

// networkView is a network as clients see it.
type networkView struct {
	Name       string
	ID         string `json:"Id"`
	Created    time.Time
	Scope      string
	Driver     string
	EnableIPv4 bool
	EnableIPv6 bool
	IPAM       ipamView
	Internal   bool
	Attachable bool
	Ingress    bool
	ConfigFrom map[string]string
	ConfigOnly bool
	Containers map[string]memberView
	Options    map[string]string
	Labels     map[string]string
}

type ipamView struct {
	Driver  string
	Options map[string]string
	Config  []map[string]string
}

type memberView struct{ Name, EndpointID, MacAddress, IPv4Address, IPv6Address string }

func viewNetwork(n *networkRow) *networkView {
	v := &networkView{
		Name: n.Name, ID: n.ID, Created: n.Created, Scope: scopeOfHere, Driver: n.driver(), EnableIPv4: n.Subnet != "",
		Internal: n.Internal, Attachable: n.Attachable,
		IPAM: ipamView{Driver: "default", Config: []map[string]string{}}, ConfigFrom: map[string]string{"Network": ""},
		Containers: map[string]memberView{}, Options: map[string]string{}, Labels: n.Labels,
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	if n.Subnet != "" {
		config := map[string]string{"Subnet": n.Subnet, "Gateway": n.Gateway}
		if n.Range != "" {
			config["IPRange"] = n.Range
		}
		v.IPAM.Config = append(v.IPAM.Config, config)
	}
	return v
}

// endpoints are the networks that a container is in: one, or none.
func (d *Daemon) endpoints(ctx context.Context, row *containerRow) (map[string]*endpoint, error) {
	out := map[string]*endpoint{}
	if row.Net.Mode == modeContainer {
		return out, nil
	}
	e := &endpoint{NetworkID: row.Net.ID}
	out[row.Net.Name] = e
	if row.Net.Mode != modeBridge {
		return out, nil
	}
	err := d.db.View(ctx, func(tx *store.Tx) error {
		n, err := findNetwork(tx, row.Net.ID)
		var f *fault
		if errors.As(err, &f) {
			return nil // the network was removed: the container cannot be started
		}
		if err != nil {
			return err
		}
		e.Aliases, e.DNSNames = row.Net.Aliases, namesOf(row)
		if row.running() {
			p, err := netip.ParsePrefix(n.Subnet)
			if err != nil {
				return err
			}
			e.EndpointID, e.Gateway, e.IPAddress, e.IPPrefixLen = endpointID(row), n.Gateway, row.Net.Address, p.Bits()
		}
		return nil
	})
	return out, err
}

// namesOf are the names by which the others in its network find a container.
func namesOf(row *containerRow) []string {
	if row.Net.ID == bridgeID {
		return nil
	}
	return slices.Concat([]string{row.Name}, row.Net.Aliases, []string{row.ID[:12]})
}
