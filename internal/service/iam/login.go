package iam

import (
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"reflect"
	"strings"
	"unicode"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// A console password is kept as salt and PBKDF2 (SHA-256) of it.
const (
	hashRounds = 120_000
	saltSize   = 16
	hashSize   = 32
)

func hashPassword(password string) (salt, hash []byte, err error) {
	salt = make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails, by its contract
	hash, err = pbkdf2.Key(sha256.New, password, salt, hashRounds, hashSize)
	return salt, hash, err
}

func samePassword(password string, salt, hash []byte) bool {
	got, err := pbkdf2.Key(sha256.New, password, salt, hashRounds, hashSize)
	return err == nil && subtle.ConstantTimeCompare(got, hash) == 1
}

func noSuchLogin(user string) error {
	return noSuchEntity("Login Profile for User %s cannot be found.", user)
}

func violation(format string, args ...any) error {
	return awserr.New(http.StatusBadRequest, "PasswordPolicyViolation", format, args...)
}

// CreateLoginProfile gives a user a console password.
func (s *Service) CreateLoginProfile(ctx context.Context, sc auth.Scope, in *api.CreateLoginProfileInput) (*api.CreateLoginProfileOutput, error) {
	if in.Password == nil {
		return nil, validationError("Must specify password when creating a login profile")
	}
	var out api.CreateLoginProfileOutput
	err := s.update(ctx, func(tx *store.Tx) error {
		u, err := s.caller(tx, sc, in.UserName)
		if err != nil {
			return err
		}
		if u.Login != nil {
			return alreadyExists("Login Profile for user %s already exists.", u.Name)
		}
		u.Login = &login{Created: s.now(), Reset: wire.Value(in.PasswordResetRequired)}
		if err := s.setPassword(tx, u, *in.Password); err != nil {
			return err
		}
		out.LoginProfile = u.loginAnswer()
		return users.Put(tx, u)
	})
	return &out, err
}

func (r *userRow) loginAnswer() *api.LoginProfile {
	return &api.LoginProfile{
		UserName: wire.Ptr(r.Name), CreateDate: wire.Ptr(r.Login.Created), PasswordResetRequired: wire.Ptr(r.Login.Reset),
	}
}

// setPassword checks a password against the account's policy and former ones,
// and sets it.
func (s *Service) setPassword(tx *store.Tx, u *userRow, password string) error {
	a, err := s.account(tx, u.Account)
	if err != nil {
		return err
	}
	policy := a.Password
	if policy == nil {
		policy = &defaultPasswords
	}
	if err := policy.check(password); err != nil {
		return err
	}
	l := u.Login
	former := l.Old
	if l.Hash != nil {
		former = append([][]byte{append(append([]byte(nil), l.Salt...), l.Hash...)}, former...)
	}
	former = former[:min(len(former), int(policy.Reuse))]
	for _, f := range former {
		if samePassword(password, f[:saltSize], f[saltSize:]) {
			return violation("Password must not be the same as any of the last %d passwords.", policy.Reuse)
		}
	}
	l.Old, l.Changed = former, s.now()
	l.Salt, l.Hash, err = hashPassword(password)
	return err
}

// GetLoginProfile tells that a user has a console password.
func (s *Service) GetLoginProfile(ctx context.Context, sc auth.Scope, in *api.GetLoginProfileInput) (*api.GetLoginProfileOutput, error) {
	var out api.GetLoginProfileOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		u, err := s.caller(tx, sc, in.UserName)
		if err != nil {
			return err
		}
		if u.Login == nil {
			return noSuchLogin(u.Name)
		}
		out.LoginProfile = u.loginAnswer()
		return nil
	})
	return &out, err
}

// UpdateLoginProfile changes a user's console password.
func (s *Service) UpdateLoginProfile(ctx context.Context, sc auth.Scope, in *api.UpdateLoginProfileInput) (*api.UpdateLoginProfileOutput, error) {
	return &api.UpdateLoginProfileOutput{}, s.update(ctx, func(tx *store.Tx) error {
		u, err := s.user(tx, sc.Account, wire.Value(in.UserName))
		if err != nil {
			return err
		}
		if u.Login == nil {
			return noSuchLogin(u.Name)
		}
		if in.PasswordResetRequired != nil {
			u.Login.Reset = *in.PasswordResetRequired
		}
		if in.Password != nil {
			if err := s.setPassword(tx, u, *in.Password); err != nil {
				return err
			}
		}
		return users.Put(tx, u)
	})
}

// DeleteLoginProfile takes a user's console password away.
func (s *Service) DeleteLoginProfile(ctx context.Context, sc auth.Scope, in *api.DeleteLoginProfileInput) (*api.DeleteLoginProfileOutput, error) {
	return &api.DeleteLoginProfileOutput{}, s.update(ctx, func(tx *store.Tx) error {
		u, err := s.caller(tx, sc, in.UserName)
		if err != nil {
			return err
		}
		if u.Login == nil {
			return noSuchLogin(u.Name)
		}
		u.Login = nil
		return users.Put(tx, u)
	})
}

// changePasswordRule lets users change their own password without a policy that
// says so if the account's password policy does (AllowUsersToChangePassword).
func (s *Service) changePasswordRule(ctx context.Context, sc auth.Scope, in *api.ChangePasswordInput) ([]auth.Access, error) {
	out, err := s.accesses(ctx, sc, "ChangePassword", onUser, reflect.ValueOf(in).Elem(), nil)
	if err != nil {
		return nil, err
	}
	return out, s.view(ctx, func(tx *store.Tx) error {
		a, err := s.account(tx, sc.Account)
		if err == nil && sc.Principal.Kind == auth.User && a.Password != nil {
			out[0].ACL = a.Password.UsersMayChange
		}
		return err
	})
}

// ChangePassword lets a user change the own password.
func (s *Service) ChangePassword(ctx context.Context, sc auth.Scope, in *api.ChangePasswordInput) (*api.ChangePasswordOutput, error) {
	if sc.Principal.Kind != auth.User {
		return nil, awserr.New(http.StatusBadRequest, "InvalidUserType", "Must be called by an IAM user.")
	}
	return &api.ChangePasswordOutput{}, s.update(ctx, func(tx *store.Tx) error {
		u, err := one(tx, usersByID, sc.Principal.ID, noSuchUser(sc.Principal.Name))
		if err != nil {
			return err
		}
		if u.Login == nil {
			return noSuchLogin(u.Name)
		}
		if !samePassword(wire.Value(in.OldPassword), u.Login.Salt, u.Login.Hash) {
			return accessDenied("The old password was incorrect.")
		}
		u.Login.Reset = false
		if err := s.setPassword(tx, u, wire.Value(in.NewPassword)); err != nil {
			return err
		}
		return users.Put(tx, u)
	})
}

// passwordPolicy is an account's. Page: "Set an account password policy for IAM
// users".
type passwordPolicy struct {
	Length                    int32
	Symbols, Numbers          bool
	Upper, Lower              bool
	UsersMayChange            bool
	MaxAge, Reuse             int32 // days; passwords. 0: no limit
	HardExpiry, HardExpirySet bool
	RequireThreeOfFour        bool
}

// defaultPasswords is in force while the account has no policy of its own.
var defaultPasswords = passwordPolicy{Length: 8, RequireThreeOfFour: true}

const symbols = "!@#$%^&*()_+-=[]{}|'"

func (p *passwordPolicy) check(password string) error {
	if len(password) < int(p.Length) {
		return violation("Password should have a minimum length of %d", p.Length)
	}
	upper := strings.ContainsFunc(password, unicode.IsUpper)
	lower := strings.ContainsFunc(password, unicode.IsLower)
	digit := strings.ContainsFunc(password, unicode.IsDigit)
	symbol := strings.ContainsAny(password, symbols)
	for _, c := range []struct {
		needs, has bool
		what       string
	}{
		{p.Upper, upper, "uppercase letter"}, {p.Lower, lower, "lowercase letter"},
		{p.Numbers, digit, "number"}, {p.Symbols, symbol, "symbol"},
	} {
		if c.needs && !c.has {
			return violation("Password should have at least one %s", c.what)
		}
	}
	kinds := 0
	for _, has := range []bool{upper, lower, digit, symbol} {
		if has {
			kinds++
		}
	}
	if p.RequireThreeOfFour && kinds < 3 {
		return violation("Password should have at least three of the following character types: uppercase letters, lowercase letters, numbers, and symbols")
	}
	return nil
}

// UpdateAccountPasswordPolicy replaces the account's password policy; what the
// request leaves out takes its default.
func (s *Service) UpdateAccountPasswordPolicy(ctx context.Context, sc auth.Scope, in *api.UpdateAccountPasswordPolicyInput) (*api.UpdateAccountPasswordPolicyOutput, error) {
	p := &passwordPolicy{
		Length: 6, Symbols: wire.Value(in.RequireSymbols), Numbers: wire.Value(in.RequireNumbers),
		Upper: wire.Value(in.RequireUppercaseCharacters), Lower: wire.Value(in.RequireLowercaseCharacters),
		UsersMayChange: wire.Value(in.AllowUsersToChangePassword), MaxAge: wire.Value(in.MaxPasswordAge),
		Reuse: wire.Value(in.PasswordReusePrevention), HardExpiry: wire.Value(in.HardExpiry), HardExpirySet: in.HardExpiry != nil,
	}
	if in.MinimumPasswordLength != nil {
		p.Length = *in.MinimumPasswordLength
	}
	return &api.UpdateAccountPasswordPolicyOutput{}, s.update(ctx, func(tx *store.Tx) error {
		a, err := s.account(tx, sc.Account)
		if err != nil {
			return err
		}
		a.Password = p
		return accounts.Put(tx, a)
	})
}

func noPasswordPolicy(account string) error {
	return noSuchEntity("The Password Policy with domain name %s cannot be found.", account)
}

// GetAccountPasswordPolicy returns the account's password policy.
func (s *Service) GetAccountPasswordPolicy(ctx context.Context, sc auth.Scope, _ *api.GetAccountPasswordPolicyInput) (*api.GetAccountPasswordPolicyOutput, error) {
	var out api.GetAccountPasswordPolicyOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		a, err := s.account(tx, sc.Account)
		if err != nil {
			return err
		}
		if a.Password == nil {
			return noPasswordPolicy(sc.Account)
		}
		out.PasswordPolicy = a.Password.answer()
		return nil
	})
	return &out, err
}

func (p *passwordPolicy) answer() *api.PasswordPolicy {
	out := &api.PasswordPolicy{
		MinimumPasswordLength: wire.Ptr(p.Length), RequireSymbols: wire.Ptr(p.Symbols), RequireNumbers: wire.Ptr(p.Numbers),
		RequireUppercaseCharacters: wire.Ptr(p.Upper), RequireLowercaseCharacters: wire.Ptr(p.Lower),
		AllowUsersToChangePassword: wire.Ptr(p.UsersMayChange), ExpirePasswords: wire.Ptr(p.MaxAge > 0),
	}
	if p.MaxAge > 0 {
		out.MaxPasswordAge = wire.Ptr(p.MaxAge)
	}
	if p.Reuse > 0 {
		out.PasswordReusePrevention = wire.Ptr(p.Reuse)
	}
	if p.HardExpirySet {
		out.HardExpiry = wire.Ptr(p.HardExpiry)
	}
	return out
}

// DeleteAccountPasswordPolicy goes back to the default policy.
func (s *Service) DeleteAccountPasswordPolicy(ctx context.Context, sc auth.Scope, _ *api.DeleteAccountPasswordPolicyInput) (*api.DeleteAccountPasswordPolicyOutput, error) {
	return &api.DeleteAccountPasswordPolicyOutput{}, s.update(ctx, func(tx *store.Tx) error {
		a, err := s.account(tx, sc.Account)
		if err != nil {
			return err
		}
		if a.Password == nil {
			return noPasswordPolicy(sc.Account)
		}
		a.Password = nil
		return accounts.Put(tx, a)
	})
}
