package image

import (
	"encoding/json"
	"fmt"
	"time"

	"skerry/internal/engine"
)

// The media types of manifests.
const (
	typeIndex      = "application/vnd.oci.image.index.v1+json"
	typeManifest   = "application/vnd.oci.image.manifest.v1+json"
	typeList       = "application/vnd.docker.distribution.manifest.list.v2+json"
	typeSchema2    = "application/vnd.docker.distribution.manifest.v2+json"
	typeSchema1    = "application/vnd.docker.distribution.manifest.v1+json"
	typeSigned     = "application/vnd.docker.distribution.manifest.v1+prettyjws"
	typeConfig     = "application/vnd.docker.container.image.v1+json"
	typeOCIConfig  = "application/vnd.oci.image.config.v1+json"
	typeLayer      = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	typeForeign    = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
	typeNonDistrib = "application/vnd.oci.image.layer.nondistributable.v1.tar" // and +gzip, +zstd
)

// The most that manifests and configurations may have, in bytes. Registries have
// the first limit too.
const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxLayers   = 400 // overlayfs mounts 500
)

// descriptor names content by digest. Its JSON is the OCI image format's.
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platform     *platform         `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

type platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

// manifest is an image's manifest or an index of several.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        *descriptor  `json:"config,omitempty"`
	Layers        []descriptor `json:"layers,omitempty"`
	Manifests     []descriptor `json:"manifests,omitempty"`
}

// configuration is an image's configuration, of which its digest is the id.
type configuration struct {
	Created      *time.Time `json:"created"`
	Author       string     `json:"author"`
	Architecture string     `json:"architecture"`
	Variant      string     `json:"variant"`
	OS           string     `json:"os"`
	Config       struct {
		Entrypoint, Cmd, Env, Shell, OnBuild []string
		User, WorkingDir, StopSignal         string
		Labels                               map[string]string
		ExposedPorts, Volumes                map[string]struct{}
		Healthcheck                          *struct {
			Test                                          []string
			Interval, Timeout, StartPeriod, StartInterval time.Duration
			Retries                                       int
		}
	} `json:"config"`
	RootFS struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []struct {
		Created    *time.Time `json:"created"`
		CreatedBy  string     `json:"created_by"`
		Author     string     `json:"author"`
		Comment    string     `json:"comment"`
		EmptyLayer bool       `json:"empty_layer"`
	} `json:"history"`
}

// parseConfiguration reads a configuration.
func parseConfiguration(body []byte) (*configuration, error) {
	c := new(configuration)
	if err := json.Unmarshal(body, c); err != nil {
		return nil, fmt.Errorf("the image's configuration: %w", err)
	}
	if c.OS == "" {
		c.OS = "linux"
	}
	if len(c.RootFS.DiffIDs) > maxLayers {
		return nil, fmt.Errorf("the image has %d layers, more than %d", len(c.RootFS.DiffIDs), maxLayers)
	}
	for _, d := range c.RootFS.DiffIDs {
		if !validDigest(d) {
			return nil, fmt.Errorf("the image's configuration has the layer %.80q", d)
		}
	}
	return c, nil
}

// fill writes into a row what a configuration says.
func (c *configuration) fill(r *imageRow) {
	if c.Created != nil {
		r.Created = *c.Created
	}
	r.Platform = engine.Platform{OS: c.OS, Architecture: c.Architecture, Variant: c.Variant}
	r.Config = engine.ImageConfig{
		Entrypoint: c.Config.Entrypoint, Command: c.Config.Cmd, Env: c.Config.Env, Dir: c.Config.WorkingDir, User: c.Config.User,
		Labels: c.Config.Labels, Ports: keys(c.Config.ExposedPorts), Volumes: keys(c.Config.Volumes), StopSignal: c.Config.StopSignal,
		Shell: c.Config.Shell, OnBuild: c.Config.OnBuild, Author: c.Author,
	}
	if h := c.Config.Healthcheck; h != nil {
		r.Config.Health = &engine.ImageHealth{
			Test: h.Test, Interval: h.Interval, Timeout: h.Timeout, Start: h.StartPeriod, StartEvery: h.StartInterval, Retries: h.Retries,
		}
	}
	r.History = nil
	for _, h := range c.History {
		e := engine.ImageHistory{CreatedBy: h.CreatedBy, Author: h.Author, Comment: h.Comment, Empty: h.EmptyLayer}
		if h.Created != nil {
			e.Created = *h.Created
		}
		r.History = append(r.History, e)
	}
}
