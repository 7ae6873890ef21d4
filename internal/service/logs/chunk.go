package logs

import (
	"encoding/binary"
	"fmt"
	"math/big"

	"skerry/internal/api/logs"
)

const (
	day  = 24 * 60 * 60 * 1000 // in milliseconds
	hour = 60 * 60 * 1000

	// overhead is what an event counts besides its message ("PutLogEvents").
	overhead = 26
	// maxSpan is the longest time from a chunk's first event to its last, in
	// milliseconds.
	maxSpan = 10_000
)

// position is an event's place in the order of all events of a group.
type position struct {
	Time   int64 // milliseconds since 1970
	Seq    int64 // of its chunk
	Stream uint64
	Index  uint16 // in its chunk
}

func (p position) less(q position) bool {
	switch {
	case p.Time != q.Time:
		return p.Time < q.Time
	case p.Seq != q.Seq:
		return p.Seq < q.Seq
	case p.Stream != q.Stream:
		return p.Stream < q.Stream
	}
	return p.Index < q.Index
}

// id writes a position as an event id: 56 digits, the time in the bits from 144
// on, as AWS's are.
func (p position) id() string {
	var b [26]byte // 64 bits each of time, sequence and stream, 16 of index
	binary.BigEndian.PutUint64(b[0:], uint64(p.Time))
	binary.BigEndian.PutUint64(b[8:], uint64(p.Seq))
	binary.BigEndian.PutUint64(b[16:], p.Stream)
	binary.BigEndian.PutUint16(b[24:], p.Index)
	return fmt.Sprintf("%056d", new(big.Int).SetBytes(b[:]))
}

// parsePosition reads an event id.
func parsePosition(id string) (position, bool) {
	if len(id) != 56 {
		return position{}, false
	}
	n, ok := new(big.Int).SetString(id, 10)
	if !ok || n.Sign() < 0 || n.BitLen() > 26*8 {
		return position{}, false
	}
	var b [26]byte
	n.FillBytes(b[:])
	p := position{
		Time:   int64(binary.BigEndian.Uint64(b[0:])),
		Seq:    int64(binary.BigEndian.Uint64(b[8:])),
		Stream: binary.BigEndian.Uint64(b[16:]),
		Index:  binary.BigEndian.Uint16(b[24:]),
	}
	return p, p.Time >= 0 && p.Seq >= 0
}

// event is one event in memory.
type event struct {
	position
	message string
	chunk   *chunkRow
}

// appendEvent adds an event to a chunk's data: the milliseconds since the one
// before, the message's length, the message.
func appendEvent(data []byte, sincePrevious int64, message string) []byte {
	data = binary.AppendUvarint(data, uint64(sincePrevious))
	data = binary.AppendUvarint(data, uint64(len(message)))
	return append(data, message...)
}

// events decodes a chunk.
func (c *chunkRow) events() ([]event, error) {
	// One copy for all: each message is a part of it.
	rest := string(c.Data)
	out := make([]event, 0, 1+len(rest)/128)
	time := c.First
	for rest != "" {
		since, n := uvarint(rest)
		size, m := uvarint(rest[max(n, 0):])
		if n <= 0 || m <= 0 || size > uint64(len(rest)-n-m) {
			return nil, fmt.Errorf("logs: events of stream %q at %d are damaged", c.Name, c.First)
		}
		time += int64(since)
		end := n + m + int(size)
		out = append(out, event{
			position: position{time, c.Seq, c.Stream, uint16(len(out))},
			message:  rest[n+m : end],
			chunk:    c,
		})
		rest = rest[end:]
	}
	return out, nil
}

// uvarint is binary.Uvarint of a string.
func uvarint(s string) (v uint64, n int) {
	for shift := 0; n < len(s) && n < binary.MaxVarintLen64; shift += 7 {
		c := s[n]
		n++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, n
		}
	}
	return 0, 0
}

// split makes chunks of a batch of events, which are in order.
func split(g *groupRow, st *streamRow, batch []logs.InputLogEvent, seq, ingested int64) []*chunkRow {
	var out []*chunkRow
	var c *chunkRow
	for _, e := range batch {
		time, message := *e.Timestamp, *e.Message
		if c == nil || time-c.First > maxSpan {
			c = &chunkRow{Group: g.ID, First: time, Last: time, Seq: seq, Stream: st.ID, Ingested: ingested, Name: st.Name}
			seq++
			out = append(out, c)
		}
		c.Data = appendEvent(c.Data, time-c.Last, message)
		c.Bytes += int64(len(message)) + overhead
		c.Last = time
	}
	return out
}
