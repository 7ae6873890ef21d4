package identity

import (
	"testing"

	api "skerry/internal/api/sts"
	"skerry/internal/auth"
)

// What every request of a session costs: its credential and its policies.
func BenchmarkSessionLookup(b *testing.B) {
	c := newBench(b)
	role := c.role("r", trust(`{"Service":"lambda.amazonaws.com"}`, ""), mayRead)
	lambda := auth.ServiceScope("lambda.amazonaws.com", account, "us-east-1", "", "r", began)
	out, _ := c.assumed(lambda, &api.AssumeRoleInput{RoleArn: &role, Policy: ptr(getOnly)})
	key := *out.Credentials.AccessKeyId
	for b.Loop() {
		who, err := c.Credential(c.ctx, key)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Policies(c.ctx, who.Principal); err != nil {
			b.Fatal(err)
		}
	}
}

// AssumeRole in process, as Lambda calls it: one durable write each, shared by
// those at the same time.
func BenchmarkAssumeRole(b *testing.B) {
	c := newBench(b)
	role := c.role("r", trust(`{"Service":"lambda.amazonaws.com"}`, ""), mayRead)
	lambda := auth.ServiceScope("lambda.amazonaws.com", account, "us-east-1", "", "r", began)
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.assume(lambda, &api.AssumeRoleInput{RoleArn: &role}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
