package docker

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"skerry/internal/engine"
)

// images are Docker's.
type images struct{ d *Driver }

// Images are the daemon's images.
func (d *Driver) Images() engine.Images { return images{d} }

// progress reads a stream of messages and returns the fault among them.
func progress(r io.Reader, tell func(engine.Progress), line func(string, json.RawMessage)) error {
	for messages := json.NewDecoder(r); ; {
		var m struct {
			ID, Status, Stream string
			Error              string
			ProgressDetail     struct{ Current, Total int64 }
			Aux                json.RawMessage
		}
		if err := messages.Decode(&m); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("docker: %w", err)
		}
		if m.Error != "" {
			status := http.StatusInternalServerError
			if strings.Contains(m.Error, "not found") || strings.Contains(m.Error, "manifest unknown") {
				status = http.StatusNotFound
			}
			return &fault{status, m.Error}
		}
		if tell != nil && m.Status != "" {
			tell(engine.Progress{Layer: m.ID, Status: m.Status, Current: m.ProgressDetail.Current, Total: m.ProgressDetail.Total})
		}
		if line != nil {
			line(m.Stream, m.Aux)
		}
	}
}

func authHeader(a engine.Auth) (http.Header, error) {
	b, err := json.Marshal(map[string]string{"username": a.Username, "password": a.Password,
		"identitytoken": a.IdentityToken, "registrytoken": a.RegistryToken})
	return http.Header{"X-Registry-Auth": {base64.URLEncoding.EncodeToString(b)}}, err
}

// split parts a name from its tag or digest.
func split(name string) (repository, tag string) {
	if i := strings.IndexByte(name, '@'); i >= 0 {
		return name[:i], name[i+1:]
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	return name, "latest"
}

// Pull fetches an image.
func (i images) Pull(ctx context.Context, name string, o engine.PullOptions) (engine.Image, error) {
	header, err := authHeader(o.Auth)
	if err != nil {
		return engine.Image{}, fmt.Errorf("docker: %w", err)
	}
	repository, tag := split(name)
	query := url.Values{"fromImage": {repository}, "tag": {tag}}
	if o.Platform != (engine.Platform{}) {
		query.Set("platform", strings.TrimSuffix(o.Platform.OS+"/"+o.Platform.Architecture+"/"+o.Platform.Variant, "/"))
	}
	a, err := i.d.send(ctx, request{method: http.MethodPost, path: "/images/create", query: query, header: header})
	if err != nil {
		return engine.Image{}, err
	}
	defer a.Body.Close()
	if err := progress(a.Body, o.Progress, nil); err != nil {
		return engine.Image{}, err
	}
	return i.Get(ctx, name)
}

// Ensure returns the image that is here, or pulls it.
func (i images) Ensure(ctx context.Context, name string, o engine.PullOptions) (engine.Image, error) {
	image, err := i.Get(ctx, name)
	if errors.Is(err, engine.ErrNotFound) {
		return i.Pull(ctx, name, o)
	}
	return image, err
}

// Push sends an image to its registry.
func (i images) Push(ctx context.Context, name string, o engine.PushOptions) (digest string, err error) {
	header, err := authHeader(o.Auth)
	if err != nil {
		return "", fmt.Errorf("docker: %w", err)
	}
	repository, tag := split(name)
	a, err := i.d.send(ctx, request{method: http.MethodPost, path: "/images/" + repository + "/push", query: url.Values{"tag": {tag}}, header: header})
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	err = progress(a.Body, o.Progress, func(_ string, aux json.RawMessage) {
		var m struct{ Digest string }
		if len(aux) > 0 && json.Unmarshal(aux, &m) == nil && m.Digest != "" {
			digest = m.Digest
		}
	})
	return digest, err
}

// load takes an archive in and returns the names or ids in it.
func (d *Driver) load(ctx context.Context, archive io.Reader, tell func(engine.Progress)) (names []string, err error) {
	a, err := d.send(ctx, request{method: http.MethodPost, path: "/images/load", body: archive, kind: "application/x-tar"})
	if err != nil {
		return nil, err
	}
	defer a.Body.Close()
	err = progress(a.Body, tell, func(line string, _ json.RawMessage) {
		for _, before := range []string{"Loaded image ID: ", "Loaded image: "} {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), before); ok {
				names = append(names, name)
			}
		}
	})
	return names, err
}

// Load takes an archive in.
func (i images) Load(ctx context.Context, archive io.Reader, tell func(engine.Progress)) ([]engine.Image, error) {
	names, err := i.d.load(ctx, archive, tell)
	if err != nil {
		return nil, err
	}
	var out []engine.Image
	for _, n := range names {
		image, err := i.Get(ctx, n)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(out, func(o engine.Image) bool { return o.ID == image.ID }) {
			out = append(out, image)
		}
	}
	return out, nil
}

// Save writes an archive.
func (i images) Save(ctx context.Context, names []string, w io.Writer) error {
	a, err := i.d.send(ctx, request{method: http.MethodGet, path: "/images/get", query: url.Values{"names": names}})
	if err != nil {
		return err
	}
	defer a.Body.Close()
	_, err = io.Copy(w, a.Body)
	return err
}

// Tag gives an image one more name.
func (i images) Tag(ctx context.Context, image, name string) error {
	repository, tag := split(name)
	return i.d.do(ctx, http.MethodPost, "/images/"+image+"/tag", url.Values{"repo": {repository}, "tag": {tag}}, nil, nil)
}

// removal is what Docker answers of what it removed.
type removal []struct{ Untagged, Deleted string }

func (r removal) removed() (out engine.Removed) {
	for _, e := range r {
		if e.Untagged != "" {
			out.Names = append(out.Names, e.Untagged)
		}
		if e.Deleted != "" {
			out.Images = append(out.Images, e.Deleted)
		}
	}
	return out
}

// Remove takes a name away, and with the last one the image.
func (i images) Remove(ctx context.Context, image string, force bool) (engine.Removed, error) {
	query := url.Values{}
	if force {
		query.Set("force", "1")
	}
	var r removal
	err := i.d.do(ctx, http.MethodDelete, "/images/"+image, query, nil, &r)
	return r.removed(), err
}

// Prune removes what is not used.
func (i images) Prune(ctx context.Context, all bool) (engine.Removed, int64, error) {
	var r struct {
		ImagesDeleted  removal
		SpaceReclaimed int64
	}
	filters := fmt.Sprintf(`{"dangling":["%t"]}`, !all)
	err := i.d.do(ctx, http.MethodPost, "/images/prune", url.Values{"filters": {filters}}, nil, &r)
	return r.ImagesDeleted.removed(), r.SpaceReclaimed, err
}

// List tells of all images.
func (i images) List(ctx context.Context) ([]engine.Image, error) {
	var list []struct {
		ID string `json:"Id"`
	}
	if err := i.d.do(ctx, http.MethodGet, "/images/json", nil, nil, &list); err != nil {
		return nil, err
	}
	var out []engine.Image
	for _, l := range list {
		image, err := i.Get(ctx, l.ID)
		if errors.Is(err, engine.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, image)
	}
	slices.SortStableFunc(out, func(a, b engine.Image) int { return b.Created.Compare(a.Created) })
	return out, nil
}

// Get tells of one image ("Inspect an image").
func (i images) Get(ctx context.Context, image string) (engine.Image, error) {
	var got struct {
		ID                    string `json:"Id"`
		RepoTags, RepoDigests []string
		Created               time.Time
		Size                  int64
		OS                    string `json:"Os"`
		Architecture, Variant string
		Author                string
		Config                struct {
			Entrypoint, Cmd, Env, Shell, OnBuild []string
			WorkingDir, User, StopSignal         string
			Labels                               map[string]string
			ExposedPorts, Volumes                map[string]struct{}
			Healthcheck                          *struct {
				Test                                          []string
				Interval, Timeout, StartPeriod, StartInterval time.Duration
				Retries                                       int
			}
		}
		RootFS struct{ Layers []string }
	}
	if err := i.d.do(ctx, http.MethodGet, "/images/"+image+"/json", nil, nil, &got); err != nil {
		return engine.Image{}, fmt.Errorf("engine: image %s: %w", image, err)
	}
	c := got.Config
	out := engine.Image{
		ID: got.ID, Names: slices.Sorted(slices.Values(got.RepoTags)), Digests: got.RepoDigests, Created: got.Created, Size: got.Size,
		Platform: engine.Platform{OS: got.OS, Architecture: got.Architecture, Variant: got.Variant}, Layers: got.RootFS.Layers,
		Config: engine.ImageConfig{
			Entrypoint: c.Entrypoint, Command: c.Cmd, Env: c.Env, Dir: c.WorkingDir, User: c.User, Labels: c.Labels,
			StopSignal: c.StopSignal, Shell: c.Shell, OnBuild: c.OnBuild, Author: got.Author,
		},
	}
	for p := range c.ExposedPorts {
		out.Config.Ports = append(out.Config.Ports, p)
	}
	for v := range c.Volumes {
		out.Config.Volumes = append(out.Config.Volumes, v)
	}
	slices.Sort(out.Config.Ports)
	slices.Sort(out.Config.Volumes)
	if h := c.Healthcheck; h != nil {
		out.Config.Health = &engine.ImageHealth{Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, Start: h.StartPeriod,
			StartEvery: h.StartInterval, Retries: h.Retries}
	}
	var history []struct {
		Created            int64
		CreatedBy, Comment string
		Size               int64
	}
	if err := i.d.do(ctx, http.MethodGet, "/images/"+image+"/history", nil, nil, &history); err != nil {
		return engine.Image{}, fmt.Errorf("engine: image %s: %w", image, err)
	}
	for _, h := range slices.Backward(history) {
		out.History = append(out.History, engine.ImageHistory{Created: time.Unix(h.Created, 0).UTC(), CreatedBy: h.CreatedBy,
			Comment: h.Comment, Empty: h.Size == 0})
	}
	return out, nil
}
