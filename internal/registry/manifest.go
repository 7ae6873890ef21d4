package registry

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"strings"

	"skerry/internal/blob"
)

// The media types of manifests.
const (
	OCIManifest    = "application/vnd.oci.image.manifest.v1+json"
	OCIIndex       = "application/vnd.oci.image.index.v1+json"
	DockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	DockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// MaxManifest is the length of a manifest in bytes. Page: the specification,
// "Pushing Manifests".
const MaxManifest = 4 << 20

// maxNamed bounds what one manifest names.
const maxNamed = 4096

// document is a manifest as it is written.
type document struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        *Descriptor       `json:"config"`
	Layers        *[]Descriptor     `json:"layers"`
	Manifests     *[]Descriptor     `json:"manifests"`
	Subject       *Descriptor       `json:"subject"`
	Annotations   map[string]string `json:"annotations"`
	FSLayers      json.RawMessage   `json:"fsLayers"` // schema 1
}

// Digest returns the SHA-256 digest of bytes.
func Digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// digestAs returns the digest of bytes by the algorithm of another digest.
func digestAs(like string, b []byte) string {
	if strings.HasPrefix(like, "sha512:") {
		sum := sha512.Sum512(b)
		return "sha512:" + hex.EncodeToString(sum[:])
	}
	return Digest(b)
}

// Prepare reads a manifest that is to be put. mediaType is what the client says
// it is, and may be empty; digest is what it must have, and may be empty. A long
// manifest is stored. Errors: ParameterInvalid, DigestMismatch.
func (r *Registry) Prepare(ctx context.Context, mediaType, digest string, body []byte) (*Manifest, error) {
	m, err := Parse(mediaType, body)
	if err != nil {
		return nil, err
	}
	if digest != "" {
		if m.Digest = digestAs(digest, body); m.Digest != digest {
			return nil, fail(DigestMismatch, "The image digest '%s' does not match the digest '%s' of the image manifest", digest, m.Digest)
		}
	}
	if len(body) <= blob.InlineMax {
		m.Body = body
		return m, nil
	}
	w, err := r.Blobs.Create(ctx, blob.CreateOptions{})
	if err != nil {
		return nil, err
	}
	defer w.Abort()
	if _, err := w.Write(body); err != nil {
		return nil, err
	}
	m.Ref, err = w.Commit()
	return m, err
}

// Parse reads a manifest without storing anything; its Digest is SHA-256. Errors:
// ParameterInvalid.
func Parse(mediaType string, body []byte) (*Manifest, error) {
	if len(body) > MaxManifest {
		return nil, invalidManifest("it is longer than %d bytes", MaxManifest).as("SIZE_INVALID")
	}
	var d document
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, invalidManifest("it is not JSON")
	}
	if d.SchemaVersion == 1 || d.FSLayers != nil {
		return nil, invalidManifest("schema version 1 is not supported")
	}
	if d.SchemaVersion != 2 {
		return nil, invalidManifest("its schemaVersion is not 2")
	}
	mediaType, _, _ = strings.Cut(mediaType, ";")
	mediaType = strings.TrimSpace(mediaType)
	switch {
	case mediaType == "":
		mediaType = d.MediaType
	case d.MediaType != "" && d.MediaType != mediaType:
		return nil, invalidManifest("its mediaType is %q, and it was sent as %q", d.MediaType, mediaType)
	}
	if mediaType == "" {
		if mediaType = OCIManifest; d.Manifests != nil {
			mediaType = OCIIndex
		}
	}
	m := &Manifest{
		Digest: Digest(body), MediaType: mediaType, Size: int64(len(body)), ArtifactType: d.ArtifactType, Annotations: d.Annotations,
	}
	var err error
	switch mediaType {
	case OCIManifest, DockerManifest:
		err = m.image(&d)
	case OCIIndex, DockerList:
		err = m.index(&d)
	default:
		return nil, invalidManifest("the media type %q is not supported", mediaType)
	}
	if err != nil {
		return nil, err
	}
	if d.Subject != nil {
		if !d.Subject.sound() {
			return nil, invalidManifest("its subject is not a descriptor")
		}
		m.Subject = d.Subject.Digest
	}
	return m, nil
}

// image takes over what an image or artifact names.
func (m *Manifest) image(d *document) error {
	if d.Manifests != nil {
		return invalidManifest("it is both an image and an index")
	}
	if d.Config == nil || !d.Config.sound() {
		return invalidManifest("its config is not a descriptor")
	}
	if d.Layers == nil {
		return invalidManifest("it has no layers")
	}
	if len(*d.Layers) > maxNamed {
		return invalidManifest("it names more than %d layers", maxNamed)
	}
	m.Config, m.Layers = d.Config, *d.Layers
	m.ImageSize = m.Config.Size
	for i := range m.Layers {
		if !m.Layers[i].sound() {
			return invalidManifest("layer %d is not a descriptor", i)
		}
		m.ImageSize += m.Layers[i].Size
	}
	if m.ArtifactType == "" {
		m.ArtifactType = m.Config.MediaType
	}
	return nil
}

// index takes over what an index names.
func (m *Manifest) index(d *document) error {
	if d.Layers != nil || d.Config != nil {
		return invalidManifest("it is both an image and an index")
	}
	if d.Manifests == nil {
		return invalidManifest("it has no manifests")
	}
	if len(*d.Manifests) > maxNamed {
		return invalidManifest("it names more than %d manifests", maxNamed)
	}
	m.Manifests = *d.Manifests
	for i := range m.Manifests {
		if !m.Manifests[i].sound() {
			return invalidManifest("manifest %d is not a descriptor", i)
		}
		m.ImageSize += m.Manifests[i].Size
	}
	return nil
}

func (d *Descriptor) sound() bool {
	return ValidDigest(d.Digest) && d.Size >= 0 && d.Size < 1<<50 && len(d.MediaType) <= 255
}

// foreign tells whether a layer is fetched from elsewhere and never pushed.
func (d *Descriptor) foreign() bool {
	return strings.Contains(d.MediaType, ".nondistributable.") || strings.Contains(d.MediaType, ".foreign.")
}

// blobs returns the configuration and layers that the repository must have.
func (m *Manifest) blobs() []Descriptor {
	var out []Descriptor
	if m.Config != nil {
		out = append(out, *m.Config)
	}
	return append(out, slices.DeleteFunc(slices.Clone(m.Layers), func(d Descriptor) bool { return d.foreign() })...)
}

// IsIndex tells whether the manifest names others.
func (m *Manifest) IsIndex() bool { return m.MediaType == OCIIndex || m.MediaType == DockerList }

func invalidManifest(format string, args ...any) *Error {
	e := fail(ParameterInvalid, "Invalid parameter at 'imageManifest' failed to satisfy constraint: "+format, args...)
	return e.as("MANIFEST_INVALID")
}

// ReadManifest returns the bytes of a manifest as they were pushed.
func (r *Registry) ReadManifest(ctx context.Context, m *Manifest) ([]byte, error) {
	if m.Ref == "" {
		return m.Body, nil
	}
	f, err := r.Blobs.Open(ctx, m.Ref, blob.OpenOptions{})
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
