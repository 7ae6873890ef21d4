package meter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"skerry/internal/base/clock"
	"skerry/internal/store"
)

var start = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

const account = "000000000000"

func newMeter(t *testing.T) (*Meter, *clock.Fake) {
	t.Helper()
	db, err := store.Open(t.TempDir(), store.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	c := clock.NewFake(start)
	return New(db, c), c
}

func record1(t *testing.T, m *Meter, u Usage) {
	t.Helper()
	if err := m.db.Update(t.Context(), func(tx *store.Tx) error { return m.Record(tx, u) }); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, m *Meter) (ls []Line) {
	t.Helper()
	err := m.db.View(t.Context(), func(tx *store.Tx) error {
		ls = nil
		for l, err := range m.Lines(tx, account, start, start.AddDate(1, 0, 0)) {
			if err != nil {
				return err
			}
			ls = append(ls, l)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ls
}

func stored(t *testing.T, m *Meter) (n int) {
	t.Helper()
	err := m.db.View(t.Context(), func(tx *store.Tx) error {
		n = 0
		for _, err := range records.Scan(tx, store.Range{}) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFoldKeepsTheBill: folding, in whatever steps, changes no line.
func TestFoldKeepsTheBill(t *testing.T) {
	m, c := newMeter(t)
	for i := range 3000 {
		u := Usage{Account: account, Region: "eu-west-1", Service: "AWSLambda", Type: "Request", Unit: Requests,
			Resource: fmt.Sprint("f", i%3), Quantity: int64(1 + i%5), Start: start.Add(time.Duration(rand.IntN(600)) * time.Minute)}
		if i%4 == 0 {
			u.Account = "111111111111"
		}
		if i%100 == 0 {
			if _, err := m.fold(t.Context()); err != nil {
				t.Fatal(err)
			}
			c.Advance(time.Hour)
		}
		if err := m.Count(u); err != nil {
			t.Fatal(err)
		}
		if i%7 == 0 {
			if err := m.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := lines(t, m)
	var quantity, n int64
	for _, l := range before {
		quantity, n = quantity+l.Quantity, n+l.Records
	}
	if n != 2250 || quantity != 6750 {
		t.Errorf("%d records of %d in all", n, quantity)
	}
	if _, err := m.fold(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := lines(t, m)
	if fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("folding changed the lines")
	}
	if got := stored(t, m); got != 60 { // 3 functions, 10 hours, 2 accounts
		t.Errorf("%d records stored, want 60", got)
	}
}

func TestRecordsDoNotConflict(t *testing.T) {
	m, _ := newMeter(t)
	u := Usage{Account: account, Service: "AWSLambda", Type: "Request", Unit: Requests, Quantity: 1}
	record1(t, m, u) // the first of all describes the table
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				tries := 0
				err := m.db.Update(context.Background(), func(tx *store.Tx) error {
					tries++
					return m.Record(tx, u)
				})
				if err != nil || tries != 1 {
					t.Errorf("%d tries, %v", tries, err)
				}
			}
		})
	}
	wg.Wait()
	if ls := lines(t, m); len(ls) != 1 || ls[0].Quantity != 321 || ls[0].Records != 321 {
		t.Errorf("lines %+v", ls)
	}
}

// TestBill checks sums worked out by hand with AWS's pricing examples.
func TestBill(t *testing.T) {
	prices, err := Prices()
	if err != nil {
		t.Fatal(err)
	}
	const gbs = 1024 * 1000
	for _, tt := range []struct {
		name  string
		usage []Usage
		want  string
	}{
		// Lambda's pricing page: 3 million requests of 120 ms at 1,536 MB cost
		// 2.33 for compute and 0.40 for requests.
		{"lambda", []Usage{
			{Service: "AWSLambda", Type: "Lambda-GB-Second", Quantity: 3_000_000 * 120 * 1536, Unit: MBMilliseconds},
			{Service: "AWSLambda", Type: "Request", Quantity: 3_000_000, Unit: Requests},
		}, "2.733338"},
		{"free", []Usage{
			{Service: "AWSLambda", Type: "Lambda-GB-Second", Quantity: 400_000 * gbs, Unit: MBMilliseconds},
			{Service: "AWSLambda", Type: "Request", Quantity: 1_000_000, Unit: Requests},
		}, "0.00"},
		{"second tier of S3", []Usage{
			{Service: "AmazonS3", Type: "TimedStorage-ByteHrs", Quantity: 51 * 1024 << 30 * 730, Unit: ByteHours},
		}, "1200.128"}, // 50 TB at 0.023, 1 TB at 0.022
		{"price of a region", []Usage{
			{Service: "AmazonCloudWatch", Type: "DataProcessing-Bytes", Region: "eu-central-1", Quantity: 7 << 30, Unit: Bytes},
		}, "1.26"},
		{"no price", []Usage{{Service: "AmazonNothing", Type: "x", Quantity: 7, Unit: Bytes}}, "0.00"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, _ := newMeter(t)
			for _, u := range tt.usage {
				u.Account = account
				if u.Region == "" {
					u.Region = "us-east-1"
				}
				record1(t, m, u)
			}
			b, err := m.Bill(t.Context(), account, start, start.AddDate(0, 1, 0), prices)
			if err != nil || b.Total.String() != tt.want || len(b.Charges) != len(tt.usage) {
				t.Errorf("total %v, want %s; %v", b.Total, tt.want, err)
			}
			// A later part of the month does not get the free tier again.
			b, err = m.Bill(t.Context(), account, start.Add(time.Hour), start.AddDate(0, 1, 0), prices)
			if err != nil || b.Total != 0 || len(b.Charges) != 0 {
				t.Errorf("the rest of the month: %v, %v", b.Total, err)
			}
		})
	}
}

func TestPricesAreComplete(t *testing.T) {
	prices, err := Prices()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range prices {
		if p.Service == "" || p.Type == "" || p.Region == "" || p.From.IsZero() || p.Per <= 0 || len(p.Tiers) == 0 || p.Tiers[len(p.Tiers)-1].UpTo != 0 {
			t.Errorf("incomplete: %+v", p)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	db, err := store.Open(b.TempDir(), store.Options{Relaxed: true})
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	m := New(db, clock.Real)
	for b.Loop() {
		err := db.Update(b.Context(), func(tx *store.Tx) error {
			return m.Record(tx, Usage{Account: account, Region: "us-east-1", Service: "AWSLambda", Type: "Request", Unit: Requests, Quantity: 1, Resource: "arn:aws:lambda:us-east-1:000000000000:function:f"})
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
