package registry

import (
	"time"

	"skerry/internal/base/arn"
	"skerry/internal/blob"
	"skerry/internal/store"
)

// Repo names a repository.
type Repo struct{ Account, Region, Name string }

// Key returns the key of the repository's row, and the prefix of all of its rows.
func (r Repo) Key() store.Key { return store.K(r.Account, r.Region, r.Name) }

// ARN returns the repository's ARN.
func (r Repo) ARN() string {
	return arn.New("ecr", r.Region, r.Account, "repository/"+r.Name).String()
}

// Repository is a place for images. The registry itself honours the mutability
// and the policy; the rest is the control plane's, and here so that a repository
// is one row.
type Repository struct {
	Repo    Repo
	Created time.Time
	// Mutability is one of the four below; Exclusions are the wildcard filters of
	// those with exclusions: tags that match are the exception.
	Mutability string
	Exclusions []string
	Policy     string // JSON; empty: none
	ScanOnPush bool
	Encryption string // AES256, KMS or KMS_DSSE
	KMSKey     string // ARN
	Tags       map[string]string
	Lifecycle  string    // policy, JSON; empty: none
	Evaluated  time.Time // when the lifecycle policy was last applied
}

// Whether a tag may be given to another image. Page: "Image tag mutability".
const (
	Mutable                = "MUTABLE"
	Immutable              = "IMMUTABLE"
	MutableWithExclusion   = "MUTABLE_WITH_EXCLUSION"
	ImmutableWithExclusion = "IMMUTABLE_WITH_EXCLUSION"
)

var repositories = store.NewTable("registry/repositories", func(r *Repository) store.Key { return r.Repo.Key() })

// Manifest is an image, an index of images or an artifact.
type Manifest struct {
	Repo      Repo
	Digest    string
	MediaType string
	Body      []byte   // the bytes as they were pushed, up to blob.InlineMax
	Ref       blob.Ref // of longer ones
	Size      int64    // of the manifest in bytes
	// ImageSize is the sum of what it names: configuration and layers, as they
	// are pushed (compressed), in bytes.
	ImageSize    int64
	Pushed       time.Time
	Pulled       time.Time // last, kept to the hour; zero: never
	ArtifactType string    // of an image without one: its configuration's media type
	Subject      string    // digest of the manifest that this one is about
	Orphaned     time.Time // when that was deleted; zero: it was not
	Archived     bool      // kept, but not to be pulled; see Archive
	ArchivedAt   time.Time // last; zero: never
	ActivatedAt  time.Time // when it was last restored; zero: never
	Annotations  map[string]string
	Config       *Descriptor
	Layers       []Descriptor
	Manifests    []Descriptor // of an index
}

// Descriptor says what a manifest names.
type Descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	URLs         []string          `json:"urls,omitempty"`
	Platform     *Platform         `json:"platform,omitempty"`
}

// Platform is what an image of an index runs on.
type Platform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
}

var manifests = store.NewTable("registry/manifests", func(m *Manifest) store.Key {
	return m.Repo.Key() + store.K(m.Digest)
}, manifestsByBlob, manifestsByChild, manifestsBySubject, manifestsByRef, manifestsOrphaned)

// manifestsByBlob finds the images that name a layer or a configuration.
var manifestsByBlob = store.NewIndex("blob", func(m *Manifest) []store.Key {
	var keys []store.Key
	seen := map[string]bool{}
	for _, d := range m.blobs() {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			keys = append(keys, m.Repo.Key()+store.K(d.Digest))
		}
	}
	return keys
})

// manifestsByChild finds the indexes that name a manifest.
var manifestsByChild = store.NewIndex("child", func(m *Manifest) []store.Key {
	var keys []store.Key
	seen := map[string]bool{}
	for _, d := range m.Manifests {
		if !seen[d.Digest] {
			seen[d.Digest] = true
			keys = append(keys, m.Repo.Key()+store.K(d.Digest))
		}
	}
	return keys
})

var manifestsBySubject = store.NewIndex("subject", func(m *Manifest) []store.Key {
	if m.Subject == "" {
		return nil
	}
	return []store.Key{m.Repo.Key() + store.K(m.Subject)}
})

var manifestsOrphaned = store.NewIndex("orphaned", func(m *Manifest) []store.Key {
	if m.Orphaned.IsZero() {
		return nil
	}
	return []store.Key{store.K(m.Orphaned)}
})

var manifestsByRef = store.NewIndex("ref", func(m *Manifest) []store.Key { return refKey(m.Ref) })

// refKey is the index key of a blob's file, if there is one.
func refKey(r blob.Ref) []store.Key {
	if r == "" {
		return nil
	}
	return []store.Key{store.K(string(r))}
}

// Tag is a name for a manifest.
type Tag struct {
	Repo    Repo
	Tag     string
	Digest  string
	Updated time.Time
	Checked time.Time // when the upstream was last asked; zero: it has none
}

var tags = store.NewTable("registry/tags", func(t *Tag) store.Key { return t.Repo.Key() + store.K(t.Tag) }, tagsByDigest)

var tagsByDigest = store.NewIndex("digest", func(t *Tag) []store.Key {
	return []store.Key{t.Repo.Key() + store.K(t.Digest)}
})

// Blob is a layer or a configuration that a repository has.
type Blob struct {
	Repo    Repo
	Digest  string
	Size    int64
	Content []byte   // up to blob.InlineMax bytes
	Ref     blob.Ref // of longer ones
	// Touched is when it came in or was last asked for while no manifest named it:
	// those that none names go a while after.
	Touched time.Time
}

var blobs = store.NewTable("registry/blobs", func(b *Blob) store.Key { return b.Repo.Key() + store.K(b.Digest) }, blobsByRef, blobsByDigest, blobsByTime)

var blobsByRef = store.NewIndex("ref", func(b *Blob) []store.Key { return refKey(b.Ref) })

// blobsByDigest finds the repositories of an account that have a layer.
var blobsByDigest = store.NewIndex("digest", func(b *Blob) []store.Key { return []store.Key{store.K(b.Repo.Account, b.Repo.Region, b.Digest)} })

var blobsByTime = store.NewIndex("touched", func(b *Blob) []store.Key { return []store.Key{store.K(b.Touched)} })

// Upload is a layer that is coming in.
type Upload struct {
	Repo    Repo
	ID      string
	Size    int64 // bytes received
	Parts   int64
	Last    int64 // bytes of the last part
	Short   bool  // an earlier part is shorter than ECR's API wants
	Started time.Time
	Touched time.Time // when the last part came
}

var uploads = store.NewTable("registry/uploads", func(u *Upload) store.Key { return u.Repo.Key() + store.K(u.ID) }, uploadsByTime)

var uploadsByTime = store.NewIndex("touched", func(u *Upload) []store.Key { return []store.Key{store.K(u.Touched)} })

// part is a stretch of an upload.
type part struct {
	Upload  string
	Offset  int64
	Size    int64
	Content []byte
	Ref     blob.Ref
}

var parts = store.NewTable("registry/parts", func(p *part) store.Key { return store.K(p.Upload, p.Offset) }, partsByRef)

var partsByRef = store.NewIndex("ref", func(p *part) []store.Key { return refKey(p.Ref) })

// keyRow is a secret of the registry.
type keyRow struct {
	Name   string
	Secret []byte
}

var keys = store.NewTable("registry/keys", func(k *keyRow) store.Key { return store.K(k.Name) })
