// Package wire speaks the AWS protocols, as a server and as a client. It knows
// no service: everything about one comes from the schema tables of internal/api.
//
// A request goes through it in four steps: ChooseProtocol and Route find the
// operation, Codec.DecodeRequest fills the input struct, Validate holds it
// against the model's constraints, and Codec.EncodeResponse or
// Codec.EncodeError write the answer.
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
