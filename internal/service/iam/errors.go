package iam

import (
	"errors"
	"net/http"

	"skerry/internal/auth"
	"skerry/internal/base/awserr"
)

// The errors of IAM, with the statuses of its model.

func noSuchEntity(format string, args ...any) error {
	return awserr.New(http.StatusNotFound, "NoSuchEntity", format, args...)
}

func alreadyExists(format string, args ...any) error {
	return awserr.New(http.StatusConflict, "EntityAlreadyExists", format, args...)
}

func deleteConflict(format string, args ...any) error {
	return awserr.New(http.StatusConflict, "DeleteConflict", format, args...)
}

func limitExceeded(format string, args ...any) error {
	return awserr.New(http.StatusConflict, "LimitExceeded", format, args...)
}

func invalidInput(format string, args ...any) error {
	return awserr.New(http.StatusBadRequest, "InvalidInput", format, args...)
}

func validationError(format string, args ...any) error {
	return awserr.New(http.StatusBadRequest, "ValidationError", format, args...)
}

func malformedPolicy(format string, args ...any) error {
	return awserr.New(http.StatusBadRequest, "MalformedPolicyDocument", format, args...)
}

func accessDenied(format string, args ...any) error {
	return awserr.New(http.StatusForbidden, "AccessDenied", format, args...)
}

func unmodifiable(role string) error {
	return awserr.New(http.StatusBadRequest, "UnmodifiableEntity",
		"Cannot perform the operation on the protected role '%s' - this role is only modifiable by AWS", role)
}

// policyFault gives a *auth.PolicyError the code of IAM and leaves other errors
// as they are.
func policyFault(err error) error {
	if p, ok := errors.AsType[*auth.PolicyError](err); ok {
		return malformedPolicy("%s", p.Reason)
	}
	return err
}
