package enginetest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"skerry/internal/engine"
)

// Changed says what a container has changed of its files, of which there are none.
func (f *Fake) Changed(id engine.ID, all ...engine.Change) {
	if c, err := f.get(id); err == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		c.changes = all
	}
}

// Changes are those that Changed was told.
func (f *Fake) Changes(_ context.Context, id engine.ID) ([]engine.Change, error) {
	c, err := f.get(id)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(c.changes), nil
}

// Written is a hundred bytes a change.
func (f *Fake) Written(ctx context.Context, id engine.ID) (int64, error) {
	all, err := f.Changes(ctx, id)
	return int64(100 * len(all)), err
}

// Commit makes an image that has the configuration and no files.
func (f *Fake) Commit(_ context.Context, id engine.ID, spec engine.CommitSpec) (engine.Image, error) {
	c, err := f.get(id)
	if err != nil {
		return engine.Image{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commits++
	i := engine.Image{ID: fmt.Sprintf("sha256:%064x", f.commits), Created: time.Now(), Size: int64(100 * len(c.changes)), Config: spec.Config,
		Platform: engine.Platform{OS: "linux", Architecture: "amd64"},
		History:  []engine.ImageHistory{{CreatedBy: spec.CreatedBy, Author: spec.Author, Comment: spec.Comment}}}
	i.Config.Author = spec.Author
	name := i.ID
	if spec.Name != "" {
		name, i.Names = spec.Name, []string{spec.Name}
	}
	if f.pulled == nil {
		f.pulled = map[string]engine.Image{}
	}
	f.pulled[name] = i
	return i, nil
}
