package image_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/enginetest"
	"skerry/internal/engine/image"
	"skerry/internal/store"
)

// bench is an image store and what it stands on.
type bench struct {
	*image.Store
	dir   string
	db    *store.DB
	blobs *blob.Files
}

// open returns an empty image store.
func open(t testing.TB) *bench {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("layers are unpacked by root alone")
	}
	return reopen(t, t.TempDir(), nil)
}

// reopen returns the image store of a folder.
func reopen(t testing.TB, dir string, change func(*image.Config)) *bench {
	t.Helper()
	db, err := store.Open(filepath.Join(dir, "store"), store.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	blobs, err := blob.Open(filepath.Join(dir, "blob"), blob.Options{Relaxed: true})
	if err != nil {
		t.Fatal(err)
	}
	c := image.Config{Dir: filepath.Join(dir, "layers"), Store: db, Blobs: blobs, Relaxed: true}
	if change != nil {
		change(&c)
	}
	s, err := image.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return &bench{s, dir, db, blobs}
}

func (b *bench) load(t testing.TB, all ...enginetest.ImageSpec) []engine.Image {
	t.Helper()
	got, err := b.Load(t.Context(), bytes.NewReader(enginetest.Archive(all...)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// small is an image of two layers.
func small(names ...string) enginetest.ImageSpec {
	return enginetest.ImageSpec{
		Names:  names,
		Config: engine.ImageConfig{Command: []string{"/hello"}, Env: []string{"A=1"}, Labels: map[string]string{"k": "v"}, Ports: []string{"80/tcp"}},
		Layers: [][]enginetest.ImageFile{
			{{Name: "hello", Mode: 0o755, Content: []byte("#!/bin/sh\necho hello\n")}, {Name: "etc/old", Content: []byte("old")}},
			{{Name: "etc/.wh.old"}, {Name: "etc/new", Content: []byte("new"), UID: 5, GID: 6}},
		},
	}
}

func TestLoad(t *testing.T) {
	b := open(t)
	got := b.load(t, small("small", "example.com/a/small:v2"))
	if len(got) != 1 || !slices.Equal(got[0].Names, []string{"example.com/a/small:v2", "small:latest"}) {
		t.Fatalf("loaded %+v", got)
	}
	for _, name := range []string{"small", "small:latest", "docker.io/library/small", "example.com/a/small:v2", got[0].ID, got[0].ID[7:15]} {
		i, err := b.Get(t.Context(), name)
		if err != nil || i.ID != got[0].ID {
			t.Errorf("%s: %v, %v", name, i.ID, err)
		}
	}
	for _, name := range []string{"large", "small:v2", "ffff", "sha256:ffff", "no/UPPER", ""} {
		if _, err := b.Get(t.Context(), name); !errors.Is(err, engine.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	h, err := b.Hold(t.Context(), "small")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Release()
	if len(h.Layers) != 2 || h.Image.Size != int64(len("#!/bin/sh\necho hello\n")+len("old")+len("new")) {
		t.Fatalf("held %+v", h)
	}
	text, err := os.ReadFile(filepath.Join(h.Layers[0], "hello"))
	if err != nil || string(text) != "#!/bin/sh\necho hello\n" {
		t.Errorf("hello: %q, %v", text, err)
	}
	if st, err := os.Lstat(filepath.Join(h.Layers[1], "etc/old")); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("the whiteout: %v, %v", st, err)
	}
}

// otherAuthority is a certificate that has signed nothing here.
func otherAuthority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "other"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
}
