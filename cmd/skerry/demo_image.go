package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"skerry/examples/image"
	"skerry/internal/api/ecr"
	"skerry/internal/base/ids"
)

// demoImage is examples/image: a static web server is made into an image without
// Docker, pushed to a repository, pulled from there and run.
func demoImage(ctx context.Context, sh *show) (kept string, err error) {
	d := &imageDemo{show: sh, name: "hello-" + strings.ToLower(ids.Alnum(8)), docker: newDockerClient(sh.server.Docker)}
	if sh.server.Docker == "" {
		return "", errors.New("this cloud serves no socket for docker clients (start it with --docker-socket PATH)")
	}
	return "the repository and container " + d.name, d.run(ctx)
}

// demoTag is the tag of the demo's image.
const demoTag = "1"

// imageDemo is one run of examples/image.
type imageDemo struct {
	*show
	docker  *dockerClient
	name    string // of the repository and the container
	uri     string // of the repository
	image   string // uri:tag
	program []byte
	address string // of the running web server
}

func (d *imageDemo) run(ctx context.Context) error {
	return d.steps([]step{
		{"a static web server, compiled", func() (string, error) { return d.compile(ctx) }},
		{"a repository", func() (string, error) { return d.repository(ctx) }},
		{"an image of it, made without Docker", func() (string, error) { return d.pack(ctx) }},
		{"pushed", func() (string, error) { return d.push(ctx) }},
		{"removed here and pulled again", func() (string, error) { return d.pull(ctx) }},
		{"run", func() (string, error) { return d.start(ctx) }},
		{"asked", func() (string, error) { return d.get(ctx) }},
		{"its log", func() (string, error) { return d.log(ctx) }},
	})
}

func (d *imageDemo) compile(ctx context.Context) (string, error) {
	if _, err := exec.LookPath("go"); err != nil {
		return "", fmt.Errorf("the demo compiles its web server: install Go (https://go.dev/dl): %w", err)
	}
	dir, err := os.MkdirTemp("", "skerry-demo-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	for name, content := range map[string][]byte{"main.go": image.Server, "go.mod": []byte("module server\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			return "", err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", "server", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	d.program, err = os.ReadFile(filepath.Join(dir, "server"))
	return fmt.Sprintf("%d bytes", len(d.program)), err
}

func (d *imageDemo) repository(ctx context.Context) (string, error) {
	out, err := call[ecr.CreateRepositoryOutput](ctx, d.client, ecr.Schema, "CreateRepository", &ecr.CreateRepositoryInput{RepositoryName: &d.name})
	if err != nil {
		return "", err
	}
	d.undo(func(ctx context.Context) error {
		_, err := call[ecr.DeleteRepositoryOutput](ctx, d.client, ecr.Schema, "DeleteRepository",
			&ecr.DeleteRepositoryInput{RepositoryName: &d.name, Force: new(true)})
		return err
	})
	d.uri = *out.Repository.RepositoryUri
	d.image = d.uri + ":" + demoTag
	return d.uri, nil
}

func (d *imageDemo) pack(ctx context.Context) (string, error) {
	var archive bytes.Buffer
	if err := image.Archive(&archive, d.image, d.program); err != nil {
		return "", err
	}
	if err := d.docker.stream(ctx, "/images/load", nil, &archive); err != nil {
		return "", err
	}
	d.undo(func(ctx context.Context) error {
		return d.docker.do(ctx, http.MethodDelete, "/images/"+d.image, nil, nil)
	})
	var got struct {
		ID   string `json:"Id"`
		Size int64
	}
	err := d.docker.do(ctx, http.MethodGet, "/images/"+d.image+"/json", nil, &got)
	return fmt.Sprintf("%s\n%s, %d bytes unpacked", d.image, got.ID, got.Size), err
}

// auth is the header by which the engine signs in at the registry.
func (d *imageDemo) auth(ctx context.Context) (http.Header, error) {
	out, err := call[ecr.GetAuthorizationTokenOutput](ctx, d.client, ecr.Schema, "GetAuthorizationToken", &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return nil, err
	}
	if len(out.AuthorizationData) == 0 || out.AuthorizationData[0].AuthorizationToken == nil {
		return nil, errors.New("no token")
	}
	token, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		return nil, err
	}
	user, password, _ := strings.Cut(string(token), ":")
	config, err := json.Marshal(map[string]string{"username": user, "password": password})
	return http.Header{"X-Registry-Auth": {base64.URLEncoding.EncodeToString(config)}}, err
}

func (d *imageDemo) push(ctx context.Context) (string, error) {
	header, err := d.auth(ctx)
	if err != nil {
		return "", err
	}
	if err := d.docker.stream(ctx, "/images/"+d.uri+"/push?tag="+demoTag, header, nil); err != nil {
		return "", err
	}
	out, err := call[ecr.DescribeImagesOutput](ctx, d.client, ecr.Schema, "DescribeImages", &ecr.DescribeImagesInput{RepositoryName: &d.name})
	if err != nil {
		return "", err
	}
	if len(out.ImageDetails) != 1 {
		return "", fmt.Errorf("%d images in the repository", len(out.ImageDetails))
	}
	i := out.ImageDetails[0]
	return fmt.Sprintf("%s, %d bytes in the registry", *i.ImageDigest, *i.ImageSizeInBytes), nil
}

func (d *imageDemo) pull(ctx context.Context) (string, error) {
	if err := d.docker.do(ctx, http.MethodDelete, "/images/"+d.image, nil, nil); err != nil {
		return "", err
	}
	header, err := d.auth(ctx)
	if err != nil {
		return "", err
	}
	return d.image, d.docker.stream(ctx, "/images/create?fromImage="+d.uri+"&tag="+demoTag, header, nil)
}

func (d *imageDemo) start(ctx context.Context) (string, error) {
	port := fmt.Sprintf("%d/tcp", image.Port)
	spec := map[string]any{
		"Image": d.image, "ExposedPorts": map[string]any{port: map[string]any{}},
		"HostConfig": map[string]any{"PortBindings": map[string]any{port: []any{map[string]string{"HostIp": "127.0.0.1", "HostPort": ""}}}},
	}
	if err := d.docker.do(ctx, http.MethodPost, "/containers/create?name="+d.name, spec, nil); err != nil {
		return "", err
	}
	d.undo(func(ctx context.Context) error {
		return d.docker.do(ctx, http.MethodDelete, "/containers/"+d.name+"?force=1", nil, nil)
	})
	if err := d.docker.do(ctx, http.MethodPost, "/containers/"+d.name+"/start", nil, nil); err != nil {
		return "", err
	}
	var got struct {
		NetworkSettings struct {
			IPAddress string
			Ports     map[string][]struct{ HostIp, HostPort string }
		}
	}
	if err := d.docker.do(ctx, http.MethodGet, "/containers/"+d.name+"/json", nil, &got); err != nil {
		return "", err
	}
	published := got.NetworkSettings.Ports[port]
	if len(published) == 0 {
		return "", errors.New("its port is not published")
	}
	d.address = published[0].HostIp + ":" + published[0].HostPort
	return "its port 8080 is this machine's " + d.address, nil
}

func (d *imageDemo) get(ctx context.Context) (page string, err error) {
	err = d.wait(ctx, func() (bool, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.address+"/", nil)
		if err != nil {
			return false, err
		}
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			return false, nil // it does not listen yet
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(io.LimitReader(answer.Body, 1<<10))
		page = string(b)
		return true, err
	})
	return page, err
}

func (d *imageDemo) log(ctx context.Context) (string, error) {
	return d.docker.logs(ctx, d.name)
}
