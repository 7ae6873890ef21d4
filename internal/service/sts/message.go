package sts

import (
	"bytes"
	"compress/flate"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"

	api "skerry/internal/api/sts"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/store"
	"skerry/internal/wire"
)

// EC2 tells why it refuses in a message that only those may read who have the
// permission to decode it. Page: "DecodeAuthorizationMessage".

// keyRow is the key with which the messages are sealed.
type keyRow struct {
	Name string
	Key  []byte // AES-256
}

var keys = store.NewTable("sts/keys", func(r *keyRow) store.Key { return store.K(r.Name) })

const messageKey = "authorization-message"

// sealer seals messages for accounts. It is made from its row when it is needed
// first.
type sealer struct {
	mu struct {
		sync.Mutex
		aead cipher.AEAD
	}
}

func (s *Service) sealing(ctx context.Context) (cipher.AEAD, error) {
	s.sealer.mu.Lock()
	defer s.sealer.mu.Unlock()
	if s.sealer.mu.aead != nil {
		return s.sealer.mu.aead, nil
	}
	var row *keyRow
	err := s.d.Store.Update(ctx, func(tx *store.Tx) (err error) {
		if row, err = keys.Get(tx, store.K(messageKey)); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		row = &keyRow{Name: messageKey, Key: make([]byte, 32)}
		_, _ = rand.Read(row.Key) // never fails, by its contract
		return keys.Insert(tx, row)
	})
	if err != nil {
		return nil, fmt.Errorf("sts: key of authorization messages: %w", err)
	}
	block, err := aes.NewCipher(row.Key)
	if err != nil {
		return nil, fmt.Errorf("sts: key of authorization messages: %w", err)
	}
	s.sealer.mu.aead, err = cipher.NewGCMWithRandomNonce(block)
	return s.sealer.mu.aead, err
}

// The message's form, with its lists in AWS's wrapping.
type (
	message struct {
		Allowed      bool           `json:"allowed"`
		ExplicitDeny bool           `json:"explicitDeny"`
		Matched      items          `json:"matchedStatements"`
		Failures     items          `json:"failures"`
		Context      messageContext `json:"context"`
	}
	messageContext struct {
		Principal  messagePrincipal `json:"principal"`
		Action     string           `json:"action"`
		Resource   string           `json:"resource"`
		Conditions items            `json:"conditions"`
	}
	messagePrincipal struct {
		ID   string `json:"id"`
		Name string `json:"name,omitempty"`
		ARN  string `json:"arn"`
	}
	items struct {
		Items []any `json:"items"`
	}
	value struct {
		Value string `json:"value"`
	}
	condition struct {
		Key    string `json:"key"`
		Values items  `json:"values"`
	}
	statement struct {
		ID         string `json:"statementId"`
		Effect     string `json:"effect"`
		Principals items  `json:"principals"`
		Groups     items  `json:"principalGroups"`
		Actions    items  `json:"actions"`
		Resources  items  `json:"resources"`
		Conditions items  `json:"conditions"`
	}
)

func values(list []string) items {
	out := items{[]any{}}
	for _, v := range list {
		out.Items = append(out.Items, value{v})
	}
	return out
}

func explanation(sc auth.Scope, need auth.Access, d auth.Decision) message {
	p := sc.Principal
	m := message{
		ExplicitDeny: d.Effect == auth.ExplicitDeny, Matched: values(nil), Failures: values(nil),
		Context: messageContext{
			Principal: messagePrincipal{p.ID, p.Name, p.ARN}, Action: need.Action, Resource: need.Resource, Conditions: values(nil),
		},
	}
	for _, k := range slices.Sorted(maps.Keys(need.Context)) {
		m.Context.Conditions.Items = append(m.Context.Conditions.Items, condition{k, values(need.Context[k])})
	}
	if d.Deciding != nil && d.Deciding.Statement.Deny {
		st := d.Deciding.Statement
		out := statement{st.SID, "DENY", values([]string{p.ID}), values(nil), values(st.Action), values(st.Resource), values(nil)}
		for _, c := range st.Conditions {
			out.Conditions.Items = append(out.Conditions.Items, condition{c.Key, values(c.Values)})
		}
		m.Matched.Items = append(m.Matched.Items, out)
	}
	return m
}

// EncodeDenial returns the message that explains a refusal to those of the
// caller's account who may decode it.
func (s *Service) EncodeDenial(ctx context.Context, sc auth.Scope, need auth.Access, d auth.Decision) (string, error) {
	aead, err := s.sealing(ctx)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(explanation(sc, need, d))
	if err != nil {
		return "", fmt.Errorf("sts: authorization message: %w", err)
	}
	var small bytes.Buffer
	w, _ := flate.NewWriter(&small, flate.BestCompression) // the level is a valid one
	_, _ = w.Write(text)                                   // to memory
	_ = w.Close()
	return base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, small.Bytes(), []byte(sc.Account))), nil
}

func (s *Service) decodeRule(context.Context, auth.Scope, *api.DecodeAuthorizationMessageInput) ([]auth.Access, error) {
	return []auth.Access{{Action: "sts:DecodeAuthorizationMessage", Resource: "*"}}, nil
}

// DecodeAuthorizationMessage reads a message that this cloud has encoded for a
// caller of the same account.
func (s *Service) DecodeAuthorizationMessage(ctx context.Context, sc auth.Scope, in *api.DecodeAuthorizationMessageInput) (*api.DecodeAuthorizationMessageOutput, error) {
	invalid := awserr.New(http.StatusBadRequest, "InvalidAuthorizationMessageException", "Message is not valid")
	aead, err := s.sealing(ctx)
	if err != nil {
		return nil, err
	}
	sealed, err := base64.RawURLEncoding.DecodeString(wire.Value(in.EncodedMessage))
	if err != nil {
		return nil, invalid
	}
	small, err := aead.Open(nil, nil, sealed, []byte(sc.Account))
	if err != nil {
		return nil, invalid
	}
	text, err := io.ReadAll(flate.NewReader(bytes.NewReader(small)))
	if err != nil {
		return nil, fmt.Errorf("sts: authorization message: %w", err)
	}
	return &api.DecodeAuthorizationMessageOutput{DecodedMessage: wire.Ptr(string(text))}, nil
}
