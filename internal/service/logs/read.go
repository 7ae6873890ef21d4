package logs

import (
	"container/heap"
	"iter"

	"skerry/internal/store"
)

// query is which events of a group are read, and in which direction.
type query struct {
	group   uint64
	streams map[uint64]bool // nil for all
	start   int64           // at or after it
	end     int64           // before it
	after   *position       // those met after this one, in the direction of reading
	reverse bool
}

// manyStreams is the number of streams above which reading the whole group and
// leaving out the others is the better way.
const manyStreams = 16

// read returns the events in order of position, or in reverse.
func (q query) read(tx *store.Tx) iter.Seq2[event, error] {
	return func(yield func(event, error) bool) {
		next, stop := iter.Pull2(q.chunks(tx))
		defer stop()
		open := &opened{reverse: q.reverse}
		ahead, err, more := next()
		for {
			// Whatever chunk may hold an event that comes before the first of those
			// that are open must be open as well.
			for more && (open.Len() == 0 || q.mayPrecede(ahead, open.cursors[0].event())) {
				if err == nil {
					err = open.add(ahead, q)
				}
				if err != nil {
					yield(event{}, err)
					return
				}
				ahead, err, more = next()
			}
			if open.Len() == 0 {
				return
			}
			if !yield(open.cursors[0].event(), nil) {
				return
			}
			open.advance()
		}
	}
}

// mayPrecede tells whether a chunk not yet open may hold an event that is met
// before e.
func (q query) mayPrecede(c *chunkRow, e event) bool {
	if c == nil { // an error comes first
		return true
	}
	if q.reverse {
		return c.First+maxSpan >= e.Time
	}
	return c.First <= e.Time
}

// chunks returns the chunks that may hold such events, by the time of their first
// event.
func (q query) chunks(tx *store.Tx) iter.Seq2[*chunkRow, error] {
	from, to := max(0, q.start-maxSpan), q.end
	if q.after != nil && q.reverse {
		to = min(to, q.after.Time+1)
	} else if q.after != nil {
		from = max(from, q.after.Time-maxSpan)
	}
	if q.streams == nil || len(q.streams) > manyStreams {
		all := chunks.Scan(tx, store.Range{From: store.K(q.group, from), To: store.K(q.group, to), Reverse: q.reverse})
		if q.streams == nil {
			return all
		}
		return func(yield func(*chunkRow, error) bool) {
			for c, err := range all {
				if err == nil && !q.streams[c.Stream] {
					continue
				}
				if !yield(c, err) {
					return
				}
			}
		}
	}
	var each []iter.Seq2[*chunkRow, error]
	for id := range q.streams {
		each = append(each, chunksByStream.Scan(tx, store.Range{From: store.K(id, from), To: store.K(id, to), Reverse: q.reverse}))
	}
	if len(each) == 1 {
		return each[0]
	}
	return merge(each, q.reverse)
}

// merge joins the chunks of several streams by the time of their first event.
func merge(each []iter.Seq2[*chunkRow, error], reverse bool) iter.Seq2[*chunkRow, error] {
	return func(yield func(*chunkRow, error) bool) {
		type source struct {
			next func() (*chunkRow, error, bool)
			head *chunkRow
		}
		var sources []*source
		for _, seq := range each {
			next, stop := iter.Pull2(seq)
			defer stop()
			sources = append(sources, &source{next: next})
		}
		fill := func(s *source) error {
			var err error
			s.head, err, _ = s.next()
			return err
		}
		for _, s := range sources {
			if err := fill(s); err != nil {
				yield(nil, err)
				return
			}
		}
		for {
			var first *source
			for _, s := range sources {
				if s.head != nil && (first == nil || (s.head.First < first.head.First) != reverse) {
					first = s
				}
			}
			if first == nil || !yield(first.head, nil) {
				return
			}
			if err := fill(first); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// opened is a heap of the chunks being read.
type opened struct {
	cursors []cursor
	reverse bool
}

// cursor is what is left of a chunk, in the direction of reading.
type cursor struct {
	events  []event
	reverse bool
}

func (c cursor) event() event {
	if c.reverse {
		return c.events[len(c.events)-1]
	}
	return c.events[0]
}

// add opens a chunk, without the events that are not asked for.
func (o *opened) add(c *chunkRow, q query) error {
	events, err := c.events()
	if err != nil {
		return err
	}
	for len(events) > 0 && q.before(events[0]) {
		events = events[1:]
	}
	for len(events) > 0 && q.behind(events[len(events)-1]) {
		events = events[:len(events)-1]
	}
	if len(events) > 0 {
		heap.Push(o, cursor{events, q.reverse})
	}
	return nil
}

// before tells whether an event lies before those asked for.
func (q query) before(e event) bool {
	return e.Time < q.start || !q.reverse && q.after != nil && !q.after.less(e.position)
}

// behind tells whether an event lies behind those asked for.
func (q query) behind(e event) bool {
	return e.Time >= q.end || q.reverse && q.after != nil && !e.less(*q.after)
}

// advance leaves the first event behind.
func (o *opened) advance() {
	c := &o.cursors[0]
	if o.reverse {
		c.events = c.events[:len(c.events)-1]
	} else {
		c.events = c.events[1:]
	}
	if len(c.events) == 0 {
		heap.Pop(o)
	} else if len(o.cursors) > 1 {
		heap.Fix(o, 0)
	}
}

// Len, Less, Swap, Push and Pop implement heap.Interface.
func (o *opened) Len() int { return len(o.cursors) }

func (o *opened) Less(i, j int) bool {
	a, b := o.cursors[i].event().position, o.cursors[j].event().position
	if o.reverse {
		return b.less(a)
	}
	return a.less(b)
}

func (o *opened) Swap(i, j int) { o.cursors[i], o.cursors[j] = o.cursors[j], o.cursors[i] }

func (o *opened) Push(c any) { o.cursors = append(o.cursors, c.(cursor)) }

func (o *opened) Pop() any {
	last := len(o.cursors) - 1
	c := o.cursors[last]
	o.cursors = o.cursors[:last]
	return c
}
