package wire

import (
	"iter"
	"reflect"
)

// EventStream is a sequence of events, each a union of which one member is set.
// A handler returns one in its output; it is read once, and it may block until
// there is something to tell. An error ends it: a modelled one reaches the
// client as an exception of the stream.
type EventStream[T any] iter.Seq2[*T, error]

// eventSource is what every EventStream is, whatever its events.
type eventSource interface {
	eventType() reflect.Type
	events() iter.Seq2[any, error]
	set(next func(event any) error, done func())
}

func (s *EventStream[T]) eventType() reflect.Type { return reflect.TypeFor[T]() }

func (s *EventStream[T]) events() iter.Seq2[any, error] {
	return func(yield func(any, error) bool) {
		if *s == nil {
			return
		}
		for event, err := range *s {
			if !yield(event, err) {
				return
			}
		}
	}
}

// set makes the stream one that calls next for each event until io.EOF, and
// then done.
func (s *EventStream[T]) set(next func(event any) error, done func()) {
	*s = func(yield func(*T, error) bool) {
		defer done()
		for {
			event := new(T)
			if err := next(event); err != nil {
				if !isEOF(err) {
					yield(nil, err)
				}
				return
			}
			if !yield(event, nil) {
				return
			}
		}
	}
}
