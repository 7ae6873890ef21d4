package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// Volumes are folders:
//
//	<Dir>/tasks/<task>/volumes/<volume>              scratch, and the task's own
//	<Dir>/tasks/<task>/images/<container>/<number>   of a VOLUME of the image
//	<Dir>/shared/<account>/<volume>                  shared

func (r *Runner) taskFolder(id engine.ID) string { return filepath.Join(r.Dir, "tasks", string(id)) }

// volumeFolder is a volume's folder on the machine.
func (r *Runner) volumeFolder(t *Task, v *Volume) string {
	switch {
	case v.Host != "":
		return v.Host
	case v.Docker != nil && v.Docker.Shared:
		return filepath.Join(r.Dir, "shared", t.Account, v.Name)
	}
	return filepath.Join(r.taskFolder(t.ID), "volumes", v.Name)
}

// makeVolumes makes a task's volumes. A folder that is there already is left as
// it is.
func (r *Runner) makeVolumes(ctx context.Context, t *Task) error {
	for i := range t.Volumes {
		v := &t.Volumes[i]
		if v.Docker != nil && v.Docker.Shared {
			if err := r.shareVolume(ctx, t, v); err != nil {
				return err
			}
		}
		if v.Size > 0 { // made by the engine, with its container
			continue
		}
		if err := os.MkdirAll(r.volumeFolder(t, v), 0o755); err != nil {
			return fmt.Errorf("CannotCreateVolumeError: %w", err)
		}
	}
	return nil
}

// shareVolume finds a shared volume, or makes it.
func (r *Runner) shareVolume(ctx context.Context, t *Task, v *Volume) error {
	return r.Store.Update(ctx, func(tx *store.Tx) error {
		row, err := get(tx, volumes, store.K(t.Account, v.Name))
		if err != nil || row != nil {
			return err
		}
		if !v.Docker.Create {
			return fmt.Errorf("CannotInspectVolumeError: get %s: no such volume", v.Name)
		}
		return volumes.Put(tx, &volumeRow{Account: t.Account, Name: v.Name, Driver: "local", Labels: v.Docker.Labels, Created: r.Clock.Now()})
	})
}

// ownMounts are the mounts of a container's own volumes and of its image's.
func (r *Runner) ownMounts(v *view, c *Container) (all []engine.Mount, err error) {
	taken := map[string]bool{}
	for _, m := range c.Mounts {
		for i := range v.spec.Volumes {
			vol := &v.spec.Volumes[i]
			if vol.Name != m.Volume {
				continue
			}
			taken[filepath.Clean(m.Path)] = true
			if vol.Size > 0 {
				all = append(all, engine.Mount{Kind: engine.MountDisk, Source: "volume" + strconv.Itoa(i), Target: m.Path, Size: vol.Size, Mode: 0o755,
					ReadOnly: m.ReadOnly, Populate: true})
				continue
			}
			all = append(all, engine.Mount{Kind: engine.MountBind, Source: r.volumeFolder(v.spec, vol), Target: m.Path,
				ReadOnly: m.ReadOnly, Owned: true, Populate: vol.Host == ""})
		}
	}
	if !c.ReadonlyRoot && !v.lends(c.Name) {
		return all, nil // the root does as well
	}
	for i, p := range v.row(c.Name).Volumes {
		if p = filepath.Clean("/" + p); p == "/" || taken[p] {
			continue
		}
		dir := filepath.Join(r.taskFolder(v.task.ID), "images", c.Name, strconv.Itoa(i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		all = append(all, engine.Mount{Kind: engine.MountBind, Source: dir, Target: p, Owned: true, Populate: true})
	}
	return all, nil
}

// lends tells whether others take a container's volumes.
func (v *view) lends(name string) bool {
	for i := range v.spec.Containers {
		for _, f := range v.spec.Containers[i].VolumesFrom {
			if f.Container == name {
				return true
			}
		}
	}
	return false
}

// taskFolders lists the tasks that have a folder.
func (r *Runner) taskFolders() map[engine.ID][]engine.ID {
	all := map[engine.ID][]engine.ID{}
	dirs, err := os.ReadDir(filepath.Join(r.Dir, "tasks"))
	if err != nil {
		return all // none was made yet
	}
	for _, d := range dirs {
		all[engine.ID(d.Name())] = nil
	}
	return all
}

// removeFolder removes what a task has kept on the machine.
func (r *Runner) removeFolder(id engine.ID) error {
	if !id.Valid() {
		return nil
	}
	if err := os.RemoveAll(r.taskFolder(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("task: remove the volumes of %s: %w", id, err)
	}
	return nil
}
