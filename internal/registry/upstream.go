package registry

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
	"time"

	"skerry/internal/store"
)

// freshness is how long a tag of an upstream is believed without asking again.
// Page: "Using pull through cache rules".
const freshness = 24 * time.Hour

// relayManifest completes the look for a manifest: one that is not here, or whose
// tag may have moved, is fetched from the repository's upstream and stored. m and
// missing are what was found here.
func (x *exchange) relayManifest(ctx context.Context, digest, tag string, m *Manifest, missing error) (*Manifest, error) {
	absent := CodeOf(missing) == ImageNotFound || CodeOf(missing) == RepositoryNotFound
	if x.hooks.Upstream == nil || missing != nil && !absent || missing == nil && tag == "" {
		return m, missing
	}
	if missing == nil && !x.stale(ctx, tag) {
		return m, nil
	}
	up, err := x.hooks.Upstream(ctx, x.repo)
	if err != nil || up == nil {
		return m, errors.Join(missing, err)
	}
	if err := x.Import(ctx); err != nil {
		return m, err
	}
	ref := digest
	if tag != "" {
		ref = tag
	}
	got, err := x.fetchManifest(ctx, up, ref, digest)
	if err != nil {
		x.Log.Warn("registry: upstream", "repository", x.repo.Name, "upstream", up.Base, "error", err)
		if missing == nil {
			return m, nil // what is here is better than nothing
		}
		return nil, missing
	}
	if err := x.fetched(ctx); err != nil {
		return m, err
	}
	got.Repo = x.repo
	err = x.Store.Update(ctx, func(tx *store.Tx) error { return x.keepFetched(tx, got, tag) })
	return got, err
}

// Import asks the control plane whether the caller may import.
func (x *exchange) Import(ctx context.Context) error {
	if x.hooks.Import == nil {
		return nil
	}
	return x.hooks.Import(ctx, x.scope, x.repo)
}

// fetched has the control plane make the repository of what was fetched.
func (x *exchange) fetched(ctx context.Context) error {
	if x.hooks.Fetched == nil {
		return nil
	}
	return x.hooks.Fetched(ctx, x.scope, x.repo)
}

// stale tells whether the upstream of a tag should be asked again.
func (x *exchange) stale(ctx context.Context, tag string) (yes bool) {
	err := x.Store.View(ctx, func(tx *store.Tx) error {
		t, err := tags.Get(tx, x.repo.Key()+store.K(tag))
		if err == nil {
			yes = !t.Checked.IsZero() && x.now().Sub(t.Checked) >= freshness
		}
		return err
	})
	return err == nil && yes
}

// keepFetched stores a manifest of an upstream. What it names comes when it is
// asked for.
func (x *exchange) keepFetched(tx *store.Tx, m *Manifest, tag string) error {
	p := Push{Manifest: m}
	old, err := manifests.Get(tx, m.Repo.Key()+store.K(m.Digest))
	switch {
	case errors.Is(err, store.ErrNotFound):
		p.New, m.Pushed = true, x.now()
	case err != nil:
		return err
	default:
		m.Pushed, m.Pulled = old.Pushed, old.Pulled
	}
	if err := manifests.Put(tx, m); err != nil {
		return err
	}
	if tag != "" {
		t, err := tags.Get(tx, m.Repo.Key()+store.K(tag))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		now := x.now()
		if err != nil || t.Digest != m.Digest {
			p.Tags, t = []string{tag}, &Tag{Repo: m.Repo, Tag: tag, Digest: m.Digest, Updated: now}
		}
		t.Checked = now
		if err := tags.Put(tx, t); err != nil {
			return err
		}
	}
	if x.hooks.Pushed == nil || !p.New && len(p.Tags) == 0 {
		return nil
	}
	return x.hooks.Pushed(tx, p)
}

func (x *exchange) fetchManifest(ctx context.Context, up *Upstream, ref, digest string) (*Manifest, error) {
	resp, err := x.ask(ctx, up, http.MethodGet, "manifests/"+ref)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
	if err != nil {
		return nil, err
	}
	return x.Prepare(ctx, resp.Header.Get("Content-Type"), digest, body)
}

// relayBlob sends a layer of the repository's upstream to the client while it is
// stored.
func (x *exchange) relayBlob(ctx context.Context) (done bool, err error) {
	if x.hooks.Upstream == nil {
		return false, nil
	}
	up, err := x.hooks.Upstream(ctx, x.repo)
	if err != nil || up == nil {
		return false, err
	}
	if err := x.Import(ctx); err != nil {
		return false, err
	}
	resp, err := x.ask(ctx, up, x.r.Method, "blobs/"+x.route.ref)
	if err != nil {
		x.Log.Warn("registry: upstream", "repository", x.repo.Name, "upstream", up.Base, "error", err)
		return false, nil
	}
	defer resp.Body.Close()
	if err := x.fetched(ctx); err != nil {
		return false, err
	}
	if x.r.Header.Get("Range") != "" && x.r.Method == http.MethodGet {
		b, err := x.PutBlob(ctx, x.repo, x.route.ref, resp.Body)
		if err != nil {
			return true, err
		}
		return true, x.sendBlob(ctx, b)
	}
	h := x.w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("Docker-Content-Digest", x.route.ref)
	if resp.ContentLength >= 0 {
		h.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	x.w.WriteHeader(http.StatusOK)
	if x.r.Method == http.MethodHead {
		return true, nil
	}
	// A client that goes away does not stop the store from getting the rest.
	_, err = x.PutBlob(context.WithoutCancel(ctx), x.repo, x.route.ref, io.TeeReader(resp.Body, &lenient{w: x.w}))
	if err != nil {
		x.Log.Warn("registry: layer of an upstream", "digest", x.route.ref, "error", err)
		panic(http.ErrAbortHandler)
	}
	return true, nil
}

// lenient takes all that it is given, also when its writer does not any more.
type lenient struct {
	w    io.Writer
	gone bool
}

// Write implements io.Writer.
func (l *lenient) Write(p []byte) (int, error) {
	if !l.gone {
		_, err := l.w.Write(p)
		l.gone = err != nil
	}
	return len(p), nil
}

// ask sends a request to an upstream, with a token if it wants one. The answer is
// a success.
func (r *Registry) ask(ctx context.Context, up *Upstream, method, path string) (*http.Response, error) {
	target := strings.TrimSuffix(up.Base, "/") + "/v2/" + up.Name + "/" + path
	var header string
	for {
		// The body may outlive the client that asked for it (relayBlob).
		req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), method, target, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Accept", strings.Join([]string{OCIIndex, DockerList, OCIManifest, DockerManifest, "application/octet-stream"}, ", "))
		if header != "" {
			req.Header.Set("Authorization", header)
		}
		resp, err := r.Client.Do(req)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusOK {
			return resp, nil
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized || header != "" {
			return nil, fmt.Errorf("%s %s: %s", method, target, resp.Status)
		}
		if header, err = r.answerChallenge(ctx, up, resp.Header.Get("Www-Authenticate")); err != nil {
			return nil, err
		}
	}
}

// answerChallenge returns the Authorization header that an upstream asks for.
// Page: "Token Authentication Specification" of the distribution project.
func (r *Registry) answerChallenge(ctx context.Context, up *Upstream, challenge string) (string, error) {
	scheme, rest, _ := strings.Cut(challenge, " ")
	login := &http.Request{Header: http.Header{}}
	if up.User != "" {
		login.SetBasicAuth(up.User, up.Password)
	}
	if strings.EqualFold(scheme, "Basic") {
		if up.User == "" {
			return "", errors.New("the upstream wants a password, and the rule has none")
		}
		return login.Header.Get("Authorization"), nil
	}
	if !strings.EqualFold(scheme, "Bearer") {
		return "", fmt.Errorf("the upstream asks for %q", scheme)
	}
	params := challengeParams(rest)
	realm, err := url.Parse(params["realm"])
	if err != nil || realm.Scheme != "https" && realm.Scheme != "http" {
		return "", fmt.Errorf("the upstream sends for a token to %q", params["realm"])
	}
	q := realm.Query()
	if s := params["service"]; s != "" {
		q.Set("service", s)
	}
	q.Set("scope", "repository:"+up.Name+":pull")
	realm.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, realm.String(), nil)
	if err != nil {
		return "", err
	}
	req.Header = login.Header
	resp, err := r.Client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("a token of the upstream: %s", resp.Status)
	}
	var got struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&got); err != nil {
		return "", fmt.Errorf("a token of the upstream: %w", err)
	}
	if got.Token == "" {
		got.Token = got.AccessToken
	}
	return "Bearer " + got.Token, nil
}

// challengeParams reads key="value" pairs.
func challengeParams(s string) map[string]string {
	out := map[string]string{}
	for s != "" {
		name, rest, ok := strings.Cut(s, "=")
		if !ok {
			break
		}
		name = strings.ToLower(strings.Trim(name, " ,"))
		var value string
		if quoted, ok := strings.CutPrefix(rest, `"`); ok {
			value, s, _ = strings.Cut(quoted, `"`)
		} else {
			value, s, _ = strings.Cut(rest, ",")
		}
		out[name] = value
	}
	return out
}
