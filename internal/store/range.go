package store

// Range selects keys of a table or an index. The zero Range is all of it. Bounds
// are keys of the table as a whole, not relative to Prefix; in an index they are
// the index's key followed by the row's: K(owner)+K(name).
type Range struct {
	Prefix  Key  // keys that begin with it
	From    Key  // keys at or above it
	To      Key  // keys below it
	After   Key  // keys that the scan meets after this one (whether or not it is there)
	Reverse bool // from the last to the first
}

// bounds returns the byte range within the space that base begins.
func (r Range) bounds(base []byte) (lo, hi []byte) {
	at := func(k Key) []byte { return append(append(make([]byte, 0, len(base)+len(k)+1), base...), k...) }
	lo = at(r.Prefix)
	hi = successor(lo)
	raise := func(b []byte) {
		if string(b) > string(lo) {
			lo = b
		}
	}
	lower := func(b []byte) {
		if string(b) < string(hi) {
			hi = b
		}
	}
	if r.From != "" {
		raise(at(r.From))
	}
	if r.To != "" {
		lower(at(r.To))
	}
	if r.After != "" && r.Reverse {
		lower(at(r.After))
	} else if r.After != "" {
		raise(append(at(r.After), 0))
	}
	return lo, hi
}
