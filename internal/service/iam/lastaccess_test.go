package iam

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/store"
	"skerry/internal/wire"
)

func allows(actions string) *string {
	return ptr(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":[` + actions + `],"Resource":"*"}}`)
}

// newUser makes a user with an inline policy.
func (b *bench) newUser(name string, policy *string) {
	b.t.Helper()
	must(b.CreateUser(b.ctx, b.root, &api.CreateUserInput{UserName: &name}))(b.t)
	if policy != nil {
		must(b.PutUserPolicy(b.ctx, b.root, &api.PutUserPolicyInput{UserName: &name, PolicyName: ptr("own"), PolicyDocument: policy}))(b.t)
	}
}

// newRole makes a role and returns the principal of a session of it.
func (b *bench) newRole(name string) auth.Principal {
	b.t.Helper()
	r := must(b.CreateRole(b.ctx, b.root, &api.CreateRoleInput{
		RoleName: &name, AssumeRolePolicyDocument: ptr(`{"Statement":{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}}`),
	}))(b.t).Role
	return auth.Principal{Kind: auth.AssumedRole, Account: testAccount, ID: *r.RoleId + ":night", AccessKey: "ASIANIGHT", Role: *r.Arn, Name: name}
}

func arnOf(kind, name string) *string {
	return ptr("arn:aws:iam::" + testAccount + ":" + kind + "/" + name)
}

// report asks for a report and returns its number.
func (b *bench) report(sc auth.Scope, of *string, level string) *string {
	b.t.Helper()
	return must(b.GenerateServiceLastAccessedDetails(b.ctx, sc, &api.GenerateServiceLastAccessedDetailsInput{Arn: of, Granularity: &level}))(b.t).JobId
}

func (b *bench) read(job *string) *api.GetServiceLastAccessedDetailsOutput {
	b.t.Helper()
	return must(b.GetServiceLastAccessedDetails(b.ctx, b.root, &api.GetServiceLastAccessedDetailsInput{JobId: job}))(b.t)
}

// lines are the services of a report, and the actions in it.
func lines(out *api.GetServiceLastAccessedDetailsOutput) string {
	var all []string
	for _, s := range out.ServicesLastAccessed {
		l := fmt.Sprintf("%s %d", *s.ServiceNamespace, *s.TotalAuthenticatedEntities)
		if s.LastAuthenticated != nil {
			l += fmt.Sprintf(" %s %s %s", (*s.LastAuthenticatedEntity)[len("arn:aws:iam::123456789012:"):], s.LastAuthenticated.Sub(testTime), *s.LastAuthenticatedRegion)
		}
		for _, a := range s.TrackedActionsLastAccessed {
			l += " " + *a.ActionName
			if a.LastAccessedTime != nil {
				l += fmt.Sprintf("(%s %s %s)", (*a.LastAccessedEntity)[len("arn:aws:iam::123456789012:"):], a.LastAccessedTime.Sub(testTime), *a.LastAccessedRegion)
			}
		}
		all = append(all, l)
	}
	return strings.Join(all, "; ")
}

// entities are the users and roles of a service in a report.
func (b *bench) entitiesOf(job *string, service string) string {
	b.t.Helper()
	out := must(b.GetServiceLastAccessedDetailsWithEntities(b.ctx, b.root, &api.GetServiceLastAccessedDetailsWithEntitiesInput{JobId: job, ServiceNamespace: &service}))(b.t)
	var all []string
	for _, e := range out.EntityDetailsList {
		l := *e.EntityInfo.Type + " " + *e.EntityInfo.Path + *e.EntityInfo.Name
		if e.LastAuthenticated != nil {
			l += " " + e.LastAuthenticated.Sub(testTime).String()
		}
		all = append(all, l)
	}
	return strings.Join(all, "; ")
}

func TestReached(t *testing.T) {
	b := newBench(t)
	statement := func(effect, rest string) string { return `{"Effect":"` + effect + `",` + rest + `}` }
	all := `"Resource":"*"`
	for _, c := range []struct {
		statements []string
		want       string // services with tracked actions of s3, "" for nothing
	}{
		{nil, ""},
		{[]string{statement("Allow", `"Action":"*",`+all)}, "iam s3[s3:CreateBucket s3:ListAllMyBuckets]"},
		{[]string{statement("Allow", `"Action":"s3:*",`+all)}, "s3[s3:CreateBucket s3:ListAllMyBuckets]"},
		{[]string{statement("Allow", `"Action":"S3:GETOBJECT",`+all)}, "s3"},
		{[]string{statement("Allow", `"Action":"s3:GetObjectTorrent",`+all)}, "s3"},
		{[]string{statement("Allow", `"Action":"s3:Restore*",`+all)}, ""},
		{[]string{statement("Allow", `"Action":"iam:PassRole",`+all)}, "iam"},
		{[]string{statement("Allow", `"Action":"other:Read",`+all)}, ""},
		{[]string{statement("Allow", `"NotAction":"s3:*",`+all)}, "iam"},
		{[]string{statement("Allow", `"Action":"s3:Create*","NotResource":"*"`)}, ""},
		{[]string{statement("Allow", `"Action":"s3:Create*","NotResource":"arn:aws:s3:::a"`)}, "s3[s3:CreateBucket]"},
		{[]string{statement("Allow", `"Action":"s3:Create*","Resource":"arn:aws:s3:::a","Condition":{"Bool":{"aws:SecureTransport":"true"}}`)}, "s3[s3:CreateBucket]"},
		{[]string{statement("Allow", `"Action":"s3:*",`+all), statement("Deny", `"Action":"s3:*",`+all)}, ""},
		{[]string{statement("Allow", `"Action":"s3:*",`+all), statement("Deny", `"Action":"s3:ListAll*",`+all)}, "s3[s3:CreateBucket]"},
		{[]string{statement("Allow", `"Action":"s3:*",`+all), statement("Deny", `"NotAction":"s3:GetObject",`+all)}, "s3"},
		{[]string{statement("Allow", `"Action":"s3:*",`+all), statement("Deny", `"Action":"*",`+all+`,"Condition":{"Bool":{"aws:SecureTransport":"false"}}`)}, "s3[s3:CreateBucket s3:ListAllMyBuckets]"},
		{[]string{statement("Allow", `"Action":"s3:Create*","Resource":"arn:aws:s3:::a/*"`), statement("Deny", `"Action":"s3:*","Resource":"arn:aws:s3:::a/*"`)}, ""},
		{[]string{statement("Allow", `"Action":"s3:Create*","Resource":["arn:aws:s3:::a/b","arn:aws:s3:::c"]`), statement("Deny", `"Action":"s3:*","Resource":"arn:aws:s3:::a/*"`)}, "s3[s3:CreateBucket]"},
		{[]string{statement("Allow", `"Action":"s3:Create*","Resource":"arn:aws:s3:::${aws:username}/*"`), statement("Deny", `"Action":"s3:*","Resource":"arn:aws:s3:::${aws:username}/*"`)}, ""},
	} {
		var policies []*auth.Policy
		for _, st := range c.statements { // a policy each: what one denies takes from another
			p, err := auth.ParsePolicy(`{"Version":"2012-10-17","Statement":` + st + `}`)
			if err != nil {
				t.Fatal(err)
			}
			policies = append(policies, p)
		}
		var got []string
		for _, n := range b.services() {
			any, tracked := n.reached(policies)
			switch {
			case any && n.prefix == "s3" && len(tracked) > 0:
				got = append(got, fmt.Sprint("s3", tracked))
			case any:
				got = append(got, n.prefix)
			}
		}
		if s := strings.Join(got, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.statements, s, c.want)
		}
	}
}

// A report tells what was tried before it was asked for, before and after the loop
// has written it down.
func TestLastAccessed(t *testing.T) {
	b := newBench(t)
	b.newUser("ann", allows(`"iam:GetUser","iam:ListUsers","s3:Get*"`))
	b.newUser("bob", allows(`"s3:*"`))
	ann, bob, role := b.as("ann").Principal, b.as("bob").Principal, b.newRole("worker")
	policy := must(b.CreatePolicy(b.ctx, b.root, &api.CreatePolicyInput{PolicyName: ptr("p"), PolicyDocument: allows(`"s3:*"`)}))(t).Policy.Arn
	must(b.CreateGroup(b.ctx, b.root, &api.CreateGroupInput{GroupName: ptr("g")}))(t)
	must(b.AddUserToGroup(b.ctx, b.root, &api.AddUserToGroupInput{GroupName: ptr("g"), UserName: ptr("ann")}))(t)
	must(b.AttachGroupPolicy(b.ctx, b.root, &api.AttachGroupPolicyInput{GroupName: ptr("g"), PolicyArn: policy}))(t)
	must(b.AttachRolePolicy(b.ctx, b.root, &api.AttachRolePolicyInput{RoleName: ptr("worker"), PolicyArn: policy}))(t)
	must(b.PutUserPermissionsBoundary(b.ctx, b.root, &api.PutUserPermissionsBoundaryInput{UserName: ptr("bob"), PermissionsBoundary: policy}))(t)

	at := func(minutes int) time.Time { return testTime.Add(time.Duration(minutes) * time.Minute) }
	b.Used(ann, "iam:GetUser", "us-east-1", at(-9))
	b.Used(ann, "iam:", "us-east-1", at(-8))
	b.Used(ann, "s3:GetObject", "eu-west-1", at(-7))
	b.Used(ann, "s3:ListAllMyBuckets", strings.Repeat("x", 1000), at(-10))
	b.Used(role, "s3:CreateBucket", "eu-west-2", at(-6))
	b.Used(bob, "s3:CreateBucket", "eu-west-3", at(-5))
	for _, when := range []string{"before", "after"} {
		for _, c := range []struct{ of, level, want string }{
			{*arnOf("user", "ann"), "SERVICE_LEVEL", "iam 1 user/ann -8m0s us-east-1; s3 1 user/ann -7m0s eu-west-1"},
			{*arnOf("user/any/path", "ann"), "ACTION_LEVEL", "iam 1 user/ann -8m0s us-east-1 GetUser(user/ann -9m0s us-east-1) ListUsers; s3 1 user/ann -7m0s eu-west-1 CreateBucket ListAllMyBuckets(user/ann -10m0s )"},
			{*arnOf("group", "g"), "ACTION_LEVEL", "s3 1 user/ann -7m0s eu-west-1 CreateBucket ListAllMyBuckets(user/ann -10m0s )"},
			{*arnOf("role", "worker"), "ACTION_LEVEL", "s3 1 role/worker -6m0s eu-west-2 CreateBucket(role/worker -6m0s eu-west-2) ListAllMyBuckets"},
			{*policy, "ACTION_LEVEL", "s3 2 role/worker -6m0s eu-west-2 CreateBucket(role/worker -6m0s eu-west-2) ListAllMyBuckets(user/ann -10m0s )"},
			{*arnOf("user", "bob"), "ACTION_LEVEL", "s3 1 user/bob -5m0s eu-west-3 CreateBucket(user/bob -5m0s eu-west-3) ListAllMyBuckets"},
			{"arn:aws:iam::aws:policy/IAMReadOnlyAccess", "SERVICE_LEVEL", "iam 0"},
		} {
			out := b.read(b.report(b.root, &c.of, c.level))
			if got := lines(out); got != c.want {
				t.Errorf("%s the loop, %s: %s\nwant %s", when, c.of, got, c.want)
			}
			if *out.JobStatus != "COMPLETED" || *out.JobType != c.level || *out.IsTruncated || out.JobCompletionDate == nil {
				t.Errorf("%s: %+v", c.of, out)
			}
		}
		if got, want := b.entitiesOf(b.report(b.root, policy, "SERVICE_LEVEL"), "s3"), "ROLE /worker -6m0s; USER /ann -7m0s"; got != want {
			t.Errorf("%s the loop: %s, want %s", when, got, want)
		}
		if said, err := b.FlushLoop().Run(b.ctx); err != nil {
			t.Fatal(said, err)
		}
	}
	if names := b.read(b.report(b.root, arnOf("user", "ann"), "SERVICE_LEVEL")).ServicesLastAccessed; *names[0].ServiceName != "AWS Identity and Access Management" || *names[1].ServiceName != "Amazon S3" {
		t.Errorf("names %q, %q", *names[0].ServiceName, *names[1].ServiceName)
	}

	// A use counts for 400 days.
	b.clock.Advance(trackedFor - 7*time.Minute - time.Second)
	job := b.report(b.root, policy, "ACTION_LEVEL")
	if got, want := lines(b.read(job)), "s3 2 role/worker -6m0s eu-west-2 CreateBucket(role/worker -6m0s eu-west-2) ListAllMyBuckets"; got != want {
		t.Errorf("nearly 400 days later: %s, want %s", got, want)
	}
	b.clock.Advance(time.Second)
	if got := b.entitiesOf(b.report(b.root, policy, "SERVICE_LEVEL"), "s3"); got != "ROLE /worker -6m0s; USER /ann" {
		t.Errorf("400 days later: %s", got)
	}
}

// What a report says stays as it was; its users and roles have the names of today.
func TestLastAccessedSnapshot(t *testing.T) {
	b := newBench(t)
	b.newUser("ann", nil)
	b.newUser("bob", nil)
	must(b.CreateGroup(b.ctx, b.root, &api.CreateGroupInput{GroupName: ptr("g")}))(t)
	must(b.PutGroupPolicy(b.ctx, b.root, &api.PutGroupPolicyInput{GroupName: ptr("g"), PolicyName: ptr("p"), PolicyDocument: allows(`"s3:*","iam:*"`)}))(t)
	for _, u := range []string{"ann", "bob"} {
		must(b.AddUserToGroup(b.ctx, b.root, &api.AddUserToGroupInput{GroupName: ptr("g"), UserName: &u}))(t)
	}
	ann := b.as("ann").Principal
	b.Used(ann, "s3:CreateBucket", "us-east-1", testTime)
	job := b.report(b.root, arnOf("group", "g"), "SERVICE_LEVEL")
	const then = "iam 0; s3 1 user/ann 0s us-east-1"

	b.Used(ann, "s3:CreateBucket", "us-east-1", testTime.Add(time.Minute))
	must(b.UpdateUser(b.ctx, b.root, &api.UpdateUserInput{UserName: ptr("ann"), NewUserName: ptr("anna"), NewPath: ptr("/new/")}))(t)
	must(b.RemoveUserFromGroup(b.ctx, b.root, &api.RemoveUserFromGroupInput{GroupName: ptr("g"), UserName: ptr("bob")}))(t)
	must(b.DeleteGroupPolicy(b.ctx, b.root, &api.DeleteGroupPolicyInput{GroupName: ptr("g"), PolicyName: ptr("p")}))(t)
	if got := lines(b.read(job)); got != then {
		t.Errorf("the report says now %s", got)
	}
	if got := b.entitiesOf(job, "s3"); got != "USER /new/anna 0s; USER /bob" {
		t.Errorf("entities %s", got)
	}

	// One who is deleted is listed no more, and leaves nothing for a successor.
	b.Used(b.as("bob").Principal, "s3:CreateBucket", "us-east-1", testTime)
	if err := b.Flush(b.ctx); err != nil {
		t.Fatal(err)
	}
	if b.accessRows() != 2 {
		t.Errorf("%d rows, want one of each user", b.accessRows())
	}
	must(b.DeleteUser(b.ctx, b.root, &api.DeleteUserInput{UserName: ptr("bob")}))(t)
	if b.accessRows() != 1 {
		t.Errorf("%d rows, want that of the user who is left", b.accessRows())
	}
	if got := b.entitiesOf(job, "s3"); got != "USER /new/anna 0s" {
		t.Errorf("entities %s", got)
	}
	b.newUser("bob", allows(`"s3:*"`))
	if got := lines(b.read(b.report(b.root, arnOf("user", "bob"), "SERVICE_LEVEL"))); got != "s3 0" {
		t.Errorf("a successor has used %s", got)
	}

	// A report can be read for a week, and then the loop drops it.
	b.clock.Advance(jobAge - time.Second)
	if _, err := b.FlushLoop().Run(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.read(job)
	b.clock.Advance(2 * time.Second)
	_, err := b.GetServiceLastAccessedDetails(b.ctx, b.root, &api.GetServiceLastAccessedDetailsInput{JobId: job})
	wantText(t, err, "NoSuchEntity: Job "+*job+" does not exist.")
	if said, err := b.FlushLoop().Run(b.ctx); err != nil || said != "0 uses written, 2 reports dropped" {
		t.Errorf("the loop says %q, %v", said, err)
	}
}

// accessRows counts what is stored of uses.
func (b *bench) accessRows() (n int) {
	b.t.Helper()
	if err := b.view(b.ctx, func(tx *store.Tx) (err error) {
		n, err = count(accesses.Scan(tx, store.Range{}))
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	return n
}

func TestLastAccessedPages(t *testing.T) {
	b := newBench(t)
	must(b.CreateGroup(b.ctx, b.root, &api.CreateGroupInput{GroupName: ptr("g")}))(t)
	must(b.PutGroupPolicy(b.ctx, b.root, &api.PutGroupPolicyInput{GroupName: ptr("g"), PolicyName: ptr("p"), PolicyDocument: allows(`"*"`)}))(t)
	var want []string
	for i := range 5 {
		name := fmt.Sprintf("u%d", i)
		b.newUser(name, nil)
		must(b.AddUserToGroup(b.ctx, b.root, &api.AddUserToGroupInput{GroupName: ptr("g"), UserName: &name}))(t)
		b.Used(b.as(name).Principal, "s3:CreateBucket", "us-east-1", testTime.Add(time.Duration(i)*time.Minute))
		want = append([]string{name}, want...)
	}
	b.clock.Advance(time.Hour)
	job, other := b.report(b.root, arnOf("group", "g"), "SERVICE_LEVEL"), b.report(b.root, arnOf("group", "g"), "SERVICE_LEVEL")

	first := must(b.GetServiceLastAccessedDetails(b.ctx, b.root, &api.GetServiceLastAccessedDetailsInput{JobId: job, MaxItems: ptr(int32(1))}))(t)
	if !*first.IsTruncated || len(first.ServicesLastAccessed) != 1 || *first.ServicesLastAccessed[0].ServiceNamespace != "iam" {
		t.Fatalf("first page %s", lines(first))
	}
	rest := must(b.GetServiceLastAccessedDetails(b.ctx, b.root, &api.GetServiceLastAccessedDetailsInput{JobId: job, Marker: first.Marker}))(t)
	if *rest.IsTruncated || rest.Marker != nil || !strings.HasPrefix(lines(rest), "s3 5 ") {
		t.Errorf("second page %s", lines(rest))
	}

	var got []string
	in := &api.GetServiceLastAccessedDetailsWithEntitiesInput{JobId: job, ServiceNamespace: ptr("s3"), MaxItems: ptr(int32(2))}
	for {
		out := must(b.GetServiceLastAccessedDetailsWithEntities(b.ctx, b.root, in))(t)
		for _, e := range out.EntityDetailsList {
			got = append(got, *e.EntityInfo.Name)
		}
		if in.Marker = out.Marker; in.Marker == nil {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("entities %q, want %q", got, want)
	}

	for _, c := range []struct{ job, mark *string }{{other, first.Marker}, {job, marker("services " + *job + " -1")}, {job, marker("u1")}} {
		_, err := b.GetServiceLastAccessedDetails(b.ctx, b.root, &api.GetServiceLastAccessedDetailsInput{JobId: c.job, Marker: c.mark})
		wantText(t, err, "InvalidInput: The marker passed in the request was invalid.")
	}
	in.Marker = first.Marker
	_, err := b.GetServiceLastAccessedDetailsWithEntities(b.ctx, b.root, in)
	wantText(t, err, "InvalidInput: The marker passed in the request was invalid.")
	_, err = b.GetServiceLastAccessedDetails(b.ctx, b.root, &api.GetServiceLastAccessedDetailsInput{JobId: job, Marker: ptr("invalid")})
	wantText(t, err, "ValidationError: Invalid Marker.")
	past := must(b.GetServiceLastAccessedDetails(b.ctx, b.root, &api.GetServiceLastAccessedDetailsInput{JobId: job, Marker: marker("services " + *job + " 99")}))(t)
	if len(past.ServicesLastAccessed) != 0 || *past.IsTruncated {
		t.Errorf("past the end %s", lines(past))
	}
}

func TestLastAccessedRefusals(t *testing.T) {
	b := newBench(t)
	b.newUser("ann", allows(`"s3:*"`))
	b.newUser("bob", nil)
	ann, role := b.as("ann"), b.newRole("worker")
	for arn, want := range map[string]string{
		*arnOf("user", "nobody"):                      "NoSuchEntity: ARN arn:aws:iam::123456789012:user/nobody does not exist.",
		*arnOf("role", "nobody"):                      "NoSuchEntity: ARN arn:aws:iam::123456789012:role/nobody does not exist.",
		*arnOf("group", "nobody"):                     "NoSuchEntity: ARN arn:aws:iam::123456789012:group/nobody does not exist.",
		*arnOf("policy", "nothing"):                   "NoSuchEntity: ARN arn:aws:iam::123456789012:policy/nothing does not exist.",
		"arn:aws:iam::aws:policy/Nothing":             "NoSuchEntity: ARN arn:aws:iam::aws:policy/Nothing does not exist.",
		"arn:aws:iam::123456789012:root":              "InvalidInput: Invalid Entity Arn: arn:aws:iam::123456789012:root is not supported.",
		*arnOf("instance-profile", "ann"):             "InvalidInput: Invalid Entity Arn: arn:aws:iam::123456789012:instance-profile/ann is not supported.",
		"arn:aws:s3::123456789012:user/ann":           "ValidationError: Invalid service in ARN",
		"arn:aws-cn:iam::123456789012:user/ann":       "ValidationError: Invalid ARN partition",
		"user/ann and something else":                 "InvalidInput: ARN user/ann and something else is not valid.",
		"arn:aws:iam::210987654321:user/ann":          "AccessDenied: User: arn:aws:iam::123456789012:user/ann is not authorized to perform the operation on arn:aws:iam::210987654321:user/ann",
		"arn:aws:iam::210987654321:policy/some/thing": "AccessDenied: User: arn:aws:iam::123456789012:user/ann is not authorized to perform the operation on arn:aws:iam::210987654321:policy/some/thing",
	} {
		_, err := b.GenerateServiceLastAccessedDetails(b.ctx, ann, &api.GenerateServiceLastAccessedDetailsInput{Arn: &arn})
		wantText(t, err, want)
	}

	// Only who asked for a report reads it: the user, with any key, or the session.
	session, later := auth.NewScope(role, "us-east-1", auth.Request{}), role
	later.AccessKey = "ASIALATER"
	otherKey := ann
	otherKey.Principal.AccessKey = "AKIAOTHER"
	byAnn, bySession := b.report(ann, arnOf("user", "ann"), "SERVICE_LEVEL"), b.report(session, arnOf("user", "ann"), "SERVICE_LEVEL")
	for _, c := range []struct {
		who  auth.Scope
		job  *string
		mine bool
	}{
		{ann, byAnn, true}, {otherKey, byAnn, true}, {b.as("bob"), byAnn, false}, {b.root, byAnn, false}, {session, byAnn, false},
		{session, bySession, true}, {auth.NewScope(later, "us-east-1", auth.Request{}), bySession, false}, {ann, bySession, false},
		{ann, ptr("00000000-0000-0000-0000-000000000000"), false},
	} {
		want := ""
		if !c.mine {
			want = "NoSuchEntity"
		}
		_, err := b.GetServiceLastAccessedDetails(b.ctx, c.who, &api.GetServiceLastAccessedDetailsInput{JobId: c.job})
		wantCode(t, err, want)
		_, err = b.GetServiceLastAccessedDetailsWithEntities(b.ctx, c.who, &api.GetServiceLastAccessedDetailsWithEntitiesInput{JobId: c.job, ServiceNamespace: ptr("s3")})
		wantCode(t, err, want)
	}
	_, err := b.GetServiceLastAccessedDetailsWithEntities(b.ctx, ann, &api.GetServiceLastAccessedDetailsWithEntitiesInput{JobId: byAnn, ServiceNamespace: ptr("S3")})
	wantText(t, err, "InvalidInput: Service namepace S3 is either invalid or unsupported.")
	none := must(b.GetServiceLastAccessedDetailsWithEntities(b.ctx, ann, &api.GetServiceLastAccessedDetailsWithEntitiesInput{JobId: byAnn, ServiceNamespace: ptr("iam")}))(t)
	if len(none.EntityDetailsList) != 0 {
		t.Errorf("entities of a service that is not allowed: %+v", none)
	}
}

func TestPoliciesGrantingServiceAccess(t *testing.T) {
	b := newBench(t)
	b.newUser("ann", allows(`"S3:Nothing","iam:GetUser"`))
	shared := must(b.CreatePolicy(b.ctx, b.root, &api.CreatePolicyInput{PolicyName: ptr("shared"), PolicyDocument: allows(`"s3:Get*"`)}))(t).Policy.Arn
	must(b.AttachUserPolicy(b.ctx, b.root, &api.AttachUserPolicyInput{UserName: ptr("ann"), PolicyArn: shared}))(t)
	must(b.CreateGroup(b.ctx, b.root, &api.CreateGroupInput{GroupName: ptr("g")}))(t)
	must(b.AttachGroupPolicy(b.ctx, b.root, &api.AttachGroupPolicyInput{GroupName: ptr("g"), PolicyArn: shared}))(t)
	must(b.AddUserToGroup(b.ctx, b.root, &api.AddUserToGroupInput{GroupName: ptr("g"), UserName: ptr("ann")}))(t)
	deny := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"s3:*","Resource":"*"}]}`
	must(b.PutGroupPolicy(b.ctx, b.root, &api.PutGroupPolicyInput{GroupName: ptr("g"), PolicyName: ptr("no-s3"), PolicyDocument: &deny}))(t)

	out := must(b.ListPoliciesGrantingServiceAccess(b.ctx, b.root, &api.ListPoliciesGrantingServiceAccessInput{
		Arn: arnOf("user", "ann"), ServiceNamespaces: []string{"s3", "iam", "s3", "sns"},
	}))(t)
	var got []string
	for _, e := range out.PoliciesGrantingServiceAccess {
		l := *e.ServiceNamespace + ":"
		for _, p := range e.Policies {
			l += " " + *p.PolicyName + " " + wire.Value(p.PolicyArn) + wire.Value(p.EntityType) + wire.Value(p.EntityName)
		}
		got = append(got, l)
	}
	if s, want := strings.Join(got, "; "), "s3: own USERann shared "+*shared+"; iam: own USERann no-s3 GROUPg; sns: no-s3 GROUPg"; s != want {
		t.Errorf("%s\nwant %s", s, want)
	}
	for _, c := range []struct {
		in   api.ListPoliciesGrantingServiceAccessInput
		want string
	}{
		{api.ListPoliciesGrantingServiceAccessInput{Arn: shared, ServiceNamespaces: []string{"s3"}}, "InvalidInput: Invalid Entity Arn: " + *shared + " is not supported."},
		{api.ListPoliciesGrantingServiceAccessInput{Arn: arnOf("user", "bob"), ServiceNamespaces: []string{"s3"}}, "NoSuchEntity: ARN " + *arnOf("user", "bob") + " does not exist."},
		{api.ListPoliciesGrantingServiceAccessInput{Arn: ptr("arn:aws:iam::123456789012:root"), ServiceNamespaces: []string{"s3"}}, "InvalidInput: Could not extract entity from ARN : arn:aws:iam::123456789012:root"},
		{api.ListPoliciesGrantingServiceAccessInput{Arn: arnOf("user", "ann"), ServiceNamespaces: []string{"S3", "iam", "my_own"}}, "InvalidInput: Invalid service namespace: [S3, my_own]"},
		{api.ListPoliciesGrantingServiceAccessInput{Arn: arnOf("user", "ann"), ServiceNamespaces: []string{"s3"}, Marker: ptr("invalid")}, "ValidationError: Invalid Marker."},
		{api.ListPoliciesGrantingServiceAccessInput{Arn: arnOf("user", "ann"), ServiceNamespaces: []string{"s3"}, Marker: marker("s3")}, "InvalidInput: The marker passed in the request was invalid."},
	} {
		_, err := b.ListPoliciesGrantingServiceAccess(b.ctx, b.root, &c.in)
		wantText(t, err, c.want)
	}
}

// What every request costs: it must not be seen.
func BenchmarkUsed(b *testing.B) {
	s := &Service{recorder: newRecorder()}
	p := auth.Principal{Kind: auth.User, ID: "AIDAEXAMPLEEXAMPLE123", AccessKey: "AKIAEXAMPLEEXAMPLE12"}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Used(p, "s3:PutObject", "us-east-1", testTime)
		}
	})
}
