package daemon

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/volume"

	"skerry/internal/base/ids"
	"skerry/internal/store"
)

// anonymousLabel marks volumes that nobody named, as Docker does.
const anonymousLabel = "com.docker.volume.anonymous"

// claimVolumes makes the rows of the volumes of a container that are not there,
// and returns their names.
func (d *Daemon) claimVolumes(tx *store.Tx, row *containerRow) (made []string, err error) {
	for _, m := range row.Mounts {
		if m.Type != "volume" {
			continue
		}
		if ok, err := volumes.Has(tx, store.K(m.Name)); err != nil {
			return nil, err
		} else if ok {
			continue
		}
		v := &volumeRow{Name: m.Name, Created: row.Created}
		if len(m.Name) == 64 {
			v.Anonymous, v.Labels = true, map[string]string{anonymousLabel: ""}
		}
		if err := volumes.Put(tx, v); err != nil {
			return nil, err
		}
		made = append(made, m.Name)
	}
	return made, nil
}

// checkVolumes makes the folders of a container's volumes where they are
// missing.
func (d *Daemon) checkVolumes(ctx context.Context, row *containerRow) error {
	for _, n := range row.nets() {
		err := d.db.View(ctx, func(tx *store.Tx) error { _, err := findNetwork(tx, n.ID); return err })
		if err != nil {
			return err
		}
	}
	for _, m := range row.Mounts {
		if m.Type == "volume" {
			if err := d.makeFolder(m.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// makeFolder makes the folder of a volume.
func (d *Daemon) makeFolder(name string) error {
	return os.MkdirAll(d.folder(name), 0o755)
}

// dropFolder removes a volume's files, and dropFolders those of several.
func (d *Daemon) dropFolder(name string) error {
	return os.RemoveAll(filepath.Dir(d.folder(name)))
}

func (d *Daemon) dropFolders(names []string) error {
	var errs []error
	for _, name := range names {
		errs = append(errs, d.dropFolder(name))
	}
	return errors.Join(errs...)
}

// dropAnonymous deletes the row of a volume that nobody named and no other
// container uses, and tells whether it did.
func (d *Daemon) dropAnonymous(tx *store.Tx, name string) (bool, error) {
	v, err := volumes.Get(tx, store.K(name))
	if errors.Is(err, store.ErrNotFound) || err == nil && !v.Anonymous {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	users, err := d.usersOf(tx, name)
	if err != nil || len(users) > 0 {
		return false, err
	}
	return true, volumes.Delete(tx, store.K(name))
}

// usersOf lists the ids of the containers that have a volume, and are not gone but
// for a row that the disk has no room to delete.
func (d *Daemon) usersOf(tx *store.Tx, name string) (ids []string, err error) {
	for row, err := range byVolume.Scan(tx, store.Range{Prefix: store.K(name)}) {
		if err != nil {
			return nil, err
		}
		if l := d.late.get(row.ID); l == nil || !l.Removing {
			ids = append(ids, row.ID)
		}
	}
	return ids, nil
}

func (d *Daemon) viewVolume(v *volumeRow) *volume.Volume {
	out := &volume.Volume{
		Name: v.Name, Driver: "local", Mountpoint: d.folder(v.Name), Labels: v.Labels, Options: map[string]string{}, Scope: scopeOfHere,
		CreatedAt: stamp(v.Created.Truncate(1e9)),
	}
	if out.Labels == nil {
		out.Labels = map[string]string{}
	}
	return out
}

// createVolume answers POST /volumes/create. A volume that is there already is
// the answer as well.
func (d *Daemon) createVolume(c *call) error {
	var in volume.CreateRequest
	if err := c.body(&in); err != nil {
		return err
	}
	switch {
	case in.Driver != "" && in.Driver != "local":
		return notFound("plugin %q not found", in.Driver)
	case len(in.DriverOpts) > 0:
		return unsupported("options of the local volume driver")
	case in.ClusterVolumeSpec != nil:
		return unsupported("cluster volumes")
	case in.Name != "" && !volumeName.MatchString(in.Name):
		return badRequest("create %s: %q includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path", in.Name, in.Name)
	}
	v := &volumeRow{Name: in.Name, Created: d.clock.Now(), Labels: in.Labels}
	if v.Name == "" {
		v.Name, v.Anonymous = ids.Hex(64), true
		v.Labels = map[string]string{anonymousLabel: ""}
		for k, l := range in.Labels {
			v.Labels[k] = l
		}
	}
	made := false
	err := d.db.Update(c.Context(), func(tx *store.Tx) error {
		old, err := volumes.Get(tx, store.K(v.Name))
		if err == nil {
			v, made = old, false
			return nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		made = true
		return volumes.Put(tx, v)
	})
	if err == nil {
		err = d.makeFolder(v.Name)
	}
	if err != nil {
		return err
	}
	if made {
		d.tellThing(events.VolumeEventType, events.ActionCreate, v.Name, map[string]string{"driver": "local"})
	}
	return c.created(d.viewVolume(v))
}

// listVolumes answers GET /volumes.
func (d *Daemon) listVolumes(c *call) error {
	f, err := c.filters("dangling", "driver", "label", "name")
	if err != nil {
		return err
	}
	dangling, err := f.flag("dangling", false)
	if err != nil {
		return err
	}
	out := volume.ListResponse{Volumes: []volume.Volume{}, Warnings: []string{}}
	err = d.db.View(c.Context(), func(tx *store.Tx) error {
		for v, err := range volumes.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			if !f.labels(v.Labels) || !f.any("name", func(n string) bool { return strings.Contains(v.Name, n) }) || !f.any("driver", func(n string) bool { return n == "local" }) {
				continue
			}
			if len(f["dangling"]) > 0 {
				users, err := d.usersOf(tx, v.Name)
				if err != nil {
					return err
				}
				if (len(users) == 0) != dangling {
					continue
				}
			}
			out.Volumes = append(out.Volumes, *d.viewVolume(v))
		}
		return nil
	})
	if err != nil {
		return err
	}
	return c.ok(out)
}

// inspectVolume answers GET /volumes/{name}.
func (d *Daemon) inspectVolume(c *call) error {
	v, err := d.volume(c.Context(), c.vars["name"])
	if err != nil {
		return err
	}
	return c.ok(d.viewVolume(v))
}

func (d *Daemon) volume(ctx context.Context, name string) (v *volumeRow, err error) {
	err = d.db.View(ctx, func(tx *store.Tx) error { v, err = getVolume(tx, name); return err })
	return v, err
}

func getVolume(tx *store.Tx, name string) (*volumeRow, error) {
	v, err := volumes.Get(tx, store.K(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, notFound("get %s: no such volume", name)
	}
	return v, err
}

// removeVolume answers DELETE /volumes/{name}.
func (d *Daemon) removeVolume(c *call) error {
	name := c.vars["name"]
	gone, err := d.release(c.Context(), func(tx *store.Tx) ([]string, error) {
		if _, err := getVolume(tx, name); err != nil {
			return nil, err
		}
		users, err := d.usersOf(tx, name)
		if err != nil {
			return nil, err
		}
		if len(users) > 0 {
			return nil, conflict("remove %s: volume is in use - [%s]", name, strings.Join(users, ", "))
		}
		return []string{name}, volumes.Delete(tx, store.K(name))
	})
	if missing(err) && c.flag("force") {
		return c.done()
	}
	if err == nil {
		err = d.dropFolders(gone)
	}
	if err != nil {
		return err
	}
	d.tellThing(events.VolumeEventType, events.ActionDestroy, name, map[string]string{"driver": "local"})
	return c.done()
}

// pruneVolumes answers POST /volumes/prune: the anonymous ones that nobody uses,
// with all the named ones too. Before version 1.42 all was meant always.
func (d *Daemon) pruneVolumes(c *call) error {
	f, err := c.filters("all", "label", "label!")
	if err != nil {
		return err
	}
	named, err := f.flag("all", c.minor < 42)
	if err != nil {
		return err
	}
	sizes := map[string]int64{}
	gone, err := d.release(c.Context(), func(tx *store.Tx) (gone []string, err error) {
		for v, err := range volumes.Scan(tx, store.Range{}) {
			if err != nil {
				return nil, err
			}
			users, err := d.usersOf(tx, v.Name)
			if err != nil {
				return nil, err
			}
			if len(users) > 0 || !named && !v.Anonymous || !f.labels(v.Labels) {
				continue
			}
			if err := volumes.Delete(tx, store.K(v.Name)); err != nil {
				return nil, err
			}
			gone = append(gone, v.Name)
			sizes[v.Name] = max(sizes[v.Name], sizeOf(d.folder(v.Name))) // the second time it may be empty
		}
		return gone, nil
	})
	if err == nil {
		err = d.dropFolders(gone)
	}
	if err != nil {
		return err
	}
	report := volume.PruneReport{VolumesDeleted: append([]string{}, gone...)}
	for _, name := range gone {
		report.SpaceReclaimed += uint64(sizes[name])
		d.tellThing(events.VolumeEventType, events.ActionDestroy, name, map[string]string{"driver": "local"})
	}
	return c.ok(report)
}

// sizeOf adds up the files below a folder; what cannot be read counts nothing.
func sizeOf(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if i, err := e.Info(); err == nil && i.Mode().IsRegular() {
			n += i.Size()
		}
		return nil
	})
	return n
}
