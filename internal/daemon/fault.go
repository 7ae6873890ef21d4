package daemon

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"skerry/internal/engine"
	"skerry/internal/store"
)

// fault is an error with Docker's status and text.
type fault struct {
	status int
	text   string
}

func (f *fault) Error() string { return f.text }

func badRequest(format string, args ...any) error {
	return &fault{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &fault{http.StatusNotFound, fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &fault{http.StatusConflict, fmt.Sprintf(format, args...)}
}

func forbidden(format string, args ...any) error {
	return &fault{http.StatusForbidden, fmt.Sprintf(format, args...)}
}

// unsupported refuses what Docker can and Skerry cannot.
func unsupported(format string, args ...any) error {
	return &fault{http.StatusNotImplemented, "skerry does not support " + fmt.Sprintf(format, args...)}
}

// notModified answers that there was nothing to do.
var errNotModified = &fault{http.StatusNotModified, "not modified"}

// status returns the status and the text of an error as Docker would have them.
func status(err error) (int, string) {
	var f *fault
	var start *engine.StartError
	switch {
	case err == nil:
		return http.StatusOK, ""
	case errors.As(err, &f):
		return f.status, err.Error()
	case errors.As(err, &start):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, engine.ErrPort):
		return http.StatusInternalServerError, "failed to set up container networking: " + strings.TrimPrefix(err.Error(), "engine: ")
	case errors.Is(err, engine.ErrNotFound), errors.Is(err, store.ErrNotFound):
		return http.StatusNotFound, err.Error()
	case errors.Is(err, engine.ErrExists), errors.Is(err, engine.ErrState):
		return http.StatusConflict, err.Error()
	case errors.Is(err, engine.ErrInvalid):
		_, text, ok := strings.Cut(err.Error(), engine.ErrInvalid.Error()+": ") // the words before it are for our log
		if !ok {
			text = err.Error()
		}
		return http.StatusBadRequest, text
	case errors.Is(err, engine.ErrUnsupported):
		return http.StatusNotImplemented, err.Error()
	}
	return http.StatusInternalServerError, err.Error()
}

// missing tells whether an error says that something is not there.
func missing(err error) bool {
	code, _ := status(err)
	return code == http.StatusNotFound
}
