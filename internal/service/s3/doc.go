// Package s3 is Amazon S3: buckets and objects with versions, multipart uploads,
// listings, policies, access control lists, locks, lifecycle, notifications,
// replication, CORS and website hosting.
//
// # An object
//
// A write receives the whole body, verifies it and makes it durable before any row
// tells of it; then one transaction makes it the current version, moves or releases
// the former one, and puts the events it causes into the outbox. So after a crash an
// acknowledged object is there whole, and any other is as it was. Bodies of up to
// blob.InlineMax bytes are in the row, so that a small put is one group-committed
// transaction; longer ones are a blob each part, which streams both ways.
//
//	          put                 put, versioning on           delete by id
//	(none) ---------> current ------------------------> noncurrent -----------> (none)
//	                     |  \__ put, versioning off: released       ^
//	                     |  \__ delete, versioning on: a delete marker becomes
//	                     |      the current version, this one noncurrent
//	                     \__ delete, versioning off: released
//
// What is released shares its bytes with copies, or they are deleted: with the row,
// or by the garbage loop from rows written in the same transaction.
//
// # Tables
//
//	s3/buckets    name                      bucketRow: settings that most requests need
//	  account     account
//	s3/configs    bucket id, kind           configRow: cors, lifecycle, notification, replication, website
//	s3/objects    bucket id, key            objectRow: the current version, perhaps a delete marker
//	s3/versions   bucket id, key, ^sequence objectRow: the noncurrent ones, the newest first
//	  null        bucket id, key            of the version "null"
//	s3/contents   content id, part          contentRow: bytes inline, or the blob's ref
//	  blob        ref
//	              content id, 0             sizes of a multipart object's parts
//	s3/shares     content id                shareRow: how many objects share it, where it is several
//	s3/uploads    bucket id, key, upload id uploadRow: under way; its parts are contents of its id
//	s3/garbage    time, id                  garbageRow: blobs and contents to delete after a time
//	s3/metered    bucket id                 meteredRow: until when its storage is metered
//	s3/masters    id                        masterRow: keys that seal the objects' data keys (SSE-S3)
//
// A bucket id is of one incarnation: a bucket made again under its name has another.
// A content id is an upload's id or a random one. A version id holds the sequence
// number by which its row is found.
//
// # What is left out
//
// These operations answer NotImplemented: accelerate, analytics, intelligent
// tiering, inventory, logging, metadata tables, metrics and request payment of
// buckets; annotations; attribute-based access control; directory buckets
// (CreateSession, ListDirectoryBuckets, RenameObject); Object Lambda
// (WriteGetObjectResponse); RestoreObject, SelectObjectContent, GetObjectTorrent,
// UpdateObjectEncryption; and the first, deprecated forms of lifecycle and
// notification configurations.
//
// And so do: SSE-KMS, as there is no KMS yet; the archive classes GLACIER and
// DEEP_ARCHIVE; MFA delete; appending to objects; replication time control, of
// existing objects and of changes to replicas. The other storage classes are told
// back and metered but stored alike.
//
// # What differs
//
// A bucket is reached through any region's endpoint. A target of a notification that
// Skerry has no service for is refused as one that does not exist. If the access
// control list of an object gives it to another account than the bucket's, the
// bucket's policy counts for it nevertheless.
package s3
