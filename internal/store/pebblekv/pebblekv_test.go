package pebblekv_test

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"skerry/internal/store/kv"
	"skerry/internal/store/pebblekv"
	"skerry/internal/store/storetest"
)

func TestSerialisable(t *testing.T) {
	storetest.RunDriver(t, func(t *testing.T) kv.Driver {
		d, err := pebblekv.Open("db", pebblekv.Options{FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return d
	})
}
