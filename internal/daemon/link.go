package daemon

import (
	"context"
	"path"
	"slices"
	"strings"

	"skerry/internal/store"
)

// linkTo notes the containers that one knows by names of its own (--link). In the
// default network, where there are no other names, they have to be there; elsewhere
// whoever has the name is meant.
func linkTo(tx *store.Tx, at *netRow, links []string) error {
	for _, text := range links {
		ref, alias, given := strings.Cut(strings.TrimPrefix(text, "/"), ":")
		if !given {
			alias = ref
		}
		if alias = path.Base(alias); ref == "" || alias == "." || alias == "/" {
			return badRequest("bad format for links: %s", text)
		}
		if at.ID == bridgeID {
			other, err := findContainer(tx, ref)
			if err != nil {
				return badRequest("could not get container for %s: %v", ref, err)
			}
			if other.in(bridgeID).ID == "" {
				return badRequest("Cannot link to /%s, as it does not belong to the default network", other.Name)
			}
			ref = other.ID
		}
		if link := ref + ":" + alias; !slices.Contains(at.Links, link) {
			at.Links = append(at.Links, link)
		}
	}
	return nil
}

// checkLinks refuses to start a container whose links in the default network lead
// nowhere.
func (d *Daemon) checkLinks(ctx context.Context, row *containerRow) error {
	for _, link := range row.in(bridgeID).Links {
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

// linked finds the running containers that one knows, on a network, by a name of its
// own.
func (d *Daemon) linked(ctx context.Context, at *netRow, name string) (found []neighbour) {
	for _, link := range at.Links {
		ref, alias, _ := strings.Cut(link, ":")
		found = append(found, d.neighbours(ctx, at.ID, func(n neighbour) bool {
			if slices.ContainsFunc(found, func(f neighbour) bool { return f.ID == n.ID }) {
				return false // by another link
			}
			meant := n.ID == ref || n.Name == ref || strings.HasPrefix(n.ID, ref) && len(ref) >= 12
			byOwn := at.ID == bridgeID && (strings.EqualFold(n.Name, name) || n.ID[:12] == name)
			return meant && (strings.EqualFold(alias, name) || byOwn)
		})...)
	}
	return found
}

// shownLinks are a container's links as inspect has them.
func (d *Daemon) shownLinks(ctx context.Context, row *containerRow, asked []string) []string {
	at := row.in(bridgeID)
	if at.ID == "" {
		return asked
	}
	var out []string
	for _, link := range at.Links {
		ref, alias, _ := strings.Cut(link, ":")
		if other, err := d.find(ctx, ref); err == nil {
			out = append(out, "/"+other.Name+":/"+row.Name+"/"+alias)
		}
	}
	return out
}
