package s3

import (
	"context"
	"errors"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"skerry/internal/api/s3"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// The values of object ownership.
const (
	ownerEnforced  = "BucketOwnerEnforced"
	ownerPreferred = "BucketOwnerPreferred"
	objectWriter   = "ObjectWriter"
)

const (
	homeRegion      = "us-east-1" // whose location constraint is empty
	maxBuckets      = 10_000      // buckets of an account
	defaultPageSize = 1000
)

// bucket reads a bucket and checks the owner that the caller expects.
func (s *Service) bucket(tx *store.Tx, name, expected *string) (*bucketRow, error) {
	b, err := buckets.Get(tx, store.K(value(name)))
	if errors.Is(err, store.ErrNotFound) {
		return nil, noSuchBucket(value(name))
	}
	if err != nil {
		return nil, err
	}
	if expected != nil && *expected != b.Account {
		return nil, accessDenied()
	}
	return b, nil
}

// viewBucket is bucket in a transaction of its own.
func (s *Service) viewBucket(ctx context.Context, name, expected *string) (b *bucketRow, err error) {
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		b, err = s.bucket(tx, name, expected)
		return err
	})
	return b, err
}

// editBucket changes a bucket's row.
func (s *Service) editBucket(ctx context.Context, name, expected *string, edit func(tx *store.Tx, b *bucketRow) error) error {
	return s.Store.Update(ctx, func(tx *store.Tx) error {
		b, err := s.bucket(tx, name, expected)
		if err != nil {
			return err
		}
		if err := edit(tx, b); err != nil {
			return err
		}
		return buckets.Put(tx, b)
	})
}

// CreateBucket implements s3:CreateBucket.
func (s *Service) CreateBucket(ctx context.Context, sc auth.Scope, in *s3.CreateBucketInput) (*s3.CreateBucketOutput, error) {
	name := value(in.Bucket)
	if !validBucketName(name) {
		return nil, awserr.New(400, "InvalidBucketName", "The specified bucket is not valid.").With("BucketName", name)
	}
	b := &bucketRow{Name: name, ID: ids.Hex(16), Account: sc.Account, Owner: ownerEnforced, Created: s.Clock.Now().Truncate(time.Second)}
	var err error
	if b.Region, err = locate(sc.Region, in.CreateBucketConfiguration); err != nil {
		return nil, err
	}
	// Buckets begin as S3 has made them since April 2023: no access control lists,
	// all public access blocked.
	b.Block = &blockRow{true, true, true, true}
	if in.ObjectOwnership != nil {
		b.Owner = *in.ObjectOwnership
	}
	if value(in.ObjectLockEnabledForBucket) {
		b.Lock, b.State = &lockRow{}, "Enabled"
	}
	if c := in.CreateBucketConfiguration; c != nil {
		if b.Tags, err = parseTags(c.Tags, maxBucketTags); err != nil {
			return nil, err
		}
	}
	b.ACL, err = s.parseACL(b, sc, aclRequest{
		canned: in.ACL, full: in.GrantFullControl, read: in.GrantRead, write: in.GrantWrite,
		readACP: in.GrantReadACP, writeACP: in.GrantWriteACP, ofBucket: true, creating: true,
	})
	if err != nil {
		return nil, err
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error { return insertBucket(tx, b, sc) })
	if err != nil {
		return nil, err
	}
	out := &s3.CreateBucketOutput{Location: wire.Ptr("/" + name)}
	if b.Region != homeRegion {
		out.Location = wire.Ptr("http://" + name + ".s3.amazonaws.com/")
	}
	return out, nil
}

// insertBucket stores a new bucket. In us-east-1, and only there, making one's own
// bucket again answers success and resets its access control list.
func insertBucket(tx *store.Tx, b *bucketRow, sc auth.Scope) error {
	old, err := buckets.Get(tx, store.K(b.Name))
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return err
	case old.Account != b.Account:
		return &s3.BucketAlreadyExists{Message: wire.Ptr("The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again.")}
	case sc.Region == homeRegion && old.Region == homeRegion:
		old.ACL = b.ACL
		return buckets.Put(tx, old)
	default:
		return &s3.BucketAlreadyOwnedByYou{Message: wire.Ptr("Your previous request to create the named bucket succeeded and you already own it.")}
	}
	n := 0
	for _, err := range byAccount.ScanKeys(tx, store.Range{Prefix: store.K(b.Account)}) {
		if err != nil {
			return err
		}
		if n++; n >= maxBuckets {
			return awserr.New(400, "TooManyBuckets", "You have attempted to create more buckets than allowed")
		}
	}
	return buckets.Insert(tx, b)
}

// locate returns the region of a new bucket: that of the endpoint, which the
// constraint must name unless it is us-east-1, through which any can be named.
func locate(region string, c *s3.CreateBucketConfiguration) (string, error) {
	if c != nil && (c.Location != nil || c.Bucket != nil) {
		return "", notImplemented("").With("Header", "CreateBucketConfiguration")
	}
	var want string
	if c != nil {
		want = value(c.LocationConstraint)
	}
	switch {
	case want == "" && region == homeRegion:
		return homeRegion, nil
	case region != homeRegion && !known(region):
		// s3cmd signs for the region "US" and goes on with the one it is told.
		return "", awserr.New(400, "AuthorizationHeaderMalformed", "The authorization header is malformed; the region '%s' is wrong; expecting '%s'", region, homeRegion).With("Region", homeRegion)
	case want == "":
		return "", awserr.New(400, "IllegalLocationConstraintException", "The unspecified location constraint is incompatible for the region specific endpoint this request was sent to.")
	case want == homeRegion || !known(want):
		return "", awserr.New(400, "InvalidLocationConstraint", "The specified location-constraint is not valid").With("LocationConstraint", want)
	case want == "EU":
		want = "eu-west-1"
	}
	if region != homeRegion && region != want {
		return "", awserr.New(400, "IllegalLocationConstraintException", "The %s location constraint is incompatible for the region specific endpoint this request was sent to.", want)
	}
	return want, nil
}

// known says whether a text names a location of buckets.
func known(region string) bool {
	return slices.Contains(s3.Schema.Shape("BucketLocationConstraint").Enum, region)
}

var bucketNames = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// validBucketName holds a name against "General purpose bucket naming rules".
func validBucketName(name string) bool {
	if !bucketNames.MatchString(name) || strings.Contains(name, "..") || net.ParseIP(name) != nil {
		return false
	}
	for _, p := range []string{"xn--", "sthree-", "amzn-s3-demo-"} {
		if strings.HasPrefix(name, p) {
			return false
		}
	}
	for _, p := range []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"} {
		if strings.HasSuffix(name, p) {
			return false
		}
	}
	return true
}

// HeadBucket implements s3:HeadBucket.
func (s *Service) HeadBucket(ctx context.Context, sc auth.Scope, in *s3.HeadBucketInput) (*s3.HeadBucketOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	return &s3.HeadBucketOutput{BucketRegion: &b.Region, BucketArn: wire.Ptr(b.arn())}, nil
}

// GetBucketLocation implements s3:GetBucketLocation.
func (s *Service) GetBucketLocation(ctx context.Context, sc auth.Scope, in *s3.GetBucketLocationInput) (*s3.GetBucketLocationOutput, error) {
	b, err := s.viewBucket(ctx, in.Bucket, in.ExpectedBucketOwner)
	if err != nil {
		return nil, err
	}
	out := &s3.GetBucketLocationOutput{}
	if b.Region != homeRegion {
		out.LocationConstraint = &b.Region
	}
	return out, nil
}

// ListBuckets implements s3:ListBuckets. Without a page size it lists all.
func (s *Service) ListBuckets(ctx context.Context, sc auth.Scope, in *s3.ListBucketsInput) (*s3.ListBucketsOutput, error) {
	limit := maxBuckets
	if in.MaxBuckets != nil {
		if limit = int(*in.MaxBuckets); limit < 1 || limit > maxBuckets {
			return nil, invalidArgument("max-buckets", "", "Argument max-buckets must be an integer between 1 and 10000.")
		}
	}
	r := store.Range{Prefix: store.K(sc.Account)}
	if p := value(in.Prefix); p != "" {
		r.Prefix += store.KPrefix(p)
	}
	if t := value(in.ContinuationToken); t != "" {
		name, err := readToken(t)
		if err != nil {
			return nil, invalidArgument("continuation-token", t, "The continuation token provided is incorrect")
		}
		r.After = store.K(sc.Account, name)
	}
	id := canonicalID(sc.Account)
	out := &s3.ListBucketsOutput{Owner: &s3.Owner{ID: &id}, Prefix: in.Prefix, Buckets: []s3.Bucket{}}
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		out.Buckets, out.ContinuationToken = out.Buckets[:0], nil
		for b, err := range byAccount.Scan(tx, r) {
			if err != nil {
				return err
			}
			if in.BucketRegion != nil && *in.BucketRegion != b.Region {
				continue
			}
			if len(out.Buckets) == limit {
				out.ContinuationToken = wire.Ptr(writeToken(value(out.Buckets[limit-1].Name)))
				return nil
			}
			out.Buckets = append(out.Buckets, s3.Bucket{Name: &b.Name, CreationDate: &b.Created, BucketRegion: &b.Region, BucketArn: wire.Ptr(b.arn())})
		}
		return nil
	})
	return out, err
}

// DeleteBucket implements s3:DeleteBucket. Uploads under way do not keep a bucket;
// they end with it.
func (s *Service) DeleteBucket(ctx context.Context, sc auth.Scope, in *s3.DeleteBucketInput) (*s3.DeleteBucketOutput, error) {
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		b, err := s.bucket(tx, in.Bucket, in.ExpectedBucketOwner)
		if err != nil {
			return err
		}
		for _, t := range []*store.Table[objectRow]{objects, versions} {
			for _, err := range t.Scan(tx, store.Range{Prefix: store.K(b.ID)}) {
				if err != nil {
					return err
				}
				return awserr.New(409, "BucketNotEmpty", "The bucket you tried to delete is not empty").With("BucketName", b.Name)
			}
		}
		for u, err := range uploads.Scan(tx, store.Range{Prefix: store.K(b.ID)}) {
			if err != nil {
				return err
			}
			if err := s.endUpload(tx, u); err != nil {
				return err
			}
		}
		for c, err := range configs.Scan(tx, store.Range{Prefix: store.K(b.ID)}) {
			if err != nil {
				return err
			}
			if err := configs.Delete(tx, store.K(c.Bucket, c.Kind)); err != nil {
				return err
			}
		}
		if err := metered.Delete(tx, store.K(b.ID)); err != nil {
			return err
		}
		return buckets.Delete(tx, store.K(b.Name))
	})
	return &s3.DeleteBucketOutput{}, err
}
