package lambda

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"skerry/internal/blob"
	"skerry/internal/store"
)

// LinkPath is where the links to download code lead; CodeHandler serves them.
const LinkPath = "/_skerry/lambda/code/"

// linkLife is how long a link to code is good: "GetFunction".
const linkLife = 10 * time.Minute

// signingKey returns the key of the links, which is made at the first use.
func (s *Service) signingKey(ctx context.Context) ([]byte, error) {
	var key []byte
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		row, err := secrets.Get(tx, store.K("link"))
		if err == nil {
			key = row.Key
		}
		return err
	})
	if err != store.ErrNotFound {
		return key, err
	}
	fresh := make([]byte, 32)
	_, _ = rand.Read(fresh) // never fails, by its contract
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		if row, err := secrets.Get(tx, store.K("link")); err == nil {
			key = row.Key
			return nil
		}
		key = fresh
		return secrets.Put(tx, &secretRow{"link", fresh})
	})
	return key, err
}

func sign(key []byte, ref, expires string) string {
	m := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(m, "%s\n%s", ref, expires)
	return hex.EncodeToString(m.Sum(nil))
}

// codeLink makes a link by which anyone may download code for ten minutes.
func (s *Service) codeLink(ctx context.Context, c code, name string) (string, error) {
	key, err := s.signingKey(ctx)
	if err != nil {
		return "", fmt.Errorf("lambda: link to code: %w", err)
	}
	expires := strconv.FormatInt(s.Clock.Now().Add(linkLife).Unix(), 10)
	q := url.Values{"name": {name}, "expires": {expires}, "signature": {sign(key, string(c.Ref), expires)}}
	return strings.TrimSuffix(s.Endpoint, "/") + LinkPath + string(c.Ref) + "?" + q.Encode(), nil
}

// CodeHandler serves the links that GetFunction and GetLayerVersion give out.
func (s *Service) CodeHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		ref, expires := strings.TrimPrefix(r.URL.Path, LinkPath), q.Get("expires")
		key, err := s.signingKey(r.Context())
		if err != nil {
			http.Error(w, "InternalError", http.StatusInternalServerError)
			return
		}
		until, err := strconv.ParseInt(expires, 10, 64)
		if err != nil || !hmac.Equal([]byte(sign(key, ref, expires)), []byte(q.Get("signature"))) {
			http.Error(w, "SignatureDoesNotMatch", http.StatusForbidden)
			return
		}
		if s.Clock.Now().After(time.Unix(until, 0)) {
			http.Error(w, "Request has expired", http.StatusForbidden)
			return
		}
		b, err := s.Blobs.Open(r.Context(), blob.Ref(ref), blob.OpenOptions{})
		if err != nil {
			http.Error(w, "NoSuchKey", http.StatusNotFound)
			return
		}
		defer b.Close()
		w.Header().Set("Content-Type", "application/zip")
		http.ServeContent(w, r, "", time.Time{}, b)
	})
}
