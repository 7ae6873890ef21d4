package logs

import (
	"context"
	"fmt"
	"time"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/meter"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// Limits of PutLogEvents, in bytes and milliseconds.
const (
	maxEvent  = 1 << 20
	maxBatch  = 1 << 20
	maxFuture = 2 * hour
	maxPast   = 14 * day
)

// PutLogEvents writes events into a stream. Those too old, too new or already
// expired are left out, and the answer says which. Sequence tokens are accepted
// and mean nothing, as on AWS since 2023.
func (s *Service) PutLogEvents(ctx context.Context, sc auth.Scope, in *logs.PutLogEventsInput) (*logs.PutLogEventsOutput, error) {
	if err := checkBatch(in.LogEvents); err != nil {
		return nil, err
	}
	out := &logs.PutLogEventsOutput{}
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		g, err := group(tx, sc, wire.Value(in.LogGroupName))
		if err != nil {
			return err
		}
		st, err := stream(tx, g, wire.Value(in.LogStreamName))
		if err != nil {
			return err
		}
		now := s.Clock.Now()
		accepted, rejected := sift(in.LogEvents, now.UnixMilli(), g)
		out.RejectedLogEventsInfo = rejected
		if len(accepted) > 0 {
			if *accepted[len(accepted)-1].Timestamp-*accepted[0].Timestamp > day {
				return invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
			}
			if err := s.write(tx, g, st, accepted, now); err != nil {
				return err
			}
		}
		out.NextSequenceToken = new(sequenceToken(st.Seq + 1))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// write stores a batch of events that is in order.
func (s *Service) write(tx *store.Tx, g *groupRow, st *streamRow, batch []logs.InputLogEvent, now time.Time) error {
	made := split(g, st, batch, max(st.Seq+1, now.UnixNano()), now.UnixMilli())
	var bytes int64
	for _, c := range made {
		if err := chunks.Put(tx, c); err != nil {
			return err
		}
		bytes += c.Bytes
	}
	first, last := made[0], made[len(made)-1]
	if st.Ingested == 0 || first.First < st.First {
		st.First = first.First
	}
	if st.Ingested == 0 || last.Last > st.Last {
		st.Last = last.Last
	}
	st.Ingested, st.Seq = first.Ingested, last.Seq
	st.Bytes += bytes
	if err := streams.Put(tx, st); err != nil {
		return err
	}
	if err := s.forward(tx, g, made, now); err != nil {
		return err
	}
	tx.OnCommit(func() { s.tails.publish(g, made) })
	usage := "DataProcessing-Bytes"
	if g.Class == logs.LogGroupClassInfrequentAccess {
		usage = "DataProcessingIA-Bytes"
	}
	return s.Meter.Record(tx, meter.Usage{
		Account: g.Account, Region: g.Region, Service: "AmazonCloudWatch", Type: usage, Resource: g.arn(),
		Quantity: bytes, Unit: meter.Bytes, Start: now, End: now,
	})
}

// checkBatch refuses a batch that is too large or out of order as a whole.
func checkBatch(batch []logs.InputLogEvent) error {
	sum, previous := 0, int64(0)
	for _, e := range batch {
		size := len(*e.Message) + overhead
		if size > maxEvent+overhead {
			return invalid(fmt.Sprintf("Log event too large: %d bytes exceeds limit of %d", size, maxEvent))
		}
		sum += size
		if *e.Timestamp < previous {
			return invalid("Log events in a single PutLogEvents request must be in chronological order.")
		}
		previous = *e.Timestamp
	}
	if sum > maxBatch {
		return invalid(fmt.Sprintf("Upload too large: %d bytes exceeds limit of %d", sum, maxBatch))
	}
	return nil
}

// sift returns the events of a batch that are neither expired nor too old nor too
// new, and says which are not.
func sift(batch []logs.InputLogEvent, now int64, g *groupRow) ([]logs.InputLogEvent, *logs.RejectedLogEventsInfo) {
	var info logs.RejectedLogEventsInfo
	from, to := 0, len(batch)
	tooOld, expired := 0, 0
	for i, e := range batch {
		switch t := *e.Timestamp; {
		case t < g.oldest(now):
			expired = i + 1
		case t < now-maxPast:
			tooOld = i + 1
		case t > now+maxFuture && to == len(batch):
			to = i
		}
	}
	if expired > 0 {
		info.ExpiredLogEventEndIndex = new(int32(expired))
	}
	if tooOld > 0 {
		info.TooOldLogEventEndIndex = new(int32(tooOld))
	}
	from = max(expired, tooOld)
	if to < len(batch) {
		info.TooNewLogEventStartIndex = new(int32(to))
	}
	if info == (logs.RejectedLogEventsInfo{}) {
		return batch, nil
	}
	return batch[from:max(from, to)], &info
}

// sequenceToken writes a token as AWS does: 56 digits.
func sequenceToken(n int64) string { return fmt.Sprintf("%056d", n) }
