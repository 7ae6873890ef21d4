package registry

import (
	"errors"
	"fmt"
	"strings"
)

// Code is the kind of an Error: the name that ECR's API has for it.
type Code string

// The codes. Page: "Amazon ECR API Reference", Errors of each action.
const (
	RepositoryNotFound       Code = "RepositoryNotFoundException"
	RepositoryExists         Code = "RepositoryAlreadyExistsException"
	RepositoryNotEmpty       Code = "RepositoryNotEmptyException"
	ImageNotFound            Code = "ImageNotFoundException"
	TagImmutable             Code = "ImageTagAlreadyExistsException"
	DigestMismatch           Code = "ImageDigestDoesNotMatchException"
	LayersNotFound           Code = "LayersNotFoundException"
	ReferencedImagesNotFound Code = "ReferencedImagesNotFoundException"
	LayerNotFound            Code = "LayerInaccessibleException"
	LayerInvalid             Code = "InvalidLayerException"
	LayerEmpty               Code = "EmptyUploadException"
	PartInvalid              Code = "InvalidLayerPartException"
	UploadNotFound           Code = "UploadNotFoundException"
	ParameterInvalid         Code = "InvalidParameterException"
	LimitExceeded            Code = "LimitExceededException"
	// ImageReferenced is no exception of the API but the failure code of
	// BatchDeleteImage for an image that an index names.
	ImageReferenced Code = "ImageReferencedByManifestList"
	// Denied is for those that an Authorise function refuses.
	Denied Code = "AccessDeniedException"
	// Unsupported is for what exists in the protocol and not here.
	Unsupported Code = "UnsupportedException"
)

// Error is what a customer did wrong. Any other error is a fault of ours.
type Error struct {
	Code Code
	Text string
	// Received is, for PartInvalid, how many bytes of the upload there are.
	Received int64
	// Digests are those that were not found, for LayersNotFound and
	// ReferencedImagesNotFound.
	Digests []string
	// protocol is the code of the distribution specification, where Code alone
	// does not tell it.
	protocol string
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Text }

// ErrorCode and ErrorMessage make it an error of the API.
func (e *Error) ErrorCode() string { return string(e.Code) }

// ErrorMessage returns the text that a client sees.
func (e *Error) ErrorMessage() string { return e.Text }

// CodeOf returns the code of an Error that err is or wraps, else "".
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

func fail(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Refuse returns the error of what the policies do not allow, with AWS's text.
func Refuse(text string) *Error { return &Error{Code: Denied, Text: text} }

// as sets the code of the distribution specification.
func (e *Error) as(protocol string) *Error {
	e.protocol = protocol
	return e
}

func repositoryNotFound(r Repo) error {
	return fail(RepositoryNotFound, "The repository with name '%s' does not exist in the registry with id '%s'", r.Name, r.Account)
}

func imageNotFound(r Repo, digest, tag string) error {
	var id []string
	if digest != "" {
		id = append(id, "imageDigest:'"+digest+"'")
	}
	if tag != "" {
		id = append(id, "imageTag:'"+tag+"'")
	}
	return fail(ImageNotFound, "The image with imageId {%s} does not exist within the repository with name '%s' in the registry with id '%s'",
		strings.Join(id, ", "), r.Name, r.Account)
}

func uploadNotFound(r Repo, upload string) error {
	return fail(UploadNotFound, "Upload with id '%s' does not exist in the repository with name '%s' in the registry with id '%s'", upload, r.Name, r.Account)
}

func layerNotFound(r Repo, digest string) error {
	return fail(LayerNotFound, "Layer with digest '%s' does not exist in the repository with name '%s' in the registry with id '%s'", digest, r.Name, r.Account)
}

func partInvalid(r Repo, upload string, received int64) error {
	e := fail(PartInvalid, "Layer part does not begin where upload '%s' of the repository with name '%s' in the registry with id '%s' ends: %d bytes were received",
		upload, r.Name, r.Account, received)
	e.Received = received
	return e
}
