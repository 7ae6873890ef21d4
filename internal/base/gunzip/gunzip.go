// Package gunzip decompresses gzip (RFC 1951 and 1952) faster than the libraries
// do, because that is what bounds the pulling of an image. It decodes from one
// buffer into another with the bits of several symbols at hand, and its table
// gives two literals at once where their codes are short.
//
// Its input is hostile: all indexes are checked by the language, and nothing is
// allocated beyond what a Reader is made of.
package gunzip

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
)

var (
	// ErrHeader: what should be a gzip stream is none.
	ErrHeader = errors.New("invalid gzip header")
	// ErrCorrupt: the compressed data make no sense.
	ErrCorrupt = errors.New("corrupt gzip data")
	// ErrChecksum: the content is not what was compressed.
	ErrChecksum = errors.New("invalid gzip checksum")
)

const (
	window  = 32 << 10  // how far back a match may begin
	batch   = 128 << 10 // decoded at once, or a little more
	inSize  = 64 << 10
	reach   = 16        // bytes of input that one round of a loop may look at
	padding = reach + 8 // zeros after the input's end, as a round may begin with seven bytes of them read
)

// Reader is the content of a gzip stream of one or more members. Make one by
// NewReader.
type Reader struct {
	src  io.Reader
	err  error // of the next Read; io.EOF after the last member
	step func(*Reader) error

	in       [inSize + padding]byte
	pos, end int
	ended    bool // nothing comes after end
	bits     uint64
	nbits    uint // valid bits of bits; what is above them is read again

	out      [window + batch + slack]byte
	from, to int // decoded and not read yet
	begin    int // of the member, as far as out has it
	summed   int // up to there, out is in sum and size

	members   int
	sum, size uint32 // of the member
	last      bool   // the block is the member's last
	left      int    // bytes of a block that is not compressed

	literals  literalTable
	distances distanceTable
	lengths   [maxLiterals + maxDistances]uint8
	build     builder
}

// NewReader returns a reader of what src holds compressed. It reads more of src
// than it needs.
func NewReader(src io.Reader) *Reader {
	return &Reader{src: src, step: (*Reader).header}
}

// Read implements io.Reader.
func (z *Reader) Read(p []byte) (int, error) {
	for z.from == z.to && z.err == nil {
		z.decode()
	}
	if z.from == z.to {
		return 0, z.err
	}
	n := copy(p, z.out[z.from:z.to])
	z.from += n
	return n, nil
}

// decode makes the next batch, when all that was made has been read.
func (z *Reader) decode() {
	if gone := z.to - window; gone > 0 {
		copy(z.out[:window], z.out[gone:z.to])
		z.to, z.begin = window, max(0, z.begin-gone)
	}
	z.from, z.summed = z.to, z.to
	for z.err == nil && z.to < window+batch {
		z.err = z.step(z)
	}
	// Bits from beyond the end were zeros of ours, and what came of them is nothing.
	if z.beyond() {
		z.err, z.to = io.ErrUnexpectedEOF, z.from
		return
	}
	z.addUp()
}

func (z *Reader) addUp() {
	z.sum = crc32.Update(z.sum, crc32.IEEETable, z.out[z.summed:z.to])
	z.size += uint32(z.to - z.summed)
	z.summed = z.to
}

// more brings what one round may look at, zeros after the input's end included. It
// returns ErrUnexpectedEOF when such zeros have been taken for input.
func (z *Reader) more() error {
	for z.end-z.pos < reach && !z.ended {
		keep := min(z.pos, 8) // what is in bits may be given back
		z.end = copy(z.in[:], z.in[z.pos-keep:z.end])
		z.pos = keep
		n, err := z.src.Read(z.in[z.end:inSize])
		z.end += n
		if err == io.EOF {
			z.ended = true
			clear(z.in[z.end : z.end+padding])
		} else if err != nil {
			return err
		}
	}
	if z.beyond() {
		return io.ErrUnexpectedEOF
	}
	return nil
}

func (z *Reader) beyond() bool { return z.ended && z.pos-int(z.nbits>>3) > z.end }

// refill makes 56 bits or more valid, after more.
func (z *Reader) refill() {
	z.bits |= binary.LittleEndian.Uint64(z.in[z.pos:]) << (z.nbits & 63)
	z.pos += int((63 - z.nbits) >> 3)
	z.nbits |= 56
}

// take reads n bits, 32 at most.
func (z *Reader) take(n uint) (uint32, error) {
	if z.nbits < n {
		if err := z.more(); err != nil {
			return 0, err
		}
		z.refill()
	}
	v := uint32(z.bits & (1<<n - 1))
	z.bits >>= n
	z.nbits -= n
	return v, nil
}

// align goes on to the next whole byte, and gives back those that were read ahead.
func (z *Reader) align() {
	z.pos -= int(z.nbits >> 3)
	z.bits, z.nbits = 0, 0
}

// The flags of a member's header.
const (
	headerSum = 1 << (1 + iota)
	extraField
	fileName
	comment
)

// maxText is the length of a name or comment, with its end.
const maxText = 512

// header begins a member, or ends the stream.
func (z *Reader) header() error {
	z.align()
	if err := z.more(); err != nil {
		return err
	}
	if z.pos == z.end && z.members > 0 {
		return io.EOF
	}
	sum := uint32(0)
	next := func() (byte, error) {
		v, err := z.take(8)
		sum = crc32.Update(sum, crc32.IEEETable, []byte{byte(v)})
		return byte(v), err
	}
	var fixed [10]byte
	for i := range fixed {
		b, err := next()
		if err != nil {
			return err
		}
		fixed[i] = b
	}
	flags := fixed[3]
	if fixed[0] != 0x1f || fixed[1] != 0x8b || fixed[2] != 8 {
		return ErrHeader
	}
	if flags&extraField != 0 {
		low, err := next()
		high, err2 := next()
		for n := int(low) | int(high)<<8; n > 0 && err == nil && err2 == nil; n-- {
			_, err = next()
		}
		if err = errors.Join(err, err2); err != nil {
			return io.ErrUnexpectedEOF
		}
	}
	for _, text := range []byte{fileName, comment} {
		for n, more := 0, flags&text != 0; more; n++ {
			b, err := next()
			if err != nil {
				return err
			}
			if more = b != 0; n >= maxText {
				return ErrHeader
			}
		}
	}
	if flags&headerSum != 0 {
		want := sum & 0xffff
		if got, err := z.take(16); err != nil {
			return err
		} else if got != want {
			return ErrHeader
		}
	}
	z.members++
	z.begin, z.sum, z.size, z.last = z.to, 0, 0, false
	z.step = (*Reader).block
	return nil
}

// trailer ends a member.
func (z *Reader) trailer() error {
	z.align()
	z.addUp()
	sum, err := z.take(32)
	if err != nil {
		return err
	}
	size, err := z.take(32)
	if err != nil {
		return err
	}
	if sum != z.sum || size != z.size {
		return ErrChecksum
	}
	z.step = (*Reader).header
	return nil
}

// block begins a block.
func (z *Reader) block() error {
	if z.last {
		z.step = (*Reader).trailer
		return nil
	}
	v, err := z.take(3)
	if err != nil {
		return err
	}
	z.last = v&1 != 0
	z.step = (*Reader).inflate
	switch v >> 1 {
	case 0:
		z.align()
		v, err := z.take(32)
		if err != nil {
			return err
		}
		if v>>16 != ^v&0xffff {
			return ErrCorrupt
		}
		z.left, z.step = int(v&0xffff), (*Reader).stored
		z.align()
		return nil
	case 1:
		return z.fixed()
	case 2:
		return z.dynamic()
	}
	return ErrCorrupt
}

// stored copies a block that is not compressed.
func (z *Reader) stored() error {
	if z.left == 0 {
		z.step = (*Reader).block
		return nil
	}
	if err := z.more(); err != nil {
		return err
	}
	if z.pos == z.end {
		return io.ErrUnexpectedEOF
	}
	n := copy(z.out[z.to:window+batch], z.in[z.pos:min(z.end, z.pos+z.left)])
	z.pos, z.to, z.left = z.pos+n, z.to+n, z.left-n
	return nil
}
