package pebblekv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"skerry/internal/store/kv"
)

// openBudget is how many bytes of tables are checked when a database is opened: what
// takes a few milliseconds. Small databases are checked whole; in large ones, Pebble
// finds damage when it reads the block, and Verify when it is asked.
const openBudget = 8 << 20

// Verify reads all tables and answers ErrDamaged with the file's name if one does
// not have its checksums.
func (d *DB) Verify(ctx context.Context) error { return d.checkTables(ctx, -1) }

// checkTables checks the tables in use, the smallest first, as many as are not more
// than budget bytes; all if it is negative. What a crash has left half-written is
// not in use.
func (d *DB) checkTables(ctx context.Context, budget int64) error {
	levels, err := d.db.SSTables()
	if err != nil {
		return translate(err)
	}
	tables := slices.Concat(levels...)
	slices.SortFunc(tables, func(a, b pebble.SSTableInfo) int { return cmp.Compare(a.Size, b.Size) })
	var defaults pebble.Options
	defaults.EnsureDefaults()
	opts := defaults.MakeReaderOptions()
	fs := d.room.FS
	for _, t := range tables {
		if budget >= 0 && int64(t.Size) > budget {
			return nil
		}
		if budget >= 0 {
			budget -= int64(t.Size)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		path := fs.PathJoin(d.room.dir, fmt.Sprintf("%s.sst", t.BackingSSTNum))
		if err := checkTable(ctx, fs, path, opts); err != nil {
			return fmt.Errorf("%w: file %s: %w", kv.ErrDamaged, path, err)
		}
	}
	return nil
}

// checkTable reads all blocks of a table. A table that compaction has removed is in
// order.
func checkTable(ctx context.Context, fs vfs.FS, path string, opts sstable.ReaderOptions) (err error) {
	f, err := fs.Open(path)
	if oserror.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() {
		if v := recover(); v != nil { // damaged places lead anywhere
			err = fmt.Errorf("%v", v)
		}
	}()
	readable, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	r, err := sstable.NewReader(ctx, readable, opts) // closes the file if it fails
	if err != nil {
		return err
	}
	return errors.Join(r.ValidateBlockChecksums(), r.Close())
}
