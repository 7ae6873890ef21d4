package s3

import (
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/blob"
	"skerry/internal/store"
)

// nullVersion is the version id of objects written while versioning was off or
// suspended.
const nullVersion = "null"

// bucketRow is a bucket and the settings that most requests need. The longer
// configurations are rows of their own (configRow); the flags say which exist.
type bucketRow struct {
	Name     string      `cbor:"n"`
	ID       string      `cbor:"i"` // of this incarnation: a bucket made again has another
	Account  string      `cbor:"a"`
	Region   string      `cbor:"r"`
	Created  time.Time   `cbor:"c"`
	State    string      `cbor:"v,omitempty"` // of versioning: "", Enabled or Suspended
	Owner    string      `cbor:"o"`           // object ownership
	ACL      []grant     `cbor:"g,omitempty"`
	Block    *blockRow   `cbor:"b,omitempty"` // public access block
	Policy   string      `cbor:"p,omitempty"`
	Public   bool        `cbor:"pp,omitempty"` // the policy is public
	Tags     []tag       `cbor:"t,omitempty"`
	Encrypt  *encryptRow `cbor:"e,omitempty"`
	Lock     *lockRow    `cbor:"l,omitempty"`
	Notifies bool        `cbor:"fn,omitempty"` // has a notification configuration
	Expires  bool        `cbor:"fl,omitempty"` // has a lifecycle configuration
	Copies   bool        `cbor:"fr,omitempty"` // has a replication configuration
}

func (b *bucketRow) arn() string { return "arn:aws:s3:::" + b.Name }

func (b *bucketRow) objectARN(key string) string { return b.arn() + "/" + key }

// blockRow is a public access block.
type blockRow struct {
	BlockACLs, IgnoreACLs, BlockPolicy, Restrict bool
}

// encryptRow is the bucket's default encryption where it was set by a client.
type encryptRow struct {
	Algorithm string
	BucketKey *bool
	Blocked   []string // encryption types that writes may not ask for: NONE or SSE-C
}

// lockRow is an object lock configuration. Once there it stays.
type lockRow struct {
	Mode        string // default retention; empty for none
	Days, Years int32
}

// tag is a tag of a bucket or an object.
type tag struct {
	Key   string `cbor:"k"`
	Value string `cbor:"v"`
}

// grant is an entry of an access control list.
type grant struct {
	ID         string `cbor:"i,omitempty"` // canonical user
	URI        string `cbor:"u,omitempty"` // group
	Permission string `cbor:"p"`
}

// configRow is one of a bucket's longer configurations, of which exactly one
// member is set: that of its kind. They are kept in the form of the public API,
// which only ever gains members.
type configRow struct {
	Bucket string `cbor:"b"` // bucket id
	Kind   string `cbor:"k"`

	CORS         *s3.CORSConfiguration         `cbor:"c,omitempty"`
	Lifecycle    []s3.LifecycleRule            `cbor:"l,omitempty"`
	MinimumSize  string                        `cbor:"m,omitempty"` // of transitions, with Lifecycle
	Notification *s3.NotificationConfiguration `cbor:"n,omitempty"`
	Replication  *s3.ReplicationConfiguration  `cbor:"r,omitempty"`
	Website      *s3.WebsiteConfiguration      `cbor:"w,omitempty"`
}

// The kinds of configurations.
const (
	kindCORS         = "cors"
	kindLifecycle    = "lifecycle"
	kindNotification = "notification"
	kindReplication  = "replication"
	kindWebsite      = "website"
)

// objectRow is one version of an object, or a delete marker.
type objectRow struct {
	Bucket   string    `cbor:"b"` // bucket id
	Key      string    `cbor:"k"`
	Seq      uint64    `cbor:"s"` // rises with every write of the key; nanoseconds at first
	Version  string    `cbor:"v"`
	Marker   bool      `cbor:"x,omitempty"`
	Modified time.Time `cbor:"m"`          // whole seconds
	Retired  time.Time `cbor:"y,omitzero"` // since when it is not the current version
	Owner    string    `cbor:"o"`          // account
	Size     int64     `cbor:"z,omitempty"`
	ETag     string    `cbor:"e,omitempty"` // without quotes
	Content  string    `cbor:"c,omitempty"` // content id
	Parts    int32     `cbor:"n,omitempty"` // of a multipart upload; 0 for a single put

	Sum     sumRow            `cbor:"h,omitzero"`
	Headers headerRow         `cbor:"d,omitzero"`
	Meta    map[string]string `cbor:"u,omitempty"`
	Tags    []tag             `cbor:"t,omitempty"`
	ACL     []grant           `cbor:"g,omitempty"`
	Class   string            `cbor:"q,omitempty"` // storage class; empty for STANDARD
	Seal    sealRow           `cbor:"w"`

	LockMode    string    `cbor:"lm,omitempty"`
	RetainUntil time.Time `cbor:"lr,omitzero"`
	LegalHold   bool      `cbor:"lh,omitempty"`

	Replication string `cbor:"r,omitempty"`  // PENDING, COMPLETED, FAILED or REPLICA
	Copying     int    `cbor:"rc,omitempty"` // replicas that are still to be made
}

// sumRow is an additional checksum.
type sumRow struct {
	Algorithm string `cbor:"a,omitempty"`
	Type      string `cbor:"t,omitempty"` // COMPOSITE or FULL_OBJECT
	Value     string `cbor:"v,omitempty"` // base64, with -N if composite
}

// headerRow holds the headers that are stored with an object and given back.
type headerRow struct {
	ContentType        string `cbor:"t,omitempty"`
	CacheControl       string `cbor:"c,omitempty"`
	ContentDisposition string `cbor:"d,omitempty"`
	ContentEncoding    string `cbor:"e,omitempty"`
	ContentLanguage    string `cbor:"l,omitempty"`
	Expires            string `cbor:"x,omitempty"` // as sent: it may be any text
	Redirect           string `cbor:"r,omitempty"` // x-amz-website-redirect-location
}

// sealRow tells how an object's bytes are encrypted.
type sealRow struct {
	// Key is the object's data key, itself encrypted: with the master key of that
	// id, or with the customer's if Master is empty.
	Key    []byte `cbor:"k"`
	Master string `cbor:"m,omitempty"`
	MD5    string `cbor:"d,omitempty"` // of the customer's key, as the client wrote it
}

func (s sealRow) customer() bool { return s.Master == "" && len(s.Key) > 0 }

// contentRow is the bytes of an object or of one part of it: inline or a blob.
type contentRow struct {
	ID       string    `cbor:"i"`
	Part     int32     `cbor:"p"` // 1 to 10,000; 0 is the list of a multipart object's parts
	Size     int64     `cbor:"z"`
	Salt     []byte    `cbor:"s,omitempty"` // makes the part's key of the object's data key
	Inline   []byte    `cbor:"d,omitempty"` // encrypted
	Blob     blob.Ref  `cbor:"b,omitempty"`
	MD5      []byte    `cbor:"m,omitempty"`
	Sum      []byte    `cbor:"h,omitempty"` // digest of the upload's checksum algorithm
	Modified time.Time `cbor:"t,omitzero"`
	Runs     []run     `cbor:"r,omitempty"` // of part 0 only
}

// run stands for consecutive parts of equal size.
type run struct {
	First int32 `cbor:"f"`
	Count int32 `cbor:"c"`
	Size  int64 `cbor:"z"`
}

// shareRow counts the objects that share a content, where that is more than one.
type shareRow struct {
	ID    string `cbor:"i"`
	Count int64  `cbor:"c"`
}

// uploadRow is a multipart upload under way. Its parts are the contents of its id.
type uploadRow struct {
	Bucket    string    `cbor:"b"` // bucket id
	Key       string    `cbor:"k"`
	ID        string    `cbor:"i"`
	Started   time.Time `cbor:"t"`
	Account   string    `cbor:"a"` // of the initiator
	Initiator string    `cbor:"p"` // ARN
	Algorithm string    `cbor:"s"`
	SumType   string    `cbor:"st"`
	Asked     bool      `cbor:"sa,omitempty"` // the client named the algorithm
	Object    objectRow `cbor:"o"`            // what it will become
}

// garbageRow is something to delete: a blob, or a content with all its parts.
type garbageRow struct {
	ID      string    `cbor:"i"`
	Content string    `cbor:"c,omitempty"`
	Blob    blob.Ref  `cbor:"b,omitempty"`
	After   time.Time `cbor:"t"` // readers that opened it before have until then
}

// meteredRow says until when the storage of a bucket is metered.
type meteredRow struct {
	Bucket string    `cbor:"b"` // bucket id
	Until  time.Time `cbor:"t"`
}

// masterRow is a master key of SSE-S3.
type masterRow struct {
	ID  string `cbor:"i"`
	Key []byte `cbor:"k"`
}

var (
	buckets   = store.NewTable("s3/buckets", func(r *bucketRow) store.Key { return store.K(r.Name) }, byAccount)
	byAccount = store.NewIndex("account", func(r *bucketRow) []store.Key { return []store.Key{store.K(r.Account)} })

	configs = store.NewTable("s3/configs", func(r *configRow) store.Key { return store.K(r.Bucket, r.Kind) })

	objects  = store.NewTable("s3/objects", func(r *objectRow) store.Key { return store.K(r.Bucket, r.Key) })
	versions = store.NewTable("s3/versions", func(r *objectRow) store.Key { return store.K(r.Bucket, r.Key, ^r.Seq) }, nulls)
	nulls    = store.NewIndex("null", func(r *objectRow) []store.Key {
		if r.Version != nullVersion {
			return nil
		}
		return []store.Key{store.K(r.Bucket, r.Key)}
	})

	contents = store.NewTable("s3/contents", func(r *contentRow) store.Key { return store.K(r.ID, r.Part) }, byBlob)
	byBlob   = store.NewIndex("blob", func(r *contentRow) []store.Key {
		if r.Blob == "" {
			return nil
		}
		return []store.Key{store.K(r.Blob)}
	})
	shares  = store.NewTable("s3/shares", func(r *shareRow) store.Key { return store.K(r.ID) })
	uploads = store.NewTable("s3/uploads", func(r *uploadRow) store.Key { return store.K(r.Bucket, r.Key, r.ID) })
	garbage = store.NewTable("s3/garbage", func(r *garbageRow) store.Key { return store.K(r.After, r.ID) })
	metered = store.NewTable("s3/metered", func(r *meteredRow) store.Key { return store.K(r.Bucket) })
	masters = store.NewTable("s3/masters", func(r *masterRow) store.Key { return store.K(r.ID) })
)
