// Package blobtest is the contract of a blob store: every driver passes Run.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"skerry/internal/blob"
)

// Run tests the stores that open makes, each of them empty.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	tests := []struct {
		name string
		test func(*testing.T, blob.Store)
	}{
		{"contents", testContents},
		{"keys", testKeys},
		{"same content", testSame},
		{"expect", testExpect},
		{"touch", testTouch},
		{"abort", testAbort},
		{"delete", testDelete},
		{"sweep", testSweep},
		{"many at once", testMany},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, open(t)) })
	}
}

var key = bytes.Repeat([]byte{7}, blob.KeySize)

// content returns n bytes that depend on seed.
func content(n int, seed uint64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	_, _ = r.Read(b)
	return b
}

func put(s blob.Store, b, key []byte) (blob.Ref, error) {
	w, err := s.Create(context.Background(), blob.CreateOptions{Key: key})
	if err != nil {
		return "", err
	}
	defer w.Abort()
	for step := 1; len(b) > 0; step = step*3 + 1 {
		n := min(step, len(b))
		if _, err := w.Write(b[:n]); err != nil {
			return "", err
		}
		b = b[n:]
	}
	return w.Commit()
}

func mustPut(t *testing.T, s blob.Store, b, key []byte) blob.Ref {
	t.Helper()
	ref, err := put(s, b, key)
	if err != nil {
		t.Fatal(err)
	}
	if !ref.Valid() {
		t.Fatalf("Ref %q", ref)
	}
	return ref
}

func testContents(t *testing.T, s blob.Store) {
	const frame = 64 << 10
	for _, n := range []int{0, 1, 1000, frame - 1, frame, frame + 1, 4*frame - 1, 4 * frame, 4*frame + 1, 1<<20 + 17} {
		for _, k := range [][]byte{nil, key} {
			t.Run(fmt.Sprintf("%d bytes, key %v", n, k != nil), func(t *testing.T) {
				b := content(n, uint64(n))
				ref := mustPut(t, s, b, k)
				if sum := sha256.Sum256(b); k == nil && string(ref) != hex.EncodeToString(sum[:]) {
					t.Error("the Ref of a plain blob is not its SHA-256")
				}
				check(t, s, ref, k, b)
			})
		}
	}
}

// check reads a blob in all the ways there are.
func check(t *testing.T, s blob.Store, ref blob.Ref, key, want []byte) {
	t.Helper()
	r, err := s.Open(t.Context(), ref, blob.OpenOptions{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Size() != int64(len(want)) {
		t.Fatalf("size %d, want %d", r.Size(), len(want))
	}
	var all bytes.Buffer
	if n, err := r.WriteTo(&all); err != nil || n != int64(len(want)) || !bytes.Equal(all.Bytes(), want) {
		t.Fatalf("WriteTo: %d bytes, %v", n, err)
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if len(want) <= 1000 {
		if err := iotest.TestReader(r, want); err != nil { // Read, Seek and ReadAt
			t.Fatal(err)
		}
	}
	for range 50 {
		off := rand.IntN(len(want) + 1)
		n := rand.IntN(len(want) - off + 1)
		p := make([]byte, n)
		if _, err := r.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, want[off:off+n]) {
			t.Fatalf("%d bytes at %d: %v", n, off, err)
		}
	}
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	rest := want
	for len(rest) > len(want)/2 { // short reads and long ones in turn
		p := rest[:min(1+rand.IntN(200)*rand.IntN(2000), len(rest))]
		got := make([]byte, len(p))
		if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, p) {
			t.Fatalf("%d bytes, %d before the end: %v", len(p), len(rest), err)
		}
		rest = rest[len(p):]
	}
	all.Reset()
	if _, err := r.WriteTo(&all); err != nil || !bytes.Equal(all.Bytes(), rest) {
		t.Fatalf("WriteTo of the last %d bytes: %d, %v", len(rest), all.Len(), err)
	}
}

func testKeys(t *testing.T, s blob.Store) {
	b := content(100_000, 1)
	sealed, plain := mustPut(t, s, b, key), mustPut(t, s, b, nil)
	if again := mustPut(t, s, b, key); again == sealed || plain == sealed {
		t.Error("encrypted blobs share a file")
	}
	for _, tt := range []struct {
		ref  blob.Ref
		key  []byte
		want error
	}{
		{sealed, nil, blob.ErrKey},
		{plain, key, blob.ErrKey},
		{sealed, key[:16], blob.ErrKey},
		{sealed, bytes.Repeat([]byte{8}, blob.KeySize), blob.ErrDamaged},
	} {
		r, err := s.Open(t.Context(), tt.ref, blob.OpenOptions{Key: tt.key})
		if err == nil {
			_, err = io.ReadAll(r)
			r.Close()
		}
		if !errors.Is(err, tt.want) {
			t.Errorf("key of %d bytes: %v, want %v", len(tt.key), err, tt.want)
		}
	}
	if _, err := s.Create(t.Context(), blob.CreateOptions{Key: []byte("short")}); !errors.Is(err, blob.ErrKey) {
		t.Errorf("short key: %v", err)
	}
	in := content(100, 2)
	box, err := blob.Seal(key, in)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := blob.Unseal(key, box); err != nil || !bytes.Equal(out, in) {
		t.Errorf("unseal: %v", err)
	}
	box[len(box)/2] ^= 1
	if _, err := blob.Unseal(key, box); !errors.Is(err, blob.ErrDamaged) {
		t.Errorf("unseal what is damaged: %v", err)
	}
}

func testSame(t *testing.T, s blob.Store) {
	b := content(5000, 3)
	if a, c := mustPut(t, s, b, nil), mustPut(t, s, b, nil); a != c || len(list(t, s)) != 1 {
		t.Error("equal contents are two blobs")
	}
}

func list(t *testing.T, s blob.Store) []blob.Ref {
	t.Helper()
	var refs []blob.Ref
	for info, err := range s.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		refs = append(refs, info.Ref)
	}
	slices.Sort(refs)
	return refs
}

func testExpect(t *testing.T, s blob.Store) {
	b := content(1000, 3)
	sum := sha256.Sum256(b)
	ref := blob.Ref(hex.EncodeToString(sum[:]))
	for _, c := range []struct {
		content []byte
		want    error
	}{{b[:999], blob.ErrMismatch}, {b, nil}} {
		w, err := s.Create(t.Context(), blob.CreateOptions{Expect: ref})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(c.content); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Commit(); !errors.Is(err, c.want) {
			t.Fatalf("%d bytes: %v, want %v", len(c.content), err, c.want)
		}
		if c.want != nil && len(list(t, s)) > 0 {
			t.Error("a blob of other content was kept")
		}
	}
	check(t, s, ref, nil, b)
}

func testTouch(t *testing.T, s blob.Store) {
	if ok, err := s.Touch(t.Context(), blob.Ref(fmt.Sprintf("%064d", 1))); ok || err != nil {
		t.Errorf("touch of nothing: %v, %v", ok, err)
	}
	ref := mustPut(t, s, content(10, 4), nil)
	later := time.Now()
	for time.Since(later) < 20*time.Millisecond { // the file system's clock ticks by milliseconds
		if ok, err := s.Touch(t.Context(), ref); !ok || err != nil {
			t.Fatalf("touch: %v, %v", ok, err)
		}
	}
	if gone, err := s.DeleteOlder(t.Context(), ref, later); gone || err != nil {
		t.Errorf("a blob touched since is deleted: %v, %v", gone, err)
	}
	if gone, err := s.DeleteOlder(t.Context(), ref, time.Now().Add(time.Hour)); !gone || err != nil {
		t.Errorf("the blob cannot be deleted: %v, %v", gone, err)
	}
}

func testAbort(t *testing.T, s blob.Store) {
	w, err := s.Create(t.Context(), blob.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content(300_000, 4)); err != nil {
		t.Fatal(err)
	}
	w.Abort()
	w.Abort()
	if _, err := w.Write([]byte("x")); !errors.Is(err, blob.ErrClosed) {
		t.Errorf("write after abort: %v", err)
	}
	if _, err := w.Commit(); !errors.Is(err, blob.ErrClosed) {
		t.Errorf("commit after abort: %v", err)
	}
	if got := list(t, s); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
	w, err = s.Create(t.Context(), blob.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := w.Commit()
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	check(t, s, ref, nil, nil)
}

func testDelete(t *testing.T, s blob.Store) {
	b := content(200_000, 5)
	ref := mustPut(t, s, b, nil)
	r, err := s.Open(t.Context(), ref, blob.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 2 {
		if err := s.Delete(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b) {
		t.Errorf("a reader that was open: %v", err)
	}
	for _, ref := range []blob.Ref{ref, "", "../tmp", "ABC"} {
		if _, err := s.Open(t.Context(), ref, blob.OpenOptions{}); !errors.Is(err, blob.ErrNotFound) {
			t.Errorf("open %q: %v", ref, err)
		}
	}
}

func testSweep(t *testing.T, s blob.Store) {
	used := map[blob.Ref]bool{}
	var want []blob.Ref
	for i := range 300 {
		ref := mustPut(t, s, content(10, uint64(i)), nil)
		if i%3 == 0 {
			used[ref] = true
			want = append(want, ref)
		}
	}
	slices.Sort(want)
	sweep := func(before time.Time) int {
		n, bytes, err := blob.Sweep(t.Context(), s, before, func(_ context.Context, refs []blob.Ref) (map[blob.Ref]bool, error) {
			return used, nil
		})
		if err != nil || bytes != int64(n)*10 {
			t.Errorf("sweep: %d blobs, %d bytes, %v", n, bytes, err)
		}
		return n
	}
	if n := sweep(time.Now().Add(-time.Hour)); n != 0 {
		t.Errorf("swept %d young ones", n)
	}
	if n := sweep(time.Now().Add(time.Hour)); n != 200 {
		t.Errorf("swept %d, want 200", n)
	}
	if got := list(t, s); !slices.Equal(got, want) {
		t.Errorf("%d blobs are left, want %d", len(got), len(want))
	}
}

func testMany(t *testing.T, s blob.Store) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 4 {
				b := content(70_000, uint64(i%8*4+j)) // half of them twice
				k := key
				if j%2 == 0 {
					k = nil
				}
				ref, err := put(s, b, k)
				if err != nil {
					t.Error(err)
					return
				}
				r, err := s.Open(context.Background(), ref, blob.OpenOptions{Key: k})
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b) {
					t.Errorf("read back: %v", err)
				}
				r.Close()
			}
		})
	}
	wg.Wait()
}
