package pebblekv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"skerry/internal/store/kv"
)

// Pebble's log is a sequence of blocks, each of chunks: checksum (4 bytes), length
// (2), kind (1), number of the log (4), offset that was synced when the chunk was
// written (8), content.
const (
	blockSize  = 32 << 10
	headerSize = 19
	firstKind  = 9
	lastKind   = 12
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkTails looks for damage in the last block of each log. In earlier blocks,
// Pebble finds it; but in the last one it takes a damaged length or kind for the
// place where a crash has cut the log, and drops what comes after without a word.
// A chunk further on that says the place was synced proves otherwise.
func checkTails(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		digits, isLog := strings.CutSuffix(name, ".log")
		number, err := strconv.ParseUint(digits, 10, 32)
		if !isLog || err != nil {
			continue
		}
		path := fs.PathJoin(dir, name)
		if damaged, err := damagedTail(fs, path, uint32(number)); err != nil {
			return err
		} else if damaged >= 0 {
			return fmt.Errorf("%w: file %s at byte %d", kv.ErrDamaged, path, damaged)
		}
	}
	return nil
}

// damagedTail returns the offset of the damage, or -1.
func damagedTail(fs vfs.FS, path string, number uint32) (int64, error) {
	f, err := fs.Open(path)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return -1, err
	}
	last := int64(0) // the last block that begins with a chunk of this log; what follows is of a log before
	header := make([]byte, headerSize)
	for at := int64(0); at+headerSize <= st.Size(); at += blockSize {
		if _, err := f.ReadAt(header, at); err != nil {
			return -1, err
		}
		if binary.LittleEndian.Uint32(header[7:]) == number {
			last = at
		}
	}
	for _, at := range []int64{last, last + blockSize} { // the first chunk of the block after may be the damaged one
		block := make([]byte, blockSize)
		n, err := f.ReadAt(block, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return -1, err
		}
		if off := damagedBlock(block[:n], at, number); off >= 0 {
			return off, nil
		}
	}
	return -1, nil
}

// damagedBlock returns the offset of damage in a block that stands at an offset.
func damagedBlock(block []byte, at int64, number uint32) int64 {
	good := 0
	for {
		size, _ := chunk(block[good:], number)
		if size == 0 {
			break
		}
		good += size
	}
	for i := good; i < len(block); i++ {
		if _, synced := chunk(block[i:], number); synced > at+int64(good) {
			return at + int64(good)
		}
	}
	return -1
}

// chunk returns the size of the chunk that b begins with, 0 if it does not, and
// the offset that the chunk says was synced.
func chunk(b []byte, number uint32) (size int, synced int64) {
	if len(b) < headerSize || b[6] < firstKind || b[6] > lastKind || binary.LittleEndian.Uint32(b[7:]) != number {
		return 0, 0
	}
	size = headerSize + int(binary.LittleEndian.Uint16(b[4:]))
	if size > len(b) {
		return 0, 0
	}
	sum := crc32.Checksum(b[6:size], castagnoli)
	if binary.LittleEndian.Uint32(b) != (sum>>15|sum<<17)+0xa282ead8 {
		return 0, 0
	}
	return size, int64(binary.LittleEndian.Uint64(b[11:]))
}
