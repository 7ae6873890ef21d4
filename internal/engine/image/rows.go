package image

import (
	"time"

	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/store"
)

// nameRow is a name with a tag.
type nameRow struct {
	Name  string // in full: "docker.io/library/busybox:latest"
	Image string // id
}

var names = store.NewTable("image/names", func(r *nameRow) store.Key { return store.K(r.Name) }, namesByImage)

var namesByImage = store.NewIndex("image", func(r *nameRow) []store.Key { return []store.Key{store.K(r.Image)} })

// imageRow is an image: one manifest for one platform.
type imageRow struct {
	ID       string // digest of the configuration
	Manifest descriptor
	Layers   []layerUse // the lowest first
	Digests  []string   // names in full with digest, of what was asked for
	// Loose: it had a name and has lost it.
	Loose    bool
	Created  time.Time
	Platform engine.Platform
	Config   engine.ImageConfig
	History  []engine.ImageHistory
}

// layerUse is a layer as an image has it.
type layerUse struct {
	Blob   descriptor // compressed, or however it came
	DiffID string     // digest of the archive
}

var images = store.NewTable("image/images", func(r *imageRow) store.Key { return store.K(r.ID) }, imagesByLayer, imagesByBlob, imagesByDigest)

var imagesByLayer = store.NewIndex("layer", func(r *imageRow) []store.Key {
	var keys []store.Key
	for _, l := range r.Layers {
		keys = append(keys, store.K(l.DiffID))
	}
	return keys
})

var imagesByBlob = store.NewIndex("blob", func(r *imageRow) []store.Key {
	keys := []store.Key{store.K(string(ref(r.ID))), store.K(string(ref(r.Manifest.Digest)))}
	for _, l := range r.Layers {
		keys = append(keys, store.K(string(ref(l.Blob.Digest))))
	}
	return keys
})

var imagesByDigest = store.NewIndex("digest", func(r *imageRow) []store.Key {
	var keys []store.Key
	for _, d := range r.Digests {
		keys = append(keys, store.K(d))
	}
	return keys
})

// layerRow is an unpacked layer.
type layerRow struct {
	DiffID  string
	Dir     string // in Config.Dir
	Size    int64  // bytes of its files
	Entries int64
	// Implied are folders whose owner and mode are still to be taken from a
	// layer below.
	Implied []string
}

var layers = store.NewTable("image/layers", func(r *layerRow) store.Key { return store.K(r.DiffID) })

// ref is the blob of a digest.
func ref(digest string) blob.Ref { return blob.Ref(hexOf(digest)) }

func hexOf(digest string) string {
	if len(digest) > 7 && digest[:7] == "sha256:" {
		return digest[7:]
	}
	return digest
}
