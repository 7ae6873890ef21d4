package e2e

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// deploy makes a role with managed policies, and a function of one source file.
func (s *server) deploy(name, runtime, handler, file, source string, policies []string, more ...string) {
	s.t.Helper()
	dir := s.t.TempDir()
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	s.aws("iam", "create-role", "--role-name", name, "--assume-role-policy-document", trust)
	for _, p := range policies {
		s.aws("iam", "attach-role-policy", "--role-name", name, "--policy-arn", "arn:aws:iam::aws:policy/"+p)
	}
	at := filepath.Join(dir, "code.zip")
	f, err := os.Create(at)
	if err != nil {
		s.t.Fatal(err)
	}
	z := zip.NewWriter(f)
	h := &zip.FileHeader{Name: file, Method: zip.Deflate}
	h.SetMode(0o755)
	w, err := z.CreateHeader(h)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(w, source); err != nil {
		s.t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		s.t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.aws(append([]string{"lambda", "create-function", "--function-name", name, "--runtime", runtime, "--handler", handler,
		"--role", "arn:aws:iam::000000000000:role/" + name, "--zip-file", "fileb://" + at, "--timeout", "30"}, more...)...)
	s.aws("lambda", "wait", "function-active-v2", "--function-name", name)
}

// call invokes a function and returns its answer and the call's.
func (s *server) call(name, payload string, more ...string) (answer string, call map[string]any) {
	s.t.Helper()
	out := filepath.Join(s.t.TempDir(), "out")
	text := s.aws(append([]string{"lambda", "invoke", "--function-name", name, "--payload", payload, "--output", "json", out}, more...)...)
	if err := json.Unmarshal([]byte(text), &call); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	b, err := os.ReadFile(out)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b), call
}

const reachSource = `
import boto3, botocore, json, os, urllib.request, urllib.error
from botocore.config import Config

def attempt(fn):
    try:
        return fn()
    except botocore.exceptions.ClientError as e:
        return e.response["Error"]["Code"]

def handler(event, context):
    once = Config(retries={"max_attempts": 0})
    # Debian 12's boto3 does not know AWS_ENDPOINT_URL: this goes to s3.amazonaws.com.
    s3 = boto3.client("s3", config=once)
    known = boto3.client("s3", config=once, aws_access_key_id="test", aws_secret_access_key="test", aws_session_token=None)
    reset = urllib.request.Request(os.environ["AWS_ENDPOINT_URL"] + "/_skerry/reset", method="POST")
    try:
        reset = urllib.request.urlopen(reset).status
    except urllib.error.HTTPError as e:
        reset = e.code
    return {
        "who": boto3.client("sts").get_caller_identity()["Arn"],
        "put": attempt(lambda: s3.put_object(Bucket="bucket", Key="key", Body=b"x")["ResponseMetadata"]["HTTPStatusCode"]),
        "known": attempt(lambda: known.list_buckets()["ResponseMetadata"]["HTTPStatusCode"]),
        "reset": reset,
    }
`

// TestLambdaReach: code written for AWS finds Skerry with no endpoint in it, and
// may do there what its role may, no more.
func TestLambdaReach(t *testing.T) {
	needRoot(t)
	s := start(t)
	s.aws("s3api", "create-bucket", "--bucket", "bucket")
	s.deploy("may", "python3.11", "app.handler", "app.py", reachSource, []string{"AmazonS3FullAccess"}, "--memory-size", "1024")
	s.deploy("maynot", "python3.11", "app.handler", "app.py", reachSource, nil, "--memory-size", "1024")
	for name, put := range map[string]any{"may": 200.0, "maynot": "AccessDenied"} {
		answer, _ := s.call(name, "{}")
		var got map[string]any
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			t.Fatalf("%s: %v", answer, err)
		}
		if got["who"] != "arn:aws:sts::000000000000:assumed-role/"+name+"/"+name || got["put"] != put {
			t.Errorf("%s: %s", name, answer)
		}
		if got["known"] == 200.0 || got["reset"] == 200.0 {
			t.Errorf("a function is trusted as this machine: %s", answer)
		}
	}
}

// TestLambdaLife: a function's code, versions, aliases, log and end, by the CLI.
func TestLambdaLife(t *testing.T) {
	needRoot(t)
	s := start(t)
	source := func(answer string) string {
		return "exports.handler = async () => { console.log('in the log'); return '" + answer + "'; };\n"
	}
	s.deploy("life", "nodejs20.x", "index.handler", "index.js", source("one"), []string{"service-role/AWSLambdaBasicExecutionRole"})
	if answer, call := s.call("life", "{}"); answer != `"one"` || call["ExecutedVersion"] != "$LATEST" {
		t.Fatalf("%s %v", answer, call)
	}
	link := strings.TrimSpace(s.aws("lambda", "get-function", "--function-name", "life", "--query", "Code.Location", "--output", "text"))
	r, err := http.Get(link)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	_ = r.Body.Close()
	if err != nil || r.StatusCode != 200 || !strings.HasPrefix(string(b), "PK") {
		t.Errorf("the code's link: %v %d %q", err, r.StatusCode, b)
	}
	code := filepath.Join(t.TempDir(), "code.zip")
	if err := os.WriteFile(code, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s.aws("lambda", "publish-version", "--function-name", "life")
	s.aws("lambda", "create-alias", "--function-name", "life", "--name", "live", "--function-version", "1")
	s.aws("lambda", "update-function-configuration", "--function-name", "life", "--environment", "Variables={NAME=value}")
	s.aws("lambda", "wait", "function-updated-v2", "--function-name", "life")
	s.aws("lambda", "update-function-code", "--function-name", "life", "--zip-file", "fileb://"+code)
	s.aws("lambda", "wait", "function-updated-v2", "--function-name", "life")
	if answer, call := s.call("life:live", "{}"); answer != `"one"` || call["ExecutedVersion"] != "1" {
		t.Errorf("%s %v", answer, call)
	}
	eventually(t, patience, func() error {
		out, e, err := s.tryAWS("logs", "filter-log-events", "--log-group-name", "/aws/lambda/life", "--query", "events[].message", "--output", "text")
		if err != nil || strings.Count(out, "in the log") < 2 || strings.Count(out, "REPORT RequestId") < 2 {
			return fmt.Errorf("%w %s%s", err, out, e)
		}
		return nil
	})
	s.aws("lambda", "delete-function", "--function-name", "life")
	if _, e, err := s.tryAWS("lambda", "get-function", "--function-name", "life"); err == nil || !strings.Contains(e, "ResourceNotFoundException") {
		t.Errorf("%v %s", err, e)
	}
}

const asyncSource = `
import boto3, time
def handler(event, context):
    if event.get("slow"):
        time.sleep(event["slow"])
    boto3.client("s3").put_object(Bucket="bucket", Key=event["key"], Body=b"done")
`

// TestLambdaAsyncSurvives: events that were accepted run after kill -9.
func TestLambdaAsyncSurvives(t *testing.T) {
	needRoot(t)
	s := start(t)
	s.aws("s3api", "create-bucket", "--bucket", "bucket")
	s.deploy("later", "python3.11", "app.handler", "app.py", asyncSource, []string{"AmazonS3FullAccess"}, "--memory-size", "512")
	const n = 6
	for i := range n {
		_, call := s.call("later", fmt.Sprintf(`{"key": "k%d", "slow": 1}`, i), "--invocation-type", "Event")
		if call["StatusCode"] != 202.0 {
			t.Fatalf("%v", call)
		}
	}
	s.kill()
	s.restart()
	eventually(t, patience, func() error {
		out := s.aws("s3api", "list-objects-v2", "--bucket", "bucket", "--query", "length(Contents || `[]`)", "--output", "text")
		if strings.TrimSpace(out) != fmt.Sprint(n) {
			return fmt.Errorf("%s of %d ran", strings.TrimSpace(out), n)
		}
		return nil
	})
}
