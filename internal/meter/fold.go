package meter

import (
	"context"
	"fmt"
	"time"

	"skerry/internal/store"
)

const foldBatch = 2000 // records a transaction

// fold makes one record of all with the same hour, resource and type, in hours that
// ended at least an hour ago.
func (m *Meter) fold(ctx context.Context) (string, error) {
	before := m.clock.Now().UTC().Truncate(time.Hour).Add(-time.Hour)
	var accounts []string
	err := m.db.View(ctx, func(tx *store.Tx) error {
		accounts = nil
		for from := store.Key(""); ; {
			var next string
			for r, err := range records.Scan(tx, store.Range{From: from}) {
				if err != nil {
					return err
				}
				next = r.Account
				break
			}
			if next == "" {
				return nil
			}
			accounts = append(accounts, next)
			from = store.K(next).End()
		}
	})
	if err != nil {
		return "", fmt.Errorf("meter: fold: %w", err)
	}
	folded := 0
	for _, a := range accounts {
		for after := store.Key(""); ; {
			var n int
			var last store.Key
			err := m.db.Update(ctx, func(tx *store.Tx) (err error) {
				n, last, err = foldSome(tx, store.Range{Prefix: store.K(a), To: store.K(a, before), After: after})
				return err
			})
			if err != nil {
				return "", fmt.Errorf("meter: fold: %w", err)
			}
			if folded += n; last == "" {
				break
			}
			after = last
		}
	}
	return fmt.Sprintf("%d records folded", folded), nil
}

// foldSome folds a range's first records. It returns how many it removed, and the
// key to go on after, empty at the end.
func foldSome(tx *store.Tx, r store.Range) (removed int, last store.Key, err error) {
	var sum *record
	single := false // sum is stored as it is
	var group store.Key
	put := func() error {
		if sum == nil || single {
			return nil
		}
		return records.Put(tx, sum)
	}
	n := 0
	for rec, err := range records.Scan(tx, r) {
		if err != nil {
			return removed, "", err
		}
		key := rec.key()
		if sum == nil || rec.group() != group {
			if err := put(); err != nil {
				return removed, "", err
			}
			if n >= foldBatch {
				return removed, last, nil
			}
			sum, group, single = rec, rec.group(), true
		} else {
			if single && sum.Serial != "" {
				if err := records.Delete(tx, sum.key()); err != nil {
					return removed, "", err
				}
			}
			if err := records.Delete(tx, key); err != nil {
				return removed, "", err
			}
			sum.add(rec)
			sum.Serial, single = "", false
			removed++
		}
		last = key
		n++
	}
	return removed, "", put()
}
