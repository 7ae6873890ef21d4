// Package wire speaks the AWS protocols. It knows no service: everything about
// one comes from the schema tables of internal/api.
package wire

// Service is the schema of one AWS service.
type Service struct {
	ID string // as the AWS CLI names it
}
