package daemon

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"

	"skerry/internal/store"
)

// linkTo notes the containers that one knows by names of its own (--link). In the
// default network, where there are no other names, they have to be there; elsewhere
// whoever has the name is meant.
func linkTo(tx *store.Tx, row *containerRow, links []string, asked *network.EndpointSettings) error {
	all := slices.Clone(links)
	if asked != nil {
		all = append(all, asked.Links...)
	}
	for _, text := range all {
		ref, alias, given := strings.Cut(strings.TrimPrefix(text, "/"), ":")
		if !given {
			alias = ref
		}
		if alias = path.Base(alias); ref == "" || alias == "." || alias == "/" {
			return badRequest("bad format for links: %s", text)
		}
		if row.Net.ID == bridgeID {
			other, err := findContainer(tx, ref)
			if err != nil {
				return badRequest("could not get container for %s: %v", ref, err)
			}
			if other.Net.ID != bridgeID {
				return badRequest("Cannot link to /%s, as it does not belong to the default network", other.Name)
			}
			ref = other.ID
		}
		if link := ref + ":" + alias; !slices.Contains(row.Net.Links, link) {
			row.Net.Links = append(row.Net.Links, link)
		}
	}
	return nil
}

// checkLinks refuses to start a container whose links in the default network lead
// nowhere.
func (d *Daemon) checkLinks(ctx context.Context, row *containerRow) error {
	if row.Net.ID != bridgeID {
		return nil
	}
	for _, link := range row.Net.Links {
		ref, alias, _ := strings.Cut(link, ":")
		other, err := d.find(ctx, ref)
		if err != nil {
			return err
		}
		if !other.running() {
			return badRequest("Cannot link to a non running container: /%s AS /%s/%s", other.Name, row.Name, alias)
		}
	}
	return nil
}

// linked finds the running containers that a container knows by a name of its own.
func (d *Daemon) linked(ctx context.Context, row *containerRow, name string) (found []*containerRow) {
	for _, link := range row.Net.Links {
		ref, alias, _ := strings.Cut(link, ":")
		found = append(found, d.neighbours(ctx, row.Net.ID, func(n *containerRow) bool {
			if slices.ContainsFunc(found, func(f *containerRow) bool { return f.ID == n.ID }) {
				return false // by another link
			}
			meant := n.ID == ref || n.Name == ref || strings.HasPrefix(n.ID, ref) && len(ref) >= 12
			byOwn := row.Net.ID == bridgeID && (strings.EqualFold(n.Name, name) || n.ID[:12] == name)
			return meant && (strings.EqualFold(alias, name) || byOwn)
		})...)
	}
	return found
}

// shownLinks are a container's links as inspect has them.
func (d *Daemon) shownLinks(ctx context.Context, row *containerRow, asked []string) []string {
	if row.Net.ID != bridgeID {
		return asked
	}
	var out []string
	for _, link := range row.Net.Links {
		ref, alias, _ := strings.Cut(link, ":")
		if other, err := d.find(ctx, ref); err == nil {
			out = append(out, "/"+other.Name+":/"+row.Name+"/"+alias)
		}
	}
	return out
}
