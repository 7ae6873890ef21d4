package logs

import (
	"context"
	"fmt"
	"time"

	"skerry/internal/loop"
	"skerry/internal/store"
)

// sweepBatch is how many rows the sweep deletes in one transaction, and
// sweepBatches how many transactions one run makes at most.
const (
	sweepBatch   = 500
	sweepBatches = 200
)

// Sweep is the loop that deletes what nobody can read any more. Nobody waits for
// it, so nothing wakes it.
func (s *Service) Sweep() loop.Loop {
	return loop.Loop{
		Name: "logs/sweep", Does: "deletes expired log events, and those of deleted groups and streams",
		Period: time.Minute, Run: s.sweep,
	}
}

// sweep deletes the events past their group's retention, and what deleted groups
// and streams have left behind. It stops after a bounded number of rows; the next
// run goes on.
func (s *Service) sweep(ctx context.Context) (string, error) {
	left, deleted := sweepBatches, 0
	work, err := s.planSweep(ctx)
	if err != nil {
		return "", err
	}
	for _, w := range work {
		for more := true; more && left > 0; left-- {
			n := 0
			err := s.Store.Update(ctx, func(tx *store.Tx) error {
				var err error
				n, more, err = w.apply(tx)
				return err
			})
			if err != nil {
				return "", fmt.Errorf("logs: sweep group %d: %w", w.group, err)
			}
			deleted += n
		}
	}
	if deleted == 0 {
		return "nothing to delete", nil
	}
	return fmt.Sprintf("deleted %d rows", deleted), nil
}

// sweepWork is the rows of one group that are to be deleted: those of a garbage
// row, or with before set the chunks that ended before it.
type sweepWork struct {
	group   uint64
	garbage *garbageRow
	before  int64 // milliseconds
}

// planSweep reads what there is to do.
func (s *Service) planSweep(ctx context.Context) ([]sweepWork, error) {
	var work []sweepWork
	now := s.now()
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		for row, err := range garbage.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			work = append(work, sweepWork{group: row.Group, garbage: row})
		}
		for g, err := range groups.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			if before := g.oldest(now); before > 0 {
				work = append(work, sweepWork{group: g.ID, before: before})
			}
		}
		return nil
	})
	return work, err
}

// apply deletes one batch, and tells how many rows it was and whether there are
// more.
func (w sweepWork) apply(tx *store.Tx) (deleted int, more bool, err error) {
	switch {
	case w.garbage == nil:
		deleted, err = w.expire(tx)
		return deleted, deleted == sweepBatch, err
	case w.garbage.Stream != 0:
		deleted, err = deleteChunks(tx, chunksByStream.Scan(tx, store.Range{Prefix: store.K(w.garbage.Stream)}))
	default:
		deleted, err = deleteChunks(tx, chunks.Scan(tx, store.Range{Prefix: store.K(w.group)}))
		if err == nil && deleted < sweepBatch {
			var n int
			n, err = w.deleteGroup(tx)
			deleted += n
		}
	}
	if err != nil || deleted >= sweepBatch {
		return deleted, true, err
	}
	return deleted, false, garbage.Delete(tx, store.K(w.garbage.Group, w.garbage.Stream))
}

// deleteGroup deletes streams and subscriptions of a group that is gone.
func (w sweepWork) deleteGroup(tx *store.Tx) (deleted int, err error) {
	for row, err := range streams.Scan(tx, store.Range{Prefix: store.K(w.group)}) {
		if err != nil || deleted == sweepBatch {
			return deleted, err
		}
		if err := streams.Delete(tx, store.K(row.Group, row.Name)); err != nil {
			return deleted, err
		}
		deleted++
	}
	for row, err := range subscriptions.Scan(tx, store.Range{Prefix: store.K(w.group)}) {
		if err != nil {
			return deleted, err
		}
		if err := subscriptions.Delete(tx, store.K(row.Group, row.Name)); err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}

func deleteChunks(tx *store.Tx, rows func(func(*chunkRow, error) bool)) (deleted int, err error) {
	for c, err := range rows {
		if err != nil || deleted == sweepBatch {
			return deleted, err
		}
		if err := chunks.Delete(tx, store.K(c.Group, c.First, c.Seq, c.Stream)); err != nil {
			return deleted, err
		}
		deleted++
	}
	return deleted, nil
}

// expire deletes chunks whose last event is past retention, and takes their bytes
// off their streams.
func (w sweepWork) expire(tx *store.Tx) (deleted int, err error) {
	type stream struct {
		name string
		id   uint64
	}
	freed := map[stream]int64{}
	for c, err := range chunks.Scan(tx, store.Range{From: store.K(w.group), To: store.K(w.group, w.before)}) {
		if err != nil {
			return deleted, err
		}
		if c.Last >= w.before {
			continue // the next run's, ten seconds from now at the latest
		}
		if deleted == sweepBatch {
			break
		}
		if err := chunks.Delete(tx, store.K(c.Group, c.First, c.Seq, c.Stream)); err != nil {
			return deleted, err
		}
		freed[stream{c.Name, c.Stream}] += c.Bytes
		deleted++
	}
	for key, bytes := range freed {
		st, err := streams.Get(tx, store.K(w.group, key.name))
		if err == store.ErrNotFound || err == nil && st.ID != key.id {
			continue // it was deleted, and perhaps made again
		}
		if err != nil {
			return deleted, err
		}
		st.Bytes -= bytes
		if err := streams.Put(tx, st); err != nil {
			return deleted, err
		}
	}
	return deleted, nil
}
