package image

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"

	"skerry/internal/engine"
)

// The annotations by which an OCI layout names an image.
const (
	annotationName = "io.containerd.image.name"          // in full
	annotationRef  = "org.opencontainers.image.ref.name" // often the tag alone
)

// layout reads the index of an OCI layout. Of images for several platforms, the
// one that suits the machine is taken.
func (l *loading) layout(text []byte) ([]arrival, error) {
	var index manifest
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var out []arrival
	for _, d := range index.Manifests {
		a, err := l.described(d, 0)
		if err != nil {
			return nil, err
		}
		for _, key := range []string{annotationName, annotationRef} {
			text := d.Annotations[key]
			if !strings.ContainsAny(text, ":/") {
				continue
			}
			if n, err := ParseName(text); err == nil && n.Digest == "" {
				a.names = []Name{n}
				break
			}
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, faultf(engine.ErrInvalid, "the archive's index has no image")
	}
	return out, nil
}

// described reads an image that an index names.
func (l *loading) described(d descriptor, depth int) (a arrival, err error) {
	text, ok := l.text["blobs/sha256/"+hexOf(d.Digest)]
	if !ok || digestOf(text) != d.Digest {
		return a, fmt.Errorf("the archive has no manifest %.80q", d.Digest)
	}
	var m manifest
	if err := json.Unmarshal(text, &m); err != nil {
		return a, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	if m.Config == nil {
		if depth > 2 {
			return a, faultf(engine.ErrInvalid, "the archive has indexes within indexes")
		}
		next, err := choose(m.Manifests, machine())
		if err != nil {
			return a, err
		}
		return l.described(next, depth+1)
	}
	a.config = l.text["blobs/sha256/"+hexOf(m.Config.Digest)]
	if a.config == nil || digestOf(a.config) != m.Config.Digest {
		return a, fmt.Errorf("the archive has no configuration %.80q", m.Config.Digest)
	}
	c, err := parseConfiguration(a.config)
	if err != nil {
		return a, err
	}
	if len(c.RootFS.DiffIDs) != len(m.Layers) {
		return a, fmt.Errorf("the manifest has %d layers, the configuration %d", len(m.Layers), len(c.RootFS.DiffIDs))
	}
	for i, d := range m.Layers {
		got, ok := l.layers["blobs/sha256/"+hexOf(d.Digest)]
		if !ok {
			return a, fmt.Errorf("the archive has no layer %.80q", d.Digest)
		}
		if got.DiffID != c.RootFS.DiffIDs[i] {
			return a, fmt.Errorf("layer %s is %s and not %s", d.Digest, got.DiffID, c.RootFS.DiffIDs[i])
		}
		a.layers = append(a.layers, got.layerUse)
	}
	return a, l.manifest(&a)
}

// machine is this machine's platform.
func machine() engine.Platform {
	return engine.Platform{OS: "linux", Architecture: runtime.GOARCH}
}
