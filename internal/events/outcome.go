package events

import (
	"errors"
	"math/rand/v2"
	"time"
)

// outcome is what becomes of a delivery after a try.
type outcome struct {
	next   *row  // to be tried again; nil if it is over
	cause  error // why it was given up; nil if it was delivered or is tried again
	settle done  // what Done asked to be written
}

// plan decides what becomes of a delivery whose try ended with err.
func plan(r row, err error, now time.Time) outcome {
	var ok done
	if err == nil || errors.As(err, &ok) {
		return outcome{settle: ok}
	}
	var never permanent
	if errors.As(err, &never) {
		return outcome{cause: err}
	}
	next := r
	next.LastError = err.Error()
	var at retryAt
	if errors.As(err, &at) {
		next.Due = at.at
	} else {
		next.Failures++
		next.Due = now.Add(wait(r.Retry, next.Failures, rand.Float64()))
	}
	if next.Failures >= r.Retry.MaxAttempts || next.Due.Sub(r.Created) > r.Retry.MaxAge {
		return outcome{cause: err}
	}
	return outcome{next: &next}
}

// wait is the time before the next try, after a number of failures; chance is
// between 0 and 1.
func wait(r Retry, failures int, chance float64) time.Duration {
	d := r.First
	for range failures - 1 {
		if d *= 2; d >= r.Max {
			break
		}
	}
	d = min(d, r.Max)
	if r.Exact {
		return d
	}
	return d - time.Duration(chance*float64(d)/2)
}
