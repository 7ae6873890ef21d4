package s3

import (
	"bytes"
	"fmt"
	"io"
	"sync/atomic"
	"testing"

	"skerry/internal/api/s3"
	"skerry/internal/wire"
)

// Through the handlers, without the network: what the service itself costs.
func BenchmarkObjects(b *testing.B) {
	for _, size := range []int{1 << 10, 8 << 20} {
		body := noise(size, 1)
		var turn atomic.Int64
		b.Run(fmt.Sprintf("put/%d", size), func(b *testing.B) {
			h := newHarness(b)
			h.make("bucket", false)
			b.SetBytes(int64(size))
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key := fmt.Sprint(turn.Add(1) % 512)
					in := &s3.PutObjectInput{Bucket: wire.Ptr("bucket"), Key: &key, Body: bytes.NewReader(body), ContentLength: wire.Ptr(int64(size))}
					if _, err := h.invoke(b.Context(), h.root, "PutObject", in); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
		b.Run(fmt.Sprintf("get/%d", size), func(b *testing.B) {
			h := newHarness(b)
			h.make("bucket", false)
			h.put("bucket", "k", string(body))
			b.SetBytes(int64(size))
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					out, err := h.invoke(b.Context(), h.root, "GetObject", getObject("bucket", "k"))
					if err != nil {
						b.Error(err)
						return
					}
					got := out.(*s3.GetObjectOutput)
					if _, err := io.Copy(io.Discard, got.Body); err != nil {
						b.Error(err)
					}
					got.Body.Close()
				}
			})
		})
	}
}
