package engine

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"
)

// Images are the images that a driver has. A name is as Docker writes it:
// [host[:port]/]path[:tag][@digest]; without a host it is docker.io's, without
// tag and digest it is :latest. Where an image is asked for, its id will do as
// well: "sha256:" and 64 hexadecimal digits, or the first of those, at least 4.
// All methods are safe for concurrent use.
type Images interface {
	// Pull fetches an image from its registry, for this machine's platform
	// unless told otherwise, and unpacks it. What is here already is not
	// fetched again; the same layer pulled twice at once is fetched once.
	Pull(ctx context.Context, name string, o PullOptions) (Image, error)
	// Ensure returns the image of that name that is here, or pulls it.
	Ensure(ctx context.Context, name string, o PullOptions) (Image, error)
	// Push sends an image to the registry that its name says. It returns the
	// digest of the manifest there.
	Push(ctx context.Context, name string, o PushOptions) (digest string, err error)
	// Load takes an archive in, as `docker save` or an OCI layout, compressed
	// or not, and returns its images.
	Load(ctx context.Context, archive io.Reader, progress func(Progress)) ([]Image, error)
	// Save writes an archive that Load, `docker load` and skopeo understand.
	Save(ctx context.Context, names []string, w io.Writer) error
	// Tag gives an image one more name, taking it from the one that had it.
	Tag(ctx context.Context, image, name string) error
	// Remove takes a name away, and with the last one the image and the layers
	// that no other has. By id, it removes the image if it has one name at
	// most, or with force. An image that a container uses is not removed
	// (ErrState) but, with force, loses its names.
	Remove(ctx context.Context, image string, force bool) (Removed, error)
	// List tells of all images, the newest first.
	List(ctx context.Context) ([]Image, error)
	// Get tells of one. Errors: ErrNotFound.
	Get(ctx context.Context, image string) (Image, error)
	// Prune removes the images that have no name and no container, or, with
	// all, those that no container uses. It returns what went and the bytes
	// that became free.
	Prune(ctx context.Context, all bool) (Removed, int64, error)
}

// Auth is how to sign in at a registry. Nothing of it is logged.
type Auth struct {
	Username, Password string
	IdentityToken      string // an OAuth2 refresh token
	RegistryToken      string // a bearer token, sent as it is
}

// Platform is what an image runs on; the zero Platform is this machine's.
type Platform struct{ OS, Architecture, Variant string }

// PullOptions of Images.Pull. The zero value will do.
type PullOptions struct {
	Auth     Auth
	Platform Platform
	Progress func(Progress) // called often, and by several goroutines
}

// PushOptions of Images.Push.
type PushOptions struct {
	Auth     Auth
	Progress func(Progress)
}

// Progress is how far a layer, or the whole (no Layer), has come.
type Progress struct {
	Layer          string // the beginning of its digest, 12 hexadecimal digits
	Status         string // as Docker says it: "Downloading", "Extracting", "Pull complete", "Already exists", "Pushed", ...
	Current, Total int64  // bytes; zero where they make no sense
}

// Image is an image on this machine.
type Image struct {
	ID       string   // the digest of its configuration, "sha256:..."
	Names    []string // with tag, sorted, as Docker shows them: "busybox:latest", "localhost:4566/app:v1"
	Digests  []string // name@digest, of the manifests by which it came or went
	Created  time.Time
	Size     int64 // bytes, unpacked
	Platform Platform
	Config   ImageConfig
	Layers   []string // the digests of the unpacked layers, the lowest first
	// LayerSizes are the bytes of each of Layers, where they are known.
	LayerSizes []int64
	History    []ImageHistory
}

// ImageConfig is what an image says of its containers.
type ImageConfig struct {
	Entrypoint, Command []string
	Env                 []string
	Dir, User           string
	Labels              map[string]string
	Ports               []string // "80/tcp"
	Volumes             []string // paths
	StopSignal          string   // "SIGQUIT", "3"; empty is SIGTERM
	Health              *ImageHealth
	Shell, OnBuild      []string
	Author              string
}

// ImageHealth is an image's HEALTHCHECK.
type ImageHealth struct {
	Test                                 []string // {"NONE"}, {"CMD", ...} or {"CMD-SHELL", text}
	Interval, Timeout, Start, StartEvery time.Duration
	Retries                              int
}

// ImageHistory is a step by which an image was made.
type ImageHistory struct {
	Created                    time.Time
	CreatedBy, Author, Comment string
	Empty                      bool // it made no layer
}

// CommitSpec says what Engine.Commit makes of a container.
type CommitSpec struct {
	Name            string // of the image, if not empty
	Author, Comment string
	CreatedBy       string      // of its history: what the container ran
	Config          ImageConfig // all of it
}

// Removed is what Images.Remove and Prune took away.
type Removed struct {
	Names  []string // untagged
	Images []string // ids, deleted
}

// Run is the program and arguments of a container of the image: an entry point
// that is given drops the image's arguments as well, as with Docker.
func (c *ImageConfig) Run(entrypoint, command []string) []string {
	if entrypoint != nil {
		return slices.Concat(entrypoint, command)
	}
	if command == nil {
		command = c.Command
	}
	return slices.Concat(c.Entrypoint, command)
}

// Environ is the environment of a container of the image: the image's, with
// what is given in its place or behind it. There is always a PATH.
func (c *ImageConfig) Environ(given []string) []string {
	out := []string{}
	set := func(all []string) {
		for _, e := range all {
			name, _, _ := strings.Cut(e, "=")
			i := slices.IndexFunc(out, func(o string) bool { return strings.HasPrefix(o, name+"=") })
			if i >= 0 {
				out[i] = e
			} else {
				out = append(out, e)
			}
		}
	}
	set([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"})
	set(c.Env)
	set(given)
	return out
}

// Docker is the configuration in the JSON of Docker and of the OCI image format.
func (c *ImageConfig) Docker() map[string]any {
	out := map[string]any{}
	put := func(name string, value any, is bool) {
		if is {
			out[name] = value
		}
	}
	set := func(all []string) map[string]any {
		m := map[string]any{}
		for _, name := range all {
			m[name] = struct{}{}
		}
		return m
	}
	put("Entrypoint", c.Entrypoint, c.Entrypoint != nil)
	put("Cmd", c.Command, c.Command != nil)
	put("Env", c.Env, len(c.Env) > 0)
	put("WorkingDir", c.Dir, c.Dir != "")
	put("User", c.User, c.User != "")
	put("Labels", c.Labels, len(c.Labels) > 0)
	put("ExposedPorts", set(c.Ports), len(c.Ports) > 0)
	put("Volumes", set(c.Volumes), len(c.Volumes) > 0)
	put("StopSignal", c.StopSignal, c.StopSignal != "")
	put("Shell", c.Shell, len(c.Shell) > 0)
	put("OnBuild", c.OnBuild, len(c.OnBuild) > 0)
	if h := c.Health; h != nil {
		out["Healthcheck"] = map[string]any{"Test": h.Test, "Interval": h.Interval, "Timeout": h.Timeout, "StartPeriod": h.Start,
			"StartInterval": h.StartEvery, "Retries": h.Retries}
	}
	return out
}
