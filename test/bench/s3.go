package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
)

// measureS3 measures small objects at many connections and large ones at a few.
func measureS3(ctx context.Context, b *bench) error {
	err := withServer(ctx, b, func(s *server) error { return objects(ctx, b, "", s.api()) })
	if err != nil || !b.peers {
		return err
	}
	return measurePeers(ctx, b)
}

// objects measures whoever speaks S3.
func objects(ctx context.Context, b *bench, who string, a *api) error {
	if who != "" {
		who += ": "
	}
	request := func(method, path string, body []byte) ([]byte, error) {
		r, err := http.NewRequestWithContext(ctx, method, a.endpoint+path, bytes.NewReader(body))
		if err != nil {
			return nil, err
		}
		return a.do(r, "s3", body)
	}
	if _, err := request(http.MethodPut, "/bench", nil); err != nil {
		return err
	}
	const keys = 512
	small, large := noise(1<<10), noise(8<<20)
	for _, c := range []struct {
		what    string
		clients int
		method  string
		prefix  string
		body    []byte
	}{
		{"PutObject, 1 KiB", 32, http.MethodPut, "small", small},
		{"GetObject, 1 KiB", 32, http.MethodGet, "small", small},
		{"PutObject, 8 MiB", 4, http.MethodPut, "large", large},
		{"GetObject, 8 MiB", 4, http.MethodGet, "large", large},
	} {
		n := keys
		if len(c.body) > 1<<20 {
			n = 4
		}
		if c.method == http.MethodGet { // all keys are there
			for i := range n {
				if _, err := request(http.MethodPut, fmt.Sprintf("/bench/%s-%d", c.prefix, i), c.body); err != nil {
					return err
				}
			}
		}
		took, rate, each, err := a.load(ctx, c.clients, b.span, func(client, turn int) error {
			var body []byte
			if c.method == http.MethodPut {
				body = c.body
			}
			got, err := request(c.method, fmt.Sprintf("/bench/%s-%d", c.prefix, (client*31+turn)%n), body)
			if err == nil && c.method == http.MethodGet && len(got) != len(c.body) {
				err = fmt.Errorf("%d bytes of %d", len(got), len(c.body))
			}
			return err
		})
		if err != nil {
			return err
		}
		figure := fmt.Sprintf("%.0f a second", rate)
		if len(c.body) > 1<<20 {
			figure = fmt.Sprintf("%.0f MB/s", rate*float64(len(c.body))/1e6)
		}
		b.table.add(fmt.Sprintf("%s%s, %d connections", who, c.what, c.clients), "", "%s; p50 %s, p99 %s; %s", figure, ms(took.at(0.5)), ms(took.at(0.99)), each)
	}
	return nil
}

// noise returns bytes that do not shrink when compressed.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b) // never fails, by its contract
	return b
}
