// Package awserr is the error that an AWS operation answers a client with: a
// code, a text, an HTTP status and a side at fault. Handlers return it (or a
// generated, modelled error of internal/api); only the gateway turns it into
// bytes. An error of any other type is a fault of ours and reaches the client as
// InternalFailure.
package awserr

import (
	"errors"
	"fmt"
	"net/http"
)

// Fault tells which side an error blames. The awsQuery protocols write it as
// Sender or Receiver.
type Fault uint8

// The two sides.
const (
	Client Fault = iota
	Server
)

// A Field is one more element of an error answer, such as S3's BucketName.
type Field struct{ Name, Value string }

// Error is an AWS error that no service model describes, or that carries more
// than its model says.
type Error struct {
	Code    string
	Message string
	Status  int // HTTP status code
	Fault   Fault
	Detail  []Field           // further elements of the body, in order
	Header  map[string]string // further response headers
}

// New makes an error. Status 500 and above blames the server.
func New(status int, code, format string, args ...any) *Error {
	e := &Error{Code: code, Message: format, Status: status}
	if len(args) > 0 {
		e.Message = fmt.Sprintf(format, args...)
	}
	if status >= http.StatusInternalServerError {
		e.Fault = Server
	}
	return e
}

// With adds an element to the error's body and returns the error.
func (e *Error) With(name, value string) *Error {
	e.Detail = append(e.Detail, Field{name, value})
	return e
}

// WithHeader adds a response header and returns the error.
func (e *Error) WithHeader(name, value string) *Error {
	if e.Header == nil {
		e.Header = map[string]string{}
	}
	e.Header[name] = value
	return e
}

// Error implements error, in the form "Code: message".
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// ErrorCode returns the code that a client sees.
func (e *Error) ErrorCode() string { return e.Code }

// ErrorMessage returns the text that a client sees.
func (e *Error) ErrorMessage() string { return e.Message }

// API is any error that has an AWS code: *Error and every generated error type.
type API interface {
	error
	ErrorCode() string
	ErrorMessage() string
}

// Code returns the AWS code of err or of an error it wraps, and "" if there is
// none.
func Code(err error) string {
	if a, ok := errors.AsType[API](err); ok {
		return a.ErrorCode()
	}
	return ""
}
