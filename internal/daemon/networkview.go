package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/moby/moby/api/types/network"

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

// endpoints are the networks that a container is in.
func (d *Daemon) endpoints(ctx context.Context, row *containerRow) (map[string]*endpoint, error) {
	out := map[string]*endpoint{}
	err := d.db.View(ctx, func(tx *store.Tx) error {
		for _, at := range row.nets() {
			e := &endpoint{NetworkID: at.ID}
			out[at.Name] = e
			if at.Mode != modeBridge {
				continue
			}
			n, err := findNetwork(tx, at.ID)
			var f *fault
			if errors.As(err, &f) {
				continue // the network was removed: the container cannot be started
			}
			if err != nil {
				return err
			}
			e.Aliases, e.DNSNames, e.GwPriority = at.Aliases, namesOf(row, &at), at.Priority
			if at.Fixed {
				e.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: at.addr()}
			}
			if row.running() {
				p, err := netip.ParsePrefix(n.Subnet)
				if err != nil {
					return err
				}
				e.EndpointID, e.Gateway, e.IPAddress, e.IPPrefixLen = endpointID(row, n.ID), n.Gateway, at.Address, p.Bits()
			}
		}
		return nil
	})
	return out, err
}

// namesOf are the names by which the others in a network find a container.
func namesOf(row *containerRow, at *netRow) []string {
	if at.ID == bridgeID {
		return nil
	}
	return slices.Concat([]string{row.Name}, at.Aliases, []string{row.ID[:12]})
}
