package iam

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// reportAge is how long a credential report serves before a new one is made.
const reportAge = 4 * time.Hour

// GenerateCredentialReport makes the report, unless there is one of the last
// four hours. Page: "Generate credential reports for your AWS account".
func (s *Service) GenerateCredentialReport(ctx context.Context, sc auth.Scope, _ *api.GenerateCredentialReportInput) (*api.GenerateCredentialReportOutput, error) {
	out := &api.GenerateCredentialReportOutput{State: wire.Ptr("COMPLETE")}
	err := s.d.Store.Update(ctx, func(tx *store.Tx) error {
		out.State, out.Description = wire.Ptr("COMPLETE"), nil
		old, err := reports.Get(tx, store.K(sc.Account))
		if err == nil && s.now().Sub(old.Created) < reportAge {
			return nil
		}
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		out.State, out.Description = wire.Ptr("STARTED"), wire.Ptr("No report exists. Starting a new report generation task")
		content, err := s.report(tx, sc.Account)
		if err != nil {
			return err
		}
		return reports.Put(tx, &reportRow{sc.Account, content, s.now()})
	})
	return out, err
}

// GetCredentialReport returns the report as CSV.
func (s *Service) GetCredentialReport(ctx context.Context, sc auth.Scope, _ *api.GetCredentialReportInput) (*api.GetCredentialReportOutput, error) {
	var out api.GetCredentialReportOutput
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := reports.Get(tx, store.K(sc.Account))
		if errors.Is(err, store.ErrNotFound) {
			return awserr.New(http.StatusGone, "ReportNotPresent", "Unknown")
		}
		if err != nil {
			return err
		}
		if s.now().Sub(r.Created) >= reportAge {
			return awserr.New(http.StatusGone, "ReportExpired", "The most recent credential report has expired. Call GenerateCredentialReport to make a new one.")
		}
		out = api.GetCredentialReportOutput{Content: r.Content, ReportFormat: wire.Ptr("text/csv"), GeneratedTime: wire.Ptr(r.Created)}
		return nil
	})
	return &out, err
}

// reportColumns are those of the page "Generate credential reports".
var reportColumns = []string{
	"user", "arn", "user_creation_time", "password_enabled", "password_last_used", "password_last_changed", "password_next_rotation", "mfa_active",
	"access_key_1_active", "access_key_1_last_rotated", "access_key_1_last_used_date", "access_key_1_last_used_region", "access_key_1_last_used_service",
	"access_key_2_active", "access_key_2_last_rotated", "access_key_2_last_used_date", "access_key_2_last_used_region", "access_key_2_last_used_service",
	"cert_1_active", "cert_1_last_rotated", "cert_2_active", "cert_2_last_rotated",
}

const (
	reportTime = "2006-01-02T15:04:05Z"
	none       = "N/A"
)

func (s *Service) report(tx *store.Tx, account string) ([]byte, error) {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	_ = w.Write(reportColumns) // to memory
	root, err := s.reportLine(tx, account, nil, 0)
	if err != nil {
		return nil, err
	}
	_ = w.Write(root)
	a, err := s.account(tx, account)
	if err != nil {
		return nil, err
	}
	var maxAge int32
	if a.Password != nil {
		maxAge = a.Password.MaxAge
	}
	for u, err := range users.Scan(tx, store.Range{Prefix: store.K(account)}) {
		if err != nil {
			return nil, err
		}
		line, err := s.reportLine(tx, account, u, maxAge)
		if err != nil {
			return nil, err
		}
		_ = w.Write(line)
	}
	w.Flush()
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), w.Error() // as AWS's end
}

// reportLine is the line of a user or, without one, of root.
func (s *Service) reportLine(tx *store.Tx, account string, u *userRow, maxAge int32) ([]string, error) {
	id, device := "", account
	line := []string{"<root_account>", RootUser(account).ARN, none, "not_supported", "no_information", "not_supported", "not_supported"}
	var certs []signingCert
	if u != nil {
		id, device, certs = u.ID, u.ID, u.Certs
		line = append([]string{u.Name, u.arn(), u.Created.Format(reportTime)}, passwordFields(u.Login, maxAge)...)
	}
	devices, err := s.userDevices(tx, device)
	if err != nil {
		return nil, err
	}
	keys, err := s.userKeys(tx, account, id)
	if err != nil {
		return nil, err
	}
	line = append(line, strconv.FormatBool(len(devices) > 0))
	for i := range maxKeys {
		fields := []string{"false", none, none, none, none}
		if i < len(keys) {
			use, err := s.use(tx, keys[i].ID)
			if err != nil {
				return nil, err
			}
			fields = keyFields(keys[i], use)
		}
		line = append(line, fields...)
	}
	for i := range maxSigningCerts {
		if i < len(certs) {
			line = append(line, strconv.FormatBool(certs[i].Active), certs[i].Uploaded.Format(reportTime))
		} else {
			line = append(line, "false", none)
		}
	}
	if len(line) != len(reportColumns) {
		return nil, fmt.Errorf("iam: credential report line of %d fields", len(line))
	}
	return line, nil
}

func keyFields(k *accessKeyRow, use useRow) []string {
	out := []string{strconv.FormatBool(k.Active), k.Created.Format(reportTime), none, none, none}
	if !use.At.IsZero() {
		out = slices.Concat(out[:2], []string{use.At.Format(reportTime), use.Region, use.Service})
	}
	return out
}

func passwordFields(l *login, maxAge int32) []string {
	if l == nil {
		return []string{"false", none, none, none}
	}
	next := none
	if maxAge > 0 {
		next = l.Changed.AddDate(0, 0, int(maxAge)).Format(reportTime)
	}
	return []string{"true", "no_information", l.Changed.Format(reportTime), next}
}
