//go:build linux

package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"
	"time"

	"skerry/internal/engine"
)

func frame(at int64, data string) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(at))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(data)))
	return append(binary.LittleEndian.AppendUint32(b, 1), data...)
}

func write(t testing.TB, dir string, at int64, content []byte) {
	t.Helper()
	if err := os.WriteFile(Path(dir, at), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, dir string, from, to int64) (texts []string, end int64) {
	t.Helper()
	end, err := Read(dir, from, to, func(f engine.Frame) error {
		texts = append(texts, string(f.Data))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts, end
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	one, two := append(frame(1, "a"), frame(2, "bb")...), frame(3, "ccc")
	write(t, dir, 0, one)
	write(t, dir, int64(len(one)), append(bytes.Clone(two), "half a frame"...))
	all := int64(len(one) + len(two))
	if texts, end := read(t, dir, 0, 1<<40); len(texts) != 3 || end != all {
		t.Errorf("all: %q, %d", texts, end)
	}
	if texts, end := read(t, dir, Head+1, all); len(texts) != 2 || end != all {
		t.Errorf("from the second: %q, %d", texts, end)
	}
	if texts, end := read(t, dir, 0, Head+1); len(texts) != 1 || end != Head+1 {
		t.Errorf("to the second: %q, %d", texts, end)
	}
	if end, err := End(dir); err != nil || end != all {
		t.Errorf("end %d, %v, want %d", end, err, all)
	}
	if err := os.Remove(Path(dir, 0)); err != nil {
		t.Fatal(err)
	}
	if texts, end := read(t, dir, 0, all); len(texts) != 1 || end != all {
		t.Errorf("after the first was dropped: %q, %d", texts, end)
	}
	boom := errors.New("boom")
	if _, err := Read(dir, 0, all, func(engine.Frame) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("error %v", err)
	}
	if texts, end := read(t, dir+"/none", 5, 9); texts != nil || end != 5 {
		t.Errorf("no log: %q, %d", texts, end)
	}
	var at time.Time
	_, _ = Read(dir, 0, all, func(f engine.Frame) error { at = f.Time; return nil })
	if !at.Equal(time.Unix(0, 3)) {
		t.Errorf("time %v", at)
	}
}

// Whatever a disk makes of a segment, reading it ends, within it.
func FuzzRead(f *testing.F) {
	f.Add(frame(1, "hello"))
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\x01\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		dir := t.TempDir()
		write(t, dir, 0, content)
		end, _ := Read(dir, 0, 1<<40, func(engine.Frame) error { return nil })
		if end < 0 || end > int64(len(content)) {
			t.Errorf("read to %d of %d", end, len(content))
		}
	})
}
