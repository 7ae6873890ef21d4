package auth

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"skerry/internal/base/awserr"
)

// Family is a group of services that tell authentication faults alike.
type Family uint8

// The families. AWS's services differ in codes, texts and statuses.
const (
	RPC   Family = iota // awsJson and rpcv2Cbor: status 400
	REST                // restJson1: the same codes with status 403
	Query               // awsQuery, and restXml other than S3
	EC2                 // ec2Query
	S3
)

// Options tell how a service wants its requests authenticated.
type Options struct {
	Family Family
	// Services are the signing names that the request's scope may hold; none means
	// that any will do.
	Services []string
	// MaxBody limits bodies that must be read whole, in bytes: those of all
	// families but S3. Zero means that there is no body to read.
	MaxBody int64
	// Optional says that the request may be unsigned: the operations of Cognito and
	// STS which make credentials. Requests of S3 always may.
	Optional bool
	// Bucket is the bucket that the host names; signature version 2 signs it.
	Bucket string
}

// fault builds an error in the family's own words.
func (f Family) fault(jsonCode, queryCode, ec2Code, text string) *awserr.Error {
	switch f {
	case RPC:
		return awserr.New(http.StatusBadRequest, jsonCode, "%s", text)
	case REST:
		return awserr.New(http.StatusForbidden, jsonCode, "%s", text)
	case EC2:
		switch ec2Code {
		case "AuthFailure":
			return awserr.New(http.StatusUnauthorized, ec2Code, "AWS was not able to validate the provided access credentials")
		case "RequestExpired":
			return awserr.New(http.StatusBadRequest, ec2Code, "Request has expired.")
		}
		return awserr.New(http.StatusForbidden, ec2Code, "%s", text)
	}
	return awserr.New(http.StatusForbidden, queryCode, "%s", text)
}

// Unsigned is the answer to a request that had to be signed.
func (f Family) Unsigned() error {
	if f == S3 {
		return accessDenied("Access Denied")
	}
	return f.fault("MissingAuthenticationTokenException", "MissingAuthenticationToken", "MissingAuthenticationToken",
		"Request is missing Authentication Token")
}

// malformed is the answer to an Authorization header that can't be read. s3 is
// S3's own text for it.
func (f Family) malformed(header, text, s3 string) error {
	if f == S3 {
		return awserr.New(http.StatusBadRequest, "AuthorizationHeaderMalformed", "%s", "The authorization header is malformed; "+s3)
	}
	sum := sha256.Sum256([]byte(header))
	text += " (Hashed with SHA-256 and encoded with Base64) Authorization=" + base64.StdEncoding.EncodeToString(sum[:])
	err := f.fault("IncompleteSignatureException", "IncompleteSignature", "IncompleteSignature", text)
	if f == Query || f == EC2 {
		err.Status = http.StatusBadRequest
	}
	return err
}

// badQuery is the answer to a signed link that can't be read.
func (f Family) badQuery(text string) error {
	if f == S3 {
		return awserr.New(http.StatusBadRequest, "AuthorizationQueryParametersError", "%s", text)
	}
	return f.fault("IncompleteSignatureException", "IncompleteSignature", "IncompleteSignature", text)
}

const badToken = "The security token included in the request is invalid."

// unknownKey is the answer to an access key that nobody has or that is inactive.
func (f Family) unknownKey(key string) error {
	if f == S3 {
		return awserr.New(http.StatusForbidden, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.").
			With("AWSAccessKeyId", key)
	}
	return f.fault("UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure", badToken)
}

// wrongToken is the answer to a session token that isn't the key's.
func (f Family) wrongToken(token string) error {
	if f == S3 {
		return awserr.New(http.StatusBadRequest, "InvalidToken", "The provided token is malformed or otherwise invalid.").With("Token-0", token)
	}
	return f.fault("UnrecognizedClientException", "InvalidClientTokenId", "AuthFailure", badToken)
}

// expiredToken is the answer to temporary credentials that have ended.
func (f Family) expiredToken(token string) error {
	if f == S3 {
		return awserr.New(http.StatusBadRequest, "ExpiredToken", "The provided token has expired.").With("Token-0", token)
	}
	return f.fault("ExpiredTokenException", "ExpiredToken", "RequestExpired", "The security token included in the request is expired")
}

const mismatch = "The request signature we calculated does not match the signature you provided."

// wrongSignature is the answer to a signature that doesn't fit.
func (f Family) wrongSignature(key, signature, toSign, canonical string) error {
	if f == S3 {
		err := awserr.New(http.StatusForbidden, "SignatureDoesNotMatch", "%s", mismatch+" Check your key and signing method.").
			With("AWSAccessKeyId", key).With("StringToSign", toSign).With("SignatureProvided", signature).
			With("StringToSignBytes", spaced(toSign))
		if canonical != "" {
			err.With("CanonicalRequest", canonical).With("CanonicalRequestBytes", spaced(canonical))
		}
		return err
	}
	return f.invalidSignature(mismatch + " Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

// invalidSignature is a fault of the signature other than its value.
func (f Family) invalidSignature(text string) error {
	return f.fault("InvalidSignatureException", "SignatureDoesNotMatch", "AuthFailure", text)
}

// wrongScope is the answer to a credential scope for another day or service.
func (f Family) wrongScope(text string) error {
	if f == S3 {
		return awserr.New(http.StatusBadRequest, "AuthorizationHeaderMalformed", "%s", "The authorization header is malformed; "+text)
	}
	return f.invalidSignature("Credential should be scoped to " + text)
}

const (
	skewS3    = 15 * time.Minute
	skewOther = 5 * time.Minute
	isoBasic  = "20060102T150405Z"
)

// skewed returns an error if the request was signed too long ago or too far
// ahead.
func (f Family) skewed(signed, now time.Time) error {
	if f == S3 {
		if d := now.Sub(signed); d > skewS3 || d < -skewS3 {
			return awserr.New(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.").
				With("RequestTime", signed.UTC().Format(isoBasic)).With("ServerTime", now.UTC().Format(time.RFC3339)).
				With("MaxAllowedSkewMilliseconds", fmt.Sprint(skewS3.Milliseconds()))
		}
		return nil
	}
	s, n := signed.UTC().Format(isoBasic), now.UTC().Format(isoBasic)
	text := ""
	switch {
	case now.Sub(signed) > skewOther:
		text = "Signature expired: " + s + " is now earlier than " + now.Add(-skewOther).UTC().Format(isoBasic) + " (" + n + " - 5 min.)"
	case signed.Sub(now) > skewOther:
		text = "Signature not yet current: " + s + " is still later than " + now.Add(skewOther).UTC().Format(isoBasic) + " (" + n + " + 5 min.)"
	default:
		return nil
	}
	if f == EC2 {
		return f.fault("", "", "RequestExpired", "")
	}
	return f.invalidSignature(text)
}

func accessDenied(text string) *awserr.Error {
	return awserr.New(http.StatusForbidden, "AccessDenied", "%s", text)
}

func invalidArgument(text, name, value string) error {
	return awserr.New(http.StatusBadRequest, "InvalidArgument", "%s", text).With("ArgumentName", name).With("ArgumentValue", value)
}

// spaced writes bytes as S3 does in its error details: "47 45 54".
func spaced(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(hex.EncodeToString([]byte{s[i]}))
	}
	return b.String()
}
