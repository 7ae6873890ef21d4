package lambda

import (
	"fmt"
	"strconv"

	api "skerry/internal/api/lambda"
	"skerry/internal/base/awserr"
)

// Lambda's errors carry a Type: who is at fault, in its own words.
const (
	faultUser    = "User"
	faultService = "Service"
)

func invalid(format string, args ...any) error {
	return &api.InvalidParameterValueException{Type: new(faultUser), Message: new(fmt.Sprintf(format, args...))}
}

func notFound(format string, args ...any) error {
	return &api.ResourceNotFoundException{Type: new(faultUser), Message: new(fmt.Sprintf(format, args...))}
}

func conflict(format string, args ...any) error {
	return &api.ResourceConflictException{Type: new(faultUser), Message: new(fmt.Sprintf(format, args...))}
}

// outOfRange is a constraint that the model does not state, in the words of those
// that it does.
func outOfRange(value int32, member, bound string, limit int) error {
	return awserr.New(400, "ValidationException",
		"1 validation error detected: Value '%d' at '%s' failed to satisfy constraint: Member must have value %s than or equal to %d",
		value, member, bound, limit)
}

// checkRevision is optimistic locking: the caller names the revision it has seen.
func checkRevision(want *string, have, operation string) error {
	if want == nil || *want == have {
		return nil
	}
	return &api.PreconditionFailedException{Type: new(faultUser), Message: new(
		"The Revision Id provided does not match the latest Revision Id. Call the " + operation +
			" API to retrieve the latest Revision Id")}
}

// throttled is the answer to an invocation beyond a concurrency limit.
func throttled(reason string) error {
	return &api.TooManyRequestsException{Type: new(faultUser), Reason: new(reason), Message: new("Rate Exceeded.")}
}

func tooLarge(limit int, operation string) error {
	return &api.RequestTooLargeException{Type: new(faultUser), Message: new(
		"Request must be smaller than " + strconv.Itoa(limit) + " bytes for the " + operation + " operation")}
}

func policyTooLong(n int) string {
	return fmt.Sprintf("The final policy size (%d) is bigger than the limit (%d).", n, maxPolicy)
}
