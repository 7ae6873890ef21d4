package e2e

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	s3types "github.com/aws/aws-sdk-go-v2/service/s3/types"
)

const (
	greeter = "def handler(event, context):\n    print('greeting', event['name'])\n    return {'hello': event['name']}\n"

	trustLambda = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

	basicExecution = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
)

// zipped returns an archive of one file.
func zipped(t testing.TB, name, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	h := &zip.FileHeader{Name: name, Method: zip.Deflate}
	h.SetMode(0o644) // as anyone must be able to read it
	w, err := z.CreateHeader(h)
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pythonRuntime names the runtime of the system's own Python.
func pythonRuntime(t testing.TB) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", "import sys; print('python%d.%d' % sys.version_info[:2])").Output()
	if err != nil {
		t.Fatalf("the system's Python: %v; tools/needs test installs it", err)
	}
	return strings.TrimSpace(string(out))
}

// round runs a script that does a round of IAM, S3, Lambda and Logs.
func round(t *testing.T, name string, args ...string) {
	t.Helper()
	needRoot(t)
	s := start(t)
	archive := filepath.Join(t.TempDir(), "code.zip")
	if err := os.WriteFile(archive, zipped(t, "handler.py", greeter), 0o600); err != nil {
		t.Fatal(err)
	}
	out, e, err := s.run("", name, append(args, archive, pythonRuntime(t))...)
	if err != nil || !strings.Contains(out, "round done") {
		t.Fatalf("%v\n%s%s", err, out, e)
	}
}

func TestRoundOfBoto3(t *testing.T) { round(t, pythonWith(t, "boto3"), "round.py") }

func TestRoundOfJavaScript(t *testing.T) {
	need(t, "node")
	if _, err := os.Stat("node_modules/@aws-sdk"); err != nil {
		t.Fatalf("%v; tools/needs test installs it", err)
	}
	round(t, "node", "round.mjs")
}

func TestRoundOfGo(t *testing.T) {
	needRoot(t)
	s, ctx := start(t), t.Context()
	role, err := s.iam(1).CreateRole(ctx, &iam.CreateRoleInput{RoleName: new("round-go"), AssumeRolePolicyDocument: new(trustLambda)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.iam(1).AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: new("round-go"), PolicyArn: new(basicExecution)}); err != nil {
		t.Fatal(err)
	}

	bucket := new("round-go")
	if _, err := s.s3(1).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket}); err != nil {
		t.Fatal(err)
	}
	key := new("a b/ü+.txt")
	if _, err := s.s3(1).PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: strings.NewReader("hello"), Metadata: map[string]string{"colour": "blue"}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.s3(1).GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if b, err := io.ReadAll(got.Body); err != nil || string(b) != "hello" || got.Metadata["colour"] != "blue" {
		t.Errorf("got %q %v, %v", b, got.Metadata, err)
	}
	_, err = s.s3(1).GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: new("missing")})
	if _, ok := errors.AsType[*s3types.NoSuchKey](err); !ok {
		t.Errorf("a missing key: %v", err)
	}

	functions := lambda.NewFromConfig(s.config(1))
	name := new("round-go")
	_, err = functions.CreateFunction(ctx, &lambda.CreateFunctionInput{
		FunctionName: name, Runtime: lambdatypes.Runtime(pythonRuntime(t)), Handler: new("handler.handler"), Role: role.Role.Arn,
		Code: &lambdatypes.FunctionCode{ZipFile: zipped(t, "handler.py", greeter)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := lambda.NewFunctionActiveV2Waiter(functions).Wait(ctx, &lambda.GetFunctionInput{FunctionName: name}, patience); err != nil {
		t.Fatal(err)
	}
	answer, err := functions.Invoke(ctx, &lambda.InvokeInput{FunctionName: name, Payload: []byte(`{"name":"Go"}`)})
	if err != nil {
		t.Fatal(err)
	}
	var payload map[string]string
	if err := json.Unmarshal(answer.Payload, &payload); err != nil || payload["hello"] != "Go" || answer.StatusCode != 200 {
		t.Errorf("answers %d %s, %v", answer.StatusCode, answer.Payload, err)
	}
	_, err = functions.Invoke(ctx, &lambda.InvokeInput{FunctionName: new("nothing")})
	if _, ok := errors.AsType[*lambdatypes.ResourceNotFoundException](err); !ok {
		t.Errorf("a missing function: %v", err)
	}
	s.waitForLog("/aws/lambda/round-go", "greeting Go", "REPORT RequestId")
}

// waitForLog waits until a group holds all the texts, and returns its messages.
func (s *server) waitForLog(group string, texts ...string) string {
	s.t.Helper()
	var all string
	eventually(s.t, patience, func() error {
		all = ""
		pages := cloudwatchlogs.NewFilterLogEventsPaginator(s.logs(), &cloudwatchlogs.FilterLogEventsInput{LogGroupName: &group})
		for pages.HasMorePages() {
			page, err := pages.NextPage(s.t.Context())
			if err != nil {
				return err
			}
			for _, e := range page.Events {
				all += *e.Message + "\n"
			}
		}
		for _, text := range texts {
			if !strings.Contains(all, text) {
				return fmt.Errorf("no %q in the log:\n%s", text, all)
			}
		}
		return nil
	})
	return all
}
