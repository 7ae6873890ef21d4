package wire

import (
	"net/http"
	"reflect"
	"strings"

	"skerry/internal/base/awserr"
)

// Call is a request whose protocol and operation are known, and the way to
// answer it.
type Call struct {
	Service   *Service   // nil if unknown; errors can still be answered
	Protocol  Protocol   // how the client speaks
	Operation *Operation // nil if unknown

	request    *Request
	labels     []string // values of the URI's labels, unescaped
	labelNames []string
	query      []pair // the URL's parameters
	form       form   // awsQuery and ec2Query: all parameters, sorted by name
	wantJSON   bool   // a query service's client that accepts JSON
}

// NewCall returns a call of which only the protocol is known, to answer an
// error that was found before Identify. svc and r may be nil.
func NewCall(svc *Service, p Protocol, r *Request) *Call {
	c := &Call{Service: svc, Protocol: p, request: r}
	if r != nil && (p == AWSQuery || p == EC2Query) {
		c.wantJSON = strings.Contains(r.header("Accept"), "application/json")
	}
	return c
}

// ChooseProtocol finds out which of a service's protocols a request speaks, by
// its headers alone.
func ChooseProtocol(svc *Service, r *Request) Protocol {
	kind := mediaType(r.header("Content-Type"))
	switch {
	case svc.Speaks(RPCV2CBOR) && r.header("Smithy-Protocol") == "rpc-v2-cbor":
		return RPCV2CBOR
	case svc.Speaks(AWSJSON11) && kind == "application/x-amz-cbor-1.1":
		return KinesisCBOR
	}
	target := r.header("X-Amz-Target") != ""
	for _, p := range svc.Protocols {
		switch p {
		case AWSJSON10, AWSJSON11:
			if target || strings.HasPrefix(kind, "application/x-amz-json") || len(svc.Protocols) == 1 {
				return p
			}
		case AWSQuery, EC2Query, RESTJSON1, RESTXML:
			return p
		}
	}
	return svc.Protocols[0]
}

// Identify finds the protocol and the operation of a request to a service. For
// awsQuery and ec2Query it reads the body. The call is never nil: with an error
// it answers that error.
func Identify(svc *Service, r *Request) (*Call, error) {
	c := NewCall(svc, ChooseProtocol(svc, r), r)
	var err error
	switch c.Protocol {
	case RESTJSON1, RESTXML:
		err = c.route()
	case AWSQuery, EC2Query:
		err = c.action()
	case RPCV2CBOR:
		err = c.rpcPath()
	default:
		err = c.target()
	}
	return c, err
}

// Decode fills the input struct of the operation, to which in points. A
// streaming member gets the request's body unread. Errors are of awserr.
func (c *Call) Decode(in any) error {
	p, err := c.Service.inputPlan(c.Operation, reflect.TypeOf(in).Elem())
	if err != nil {
		return err
	}
	return c.codec().decodeRequest(c, p, reflect.ValueOf(in).Elem())
}

// Encode answers with the output struct to which out points; nil stands for an
// empty one. A streaming body is copied to w and closed; an event stream is read
// to its end, flushing each event. An error before the first byte was written
// leaves w alone, so that the caller can answer it; after that Encode returns
// an error that wraps ErrStarted.
func (c *Call) Encode(w http.ResponseWriter, out any, requestID string) error {
	if out == nil || reflect.ValueOf(out).IsNil() {
		out = c.Operation.NewOutput()
	}
	p, err := c.Service.outputPlan(c.Operation, reflect.TypeOf(out).Elem())
	if err != nil {
		return err
	}
	return c.codec().encodeResponse(c, p, reflect.ValueOf(out).Elem(), w, requestID)
}

// EncodeError answers with an error: a ModelledError, an *awserr.Error (each
// also when wrapped), or any other, which becomes InternalFailure without
// telling the client what went wrong.
func (c *Call) EncodeError(w http.ResponseWriter, err error, requestID string) {
	c.codec().encodeError(c, c.describe(err), w, requestID)
}

// codec is a protocol.
type codec interface {
	decodeRequest(c *Call, p *plan, in reflect.Value) error
	encodeResponse(c *Call, p *plan, out reflect.Value, w http.ResponseWriter, requestID string) error
	encodeError(c *Call, f *failure, w http.ResponseWriter, requestID string)
}

// failure is an error made ready for the wire.
type failure struct {
	name    string // shape's name; for JSON
	code    string // code in the query protocols and in x-amzn-query-error
	message string
	status  int
	server  bool
	plan    *plan         // of a modelled error, or nil
	value   reflect.Value // the struct of a modelled error
	detail  []awserr.Field
	header  map[string]string
}

func mediaType(contentType string) string {
	kind, _, _ := strings.Cut(contentType, ";")
	return strings.ToLower(strings.TrimSpace(kind))
}
