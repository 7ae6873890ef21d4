package logs

import (
	"errors"

	"skerry/internal/api/logs"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/store"
)

// groupRow is a log group. Times are milliseconds since 1970.
type groupRow struct {
	Account   string            `cbor:"1,keyasint"`
	Region    string            `cbor:"2,keyasint"`
	Name      string            `cbor:"3,keyasint"`
	ID        uint64            `cbor:"4,keyasint"`
	Created   int64             `cbor:"5,keyasint"`
	Class     string            `cbor:"6,keyasint"`
	Retention int32             `cbor:"7,keyasint,omitempty"` // days; 0 keeps for ever
	Protected bool              `cbor:"8,keyasint,omitempty"`
	Tags      map[string]string `cbor:"9,keyasint,omitempty"`
}

func (g *groupRow) arn() string {
	return arn.New("logs", g.Region, g.Account, "log-group:"+g.Name).String()
}

// oldest returns the time before which events are expired, in milliseconds.
func (g *groupRow) oldest(now int64) int64 {
	if g.Retention == 0 {
		return 0
	}
	return max(0, now-int64(g.Retention)*day)
}

// streamRow is a log stream.
type streamRow struct {
	Group    uint64 `cbor:"1,keyasint"`
	Name     string `cbor:"2,keyasint"`
	ID       uint64 `cbor:"3,keyasint"`
	Created  int64  `cbor:"4,keyasint"`
	First    int64  `cbor:"5,keyasint,omitempty"` // time of the earliest event
	Last     int64  `cbor:"6,keyasint,omitempty"` // time of the latest
	Ingested int64  `cbor:"7,keyasint,omitempty"` // when the last event came; 0: none ever
	Bytes    int64  `cbor:"8,keyasint,omitempty"`
	Seq      int64  `cbor:"9,keyasint,omitempty"` // the last chunk's
}

// chunkRow is a part of one PutLogEvents call whose events span at most maxSpan.
type chunkRow struct {
	Group    uint64 `cbor:"1,keyasint"`
	First    int64  `cbor:"2,keyasint"` // time of its first event
	Seq      int64  `cbor:"3,keyasint"` // arrival, nanoseconds since 1970; unique in the stream
	Stream   uint64 `cbor:"4,keyasint"`
	Last     int64  `cbor:"5,keyasint"`
	Ingested int64  `cbor:"6,keyasint"`
	Bytes    int64  `cbor:"7,keyasint"` // as AWS counts: messages and 26 bytes an event
	Name     string `cbor:"8,keyasint"` // the stream's
	Data     []byte `cbor:"9,keyasint"` // the events, see appendEvent
}

// subscriptionRow is a subscription filter.
type subscriptionRow struct {
	Group        uint64 `cbor:"1,keyasint"`
	Name         string `cbor:"2,keyasint"`
	Pattern      string `cbor:"3,keyasint"`
	Destination  string `cbor:"4,keyasint"`
	Distribution string `cbor:"5,keyasint"`
	Created      int64  `cbor:"6,keyasint"`
}

// policyRow is a resource policy: the account's, or one group's.
type policyRow struct {
	Account  string `cbor:"1,keyasint"`
	Region   string `cbor:"2,keyasint"`
	Group    string `cbor:"3,keyasint"` // the group's ARN; empty for the account's
	Name     string `cbor:"4,keyasint"`
	Document string `cbor:"5,keyasint"`
	Updated  int64  `cbor:"6,keyasint"`
	Revision string `cbor:"7,keyasint"`
}

// garbageRow is a deleted group (Stream is 0) or stream whose rows the sweep has
// still to delete.
type garbageRow struct {
	Group  uint64 `cbor:"1,keyasint"`
	Stream uint64 `cbor:"2,keyasint"`
}

// meteredRow says until when storage is metered.
type meteredRow struct {
	Until int64 `cbor:"1,keyasint"`
}

var (
	groups = store.NewTable("logs/groups", func(r *groupRow) store.Key {
		return store.K(r.Account, r.Region, r.Name)
	})
	streams = store.NewTable("logs/streams", func(r *streamRow) store.Key {
		return store.K(r.Group, r.Name)
	})
	chunks = store.NewTable("logs/events", func(r *chunkRow) store.Key {
		return store.K(r.Group, r.First, r.Seq, r.Stream)
	}, chunksByStream)
	chunksByStream = store.NewIndex("stream", func(r *chunkRow) []store.Key {
		return []store.Key{store.K(r.Stream, r.First, r.Seq)}
	})
	subscriptions = store.NewTable("logs/subscriptions", func(r *subscriptionRow) store.Key {
		return store.K(r.Group, r.Name)
	})
	policies = store.NewTable("logs/policies", func(r *policyRow) store.Key {
		return store.K(r.Account, r.Region, r.Group, r.Name)
	})
	garbage = store.NewTable("logs/garbage", func(r *garbageRow) store.Key {
		return store.K(r.Group, r.Stream)
	})
	metered = store.NewTable("logs/metered", func(*meteredRow) store.Key { return store.K("") })
)

// group returns a group of the caller's account and region.
func group(tx *store.Tx, sc auth.Scope, name string) (*groupRow, error) {
	g, err := groups.Get(tx, store.K(sc.Account, sc.Region, name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, &logs.ResourceNotFoundException{Message: new("The specified log group does not exist.")}
	}
	return g, err
}

// stream returns a stream of a group.
func stream(tx *store.Tx, g *groupRow, name string) (*streamRow, error) {
	st, err := streams.Get(tx, store.K(g.ID, name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, &logs.ResourceNotFoundException{Message: new("The specified log stream does not exist.")}
	}
	return st, err
}
