package remote

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

var (
	// ErrNotFound: the registry does not have it.
	ErrNotFound = errors.New("not found")
	// ErrDenied: the registry wants other credentials, or none are enough.
	ErrDenied = errors.New("denied")
)

// Error is an answer of a registry that is no success.
type Error struct {
	Status  int
	Code    string // "MANIFEST_UNKNOWN", "DENIED", ...; may be empty
	Message string
}

// Error is as Docker shows it: "manifest unknown: manifest unknown".
func (e *Error) Error() string {
	code := strings.ToLower(strings.ReplaceAll(e.Code, "_", " "))
	switch {
	case code == "" && e.Message == "":
		return fmt.Sprintf("unexpected status from the registry: %d %s", e.Status, http.StatusText(e.Status))
	case code == "":
		return e.Message
	case e.Message == "":
		return code
	}
	return code + ": " + e.Message
}

// Is implements errors.Is for ErrNotFound and ErrDenied.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrNotFound:
		return e.Status == http.StatusNotFound
	case ErrDenied:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	}
	return false
}

// passing tells whether another try may succeed.
func (e *Error) passing() bool {
	return e.Status >= 500 && e.Status != http.StatusNotImplemented || e.Status == http.StatusTooManyRequests || e.Status == http.StatusRequestTimeout
}

// failure reads the error that an answer tells, and closes it.
func failure(a *http.Response) error {
	defer a.Body.Close()
	e := &Error{Status: a.StatusCode}
	body, err := io.ReadAll(io.LimitReader(a.Body, 64<<10))
	if err != nil {
		return e
	}
	var told struct {
		Errors []struct{ Code, Message string }
		// Some say it flat.
		Code, Message, Details string
	}
	if json.Unmarshal(body, &told) != nil {
		return e
	}
	e.Code, e.Message = told.Code, told.Message+told.Details
	if len(told.Errors) > 0 {
		e.Code, e.Message = told.Errors[0].Code, told.Errors[0].Message
	}
	if len(e.Message) > 1000 {
		e.Message = e.Message[:1000]
	}
	return e
}
