package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"skerry/internal/engine"
)

// endpoint is a registry or a mirror of it, for one repository and one caller.
type endpoint struct {
	host, prefix string
	agent        string
	auth         engine.Auth
	web          *http.Client
	scopes       []string

	mu     sync.Mutex
	scheme string
	either bool   // HTTPS is tried where HTTP is not understood
	header string // Authorization; empty until the registry has asked for it
}

// request is what the registry is asked. Its body can be read several times.
type request struct {
	method, path string // the path behind /v2/, or a whole URL
	query        url.Values
	header       http.Header
	body         func() (io.ReadCloser, error)
	size         int64
}

// do sends a request, signs in when the registry asks for it, and returns any
// answer below 400. A *Error is the registry's own.
func (e *endpoint) do(ctx context.Context, q request) (*http.Response, error) {
	for try := 0; ; try++ {
		a, err := e.send(ctx, q)
		if err != nil {
			if e.upgrade(a, err) {
				continue
			}
			return nil, err
		}
		switch {
		case a.StatusCode < 400:
			return a, nil
		case e.upgrade(a, nil):
			a.Body.Close()
			continue
		case a.StatusCode == http.StatusUnauthorized && try < 2:
			challenges := a.Header.Values("WWW-Authenticate")
			told := failure(a)
			if err := e.signIn(ctx, challenges, a.Request.Header.Get("Authorization")); errors.Is(err, errNoChallenge) {
				return nil, told
			} else if err != nil {
				return nil, err
			}
		default:
			return nil, failure(a)
		}
	}
}

// upgrade turns to HTTPS where a registry on loopback does not speak HTTP.
func (e *endpoint) upgrade(a *http.Response, err error) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.either || e.scheme == "https" {
		return false
	}
	if err != nil && !strings.Contains(err.Error(), "malformed HTTP response") {
		return false
	}
	if err == nil && (a.StatusCode != http.StatusBadRequest || a.Header.Get("Docker-Distribution-Api-Version") != "" || a.Header.Get("Content-Type") == "application/json") {
		return false
	}
	e.scheme = "https"
	return true
}

func (e *endpoint) send(ctx context.Context, q request) (*http.Response, error) {
	e.mu.Lock()
	scheme, header := e.scheme, e.header
	e.mu.Unlock()
	target := q.path
	if !strings.Contains(target, "://") {
		target = scheme + "://" + e.host + e.prefix + "/v2/" + q.path
	}
	u, err := url.Parse(target)
	if err != nil {
		return nil, err
	}
	if len(q.query) > 0 {
		all := u.Query()
		for k, v := range q.query {
			all[k] = v
		}
		u.RawQuery = all.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, q.method, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range q.header {
		r.Header[k] = v
	}
	r.Header.Set("User-Agent", e.agent)
	if header != "" && u.Host == e.host {
		r.Header.Set("Authorization", header)
	}
	if q.body != nil {
		if r.Body, err = q.body(); err != nil {
			return nil, err
		}
		r.GetBody, r.ContentLength = q.body, q.size
		if q.size == 0 {
			r.Body.Close()
			r.Body = http.NoBody
		}
	}
	return e.web.Do(r)
}

var errNoChallenge = errors.New("the registry does not say how to sign in")

// signIn gets what the registry's challenge asks for; sent is the header that
// was not enough.
func (e *endpoint) signIn(ctx context.Context, challenges []string, sent string) error {
	e.mu.Lock()
	meanwhile := e.header != sent
	e.mu.Unlock()
	if meanwhile {
		return nil // another request has signed in since
	}
	var basic bool
	for _, text := range challenges {
		scheme, params := parseChallenge(text)
		switch scheme {
		case "bearer":
			token := e.auth.RegistryToken
			if token == "" {
				var err error
				if token, err = e.token(ctx, params); err != nil {
					return err
				}
			}
			e.set("Bearer " + token)
			return nil
		case "basic":
			basic = true
		}
	}
	if basic && e.auth.Username != "" {
		r := http.Request{Header: http.Header{}}
		r.SetBasicAuth(e.auth.Username, e.auth.Password)
		if header := r.Header.Get("Authorization"); header != sent {
			e.set(header)
			return nil
		}
	}
	return errNoChallenge // or what was sent was not enough
}

func (e *endpoint) set(header string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.header = header
}

// parseChallenge takes a WWW-Authenticate header apart.
func parseChallenge(text string) (scheme string, params map[string]string) {
	scheme, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	params = map[string]string{}
	for rest = strings.TrimLeft(rest, " ,"); rest != ""; rest = strings.TrimLeft(rest, " ,") {
		key, after, ok := strings.Cut(rest, "=")
		if !ok {
			break
		}
		value := ""
		if strings.HasPrefix(after, `"`) {
			i := 1
			for ; i < len(after) && after[i] != '"'; i++ {
				if after[i] == '\\' && i+1 < len(after) {
					i++
				}
				value += string(after[i])
			}
			rest = after[min(i+1, len(after)):]
		} else {
			value, rest, _ = strings.Cut(after, ",")
		}
		params[strings.ToLower(strings.TrimSpace(key))] = strings.TrimSpace(value)
	}
	return strings.ToLower(scheme), params
}

// token asks the authorisation server that the registry names for a token.
func (e *endpoint) token(ctx context.Context, params map[string]string) (string, error) {
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Host == "" || realm.Scheme != "https" && realm.Scheme != "http" {
		return "", fmt.Errorf("the registry's token server is %q", params["realm"])
	}
	e.mu.Lock()
	plain := e.scheme == "http"
	e.mu.Unlock()
	if realm.Scheme == "http" && !plain && !Loopback(realm.Host) {
		return "", fmt.Errorf("the registry's token server %s is not https", realm.Host)
	}
	scopes := e.scopes
	if s := params["scope"]; s != "" {
		scopes = append([]string{s}, scopes...)
	}
	r, err := e.tokenRequest(ctx, realm, params["service"], scopes)
	if err != nil {
		return "", err
	}
	a, err := e.web.Do(r)
	if err != nil {
		return "", fmt.Errorf("sign in at %s: %w", realm.Host, scrub(err))
	}
	if a.StatusCode != http.StatusOK {
		return "", fmt.Errorf("sign in at %s: %w", realm.Host, failure(a))
	}
	defer a.Body.Close()
	var got struct {
		Token  string `json:"token"`
		Access string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(a.Body, 1<<20)).Decode(&got); err != nil {
		return "", fmt.Errorf("sign in at %s: %w", realm.Host, err)
	}
	if got.Token == "" {
		got.Token = got.Access
	}
	if got.Token == "" {
		return "", fmt.Errorf("sign in at %s: no token in the answer", realm.Host)
	}
	return got.Token, nil
}

func (e *endpoint) tokenRequest(ctx context.Context, realm *url.URL, service string, scopes []string) (*http.Request, error) {
	form := url.Values{}
	if service != "" {
		form.Set("service", service)
	}
	if e.auth.IdentityToken != "" {
		form.Set("grant_type", "refresh_token")
		form.Set("refresh_token", e.auth.IdentityToken)
		form.Set("client_id", e.agent)
		form.Set("scope", strings.Join(scopes, " "))
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, realm.String(), strings.NewReader(form.Encode()))
		if err == nil {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		return r, err
	}
	for k, v := range realm.Query() {
		form[k] = v
	}
	form["scope"] = scopes
	if e.auth.Username != "" {
		form.Set("account", e.auth.Username)
	}
	u := *realm
	u.RawQuery = form.Encode()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	if e.auth.Username != "" {
		r.SetBasicAuth(e.auth.Username, e.auth.Password)
	}
	r.Header.Set("User-Agent", e.agent)
	return r, nil
}

// scrub takes the address, which may hold what is secret, out of an error.
func scrub(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// The tries that a registry is given while it fails in passing.
const (
	tries    = 5
	firstGap = 200 * time.Millisecond
	longest  = 30 * time.Second
)

// again runs fn until it succeeds, fails for good, or has failed too often.
func again(ctx context.Context, fn func() error) error {
	gap := firstGap
	for try := 1; ; try++ {
		err := fn()
		if err == nil || try == tries || !transient(ctx, err) {
			return err
		}
		select {
		case <-time.After(gap):
		case <-ctx.Done():
			return ctx.Err()
		}
		gap = min(gap*2, longest)
	}
}

// transient tells whether another try may succeed.
func transient(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return false
	}
	var e *Error
	if errors.As(err, &e) {
		return e.passing()
	}
	var u *url.Error
	if errors.As(err, &u) {
		text := u.Err.Error()
		for _, final := range []string{"x509:", "tls:", "no such host", "redirect", "connection refused", "malformed HTTP"} {
			if strings.Contains(text, final) {
				return false
			}
		}
		return true
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errIdle)
}

// rangeStart reads the first byte's place of a Content-Range header, or -1.
func rangeStart(text string) int64 {
	first, _, ok := strings.Cut(strings.TrimPrefix(text, "bytes "), "-")
	n, err := strconv.ParseInt(first, 10, 64)
	if !ok || err != nil {
		return -1
	}
	return n
}
