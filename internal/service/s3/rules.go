package s3

import (
	"context"
	"fmt"
	"reflect"

	"skerry/internal/auth"
	"skerry/internal/op"
	"skerry/internal/store"
)

// keys are condition keys with their values.
type keys map[string][]string

// set adds a key if the request has the value.
func (k keys) set(name string, v *string) {
	if v != nil {
		k[name] = []string{*v}
	}
}

// tags adds the keys of the tags that a request sends or an object has.
func (k keys) tags(name string, tags []tag) {
	for _, t := range tags {
		k["s3:"+name+"/"+t.Key] = []string{t.Value}
	}
}

// requestTags adds the keys of the tags that a request sends.
func (k keys) requestTags(tags []tag) {
	k.tags("RequestObjectTag", tags)
	for _, t := range tags {
		k["s3:RequestObjectTagKeys"] = append(k["s3:RequestObjectTagKeys"], t.Key)
	}
}

// names finds the members of an input that name what it is about. The inputs have
// them all alike, but Go knows no generic access to fields.
type names struct{ bucket, key, version, owner []int }

func namesOf[I any]() names {
	t := reflect.TypeFor[I]()
	index := func(name string) []int {
		f, ok := t.FieldByName(name)
		if !ok {
			return nil
		}
		return f.Index
	}
	n := names{index("Bucket"), index("Key"), index("VersionId"), index("ExpectedBucketOwner")}
	if n.bucket == nil {
		panic(fmt.Sprintf("s3: %v names no bucket", t))
	}
	return n
}

func (n names) of(in any) objectName {
	v := reflect.ValueOf(in).Elem()
	text := func(index []int) *string {
		if index == nil {
			return nil
		}
		return v.FieldByIndex(index).Interface().(*string)
	}
	return objectName{text(n.bucket), text(n.key), text(n.version), text(n.owner)}
}

// access makes an access to a bucket or to one of its objects. acl is the list that
// counts and permission what it must grant; owner is the account whose it is.
func access(sc auth.Scope, b *bucketRow, action, resource, permission string, acl []grant, owner string, k keys) auth.Access {
	a := auth.Access{Action: action, Resource: resource, Owner: owner, Policy: b.Policy, Context: k}
	outside := sc.Principal.Account != b.Account && sc.Principal.Kind != auth.Service
	if b.Public && b.Block != nil && b.Block.Restrict && outside {
		a.Policy = "" // public policies let in nobody from outside
	}
	if permission != "" {
		a.ACL = granted(b, acl, owner, sc, permission)
	}
	return a
}

func bucketAccess(sc auth.Scope, b *bucketRow, action, permission string, k keys) auth.Access {
	return access(sc, b, action, b.arn(), permission, b.ACL, b.Account, k)
}

// writeAccess is the access to a key to be written: what the bucket grants counts.
func writeAccess(sc auth.Scope, b *bucketRow, action, key, permission string, k keys) auth.Access {
	return access(sc, b, action, b.objectARN(key), permission, b.ACL, b.Account, k)
}

// onBucket is the rule of an operation on a bucket.
func onBucket[I any](s *Service, action, permission string, more func(in *I, k keys)) op.Rule[I] {
	n := namesOf[I]()
	return func(ctx context.Context, sc auth.Scope, in *I) ([]auth.Access, error) {
		name := n.of(in)
		b, err := s.viewBucket(ctx, name.bucket, name.expected)
		if err != nil {
			return nil, err
		}
		k := keys{}
		if more != nil {
			more(in, k)
		}
		return []auth.Access{bucketAccess(sc, b, action, permission, k)}, nil
	}
}

// onPolicy is the rule of the operations on a bucket's policy. The policy cannot
// shut out the root user of the account: it could never be mended.
func onPolicy[I any](s *Service, action string) op.Rule[I] {
	rule := onBucket[I](s, action, "", nil)
	return func(ctx context.Context, sc auth.Scope, in *I) ([]auth.Access, error) {
		needs, err := rule(ctx, sc, in)
		for i := range needs {
			if sc.Principal.Kind == auth.Root && sc.Principal.Account == needs[i].Owner {
				needs[i].Policy = ""
			}
		}
		return needs, err
	}
}

// onObject is the rule of an operation on a stored version. versioned is the action
// when the request names a version.
func onObject[I any](s *Service, action, versioned, permission string, more func(in *I, k keys)) op.Rule[I] {
	n := namesOf[I]()
	return func(ctx context.Context, sc auth.Scope, in *I) ([]auth.Access, error) {
		k := keys{}
		if more != nil {
			more(in, k)
		}
		return s.objectAccess(ctx, sc, n.of(in), action, versioned, permission, k)
	}
}

// objectAccess returns what an operation on a stored version needs. Who asks for
// what is not there needs s3:ListBucket to be told so: without it, a missing key
// is AccessDenied. The key counts for the prefix that is listed.
func (s *Service) objectAccess(ctx context.Context, sc auth.Scope, n objectName, action, versioned, permission string, k keys) ([]auth.Access, error) {
	var b *bucketRow
	var o *objectRow
	err := s.Store.View(ctx, func(tx *store.Tx) (err error) {
		if b, err = s.bucket(tx, n.bucket, n.expected); err == nil {
			o, err = findVersion(tx, b, value(n.key), value(n.version))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if n.version != nil {
		action = versioned
		k.set("s3:VersionId", n.version)
	}
	listing := keys{}
	listing.set("s3:prefix", n.key)
	if o == nil {
		return []auth.Access{
			access(sc, b, action, b.objectARN(value(n.key)), permission, b.ACL, b.Account, k),
			bucketAccess(sc, b, "s3:ListBucket", permRead, listing),
		}, nil
	}
	k.tags("ExistingObjectTag", o.Tags)
	owner := o.Owner
	if b.Owner == ownerEnforced {
		owner = b.Account
	}
	needs := []auth.Access{access(sc, b, action, b.objectARN(o.Key), permission, o.ACL, owner, k)}
	if o.Marker && n.version == nil {
		needs = append(needs, bucketAccess(sc, b, "s3:ListBucket", permRead, listing))
	}
	return needs, nil
}

// allowed says whether a caller may do something, where an operation answers for
// each of many things by itself and so cannot leave the question to the gateway.
func (s *Service) allowed(ctx context.Context, sc auth.Scope, needs ...auth.Access) (bool, error) {
	var policies auth.Policies
	switch sc.Principal.Kind {
	case auth.Anonymous, auth.Root, auth.Service:
	default:
		var err error
		if policies, err = s.Directory.Policies(ctx, sc.Principal); err != nil {
			return false, fmt.Errorf("s3: policies of %s: %w", sc.Principal.ARN, err)
		}
	}
	for _, need := range needs {
		if !auth.Evaluate(auth.Evaluation{Scope: sc, Access: need, Policies: policies}).Allowed() {
			return false, nil
		}
	}
	return true, nil
}

// onKey is the rule of an operation on a key of which no version need exist.
func onKey[I any](s *Service, action, permission string) op.Rule[I] {
	n := namesOf[I]()
	return func(ctx context.Context, sc auth.Scope, in *I) ([]auth.Access, error) {
		name := n.of(in)
		b, err := s.viewBucket(ctx, name.bucket, name.expected)
		if err != nil {
			return nil, err
		}
		return []auth.Access{writeAccess(sc, b, action, value(name.key), permission, keys{})}, nil
	}
}
