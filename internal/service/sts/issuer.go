package sts

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"skerry/internal/base/clock"
)

const (
	keysAge      = time.Hour        // how long an issuer's keys are used before they are asked for again
	keysRetry    = 10 * time.Second // how often an unknown key id may cause a fetch
	fetchTime    = 5 * time.Second
	maxDiscovery = 1 << 20 // bytes
)

// issuers fetches the public keys of OpenID Connect issuers and remembers them
// for an hour. It can be dropped at any time.
type issuers struct {
	client *http.Client
	clock  clock.Clock
	mu     struct {
		sync.Mutex
		known map[string]*issuerKeys
	}
}

type issuerKeys struct {
	set     jose.JSONWebKeySet
	fetched time.Time
}

func newIssuers(client *http.Client, c clock.Clock) *issuers {
	guarded := *client
	guarded.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if len(via) > 3 || !secure(r.URL) {
			return errors.New("sts: redirect refused")
		}
		return nil
	}
	i := &issuers{client: &guarded, clock: c}
	i.mu.known = map[string]*issuerKeys{}
	return i
}

// secure says whether what is fetched from there can be believed: over TLS, or
// from this machine.
func secure(u *url.URL) bool {
	host := u.Hostname()
	a, err := netip.ParseAddr(host)
	local := host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && a.IsLoopback()
	return u.Scheme == "https" || u.Scheme == "http" && local
}

// key returns an issuer's public key with that id; nil if the issuer has none
// such. A token without a key id is for an issuer with a single key.
func (i *issuers) key(ctx context.Context, issuer, id string) (*jose.JSONWebKey, error) {
	i.mu.Lock()
	known := i.mu.known[issuer]
	i.mu.Unlock()
	now := i.clock.Now()
	if known != nil && now.Sub(known.fetched) < keysAge {
		if k := known.find(id); k != nil || now.Sub(known.fetched) < keysRetry {
			return k, nil
		}
	}
	set, err := i.fetch(ctx, issuer)
	if err != nil {
		return nil, err
	}
	known = &issuerKeys{set, now}
	i.mu.Lock()
	i.mu.known[issuer] = known
	i.mu.Unlock()
	return known.find(id), nil
}

func (k *issuerKeys) find(id string) *jose.JSONWebKey {
	for n := range k.set.Keys {
		key := &k.set.Keys[n]
		fits := key.KeyID == id && id != "" || id == "" && len(k.set.Keys) == 1
		if fits && key.Use != "enc" && key.IsPublic() {
			return key
		}
	}
	return nil
}

// fetch reads the issuer's discovery document, and the keys that it points to.
func (i *issuers) fetch(ctx context.Context, issuer string) (jose.JSONWebKeySet, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	var set jose.JSONWebKeySet
	if err := i.get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &discovery); err != nil {
		return set, err
	}
	if strings.TrimSuffix(discovery.Issuer, "/") != strings.TrimSuffix(issuer, "/") {
		return set, fmt.Errorf("sts: discovery document of %s is for another issuer", issuer)
	}
	if err := i.get(ctx, discovery.Keys, &set); err != nil {
		return set, err
	}
	return set, nil
}

func (i *issuers) get(ctx context.Context, address string, into any) error {
	u, err := url.Parse(address)
	if err != nil || !secure(u) {
		return fmt.Errorf("sts: %q is not an address to fetch keys from", address)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	resp, err := i.client.Do(r)
	if err != nil {
		return fmt.Errorf("sts: fetch %s: %w", address, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end or given up
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("sts: fetch %s: %s", address, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxDiscovery)).Decode(into); err != nil {
		return fmt.Errorf("sts: read %s: %w", address, err)
	}
	return nil
}
