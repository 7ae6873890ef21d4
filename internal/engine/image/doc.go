// Package image keeps the images of a driver that runs containers itself: it pulls
// them from registries, loads and saves archives, pushes, and unpacks each layer
// once, to be mounted by overlayfs.
//
// # What is where
//
//	image/names    name -> image
//	image/images   id -> configuration, manifest, layers; the digests by which it came
//	image/layers   digest of the unpacked layer -> its folder
//	blobs          configurations, manifests and compressed layers, as they came, by their SHA-256
//	Config.Dir     a folder a layer, in overlayfs's own form (package unpack)
//
// A layer is unpacked into a folder that no row knows; when it is whole and on
// disk, the row is written. A folder without a row, and a row without an image, is
// what a crash or a removal has left, and goes in the next run of the loop
// (Store.Loops). What a pull has fetched so far and what a container is just being
// made of is held in memory, and stays.
//
// An image is removed with its last tag, unless a container uses it: then when
// that is gone. One that was pulled by digest alone, or loaded without a name,
// stays until it is removed.
//
// The blobs of a removed image are shared with whoever keeps blobs of the same
// content (the registry of this process), so they are left to the sweep of blobs,
// which asks Referenced.
//
// Left out: signatures of images; going on with a download after a restart;
// choosing an image of an index by its operating system's version.
package image
