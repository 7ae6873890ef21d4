package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"skerry/internal/store"
)

// late keeps rows of containers that the disk had no room for: of what has
// happened all the same, such as an exit. Who reads a container's row gets them;
// they are written when there is room. After a kill of the server the engine
// tells it once more.
type late struct {
	mu    sync.Mutex
	rows  map[string]*containerRow
	swaps int
}

// get returns the late row of a container, or nil. It must not be changed.
func (l *late) get(id string) *containerRow {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rows[id]
}

// swap puts a row, or none, in the place of the one that it was made of; false
// when there is another by now.
func (l *late) swap(id string, old, row *containerRow) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rows[id] != old {
		return false
	}
	if old == row {
		return true
	}
	l.swaps++
	if row == nil {
		delete(l.rows, id)
		return true
	}
	if l.rows == nil {
		l.rows = map[string]*containerRow{}
	}
	l.rows[id] = row
	return true
}

// over puts late rows in the place of those that were read after a number of
// swaps; false when there were more, so that they must be read again.
func (l *late) over(swaps int, rows ...**containerRow) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.swaps != swaps {
		return false
	}
	for _, r := range rows {
		if row := l.rows[(*r).ID]; row != nil {
			*r = row.clone()
		}
	}
	return true
}

// count returns the number of swaps, and ids the containers with late rows.
func (l *late) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.swaps
}

func (l *late) ids() (all []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for id := range l.rows {
		all = append(all, id)
	}
	return all
}

// clone copies what changes of a row write into.
func (r *containerRow) clone() *containerRow {
	c := *r
	if r.Health != nil {
		h := *r.Health
		h.Results = slices.Clone(h.Results)
		c.Health = &h
	}
	return &c
}

// change rewrites a container's row. fn may refuse, and may run again.
func (d *Daemon) change(ctx context.Context, id string, fn func(row *containerRow) error) (*containerRow, error) {
	row, _, err := d.rewrite(ctx, id, func(_ *store.Tx, row *containerRow) error { return fn(row) })
	if err != nil {
		return nil, err
	}
	return row, nil
}

// note is change for what has happened already, or must be possible on a full
// disk: where there is no room, the row is written later.
func (d *Daemon) note(ctx context.Context, id string, fn func(row *containerRow) error) (*containerRow, error) {
	for {
		row, old, err := d.rewrite(ctx, id, func(_ *store.Tx, row *containerRow) error { return fn(row) })
		switch {
		case err == nil:
			return row, nil
		case !errors.Is(err, store.ErrNoSpace):
			return nil, err
		case d.late.swap(id, old, row):
			return row.clone(), nil
		}
	}
}

// rewrite also returns the late row that it began with.
func (d *Daemon) rewrite(ctx context.Context, id string, fn func(tx *store.Tx, row *containerRow) error) (row, old *containerRow, err error) {
	err = d.db.Update(ctx, func(tx *store.Tx) error {
		if row, err = containers.Get(tx, store.K(id)); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				return notFound("No such container: %s", id)
			}
			return err
		}
		if old = d.late.get(id); old != nil {
			row = old.clone()
		}
		if err = fn(tx, row); err != nil {
			return err
		}
		return containers.Put(tx, row)
	})
	if err == nil {
		d.late.swap(id, old, nil)
	}
	return row, old, err
}

// writeLate writes the late rows, if there is room.
func (d *Daemon) writeLate(ctx context.Context) error {
	for _, id := range d.late.ids() {
		_, err := d.change(ctx, id, func(*containerRow) error { return nil })
		switch {
		case missing(err):
			d.late.swap(id, d.late.get(id), nil)
		case errors.Is(err, store.ErrNoSpace):
			return nil
		case err != nil:
			return fmt.Errorf("container %.12s: %w", id, err)
		}
	}
	return nil
}

// release does a transaction that deletes rows, and by that lets go of volumes.
// Their files go first where the disk has no room even to delete a row: it has been
// found that nobody uses them, and they may be what fills it. Otherwise they are
// the caller's to remove.
func (d *Daemon) release(ctx context.Context, fn func(tx *store.Tx) (gone []string, err error)) (gone []string, err error) {
	update := func() error {
		return d.db.Update(ctx, func(tx *store.Tx) (err error) { gone, err = fn(tx); return err })
	}
	err = update()
	if errors.Is(err, store.ErrNoSpace) && len(gone) > 0 {
		if err = d.dropFolders(gone); err == nil {
			err = update()
		}
	}
	return gone, err
}
