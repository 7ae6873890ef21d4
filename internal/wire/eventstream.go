package wire

import "iter"

// EventStream is a sequence of events, each a union of which one member is set.
// A handler returns one in its output; it is read once, and it may block until
// there is something to tell. An error ends it: a modelled one reaches the
// client as an exception of the stream.
type EventStream[T any] iter.Seq2[*T, error]
