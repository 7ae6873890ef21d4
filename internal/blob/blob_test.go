package blob_test

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"skerry/internal/blob"
	"skerry/internal/blob/blobtest"
)

func open(t testing.TB, dir string, o blob.Options) *blob.Files {
	t.Helper()
	s, err := blob.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) blob.Store { return open(t, t.TempDir(), blob.Options{}) })
}

// TestDamage changes and cuts a file at random places: reading tells, naming the file.
func TestDamage(t *testing.T) {
	for _, key := range [][]byte{nil, make([]byte, blob.KeySize)} {
		dir := t.TempDir()
		s := open(t, dir, blob.Options{})
		w, err := s.Create(t.Context(), blob.CreateOptions{Key: key})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, 200_000)); err != nil {
			t.Fatal(err)
		}
		ref, err := w.Commit()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "blobs", string(ref))
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		const salt = 8 + 32 // a plain blob has none to be damaged
		for i := range 60 {
			bad := append([]byte(nil), good...)
			switch at := salt + rand.IntN(len(bad)-salt); i % 3 {
			case 0:
				bad[at] ^= 1 << (i % 8)
			case 1:
				bad = bad[:at]
			case 2: // whole frames are gone
				bad = bad[:salt+(1+i%2)*(64<<10+16)]
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := s.Open(t.Context(), ref, blob.OpenOptions{Key: key})
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				r.Close()
			}
			if !errors.Is(err, blob.ErrDamaged) || !strings.Contains(err.Error(), string(ref)) {
				t.Fatalf("damage %d: %v", i, err)
			}
		}
	}
}

func TestCrashLeftovers(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, blob.Options{})
	w, err := s.Create(t.Context(), blob.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	open(t, dir, blob.Options{})
	left, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("%d files left in tmp, %v", len(left), err)
	}
}

func TestReserve(t *testing.T) {
	s := open(t, t.TempDir(), blob.Options{Reserve: 1 << 60})
	if _, err := s.Create(t.Context(), blob.CreateOptions{}); !errors.Is(err, blob.ErrNoSpace) {
		t.Errorf("create: %v", err)
	}
}

// TestFullDisk: what does not fit is told and leaves nothing behind.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounts a small tmpfs, which needs root")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(disk, 0); err != nil {
			t.Error(err)
		}
	}()
	s := open(t, disk, blob.Options{Reserve: -1})
	write := func(n int) error {
		w, err := s.Create(t.Context(), blob.CreateOptions{})
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := w.Write(make([]byte, n)); err != nil {
			return err
		}
		_, err = w.Commit()
		return err
	}
	for range 3 {
		if err := write(5 << 20); !errors.Is(err, blob.ErrNoSpace) {
			t.Errorf("5 MiB on 4 MiB: %v", err)
		}
		if err := write(3 << 20); err != nil {
			t.Errorf("3 MiB on 4 MiB: %v", err)
		}
		if err := s.Clear(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	chunk := make([]byte, 64<<10)
	for name, key := range map[string][]byte{"plain": nil, "encrypted": make([]byte, blob.KeySize)} {
		for size, n := range map[string]int{"64KiB": 1, "8MiB": 128} {
			b.Run(name+"/"+size, func(b *testing.B) {
				s := open(b, b.TempDir(), blob.Options{})
				b.SetBytes(int64(n * len(chunk)))
				for b.Loop() {
					w, err := s.Create(b.Context(), blob.CreateOptions{Key: key})
					if err != nil {
						b.Fatal(err)
					}
					for range n {
						if _, err := w.Write(chunk); err != nil {
							b.Fatal(err)
						}
					}
					if _, err := w.Commit(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkRead(b *testing.B) {
	for name, key := range map[string][]byte{"plain": nil, "encrypted": make([]byte, blob.KeySize)} {
		b.Run(name+"/8MiB", func(b *testing.B) {
			s := open(b, b.TempDir(), blob.Options{Relaxed: true})
			w, err := s.Create(b.Context(), blob.CreateOptions{Key: key})
			if err != nil {
				b.Fatal(err)
			}
			if _, err := w.Write(make([]byte, 8<<20)); err != nil {
				b.Fatal(err)
			}
			ref, err := w.Commit()
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(8 << 20)
			for b.Loop() {
				r, err := s.Open(b.Context(), ref, blob.OpenOptions{Key: key})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				r.Close()
			}
		})
	}
}
