// Package registry keeps container images: the OCI distribution specification
// 1.1 (and Docker's schema 2 beside it) over blob and store. service/ecr is its
// control plane; both go through the same functions, which take a transaction
// wherever they do not stream, so that a caller composes them with rows of its
// own.
//
// # The tables
//
//	registry/repositories  (account, region, name)            Repository
//	registry/manifests     (account, region, name, digest)    Manifest: the bytes, inline or a blob, and what they name
//	registry/tags          (account, region, name, tag)       Tag: which manifest
//	registry/blobs         (account, region, name, digest)    Blob: a layer or configuration that the repository has
//	registry/uploads       (account, region, name, upload)    Upload: a layer that is coming in
//	registry/parts         (upload, offset)                   part of one, as it came: inline or a blob
//	registry/notices       (account, region, name, digest)    Notice: an image that the engine is still to hear of
//	registry/keys          (name)                             the key of the passwords
//
// A layer is a plain blob, whose name is its SHA-256: equal layers of all
// repositories are one file. A part of an upload is one too, so that a layer that
// came in one piece, as all usual clients send them, needs no copy to become a
// layer. Every acknowledged part is on disk with its row: an upload goes on after
// the server was killed. Files that no row names any more go with the sweep of
// blobs.
//
// # What is not built
//
// Schema 1 manifests are refused, as ECR does.
package registry
