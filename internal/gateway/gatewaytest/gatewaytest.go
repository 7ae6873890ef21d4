// Package gatewaytest checks, for every operation that services have built, how
// it refuses: unsigned, wrongly signed, denied by policy, malformed. The requests
// are made from the schema tables, in every protocol that a service speaks, so
// that an operation is covered from the day it is built.
package gatewaytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/op"
	"skerry/internal/wire"
)

// Cloud is what the checks run against.
type Cloud struct {
	Endpoint string // http://host:port
	Services []op.Service
	Admin    auth.Credential // of a user or root who may do everything
	Stranger auth.Credential // of a user without policies, in Admin's account
	// Values are strings for members of inputs, by the member's name or by
	// operation.name: a bucket that exists, a table. Other members that are required
	// get what fits their constraints.
	Values map[string]string
	Now    func() time.Time
	// Known are checks that are known to fail, as service.Operation/check, with the
	// reason. One that no longer fails is an error, so that the list only shrinks.
	Known map[string]string
}

// Count is how many checks were made, by kind.
type Count struct{ Operations, Unsigned, WronglySigned, Denied, Malformed int }

// Checks returns the number of all checks.
func (c Count) Checks() int { return c.Unsigned + c.WronglySigned + c.Denied + c.Malformed }

// String tells the counts in a line.
func (c Count) String() string {
	return fmt.Sprintf("%d operations: %d unsigned, %d wrongly signed, %d denied, %d malformed", c.Operations, c.Unsigned, c.WronglySigned, c.Denied, c.Malformed)
}

// Run makes the checks, a subtest a service, and returns their number.
func Run(t *testing.T, cloud Cloud) Count {
	var total Count
	for _, s := range cloud.Services {
		t.Run(s.API.ID, func(t *testing.T) {
			for _, o := range s.Operations {
				total.Operations++
				for _, p := range s.API.Protocols {
					k := check{t: t, cloud: &cloud, action: s.Action(o.Name), api: s.API, op: o, model: s.API.Operation(o.Name), protocol: p, count: &total}
					k.run()
				}
			}
		})
	}
	t.Logf("gatewaytest: %s", total)
	return total
}

// check is one operation in one protocol.
type check struct {
	t        *testing.T
	cloud    *Cloud
	action   string // of the operation, as the service tells it
	api      *wire.Service
	op       op.Operation
	model    *wire.Operation
	protocol wire.Protocol
	count    *Count
}

func (k *check) run() {
	in, err := filler{k.api, k.op.Name, k.cloud.Values}.input(k.model)
	if err != nil {
		k.t.Errorf("%s: no input: %v", k.op.Name, err)
		return
	}
	wrong := k.cloud.Admin
	wrong.Secret += "x"
	if !k.model.NoAuth {
		if !k.api.NoErrorWrapping || k.needsPermission(auth.Principal{}, in) { // S3 judges anonymous requests by policies alone
			k.count.Unsigned++
			k.expect("unsigned", in, nil, auth.Credential{}, append(unsignedCodes(k.api, k.protocol), k.ruleError(auth.Principal{}, in)))
		}
		k.count.WronglySigned++
		k.expect("wrongly signed", in, nil, wrong, []string{"SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure"})
	}
	k.checkAction(in)
	if k.needsPermission(k.cloud.Stranger.Principal, in) {
		k.count.Denied++
		k.expect("denied", in, nil, k.cloud.Stranger, []string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", k.ruleError(k.cloud.Stranger.Principal, in)})
	}
	if body := k.malformed(); body != nil {
		k.count.Malformed++
		k.expect("malformed", in, body, k.cloud.Admin, []string{"SerializationException", "MalformedXML", "MalformedQueryString", "MalformedInput", "InvalidRequestContentException"})
	}
}

func (k *check) scope(p auth.Principal) auth.Scope {
	return auth.NewScope(p, "us-east-1", auth.Request{ID: "gatewaytest", Time: k.cloud.Now()})
}

// needsPermission asks the operation's own rule whether a permission is needed
// at all.
func (k *check) needsPermission(p auth.Principal, in any) bool {
	needs, err := k.op.Access(context.Background(), k.scope(p), in)
	return err != nil || len(needs) > 0
}

// checkAction looks for the operation's IAM action among those that its rule wants.
func (k *check) checkAction(in any) {
	needs, err := k.op.Access(context.Background(), k.scope(k.cloud.Stranger.Principal), in)
	if err != nil || len(needs) == 0 {
		return
	}
	if !slices.ContainsFunc(needs, func(a auth.Access) bool { return a.Action == k.action }) {
		k.t.Errorf("%s.%s is said to be %s, and its rule wants %v", k.api.ID, k.op.Name, k.action, needs[0].Action)
	}
}

// ruleError is the code of the error that the rule itself answers, such as
// NoSuchBucket, which then comes before the refusal.
func (k *check) ruleError(p auth.Principal, in any) string {
	if p.Kind == auth.Anonymous && k.api.SigningName != "s3" {
		return "none"
	}
	_, err := k.op.Access(context.Background(), k.scope(p), in)
	if code := awserr.Code(err); code != "" {
		return code
	}
	return "none"
}

// unsignedCodes are the answers to a missing signature.
func unsignedCodes(api *wire.Service, p wire.Protocol) []string {
	switch {
	case api.NoErrorWrapping:
		return []string{"AccessDenied"}
	case p == wire.AWSQuery || p == wire.EC2Query || p == wire.RESTXML:
		return []string{"MissingAuthenticationToken"}
	}
	return []string{"MissingAuthenticationTokenException"}
}

// expect sends a request and checks the code of the error that comes back. body,
// unless nil, takes the place of the input's.
func (k *check) expect(what string, in any, body []byte, c auth.Credential, codes []string) {
	k.t.Helper()
	name := k.api.ID + "." + k.op.Name + "/" + what
	fault := k.send(in, body, c, codes)
	if reason, known := k.cloud.Known[name]; known {
		if fault == "" {
			k.t.Errorf("%s (%s) no longer fails; it was known for: %s", name, k.protocol, reason)
		}
		return
	}
	if fault != "" {
		k.t.Errorf("%s (%s): %s", name, k.protocol, fault)
	}
}

// send returns what is wrong with the answer, or nothing.
func (k *check) send(in any, body []byte, c auth.Credential, codes []string) string {
	client := wire.Client{Service: k.api, Protocol: k.protocol, Endpoint: k.cloud.Endpoint}
	r, err := client.Request(context.Background(), k.op.Name, in)
	if err != nil {
		return "can't make the request: " + err.Error()
	}
	if body == nil && r.Body != nil {
		if body, err = io.ReadAll(r.Body); err != nil {
			return err.Error()
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if c.AccessKey != "" {
		auth.Sign(r, c, "us-east-1", k.api.SigningName, body, k.cloud.Now())
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	if res.Header.Get("X-Amzn-Requestid")+res.Header.Get("X-Amz-Request-Id") == "" {
		return "the answer has no request id"
	}
	if res.StatusCode < 400 || res.StatusCode >= 500 {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
		return fmt.Sprintf("status %d: %s", res.StatusCode, text)
	}
	if r.Method == http.MethodHead { // has no body to tell a code
		return ""
	}
	err = client.Response(k.op.Name, res, reflect.New(k.op.Out).Interface())
	if code := awserr.Code(err); !slices.Contains(codes, code) {
		return fmt.Sprintf("status %d, %v; want one of %v", res.StatusCode, err, codes)
	}
	if e, ok := errors.AsType[awserr.API](err); ok && e.ErrorMessage() == "" {
		return "the error has no text"
	}
	return ""
}

// malformed returns a body that can't be read in the protocol, or nil for an
// operation without one.
func (k *check) malformed() []byte {
	switch k.protocol {
	case wire.AWSJSON10, wire.AWSJSON11:
		return []byte(`{"a":`)
	case wire.RPCV2CBOR:
		return []byte("\xbf\x61")
	case wire.AWSQuery, wire.EC2Query:
		return []byte("Action=" + k.op.Name + "&Version=" + k.api.Version + "&Name=%zz")
	}
	if !k.hasDocument() || k.model.Method == http.MethodGet || k.model.Method == http.MethodHead || k.model.Method == http.MethodDelete {
		return nil
	}
	if k.protocol == wire.RESTXML {
		return []byte("<a")
	}
	return []byte(`{"a":`)
}

// hasDocument tells whether the body of a REST operation is a document, not a
// stream or bytes.
func (k *check) hasDocument() bool {
	shape := &k.api.Shapes[k.model.Input]
	for i := range shape.Members {
		m := &shape.Members[i]
		if shape.Payload == m.Name {
			kind := k.api.Shapes[m.Shape].Kind
			return kind == wire.Structure || kind == wire.Union
		}
	}
	return shape.Payload == "" && slices.ContainsFunc(shape.Members, func(m wire.Member) bool { return m.In == wire.InBody })
}

// exported is the Go name of a member.
func exported(name string) string { return strings.ToUpper(name[:1]) + name[1:] }
