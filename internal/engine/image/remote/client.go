package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"skerry/internal/engine"
)

// Config of New.
type Config struct {
	// Mirrors are the base URLs that are asked before a registry, by its host
	// ("docker.io").
	Mirrors map[string][]string
	// Folders have authorities and certificates of registries, a folder each.
	// Nil is DefaultFolders.
	Folders []string
	Agent   string // User-Agent; empty is "skerry"
}

// DefaultFolders are where Docker and containerd look.
var DefaultFolders = []string{"/etc/docker/certs.d", "/etc/containerd/certs.d"}

// The times that a registry is given.
const (
	dialTime   = 30 * time.Second
	headerTime = 60 * time.Second
	idleTime   = 60 * time.Second // without a byte of a body
)

// Client reaches registries. It is safe for concurrent use.
type Client struct {
	cfg Config
	mu  sync.Mutex
	web map[string]*http.Client // by host
}

// New returns a client.
func New(c Config) *Client {
	if c.Folders == nil {
		c.Folders = DefaultFolders
	}
	if c.Agent == "" {
		c.Agent = "skerry"
	}
	return &Client{cfg: c, web: map[string]*http.Client{}}
}

// Close lets go of idle connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.web {
		w.CloseIdleConnections()
	}
}

// Repository returns a repository of a registry, such as "docker.io" and
// "library/busybox". push asks for the permission to write.
func (c *Client) Repository(host, path string, auth engine.Auth, push bool) (*Repository, error) {
	r := &Repository{client: c, path: path}
	if !push {
		for _, base := range c.cfg.Mirrors[host] {
			u, err := url.Parse(base)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return nil, fmt.Errorf("the mirror %q of %s is no URL", base, host)
			}
			web, err := c.reach(u.Host)
			if err != nil {
				return nil, err
			}
			r.ends = append(r.ends, &endpoint{scheme: u.Scheme, host: u.Host, prefix: strings.TrimRight(u.Path, "/"), web: web, agent: c.cfg.Agent})
		}
	}
	e := &endpoint{scheme: "https", host: host, auth: auth, agent: c.cfg.Agent}
	if host == "docker.io" {
		e.host = "registry-1.docker.io"
	}
	if Loopback(host) {
		e.scheme, e.either = "http", true
	}
	var err error
	if e.web, err = c.reach(e.host); err != nil {
		return nil, err
	}
	r.ends = append(r.ends, e)
	actions := "pull"
	if push {
		actions = "pull,push"
	}
	for _, e := range r.ends {
		e.scopes = []string{"repository:" + path + ":" + actions}
	}
	return r, nil
}

// Loopback tells whether a host is this machine's by its name.
func Loopback(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	a, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil && a.IsLoopback()
}

// reach returns the HTTP client of a host.
func (c *Client) reach(host string) (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.web[host]; w != nil {
		return w, nil
	}
	conf, err := c.certificates(host)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: dialTime, KeepAlive: 30 * time.Second}
	w := &http.Client{
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return dial(ctx, dialer, network, address)
			},
			TLSClientConfig: conf, TLSHandshakeTimeout: dialTime, ResponseHeaderTimeout: headerTime,
			ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8, IdleConnTimeout: 30 * time.Second,
			// Layers are compressed already, and their bytes are what counts.
			DisableCompression: true, ReadBufferSize: 64 << 10, WriteBufferSize: 64 << 10,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) >= 10 {
				return errors.New("stopped after 10 redirects")
			}
			if r.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
				return fmt.Errorf("the registry redirects from https to %s", r.URL.Scheme)
			}
			return nil
		},
	}
	c.web[host] = w
	return w, nil
}

// dial connects; names under localhost are this machine, whatever its resolver
// says.
func dial(ctx context.Context, d *net.Dialer, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != "localhost" && !strings.HasSuffix(host, ".localhost") {
		return d.DialContext(ctx, network, address)
	}
	conn, err := d.DialContext(ctx, network, net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		if six, e := d.DialContext(ctx, network, net.JoinHostPort("::1", port)); e == nil {
			return six, nil
		}
	}
	return conn, err
}

// certificates reads what the folders have for a host.
func (c *Client) certificates(host string) (*tls.Config, error) {
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if Loopback(host) {
		conf.InsecureSkipVerify = true // as Docker does: who listens there is on this machine
	}
	if strings.Contains(host, "/") || strings.HasPrefix(host, ".") {
		return conf, nil
	}
	for _, folder := range c.cfg.Folders {
		dir := filepath.Join(folder, host)
		files, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("the certificates of %s: %w", host, err)
		}
		for _, f := range files {
			path := filepath.Join(dir, f.Name())
			switch filepath.Ext(path) {
			case ".crt":
				err = addAuthority(conf, path)
			case ".cert":
				var pair tls.Certificate
				if pair, err = tls.LoadX509KeyPair(path, strings.TrimSuffix(path, ".cert")+".key"); err == nil {
					conf.Certificates = append(conf.Certificates, pair)
				}
			}
			if err != nil {
				return nil, fmt.Errorf("the certificate %s: %w", path, err)
			}
		}
	}
	return conf, nil
}

func addAuthority(conf *tls.Config, path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if conf.RootCAs == nil {
		if conf.RootCAs, err = x509.SystemCertPool(); err != nil {
			return err
		}
		conf.InsecureSkipVerify = false // whoever gives an authority wants it to count
	}
	if !conf.RootCAs.AppendCertsFromPEM(text) {
		return errors.New("no certificate in it")
	}
	return nil
}
