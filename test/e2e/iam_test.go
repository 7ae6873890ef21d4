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
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
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

// The CLI asks what a policy's user and role have tried, refused calls and what a
// session did included. The answer outlives an orderly stop.
func TestLastAccessedCLI(t *testing.T) {
	s := start(t)
	account := strings.TrimSpace(s.aws("sts", "get-caller-identity", "--query", "Account", "--output", "text"))
	iam := "arn:aws:iam::" + account + ":"
	policy := strings.TrimSpace(s.aws("iam", "create-policy", "--policy-name", "work", "--query", "Policy.Arn", "--output", "text", "--policy-document",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["s3:*","sts:AssumeRole","iam:ListRoles","lambda:Invoke*"],"Resource":"*"}}`))
	s.aws("iam", "create-user", "--user-name", "otto")
	s.aws("iam", "create-role", "--role-name", "worker", "--assume-role-policy-document",
		`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"`+account+`"},"Action":"sts:AssumeRole"}}`)
	s.aws("iam", "attach-user-policy", "--user-name", "otto", "--policy-arn", policy)
	s.aws("iam", "attach-role-policy", "--role-name", "worker", "--policy-arn", policy)
	var key struct {
		AccessKey struct{ AccessKeyID, SecretAccessKey string }
	}
	unmarshal(t, s.aws("iam", "create-access-key", "--user-name", "otto", "--output", "json"), &key)
	otto := s.identity(key.AccessKey.AccessKeyID, key.AccessKey.SecretAccessKey, "")
	var session struct {
		Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	}
	out, e, err := otto("sts", "assume-role", "--role-arn", iam+"role/worker", "--role-session-name", "night", "--output", "json")
	if err != nil {
		t.Fatal(e)
	}
	unmarshal(t, out, &session)
	if _, e, err = otto("iam", "create-user", "--user-name", "x"); err == nil || !strings.Contains(e, "AccessDenied") {
		t.Fatalf("what the user may not: %s", e)
	}
	night := s.identity(session.Credentials.AccessKeyID, session.Credentials.SecretAccessKey, session.Credentials.SessionToken)
	if _, e, err = night("s3api", "list-buckets", "--region", "eu-west-1"); err != nil {
		t.Fatal(e)
	}

	const want = `iam 1 user/otto us-east-1 ListRoles-; lambda 0 ; s3 1 role/worker eu-west-1 ListAllMyBuckets+; sts 1 user/otto us-east-1 AssumeRole+`
	if got := s.lastAccessed(policy, iam, "ListRoles", "ListAllMyBuckets", "AssumeRole"); got != want {
		t.Errorf("the report: %s\nwant %s", got, want)
	}
	s.stop()
	s.restart()
	if got := s.lastAccessed(policy, iam, "ListRoles", "ListAllMyBuckets", "AssumeRole"); got != want {
		t.Errorf("the report after a stop: %s\nwant %s", got, want)
	}
	if _, e, err = s.tryAWS("iam", "generate-service-last-accessed-details", "--arn", iam+"role/nobody"); err == nil || !strings.Contains(e, "NoSuchEntity") {
		t.Errorf("of nobody: %s", e)
	}
	if _, e, err = s.tryAWS("iam", "create-service-specific-credential", "--user-name", "otto", "--service-name", "codecommit.amazonaws.com"); err == nil || !strings.Contains(e, "NotImplemented") {
		t.Errorf("what is not built: %s", e)
	}
}

// lastAccessed asks for a report and tells its services, with some of the actions
// and whether they were tried.
func (s *server) lastAccessed(of, prefix string, actions ...string) string {
	s.t.Helper()
	job := strings.TrimSpace(s.aws("iam", "generate-service-last-accessed-details", "--arn", of, "--granularity", "ACTION_LEVEL", "--query", "JobId", "--output", "text"))
	var report struct {
		JobStatus            string
		ServicesLastAccessed []struct {
			ServiceNamespace, LastAuthenticatedEntity, LastAuthenticatedRegion string
			TotalAuthenticatedEntities                                         int
			TrackedActionsLastAccessed                                         []struct{ ActionName, LastAccessedTime string }
		}
	}
	unmarshal(s.t, s.aws("iam", "get-service-last-accessed-details", "--job-id", job, "--output", "json"), &report)
	if report.JobStatus != "COMPLETED" {
		s.t.Errorf("the report is %s", report.JobStatus)
	}
	var lines []string
	for _, r := range report.ServicesLastAccessed {
		l := fmt.Sprintf("%s %d %s", r.ServiceNamespace, r.TotalAuthenticatedEntities, strings.TrimPrefix(r.LastAuthenticatedEntity, prefix))
		if r.LastAuthenticatedRegion != "" {
			l += " " + r.LastAuthenticatedRegion
		}
		for _, a := range r.TrackedActionsLastAccessed {
			if !slices.Contains(actions, a.ActionName) {
				continue
			}
			if l += " " + a.ActionName; a.LastAccessedTime != "" {
				l += "+"
			} else {
				l += "-"
			}
		}
		lines = append(lines, l)
	}
	return strings.Join(lines, "; ")
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

func unmarshal(t testing.TB, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
