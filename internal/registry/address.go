package registry

import (
	"net"
	"net/url"
	"regexp"
	"strings"
)

// The domains below which <account>.dkr.ecr.<region> stands for the registry of
// an account and region.
var hostForm = regexp.MustCompile(`^([0-9]{12})\.dkr[.-]ecr\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.(?:localhost|localhost\.localstack\.cloud|skerry\.internal|amazonaws\.com|on\.aws)$`)

// pathForm is the path form of the same.
var pathForm = regexp.MustCompile(`^([0-9]{12})/([a-z]{2}(?:-[a-z]+)+-[0-9])/(.+)$`)

// hostOf splits the host of a request into account and region; ok is false for
// any other host.
func hostOf(host string) (account, region string, ok bool) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	m := hostForm.FindStringSubmatch(strings.ToLower(strings.TrimSuffix(host, ".")))
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}

// IsHost tells whether a host is the registry's alone.
func IsHost(host string) bool {
	_, _, ok := hostOf(host)
	return ok
}

// repoOf returns the repository that a name in a path means at a host.
func (r *Registry) repoOf(host, name string) Repo {
	if account, region, ok := hostOf(host); ok {
		return Repo{account, region, name}
	}
	if m := pathForm.FindStringSubmatch(name); m != nil {
		return Repo{m[1], m[2], m[3]}
	}
	return Repo{r.Account, r.Region, name}
}

// Base returns what docker login takes, and what names of images begin with:
// <account>.dkr.ecr.<region>.localhost:port where such names resolve on this
// machine, else localhost:port/<account>/<region>.
func (r *Registry) Base(account, region string) string {
	if r.Named != nil && r.Named() {
		return net.JoinHostPort(account+".dkr.ecr."+region+".localhost", r.Port)
	}
	return net.JoinHostPort("localhost", r.Port) + "/" + account + "/" + region
}

// URI returns a repository's repositoryUri.
func (r *Registry) URI(id Repo) string { return r.Base(id.Account, id.Region) + "/" + id.Name }

// Endpoint returns the proxyEndpoint of an account and region: a URL with the
// host alone, as docker login wants it.
func (r *Registry) Endpoint(account, region string) string {
	host, _, _ := strings.Cut(r.Base(account, region), "/")
	return (&url.URL{Scheme: "http", Host: host}).String()
}
