package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

func TestServer(t *testing.T) {
	s := start(t)
	code, body := s.get("/_skerry/status")
	var st struct {
		Account  string
		Services []struct{ ID string }
	}
	if err := json.Unmarshal([]byte(body), &st); err != nil || code != http.StatusOK || st.Account != "000000000000" || len(st.Services) == 0 {
		t.Errorf("status: %d %v %s", code, err, body)
	}
	if code, body := s.get("/_localstack/health"); code != http.StatusOK || !strings.Contains(body, `"s3"`) {
		t.Errorf("health: %d %s", code, body)
	}
	if code, body := s.get("/_skerry/metrics"); code != http.StatusOK || !strings.Contains(body, "skerry_") {
		t.Errorf("metrics: %d %s", code, body)
	}
}

func TestSecondServerOnOneFolderIsRefused(t *testing.T) {
	s := start(t)
	out, err := exec.CommandContext(t.Context(), binary, "up", "--listen", "127.0.0.1:0", "--data", s.Data).CombinedOutput()
	if err == nil || !bytes.Contains(out, []byte("in use")) {
		t.Errorf("got %v\n%s", err, out)
	}
	if code, _ := s.get("/_skerry/status"); code != http.StatusOK {
		t.Errorf("the first server answers %d", code)
	}
}

func TestReset(t *testing.T) {
	s := start(t)
	for i, path := range []string{"/_skerry/reset", "/_localstack/state/reset"} {
		bucket := fmt.Sprintf("reset-%d", i)
		s.aws("s3api", "create-bucket", "--bucket", bucket)
		if code, body := s.send(http.MethodPost, path); code != http.StatusOK {
			t.Fatalf("%s: %d %s", path, code, body)
		}
		if _, _, err := s.tryAWS("s3api", "head-bucket", "--bucket", bucket); err == nil {
			t.Errorf("%s is there after %s", bucket, path)
		}
	}
}

func TestStateSurvivesAKill(t *testing.T) {
	s := start(t)
	s.aws("s3api", "create-bucket", "--bucket", "kept")
	s.kill()
	s.restart()
	s.aws("s3api", "head-bucket", "--bucket", "kept")
}

func TestKeysBeyondLoopback(t *testing.T) {
	s := &server{t: t, Data: t.TempDir(), program: binary, log: &logBuffer{}}
	s.up("0.0.0.0:0")
	t.Cleanup(s.stop)
	if _, e, err := s.tryAWS("sts", "get-caller-identity"); err == nil || !strings.Contains(e, "InvalidClientTokenId") {
		t.Errorf("the key test gets in: %v %s", err, e)
	}
	out, err := exec.CommandContext(t.Context(), binary, "env", "--data", s.Data, "--shell", "sh").Output()
	if err != nil {
		t.Fatal(err)
	}
	script := string(out) + "\naws --endpoint-url " + s.Endpoint + " sts get-caller-identity --query Arn --output text"
	arn, e, err := s.run("", "sh", "-c", script)
	if err != nil || strings.TrimSpace(arn) != "arn:aws:iam::000000000000:root" {
		t.Errorf("the root key: %v %s %s", err, arn, e)
	}
	if code, _ := s.send(http.MethodPost, "/_skerry/reset"); code != http.StatusForbidden {
		t.Errorf("a reset beyond loopback answers %d", code)
	}
}
