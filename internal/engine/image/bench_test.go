package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"skerry/internal/base/gunzip"
	"skerry/internal/engine"
	"skerry/internal/engine/image"
)

// benchSize is the size of the image in MB; SKERRY_BENCH_MB sets another.
const benchSize = 1024

// synthetic builds layers of programs, text and small files, as images have them:
// gzip makes a third of it.
func synthetic(tb testing.TB, layers, mb int) (packed [][]byte, diffs []string) {
	tb.Helper()
	packed, diffs = make([][]byte, layers), make([]string, layers)
	var wg sync.WaitGroup
	for l := range layers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(l)))
			words := make([][]byte, 4096)
			for i := range words {
				words[i] = make([]byte, 3+r.IntN(12))
				for j := range words[i] {
					words[i][j] = byte('a' + r.IntN(26))
				}
			}
			var out, plain bytes.Buffer
			z := gzip.NewWriter(&out)
			w := tar.NewWriter(io.MultiWriter(z, &plain))
			for left, n := mb<<20/layers, 0; left > 0; n++ {
				size := []int{500, 2000, 8000, 40_000, 300_000, 4_000_000}[r.IntN(6)]
				content := make([]byte, 0, size+64)
				for len(content) < size {
					if r.IntN(8) == 0 { // what does not compress
						for range 8 {
							content = append(content, byte(r.Uint32()), byte(r.Uint32()))
						}
					}
					content = append(append(content, words[r.IntN(len(words))]...), ' ')
				}
				if n%50 == 0 {
					_ = w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("usr/lib/%d-%d", l, n/50), Mode: 0o755})
				}
				_ = w.WriteHeader(&tar.Header{Name: fmt.Sprintf("usr/lib/%d-%d/file%d", l, n/50, n), Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1e9, 0)})
				_, _ = w.Write(content)
				left -= len(content)
			}
			_ = w.Close()
			_ = z.Close()
			packed[l], diffs[l] = out.Bytes(), digest(plain.Bytes())
		})
	}
	wg.Wait()
	return packed, diffs
}

// processorTime is what this process has used so far: a measure that other
// processes disturb less than the time that has gone by.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sink is io.Discard without its buffer.
type sink struct{}

func (sink) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkImage compares the pull and unpacking of an image of 4 layers from a
// registry on loopback with what it can't do without: gunzip of the same bytes by
// the standard library and by ours, one layer after the other and all at once, and
// the same with the two digests of each layer.
//
//	go test -run xxx -bench Image -benchtime 3x ./internal/engine/image
//
// TMPDIR chooses the disk.
func BenchmarkImage(b *testing.B) {
	mb := benchSize
	if n, err := strconv.Atoi(os.Getenv("SKERRY_BENCH_MB")); err == nil {
		mb = n
	}
	packed, diffs := synthetic(b, 4, mb)
	total := 0
	for _, p := range packed {
		total += len(p)
	}
	b.Logf("%d MB, %d MB by gzip", mb, total>>20)
	run := func(name string, fn func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(mb) << 20)
			before := processorTime(b)
			for b.Loop() {
				fn(b)
			}
			b.ReportMetric((processorTime(b)-before).Seconds()/float64(b.N), "cpu-s/op")
		})
	}
	drain := func(w io.Writer, r io.Reader) {
		if _, err := io.CopyBuffer(w, r, make([]byte, 256<<10)); err != nil {
			b.Error(err)
		}
	}
	standard := func(p []byte) {
		z, err := gzip.NewReader(bytes.NewReader(p))
		if err != nil {
			b.Error(err)
			return
		}
		drain(sink{}, z)
	}
	own := func(p []byte) { drain(sink{}, gunzip.NewReader(bytes.NewReader(p))) }
	digests := func(p []byte) {
		sha256.Sum256(p)
		drain(sha256.New(), gunzip.NewReader(bytes.NewReader(p)))
	}
	for _, c := range []struct {
		name string
		do   func(p []byte)
	}{{"standard gunzip", standard}, {"gunzip", own}, {"gunzip and digests", digests}} {
		run(c.name+"/in turn", func(*testing.B) {
			for _, p := range packed {
				c.do(p)
			}
		})
		run(c.name+"/at once", func(*testing.B) {
			var wg sync.WaitGroup
			for _, p := range packed {
				wg.Go(func() { c.do(p) })
			}
			wg.Wait()
		})
	}
	r := newRegistry(b)
	var layers []any
	for _, p := range packed {
		layers = append(layers, map[string]any{"mediaType": docker.layer, "size": len(p), "digest": r.addBlob("app", p)})
	}
	conf := encode(map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"diff_ids": diffs}})
	r.addManifest("app", "latest", docker.manifest, encode(map[string]any{
		"schemaVersion": 2, "layers": layers, "config": map[string]any{"size": len(conf), "digest": r.addBlob("app", conf)},
	}))
	for name, relaxed := range map[string]bool{"pull": false, "pull/relaxed": true} {
		run(name, func(b *testing.B) {
			b.StopTimer()
			s := reopenRoot(b, func(c *image.Config) { c.Relaxed = relaxed })
			b.StartTimer()
			if _, err := s.Pull(b.Context(), r.name("app"), engine.PullOptions{}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := os.RemoveAll(s.dir); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		})
	}
}
