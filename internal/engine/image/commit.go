package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// Commit makes an image of another one, one more layer (nil: none) and a
// configuration.
func (s *Store) Commit(ctx context.Context, base string, layer io.Reader, spec engine.CommitSpec) (i engine.Image, err error) {
	var name []Name
	if spec.Name != "" {
		n, err := ParseName(spec.Name)
		if err != nil || n.Digest != "" {
			return i, faultf(engine.ErrInvalid, "%w: %.300q", ErrName, spec.Name)
		}
		name = append(name, n)
	}
	h, err := s.Hold(ctx, base)
	if err != nil {
		return i, err
	}
	defer h.Release()
	var row *imageRow
	if err := s.cfg.Store.View(ctx, func(tx *store.Tx) error { row, err = images.Get(tx, store.K(h.Image.ID)); return err }); err != nil {
		return i, fmt.Errorf("image: %w", err)
	}
	a := arrival{layers: row.Layers, names: name}
	l := &loading{s: s, ctx: ctx, layers: map[string]loaded{}, progress: func(engine.Progress) {}, release: func() {}}
	defer func() { l.release() }()
	if layer != nil {
		const file = "layer.tar"
		if err := l.layer(file, 0, layer, true); err != nil {
			return i, about(err, "commit")
		}
		a.layers = append(a.layers[:len(a.layers):len(a.layers)], l.layers[file].layerUse)
	}
	if len(a.layers) > maxLayers {
		return i, faultf(engine.ErrInvalid, "max depth exceeded: an image has %d layers at most", maxLayers)
	}
	if a.config, err = s.committed(ctx, row.ID, a.layers, layer == nil, spec); err != nil {
		return i, err
	}
	if err := l.manifest(&a); err != nil {
		return i, err
	}
	return s.record(ctx, a)
}

// committed is the configuration of an image that is made of another one. What that
// says and is not known here stays.
func (s *Store) committed(ctx context.Context, base string, layers []layerUse, empty bool, spec engine.CommitSpec) ([]byte, error) {
	text, err := s.readBlob(ctx, base)
	if err != nil {
		return nil, fmt.Errorf("image: %w", err)
	}
	var all map[string]any
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("image: configuration of %s: %w", base, err)
	}
	now := s.cfg.Clock.Now().UTC().Format(time.RFC3339Nano)
	step := map[string]any{"created": now, "created_by": spec.CreatedBy, "comment": spec.Comment}
	if spec.Author != "" {
		step["author"] = spec.Author
	}
	if empty {
		step["empty_layer"] = true
	}
	history, _ := all["history"].([]any)
	var ids []string
	for _, l := range layers {
		ids = append(ids, l.DiffID)
	}
	for _, gone := range []string{"container", "container_config", "docker_version"} {
		delete(all, gone) // of how the other was made
	}
	all["created"], all["history"], all["author"] = now, append(history, step), spec.Author
	all["rootfs"] = map[string]any{"type": "layers", "diff_ids": ids}
	all["config"] = spec.Config.Docker()
	return json.Marshal(all)
}
