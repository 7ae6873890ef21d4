// Package events delivers what one service does because of another's event: S3
// notifications, asynchronous invocations, schedules, actions of alarms. The
// delivery is a row in the outbox, written in the transaction of what caused it,
// so that both happen or neither. It is delivered at least once: a crash after
// delivery and before the row is gone has it delivered again.
//
// The row's key is (kind, target, due, id). Deliveries of one kind to one target
// form a lane. A lane with something due has a worker, a child of the outbox's
// loop, which delivers several at a time; lanes do not wait for each other. What
// is being delivered is known in memory only, so a delivery may take as long as it
// likes and is not delivered a second time meanwhile. Within a lane, the order is
// not kept.
//
// A failure is tried again as the delivery's Retry says, by moving the row to its
// next due time. A permanent one, and one whose attempts or age are used up,
// becomes a delivery to the dead letter's ARN, or is dropped, counted and logged.
// So a delivery to a target that is gone ends: at once if the target says
// Permanent, at MaxAge at the latest.
//
// The table:
//
//	events/deliveries   (kind, target, due, id)   delivery
package events

import (
	"context"
	"errors"
	"fmt"
	"time"

	"skerry/internal/store"
)

// Delivery is something to be delivered.
type Delivery struct {
	ID      string // Emit makes one if there is none
	Kind    string // empty: delivered by the ARN's service; else by who handles the kind
	Target  string // ARN
	Source  string // ARN of what caused it
	Service string // principal that delivers, such as "s3.amazonaws.com"
	Account string
	Region  string
	Role    string // ARN of the role that delivers, if any

	Payload    []byte
	Attributes map[string]string
	Retry      Retry
	DeadLetter string // ARN that gets it when it cannot be delivered; may be empty

	Created   time.Time // Emit sets it if it is zero
	NotBefore time.Time // not delivered earlier; zero: at once

	// Attempt is the number of the try, 1 for the first. Set by the outbox.
	Attempt int
	// Failures counts the tries that count towards MaxAttempts. Set by the outbox.
	Failures int
	// LastError is the text of the last failure. Set by the outbox.
	LastError string
}

// Retry says how often and how long to try. Zero fields take the defaults, which
// are those of EventBridge: 185 tries in 24 hours, from one second to 15 minutes
// apart.
type Retry struct {
	MaxAttempts int           // tries in all, the first one included
	MaxAge      time.Duration // since Created
	First       time.Duration // wait after the first failure; it doubles with each
	Max         time.Duration // longest wait
	Exact       bool          // no jitter: otherwise waits are shortened at random, by up to a half
}

func (r Retry) filled() Retry {
	if r.MaxAttempts == 0 {
		r.MaxAttempts = 185
	}
	if r.MaxAge == 0 {
		r.MaxAge = 24 * time.Hour
	}
	if r.First == 0 {
		r.First = time.Second
	}
	if r.Max == 0 {
		r.Max = max(r.First, 15*time.Minute)
	}
	return r
}

// Target delivers. It is called by many goroutines at once.
type Target interface {
	// Deliver returns nil (or Done) when the delivery has taken effect. Errors are
	// tried again, except for Permanent ones. It returns soon after ctx ends, which
	// is when the server stops: the delivery then counts as not tried.
	Deliver(ctx context.Context, d Delivery) error
}

// TargetFunc is a function as a Target.
type TargetFunc func(ctx context.Context, d Delivery) error

// Deliver implements Target.
func (f TargetFunc) Deliver(ctx context.Context, d Delivery) error { return f(ctx, d) }

// Wide is implemented by targets that want another number of concurrent
// deliveries to one target than 16.
type Wide interface{ Width() int }

// Mourner is implemented by targets that act when a delivery is given up, such as
// by sending a record to a failure destination. GiveUp is called in the
// transaction that removes the delivery; cause is the last error.
type Mourner interface {
	GiveUp(tx *store.Tx, d Delivery, cause error) error
}

// Permanent marks an error that trying again does not mend: the target is gone, or
// refuses.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanent{err}
}

type permanent struct{ error }

func (e permanent) Unwrap() error { return e.error }

// RetryAt has a failed delivery tried again at a time. The failure does not count
// towards MaxAttempts (a throttled function's invocation does not, on AWS), but
// MaxAge holds.
func RetryAt(err error, at time.Time) error { return retryAt{err, at} }

type retryAt struct {
	error
	at time.Time
}

func (e retryAt) Unwrap() error { return e.error }

// Done is a success with something to be written in the transaction that removes
// the delivery, such as the record for a success destination. fn may run again on
// a conflict.
func Done(fn func(tx *store.Tx) error) error { return done{fn} }

type done struct{ fn func(tx *store.Tx) error }

func (done) Error() string { return "delivered" }

// ErrExpired is the cause when a delivery became too old before a try.
var ErrExpired = errors.New("events: the delivery is older than its MaxAge")

// row is a delivery in the outbox.
type row struct {
	Delivery
	Due time.Time
}

func (r *row) lane() lane { return lane{r.Kind, r.Target} }

func (r *row) key() store.Key { return store.K(r.Kind, r.Target, r.Due, r.ID) }

var deliveries = store.NewTable("events/deliveries", (*row).key)

// lane is what deliveries have in common that are delivered by one worker.
type lane struct{ kind, target string }

func (l lane) key() store.Key { return store.K(l.kind, l.target) }

func (l lane) String() string {
	if l.kind == "" {
		return l.target
	}
	return fmt.Sprintf("%s %s", l.kind, l.target)
}
