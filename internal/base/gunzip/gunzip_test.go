package gunzip_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"skerry/internal/base/gunzip"
)

// text is what compresses as programs and texts do.
func text(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	words := make([][]byte, 4096)
	for i := range words {
		words[i] = make([]byte, 3+r.IntN(12))
		for j := range words[i] {
			words[i][j] = byte('a' + r.IntN(26))
		}
	}
	var out []byte
	for len(out) < n {
		if r.IntN(8) == 0 {
			for range 8 {
				out = append(out, byte(r.Uint32()), byte(r.Uint32()))
			}
		}
		out = append(append(out, words[r.IntN(len(words))]...), ' ')
	}
	return out[:n]
}

func noise(n int) []byte {
	r := rand.NewChaCha8([32]byte{1})
	out := make([]byte, n)
	_, _ = r.Read(out)
	return out
}

func pack(tb testing.TB, level int, content []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, level)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func unpack(packed []byte) ([]byte, error) {
	return io.ReadAll(gunzip.NewReader(bytes.NewReader(packed)))
}

func TestContent(t *testing.T) {
	contents := map[string][]byte{
		"nothing": nil, "a byte": {7}, "text": text(400_000), "noise": noise(300_000), "zeros": make([]byte, 400_000),
		"twos": bytes.Repeat([]byte("ab"), 100_000), "threes": bytes.Repeat([]byte("abc"), 100_000), "sevens": bytes.Repeat([]byte("abcdefg"), 100_000),
		"far": bytes.Repeat(noise(32<<10), 8), "both": append(noise(70_000), text(70_000)...),
	}
	for name, want := range contents {
		for _, level := range []int{flate.NoCompression, flate.BestSpeed, flate.DefaultCompression, flate.BestCompression, flate.HuffmanOnly} {
			packed := pack(t, level, want)
			got, err := unpack(packed)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s by level %d: %d bytes of %d, %v", name, level, len(got), len(want), err)
			}
			got, err = io.ReadAll(iotest.HalfReader(gunzip.NewReader(iotest.DataErrReader(iotest.HalfReader(bytes.NewReader(packed))))))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s by level %d, in small reads: %d bytes of %d, %v", name, level, len(got), len(want), err)
			}
		}
	}
}

func TestOneByteAtATime(t *testing.T) {
	want := text(50_000)
	got, err := io.ReadAll(gunzip.NewReader(iotest.OneByteReader(bytes.NewReader(pack(t, 6, want)))))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

// TestMembers reads members with all that a header can have.
func TestMembers(t *testing.T) {
	var b bytes.Buffer
	var want []byte
	for i := range 5 {
		w := gzip.NewWriter(&b)
		w.Name, w.Comment, w.Extra, w.ModTime = fmt.Sprint("file", i), strings.Repeat("c", i), make([]byte, i*100), time.Unix(1e9, 0)
		part := text(i * 40_000)
		_, _ = w.Write(part)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		want = append(want, part...)
	}
	got, err := unpack(b.Bytes())
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(want), err)
	}
}

// TestTruncated ends a stream at each of its bytes.
func TestTruncated(t *testing.T) {
	for _, level := range []int{flate.NoCompression, flate.DefaultCompression, flate.HuffmanOnly} {
		packed := pack(t, level, text(200))
		for n := range packed {
			if got, err := unpack(packed[:n]); err != io.ErrUnexpectedEOF {
				t.Fatalf("%d of %d bytes by level %d: %d bytes, %v", n, len(packed), level, len(got), err)
			}
		}
	}
}

// TestDamaged changes each bit of a stream; what the standard library makes of it
// is right.
func TestDamaged(t *testing.T) {
	packed := pack(t, flate.DefaultCompression, text(150))
	for bit := range len(packed) * 8 {
		packed[bit/8] ^= 1 << (bit % 8)
		compare(t, packed)
		packed[bit/8] ^= 1 << (bit % 8)
	}
}

func TestErrors(t *testing.T) {
	good := pack(t, flate.DefaultCompression, text(1000))
	broken := errors.New("broken")
	wrongSum, wrongSize := bytes.Clone(good), bytes.Clone(good)
	wrongSum[len(good)-8]++
	wrongSize[len(good)-4]++
	for name, c := range map[string]struct {
		in   io.Reader
		want error
	}{
		"no gzip":      {strings.NewReader("this is not compressed at all"), gunzip.ErrHeader},
		"what follows": {bytes.NewReader(append(bytes.Clone(good), "and some more text"...)), gunzip.ErrHeader},
		"sum":          {bytes.NewReader(wrongSum), gunzip.ErrChecksum},
		"size":         {bytes.NewReader(wrongSize), gunzip.ErrChecksum},
		"block":        {bytes.NewReader(append(bytes.Clone(good[:10]), 7, 0, 0, 0, 0, 0)), gunzip.ErrCorrupt},
		"source":       {io.MultiReader(bytes.NewReader(good[:100]), iotest.ErrReader(broken)), broken},
	} {
		z := gunzip.NewReader(c.in)
		if _, err := io.Copy(io.Discard, z); err != c.want {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := z.Read(make([]byte, 1)); err != c.want {
			t.Errorf("%s, read again: %v", name, err)
		}
	}
}

// compare holds a stream against the standard library.
func compare(t *testing.T, packed []byte) {
	t.Helper()
	got, err := unpack(packed)
	var want []byte
	z, fault := gzip.NewReader(bytes.NewReader(packed))
	if fault == nil {
		want, fault = io.ReadAll(io.LimitReader(z, 64<<20))
	}
	if (err == nil) != (fault == nil) || fault == nil && !bytes.Equal(got, want) {
		t.Fatalf("%x: %d bytes, %v; the standard library: %d bytes, %v", packed[:min(len(packed), 200)], len(got), err, len(want), fault)
	}
}

func FuzzReader(f *testing.F) {
	for _, level := range []int{flate.NoCompression, flate.BestSpeed, flate.DefaultCompression, flate.HuffmanOnly} {
		f.Add(pack(f, level, text(400)))
		f.Add(pack(f, level, noise(100)))
	}
	f.Add(pack(f, flate.DefaultCompression, make([]byte, 1000)))
	f.Fuzz(func(t *testing.T, packed []byte) {
		if len(packed) > 32<<10 {
			return
		}
		compare(t, packed)
		// The sum of what was damaged is never right: the compressed data alone, too,
		// with the sum that it has by the standard library.
		in := bytes.NewReader(packed)
		want, err := io.ReadAll(flate.NewReader(in))
		got, fault := unpack(member(packed[:len(packed)-in.Len()], want))
		if (err == nil) != (fault == nil) || err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%x: %d bytes, %v; the standard library: %d bytes, %v", packed, len(got), fault, len(want), err)
		}
	})
}

// member makes a gzip stream of compressed data.
func member(packed, content []byte) []byte {
	out := append([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}, packed...)
	out = binary.LittleEndian.AppendUint32(out, crc32.ChecksumIEEE(content))
	return binary.LittleEndian.AppendUint32(out, uint32(len(content)))
}

// BenchmarkRead compares with the standard library.
func BenchmarkRead(b *testing.B) {
	content := text(16 << 20)
	packed := pack(b, flate.DefaultCompression, content)
	for _, c := range []struct {
		name string
		open func(r io.Reader) (io.Reader, error)
	}{
		{"own", func(r io.Reader) (io.Reader, error) { return gunzip.NewReader(r), nil }},
		{"standard", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				z, err := c.open(bytes.NewReader(packed))
				if err == nil {
					_, err = io.Copy(io.Discard, z)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
