package s3

import (
	"strconv"

	"skerry/internal/api/s3"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// The errors of "Error responses" in the Amazon S3 API Reference, with its texts.

func noSuchBucket(name string) error {
	return awserr.New(404, "NoSuchBucket", "The specified bucket does not exist").With("BucketName", name)
}

func noSuchKey(key string) *awserr.Error {
	return awserr.New(404, "NoSuchKey", "The specified key does not exist.").With("Key", key)
}

func noSuchVersion(key, version string) error {
	return awserr.New(404, "NoSuchVersion", "The specified version does not exist.").With("Key", key).With("VersionId", version)
}

func noSuchUpload(id string) error {
	return awserr.New(404, "NoSuchUpload", "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.").With("UploadId", id)
}

func accessDenied() *awserr.Error { return awserr.New(403, "AccessDenied", "Access Denied") }

func invalidArgument(name, value, text string) *awserr.Error {
	return awserr.New(400, "InvalidArgument", "%s", text).With("ArgumentName", name).With("ArgumentValue", value)
}

func invalidRequest(text string) error {
	return &s3.InvalidRequest{Message: wire.Ptr(text)}
}

func malformedXML() error {
	return awserr.New(400, "MalformedXML", "The XML you provided was not well-formed or did not validate against our published schema")
}

func notImplemented(header string) *awserr.Error {
	e := awserr.New(501, "NotImplemented", "A header you provided implies functionality that is not implemented")
	if header != "" {
		e = e.With("Header", header)
	}
	e.Fault = awserr.Client
	return e
}

func preconditionFailed(condition string) error {
	return awserr.New(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold").With("Condition", condition)
}

func notModified(o *objectRow) error {
	return awserr.New(304, "NotModified", "Not Modified").
		WithHeader("ETag", quote(o.ETag)).
		WithHeader("Last-Modified", httpDate(o.Modified))
}

func badDigest(what string) error {
	return awserr.New(400, "BadDigest", "The %s you specified did not match the calculated checksum.", what)
}

func entityTooLarge(size, limit int64) error {
	return awserr.New(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size").
		With("ProposedSize", strconv.FormatInt(size, 10)).With("MaxSizeAllowed", strconv.FormatInt(limit, 10))
}

func invalidRange(asked string, size int64) error {
	return awserr.New(416, "InvalidRange", "The requested range is not satisfiable").
		With("RangeRequested", asked).With("ActualObjectSize", strconv.FormatInt(size, 10)).
		WithHeader("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
}

func noConfiguration(code, text, bucket string) error {
	return awserr.New(404, code, "%s", text).With("BucketName", bucket)
}

func invalidPart(number, count int32) error {
	return awserr.New(416, "InvalidPartNumber", "The requested partnumber is not satisfiable").
		With("PartNumberRequested", strconv.Itoa(int(number))).With("ActualPartCount", strconv.Itoa(int(count)))
}
