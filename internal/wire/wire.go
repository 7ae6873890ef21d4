// Package wire speaks the AWS protocols, as a server and as a client. It knows
// no service: everything about one comes from the schema tables of internal/api.
//
// A request goes through it in four steps: Identify finds the protocol and the
// operation, Call.Decode fills the input struct, Validate holds it against the
// model's constraints, and Call.Encode or Call.EncodeError write the answer.
// Client does the reverse, for tests and for tools in process.
//
// A plan joins a shape of a table with its Go type (plan.go); each protocol is a
// codec that walks plans: awsjson.go, rest.go and restencode.go (restJson1 and
// restXml), query.go (awsQuery and ec2Query), cbor.go (rpcv2Cbor, and the CBOR
// that the Java SDK speaks to Kinesis), events.go and frame.go (event streams).
//
// JSON, the hottest of the bodies, is read and written through unsafe pointers
// into the structs: reflection takes more time for a field than all the rest.
// That each pointer is to what the plan says is proved when the plan is made from
// the Go type.
//
// All that comes in is taken for hostile: bodies have a size, a depth and a
// memory that they may grow to, forms a number of parameters, and no input makes
// a decoder panic. Streaming members are never held in memory.
//
// Not built: event streams from client to server, which no service here has, and
// host prefixes, which are the gateway's.
package wire

// Ptr returns a pointer to a copy of v.
func Ptr[T any](v T) *T { return &v }

// Value returns what p points to, or the zero value if p is nil.
func Value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
