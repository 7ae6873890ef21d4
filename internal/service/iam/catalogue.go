package iam

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"time"

	"skerry/internal/auth"
)

// managedText holds the AWS managed policies, as AWS publishes them ("AWS
// Managed Policy Reference Guide"). A policy whose text is not known in full is
// not there.
//
//go:embed managed.json
var managedText []byte

// catalogue is the set of AWS managed policies. It never changes.
type catalogue struct {
	list []*policyRow // by ARN
	byID map[string]*policyRow
}

// managedAccount stands in the place of an account in the ARNs of AWS's own
// policies.
const managedAccount = "aws"

func loadCatalogue() (*catalogue, error) {
	var entries []struct {
		Path, Name, Description string
		Version                 int
		Edited                  time.Time
		Document                json.RawMessage
	}
	if err := json.Unmarshal(managedText, &entries); err != nil {
		return nil, fmt.Errorf("iam: read managed policies: %w", err)
	}
	c := &catalogue{byID: map[string]*policyRow{}}
	for _, e := range entries {
		var doc bytes.Buffer
		if err := json.Indent(&doc, e.Document, "", "    "); err != nil {
			return nil, fmt.Errorf("iam: managed policy %s: %w", e.Name, err)
		}
		r := &policyRow{
			Account: managedAccount, Name: e.Name, Path: e.Path, ID: managedID(e.Name), Description: e.Description,
			Created: e.Edited, Updated: e.Edited, Versions: []policyVersion{{e.Version, doc.String(), e.Edited}}, Default: e.Version, Last: e.Version,
		}
		c.list = append(c.list, r)
		c.byID[r.arn()] = r
	}
	slices.SortFunc(c.list, func(a, b *policyRow) int { return strings.Compare(a.arn(), b.arn()) })
	return c, nil
}

// policy returns the policy with that ARN, or nil. Nobody may change it.
func (c *catalogue) policy(arn string) *policyRow { return c.byID[arn] }

// managedID is a policy's unique id: the same at every start, though not AWS's.
func managedID(name string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	id := []byte("ANPA")
	h := fnv.New128a()
	_, _ = h.Write([]byte(name))
	for _, b := range append(h.Sum(nil), h.Sum([]byte{1})...)[:17] {
		id = append(id, alphabet[b%32])
	}
	return string(id)
}

// check parses every policy, for the tests.
func (c *catalogue) check() error {
	for _, r := range c.list {
		p, err := auth.ParsePolicy(r.document())
		if err == nil {
			err = p.CheckIdentity()
		}
		if err != nil {
			return fmt.Errorf("iam: managed policy %s: %w", r.Name, err)
		}
	}
	return nil
}
