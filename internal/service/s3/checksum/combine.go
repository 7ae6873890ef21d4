package checksum

import (
	"encoding/binary"
	"hash/crc32"
)

// The polynomial of CRC-64/NVME, reflected.
const polyNVME = 0x9a6c9329ac4bc9b5

// combine returns the CRC of the parts one after the other from the CRC of each.
func (a Algorithm) combine(parts []Part) []byte {
	poly, width := uint64(polyNVME), 64
	switch a {
	case CRC32:
		poly, width = crc32.IEEE, 32
	case CRC32C:
		poly, width = crc32.Castagnoli, 32
	}
	f := field{poly, width}
	sum := number(parts[0].Digest)
	for _, p := range parts[1:] {
		sum = f.mul(f.shift(p.Size), sum) ^ number(p.Digest)
	}
	out := make([]byte, width/8)
	if width == 32 {
		binary.BigEndian.PutUint32(out, uint32(sum))
	} else {
		binary.BigEndian.PutUint64(out, sum)
	}
	return out
}

func number(digest []byte) uint64 {
	if len(digest) == 4 {
		return uint64(binary.BigEndian.Uint32(digest))
	}
	return binary.BigEndian.Uint64(digest)
}

// field is the ring of polynomials over GF(2) modulo a CRC's polynomial, with
// the bits reflected: the highest bit is the coefficient of x to the 0.
//
// A CRC with all-ones start and end values satisfies
// crc(A then B) = crc(A) * x^(8 len B) + crc(B), because the two constants
// cancel; so appending needs one multiplication and no data.
type field struct {
	poly  uint64
	width int
}

// mul multiplies two polynomials.
func (f field) mul(a, b uint64) uint64 {
	top := uint64(1) << (f.width - 1)
	var p uint64
	for bit := top; bit != 0; bit >>= 1 {
		if a&bit != 0 {
			p ^= b
		}
		if b&1 != 0 {
			b = b>>1 ^ f.poly
		} else {
			b >>= 1
		}
	}
	return p
}

// shift returns x to the power of 8n, by squaring.
func (f field) shift(n int64) uint64 {
	result := uint64(1) << (f.width - 1) // x^0
	square := uint64(1) << (f.width - 9) // x^8
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = f.mul(square, result)
		}
		square = f.mul(square, square)
	}
	return result
}
