package registry

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/store"
)

// TokenLife is how long a password works. Page: "GetAuthorizationToken".
const TokenLife = 12 * time.Hour

// Faults of a password.
var (
	ErrTokenInvalid = errors.New("registry: not a password of this registry")
	ErrTokenExpired = errors.New("registry: the password has expired")
)

// Tokens makes the passwords that GetAuthorizationToken answers. A password is
// self-contained: whose it is, with the session, and until when, authenticated by
// a key of the store.
type Tokens struct {
	store *store.DB
	clock clock.Clock
	mu    struct {
		sync.Mutex
		key []byte // a copy of the row, which never changes
	}
}

// claims are what a password says.
type claims struct {
	Principal auth.Principal `json:"p"`
	Region    string         `json:"r"`
	Expires   time.Time      `json:"e"`
}

// Mint returns a password of a principal, and when it ends. The user name that
// goes with it is AWS.
func (t *Tokens) Mint(ctx context.Context, p auth.Principal, region string) (password string, expires time.Time, err error) {
	key, err := t.key(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	expires = t.clock.Now().UTC().Add(TokenLife).Truncate(time.Second)
	body, err := json.Marshal(claims{p, region, expires})
	if err != nil {
		return "", time.Time{}, err
	}
	text := base64.RawURLEncoding.EncodeToString(body)
	return text + "." + sign(key, "password", text), expires, nil
}

// Verify returns whose a password is. Errors: ErrTokenInvalid, ErrTokenExpired.
func (t *Tokens) Verify(ctx context.Context, password string) (p auth.Principal, region string, err error) {
	key, err := t.key(ctx)
	if err != nil {
		return p, "", err
	}
	text, mac, ok := strings.Cut(password, ".")
	if !ok || !hmac.Equal([]byte(mac), []byte(sign(key, "password", text))) {
		return p, "", ErrTokenInvalid
	}
	body, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return p, "", ErrTokenInvalid
	}
	var c claims
	if err := json.Unmarshal(body, &c); err != nil {
		return p, "", ErrTokenInvalid
	}
	if !t.clock.Now().Before(c.Expires) {
		return p, "", ErrTokenExpired
	}
	return c.Principal, c.Region, nil
}

// LinkLife is how long a link to a layer works. Page: "GetDownloadUrlForLayer".
const LinkLife = time.Hour

// Link returns the path and query below a registry's endpoint from which anybody
// gets a layer for an hour, without a password.
func (t *Tokens) Link(ctx context.Context, id Repo, digest string) (string, error) {
	key, err := t.key(ctx)
	if err != nil {
		return "", err
	}
	path := "/v2/" + id.Account + "/" + id.Region + "/" + id.Name + "/blobs/" + digest
	until := strconv.FormatInt(t.clock.Now().Add(LinkLife).Unix(), 10)
	return path + "?expires=" + until + "&signature=" + sign(key, "link", path+"?"+until), nil
}

// linked tells whether a link is one of ours that has not ended.
func (t *Tokens) linked(ctx context.Context, id Repo, digest, until, signature string) (bool, error) {
	key, err := t.key(ctx)
	if err != nil {
		return false, err
	}
	path := "/v2/" + id.Account + "/" + id.Region + "/" + id.Name + "/blobs/" + digest
	n, err := strconv.ParseInt(until, 10, 64)
	if err != nil || !hmac.Equal([]byte(signature), []byte(sign(key, "link", path+"?"+until))) {
		return false, nil
	}
	return t.clock.Now().Unix() < n, nil
}

func sign(key []byte, purpose, text string) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(purpose + "\n" + text))
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// key returns the secret of the store, and makes it at first.
func (t *Tokens) key(ctx context.Context) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.key != nil {
		return t.mu.key, nil
	}
	var row *keyRow
	err := t.store.Update(ctx, func(tx *store.Tx) (err error) {
		row, err = keys.Get(tx, store.K("passwords"))
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		row = &keyRow{Name: "passwords", Secret: make([]byte, 32)}
		_, _ = rand.Read(row.Secret) // never fails, by its contract
		return keys.Insert(tx, row)
	})
	if err != nil {
		return nil, err
	}
	t.mu.key = row.Secret
	return t.mu.key, nil
}
