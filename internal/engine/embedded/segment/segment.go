//go:build linux

// Package segment is the form of a container's log on disk: files of frames,
// each named by the place in the log at which it begins. The supervisor
// appends, main reads.
//
//	frame: time (ns, 8 bytes) | length (4) | stream (4) | data, little endian
package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"skerry/internal/engine"
)

// Head is the length of a frame's head in bytes.
const Head = 16

// Path is the file of the segment that begins there.
func Path(dir string, at int64) string { return filepath.Join(dir, fmt.Sprintf("%016x", at)) }

// List returns where the segments of a log begin, in order. No folder is an
// empty log.
func List(dir string) ([]int64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("segment: %w", err)
	}
	var all []int64
	for _, e := range entries {
		if at, err := strconv.ParseInt(e.Name(), 16, 64); err == nil && len(e.Name()) == 16 {
			all = append(all, at)
		}
	}
	slices.Sort(all)
	return all, nil
}

// End returns where a log ends: behind the last whole frame of its last segment.
func End(dir string) (int64, error) {
	all, err := List(dir)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	last := all[len(all)-1]
	end := last
	err = readFile(Path(dir, last), last, last, 1<<62, func(f engine.Frame) error { end = int64(f.Next); return nil })
	return end, err
}

// Read gives the frames from one place to another, and returns the place that
// it has come to. What is no longer kept is passed over.
func Read(dir string, from, to int64, fn func(engine.Frame) error) (int64, error) {
	if from >= to {
		return from, nil
	}
	all, err := List(dir)
	if err != nil {
		return from, err
	}
	for i, at := range all {
		if i+1 < len(all) && all[i+1] <= from {
			continue
		}
		if at >= to || from >= to {
			break
		}
		if from < at {
			from = at
		}
		err := readFile(Path(dir, at), at, from, to, func(f engine.Frame) error {
			from = int64(f.Next)
			return fn(f)
		})
		if errors.Is(err, os.ErrNotExist) {
			continue // dropped meanwhile
		}
		if err != nil {
			return from, err
		}
	}
	return from, nil
}

func readFile(path string, start, from, to int64, fn func(engine.Frame) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("segment: %w", err)
	}
	defer f.Close()
	var head [Head]byte
	var data []byte
	for from < to {
		if _, err := f.ReadAt(head[:], from-start); err != nil {
			return ignoreEnd(err)
		}
		n := int(binary.LittleEndian.Uint32(head[8:]))
		if n > 1<<20 {
			return fmt.Errorf("segment: %s: damaged at %d", path, from-start)
		}
		if cap(data) < n {
			data = make([]byte, n)
		}
		if _, err := f.ReadAt(data[:n], from-start+Head); err != nil {
			return ignoreEnd(err)
		}
		from += int64(Head + n)
		frame := engine.Frame{Time: time.Unix(0, int64(binary.LittleEndian.Uint64(head[:]))),
			Stream: engine.Stream(binary.LittleEndian.Uint32(head[12:])), Data: data[:n], Next: engine.Cursor(from)}
		if err := fn(frame); err != nil {
			return err
		}
	}
	return nil
}

func ignoreEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return fmt.Errorf("segment: %w", err)
}
