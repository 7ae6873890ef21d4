package iam

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strings"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/store"
	"skerry/internal/wire"
)

func (s *Service) serverCert(tx *store.Tx, account, name string) (*serverCertRow, error) {
	r, err := serverCerts.Get(tx, store.K(account, fold(name)))
	return found(r, err, noSuchEntity("The Server Certificate with name %s cannot be found.", name))
}

// certificates reads PEM certificates; there must be one at least and nothing
// else.
func certificates(text string) ([]*x509.Certificate, error) {
	rest := []byte(strings.TrimSpace(text))
	var out []*x509.Certificate
	for len(rest) > 0 {
		block, after := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, malformedCertificate()
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, malformedCertificate()
		}
		out, rest = append(out, c), []byte(strings.TrimSpace(string(after)))
	}
	if len(out) == 0 {
		return nil, malformedCertificate()
	}
	return out, nil
}

// UploadServerCertificate keeps a certificate with its private key for load
// balancers.
func (s *Service) UploadServerCertificate(ctx context.Context, sc auth.Scope, in *api.UploadServerCertificateInput) (*api.UploadServerCertificateOutput, error) {
	body, key := wire.Value(in.CertificateBody), wire.Value(in.PrivateKey)
	certs, err := certificates(body)
	if err != nil {
		return nil, err
	}
	if in.CertificateChain != nil {
		if _, err := certificates(*in.CertificateChain); err != nil {
			return nil, err
		}
	}
	if block, _ := pem.Decode([]byte(key)); block == nil {
		return nil, malformedCertificate()
	}
	if _, err := tls.X509KeyPair([]byte(body), []byte(key)); err != nil {
		return nil, awserr.New(http.StatusBadRequest, "KeyPairMismatch", "The public key and the private key do not match.")
	}
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	r := &serverCertRow{
		Account: sc.Account, Name: wire.Value(in.ServerCertificateName), Path: pathOr(in.Path), ID: ids.Unique("ASCA", 21),
		Body: body, Chain: wire.Value(in.CertificateChain), Key: key, Uploaded: s.now(), Expires: certs[0].NotAfter.UTC(), Tags: tags,
	}
	err = s.update(ctx, func(tx *store.Tx) error {
		return added(tx, serverCerts, r, sc.Account, serverCertQuota, serverCertExists(r.Name))
	})
	return &api.UploadServerCertificateOutput{ServerCertificateMetadata: r.metadata(), Tags: tagList(r.Tags)}, err
}

func serverCertExists(name string) error {
	return alreadyExists("The Server Certificate with name %s already exists.", name)
}

func (r *serverCertRow) metadata() *api.ServerCertificateMetadata {
	return &api.ServerCertificateMetadata{
		Path: wire.Ptr(r.Path), ServerCertificateName: wire.Ptr(r.Name), ServerCertificateId: wire.Ptr(r.ID), Arn: wire.Ptr(r.arn()),
		UploadDate: wire.Ptr(r.Uploaded), Expiration: wire.Ptr(r.Expires),
	}
}

// GetServerCertificate returns a certificate, never its private key.
func (s *Service) GetServerCertificate(ctx context.Context, sc auth.Scope, in *api.GetServerCertificateInput) (*api.GetServerCertificateOutput, error) {
	var out api.GetServerCertificateOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := s.serverCert(tx, sc.Account, wire.Value(in.ServerCertificateName))
		if err != nil {
			return err
		}
		out.ServerCertificate = &api.ServerCertificate{ServerCertificateMetadata: r.metadata(), CertificateBody: wire.Ptr(r.Body), Tags: tagList(r.Tags)}
		if r.Chain != "" {
			out.ServerCertificate.CertificateChain = wire.Ptr(r.Chain)
		}
		return nil
	})
	return &out, err
}

// ListServerCertificates lists certificates by name.
func (s *Service) ListServerCertificates(ctx context.Context, sc auth.Scope, in *api.ListServerCertificatesInput) (*api.ListServerCertificatesOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListServerCertificatesOutput{ServerCertificateMetadataList: []api.ServerCertificateMetadata{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		rows, next, err := take(p, serverCerts.Scan(tx, p.rows(sc.Account)),
			func(r *serverCertRow) bool { return strings.HasPrefix(r.Path, wire.Value(in.PathPrefix)) },
			func(r *serverCertRow) string { return fold(r.Name) })
		for _, r := range rows {
			out.ServerCertificateMetadataList = append(out.ServerCertificateMetadataList, *r.metadata())
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return err
	})
	return out, err
}

// UpdateServerCertificate changes a certificate's name or path.
func (s *Service) UpdateServerCertificate(ctx context.Context, sc auth.Scope, in *api.UpdateServerCertificateInput) (*api.UpdateServerCertificateOutput, error) {
	return &api.UpdateServerCertificateOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.serverCert(tx, sc.Account, wire.Value(in.ServerCertificateName))
		if err != nil {
			return err
		}
		old := fold(r.Name)
		if in.NewPath != nil {
			r.Path = pathOr(in.NewPath)
		}
		if in.NewServerCertificateName != nil {
			r.Name = *in.NewServerCertificateName
		}
		return move(tx, serverCerts, sc.Account, old, fold(r.Name), r, serverCertExists(r.Name))
	})
}

// DeleteServerCertificate deletes a certificate.
func (s *Service) DeleteServerCertificate(ctx context.Context, sc auth.Scope, in *api.DeleteServerCertificateInput) (*api.DeleteServerCertificateOutput, error) {
	return &api.DeleteServerCertificateOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.serverCert(tx, sc.Account, wire.Value(in.ServerCertificateName))
		if err != nil {
			return err
		}
		return serverCerts.Delete(tx, store.K(sc.Account, fold(r.Name)))
	})
}
