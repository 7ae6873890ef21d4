package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"skerry/internal/auth"
	"skerry/internal/base/ids"
	"skerry/internal/blob"
	"skerry/internal/store"
)

// IsRequest tells whether a request is for the registry: its path begins with
// /v2, which AWS's own API Gateway has too, but with a signature.
func IsRequest(r *http.Request) bool {
	if r.URL.Path != "/v2" && !strings.HasPrefix(r.URL.Path, "/v2/") {
		return false
	}
	return !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-") && !strings.Contains(r.URL.RawQuery, "X-Amz-Signature=")
}

// exchange is a request on its way.
type exchange struct {
	*Registry
	w     http.ResponseWriter
	r     *http.Request
	route route
	repo  Repo
	scope auth.Scope
	row   *Repository // nil: there is none
}

// ServeHTTP implements the HTTP API of the distribution specification.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	x := &exchange{Registry: r, w: w, r: req}
	if err := x.serve(req.Context()); err != nil {
		x.fail(err)
	}
}

// serve is the path of a request: what it is for, who asks, whether it is allowed,
// and then the endpoint.
func (x *exchange) serve(ctx context.Context) error {
	var ok bool
	if x.route, ok = routeOf(x.r.URL.Path); !ok {
		return fail(Unsupported, "There is no such endpoint").as("UNSUPPORTED")
	}
	if x.route.name != "" {
		x.repo = x.repoOf(x.r.Host, x.route.name)
	} else {
		x.repo = Repo{Account: x.Account, Region: x.Region}
		if account, region, ok := hostOf(x.r.Host); ok {
			x.repo.Account, x.repo.Region = account, region
		}
	}
	if done, err := x.serveLink(ctx); done || err != nil {
		return err
	}
	if err := x.authenticate(ctx); err != nil {
		return err
	}
	if x.route.name == "" {
		return x.serveRegistry(ctx)
	}
	if !ValidName(x.repo.Name) {
		return fail(ParameterInvalid, "The repository name '%s' is invalid", x.repo.Name).as("NAME_INVALID")
	}
	do, actions := x.endpoint()
	if do == nil {
		x.w.Header().Set("Allow", x.route.kind.methods())
		return fail(Unsupported, "The operation is unsupported")
	}
	if err := x.authorise(ctx, x.repo, actions...); err != nil {
		return err
	}
	return do(ctx)
}

// endpoint returns the function of a request and the permissions it needs. Page:
// "Actions, resources, and condition keys for Amazon Elastic Container Registry".
func (x *exchange) endpoint() (func(context.Context) error, []string) {
	switch x.route.kind.String() + " " + x.r.Method {
	case "blob GET":
		return x.getBlob, []string{"ecr:GetDownloadUrlForLayer"}
	case "blob HEAD":
		return x.getBlob, []string{"ecr:BatchCheckLayerAvailability"}
	case "blob DELETE":
		return x.deleteBlob, []string{"ecr:BatchDeleteImage"}
	case "uploads POST":
		return x.startUpload, []string{"ecr:InitiateLayerUpload"}
	case "upload GET":
		return x.getUpload, []string{"ecr:UploadLayerPart"}
	case "upload PATCH":
		return x.patchUpload, []string{"ecr:UploadLayerPart"}
	case "upload PUT":
		return x.putUpload, []string{"ecr:UploadLayerPart", "ecr:CompleteLayerUpload"}
	case "upload DELETE":
		return x.deleteUpload, []string{"ecr:UploadLayerPart"}
	case "manifest GET", "manifest HEAD":
		return x.getManifest, []string{"ecr:BatchGetImage"}
	case "manifest PUT":
		return x.putManifest, []string{"ecr:PutImage"}
	case "manifest DELETE":
		return x.deleteManifest, []string{"ecr:BatchDeleteImage"}
	case "tags GET":
		return x.listTags, []string{"ecr:ListImages"}
	case "referrers GET":
		return x.listReferrers, []string{"ecr:BatchGetImage"}
	}
	return nil, nil
}

// serveRegistry answers what is about no repository.
func (x *exchange) serveRegistry(ctx context.Context) error {
	if x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
		x.w.Header().Set("Allow", "GET")
		return fail(Unsupported, "The operation is unsupported")
	}
	if x.route.kind == catalogue {
		return x.listRepositories(ctx)
	}
	x.json(http.StatusOK, struct{}{})
	return nil
}

// authenticate reads the password and mints the scope.
func (x *exchange) authenticate(ctx context.Context) error {
	user, password, ok := x.credentials()
	if !ok || user != "AWS" {
		return errUnauthorized
	}
	p, region, err := x.Tokens.Verify(ctx, password)
	switch {
	case errors.Is(err, ErrTokenExpired):
		return Refuse("Your authorization token has expired. Reauthenticate and try again.")
	case errors.Is(err, ErrTokenInvalid):
		return errUnauthorized
	case err != nil:
		return err
	case region != x.repo.Region:
		return Refuse("Your Authorization Token is invalid.")
	}
	source, _, err := net.SplitHostPort(x.r.RemoteAddr)
	if err != nil {
		source = ""
	}
	x.scope = auth.NewScope(p, x.repo.Region, auth.Request{
		ID: ids.UUID(), Time: x.now(), SourceIP: source, UserAgent: x.r.UserAgent(), Host: x.r.Host, Secure: x.r.TLS != nil,
	})
	return x.Authorise(ctx, x.scope, nil)
}

// credentials reads the Authorization header: Basic, or Bearer with the
// base64-encoded AWS:password that GetAuthorizationToken answers.
func (x *exchange) credentials() (user, password string, ok bool) {
	if user, password, ok = x.r.BasicAuth(); ok {
		return user, password, true
	}
	scheme, token, _ := strings.Cut(x.r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", "", false
	}
	b, err := base64.StdEncoding.DecodeString(strings.TrimSpace(token))
	if err != nil {
		return "", "", false
	}
	return strings.Cut(string(b), ":")
}

// authorise asks for permissions on a repository, whose row it reads.
func (x *exchange) authorise(ctx context.Context, repo Repo, actions ...string) error {
	var row *Repository
	err := x.Store.View(ctx, func(tx *store.Tx) (err error) {
		row, err = repositories.Get(tx, repo.Key())
		return err
	})
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if repo == x.repo {
		x.row = row
	}
	return x.Authorise(ctx, x.scope, Needs(repo, row, actions...))
}

// Needs returns what actions on a repository ask of the policies. row is nil for
// one that is not there.
func Needs(repo Repo, row *Repository, actions ...string) []auth.Access {
	needs := make([]auth.Access, 0, len(actions))
	keys := map[string][]string{}
	policy := ""
	if row != nil {
		policy = row.Policy
		for k, v := range row.Tags {
			keys["aws:ResourceTag/"+k] = []string{v}
			keys["ecr:ResourceTag/"+k] = []string{v}
		}
	}
	for _, a := range actions {
		needs = append(needs, auth.Access{Action: a, Resource: repo.ARN(), Owner: repo.Account, Policy: policy, Context: keys})
	}
	return needs
}

// errUnauthorized is the answer to who brings no password of ours.
var errUnauthorized = errors.New("registry: no valid password")

// problem is one error of an answer.
type problem struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Detail  any    `json:"detail,omitempty"`
}

// fail writes an error.
func (x *exchange) fail(err error) {
	e, mine := errors.AsType[*Error](err)
	switch {
	case errors.Is(err, errUnauthorized):
		scheme := "http"
		if x.r.TLS != nil {
			scheme = "https"
		}
		x.w.Header().Set("Www-Authenticate", `Basic realm="`+scheme+`://`+x.r.Host+`/",service="ecr.amazonaws.com"`)
		x.problems(http.StatusUnauthorized, problem{Code: "UNAUTHORIZED", Message: "Not Authorized"})
	case mine:
		x.failAs(e)
	case errors.Is(err, blob.ErrNoSpace), errors.Is(err, store.ErrNoSpace):
		x.problems(http.StatusInsufficientStorage, problem{Code: "UNKNOWN", Message: "The disk is full"})
	case errors.Is(err, context.Canceled), isBroken(err):
		x.w.Header().Set("Connection", "close") // the client has gone, or does not speak on
		x.problems(http.StatusBadRequest, problem{Code: "BLOB_UPLOAD_INVALID", Message: "The request ended before its body did"})
	default:
		x.Log.Error("registry", "method", x.r.Method, "path", x.r.URL.Path, "error", err)
		x.problems(http.StatusInternalServerError, problem{Code: "UNKNOWN", Message: "Internal failure"})
	}
}

// failAs writes a customer's error in the codes of the specification.
func (x *exchange) failAs(e *Error) {
	status, code := http.StatusBadRequest, e.protocol
	text := e.Text
	switch e.Code {
	case RepositoryNotFound:
		status, code = http.StatusNotFound, "NAME_UNKNOWN"
	case ImageNotFound:
		status, code, text = http.StatusNotFound, "MANIFEST_UNKNOWN", "Requested image not found"
	case LayerNotFound:
		status, code = http.StatusNotFound, "BLOB_UNKNOWN"
	case UploadNotFound:
		status, code = http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN"
	case PartInvalid:
		status, code = http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID"
		x.w.Header().Set("Range", rangeOf(e.Received))
	case LayersNotFound, ReferencedImagesNotFound:
		var all []problem
		for _, d := range e.Digests {
			all = append(all, problem{Code: "MANIFEST_BLOB_UNKNOWN", Message: e.Text, Detail: map[string]string{"digest": d}})
		}
		x.problems(http.StatusNotFound, all...)
		return
	case TagImmutable:
		code = "TAG_INVALID"
	case DigestMismatch:
		code = "DIGEST_INVALID"
	case ImageReferenced:
		code = "DENIED"
	case ParameterInvalid, LayerInvalid:
		if code == "SIZE_INVALID" {
			status = http.StatusRequestEntityTooLarge
		}
	case Unsupported:
		if status = http.StatusMethodNotAllowed; code != "" {
			status = http.StatusNotFound
		}
		code = "UNSUPPORTED"
	case LimitExceeded:
		if code == "" {
			status, code = http.StatusTooManyRequests, "TOOMANYREQUESTS"
		}
	default:
		status, code = http.StatusForbidden, "DENIED"
	}
	if code == "" {
		code = "UNSUPPORTED"
	}
	x.problems(status, problem{Code: code, Message: text})
}

func (x *exchange) problems(status int, all ...problem) {
	x.json(status, map[string]any{"errors": all})
}

// json writes an answer that is not a content.
func (x *exchange) json(status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		x.Log.Error("registry: encode an answer", "error", err)
		status = http.StatusInternalServerError
	}
	h := x.w.Header()
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json; charset=utf-8")
	}
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		x.write(body)
	}
}

// write sends bytes to a client that may have gone.
func (x *exchange) write(b []byte) {
	if _, err := x.w.Write(b); err != nil {
		x.Log.LogAttrs(x.r.Context(), slog.LevelDebug, "registry: answer", slog.Any("error", err))
	}
}
