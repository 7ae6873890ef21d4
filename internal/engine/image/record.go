package image

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// arrival is an image of which all is here but its rows.
type arrival struct {
	manifest descriptor
	body     []byte // of the manifest
	config   []byte
	layers   []layerUse
	names    []Name // tags that it gets
	digests  []Name // by which it came
}

// record keeps an image whose layers are here and held.
func (s *Store) record(ctx context.Context, a arrival) (i engine.Image, err error) {
	row := &imageRow{ID: digestOf(a.config), Manifest: a.manifest, Layers: a.layers}
	c, err := parseConfiguration(a.config)
	if err != nil {
		return i, err
	}
	c.fill(row)
	if row.Created.IsZero() {
		row.Created = s.cfg.Clock.Now().UTC().Truncate(0)
	}
	for _, content := range [][]byte{a.config, a.body} {
		if err := s.putBlob(ctx, content); err != nil {
			return i, err
		}
	}
	err = s.cfg.Store.Update(ctx, func(tx *store.Tx) error {
		if err := s.inherit(tx, a.layers); err != nil {
			return err
		}
		put := *row
		old, err := images.Get(tx, store.K(row.ID))
		switch {
		case errors.Is(err, store.ErrNotFound):
		case err != nil:
			return err
		default:
			put.Digests, put.Loose = old.Digests, old.Loose
		}
		for _, d := range a.digests {
			if !slices.Contains(put.Digests, d.String()) {
				put.Digests = append(slices.Clone(put.Digests), d.String())
			}
		}
		if len(a.names) == 0 {
			put.Loose = false
		}
		if err := images.Put(tx, &put); err != nil {
			return err
		}
		for _, n := range a.names {
			if err := s.name(tx, row.ID, n); err != nil {
				return err
			}
		}
		i, err = s.image(tx, &put)
		return err
	})
	if err != nil {
		return i, fmt.Errorf("image: %w", err)
	}
	return i, nil
}
