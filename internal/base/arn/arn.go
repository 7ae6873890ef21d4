// Package arn parses and builds Amazon Resource Names
// (arn:partition:service:region:account:resource).
package arn

import (
	"errors"
	"strings"
)

// Partition is the only partition that Skerry has.
const Partition = "aws"

// ErrSyntax says that a text is not an ARN.
var ErrSyntax = errors.New("arn: not an ARN")

// ARN is a parsed Amazon Resource Name. Region and Account are empty for global
// resources such as S3 buckets and IAM.
type ARN struct {
	Partition, Service, Region, Account, Resource string
}

// New makes an ARN of Skerry's partition.
func New(service, region, account, resource string) ARN {
	return ARN{Partition, service, region, account, resource}
}

// String returns the ARN as text.
func (a ARN) String() string {
	return "arn:" + a.Partition + ":" + a.Service + ":" + a.Region + ":" + a.Account + ":" + a.Resource
}

// Parse reads an ARN. The resource may itself contain colons.
func Parse(s string) (ARN, error) {
	p := strings.SplitN(s, ":", 6)
	if len(p) != 6 || p[0] != "arn" || p[1] == "" || p[2] == "" || p[5] == "" {
		return ARN{}, ErrSyntax
	}
	return ARN{p[1], p[2], p[3], p[4], p[5]}, nil
}

// ResourceType splits "type/id" or "type:id" and returns both halves; a resource
// without either sign has no type.
func (a ARN) ResourceType() (kind, id string) {
	if i := strings.IndexAny(a.Resource, "/:"); i >= 0 {
		return a.Resource[:i], a.Resource[i+1:]
	}
	return "", a.Resource
}
