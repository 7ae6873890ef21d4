package lambda

import (
	"context"
	"fmt"
	"sync"
	"time"

	apists "skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/arn"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/op"
)

// principal is Lambda as roles' trust policies name it.
const principal = "lambda.amazonaws.com"

const (
	keyLife   = time.Hour        // of a role's session: no role allows less
	keyMargin = 20 * time.Minute // what is left of a key when it is given to a sandbox, more than any timeout
)

// key is a role's temporary credential.
type key struct {
	ID, Secret, Token string
	Expires           time.Time
	Scope             auth.Scope // of calls with it
}

// keyring keeps the sessions of functions' roles.
type keyring struct {
	mu   sync.Mutex
	keys map[keyName]key
}

type keyName struct{ role, session, region string }

// serviceScope is Lambda's own, calling for a function.
func (s *Service) serviceScope(r ref) auth.Scope {
	return auth.ServiceScope(principal, r.Account, r.Region, r.functionARN(), ids.UUID(), s.Clock.Now())
}

// assume makes a session of a role.
func (s *Service) assume(ctx context.Context, r ref, role string) (key, error) {
	session := r.Name
	if len(session) < 2 {
		session = "awslambda"
	}
	in := &apists.AssumeRoleInput{RoleArn: &role, RoleSessionName: &session, DurationSeconds: new(int32(keyLife / time.Second))}
	out, err := op.Call[apists.AssumeRoleOutput](ctx, s.Cloud, s.serviceScope(r), "sts", "AssumeRole", in)
	if err != nil {
		return key{}, err
	}
	c := out.Credentials
	if c == nil {
		return key{}, fmt.Errorf("lambda: assume %s: no credentials", role)
	}
	k := key{ID: deref(c.AccessKeyId), Secret: deref(c.SecretAccessKey), Token: deref(c.SessionToken), Expires: deref(c.Expiration)}
	credential, err := s.Directory.Credential(ctx, k.ID)
	if err != nil {
		return key{}, fmt.Errorf("lambda: assume %s: %w", role, err)
	}
	k.Scope = auth.NewScope(credential.Principal, r.Region, auth.Request{ID: ids.UUID(), Time: s.Clock.Now(), Secure: true,
		UserAgent: principal, Host: principal})
	return k, nil
}

// roleKey returns a session of a function's role with enough life left for a
// sandbox. Sandboxes of one function share it.
func (s *Service) roleKey(ctx context.Context, r ref, role string) (key, error) {
	name := keyName{role, r.Name, r.Region}
	now := s.Clock.Now()
	s.keys.mu.Lock()
	k, ok := s.keys.keys[name]
	s.keys.mu.Unlock()
	if ok && k.Expires.Sub(now) > 2*keyMargin {
		return k, nil
	}
	k, err := s.assume(ctx, r, role)
	if err != nil {
		return key{}, err
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	for n, old := range s.keys.keys {
		if old.Expires.Before(now) {
			delete(s.keys.keys, n)
		}
	}
	s.keys.keys[name] = k
	return k, nil
}

// checkRole sees that Lambda may be the role: its trust policy names Lambda.
func (s *Service) checkRole(ctx context.Context, sc auth.Scope, role string) error {
	refused := invalid("The role defined for the function cannot be assumed by Lambda.")
	a, err := arn.Parse(role)
	if err != nil {
		return refused
	}
	if a.Account != sc.Account {
		return awserr.New(403, "AccessDeniedException", "Cross-account pass role is not allowed.")
	}
	_, err = s.assume(ctx, ref{Account: sc.Account, Region: sc.Region, Name: "check"}, role)
	if code := awserr.Code(err); code != "" {
		return refused
	}
	return err
}
