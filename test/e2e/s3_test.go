package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

func TestS3WithBoto3(t *testing.T) {
	s := start(t)
	script, err := os.ReadFile("testdata/s3.py")
	if err != nil {
		t.Fatal(err)
	}
	s.python(string(script), s.Endpoint)
}

// The Go SDK computes what boto3 needs further libraries for.
func TestS3ChecksumsWithGoSDK(t *testing.T) {
	s := start(t)
	c, ctx := s.s3(1), t.Context()
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("sums")}); err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("skerry"), 20_000)
	for _, alg := range []s3types.ChecksumAlgorithm{s3types.ChecksumAlgorithmCrc32, s3types.ChecksumAlgorithmCrc32c,
		s3types.ChecksumAlgorithmCrc64nvme, s3types.ChecksumAlgorithmSha1, s3types.ChecksumAlgorithmSha256} {
		key := aws.String(string(alg))
		if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("sums"), Key: key, Body: bytes.NewReader(body), ChecksumAlgorithm: alg}); err != nil {
			t.Errorf("put %s: %v", alg, err)
			continue
		}
		// The client compares what it reads with the checksum that the server tells.
		out, err := c.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String("sums"), Key: key, ChecksumMode: s3types.ChecksumModeEnabled})
		if err != nil {
			t.Errorf("get %s: %v", alg, err)
			continue
		}
		got, err := io.ReadAll(out.Body)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("get %s: %d bytes, %v", alg, len(got), err)
		}
	}
	for name, in := range map[string]*s3.PutObjectInput{
		"PreconditionFailed": {Key: aws.String("SHA1"), IfNoneMatch: aws.String("*")},
		"NoSuchKey":          {Key: aws.String("new"), IfMatch: aws.String("x")},
		"BadDigest":          {Key: aws.String("new"), ChecksumCRC32: aws.String("AAAAAA==")},
	} {
		in.Bucket, in.Body = aws.String("sums"), bytes.NewReader(body)
		_, err := c.PutObject(ctx, in)
		if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != name {
			t.Errorf("put answers %v, want %s", err, name)
		}
	}
}

func TestS3WithCLI(t *testing.T) {
	s := start(t)
	dir := t.TempDir()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<20) // 16 MiB: in parts
	for name, body := range map[string][]byte{"big": want, "a b.txt": []byte("small"), "sub/c": []byte("deep")} {
		path := filepath.Join(dir, "src", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, body, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	s.aws("s3", "mb", "s3://cli")
	s.aws("s3", "sync", filepath.Join(dir, "src"), "s3://cli/x")
	if out := s.aws("s3", "ls", "s3://cli/x/"); !strings.Contains(out, "PRE sub/") || !strings.Contains(out, "a b.txt") {
		t.Errorf("ls prints %s", out)
	}
	s.aws("s3", "cp", "s3://cli/x/big", "s3://cli/y/big")
	s.aws("s3", "mv", "s3://cli/y/big", filepath.Join(dir, "back"))
	got, err := os.ReadFile(filepath.Join(dir, "back"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back: %v", len(got), err)
	}
	if _, e, err := s.tryAWS("s3", "rb", "s3://cli"); err == nil || !strings.Contains(e, "BucketNotEmpty") {
		t.Errorf("rb says %s", e)
	}
	s.aws("s3", "rb", "s3://cli", "--force")
}

// pattern is a body of any length that takes no memory.
type pattern struct{ left int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := int(min(int64(len(b)), p.left))
	for i := range b[:n] {
		b[i] = byte((p.left - int64(i)) * 7)
	}
	p.left -= int64(n)
	return n, nil
}

// A large object streams both ways: neither its length nor the number of its
// readers shows in the server's memory. SKERRY_E2E_LARGE gives the size in MiB; with
// 5120 it is the largest single put.
func TestS3LargeObjectTakesNoMemory(t *testing.T) {
	s := start(t)
	c, ctx := s.s3(1), t.Context()
	if _, err := c.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String("large")}); err != nil {
		t.Fatal(err)
	}
	size := int64(384 << 20)
	if mib, err := strconv.ParseInt(os.Getenv("SKERRY_E2E_LARGE"), 10, 64); err == nil {
		size = mib << 20
	}
	if _, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("large"), Key: aws.String("small"), Body: strings.NewReader("warm")}); err != nil {
		t.Fatal(err)
	}
	before := s.peak()
	_, err := c.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String("large"), Key: aws.String("k"), Body: &pattern{size}, ContentLength: &size},
		s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware), func(o *s3.Options) { o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired })
	if err != nil {
		t.Fatal(err)
	}
	want := sum(t, &pattern{size})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			out, err := c.GetObject(context.WithoutCancel(ctx), &s3.GetObjectInput{Bucket: aws.String("large"), Key: aws.String("k")})
			if err != nil {
				t.Error(err)
				return
			}
			defer out.Body.Close()
			if got := sum(t, out.Body); got != want {
				t.Error("another body came back")
			}
		})
	}
	wg.Wait()
	if grown := s.peak() - before; grown > 64<<10 {
		t.Errorf("the server grew by %d KiB for an object of %d MiB", grown, size>>20)
	} else {
		t.Logf("the server grew by %d KiB for an object of %d MiB", grown, size>>20)
	}
}

func sum(t *testing.T, r io.Reader) string {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		t.Error(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// peak returns the most memory that the server has had resident, in KiB.
func (s *server) peak() (kib int) {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		s.t.Skip("needs /proc")
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				s.t.Fatal(err)
			}
		}
	}
	return kib
}
