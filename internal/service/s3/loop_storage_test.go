package s3

import (
	"strings"
	"testing"
	"time"

	"skerry/internal/store"
)

func TestUsage(t *testing.T) {
	h := newHarness(t)
	h.make("bucket", false)
	h.put("bucket", "k", strings.Repeat("x", 1000))
	h.get("bucket", "k")
	h.get("bucket", "k")
	for range 3 { // metered once for each hour
		if _, err := h.meterStorage(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.clock.Advance(time.Hour)
	}
	if err := h.Meter.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	err := h.Store.View(t.Context(), func(tx *store.Tx) error {
		clear(got)
		for l, err := range h.Meter.Lines(tx, account, h.clock.Now().Add(-day), h.clock.Now().Add(day)) {
			if err != nil {
				return err
			}
			got[l.Type] += l.Quantity
		}
		return nil
	})
	if err != nil || got[tier1] != 1 || got[tier2] != 2 || got["TimedStorage-ByteHrs"] != 2000 {
		t.Errorf("usage %v %v", got, err)
	}
}
