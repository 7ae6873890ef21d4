// Package meter keeps what was used and what it costs. A billable act leaves a
// usage record in its own transaction (Record); what has none, such as reading an
// object, is counted in memory and stored every few seconds (Count), so that a
// crash forgives those. Quantities are whole numbers of small units, so sums are
// exact. Once an hour has passed, the records of one resource and type in it are
// folded into one: the bill can be explained hour by hour and resource by
// resource, and each record is in exactly one line.
//
// The table:
//
//	meter/usage   (account, hour, service, type, region, resource, serial)   record
//
// serial is empty for the folded record.
package meter

import (
	"context"
	"fmt"
	"iter"
	"sync"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/base/ids"
	"skerry/internal/loop"
	"skerry/internal/store"
)

// Units of quantities.
const (
	Requests       = "Requests"
	MBMilliseconds = "MB-ms" // memory in MiB times milliseconds
	Bytes          = "Bytes"
	ByteHours      = "Byte-Hours"
)

// Usage is something used.
type Usage struct {
	Account  string
	Region   string
	Service  string // as AWS's bill names it: "AWSLambda", "AmazonS3", "AmazonCloudWatch"
	Type     string // usage type without the region's prefix, such as "Lambda-GB-Second"
	Resource string // ARN
	Quantity int64
	Unit     string    // of Quantity
	Start    time.Time // its hour (in UTC) is the one billed
	End      time.Time
}

// record is a stored usage: one, or all of a resource and type in an hour.
type record struct {
	Usage
	Serial  string
	Records int64 // how many were folded into it
}

func (r *record) group() store.Key {
	return store.K(r.Account, r.Start.UTC().Truncate(time.Hour), r.Service, r.Type, r.Region, r.Resource)
}

func (r *record) key() store.Key { return r.group() + store.K(r.Serial) }

// add puts o into r.
func (r *record) add(o *record) {
	r.Quantity += o.Quantity
	r.Records += o.Records
	if o.Start.Before(r.Start) {
		r.Start = o.Start
	}
	if o.End.After(r.End) {
		r.End = o.End
	}
}

var records = store.NewTable("meter/usage", (*record).key)

// Meter records usage.
type Meter struct {
	db    *store.DB
	clock clock.Clock
	mu    struct {
		sync.Mutex
		counted map[store.Key]*record
	}
}

// New returns the meter of a store.
func New(db *store.DB, c clock.Clock) *Meter {
	m := &Meter{db: db, clock: c}
	m.mu.counted = map[store.Key]*record{}
	return m
}

// Record adds usage as part of the transaction of the act. It reads nothing, so it
// is never the cause of a conflict.
func (m *Meter) Record(tx *store.Tx, u Usage) error {
	r, err := m.record(u)
	if err != nil {
		return err
	}
	if err := records.Put(tx, r); err != nil {
		return fmt.Errorf("meter: record: %w", err)
	}
	return nil
}

func (m *Meter) record(u Usage) (*record, error) {
	if u.Account == "" || u.Service == "" || u.Type == "" || u.Unit == "" || u.Quantity < 0 {
		return nil, fmt.Errorf("meter: incomplete usage %+v", u)
	}
	if u.Start.IsZero() {
		u.Start = m.clock.Now()
	}
	if u.End.Before(u.Start) {
		u.End = u.Start
	}
	return &record{Usage: u, Serial: ids.Alnum(12), Records: 1}, nil
}

// Count adds usage that has no transaction. It is stored within ten seconds, and
// lost if the server is killed before.
func (m *Meter) Count(u Usage) error {
	r, err := m.record(u)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if sum := m.mu.counted[r.group()]; sum != nil {
		sum.add(r)
	} else {
		m.mu.counted[r.group()] = r
	}
	return nil
}

// Flush stores what was counted.
func (m *Meter) Flush(ctx context.Context) error {
	m.mu.Lock()
	counted := m.mu.counted
	m.mu.counted = map[store.Key]*record{}
	m.mu.Unlock()
	if len(counted) == 0 {
		return nil
	}
	err := m.db.Update(ctx, func(tx *store.Tx) error {
		for _, r := range counted {
			if err := records.Put(tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for k, r := range counted { // to be stored the next time
		if sum := m.mu.counted[k]; sum != nil {
			r.add(sum)
		}
		m.mu.counted[k] = r
	}
	return fmt.Errorf("meter: flush: %w", err)
}

// FlushLoop stores what was counted, every ten seconds. The last flush is for
// whoever stops the server.
func (m *Meter) FlushLoop() loop.Loop {
	return loop.Loop{
		Name: "meter/flush", Does: "stores the usage that was counted in memory", Period: 10 * time.Second,
		Run: func(ctx context.Context) (string, error) { return "", m.Flush(ctx) },
	}
}

// FoldLoop makes one record of each hour's records of a resource and type.
func (m *Meter) FoldLoop() loop.Loop {
	return loop.Loop{Name: "meter/fold", Does: "sums up the usage of past hours", Period: 10 * time.Minute, Run: m.fold}
}

// Lines returns the usage of an account whose hours begin from from (included) to
// to (excluded): one line for each hour, service, type, region and resource, in
// this order, with the number of records in it.
func (m *Meter) Lines(tx *store.Tx, account string, from, to time.Time) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		var sum *record
		var group store.Key
		r := store.Range{Prefix: store.K(account), From: store.K(account, from.UTC()), To: store.K(account, to.UTC())}
		for rec, err := range records.Scan(tx, r) {
			if err != nil {
				yield(Line{}, fmt.Errorf("meter: %w", err))
				return
			}
			if sum != nil && rec.group() == group {
				sum.add(rec)
				continue
			}
			if sum != nil && !yield(sum.line(), nil) {
				return
			}
			sum, group = rec, rec.group()
		}
		if sum != nil {
			yield(sum.line(), nil)
		}
	}
}

// Line is the usage of one resource of one type in one hour.
type Line struct {
	Usage
	Hour    time.Time
	Records int64
}

func (r *record) line() Line {
	return Line{r.Usage, r.Start.UTC().Truncate(time.Hour), r.Records}
}
