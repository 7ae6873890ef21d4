package ecr

import (
	"context"
	"errors"
	"fmt"
	"time"

	"skerry/internal/loop"
	"skerry/internal/meter"
	"skerry/internal/registry"
	"skerry/internal/store"
)

// Storage is the loop that meters what repositories store.
func (s *Service) Storage() loop.Loop {
	return loop.Loop{Name: "ecr/storage", Does: "meters the bytes that repositories store, by the hour", Period: 10 * time.Minute, Run: s.meterStorage}
}

// layersOf returns the layers and the configuration that an image names.
func layersOf(m *registry.Manifest) []registry.Descriptor {
	if m.Config == nil {
		return m.Layers
	}
	return append(m.Layers[:len(m.Layers):len(m.Layers)], *m.Config)
}

// meterStorage records, once an hour has passed since the last time, each
// repository's bytes times the hours since. The time until which it is done is
// written with the records, so no hour is metered twice, and those of a server
// that was down are made up for.
func (s *Service) meterStorage(ctx context.Context) (string, error) {
	recorded := 0
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		recorded = 0
		now := s.Clock.Now()
		last, err := metered.Get(tx, store.K(""))
		if errors.Is(err, store.ErrNotFound) {
			return metered.Put(tx, &meteredRow{Until: now})
		}
		if err != nil {
			return err
		}
		hours := int64(now.Sub(last.Until) / time.Hour)
		if hours < 1 {
			return nil
		}
		until := last.Until.Add(time.Duration(hours) * time.Hour)
		for row, err := range s.Registry.AllRepositories(tx) {
			if err != nil {
				return err
			}
			bytes := map[string]int64{}
			// A layer counts once in a repository, as standard if any image that is not
			// archived names it.
			sizes, active := map[string]int64{}, map[string]bool{}
			for m, err := range s.Registry.Manifests(tx, row.Repo, "") {
				if err != nil {
					return err
				}
				sizes[m.Digest], active[m.Digest] = m.Size, !m.Archived
				for _, d := range layersOf(m) {
					sizes[d.Digest], active[d.Digest] = d.Size, active[d.Digest] || !m.Archived
				}
			}
			for digest, n := range sizes {
				kind := "TimedStorage-ByteHrs"
				if !active[digest] {
					kind = "TimedStorage-Archive-ByteHrs"
				}
				bytes[kind] += n
			}
			for kind, n := range bytes {
				if n == 0 {
					continue
				}
				err := s.Meter.Record(tx, meter.Usage{
					Account: row.Repo.Account, Region: row.Repo.Region, Service: "AmazonECR", Type: kind,
					Resource: row.Repo.ARN(), Quantity: n * hours, Unit: meter.ByteHours, Start: last.Until, End: until,
				})
				if err != nil {
					return err
				}
				recorded++
			}
		}
		return metered.Put(tx, &meteredRow{Until: until})
	})
	if err != nil {
		return "", fmt.Errorf("ecr: meter storage: %w", err)
	}
	return fmt.Sprintf("%d records", recorded), nil
}
