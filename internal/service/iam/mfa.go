package iam

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // RFC 6238, as authenticator apps speak it
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"rsc.io/qr"

	api "skerry/internal/api/iam"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

const (
	maxDevices = 8 // MFA devices of a user
	totpStep   = 30
	totpDrift  = 2 // steps that a device's clock may be off
	seedSize   = 40
)

func noSuchMFA(serial string) error {
	return noSuchEntity("VirtualMFADevice with serial number %s doesn't exist.", serial)
}

func (s *Service) mfa(tx *store.Tx, account, serial string) (*mfaRow, error) {
	r, err := mfas.Get(tx, store.K(account, serial))
	return found(r, err, noSuchMFA(serial))
}

func (s *Service) userDevices(tx *store.Tx, user string) ([]*mfaRow, error) {
	return all(mfasByUser.Scan(tx, store.Range{Prefix: store.K(user)}), nil)
}

// code is the six-digit code of a step (RFC 6238, RFC 4226).
func code(seed []byte, counter int64) string {
	mac := hmac.New(sha1.New, seed)
	_ = binary.Write(mac, binary.BigEndian, counter)
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0x0f
	return fmt.Sprintf("%06d", (binary.BigEndian.Uint32(sum[at:])&0x7fffffff)%1_000_000)
}

// match finds the step whose code that is, newer than the last accepted one.
func (r *mfaRow) match(given string, now time.Time) (int64, bool) {
	at := now.Unix() / totpStep
	for c := at - totpDrift; c <= at+totpDrift; c++ {
		if c > r.Counter && hmac.Equal([]byte(code(r.Seed, c)), []byte(given)) {
			return c, true
		}
	}
	return 0, false
}

// CreateVirtualMFADevice makes a device: a secret for an authenticator app.
func (s *Service) CreateVirtualMFADevice(ctx context.Context, sc auth.Scope, in *api.CreateVirtualMFADeviceInput) (*api.CreateVirtualMFADeviceOutput, error) {
	tags, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	r := &mfaRow{Account: sc.Account, Name: wire.Value(in.VirtualMFADeviceName), Path: pathOr(in.Path), Seed: make([]byte, seedSize), Tags: tags}
	r.Serial = iamARN(r.Account, "mfa", r.Path, r.Name)
	_, _ = rand.Read(r.Seed) // never fails, by its contract
	secret := base32.StdEncoding.EncodeToString(r.Seed)
	picture, err := qr.Encode("otpauth://totp/"+url.PathEscape(r.Name+"@"+r.Account)+"?secret="+secret+"&issuer=Amazon%20Web%20Services", qr.M)
	if err != nil {
		return nil, fmt.Errorf("iam: draw QR code: %w", err)
	}
	err = s.update(ctx, func(tx *store.Tx) error {
		return inserted(mfas.Insert(tx, r), alreadyExists("MFADevice entity at the same path and name already exists."))
	})
	return &api.CreateVirtualMFADeviceOutput{VirtualMFADevice: &api.VirtualMFADevice{
		SerialNumber: wire.Ptr(r.Serial), Base32StringSeed: []byte(secret), QRCodePNG: picture.PNG(), Tags: tagList(r.Tags),
	}}, err
}

// accept takes two codes of consecutive steps, as proof that the device is at
// hand and in step.
func (r *mfaRow) accept(first, second *string, now time.Time) error {
	at := now.Unix() / totpStep
	for c := at - totpDrift - 1; c <= at+totpDrift; c++ {
		if c > r.Counter && code(r.Seed, c) == wire.Value(first) && code(r.Seed, c+1) == wire.Value(second) {
			r.Counter = c + 1
			return nil
		}
	}
	return awserr.New(http.StatusForbidden, "InvalidAuthenticationCode", "Authentication code for device is not valid.")
}

// EnableMFADevice gives a device to a user, who shows two codes in a row.
func (s *Service) EnableMFADevice(ctx context.Context, sc auth.Scope, in *api.EnableMFADeviceInput) (*api.EnableMFADeviceOutput, error) {
	return &api.EnableMFADeviceOutput{}, s.update(ctx, func(tx *store.Tx) error {
		u, err := s.user(tx, sc.Account, wire.Value(in.UserName))
		if err != nil {
			return err
		}
		r, err := s.mfa(tx, sc.Account, wire.Value(in.SerialNumber))
		if err != nil {
			return err
		}
		if r.User != "" {
			return alreadyExists("MFA Device is already in use.")
		}
		devices, err := s.userDevices(tx, u.ID)
		if err != nil {
			return err
		}
		if len(devices) >= maxDevices {
			return limitExceeded("Cannot exceed quota for MfaDevicesPerUser: %d", maxDevices)
		}
		if err := r.accept(in.AuthenticationCode1, in.AuthenticationCode2, s.now()); err != nil {
			return err
		}
		r.User, r.Enabled = u.ID, s.now()
		return mfas.Put(tx, r)
	})
}

// userDevice loads a device that the user has.
func (s *Service) userDevice(tx *store.Tx, sc auth.Scope, user, serial *string) (*mfaRow, error) {
	u, err := s.caller(tx, sc, user)
	if err != nil {
		return nil, err
	}
	r, err := s.mfa(tx, sc.Account, wire.Value(serial))
	if err == nil && r.User != u.ID {
		return nil, noSuchEntity("MFA Device with serial number %s doesn't exist.", wire.Value(serial))
	}
	return r, err
}

// ResyncMFADevice brings a device whose clock is off back into step.
func (s *Service) ResyncMFADevice(ctx context.Context, sc auth.Scope, in *api.ResyncMFADeviceInput) (*api.ResyncMFADeviceOutput, error) {
	return &api.ResyncMFADeviceOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.userDevice(tx, sc, in.UserName, in.SerialNumber)
		if err != nil {
			return err
		}
		if err := r.accept(in.AuthenticationCode1, in.AuthenticationCode2, s.now()); err != nil {
			return err
		}
		return mfas.Put(tx, r)
	})
}

// DeactivateMFADevice takes a device away from its user.
func (s *Service) DeactivateMFADevice(ctx context.Context, sc auth.Scope, in *api.DeactivateMFADeviceInput) (*api.DeactivateMFADeviceOutput, error) {
	return &api.DeactivateMFADeviceOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.userDevice(tx, sc, in.UserName, in.SerialNumber)
		if err != nil {
			return err
		}
		r.User, r.Enabled = "", time.Time{}
		return mfas.Put(tx, r)
	})
}

// DeleteVirtualMFADevice deletes a device that nobody has.
func (s *Service) DeleteVirtualMFADevice(ctx context.Context, sc auth.Scope, in *api.DeleteVirtualMFADeviceInput) (*api.DeleteVirtualMFADeviceOutput, error) {
	return &api.DeleteVirtualMFADeviceOutput{}, s.update(ctx, func(tx *store.Tx) error {
		r, err := s.mfa(tx, sc.Account, wire.Value(in.SerialNumber))
		if err != nil {
			return err
		}
		if r.User != "" {
			return deleteConflict("MFA VirtualDevice in use. Must deactivate first.")
		}
		return mfas.Delete(tx, store.K(r.Account, r.Serial))
	})
}

// GetMFADevice tells who has a device, and since when.
func (s *Service) GetMFADevice(ctx context.Context, sc auth.Scope, in *api.GetMFADeviceInput) (*api.GetMFADeviceOutput, error) {
	out := &api.GetMFADeviceOutput{SerialNumber: in.SerialNumber}
	err := s.view(ctx, func(tx *store.Tx) error {
		r, err := s.userDevice(tx, sc, in.UserName, in.SerialNumber)
		if err != nil {
			return err
		}
		u, err := one(tx, usersByID, r.User, noSuchMFA(r.Serial))
		if err != nil {
			return err
		}
		out.UserName, out.EnableDate = wire.Ptr(u.Name), wire.Ptr(r.Enabled)
		return nil
	})
	return out, err
}

// ListMFADevices lists the devices of a user.
func (s *Service) ListMFADevices(ctx context.Context, sc auth.Scope, in *api.ListMFADevicesInput) (*api.ListMFADevicesOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	out := &api.ListMFADevicesOutput{MFADevices: []api.MFADevice{}, IsTruncated: wire.Ptr(false)}
	err = s.view(ctx, func(tx *store.Tx) error {
		u, err := s.caller(tx, sc, in.UserName)
		if err != nil {
			return err
		}
		rows, err := s.userDevices(tx, u.ID)
		if err != nil {
			return err
		}
		rows, next := cut(p, rows, func(r *mfaRow) string { return r.Serial })
		for _, r := range rows {
			out.MFADevices = append(out.MFADevices, api.MFADevice{UserName: wire.Ptr(u.Name), SerialNumber: wire.Ptr(r.Serial), EnableDate: wire.Ptr(r.Enabled)})
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return nil
	})
	return out, err
}

// ListVirtualMFADevices lists the account's devices.
func (s *Service) ListVirtualMFADevices(ctx context.Context, sc auth.Scope, in *api.ListVirtualMFADevicesInput) (*api.ListVirtualMFADevicesOutput, error) {
	p, err := listing{in.Marker, in.MaxItems}.page()
	if err != nil {
		return nil, err
	}
	want := wire.Value(in.AssignmentStatus)
	out := &api.ListVirtualMFADevicesOutput{VirtualMFADevices: []api.VirtualMFADevice{}}
	err = s.view(ctx, func(tx *store.Tx) error {
		rows, next, err := take(p, mfas.Scan(tx, p.rows(sc.Account)), func(r *mfaRow) bool {
			return want != "Assigned" && want != "Unassigned" || (r.User != "") == (want == "Assigned")
		}, func(r *mfaRow) string { return r.Serial })
		if err != nil {
			return err
		}
		for _, r := range rows {
			d := api.VirtualMFADevice{SerialNumber: wire.Ptr(r.Serial)}
			if r.User != "" {
				u, err := one(tx, usersByID, r.User, noSuchMFA(r.Serial))
				if err != nil {
					return err
				}
				d.User, d.EnableDate = new(u.answer()), wire.Ptr(r.Enabled)
				d.User.Tags, d.User.PermissionsBoundary = nil, nil
			}
			out.VirtualMFADevices = append(out.VirtualMFADevices, d)
		}
		out.Marker, out.IsTruncated = next, wire.Ptr(next != nil)
		return nil
	})
	return out, err
}
