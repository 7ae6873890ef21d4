package ecr

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	api "skerry/internal/api/ecr"
	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/events"
	"skerry/internal/meter"
	"skerry/internal/op"
	"skerry/internal/registry"
	"skerry/internal/service/ecr/scan"
	"skerry/internal/store"
)

// Deps is what the service needs.
type Deps struct {
	Store    *store.DB
	Clock    clock.Clock
	Log      *slog.Logger
	Registry *registry.Registry
	Outbox   *events.Outbox
	Meter    *meter.Meter
	Wake     func(loop string)
	Endpoint string // where this cloud is, for upstreams that are its own registries
	// Feed is the folder with the feed of vulnerabilities (see scan.Feed); empty if
	// none is given.
	Feed string
}

// Service is Amazon ECR.
type Service struct {
	Deps
	limits scan.Limits
}

// New makes the service. Its Hooks are the registry's to use.
func New(d Deps) *Service { return &Service{Deps: d, limits: scan.DefaultLimits} }

// Hooks is what the service adds to the registry.
func (s *Service) Hooks() registry.Hooks {
	return registry.Hooks{
		Pushed: s.pushed, Deleted: s.deleted, Missing: s.createOnPush, Upstream: s.upstream, Import: s.mayImport, Fetched: s.fetched,
		Uncounted: s.uncounted, Mounts: s.mounts,
	}
}

// Service returns the operations, each with its rule.
func (s *Service) Service() op.Service {
	return op.Service{API: api.Schema, Operations: slices.Concat(
		s.repositoryOperations(), s.imageOperations(), s.layerOperations(), s.registryOperations())}
}

func (s *Service) repositoryOperations() []op.Operation {
	return []op.Operation{
		op.New("CreateRepository", s.mayCreate, told(s.CreateRepository)),
		op.New("DescribeRepositories", s.mayDescribe, told(s.DescribeRepositories)),
		op.New("DeleteRepository", onRepository(s, "ecr:DeleteRepository", func(in *api.DeleteRepositoryInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.DeleteRepository)),
		op.New("PutImageTagMutability", onRepository(s, "ecr:PutImageTagMutability", func(in *api.PutImageTagMutabilityInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.PutImageTagMutability)),
		op.New("SetRepositoryPolicy", onRepository(s, "ecr:SetRepositoryPolicy", func(in *api.SetRepositoryPolicyInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.SetRepositoryPolicy)),
		op.New("GetRepositoryPolicy", onRepository(s, "ecr:GetRepositoryPolicy", func(in *api.GetRepositoryPolicyInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.GetRepositoryPolicy)),
		op.New("DeleteRepositoryPolicy", onRepository(s, "ecr:DeleteRepositoryPolicy", func(in *api.DeleteRepositoryPolicyInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.DeleteRepositoryPolicy)),
		op.New("PutLifecyclePolicy", onRepository(s, "ecr:PutLifecyclePolicy", func(in *api.PutLifecyclePolicyInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.PutLifecyclePolicy)),
		op.New("GetLifecyclePolicy", onRepository(s, "ecr:GetLifecyclePolicy", func(in *api.GetLifecyclePolicyInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.GetLifecyclePolicy)),
		op.New("DeleteLifecyclePolicy", onRepository(s, "ecr:DeleteLifecyclePolicy", func(in *api.DeleteLifecyclePolicyInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.DeleteLifecyclePolicy)),
		op.New("StartLifecyclePolicyPreview", onRepository(s, "ecr:StartLifecyclePolicyPreview", func(in *api.StartLifecyclePolicyPreviewInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.StartLifecyclePolicyPreview)),
		op.New("GetLifecyclePolicyPreview", onRepository(s, "ecr:GetLifecyclePolicyPreview", func(in *api.GetLifecyclePolicyPreviewInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.GetLifecyclePolicyPreview)),
		op.New("PutImageScanningConfiguration", onRepository(s, "ecr:PutImageScanningConfiguration", func(in *api.PutImageScanningConfigurationInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.PutImageScanningConfiguration)),
		op.New("BatchGetRepositoryScanningConfiguration", s.mayGetScanning, told(s.BatchGetRepositoryScanningConfiguration)),
		op.New("TagResource", s.mayTag, told(s.TagResource)),
		op.New("UntagResource", s.mayUntag, told(s.UntagResource)),
		op.New("ListTagsForResource", s.mayListTags, told(s.ListTagsForResource)),
	}
}

func (s *Service) imageOperations() []op.Operation {
	return []op.Operation{
		op.New("PutImage", onRepository(s, "ecr:PutImage", func(in *api.PutImageInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.PutImage)),
		op.New("BatchGetImage", onRepository(s, "ecr:BatchGetImage", func(in *api.BatchGetImageInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.BatchGetImage)),
		op.New("BatchDeleteImage", onRepository(s, "ecr:BatchDeleteImage", func(in *api.BatchDeleteImageInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.BatchDeleteImage)),
		op.New("ListImages", onRepository(s, "ecr:ListImages", func(in *api.ListImagesInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.ListImages)),
		op.New("DescribeImages", onRepository(s, "ecr:DescribeImages", func(in *api.DescribeImagesInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.DescribeImages)),
		op.New("ListImageReferrers", onRepository(s, "ecr:ListImageReferrers", func(in *api.ListImageReferrersInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.ListImageReferrers)),
		op.New("UpdateImageStorageClass", onRepository(s, "ecr:UpdateImageStorageClass", func(in *api.UpdateImageStorageClassInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.UpdateImageStorageClass)),
		op.New("StartImageScan", onRepository(s, "ecr:StartImageScan", func(in *api.StartImageScanInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.StartImageScan)),
		op.New("DescribeImageScanFindings", onRepository(s, "ecr:DescribeImageScanFindings", func(in *api.DescribeImageScanFindingsInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.DescribeImageScanFindings)),
		op.New("DescribeImageReplicationStatus", onRepository(s, "ecr:DescribeImageReplicationStatus", func(in *api.DescribeImageReplicationStatusInput) named {
			return named{in.RegistryId, in.RepositoryName}
		}), told(s.DescribeImageReplicationStatus)),
		op.New("DescribeImageSigningStatus", onRepository(s, "ecr:DescribeImageSigningStatus", func(in *api.DescribeImageSigningStatusInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.DescribeImageSigningStatus)),
	}
}

func (s *Service) layerOperations() []op.Operation {
	return []op.Operation{
		op.New("BatchCheckLayerAvailability", onRepository(s, "ecr:BatchCheckLayerAvailability", func(in *api.BatchCheckLayerAvailabilityInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.BatchCheckLayerAvailability)),
		op.New("GetDownloadUrlForLayer", onRepository(s, "ecr:GetDownloadUrlForLayer", func(in *api.GetDownloadUrlForLayerInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.GetDownloadUrlForLayer)),
		op.New("InitiateLayerUpload", onRepository(s, "ecr:InitiateLayerUpload", func(in *api.InitiateLayerUploadInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.InitiateLayerUpload)),
		op.New("UploadLayerPart", onRepository(s, "ecr:UploadLayerPart", func(in *api.UploadLayerPartInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.UploadLayerPart)),
		op.New("CompleteLayerUpload", onRepository(s, "ecr:CompleteLayerUpload", func(in *api.CompleteLayerUploadInput) named { return named{in.RegistryId, in.RepositoryName} }), told(s.CompleteLayerUpload)),
	}
}

func (s *Service) registryOperations() []op.Operation {
	return []op.Operation{
		op.New("GetAuthorizationToken", onAll[api.GetAuthorizationTokenInput]("ecr:GetAuthorizationToken"), told(s.GetAuthorizationToken)),
		op.New("DescribeRegistry", onAll[api.DescribeRegistryInput]("ecr:DescribeRegistry"), told(s.DescribeRegistry)),
		op.New("PutReplicationConfiguration", onAll[api.PutReplicationConfigurationInput]("ecr:PutReplicationConfiguration"), told(s.PutReplicationConfiguration)),
		op.New("PutRegistryPolicy", onAll[api.PutRegistryPolicyInput]("ecr:PutRegistryPolicy"), told(s.PutRegistryPolicy)),
		op.New("GetRegistryPolicy", onAll[api.GetRegistryPolicyInput]("ecr:GetRegistryPolicy"), told(s.GetRegistryPolicy)),
		op.New("DeleteRegistryPolicy", onAll[api.DeleteRegistryPolicyInput]("ecr:DeleteRegistryPolicy"), told(s.DeleteRegistryPolicy)),
		op.New("PutRegistryScanningConfiguration", onAll[api.PutRegistryScanningConfigurationInput]("ecr:PutRegistryScanningConfiguration"), told(s.PutRegistryScanningConfiguration)),
		op.New("GetRegistryScanningConfiguration", onAll[api.GetRegistryScanningConfigurationInput]("ecr:GetRegistryScanningConfiguration"), told(s.GetRegistryScanningConfiguration)),
		op.New("PutAccountSetting", onAll[api.PutAccountSettingInput]("ecr:PutAccountSetting"), told(s.PutAccountSetting)),
		op.New("GetAccountSetting", onAll[api.GetAccountSettingInput]("ecr:GetAccountSetting"), told(s.GetAccountSetting)),
		op.New("PutSigningConfiguration", onAll[api.PutSigningConfigurationInput]("ecr:PutSigningConfiguration"), told(s.PutSigningConfiguration)),
		op.New("GetSigningConfiguration", onAll[api.GetSigningConfigurationInput]("ecr:GetSigningConfiguration"), told(s.GetSigningConfiguration)),
		op.New("DeleteSigningConfiguration", onAll[api.DeleteSigningConfigurationInput]("ecr:DeleteSigningConfiguration"), told(s.DeleteSigningConfiguration)),
		op.New("RegisterPullTimeUpdateExclusion", onAll[api.RegisterPullTimeUpdateExclusionInput]("ecr:RegisterPullTimeUpdateExclusion"), told(s.RegisterPullTimeUpdateExclusion)),
		op.New("DeregisterPullTimeUpdateExclusion", onAll[api.DeregisterPullTimeUpdateExclusionInput]("ecr:DeregisterPullTimeUpdateExclusion"), told(s.DeregisterPullTimeUpdateExclusion)),
		op.New("ListPullTimeUpdateExclusions", onAll[api.ListPullTimeUpdateExclusionsInput]("ecr:ListPullTimeUpdateExclusions"), told(s.ListPullTimeUpdateExclusions)),
		op.New("CreatePullThroughCacheRule", withRole("ecr:CreatePullThroughCacheRule", func(in *api.CreatePullThroughCacheRuleInput) *string { return in.CustomRoleArn }), told(s.CreatePullThroughCacheRule)),
		op.New("DescribePullThroughCacheRules", onAll[api.DescribePullThroughCacheRulesInput]("ecr:DescribePullThroughCacheRules"), told(s.DescribePullThroughCacheRules)),
		op.New("UpdatePullThroughCacheRule", withRole("ecr:UpdatePullThroughCacheRule", func(in *api.UpdatePullThroughCacheRuleInput) *string { return in.CustomRoleArn }), told(s.UpdatePullThroughCacheRule)),
		op.New("DeletePullThroughCacheRule", onAll[api.DeletePullThroughCacheRuleInput]("ecr:DeletePullThroughCacheRule"), told(s.DeletePullThroughCacheRule)),
		op.New("ValidatePullThroughCacheRule", onAll[api.ValidatePullThroughCacheRuleInput]("ecr:ValidatePullThroughCacheRule"), told(s.ValidatePullThroughCacheRule)),
		op.New("CreateRepositoryCreationTemplate", withRole("ecr:CreateRepositoryCreationTemplate", func(in *api.CreateRepositoryCreationTemplateInput) *string { return in.CustomRoleArn }), told(s.CreateRepositoryCreationTemplate)),
		op.New("DescribeRepositoryCreationTemplates", onAll[api.DescribeRepositoryCreationTemplatesInput]("ecr:DescribeRepositoryCreationTemplates"), told(s.DescribeRepositoryCreationTemplates)),
		op.New("UpdateRepositoryCreationTemplate", withRole("ecr:UpdateRepositoryCreationTemplate", func(in *api.UpdateRepositoryCreationTemplateInput) *string { return in.CustomRoleArn }), told(s.UpdateRepositoryCreationTemplate)),
		op.New("DeleteRepositoryCreationTemplate", onAll[api.DeleteRepositoryCreationTemplateInput]("ecr:DeleteRepositoryCreationTemplate"), told(s.DeleteRepositoryCreationTemplate)),
	}
}

// told makes the registry's errors those of the API's model.
func told[I, O any](h op.Handler[I, O]) op.Handler[I, O] {
	return func(ctx context.Context, sc auth.Scope, in *I) (*O, error) {
		out, err := h(ctx, sc, in)
		return out, modelled(err)
	}
}

func modelled(err error) error {
	e, ok := errors.AsType[*registry.Error](err)
	if !ok {
		return err
	}
	text := &e.Text
	switch e.Code {
	case registry.RepositoryNotFound:
		return &api.RepositoryNotFoundException{Message: text}
	case registry.RepositoryExists:
		return &api.RepositoryAlreadyExistsException{Message: text}
	case registry.RepositoryNotEmpty:
		return &api.RepositoryNotEmptyException{Message: text}
	case registry.ImageNotFound:
		return &api.ImageNotFoundException{Message: text}
	case registry.TagImmutable:
		return &api.ImageTagAlreadyExistsException{Message: text}
	case registry.DigestMismatch:
		return &api.ImageDigestDoesNotMatchException{Message: text}
	case registry.LayersNotFound, registry.LayerNotFound:
		return &api.LayersNotFoundException{Message: text}
	case registry.ReferencedImagesNotFound:
		return &api.ReferencedImagesNotFoundException{Message: text}
	case registry.LayerInvalid:
		return &api.InvalidLayerException{Message: text}
	case registry.LayerEmpty:
		return &api.EmptyUploadException{Message: text}
	case registry.UploadNotFound:
		return &api.UploadNotFoundException{Message: text}
	case registry.LimitExceeded:
		return &api.LimitExceededException{Message: text}
	case registry.ParameterInvalid:
		return &api.InvalidParameterException{Message: text}
	}
	return err
}

// invalid is the error of a parameter, in ECR's words.
func invalid(parameter, format string, args ...any) error {
	return &api.InvalidParameterException{Message: new("Invalid parameter at '" + parameter + "' failed to satisfy constraint: '" + fmt.Sprintf(format, args...) + "'")}
}

// refused is a ValidationException.
func refused(format string, args ...any) error {
	return &api.ValidationException{Message: new(fmt.Sprintf(format, args...))}
}

// writeToken makes an opaque token of where the next page begins.
func writeToken(s string) *string { return new(base64.RawURLEncoding.EncodeToString([]byte(s))) }

// readToken reads a token; none is the beginning.
func readToken(token *string) (string, error) {
	if token == nil {
		return "", nil
	}
	b, err := base64.RawURLEncoding.DecodeString(*token)
	if err != nil || len(b) == 0 {
		return "", invalid("nextToken", "Invalid token")
	}
	return string(b), nil
}

// limit returns a page's size.
func limit(given *int32, usual int) int {
	if given == nil {
		return usual
	}
	return int(*given)
}
