package gateway

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
	"strings"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// destination is the service that a request is for.
type destination struct {
	service *service
	request *wire.Request // in path style
	host    hostName
	region  string // of the signature's scope or of the host; may be empty
	signed  bool   // for some service
}

// unknownCall is a call that can answer an error and nothing else.
func (d destination) unknownCall() *wire.Call {
	if d.service == nil {
		return wire.NewCall(nil, d.likelyProtocol(), d.request)
	}
	return wire.NewCall(d.service.api, wire.ChooseProtocol(d.service.api, d.request), d.request)
}

// likelyProtocol guesses what a client of an unknown service speaks.
func (d destination) likelyProtocol() wire.Protocol {
	kind, _, _ := strings.Cut(d.request.Header.Get("Content-Type"), ";")
	switch {
	case d.request.Header.Get("Smithy-Protocol") == "rpc-v2-cbor":
		return wire.RPCV2CBOR
	case kind == "application/x-amz-json-1.0":
		return wire.AWSJSON10
	case d.request.Header.Get("X-Amz-Target") != "" || kind == "application/x-amz-json-1.1":
		return wire.AWSJSON11
	case kind == "application/x-www-form-urlencoded":
		return wire.AWSQuery
	case kind == "application/json", d.signed && kind == "":
		return wire.RESTJSON1 // of the services that Skerry lacks, most by far
	}
	return wire.RESTXML
}

// maxForm is how much of an unsigned form is read to find out its action, in
// bytes: as much as STS takes.
const maxForm = 1 << 20

// identify finds the service: by the scope of the signature, the target header,
// the path of an RPC protocol, the host, the action of a form, the path of a
// REST service, and if nothing else says otherwise it is S3.
func (g *Gateway) identify(r *http.Request) (destination, error) {
	d := destination{request: wire.NewRequest(r), host: g.parseHost(r.Host)}
	region, signed := auth.SigningScope(r)
	d.region, d.signed = region, signed != ""
	if d.region == "" || d.region == "*" {
		d.region = d.host.region
	}
	target := r.Header.Get("X-Amz-Target")
	switch {
	case signed != "":
		d.service = g.bySigningName(signed, d.request, target)
		if d.service == nil {
			return d, awserr.New(http.StatusNotImplemented, "NotImplemented", "Skerry has not built the service %q yet.", signed)
		}
	case target != "":
		d.service = g.find(func(s *service) bool { return hasTarget(s.api, target) })
	case strings.HasPrefix(r.Header.Get("Smithy-Protocol"), "rpc-v2-cbor"):
		d.service = g.find(func(s *service) bool {
			return s.api.TargetPrefix != "" && strings.Contains(d.request.Path, "/service/"+s.api.TargetPrefix+"/operation/")
		})
	case d.host.service != "":
		d.service = g.byEndpoint(d.host.service)
	}
	if d.service == nil && d.host.bucket == "" && !isSigV2(r, d.request) {
		var err error
		if d.service, err = g.byContent(d.request); err != nil {
			return d, err
		}
	}
	if d.service == nil {
		d.service = g.byID["s3"]
	}
	if d.service == nil {
		return d, awserr.New(http.StatusNotFound, "UnknownService", "No service of this cloud takes the request.")
	}
	if d.service.api.ID == "s3" && d.host.bucket != "" {
		d.request.Path = "/" + url.PathEscape(d.host.bucket) + d.request.Path
	}
	return d, nil
}

func (g *Gateway) find(fits func(*service) bool) *service {
	for _, s := range g.services {
		if fits(s) {
			return s
		}
	}
	return nil
}

// bySigningName finds a service by its name in a credential scope. Two names are
// shared: dynamodb, where the target tells, and apigateway, where the path does.
func (g *Gateway) bySigningName(name string, r *wire.Request, target string) *service {
	var found *service
	for _, s := range g.services {
		if s.api.SigningName != name {
			continue
		}
		if target != "" && hasTarget(s.api, target) || s.api.ID == "apigatewayv2" && strings.HasPrefix(r.Path, "/v2/") {
			return s
		}
		if found == nil {
			found = s
		}
	}
	return found
}

func hasTarget(api *wire.Service, target string) bool {
	prefix, _, ok := strings.Cut(target, ".")
	return ok && api.TargetPrefix != "" && prefix == api.TargetPrefix
}

// isEndpoint tells whether a label of a host names a service.
func (g *Gateway) isEndpoint(label string) bool { return g.byEndpoint(label) != nil }

func (g *Gateway) byEndpoint(label string) *service {
	return g.find(func(s *service) bool {
		first, _, _ := strings.Cut(s.api.EndpointPrefix, ".")
		return label == s.api.EndpointPrefix || label == s.api.ID || label == s.api.SigningName || label == first
	})
}

// isSigV2 tells whether a request is signed the way that only S3 still takes.
func isSigV2(r *http.Request, w *wire.Request) bool {
	return strings.HasPrefix(r.Header.Get("Authorization"), "AWS ") || strings.Contains(w.Query, "AWSAccessKeyId=")
}

// byContent finds the service of an unsigned request: a form by its action and
// version, a REST service by its path. It gives back what it reads of the body.
func (g *Gateway) byContent(r *wire.Request) (*service, error) {
	query, _ := url.ParseQuery(r.Query) // what can't be parsed is no action
	if query.Get("Action") == "" && r.Method == http.MethodPost && r.Body != nil &&
		strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		b, err := io.ReadAll(io.LimitReader(r.Body, maxForm))
		if err != nil {
			return nil, err
		}
		r.Body = io.MultiReader(bytes.NewReader(b), r.Body)
		query, _ = url.ParseQuery(string(b))
	}
	if action := query.Get("Action"); action != "" {
		version := query.Get("Version")
		return g.find(func(s *service) bool {
			return (s.api.Speaks(wire.AWSQuery) || s.api.Speaks(wire.EC2Query)) && s.api.Operation(action) != nil &&
				(version == "" || version == s.api.Version)
		}), nil
	}
	return g.find(func(s *service) bool {
		if !s.api.Speaks(wire.RESTJSON1) {
			return false
		}
		_, err := wire.Identify(s.api, r)
		return err == nil
	}), nil
}

// family tells in which words the service speaks of authentication to the client.
func (d destination) family() auth.Family {
	if d.service.api.NoErrorWrapping {
		return auth.S3
	}
	switch wire.ChooseProtocol(d.service.api, d.request) {
	case wire.EC2Query:
		return auth.EC2
	case wire.RESTJSON1:
		return auth.REST
	case wire.AWSQuery, wire.RESTXML:
		return auth.Query
	}
	return auth.RPC
}
