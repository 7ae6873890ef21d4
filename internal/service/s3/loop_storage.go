package s3

import (
	"context"
	"errors"
	"fmt"
	"time"

	"skerry/internal/loop"
	"skerry/internal/meter"
	"skerry/internal/store"
)

// The usage types of requests: writes and listings, and reads. Deletions are free.
const (
	tier1 = "Requests-Tier1"
	tier2 = "Requests-Tier2"
)

// count meters a request. It is not in a row of the request's transaction: that
// would make every read a write.
func (s *Service) count(b *bucketRow, tier string) {
	err := s.Meter.Count(meter.Usage{
		Account: b.Account, Region: b.Region, Service: "AmazonS3", Type: tier, Resource: b.arn(), Quantity: 1, Unit: meter.Requests,
	})
	if err != nil {
		s.Log.Error("s3: meter", "bucket", b.Name, "error", err)
	}
}

// storageTypes are the usage types of the storage classes.
var storageTypes = map[string]string{
	"": "TimedStorage-ByteHrs", "REDUCED_REDUNDANCY": "TimedStorage-RRS-ByteHrs", "STANDARD_IA": "TimedStorage-SIA-ByteHrs",
	"ONEZONE_IA": "TimedStorage-ZIA-ByteHrs", "INTELLIGENT_TIERING": "TimedStorage-INT-FA-ByteHrs", "GLACIER_IR": "TimedStorage-GIR-ByteHrs",
}

// StorageLoop returns the loop that meters what buckets store.
func (s *Service) StorageLoop() loop.Loop {
	return loop.Loop{
		Name: "s3/storage", Does: "meters the bytes that buckets store, by the hour",
		Period: 10 * time.Minute, Deadline: 10 * time.Minute, Run: s.meterStorage,
	}
}

// meterStorage records, once an hour has passed since the last time, each bucket's
// bytes times the hours since, by storage class. The time until which a bucket is
// metered is written with its records, so that no hour is metered twice.
func (s *Service) meterStorage(ctx context.Context) (string, error) {
	var todo []*bucketRow
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		todo = nil
		for b, err := range buckets.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			todo = append(todo, b)
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	recorded := 0
	for _, b := range todo {
		done, err := s.meterBucket(ctx, b)
		if err != nil {
			return "", fmt.Errorf("s3: meter storage of %s: %w", b.Name, err)
		}
		if done {
			recorded++
		}
	}
	return fmt.Sprintf("%d of %d buckets metered", recorded, len(todo)), nil
}

// meterBucket meters one bucket, if its hour has come.
func (s *Service) meterBucket(ctx context.Context, b *bucketRow) (done bool, err error) {
	now := s.now()
	last, stored := b.Created, map[string]int64{}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		clear(stored)
		row, err := metered.Get(tx, store.K(b.ID))
		if err == nil {
			last = row.Until
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if now.Sub(last) < time.Hour {
			return nil
		}
		for _, t := range []*store.Table[objectRow]{objects, versions} {
			for o, err := range t.Scan(tx, store.Range{Prefix: store.K(b.ID)}) {
				if err != nil {
					return err
				}
				stored[o.Class] += o.Size
			}
		}
		return nil
	})
	hours := int64(now.Sub(last) / time.Hour)
	if err != nil || hours < 1 {
		return false, err
	}
	until := last.Add(time.Duration(hours) * time.Hour)
	return true, s.Store.Update(ctx, func(tx *store.Tx) error {
		for class, bytes := range stored {
			if bytes == 0 {
				continue
			}
			err := s.Meter.Record(tx, meter.Usage{
				Account: b.Account, Region: b.Region, Service: "AmazonS3", Type: storageTypes[class], Resource: b.arn(),
				Quantity: bytes * hours, Unit: meter.ByteHours, Start: last, End: until,
			})
			if err != nil {
				return err
			}
		}
		return metered.Put(tx, &meteredRow{Bucket: b.ID, Until: until})
	})
}
