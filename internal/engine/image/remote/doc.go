// Package remote speaks the OCI distribution protocol as its client: it reads and
// writes manifests and blobs of any registry that Docker can use.
//
// A registry is asked over HTTPS, one on this machine's loopback (and any name
// under .localhost, which is loopback whatever the resolver says) over HTTP.
// Authorities and client certificates for a registry are read from the folders that
// Docker and containerd read: <folder>/<host[:port]>/*.crt, and *.cert with *.key.
// Mirrors are asked before the registry, without its credentials.
//
// A download that breaks off goes on where it was, by Range. Nothing that is read
// here is verified, except that a manifest asked for by digest has it: the caller
// knows the digest and size of everything else.
//
// Left out: containerd's hosts.toml, schema 1, registries that want a client's
// OAuth2 password grant.
package remote
