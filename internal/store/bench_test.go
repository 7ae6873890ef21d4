package store_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"skerry/internal/store"
)

type item struct {
	ID, Owner string
	Size      int64
	Made      time.Time
}

var (
	byOwner = store.NewIndex("owner", func(i *item) []store.Key { return []store.Key{store.K(i.Owner)} })
	items   = store.NewTable("bench/items", func(i *item) store.Key { return store.K(i.ID) }, byOwner)
	bytes1k = store.NewRaw("bench/raw")
)

func newItem(n int64) *item {
	return &item{ID: fmt.Sprintf("id-%016x", n*0x9e3779b9), Owner: fmt.Sprint("owner", n%50), Size: n, Made: time.Unix(n, 0)}
}

// rate runs writers for a while and returns the commits a second.
func rate(tb testing.TB, db *store.DB, writers int, d time.Duration) float64 {
	var n atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range writers {
		wg.Go(func() {
			for time.Since(begin) < d {
				i := n.Add(1)
				err := db.Update(context.Background(), func(tx *store.Tx) error { return items.Put(tx, newItem(i)) })
				if err != nil {
					tb.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(begin).Seconds()
}

// BenchmarkGroupCommit prints the durable commits a second of one writer, which is
// one fsync a write, of 32 writers, and the ratio; the bar is 8.
func BenchmarkGroupCommit(b *testing.B) {
	db := open(b, b.TempDir(), store.Options{})
	for b.Loop() {
		one := rate(b, db, 1, time.Second)
		many := rate(b, db, 32, time.Second)
		b.ReportMetric(one, "commits/s-1")
		b.ReportMetric(many, "commits/s-32")
		b.ReportMetric(many/one, "ratio")
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, relaxed := range []bool{true, false} {
		b.Run(fmt.Sprintf("relaxed=%v", relaxed), func(b *testing.B) {
			db := open(b, b.TempDir(), store.Options{Relaxed: relaxed})
			var n int64
			b.ReportAllocs()
			for b.Loop() {
				n++
				if err := db.Update(b.Context(), func(tx *store.Tx) error { return items.Put(tx, newItem(n)) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRaw1KiB(b *testing.B) {
	db := open(b, b.TempDir(), store.Options{})
	value := make([]byte, 1024)
	var n atomic.Int64
	b.SetBytes(1024)
	b.SetParallelism(16)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			k := store.K("bucket", n.Add(1))
			if err := db.Update(context.Background(), func(tx *store.Tx) error { return bytes1k.Put(tx, k, value) }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	db := open(b, b.TempDir(), store.Options{Relaxed: true})
	const rows = 10_000
	for n := int64(0); n < rows; n += 1000 {
		err := db.Update(b.Context(), func(tx *store.Tx) error {
			for i := range int64(1000) {
				if err := items.Put(tx, newItem(n+i)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	b.Run("get", func(b *testing.B) {
		b.ReportAllocs()
		var n atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				k := store.K(newItem(n.Add(1) % rows).ID)
				if err := db.View(context.Background(), func(tx *store.Tx) error { _, err := items.Get(tx, k); return err }); err != nil {
					b.Fatal(err)
				}
			}
		})
	})
	b.Run("scan 100", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			err := db.View(b.Context(), func(tx *store.Tx) error {
				n := 0
				for _, err := range items.Scan(tx, store.Range{}) {
					if err != nil {
						return err
					}
					if n++; n == 100 {
						break
					}
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkHotRow has 32 writers increment one row.
func BenchmarkHotRow(b *testing.B) {
	db := open(b, b.TempDir(), store.Options{})
	var tries atomic.Int64
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			err := db.Update(context.Background(), func(tx *store.Tx) error {
				tries.Add(1)
				i, err := items.Get(tx, store.K("hot"))
				if err == store.ErrNotFound {
					i, err = &item{ID: "hot"}, nil
				}
				if err != nil {
					return err
				}
				i.Size++
				return items.Put(tx, i)
			})
			if err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(tries.Load())/float64(b.N), "tries/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
}

// BenchmarkOpen opens a folder that holds data and closes it.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	db, err := store.Open(dir, store.Options{})
	if err != nil {
		b.Fatal(err)
	}
	rate(b, db, 8, 200*time.Millisecond)
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	var opening time.Duration
	for b.Loop() {
		begin := time.Now()
		db, err := store.Open(dir, store.Options{})
		opening += time.Since(begin)
		if err != nil {
			b.Fatal(err)
		}
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(opening.Microseconds())/float64(b.N)/1000, "ms/open")
}
