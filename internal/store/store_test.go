package store_test

import (
	"testing"

	"skerry/internal/store"
	"skerry/internal/store/storetest"
)

func open(t testing.TB, dir string, o store.Options) *store.DB {
	t.Helper()
	db, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func TestContract(t *testing.T) {
	t.Run("fsync", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) *store.DB { return open(t, t.TempDir(), store.Options{}) })
	})
	t.Run("relaxed", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) *store.DB { return open(t, t.TempDir(), store.Options{Relaxed: true}) })
	})
}
