package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vulnerabilities writes a feed with one for openssl of Alpine 3.19.
func vulnerabilities(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "one.json"), []byte(`{"id":"CVE-2026-1","modified":"2026-11-01T00:00:00Z","summary":"bad","database_specific":{"severity":"HIGH"},
		"affected":[{"package":{"ecosystem":"Alpine:v3.19","name":"openssl"},"ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"3.1.4-r6"}]}]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestECRBoto3(t *testing.T) {
	s := start(t, "--vulnerabilities", vulnerabilities(t))
	script, err := os.ReadFile("testdata/ecr.py")
	if err != nil {
		t.Fatal(err)
	}
	if out := s.python(string(script)); out != "done\n" {
		t.Errorf("got %q", out)
	}
}

// passwordECR is what docker login gets from the AWS CLI.
func (s *server) passwordECR() string {
	s.t.Helper()
	return strings.TrimSpace(s.aws("ecr", "get-login-password"))
}

// pushECR pushes an image as docker does, and returns its manifest.
func (s *server) pushECR(password, repository, tag, content string) string {
	s.t.Helper()
	send := func(method, path, contentType, body string, want int) {
		s.t.Helper()
		r, err := http.NewRequestWithContext(s.t.Context(), method, s.Endpoint+"/v2/"+repository+path, strings.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		r.SetBasicAuth("AWS", password)
		r.Header.Set("Content-Type", contentType)
		a, err := http.DefaultClient.Do(r)
		if err != nil {
			s.t.Fatal(err)
		}
		a.Body.Close()
		if a.StatusCode != want {
			s.t.Fatalf("%s %s: %s", method, path, a.Status)
		}
	}
	blob := func(mediaType, body string) map[string]any {
		sum := sha256.Sum256([]byte(body))
		digest := "sha256:" + hex.EncodeToString(sum[:])
		send("POST", "/blobs/uploads/?digest="+digest, "application/octet-stream", body, http.StatusCreated)
		return map[string]any{"mediaType": mediaType, "digest": digest, "size": len(body)}
	}
	const form = "application/vnd.oci.image.manifest.v1+json"
	manifest, err := json.Marshal(map[string]any{
		"schemaVersion": 2, "mediaType": form, "config": blob("application/vnd.oci.image.config.v1+json", `{"tag":"`+tag+`"}`),
		"layers": []any{blob("application/vnd.oci.image.layer.v1.tar", content)},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	send("PUT", "/manifests/"+tag, form, string(manifest), http.StatusCreated)
	return string(manifest)
}

func TestECRCLI(t *testing.T) {
	s := start(t)
	s.aws("ecr", "create-repository", "--repository-name", "web", "--image-tag-mutability", "IMMUTABLE")
	manifest := s.pushECR(s.passwordECR(), "web", "v1", "a layer")
	if got := s.aws("ecr", "batch-get-image", "--repository-name", "web", "--image-ids", "imageTag=v1", "--query", "images[0].imageManifest", "--output", "text"); got != manifest+"\n" {
		t.Errorf("batch-get-image: %s", got)
	}
	s.aws("ecr", "put-image", "--repository-name", "web", "--image-tag", "stable", "--image-manifest", manifest)
	if got := s.aws("ecr", "describe-images", "--repository-name", "web", "--query", "imageDetails[].imageTags[]", "--output", "text"); got != "stable\tv1\n" {
		t.Errorf("describe-images: %q", got)
	}
	_, e, err := s.tryAWS("ecr", "put-image", "--repository-name", "web", "--image-tag", "v1", "--image-manifest", strings.Replace(manifest, "{", `{"annotations":{"a":"b"},`, 1))
	if err == nil || !strings.Contains(e, "(ImageTagAlreadyExistsException)") || !strings.Contains(e, "The image tag 'v1' already exists in the 'web' repository and cannot be overwritten because the tag is immutable.") {
		t.Errorf("an immutable tag: %v, %s", err, e)
	}
	s.aws("ecr", "start-image-scan", "--repository-name", "web", "--image-id", "imageTag=v1")
	eventually(t, patience, func() error {
		got := s.aws("ecr", "describe-image-scan-findings", "--repository-name", "web", "--image-id", "imageTag=v1", "--query", "imageScanStatus.status", "--output", "text")
		if got != "FAILED\n" { // the layer is no archive
			return fmt.Errorf("the scan is %s", got)
		}
		return nil
	})
	if got := s.aws("ecr", "batch-delete-image", "--repository-name", "web", "--image-ids", "imageTag=v1", "imageTag=stable", "--query", "length(imageIds)"); got != "2\n" {
		t.Errorf("batch-delete-image: %q", got)
	}
	s.aws("ecr", "delete-repository", "--repository-name", "web")
}

// What a push has caused is done after the server was killed.
func TestECRAfterKill(t *testing.T) {
	s := start(t)
	client := "import boto3, os\ndef ecr(region='us-east-1'): return boto3.client('ecr', endpoint_url=os.environ['AWS_ENDPOINT_URL'], region_name=region)\n"
	password := strings.TrimSpace(s.python(client + `
import base64
r=ecr().create_repository(repositoryName="web",imageScanningConfiguration={"scanOnPush":True})["repository"]
ecr().put_replication_configuration(replicationConfiguration={"rules":[{"destinations":[{"region":"eu-west-1","registryId":r["registryId"]}]}]})
print(base64.b64decode(ecr().get_authorization_token()["authorizationData"][0]["authorizationToken"]).decode()[4:])`))
	for i := range 5 {
		s.pushECR(password, "web", fmt.Sprint("v", i), fmt.Sprint("layer ", i))
	}
	s.kill()
	s.restart()
	s.python(client + `
import time
end=time.time()+60
while True:
    images=ecr().describe_images(repositoryName="web")["imageDetails"]
    assert len(images)==5, images
    states=[ecr().describe_image_replication_status(repositoryName="web",imageId={"imageDigest":i["imageDigest"]})["replicationStatuses"][0]["status"] for i in images]
    if states==["COMPLETE"]*5 and all(i["imageScanStatus"]["status"]=="FAILED" for i in images): break
    assert time.time()<end, (images, states)
    time.sleep(0.1)
assert len(ecr("eu-west-1").list_images(repositoryName="web")["imageIds"])==5`)
}
