package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // the pictures' format
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const example = "../../examples/thumbnail"

// picture draws the example's picture with the sun in its nth place.
func picture(t testing.TB, n int) []byte {
	t.Helper()
	file := filepath.Join(t.TempDir(), "picture.jpg")
	if out, err := exec.CommandContext(t.Context(), pythonWith(t, "PIL"), filepath.Join(example, "picture.py"), file, fmt.Sprint(n)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// runExample runs the example's script, which uses the AWS CLI, and leaves
// everything in place.
func (s *server) runExample(suffix string) string {
	s.t.Helper()
	needRoot(s.t)
	need(s.t, "aws")
	out, e, err := s.run("", "bash", filepath.Join(example, "run.sh"), suffix)
	if err != nil {
		s.t.Fatalf("%v\n%s%s", err, out, e)
	}
	return out
}

var report = regexp.MustCompile(`REPORT RequestId: [0-9a-f-]{36}\s+Duration: [0-9.]+ ms\s+Billed Duration: \d+ ms\s+Memory Size: 512 MB\s+Max Memory Used: \d+ MB\s+Init Duration: [0-9.]+ ms`)

func TestThumbnail(t *testing.T) {
	s := start(t)
	out := s.runExample("e2e")
	for _, want := range []string{"JPEG 128x80", "pictures-e2e/islet.jpg: 1600x1000 to 128x80", "START RequestId: ", "END RequestId: "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q", want)
		}
	}
	if !report.MatchString(out) {
		t.Error("no REPORT line as AWS writes it")
	}
	if t.Failed() {
		t.Log(out)
	}
	// What survives a kill is all of it.
	s.kill()
	s.restart()
	s.upload("pictures-e2e", "again.jpg", picture(t, 1))
	s.thumbnail("thumbnails-e2e", "again.jpg")
	s.waitForLog("/aws/lambda/thumbnail-e2e", "pictures-e2e/islet.jpg", "pictures-e2e/again.jpg")
	if out, e, err := s.run("", "bash", filepath.Join(example, "clean.sh"), "e2e"); err != nil {
		t.Errorf("clean.sh: %v\n%s%s", err, out, e)
	}
}

func (s *server) upload(bucket, key string, body []byte) {
	s.t.Helper()
	if err := s.tryUpload(s.t.Context(), bucket, key, body); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) tryUpload(ctx context.Context, bucket, key string, body []byte) error {
	_, err := s.s3(1).PutObject(ctx, &s3.PutObjectInput{Bucket: &bucket, Key: &key, Body: bytes.NewReader(body)})
	return err
}

// thumbnail waits for a thumbnail and checks its size.
func (s *server) thumbnail(bucket, key string) {
	s.t.Helper()
	eventually(s.t, 2*patience, func() error {
		got, err := s.s3(1).GetObject(s.t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: &key})
		if err != nil {
			return err
		}
		defer got.Body.Close()
		size, format, err := image.DecodeConfig(got.Body)
		if err == nil && (size.Width != 128 || size.Height != 80 || format != "jpeg") {
			s.t.Fatalf("%s is a %s of %dx%d", key, format, size.Width, size.Height)
		}
		return err
	})
}

// Pictures are uploaded while the server is killed. Each that was acknowledged
// gets its thumbnail; one whose upload failed is uploaded again, as a client does.
func TestThumbnailsOutliveKills(t *testing.T) {
	s := start(t)
	s.runExample("kill")
	const pictures = 20
	bodies := [][]byte{picture(t, 1), picture(t, 2), picture(t, 3)}
	var acknowledged atomic.Int32
	failed := make(chan int, pictures)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range pictures {
			if err := s.tryUpload(t.Context(), "pictures-kill", fmt.Sprintf("%02d.jpg", i), bodies[i%len(bodies)]); err != nil {
				failed <- i
				continue
			}
			acknowledged.Add(1)
		}
	}()
	eventually(t, patience, func() error {
		if n := acknowledged.Load(); n < 7 {
			return fmt.Errorf("%d uploads", n)
		}
		return nil
	})
	s.kill()
	<-done
	close(failed)
	s.restart()
	again := 0
	for i := range failed {
		s.upload("pictures-kill", fmt.Sprintf("%02d.jpg", i), bodies[i%len(bodies)])
		again++
	}
	t.Logf("%d uploads were acknowledged before the kill, %d came after it", acknowledged.Load(), again)
	for i := range pictures {
		s.thumbnail("thumbnails-kill", fmt.Sprintf("%02d.jpg", i))
	}
}

func TestThumbnailWithoutPermission(t *testing.T) {
	s := start(t)
	s.runExample("denied")
	out := s.aws("iam", "get-role-policy", "--role-name", "thumbnail-denied", "--policy-name", "thumbnail", "--query", "PolicyDocument", "--output", "json")
	var policy struct {
		Version   string
		Statement []struct {
			Sid, Effect      string
			Action, Resource any
		}
	}
	if err := json.Unmarshal([]byte(out), &policy); err != nil {
		t.Fatal(err)
	}
	for i, st := range policy.Statement {
		if st.Sid == "WriteThumbnails" {
			policy.Statement = slices.Delete(policy.Statement, i, i+1)
			break
		}
	}
	without, err := json.Marshal(policy)
	if err != nil || strings.Contains(string(without), "PutObject") {
		t.Fatal(string(without), err)
	}
	s.aws("iam", "put-role-policy", "--role-name", "thumbnail-denied", "--policy-name", "thumbnail", "--policy-document", string(without))
	s.upload("pictures-denied", "denied.jpg", picture(t, 1))
	log := s.waitForLog("/aws/lambda/thumbnail-denied", "AccessDenied")
	if !strings.Contains(log, "when calling the PutObject operation") {
		t.Errorf("the log:\n%s", log)
	}
	_, err = s.s3(1).GetObject(t.Context(), &s3.GetObjectInput{Bucket: new("thumbnails-denied"), Key: new("denied.jpg")})
	if _, ok := errors.AsType[*s3types.NoSuchKey](err); !ok {
		t.Errorf("there is a thumbnail: %v", err)
	}
}

func TestDemo(t *testing.T) {
	needRoot(t)
	s := start(t)
	out, err := exec.CommandContext(t.Context(), binary, "demo", "thumbnail", "--data", s.Data).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "128x80") || !strings.Contains(string(out), "REPORT RequestId") || !strings.Contains(string(out), "removed") {
		t.Fatalf("%v\n%s", err, out)
	}
	if left := s.aws("lambda", "list-functions", "--query", "Functions[].FunctionName", "--output", "text"); strings.TrimSpace(left) != "" {
		t.Errorf("left behind: %s", left)
	}
}
