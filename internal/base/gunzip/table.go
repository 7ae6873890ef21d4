package gunzip

import "math/bits"

// A table is looked up with the next bits of the input. Its entries, from the
// lowest bit on:
//
//	a literal    0-7 bits used   8-15 literal   16-23 second literal           30 pair, 31 set
//	a base       0-7 bits used, those that are added to the base included
//	             8-11 bits of the code   16-30 base
//	subtable     0-7 bits used   8-11 bits to look up in it   14, 15 set   16-30 where
//	end of block 0-7 bits used   13, 15 set
//	no code      15 set
//
// Codes longer than a table's bits go on in a subtable behind it.
const (
	literal  = 1 << 31
	pair     = 1 << 30
	special  = 1 << 15
	subtable = 1 << 14
	endBlock = 1 << 13
)

// The sizes are those of zlib's "enough" for complete codes of 15 bits at most.
const (
	literalBits  = 11
	distanceBits = 8
	lengthBits   = 7

	maxLiterals  = 288
	maxDistances = 32
	maxBits      = 15
)

type (
	literalTable  [2342]uint32
	distanceTable [402]uint32
)

// The bases and added bits of lengths (symbols from 257 on) and distances. Page:
// RFC 1951, 3.2.5.
var (
	lengthBase  = [...]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [...]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}

	distanceBase = [...]uint16{
		1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
	}
	distanceExtra = [...]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// literalEntry returns the entry of a symbol of literals and lengths, but for the
// bits of its code.
func literalEntry(symbol int) uint32 {
	switch {
	case symbol < 256:
		return literal | uint32(symbol)<<8
	case symbol == 256:
		return special | endBlock
	case symbol-257 < len(lengthBase):
		return uint32(lengthBase[symbol-257])<<16 | uint32(lengthExtra[symbol-257])
	}
	return special
}

// distanceEntry is the same of distances.
func distanceEntry(symbol int) uint32 {
	if symbol < len(distanceBase) {
		return uint32(distanceBase[symbol])<<16 | uint32(distanceExtra[symbol])
	}
	return special
}

// plainEntry is the same of the symbols that lengths of codes are written with.
func plainEntry(symbol int) uint32 { return uint32(symbol) << 16 }

// coded completes an entry with the bits of its code.
func coded(e uint32, n int) uint32 {
	if e&(literal|special) != 0 {
		return e | uint32(n)
	}
	return e + uint32(n)<<8 + uint32(n)
}

// builder is the room in which tables are made.
type builder struct {
	sorted  [maxLiterals]uint16     // the symbols that have a code, by its length
	deepest [1 << literalBits]uint8 // the longest code that begins so, if it needs a subtable
}

// table fills a table for codes of these lengths. It tells whether they are a code:
// complete, or, as the only ones that zlib takes besides, none and a single one of
// one bit.
func (b *builder) table(table []uint32, width int, lengths []uint8, entry func(symbol int) uint32) bool {
	var count, next [maxBits + 2]int
	for _, n := range lengths {
		count[n]++
	}
	free, total := 1, 0
	for n := 1; n <= maxBits; n++ {
		next[n] = total
		total += count[n]
		if free = free<<1 - count[n]; free < 0 {
			return false
		}
	}
	if free > 0 {
		if total > 1 || total != count[1] {
			return false
		}
		for i := range table[:1<<width] {
			table[i] = special
		}
	}
	for symbol, n := range lengths {
		if n > 0 {
			b.sorted[next[n]] = uint16(symbol)
			next[n]++
		}
	}
	if next[width] < total {
		b.deepen(width, &count, total)
	}
	end := 1 << width
	code, symbols := uint16(0), b.sorted[:total]
	for n := 1; n <= maxBits; n++ {
		for _, symbol := range symbols[:count[n]] {
			at := int(bits.Reverse16(code) >> (16 - n))
			code++
			e := entry(int(symbol))
			if n <= width {
				e = coded(e, n)
				for ; at < 1<<width; at += 1 << n {
					table[at] = e
				}
				continue
			}
			head := at & (1<<width - 1)
			if depth := int(b.deepest[head]); depth > 0 {
				depth -= width
				if end+1<<depth > len(table) {
					return false
				}
				b.deepest[head] = 0
				table[head] = special | subtable | uint32(end)<<16 | uint32(depth)<<8 | uint32(width)
				end += 1 << depth
			}
			below, depth := table[head]>>16, table[head]>>8&15
			e = coded(e, n-width)
			for i := at >> width; i < 1<<depth; i += 1 << (n - width) {
				table[int(below)+i] = e
			}
		}
		symbols = symbols[count[n]:]
		code <<= 1
	}
	return true
}

// deepen notes how deep the subtables are.
func (b *builder) deepen(width int, count *[maxBits + 2]int, total int) {
	clear(b.deepest[:1<<width])
	code := 0
	for n := 1; n <= maxBits; n++ {
		for range count[n] {
			if n > width {
				b.deepest[int(bits.Reverse16(uint16(code))>>(16-n))&(1<<width-1)] = uint8(n)
			}
			code++
		}
		code <<= 1
	}
}

// pairUp has the entries of short literals give the literal that follows as well.
func pairUp(table *literalTable) {
	// From above, as an entry looks at one that is below it and still alone.
	for i := 1<<literalBits - 1; i >= 0; i-- {
		e := table[i]
		if e&literal == 0 {
			continue
		}
		n := e & 0xff
		if e2 := table[i>>n]; e2&literal != 0 && n+e2&0xff <= literalBits {
			table[i] = (e | pair | e2&0xff00<<8) + e2&0xff
		}
	}
}
