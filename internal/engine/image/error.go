package image

import (
	"errors"
	"fmt"
)

// fault is an error whose text is for the customer, in Docker's words, and which
// callers tell by an error of the engine's whose text is not in it.
type fault struct {
	is, cause error
	text      string
}

func (f *fault) Error() string { return f.text }

// Unwrap implements errors.Is.
func (f *fault) Unwrap() []error { return []error{f.is, f.cause} }

// faultf makes a fault; one of its arguments may be the cause.
func faultf(is error, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &fault{is: is, cause: err, text: err.Error()}
}

// about says what was being done, unless the error says all there is to say.
func about(err error, format string, args ...any) error {
	var f *fault
	if errors.As(err, &f) {
		return err
	}
	return fmt.Errorf("image: "+format+": %w", append(args, err)...)
}
