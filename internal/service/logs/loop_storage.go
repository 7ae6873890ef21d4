package logs

import (
	"context"
	"fmt"
	"time"

	"skerry/internal/loop"
	"skerry/internal/meter"
	"skerry/internal/store"
)

// Storage is the loop that meters what groups store.
func (s *Service) Storage() loop.Loop {
	return loop.Loop{
		Name: "logs/storage", Does: "meters the bytes that log groups store, by the hour",
		Period: 10 * time.Minute, Run: s.meterStorage,
	}
}

// meterStorage records, once an hour has passed since the last time, each group's
// bytes times the hours since. The time until which it is done is written with the
// records, so no hour is metered twice, and those of a server that was down are
// made up for.
func (s *Service) meterStorage(ctx context.Context) (string, error) {
	recorded := 0
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		recorded = 0
		now := s.now()
		last, err := metered.Get(tx, store.K(""))
		if err == store.ErrNotFound {
			return metered.Put(tx, &meteredRow{Until: now})
		}
		if err != nil {
			return err
		}
		hours := (now - last.Until) / hour
		if hours < 1 {
			return nil
		}
		until := last.Until + hours*hour
		for g, err := range groups.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			bytes, err := storedBytes(tx, g)
			if err != nil {
				return err
			}
			if bytes == 0 {
				continue
			}
			err = s.Meter.Record(tx, meter.Usage{
				Account: g.Account, Region: g.Region, Service: "AmazonCloudWatch", Type: "TimedStorage-ByteHrs",
				Resource: g.arn(), Quantity: bytes * hours, Unit: meter.ByteHours,
				Start: time.UnixMilli(last.Until), End: time.UnixMilli(until),
			})
			if err != nil {
				return err
			}
			recorded++
		}
		return metered.Put(tx, &meteredRow{Until: until})
	})
	if err != nil {
		return "", fmt.Errorf("logs: meter storage: %w", err)
	}
	return fmt.Sprintf("%d groups metered", recorded), nil
}
