package gunzip

import "encoding/binary"

// slack is what one round of inflate writes at most: six literals, a match and the
// rest of a word.
const slack = 6 + 258 + 8

// fixed begins a block of the code that is written nowhere.
func (z *Reader) fixed() error {
	n := z.lengths[:]
	for i := range maxLiterals {
		switch {
		case i < 144:
			n[i] = 8
		case i < 256:
			n[i] = 9
		case i < 280:
			n[i] = 7
		default:
			n[i] = 8
		}
	}
	for i := range maxDistances {
		n[maxLiterals+i] = 5
	}
	return z.tables(n[:maxLiterals], n[maxLiterals:maxLiterals+maxDistances])
}

// dynamic begins a block that says what its code is. Page: RFC 1951, 3.2.7.
func (z *Reader) dynamic() error {
	v, err := z.take(14)
	if err != nil {
		return err
	}
	literals, distances, codes := int(v&31)+257, int(v>>5&31)+1, int(v>>10)+4
	if literals > 286 || distances > 30 {
		return ErrCorrupt
	}
	var own [19]uint8
	for _, i := range []uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[:codes] {
		n, err := z.take(3)
		if err != nil {
			return err
		}
		own[i] = uint8(n)
	}
	var table [1 << lengthBits]uint32
	if !z.build.table(table[:], lengthBits, own[:], plainEntry) {
		return ErrCorrupt
	}
	all := z.lengths[:literals+distances]
	for i := 0; i < len(all); {
		if z.nbits < 14 {
			if err := z.more(); err != nil {
				return err
			}
			z.refill()
		}
		e := table[z.bits&(1<<lengthBits-1)]
		if e&special != 0 {
			return ErrCorrupt
		}
		z.bits >>= e & 63
		z.nbits -= uint(e & 0xff)
		symbol, repeat := uint8(e>>16), 1
		var value uint8
		switch symbol {
		default:
			value = symbol
		case 16:
			if i == 0 {
				return ErrCorrupt
			}
			value, repeat = all[i-1], 3+int(z.bits&3)
			z.bits, z.nbits = z.bits>>2, z.nbits-2
		case 17:
			repeat = 3 + int(z.bits&7)
			z.bits, z.nbits = z.bits>>3, z.nbits-3
		case 18:
			repeat = 11 + int(z.bits&127)
			z.bits, z.nbits = z.bits>>7, z.nbits-7
		}
		if i+repeat > len(all) {
			return ErrCorrupt
		}
		for range repeat {
			all[i] = value
			i++
		}
	}
	return z.tables(all[:literals], all[literals:])
}

func (z *Reader) tables(literals, distances []uint8) error {
	if !z.build.table(z.literals[:], literalBits, literals, literalEntry) ||
		!z.build.table(z.distances[:], distanceBits, distances, distanceEntry) {
		return ErrCorrupt
	}
	pairUp(&z.literals)
	return nil
}

// inflate decodes a block's symbols until the block, the batch or the input that
// is here ends.
func (z *Reader) inflate() error {
	if err := z.more(); err != nil {
		return err
	}
	limit := z.end - reach
	if z.ended {
		limit = z.end + 7 // so far can bits of the input reach that are still to come
	}
	in, out, literals, distances := &z.in, &z.out, &z.literals, &z.distances
	pos, to, bits, nbits := z.pos, z.to, z.bits, z.nbits
	var err error
loop:
	for pos <= limit && to < window+batch {
		bits |= binary.LittleEndian.Uint64(in[pos:]) << (nbits & 63)
		pos += int((63 - nbits) >> 3)
		nbits |= 56
		e := literals[bits&(1<<literalBits-1)]
		if e&literal != 0 {
			binary.LittleEndian.PutUint16(out[to:], uint16(e>>8))
			to += 1 + int(e>>30&1)
			bits >>= e & 63
			nbits -= uint(e & 63)
			e = literals[bits&(1<<literalBits-1)]
			if e&literal != 0 {
				binary.LittleEndian.PutUint16(out[to:], uint16(e>>8))
				to += 1 + int(e>>30&1)
				bits >>= e & 63
				nbits -= uint(e & 63)
				e = literals[bits&(1<<literalBits-1)]
				if e&literal != 0 {
					binary.LittleEndian.PutUint16(out[to:], uint16(e>>8))
					to += 1 + int(e>>30&1)
					bits >>= e & 63
					nbits -= uint(e & 63)
					continue
				}
			}
		}
		if e&special != 0 {
			if e&subtable != 0 {
				bits >>= literalBits
				nbits -= literalBits
				e = literals[int(e>>16&0x3fff)+int(bits&(1<<(e>>8&15)-1))]
				if e&literal != 0 {
					out[to] = byte(e >> 8)
					to++
					bits >>= e & 63
					nbits -= uint(e & 63)
					continue
				}
			}
			if e&special != 0 {
				if e&endBlock == 0 {
					err = ErrCorrupt
				} else {
					bits >>= e & 63
					nbits -= uint(e & 63)
					z.step = (*Reader).block
				}
				break loop
			}
		}
		length := int(e>>16) + int(bits&(1<<(e&63)-1)>>(e>>8&15))
		bits >>= e & 63
		nbits -= uint(e & 63)

		bits |= binary.LittleEndian.Uint64(in[pos:]) << (nbits & 63)
		pos += int((63 - nbits) >> 3)
		nbits |= 56
		e = distances[bits&(1<<distanceBits-1)]
		if e&special != 0 {
			if e&subtable == 0 {
				err = ErrCorrupt
				break loop
			}
			bits >>= distanceBits
			nbits -= distanceBits
			if e = distances[int(e>>16&0x3fff)+int(bits&(1<<(e>>8&15)-1))]; e&special != 0 {
				err = ErrCorrupt
				break loop
			}
		}
		distance := int(e>>16) + int(bits&(1<<(e&63)-1)>>(e>>8&15))
		bits >>= e & 63
		nbits -= uint(e & 63)

		from, end := to-distance, to+length
		if from < z.begin {
			err = ErrCorrupt
			break loop
		}
		switch {
		case distance >= 8:
			for to < end {
				binary.LittleEndian.PutUint64(out[to:], binary.LittleEndian.Uint64(out[from:]))
				to += 8
				from += 8
			}
			to = end
		case distance == 1:
			word := uint64(out[from]) * 0x0101010101010101
			for to < end {
				binary.LittleEndian.PutUint64(out[to:], word)
				to += 8
			}
			to = end
		default:
			for ; to < end; to++ {
				out[to] = out[from]
				from++
			}
		}
	}
	z.pos, z.to, z.bits, z.nbits = pos, to, bits, nbits
	return err
}
