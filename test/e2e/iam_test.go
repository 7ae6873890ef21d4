package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

//go:embed testdata/iam.py
var iamWalk string

func TestIAMBoto3(t *testing.T) {
	s := start(t)
	if got := s.python(iamWalk, certificateFiles(t)...); got != "ok\n" {
		t.Errorf("the walk says %q", got)
	}
	if _, metrics := s.get("/_skerry/metrics"); !strings.Contains(metrics, "skerry_failures_total 0") {
		t.Errorf("faults of the cloud's own:\n%s", metrics)
	}
}

// certificateFiles makes a certificate, its key, another key, and an SSH public
// key, and returns their files.
func certificateFiles(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	var files []string
	write := func(name string, b []byte) {
		files = append(files, filepath.Join(dir, name))
		if err := os.WriteFile(files[len(files)-1], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	key, other := rsaKey(t), rsaKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "www.example.com"}, NotBefore: time.Now(), NotAfter: time.Now().AddDate(1, 0, 0),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	write("cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write("key.pem", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	write("other.pem", pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(other)}))
	blob := []byte("\x00\x00\x00\x07ssh-rsa\x00\x00\x00\x03\x01\x00\x01\x00\x00\x01\x01\x00")
	write("key.pub", []byte("ssh-rsa "+base64.StdEncoding.EncodeToString(append(blob, key.N.Bytes()...))+" a@b\n"))
	return files
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The CLI makes a user who assumes a role; the session outlives a kill of the
// server, and not the role.
func TestSTSCLI(t *testing.T) {
	s := start(t)
	account := strings.TrimSpace(s.aws("sts", "get-caller-identity", "--query", "Account", "--output", "text"))
	s.aws("iam", "create-user", "--user-name", "otto")
	s.aws("iam", "put-user-policy", "--user-name", "otto", "--policy-name", "assume", "--policy-document",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}}`)
	s.aws("iam", "create-role", "--role-name", "reader", "--assume-role-policy-document",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"`+account+`"},"Action":"sts:AssumeRole"}}`)
	s.aws("iam", "attach-role-policy", "--role-name", "reader", "--policy-arn", "arn:aws:iam::aws:policy/IAMReadOnlyAccess")
	var key struct {
		AccessKey struct{ AccessKeyID, SecretAccessKey string }
	}
	unmarshal(t, s.aws("iam", "create-access-key", "--user-name", "otto", "--output", "json"), &key)

	otto := s.identity(key.AccessKey.AccessKeyID, key.AccessKey.SecretAccessKey, "")
	role := "arn:aws:iam::" + account + ":role/reader"
	var session struct {
		Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	}
	out, e, err := otto("sts", "assume-role", "--role-arn", role, "--role-session-name", "night", "--output", "json")
	if err != nil {
		t.Fatal(e)
	}
	unmarshal(t, out, &session)
	night := s.identity(session.Credentials.AccessKeyID, session.Credentials.SecretAccessKey, session.Credentials.SessionToken)
	s.kill()
	s.restart()
	if out, e, err = night("sts", "get-caller-identity", "--query", "Arn", "--output", "text"); err != nil || strings.TrimSpace(out) != "arn:aws:sts::"+account+":assumed-role/reader/night" {
		t.Fatalf("after a kill: %s%s", out, e)
	}
	if _, e, err = night("iam", "list-roles"); err != nil {
		t.Errorf("what the role may: %s", e)
	}
	if _, e, err = night("iam", "create-user", "--user-name", "x"); err == nil || !strings.Contains(e, "AccessDenied") {
		t.Errorf("what the role may not: %s", e)
	}
	s.aws("iam", "detach-role-policy", "--role-name", "reader", "--policy-arn", "arn:aws:iam::aws:policy/IAMReadOnlyAccess")
	if _, e, err = night("iam", "list-roles"); err == nil || !strings.Contains(e, "AccessDenied") {
		t.Errorf("after the policy went: %s", e)
	}
	s.aws("iam", "delete-role", "--role-name", "reader")
	if _, e, err = night("sts", "get-caller-identity"); err == nil || !strings.Contains(e, "InvalidClientTokenId") {
		t.Errorf("after the role went: %s", e)
	}
}

// identity runs the CLI with other credentials.
func (s *server) identity(id, secret, token string) func(args ...string) (stdout, stderr string, err error) {
	return func(args ...string) (string, string, error) {
		with := []string{"AWS_ACCESS_KEY_ID=" + id, "AWS_SECRET_ACCESS_KEY=" + secret}
		if token != "" {
			with = append(with, "AWS_SESSION_TOKEN="+token)
		}
		need(s.t, "aws")
		return s.run("", "env", append(append(with, "aws", "--endpoint-url", s.Endpoint), args...)...)
	}
}

func unmarshal(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
