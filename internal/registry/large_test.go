package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"testing"
)

// repeating is a content of n bytes that takes no memory.
type repeating struct {
	block  []byte
	pos, n int64
}

// Read implements io.Reader.
func (r *repeating) Read(p []byte) (int, error) {
	if r.pos == r.n {
		return 0, io.EOF
	}
	part := r.block[r.pos%int64(len(r.block)):]
	n := copy(p[:min(int64(len(p)), r.n-r.pos)], part)
	r.pos += int64(n)
	return n, nil
}

// TestLargeLayerTakesLittleMemory pushes and pulls a large layer in one stream,
// and one in chunks that are joined. What is allocated in all, both ends of the
// connection together, stays far below the size.
func TestLargeLayerTakesLittleMemory(t *testing.T) {
	const most = 32 << 20
	c := newClient(t)
	c.repo("a")
	block := make([]byte, 1<<20-7)
	for i := range block {
		block[i] = byte(i * i >> 3)
	}
	digestOf := func(size int64) string {
		sum := sha256.New()
		if _, err := io.Copy(sum, &repeating{block: block, n: size}); err != nil {
			t.Fatal(err)
		}
		return "sha256:" + hex.EncodeToString(sum.Sum(nil))
	}
	bounded := func(what string, f func()) {
		t.Helper()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > most {
			t.Errorf("%s allocates %d MiB", what, n>>20)
		}
	}
	const large, chunked = 192 << 20, 96 << 20
	digest, joined := digestOf(large), digestOf(chunked)
	bounded("a push", func() {
		l := c.ask("PATCH", c.start("a"), &repeating{block: block, n: large}).is(202).location()
		c.ask("PUT", with(l, "digest="+digest), nil).is(201)
	})
	bounded("a push in chunks", func() {
		l := c.start("a")
		for i := range int64(4) {
			from, to := i*chunked/4, (i+1)*chunked/4
			l = c.ask("PATCH", l, &repeating{block: block, pos: from, n: to}, "Content-Range", fmt.Sprintf("%d-%d", from, to-1)).is(202).location()
		}
		c.ask("PUT", with(l, "digest="+joined), nil).is(201)
	})
	bounded("a pull", func() {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.server.URL+"/v2/a/blobs/"+digest, nil)
		c.must(err)
		r.SetBasicAuth("AWS", c.password)
		resp, err := c.server.Client().Do(r)
		c.must(err)
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != large {
			t.Error(n, err)
		}
	})
}
