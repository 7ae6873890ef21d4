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

// checkLogs looks for damage in each log. Pebble finds most of it, but takes some, such
// as a damaged length or kind, for the place where a crash has cut the log, and
// drops what comes after without a word. A chunk further on that says the place
// was synced proves otherwise.
func checkLogs(fs vfs.FS, dir string) error {
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
		if at, err := damage(fs, path, uint32(number)); err != nil {
			return err
		} else if at >= 0 {
			return fmt.Errorf("%w: file %s at byte %d", kv.ErrDamaged, path, at)
		}
	}
	return nil
}

// damage returns the offset of the first damage in a log, or -1. A log may be
// followed by what is left of an older one, whose chunks have its number.
func damage(fs vfs.FS, path string, number uint32) (int64, error) {
	f, err := fs.Open(path)
	if err != nil {
		return -1, err
	}
	defer f.Close()
	bad := int64(-1) // where the first chunk fails
	block := make([]byte, blockSize)
	for at := int64(0); ; at += blockSize {
		n, err := f.ReadAt(block, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return -1, err
		}
		for i := 0; i < n; {
			size, synced := chunk(block[i:n], number)
			switch {
			case size == 0 && n-i < headerSize: // too short for a chunk
				i = n
			case size == 0 && bad < 0:
				bad = at + int64(i)
				i++
			case size == 0:
				i++
			case bad >= 0 && synced > bad:
				return bad, nil
			default:
				i += size
			}
		}
		if n < blockSize {
			return -1, nil
		}
	}
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
