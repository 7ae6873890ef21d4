package listen

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Domains are the names that the authority may vouch for, with all below them:
// whoever trusts it trusts it for nothing else.
var domains = []string{"localhost", "skerry.internal", "amazonaws.com", "api.aws", "on.aws"}

// Networks are the addresses that the authority may vouch for: those that lead
// to this machine or stay near it.
var networks = []string{
	"127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",
}

const (
	authorityAge = 10 * 365 * 24 * time.Hour
	leafAge      = 397 * 24 * time.Hour // the longest that browsers accept
	leafSpare    = 24 * time.Hour       // a leaf is made anew this long before its end
	maxLeaves    = 4096                 // names whose certificates are kept at once
)

// Authority is the cloud's own certificate authority, made at the first start.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	leaf *ecdsa.PrivateKey // one key for all leaves of this run
	dir  string
	now  func() time.Time

	mu struct {
		sync.Mutex
		leaves map[string]*tls.Certificate
	}
}

// OpenAuthority reads the authority of a folder, or makes one there: ca.pem and,
// readable by its owner alone, ca-key.pem.
func OpenAuthority(dir string, now func() time.Time) (*Authority, error) {
	a := &Authority{dir: dir, now: now}
	a.mu.leaves = map[string]*tls.Certificate{}
	err := a.read()
	if errors.Is(err, fs.ErrNotExist) {
		err = a.create()
	}
	if err != nil {
		return nil, fmt.Errorf("listen: certificate authority in %s: %w", dir, err)
	}
	a.leaf, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	return a, err
}

func (a *Authority) certFile() string { return filepath.Join(a.dir, "ca.pem") }
func (a *Authority) keyFile() string  { return filepath.Join(a.dir, "ca-key.pem") }

// read loads what an earlier start made.
func (a *Authority) read() error {
	pair, err := tls.LoadX509KeyPair(a.certFile(), a.keyFile())
	if err != nil {
		return err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return errors.New("the key is not an ECDSA key")
	}
	a.cert, a.key = pair.Leaf, key
	return nil
}

// create makes the authority. The certificate comes last, so that a start cut
// short is made again.
func (a *Authority) create() error {
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	tmpl := &x509.Certificate{
		SerialNumber:                serial(),
		Subject:                     pkix.Name{CommonName: "Skerry local authority", Organization: []string{"Skerry"}},
		NotBefore:                   a.now().Add(-time.Hour),
		NotAfter:                    a.now().Add(authorityAge),
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         domains,
		PermittedIPRanges:           ranges(),
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := replaceFile(a.keyFile(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return err
	}
	if err := replaceFile(a.certFile(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return err
	}
	a.key = key
	a.cert, err = x509.ParseCertificate(der)
	return err
}

// Certificate answers a TLS handshake: a certificate for the name that the
// client asked for, or for the address it came to. It implements
// tls.Config.GetCertificate.
func (a *Authority) Certificate(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(strings.TrimSuffix(h.ServerName, "."))
	if name == "" {
		host, _, err := net.SplitHostPort(h.Conn.LocalAddr().String())
		if err != nil {
			return nil, err
		}
		name = host
	}
	if !vouched(name) {
		return nil, fmt.Errorf("listen: no certificate for %q", name)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.mu.leaves[name]; c != nil && a.now().Before(c.Leaf.NotAfter.Add(-leafSpare)) {
		return c, nil
	}
	c, err := a.mint(name)
	if err != nil {
		return nil, err
	}
	if len(a.mu.leaves) >= maxLeaves {
		clear(a.mu.leaves) // a client that asks for endless names costs time, not memory
	}
	a.mu.leaves[name] = c
	return c, nil
}

// mint makes the certificate of a name or an address.
func (a *Authority) mint(name string) (*tls.Certificate, error) {
	tmpl := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: first(name, 64)},
		NotBefore:    a.now().Add(-time.Hour),
		NotAfter:     a.now().Add(leafAge),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(name); ip != nil {
		tmpl.IPAddresses = []net.IP{ip}
		tmpl.DNSNames = []string{"localhost"} // some clients send no name at all for it
	} else {
		tmpl.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, a.leaf.Public(), a.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.cert.Raw}, PrivateKey: a.leaf, Leaf: leaf}, nil
}

// PEM returns the authority's own certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// systemBundles are the places of the system's certificate authorities.
var systemBundles = []string{
	"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
}

// Bundle writes the system's authorities and this one into bundle.pem beside
// ca.pem, for clients that take one file only, and returns its path.
func (a *Authority) Bundle() (string, error) {
	var all []byte
	for _, path := range systemBundles {
		if b, err := os.ReadFile(path); err == nil {
			all = append(bytes.TrimRight(b, "\n"), '\n')
			break
		}
	}
	all = append(all, a.PEM()...)
	path := filepath.Join(a.dir, "bundle.pem")
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, all) {
		return path, nil
	}
	return path, replaceFile(path, all, 0o644)
}

// vouched tells whether the authority may sign for a name.
func vouched(name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		for _, n := range ranges() {
			if n.Contains(ip) {
				return true
			}
		}
		return false
	}
	if len(name) > 253 || strings.ContainsAny(name, " /\\*\x00") {
		return false
	}
	for _, d := range domains {
		if name == d || strings.HasSuffix(name, "."+d) {
			return true
		}
	}
	return false
}

func ranges() []*net.IPNet {
	out := make([]*net.IPNet, len(networks))
	for i, n := range networks {
		_, out[i], _ = net.ParseCIDR(n) // constants; a test parses them
	}
	return out
}

func serial() *big.Int {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails, by its contract
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b)
}

func first(s string, n int) string { return s[:min(len(s), n)] }

// replaceFile writes a file so that a reader sees the old one or the new.
func replaceFile(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is there after a success
	if _, err = f.Write(content); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
