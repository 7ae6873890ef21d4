package logs

import (
	"testing"
	"time"

	"skerry/internal/meter"
	"skerry/internal/store"
)

func TestUsage(t *testing.T) {
	h := newHarness(t)
	h.make("g", "s")
	h.make("empty")
	h.put("g", "s", h.batch(0, "1234"))
	h.put("g", "s", h.batch(0, "1234"))
	tick := func(d time.Duration) {
		t.Helper()
		h.clock.Advance(d)
		if _, err := h.meterStorage(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	tick(0)
	tick(30 * time.Minute)
	tick(40 * time.Minute) // an hour is over
	tick(time.Minute)
	tick(3 * time.Hour)
	got := map[string]int64{}
	err := h.Store.View(t.Context(), func(tx *store.Tx) error {
		for u, err := range h.Meter.Lines(tx, account, time.Time{}, h.clock.Now().Add(time.Hour)) {
			if err != nil {
				return err
			}
			got[u.Type+" "+u.Unit] += u.Quantity
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got["DataProcessing-Bytes "+meter.Bytes] != 60 || got["TimedStorage-ByteHrs "+meter.ByteHours] != 60*4 || len(got) != 2 {
		t.Errorf("usage %v", got)
	}
}
