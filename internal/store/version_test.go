package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"skerry/internal/store"
)

type userV1 struct{ ID, Name string }

type userV2 struct{ ID, First, Last string }

func id1(u *userV1) store.Key { return store.K(u.ID) }
func id2(u *userV2) store.Key { return store.K(u.ID) }

func split(from int, old store.Old) (*userV2, error) {
	var u userV1
	if err := old.Decode(&u); err != nil {
		return nil, err
	}
	first, last, _ := strings.Cut(u.Name, " ")
	return &userV2{u.ID, first, last}, nil
}

// TestMigration writes rows in version 1 with one index, and reads them in version
// 2 with another, from several goroutines at once.
func TestMigration(t *testing.T) {
	byName := store.NewIndex("name", func(u *userV1) []store.Key { return []store.Key{store.K(u.Name)} })
	v1 := store.NewTable("test/users", id1, byName)
	byLast := store.NewIndex("last", func(u *userV2) []store.Key { return []store.Key{store.K(u.Last)} })
	store.NewTable("test/users", id2, byLast, store.Version(2, split))

	const rows = 1234
	dir := t.TempDir()
	db, err := store.Open(dir, store.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx *store.Tx) error {
		for i := range rows {
			if err := v1.Insert(tx, &userV1{fmt.Sprint(i), fmt.Sprintf("F%d L%d", i, i%10)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}

	db = open(t, dir, store.Options{Relaxed: true})
	var wg sync.WaitGroup
	for i := range 4 {
		run := db.View
		if i%2 == 0 {
			run = db.Update
		}
		wg.Go(func() {
			n := 0
			err := run(context.Background(), func(tx *store.Tx) error {
				n = 0
				for u, err := range byLast.Scan(tx, store.Range{Prefix: store.K("L3")}) {
					if err != nil {
						return err
					}
					if u.First != "F"+u.ID || u.Last != "L3" {
						t.Errorf("read %+v", u)
					}
					n++
				}
				return nil
			})
			if err != nil || n != 124 {
				t.Errorf("%d rows, %v", n, err)
			}
		})
	}
	wg.Wait()
	if err := db.View(t.Context(), func(tx *store.Tx) error {
		for k, err := range byName.ScanKeys(tx, store.Range{}) {
			return fmt.Errorf("the old index has an entry %s, %v", k, err)
		}
		return nil
	}); err != nil && !strings.Contains(err.Error(), "newer server") {
		t.Error(err)
	}
}

// TestNewerRows: what a newer server wrote is an error that names it, not a loss.
func TestNewerRows(t *testing.T) {
	v1 := store.NewTable("test/users", id1)
	v2 := store.NewTable("test/users", id2, store.Version(2, split))
	wider := store.NewTable("test/users", func(u *userV2) store.Key { return store.K(u.ID) })
	for name, newer := range map[string]func(tx *store.Tx) error{
		"version": func(tx *store.Tx) error { return v2.Put(tx, &userV2{"7", "a", "b"}) },
		"field":   func(tx *store.Tx) error { return wider.Put(tx, &userV2{"7", "a", "b"}) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			db, err := store.Open(dir, store.Options{Relaxed: true})
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(t.Context(), newer), db.Close()); err != nil {
				t.Fatal(err)
			}
			db = open(t, dir, store.Options{Relaxed: true})
			err = db.View(t.Context(), func(tx *store.Tx) error { _, err := v1.Get(tx, store.K("7")); return err })
			if err == nil || errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "test/users") {
				t.Errorf("read: %v", err)
			}
			if name == "field" && !strings.Contains(err.Error(), `("7")`) {
				t.Errorf("the row is not named: %v", err)
			}
		})
	}
}
