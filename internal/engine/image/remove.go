package image

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"skerry/internal/engine"
	"skerry/internal/loop"
	"skerry/internal/store"
)

// removing is a removal under way: nobody takes hold of an image meanwhile.
type removing struct {
	s    *Store
	held map[string]int // as it was before used was asked
	used func() (map[string]bool, error)
}

// remove runs fn while nobody can take hold of anything.
func (s *Store) remove(ctx context.Context, fn func(r *removing) error) error {
	s.removal.Lock()
	defer s.removal.Unlock()
	r := &removing{s: s}
	// In this order: who has let go of an image has a container by now.
	s.mu.Lock()
	r.held = maps.Clone(s.held)
	s.mu.Unlock()
	r.used = sync.OnceValues(func() (map[string]bool, error) {
		if s.cfg.Used == nil {
			return nil, nil
		}
		used, err := s.cfg.Used(ctx)
		if err != nil {
			return nil, fmt.Errorf("image: which images have containers: %w", err)
		}
		return used, nil
	})
	return fn(r)
}

// busy tells whether an image must stay.
func (r *removing) busy(id string) (bool, error) {
	if r.held[id] > 0 {
		return true, nil
	}
	used, err := r.used()
	return used[id], err
}

// Remove implements engine.Images.
func (s *Store) Remove(ctx context.Context, image string, force bool) (out engine.Removed, err error) {
	err = s.remove(ctx, func(r *removing) error {
		return s.cfg.Store.Update(ctx, func(tx *store.Tx) error {
			out = engine.Removed{}
			row, err := s.find(tx, image)
			if err != nil {
				return err
			}
			tags, err := s.tags(tx, row.ID)
			if err != nil {
				return err
			}
			if n, err := ParseName(image); err == nil {
				if id, err := lookup(tx, n); err != nil {
					return err
				} else if id == row.ID {
					return r.name(tx, row, tags, n, force, &out)
				}
			}
			return r.id(tx, row, tags, image, force, &out)
		})
	})
	if err == nil && len(out.Images) > 0 && s.cfg.Wake != nil {
		s.cfg.Wake()
	}
	return out, err
}

// tags returns the names of an image.
func (s *Store) tags(tx *store.Tx, id string) ([]string, error) {
	var out []string
	for n, err := range namesByImage.Scan(tx, store.Range{Prefix: store.K(id)}) {
		if err != nil {
			return nil, err
		}
		out = append(out, n.Name)
	}
	return out, nil
}

// name takes one name away, and with the last one the image.
func (r *removing) name(tx *store.Tx, row *imageRow, tags []string, n Name, force bool, out *engine.Removed) error {
	left := len(tags)
	if n.Digest == "" {
		left--
	} else if len(row.Digests) > 1 {
		left++
	}
	busy, err := r.busy(row.ID)
	if err != nil {
		return err
	}
	if left == 0 && busy && !force {
		return faultf(engine.ErrState, "conflict: unable to remove repository reference %q (must force) - a container is using its referenced image %s",
			n.Familiar(), short(row.ID))
	}
	if left == 0 && !busy {
		return r.image(tx, row, tags, out)
	}
	out.Names = append(out.Names, n.Familiar())
	if n.Digest == "" {
		if err := names.Delete(tx, store.K(n.String())); err != nil {
			return err
		}
		return r.s.loosen(tx, row.ID)
	}
	row.Digests = slices.DeleteFunc(row.Digests, func(d string) bool { return d == n.String() })
	row.Loose = len(tags) == 0
	return images.Put(tx, row)
}

// id removes an image by its id.
func (r *removing) id(tx *store.Tx, row *imageRow, tags []string, given string, force bool, out *engine.Removed) error {
	busy, err := r.busy(row.ID)
	switch {
	case err != nil:
		return err
	case len(tags) > 1 && !force:
		return faultf(engine.ErrState, "conflict: unable to delete %s (must be forced) - image is referenced in multiple repositories", given)
	case busy && !force:
		return faultf(engine.ErrState, "conflict: unable to delete %s (must be forced) - image is being used by a container", given)
	case !busy:
		return r.image(tx, row, tags, out)
	}
	if err := r.untag(tx, tags, out); err != nil {
		return err
	}
	row.Loose = true
	return images.Put(tx, row)
}

func (r *removing) untag(tx *store.Tx, tags []string, out *engine.Removed) error {
	for _, t := range tags {
		if err := names.Delete(tx, store.K(t)); err != nil {
			return err
		}
		out.Names = append(out.Names, familiar(t))
	}
	return nil
}

// image removes an image, its names, and the layers that no other has. Their
// folders go with the next sweep.
func (r *removing) image(tx *store.Tx, row *imageRow, tags []string, out *engine.Removed) error {
	if err := r.untag(tx, tags, out); err != nil {
		return err
	}
	for _, d := range row.Digests {
		out.Names = append(out.Names, familiar(d))
	}
	if err := images.Delete(tx, store.K(row.ID)); err != nil {
		return err
	}
	out.Images = append(out.Images, row.ID)
	for _, l := range row.Layers {
		if err := r.layer(tx, l.DiffID); err != nil {
			return err
		}
	}
	return nil
}

// layer removes a layer's row if no image has it.
func (r *removing) layer(tx *store.Tx, diffID string) error {
	if r.held[diffID] > 0 {
		return nil
	}
	for _, err := range imagesByLayer.ScanKeys(tx, store.Range{Prefix: store.K(diffID)}) {
		return err // one has it
	}
	return layers.Delete(tx, store.K(diffID))
}

// Prune implements engine.Images.
func (s *Store) Prune(ctx context.Context, all bool) (out engine.Removed, free int64, err error) {
	err = s.remove(ctx, func(r *removing) error {
		return s.cfg.Store.Update(ctx, func(tx *store.Tx) error {
			out, free = engine.Removed{}, 0
			free, err = r.some(tx, &out, func(_ *imageRow, tags []string) bool { return all || len(tags) == 0 })
			return err
		})
	})
	if err == nil && len(out.Images) > 0 && s.cfg.Wake != nil {
		s.cfg.Wake()
	}
	return out, free, err
}

// some removes the images that are meant and not busy, then the layers that no
// image has.
func (r *removing) some(tx *store.Tx, out *engine.Removed, meant func(row *imageRow, tags []string) bool) (free int64, err error) {
	before := map[string]int64{}
	for l, err := range layers.Scan(tx, store.Range{}) {
		if err != nil {
			return 0, err
		}
		before[l.DiffID] = l.Size
	}
	for row, err := range images.Scan(tx, store.Range{}) {
		if err != nil {
			return 0, err
		}
		tags, err := r.s.tags(tx, row.ID)
		if err != nil {
			return 0, err
		}
		if !meant(row, tags) {
			continue
		}
		if busy, err := r.busy(row.ID); err != nil {
			return 0, err
		} else if busy {
			continue
		}
		if err := r.image(tx, row, tags, out); err != nil {
			return 0, err
		}
	}
	for diffID, size := range before {
		if err := r.layer(tx, diffID); err != nil {
			return 0, err
		}
		if there, err := layers.Has(tx, store.K(diffID)); err != nil {
			return 0, err
		} else if !there {
			free += size
		}
	}
	return free, nil
}

// Sweep removes images that have lost their last name and have no container, and
// layers and folders that nothing knows: what removals and crashes leave.
func (s *Store) Sweep(ctx context.Context) (report string, err error) {
	var out engine.Removed
	var garbage []string
	err = s.remove(ctx, func(r *removing) error {
		// The folders first, then which of them are busy, then the rows: a folder
		// that is not busy any more has its row by then.
		folders, err := os.ReadDir(s.cfg.Dir)
		if err != nil {
			return fmt.Errorf("image: %w", err)
		}
		s.mu.Lock()
		known := maps.Clone(s.busy)
		s.mu.Unlock()
		err = s.cfg.Store.Update(ctx, func(tx *store.Tx) error {
			out = engine.Removed{}
			_, err := r.some(tx, &out, func(row *imageRow, tags []string) bool { return row.Loose && len(tags) == 0 })
			if err != nil {
				return err
			}
			for l, err := range layers.Scan(tx, store.Range{}) {
				if err != nil {
					return err
				}
				known[l.Dir] = true
			}
			return nil
		})
		for _, f := range folders {
			if !known[f.Name()] {
				garbage = append(garbage, f.Name())
			}
		}
		return err
	})
	if err != nil {
		return "", err
	}
	for _, name := range garbage {
		if ctx.Err() != nil {
			return "", ctx.Err()
		}
		if err := os.RemoveAll(filepath.Join(s.cfg.Dir, name)); err != nil {
			return "", fmt.Errorf("image: %w", err)
		}
	}
	return fmt.Sprintf("%d images, %d folders", len(out.Images), len(garbage)), nil
}

// LoopName is the name of the loop.
const LoopName = "image/sweep"

// Loops returns the background work.
func (s *Store) Loops() []loop.Loop {
	return []loop.Loop{{
		Name: LoopName, Does: "removes images that nothing names or uses, and the folders of layers that are gone",
		Period: 5 * time.Minute, Deadline: time.Hour, Run: s.Sweep,
	}}
}
