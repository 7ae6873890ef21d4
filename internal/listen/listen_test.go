package listen

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// serve starts a server that answers with the protocol, the host and the raw
// path that it saw.
func serve(t *testing.T) (addr string, a *Authority) {
	t.Helper()
	a, err := OpenAuthority(t.TempDir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	doors := []Door{{"teapot", func(r *http.Request) bool { return r.URL.Path == "/teapot" }, http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })}}
	s := New(doors, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %v %s", r.Proto, r.TLS != nil, r.RequestURI)
	}), a, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String(), a
}

func client(a *Authority, addr string, set func(*http.Protocols)) *http.Client {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	p := new(http.Protocols)
	set(p)
	return &http.Client{Transport: &http.Transport{
		Protocols:       p,
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
		DisableKeepAlives: true,
	}}
}

func TestProtocolsOnOnePort(t *testing.T) {
	addr, a := serve(t)
	one := func(p *http.Protocols) { p.SetHTTP1(true) }
	two := func(p *http.Protocols) { p.SetHTTP2(true) }
	clearTwo := func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) }
	for _, c := range []struct {
		url  string
		set  func(*http.Protocols)
		want string
	}{
		{"http://localhost/a//b%2Fc/../d", one, "HTTP/1.1 false /a//b%2Fc/../d"},
		{"http://localhost/x", clearTwo, "HTTP/2.0 false /x"},
		{"https://localhost/x", one, "HTTP/1.1 true /x"},
		{"https://bucket.s3.eu-west-1.amazonaws.com/x", two, "HTTP/2.0 true /x"},
		{"https://127.0.0.1/x", two, "HTTP/2.0 true /x"},
	} {
		got, err := client(a, addr, c.set).Get(c.url)
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		b, _ := io.ReadAll(got.Body)
		got.Body.Close()
		if string(b) != c.want {
			t.Errorf("%s: got %q, want %q", c.url, b, c.want)
		}
	}
}

func TestDoor(t *testing.T) {
	addr, a := serve(t)
	got, err := client(a, addr, func(p *http.Protocols) { p.SetHTTP1(true) }).Get("http://" + addr + "/teapot")
	if err != nil {
		t.Fatal(err)
	}
	got.Body.Close()
	if got.StatusCode != http.StatusTeapot {
		t.Errorf("got %d", got.StatusCode)
	}
}

func TestAuthorityVouchesForLittle(t *testing.T) {
	addr, a := serve(t)
	if _, err := client(a, addr, func(p *http.Protocols) { p.SetHTTP1(true) }).Get("https://example.com/"); err == nil {
		t.Error("a certificate for example.com")
	}
	for name, want := range map[string]bool{
		"localhost": true, "a.b.localhost": true, "notlocalhost": false, "amazonaws.com.evil.org": false,
		"10.1.2.3": true, "8.8.8.8": false, "x y.localhost": false,
	} {
		if vouched(name) != want {
			t.Errorf("%s: got %v", name, !want)
		}
	}
	for _, n := range networks {
		if _, _, err := net.ParseCIDR(n); err != nil {
			t.Error(err)
		}
	}
}

func TestAuthorityIsKept(t *testing.T) {
	dir := t.TempDir()
	one, err := OpenAuthority(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	two, err := OpenAuthority(dir, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if !one.cert.Equal(two.cert) {
		t.Error("a second start makes a second authority")
	}
	st, err := os.Stat(one.keyFile())
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode is %v, %v", st.Mode(), err)
	}
	path, err := two.Bundle()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || !strings.HasSuffix(string(b), string(one.PEM())) {
		t.Errorf("the bundle does not end on the authority: %v", err)
	}
	if err := os.WriteFile(one.certFile(), []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenAuthority(dir, time.Now); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a damaged authority: %v", err)
	}
}
