package registry

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/http"
	"testing"
)

// BenchmarkPull pulls a layer of 32 MiB over loopback, from the page cache.
func BenchmarkPull(b *testing.B) {
	c := newClient(b)
	c.repo("a")
	content := make([]byte, 32<<20)
	d := c.push("a", content).Digest
	b.SetBytes(int64(len(content)))
	for b.Loop() {
		r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, c.server.URL+"/v2/a/blobs/"+d, nil)
		c.must(err)
		r.SetBasicAuth("AWS", c.password)
		resp, err := c.server.Client().Do(r)
		c.must(err)
		_, err = io.Copy(io.Discard, resp.Body)
		c.must(err)
		resp.Body.Close()
	}
}

// BenchmarkPush pushes layers of 32 MiB over loopback, as the docker client does:
// POST, one PATCH, PUT. The disk is not waited for.
func BenchmarkPush(b *testing.B) {
	c := newClient(b)
	c.repo("a")
	content := make([]byte, 32<<20)
	b.SetBytes(int64(len(content)))
	n := uint64(0)
	for b.Loop() {
		b.StopTimer()
		n++
		binary.LittleEndian.PutUint64(content, n)
		digest := Digest(content)
		b.StartTimer()
		l := c.ask("PATCH", c.start("a"), bytes.NewReader(content)).is(202).location()
		c.ask("PUT", with(l, "digest="+digest), nil).is(201)
	}
}
