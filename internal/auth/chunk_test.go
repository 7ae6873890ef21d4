package auth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"skerry/internal/auth"
)

func hexSHA(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// upload makes a chunk-signed upload with a trailer as the page "Signature
// calculations: including trailing headers" says, by version 4 or 4A.
func upload(c auth.Credential, algorithm string, chunks []string, trailer string) (*http.Request, string) {
	region, scope := "us-east-1", "20260807/us-east-1/s3/aws4_request"
	if strings.Contains(algorithm, "ECDSA") {
		region, scope = "", "20260807/s3/aws4_request"
	}
	length := 0
	for _, chunk := range chunks {
		length += len(chunk)
	}
	r, err := http.NewRequest("PUT", "http://localhost/b/k", nil)
	if err != nil {
		panic(err)
	}
	headers := [][2]string{
		{"host", "localhost"}, {"x-amz-content-sha256", "STREAMING-" + algorithm + "-PAYLOAD-TRAILER"}, {"x-amz-date", "20260807T120000Z"},
		{"x-amz-decoded-content-length", fmt.Sprint(length)}, {"x-amz-region-set", "*"}, {"x-amz-trailer", "x-amz-checksum-crc32"},
	}
	canonical, names := "PUT\n/b/k\n\n", []string{}
	for _, h := range headers {
		canonical += h[0] + ":" + h[1] + "\n"
		names = append(names, h[0])
		if h[0] != "host" {
			r.Header.Set(h[0], h[1])
		}
	}
	canonical += "\n" + strings.Join(names, ";") + "\n" + headers[1][1]
	seal := func(suffix string, lines ...string) string {
		text := strings.Join(append([]string{algorithm + suffix, "20260807T120000Z", scope}, lines...), "\n")
		return auth.SignForTest(c, "20260807", region, "s3", text)
	}
	last := seal("", hexSHA(canonical))
	r.Header.Set("Authorization", algorithm+" Credential="+c.AccessKey+"/"+scope+", SignedHeaders="+strings.Join(names, ";")+", Signature="+last)
	var body strings.Builder
	for _, chunk := range append(chunks, "") {
		last = seal("-PAYLOAD", last, hexSHA(""), hexSHA(chunk))
		padded := last
		if region == "" {
			padded += strings.Repeat("*", 144-len(last))
		}
		fmt.Fprintf(&body, "%x;chunk-signature=%s\r\n%s", len(chunk), padded, chunk)
		if chunk != "" {
			body.WriteString("\r\n")
		}
	}
	line := "x-amz-checksum-crc32:" + trailer
	fmt.Fprintf(&body, "%s\r\nx-amz-trailer-signature:%s\r\n\r\n", line, seal("-TRAILER", last, hexSHA(line+"\n")))
	return arrive(r), body.String()
}

func TestSignedTrailers(t *testing.T) {
	dir, _, v := world()
	chunks := []string{strings.Repeat("a", 8192), strings.Repeat("b", 9000), "end"}
	for _, algorithm := range []string{"AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"} {
		for name, tt := range map[string]struct {
			change [2]string
			code   string
		}{
			"good":             {[2]string{}, ""},
			"changed chunk":    {[2]string{"end", "enb"}, "SignatureDoesNotMatch"},
			"changed trailer":  {[2]string{"crc32:sum", "crc32:sun"}, "SignatureDoesNotMatch"},
			"another trailer":  {[2]string{"checksum-crc32:", "checksum-sha1:"}, "MalformedTrailerError"},
			"no trailer":       {[2]string{"x-amz-checksum-crc32:sum\r\n", ""}, "MalformedTrailerError"},
			"no signature":     {[2]string{"x-amz-trailer-signature:", "x-amz-checksum-crc32:"}, "SignatureDoesNotMatch"},
			"no frames at all": {[2]string{"chunk-signature", "chunk"}, "IncompleteBody"},
		} {
			t.Run(algorithm+" "+name, func(t *testing.T) {
				r, body := upload(dir[annKey], algorithm, chunks, "sum")
				if tt.change[0] != "" {
					body = strings.Replace(body, tt.change[0], tt.change[1], 1)
				}
				r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				got, err := v.Verify(r, auth.Options{Family: auth.S3})
				if err != nil {
					t.Fatal(err)
				}
				content, err := io.ReadAll(got.Body)
				checkCode(t, name, err, tt.code, 0)
				if sum, _ := got.Body.Trailer("x-amz-checksum-crc32"); err == nil && (string(content) != strings.Join(chunks, "") || sum != "sum") {
					t.Errorf("%d bytes, trailer %q", len(content), sum)
				}
			})
		}
	}
}

func TestSmallChunks(t *testing.T) {
	dir, _, v := world()
	r, body := upload(dir[annKey], "AWS4-HMAC-SHA256", []string{"small", "small"}, "sum")
	r.Body = io.NopCloser(strings.NewReader(body))
	got, err := v.Verify(r, auth.Options{Family: auth.S3})
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadAll(got.Body)
	checkCode(t, "", err, "InvalidChunkSizeError", 403)
}

func BenchmarkChunkedBody(b *testing.B) {
	dir, _, v := world()
	chunks := make([]string, 16)
	for i := range chunks {
		chunks[i] = strings.Repeat("x", 64<<10)
	}
	r, body := upload(dir[annKey], "AWS4-HMAC-SHA256", chunks, "sum")
	b.SetBytes(1 << 20)
	for b.Loop() {
		r.Body = io.NopCloser(strings.NewReader(body))
		got, err := v.Verify(r, auth.Options{Family: auth.S3})
		if err == nil {
			_, err = io.Copy(io.Discard, got.Body)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
