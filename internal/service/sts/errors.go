package sts

import (
	"net/http"

	"skerry/internal/base/awserr"
)

// The errors of STS, with the statuses of its model.

func accessDenied(format string, args ...any) error {
	return awserr.New(http.StatusForbidden, "AccessDenied", format, args...)
}

func validationError(format string, args ...any) error {
	return awserr.New(http.StatusBadRequest, "ValidationError", format, args...)
}

func invalidParameter(format string, args ...any) error {
	return awserr.New(http.StatusBadRequest, "InvalidParameterValue", format, args...)
}

func malformedPolicy(text string) error {
	return awserr.New(http.StatusBadRequest, "MalformedPolicyDocument", "%s", text)
}

func packedTooLarge(percent int) error {
	return awserr.New(http.StatusBadRequest, "PackedPolicyTooLarge",
		"Packed policy consumes %d%% of allotted space, please use smaller policy.", percent)
}

func invalidToken(format string, args ...any) error {
	return awserr.New(http.StatusBadRequest, "InvalidIdentityToken", format, args...)
}
