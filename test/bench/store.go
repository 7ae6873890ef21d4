package main

import (
	"context"
	"fmt"
	"os"

	"skerry/internal/store"
)

// entry is a row as services have them.
type entry struct {
	Name  string
	Value []byte
}

// measureStore measures how well writers share the disk's syncs.
func measureStore(ctx context.Context, b *bench) error {
	table := store.NewTable("bench/entries", func(e *entry) store.Key { return store.K(e.Name) })
	dir, err := os.MkdirTemp("", "skerry-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	db, err := store.Open(dir, store.Options{})
	if err != nil {
		return err
	}
	defer db.Close()
	raw, err := fsyncs(ctx, b.span)
	if err != nil {
		return err
	}
	b.table.add("synced write of a file, one writer", "", "%.0f a second", raw)
	for _, n := range []int{1, 32, 128} {
		took, rate, err := load(ctx, n, b.span, func(client, turn int) error {
			return db.Update(ctx, func(tx *store.Tx) error {
				return table.Put(tx, &entry{Name: fmt.Sprintf("%d/%d", client, turn), Value: make([]byte, 100)})
			})
		})
		if err != nil {
			return err
		}
		bar := ""
		if n == 32 {
			bar = "8 times one sync a write"
		}
		b.table.add(fmt.Sprintf("durable transactions, %d writers", n), bar, "%.0f a second, %.1f times one sync a write; p50 %s, p99 %s",
			rate, rate/raw, ms(took.at(0.5)), ms(took.at(0.99)))
	}
	return nil
}
