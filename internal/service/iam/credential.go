package iam

import (
	"context"
	"crypto/md5" //nolint:gosec // the fingerprint's form, not a protection
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"net/http"
	"slices"
	"strings"

	"crypto/rsa"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// The further credentials of users: SSH public keys (for CodeCommit) and signing
// certificates. Skerry keeps them and lets nobody in with them.

const (
	maxSSHKeys      = 5
	maxSigningCerts = 2
)

func (s *Service) editUser(ctx context.Context, sc auth.Scope, name *string, fn func(u *userRow) error) error {
	return s.update(ctx, func(tx *store.Tx) error {
		u, err := s.caller(tx, sc, name)
		if err != nil {
			return err
		}
		if err := fn(u); err != nil {
			return err
		}
		return users.Put(tx, u)
	})
}

func (s *Service) readUser(ctx context.Context, sc auth.Scope, name *string, fn func(u *userRow) error) error {
	return s.view(ctx, func(tx *store.Tx) error {
		u, err := s.caller(tx, sc, name)
		if err != nil {
			return err
		}
		return fn(u)
	})
}

func noSuchSSHKey(id *string) error {
	return noSuchEntity("The Public Key with id %s cannot be found.", wire.Value(id))
}

// parseSSHKey reads an RSA public key in OpenSSH's or PEM form and returns it in
// OpenSSH's binary form.
func parseSSHKey(text string) ([]byte, error) {
	invalid := awserr.New(http.StatusBadRequest, "InvalidPublicKey", "The public key is malformed or otherwise invalid.")
	if block, _ := pem.Decode([]byte(text)); block != nil {
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		pub, ok := key.(*rsa.PublicKey)
		if err != nil || !ok {
			return nil, invalid
		}
		return sshBlob(pub), nil
	}
	f := strings.Fields(text)
	if len(f) < 2 || f[0] != "ssh-rsa" {
		return nil, invalid
	}
	blob, err := base64.StdEncoding.DecodeString(f[1])
	if err != nil || sshPublic(blob) == nil {
		return nil, invalid
	}
	return blob, nil
}

func sshBlob(k *rsa.PublicKey) []byte {
	var out []byte
	put := func(b []byte) { out = append(binary.BigEndian.AppendUint32(out, uint32(len(b))), b...) }
	mpint := func(n *big.Int) []byte {
		if b := n.Bytes(); len(b) > 0 && b[0]&0x80 != 0 {
			return append([]byte{0}, b...)
		}
		return n.Bytes()
	}
	put([]byte("ssh-rsa"))
	put(mpint(big.NewInt(int64(k.E))))
	put(mpint(k.N))
	return out
}

// sshPublic reads OpenSSH's binary form; nil if it is none of an RSA key.
func sshPublic(blob []byte) *rsa.PublicKey {
	next := func() []byte {
		if len(blob) < 4 {
			return nil
		}
		n := binary.BigEndian.Uint32(blob)
		if uint64(len(blob)-4) < uint64(n) {
			return nil
		}
		field := blob[4 : 4+n]
		blob = blob[4+n:]
		return field
	}
	name, e, n := next(), next(), next()
	exponent := new(big.Int).SetBytes(e)
	if string(name) != "ssh-rsa" || !exponent.IsInt64() || exponent.Int64() < 3 || len(n) < 128 {
		return nil
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}
}

func fingerprint(blob []byte) string {
	sum := md5.Sum(blob) //nolint:gosec // see the import
	parts := make([]string, len(sum))
	for i, b := range sum {
		parts[i] = hex.EncodeToString([]byte{b})
	}
	return strings.Join(parts, ":")
}

// UploadSSHPublicKey gives a user an SSH public key, at most the fifth.
func (s *Service) UploadSSHPublicKey(ctx context.Context, sc auth.Scope, in *api.UploadSSHPublicKeyInput) (*api.UploadSSHPublicKeyOutput, error) {
	body := strings.TrimSpace(wire.Value(in.SSHPublicKeyBody))
	blob, err := parseSSHKey(body)
	if err != nil {
		return nil, err
	}
	k := sshKey{ID: ids.Unique("APKA", 20), Body: body, Fingerprint: fingerprint(blob), Active: true, Uploaded: s.now()}
	var out api.UploadSSHPublicKeyOutput
	err = s.editUser(ctx, sc, in.UserName, func(u *userRow) error {
		if len(u.SSHKeys) >= maxSSHKeys {
			return limitExceeded("Cannot exceed quota for SSHPublicKeysPerUser: %d", maxSSHKeys)
		}
		for _, have := range u.SSHKeys {
			if have.Fingerprint == k.Fingerprint {
				return awserr.New(http.StatusBadRequest, "DuplicateSSHPublicKey", "The SSH public key is already associated with the specified IAM user.")
			}
		}
		u.SSHKeys = append(u.SSHKeys, k)
		out.SSHPublicKey = k.answer(u.Name)
		return nil
	})
	return &out, err
}

func (k *sshKey) answer(user string) *api.SSHPublicKey {
	return &api.SSHPublicKey{
		UserName: wire.Ptr(user), SSHPublicKeyId: wire.Ptr(k.ID), Fingerprint: wire.Ptr(k.Fingerprint),
		SSHPublicKeyBody: wire.Ptr(k.Body), Status: status(k.Active), UploadDate: wire.Ptr(k.Uploaded),
	}
}

// GetSSHPublicKey returns an SSH public key in the asked form (SSH or PEM).
func (s *Service) GetSSHPublicKey(ctx context.Context, sc auth.Scope, in *api.GetSSHPublicKeyInput) (*api.GetSSHPublicKeyOutput, error) {
	var out api.GetSSHPublicKeyOutput
	err := s.readUser(ctx, sc, in.UserName, func(u *userRow) error {
		i := slices.IndexFunc(u.SSHKeys, func(k sshKey) bool { return k.ID == wire.Value(in.SSHPublicKeyId) })
		if i < 0 {
			return noSuchSSHKey(in.SSHPublicKeyId)
		}
		out.SSHPublicKey = u.SSHKeys[i].answer(u.Name)
		blob, err := parseSSHKey(u.SSHKeys[i].Body)
		if err != nil {
			return err
		}
		switch wire.Value(in.Encoding) {
		case "SSH":
			out.SSHPublicKey.SSHPublicKeyBody = wire.Ptr("ssh-rsa " + base64.StdEncoding.EncodeToString(blob))
		case "PEM":
			der, err := x509.MarshalPKIXPublicKey(sshPublic(blob))
			if err != nil {
				return err
			}
			out.SSHPublicKey.SSHPublicKeyBody = wire.Ptr(string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
		default:
			return awserr.New(http.StatusBadRequest, "UnrecognizedPublicKeyEncoding", "The public key encoding format is unsupported or unrecognized.")
		}
		return nil
	})
	return &out, err
}

// ListSSHPublicKeys lists a user's SSH public keys.
func (s *Service) ListSSHPublicKeys(ctx context.Context, sc auth.Scope, in *api.ListSSHPublicKeysInput) (*api.ListSSHPublicKeysOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListSSHPublicKeysOutput{SSHPublicKeys: []api.SSHPublicKeyMetadata{}}
	err = s.readUser(ctx, sc, in.UserName, func(u *userRow) error {
		keys, next := cut(p, u.SSHKeys, func(k sshKey) string { return k.ID })
		for _, k := range keys {
			out.SSHPublicKeys = append(out.SSHPublicKeys, api.SSHPublicKeyMetadata{
				UserName: wire.Ptr(u.Name), SSHPublicKeyId: wire.Ptr(k.ID), Status: status(k.Active), UploadDate: wire.Ptr(k.Uploaded),
			})
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return nil
	})
	return out, err
}

// UpdateSSHPublicKey switches an SSH public key on or off.
func (s *Service) UpdateSSHPublicKey(ctx context.Context, sc auth.Scope, in *api.UpdateSSHPublicKeyInput) (*api.UpdateSSHPublicKeyOutput, error) {
	return &api.UpdateSSHPublicKeyOutput{}, s.editUser(ctx, sc, in.UserName, func(u *userRow) error {
		i := slices.IndexFunc(u.SSHKeys, func(k sshKey) bool { return k.ID == wire.Value(in.SSHPublicKeyId) })
		if i < 0 {
			return noSuchSSHKey(in.SSHPublicKeyId)
		}
		u.SSHKeys[i].Active = wire.Value(in.Status) == "Active"
		return nil
	})
}

// DeleteSSHPublicKey deletes an SSH public key.
func (s *Service) DeleteSSHPublicKey(ctx context.Context, sc auth.Scope, in *api.DeleteSSHPublicKeyInput) (*api.DeleteSSHPublicKeyOutput, error) {
	return &api.DeleteSSHPublicKeyOutput{}, s.editUser(ctx, sc, in.UserName, func(u *userRow) error {
		i := slices.IndexFunc(u.SSHKeys, func(k sshKey) bool { return k.ID == wire.Value(in.SSHPublicKeyId) })
		if i < 0 {
			return noSuchSSHKey(in.SSHPublicKeyId)
		}
		u.SSHKeys = slices.Delete(u.SSHKeys, i, i+1)
		return nil
	})
}

func noSuchCert(id *string) error {
	return noSuchEntity("The Certificate with id %s cannot be found.", wire.Value(id))
}

// UploadSigningCertificate gives a user an X.509 certificate, at most the second.
func (s *Service) UploadSigningCertificate(ctx context.Context, sc auth.Scope, in *api.UploadSigningCertificateInput) (*api.UploadSigningCertificateOutput, error) {
	body := wire.Value(in.CertificateBody)
	if _, err := certificates(body); err != nil {
		return nil, err
	}
	c := signingCert{ID: ids.Unique("", 24), Body: body, Active: true, Uploaded: s.now()}
	var out api.UploadSigningCertificateOutput
	err := s.editUser(ctx, sc, in.UserName, func(u *userRow) error {
		for _, have := range u.Certs {
			if have.Body == body {
				return awserr.New(http.StatusConflict, "DuplicateCertificate", "The same certificate is already associated with an IAM user in the account.")
			}
		}
		if len(u.Certs) >= maxSigningCerts {
			return limitExceeded("Cannot exceed quota for CertificatesPerUser: %d", maxSigningCerts)
		}
		u.Certs = append(u.Certs, c)
		out.Certificate = c.answer(u.Name)
		return nil
	})
	return &out, err
}

func (c *signingCert) answer(user string) *api.SigningCertificate {
	return &api.SigningCertificate{
		UserName: wire.Ptr(user), CertificateId: wire.Ptr(c.ID), CertificateBody: wire.Ptr(c.Body), Status: status(c.Active), UploadDate: wire.Ptr(c.Uploaded),
	}
}

// ListSigningCertificates lists a user's signing certificates.
func (s *Service) ListSigningCertificates(ctx context.Context, sc auth.Scope, in *api.ListSigningCertificatesInput) (*api.ListSigningCertificatesOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListSigningCertificatesOutput{Certificates: []api.SigningCertificate{}}
	err = s.readUser(ctx, sc, in.UserName, func(u *userRow) error {
		certs, next := cut(p, u.Certs, func(c signingCert) string { return c.ID })
		for _, c := range certs {
			out.Certificates = append(out.Certificates, *c.answer(u.Name))
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return nil
	})
	return out, err
}

// UpdateSigningCertificate switches a signing certificate on or off.
func (s *Service) UpdateSigningCertificate(ctx context.Context, sc auth.Scope, in *api.UpdateSigningCertificateInput) (*api.UpdateSigningCertificateOutput, error) {
	return &api.UpdateSigningCertificateOutput{}, s.editUser(ctx, sc, in.UserName, func(u *userRow) error {
		i := slices.IndexFunc(u.Certs, func(c signingCert) bool { return c.ID == wire.Value(in.CertificateId) })
		if i < 0 {
			return noSuchCert(in.CertificateId)
		}
		u.Certs[i].Active = wire.Value(in.Status) == "Active"
		return nil
	})
}

// DeleteSigningCertificate deletes a signing certificate.
func (s *Service) DeleteSigningCertificate(ctx context.Context, sc auth.Scope, in *api.DeleteSigningCertificateInput) (*api.DeleteSigningCertificateOutput, error) {
	return &api.DeleteSigningCertificateOutput{}, s.editUser(ctx, sc, in.UserName, func(u *userRow) error {
		i := slices.IndexFunc(u.Certs, func(c signingCert) bool { return c.ID == wire.Value(in.CertificateId) })
		if i < 0 {
			return noSuchCert(in.CertificateId)
		}
		u.Certs = slices.Delete(u.Certs, i, i+1)
		return nil
	})
}
