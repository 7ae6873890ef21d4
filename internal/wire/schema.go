package wire

import (
	"reflect"
	"slices"
	"sort"
	"sync"
)

// Protocol is one of the AWS protocols.
type Protocol uint8

// The protocols. KinesisCBOR is what the Java SDK speaks to Kinesis: awsJson1_1
// with CBOR in place of JSON (application/x-amz-cbor-1.1).
const (
	NoProtocol Protocol = iota
	AWSJSON10
	AWSJSON11
	RESTJSON1
	RESTXML
	AWSQuery
	EC2Query
	RPCV2CBOR
	KinesisCBOR
)

// String returns the protocol's name as in the Smithy specification.
func (p Protocol) String() string {
	names := [...]string{"none", "awsJson1_0", "awsJson1_1", "restJson1", "restXml", "awsQuery", "ec2Query", "rpcv2Cbor", "kinesisCbor"}
	if int(p) < len(names) {
		return names[p]
	}
	return "unknown"
}

// Kind is the type of a shape.
type Kind uint8

// The kinds of shapes.
const (
	Structure Kind = iota
	Union
	List
	Map
	String
	Integer // 32 bits
	Long    // 64 bits
	Float
	Double
	Boolean
	Timestamp
	Blob
	Document
)

// Location is the part of an HTTP message that carries a member.
type Location uint8

// The locations.
const (
	InBody Location = iota
	InHeader
	InPrefixHeaders
	InQuery
	InQueryParams
	InLabel
	InStatus
)

// TimeFormat is how a timestamp is written.
type TimeFormat uint8

// The formats of timestamps. DefaultTime leaves it to the protocol and the
// location.
const (
	DefaultTime TimeFormat = iota
	DateTime
	EpochSeconds
	HTTPDate
)

// Traits are the yes-or-no facts of a member or a shape.
type Traits uint16

// The traits.
const (
	Required Traits = 1 << iota
	Flat
	Attribute // an attribute of the enclosing XML element
	IdempotencyToken
	HostLabel
	Streaming
	JSONValue // JSON in a string
	EventPayload
	EventHeader
	Deprecated
	Sensitive
	EventStreamUnion // a union whose members are events
)

// XMLNamespace is the namespace declaration on an element.
type XMLNamespace struct{ URI, Prefix string }

// Member is a member of a structure or union, the element of a list (its only
// member), or the key and value of a map (its two members).
type Member struct {
	Name  string // as in the model
	Wire  string // name on the wire; empty if it is Name
	Query string // name in awsQuery, and in ec2Query requests; empty if it is the wire name
	Shape uint16 // index into Service.Shapes
	In    Location
	Time  TimeFormat
	Is    Traits
	XMLNS *XMLNamespace
}

// WireName returns the member's name in bodies and headers.
func (m *Member) WireName() string {
	if m.Wire != "" {
		return m.Wire
	}
	return m.Name
}

// Limits bound a number, the length of a string or blob, or the size of a list
// or map.
type Limits struct {
	Min, Max       int64
	HasMin, HasMax bool
}

// Fault describes a shape that is an error.
type Fault struct {
	Server bool   // the server's fault
	Status int    // HTTP status
	Code   string // code in awsQuery; empty if it is the shape's name
}

// Shape is a type of the model.
type Shape struct {
	Name    string
	Kind    Kind
	Members []Member
	Payload string // the member that is the whole body
	Type    any    // nil pointer to the Go type of a structure or union
	Limits  *Limits
	Pattern string // a regular expression in Java's dialect that the whole string matches
	Enum    []string
	Time    TimeFormat
	Is      Traits
	Error   *Fault
}

// Checksum tells how an operation's body is protected.
type Checksum struct {
	Required         bool
	AlgorithmMember  string
	ValidationMember string
	Response         []string
}

// Operation is an operation of a service.
type Operation struct {
	Name          string
	Method        string // HTTP method; empty means POST
	URI           string // template, with a literal query; empty means /
	Status        int    // HTTP status of success; 0 means 200
	Input, Output uint16 // shapes; 0 for none
	// In and Out are nil pointers to the input and output structs. Both are nil
	// for an operation of which only the name is known.
	In, Out       any
	Errors        []uint16
	InputRoot     string // root element of the request body (restXml)
	InputXMLNS    string
	OutputRoot    string // root element of the answer (restXml)
	ResultWrapper string // awsQuery
	HostPrefix    string
	Checksum      *Checksum
	Unwrapped     bool // the answer has no root element of its own (S3 GetBucketLocation)
	NoAuth        bool // needs no signature
	Unsigned      bool // the payload is not signed
	Gzip          bool // clients may compress the body
	Idempotent    bool
	ReadOnly      bool
	Deprecated    bool
}

// Built says whether the operation has structs, and so can be decoded.
func (o *Operation) Built() bool { return o.In != nil }

// NewInput returns a pointer to a new input struct.
func (o *Operation) NewInput() any { return reflect.New(reflect.TypeOf(o.In).Elem()).Interface() }

// NewOutput returns a pointer to a new output struct.
func (o *Operation) NewOutput() any { return reflect.New(reflect.TypeOf(o.Out).Elem()).Interface() }

// Wording is a service's own text for a value that does not match a pattern.
type Wording struct {
	Pattern string
	Text    string // with %s for the member
}

// Service is the schema of one AWS service.
type Service struct {
	ID                 string // as the AWS CLI names it
	SDKID              string // such as "CloudWatch Logs"
	Title              string
	Version            string     // API version, a date
	Protocols          []Protocol // the preferred one first
	QueryCompatible    bool       // JSON and CBOR errors carry x-amzn-query-error
	TargetPrefix       string     // of X-Amz-Target; also the rpcv2Cbor service name
	SigningName        string     // in the credential scope
	EndpointPrefix     string
	GlobalEndpoint     string
	XMLNamespace       string
	NoErrorWrapping    bool   // S3 errors
	ErrorNamespace     string // of __type in awsJson1_0
	ARNNamespace       string
	CloudTrailSource   string
	CloudFormationName string
	ModelDate          string
	Validation         string      // code of input that breaks a constraint; "none", "missing" or empty, see Validate
	Wordings           []Wording   // the service's own texts for values that break a pattern
	MaxRequest         int64       // bytes of a request body that is held in memory; 0 means DefaultMaxRequest
	Operations         []Operation // sorted by name
	Shapes             []Shape     // sorted by name; the first one is an empty structure

	plans    planCache
	router   routerCache
	patterns sync.Map // shape's index -> *pattern
	buffers  sync.Pool
}

// DefaultMaxRequest is the largest request body that is read into memory, in
// bytes, where a service says nothing else.
const DefaultMaxRequest = 16 << 20

// Operation returns the operation of that name, or nil.
func (s *Service) Operation(name string) *Operation {
	// by index: a comparison that is handed operations copies each
	i := sort.Search(len(s.Operations), func(i int) bool { return s.Operations[i].Name >= name })
	if i == len(s.Operations) || s.Operations[i].Name != name {
		return nil
	}
	return &s.Operations[i]
}

// Shape returns the shape of that name, or nil.
func (s *Service) Shape(name string) *Shape {
	i := sort.Search(len(s.Shapes), func(i int) bool { return s.Shapes[i].Name >= name })
	if i == len(s.Shapes) || s.Shapes[i].Name != name {
		return nil
	}
	return &s.Shapes[i]
}

// Speaks says whether the service has the protocol.
func (s *Service) Speaks(p Protocol) bool { return slices.Contains(s.Protocols, p) }

// A ModelledError is an error of internal/api: a struct that a service's model
// describes.
type ModelledError interface {
	error
	ErrorCode() string
	ErrorMessage() string
	// ErrorShape returns the service and the index of the shape in its table.
	ErrorShape() (*Service, uint16)
}
