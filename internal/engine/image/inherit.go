package image

import (
	"path/filepath"
	"slices"

	"skerry/internal/engine/image/unpack"
	"skerry/internal/store"
)

// inherit gives the folders that a layer has only because of what is in them the
// owner and mode of the layer below: to overlayfs the upper folder's count. The
// first image that has the layer decides.
func (s *Store) inherit(tx *store.Tx, uses []layerUse) error {
	var below []string
	for _, use := range uses {
		row, err := layers.Get(tx, store.K(use.DiffID))
		if err != nil {
			return err
		}
		dir := filepath.Join(s.cfg.Dir, row.Dir)
		if len(row.Implied) > 0 && len(below) > 0 {
			left := []string{}
			for _, name := range row.Implied {
				found := false
				for _, lower := range slices.Backward(below) {
					if found, err = unpack.CopyFolder(lower, dir, name); found || err != nil {
						break
					}
				}
				if err != nil {
					return err
				}
				if !found {
					left = append(left, name)
				}
			}
			if len(left) < len(row.Implied) {
				row.Implied = left
				if err := layers.Put(tx, row); err != nil {
					return err
				}
			}
		}
		below = append(below, dir)
	}
	return nil
}
