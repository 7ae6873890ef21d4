package cloud

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	ecrapi "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/engine/image/unpack"
	"skerry/internal/op"
)

// askImages sends a request to the own page of images and returns the status and
// the last line of the answer.
func askImages(t *testing.T, cl *Cloud, method, path string, q url.Values, body io.Reader, a engine.Auth, header ...string) (int, ImageLine, []byte) {
	t.Helper()
	r, err := http.NewRequest(method, cl.endpoint+imagesPath+path+"?"+q.Encode(), body)
	if err != nil {
		t.Fatal(err)
	}
	if a != (engine.Auth{}) {
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(ImageAuth, base64.StdEncoding.EncodeToString(text))
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	var last ImageLine
	if lines := strings.Split(strings.TrimSpace(string(text)), "\n"); json.Unmarshal(text, &last) != nil {
		_ = json.Unmarshal([]byte(lines[len(lines)-1]), &last)
	}
	return answer.StatusCode, last, text
}

// ecrAuth makes a repository, and returns its address and the credentials.
func ecrAuth(t *testing.T, cl *Cloud, name string) (string, engine.Auth) {
	t.Helper()
	ctx, g := context.Background(), cl.parts.Load().gateway
	admin := directory{}.root(RootKey{testKey, testSecret}, cl.config.Account)
	sc := auth.NewScope(admin.Principal, cl.config.Region, auth.Request{ID: "test", Time: time.Now(), Secure: true})
	if _, err := op.Call[ecrapi.CreateRepositoryOutput](ctx, g, sc, "ecr", "CreateRepository", &ecrapi.CreateRepositoryInput{RepositoryName: &name}); err != nil {
		t.Fatal(err)
	}
	out, err := op.Call[ecrapi.GetAuthorizationTokenOutput](ctx, g, sc, "ecr", "GetAuthorizationToken", &ecrapi.GetAuthorizationTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		t.Fatal(err)
	}
	user, password, _ := strings.Cut(string(text), ":")
	// The name below localhost, which the engine reaches whatever the resolver says.
	_, port, _ := strings.Cut(cl.endpoint[len("http://"):], ":")
	return "000000000000.dkr.ecr.us-east-1.localhost:" + port + "/" + name, engine.Auth{Username: user, Password: password}
}

// TestImages goes the way of an image by the own page: loaded, pushed to the own
// registry and unpacked there at once, pulled, saved, removed.
func TestImages(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("layers are unpacked by root alone")
	}
	cl := assembled(t)
	name, a := ecrAuth(t, cl, "team/app")
	name += ":v1"
	archive := enginetest.Archive(enginetest.ImageSpec{
		Names: []string{name}, Layers: [][]enginetest.ImageFile{{{Name: "hello", Content: []byte("hello")}}},
	})
	status, got, _ := askImages(t, cl, "POST", "/load", nil, bytes.NewReader(archive), engine.Auth{})
	if status != http.StatusOK || len(got.Images) != 1 || !slices.Equal(got.Images[0].Names, []string{name}) {
		t.Fatalf("load: %d, %+v", status, got)
	}
	q := url.Values{"name": {name}}
	if _, got, _ := askImages(t, cl, "POST", "/push", q, nil, engine.Auth{}); !strings.Contains(got.Error, "push access denied") {
		t.Errorf("push without signing in: %+v", got)
	}
	if _, got, _ := askImages(t, cl, "POST", "/push", q, nil, a); !strings.HasPrefix(got.Digest, "sha256:") {
		t.Fatalf("push: %+v", got)
	}
	_, _, saved := askImages(t, cl, "GET", "/save", q, nil, engine.Auth{})
	if err := unpackAnywhere(t, saved); err != nil {
		t.Errorf("saved: %v", err)
	}
	if status, got, _ := askImages(t, cl, "DELETE", "", q, nil, engine.Auth{}); status != http.StatusOK || got.Removed == nil || len(got.Removed.Images) != 1 {
		t.Errorf("remove: %d, %+v", status, got)
	}
	if status, got, _ := askImages(t, cl, "DELETE", "", q, nil, engine.Auth{}); status != http.StatusNotFound || got.Error != "No such image: "+name {
		t.Errorf("remove again: %d, %+v", status, got)
	}
	_, got, told := askImages(t, cl, "POST", "/pull", q, nil, a)
	if len(got.Images) != 1 || !bytes.Contains(told, []byte("Pull complete")) && !bytes.Contains(told, []byte("Already exists")) {
		t.Errorf("pull: %s", told)
	}
	for _, header := range [][]string{{"Origin", "https://example.com"}, {"Sec-Fetch-Site", "cross-site"}} {
		if status, _, _ := askImages(t, cl, "GET", "", nil, nil, engine.Auth{}, header...); status != http.StatusForbidden {
			t.Errorf("%v: %d", header, status)
		}
	}
}

func unpackAnywhere(t *testing.T, archive []byte) error {
	_, err := unpack.Layer(t.Context(), bytes.NewReader(archive), t.TempDir(), unpack.Limits{})
	return err
}

// TestUnpackedAtPush pushes an image with a cloud's engine that has never seen it:
// a pull fetches no layer.
func TestUnpackedAtPush(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("layers are unpacked by root alone")
	}
	here, there := assembled(t), assembled(t)
	name, a := ecrAuth(t, there, "app")
	archive := enginetest.Archive(enginetest.ImageSpec{
		Names: []string{name}, Layers: [][]enginetest.ImageFile{{{Name: "hello", Content: bytes.Repeat([]byte("hello"), 20_000)}}},
	})
	askImages(t, here, "POST", "/load", nil, bytes.NewReader(archive), engine.Auth{})
	if _, got, _ := askImages(t, here, "POST", "/push", url.Values{"name": {name}}, nil, a); got.Error != "" {
		t.Fatal(got.Error)
	}
	for end := time.Now().Add(20 * time.Second); ; {
		folders, err := os.ReadDir(there.config.Data + "/layers")
		if err != nil {
			t.Fatal(err)
		}
		if len(folders) == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it is not unpacked")
		}
		<-time.After(5 * time.Millisecond)
	}
	_, got, told := askImages(t, there, "POST", "/pull", url.Values{"name": {name}}, nil, a)
	if len(got.Images) != 1 || bytes.Contains(told, []byte("Downloading")) {
		t.Errorf("pull: %s", told)
	}
}
