package lambda

import (
	"context"
	"strings"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/base/awserr"
	"skerry/internal/base/ids"
	"skerry/internal/store"
)

// CreateFunction makes a function and, with Publish, its first version.
func (s *Service) CreateFunction(ctx context.Context, sc auth.Scope, in *api.CreateFunctionInput) (*api.CreateFunctionOutput, error) {
	r, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if err := r.unqualified(); err != nil {
		return nil, err
	}
	r.Qualifier = ""
	if r.Account != sc.Account {
		return nil, awserr.New(403, "AccessDeniedException", "Functions are created in the caller's own account.")
	}
	v := &versionRow{Account: r.Account, Region: r.Region, Name: r.Name, Config: defaults(), State: statePending,
		StateReason: "The function is being created.", StateCode: "Creating", Revision: ids.UUID(), Modified: s.Clock.Now()}
	if err := createChanges(in).apply(&v.Config, r.Name); err != nil {
		return nil, err
	}
	if err := s.deliverable(v.Config.DeadLetter); err != nil {
		return nil, err
	}
	if deref(in.PackageType) == "Image" || in.Code == nil || in.Code.ImageUri != nil {
		return nil, awserr.New(501, "NotImplementedException", "Skerry's Lambda does not have functions of container images yet.")
	}
	if in.CodeSigningConfigArn != nil || in.TenancyConfig != nil || in.PublishTo != nil {
		return nil, awserr.New(501, "NotImplementedException", "Skerry's Lambda does not have code signing, tenant isolation and PublishTo yet.")
	}
	exists := conflict("Function already exist: %s", r.Name)
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		if ok, err := functions.Has(tx, r.key()); ok {
			return exists
		} else if err != nil {
			return err
		}
		v.Config.Layers, err = resolveLayers(tx, sc, in.Layers)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := s.checkRole(ctx, sc, v.Config.Role); err != nil {
		return nil, err
	}
	v.Code, err = s.take(ctx, sc, source{Zip: in.Code.ZipFile, Bucket: in.Code.S3Bucket, Key: in.Code.S3Key,
		Version: in.Code.S3ObjectVersion, Operation: "CreateFunction"})
	if err != nil {
		return nil, err
	}
	f := &functionRow{Account: r.Account, Region: r.Region, Name: r.Name, Created: s.Clock.Now(), Tags: in.Tags}
	out := v
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		if err := functions.Insert(tx, f); err == store.ErrExists {
			return exists
		} else if err != nil {
			return err
		}
		v.Number = 0
		if err := versions.Put(tx, v); err != nil || !deref(in.Publish) {
			return err
		}
		out, err = publish(tx, *f, v, "", s.Clock.Now())
		return err
	})
	if err != nil {
		return nil, err
	}
	s.wake(loopStates)
	return (*api.CreateFunctionOutput)(out.describe(false)), nil
}

func createChanges(in *api.CreateFunctionInput) *changes {
	return &changes{
		Runtime: in.Runtime, Handler: in.Handler, Role: in.Role, Description: in.Description, KMSKey: in.KMSKeyArn,
		Timeout: in.Timeout, Memory: in.MemorySize, Storage: in.EphemeralStorage, Environment: in.Environment,
		DeadLetter: in.DeadLetterConfig, Tracing: in.TracingConfig, Log: in.LoggingConfig, Architectures: in.Architectures,
		VPC: in.VpcConfig, FileSystems: in.FileSystemConfigs, Image: in.ImageConfig, SnapStart: in.SnapStart,
		Capacity: in.CapacityProviderConfig, Durable: in.DurableConfig,
	}
}

// change edits $LATEST in a transaction, as both update operations do.
func (s *Service) change(ctx context.Context, r ref, revision *string, edit func(tx *store.Tx, f *functionRow, v *versionRow) (*versionRow, error)) (*versionRow, error) {
	var out *versionRow
	err := s.Store.Update(ctx, func(tx *store.Tx) error {
		f, err := getFunction(tx, r)
		if err != nil {
			return err
		}
		v, err := getVersion(tx, r, 0)
		if err != nil {
			return err
		}
		if err := checkRevision(revision, v.Revision, "GetFunction/GetAlias"); err != nil {
			return err
		}
		if v.State == statePending {
			return conflict("The operation cannot be performed at this time. The function is currently in the following state: Pending")
		}
		if v.Update == updateInProgress {
			return conflict("The operation cannot be performed at this time. An update is in progress for resource: %s", r.functionARN())
		}
		v.Revision, v.Modified = ids.UUID(), s.Clock.Now()
		v.Update, v.UpdateCode, v.UpdateReason = updateInProgress, "Creating", "The function is being created."
		out, err = edit(tx, f, v)
		return err
	})
	if err == nil {
		s.forget(r)
		s.wake(loopStates)
	}
	return out, err
}

// UpdateFunctionConfiguration changes $LATEST.
func (s *Service) UpdateFunctionConfiguration(ctx context.Context, sc auth.Scope, in *api.UpdateFunctionConfigurationInput) (*api.UpdateFunctionConfigurationOutput, error) {
	r, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if err := r.unqualified(); err != nil {
		return nil, err
	}
	if in.Role != nil {
		if err := s.checkRole(ctx, sc, *in.Role); err != nil {
			return nil, err
		}
	}
	ch := &changes{
		Runtime: in.Runtime, Handler: in.Handler, Role: in.Role, Description: in.Description, KMSKey: in.KMSKeyArn,
		Timeout: in.Timeout, Memory: in.MemorySize, Storage: in.EphemeralStorage, Environment: in.Environment,
		DeadLetter: in.DeadLetterConfig, Tracing: in.TracingConfig, Log: in.LoggingConfig,
		VPC: in.VpcConfig, FileSystems: in.FileSystemConfigs, Image: in.ImageConfig, SnapStart: in.SnapStart,
		Capacity: in.CapacityProviderConfig, Durable: in.DurableConfig,
	}
	v, err := s.change(ctx, r, in.RevisionId, func(tx *store.Tx, _ *functionRow, v *versionRow) (*versionRow, error) {
		if err := ch.apply(&v.Config, v.Name); err != nil {
			return nil, err
		}
		if err := s.deliverable(v.Config.DeadLetter); err != nil {
			return nil, err
		}
		if in.Layers != nil {
			used, err := resolveLayers(tx, sc, in.Layers)
			if err != nil {
				return nil, err
			}
			v.Config.Layers = used
		}
		return v, versions.Put(tx, v)
	})
	if err != nil {
		return nil, err
	}
	return (*api.UpdateFunctionConfigurationOutput)(v.describe(false)), nil
}

// UpdateFunctionCode replaces $LATEST's code and, with Publish, publishes it.
func (s *Service) UpdateFunctionCode(ctx context.Context, sc auth.Scope, in *api.UpdateFunctionCodeInput) (*api.UpdateFunctionCodeOutput, error) {
	r, err := parseRef(sc, in.FunctionName, nil)
	if err != nil {
		return nil, err
	}
	if err := r.unqualified(); err != nil {
		return nil, err
	}
	if in.ImageUri != nil || in.PublishTo != nil {
		return nil, awserr.New(501, "NotImplementedException", "Skerry's Lambda does not have functions of container images and PublishTo yet.")
	}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		_, err := getFunction(tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	taken, err := s.take(ctx, sc, source{Zip: in.ZipFile, Bucket: in.S3Bucket, Key: in.S3Key, Version: in.S3ObjectVersion,
		Operation: "UpdateFunctionCode"})
	if err != nil {
		return nil, err
	}
	arch := &changes{Architectures: in.Architectures}
	if deref(in.DryRun) {
		return s.dryUpdate(ctx, r, in, taken, arch)
	}
	v, err := s.change(ctx, r, in.RevisionId, func(tx *store.Tx, f *functionRow, v *versionRow) (*versionRow, error) {
		if err := arch.apply(&v.Config, v.Name); err != nil {
			return nil, err
		}
		v.Code = taken
		if err := versions.Put(tx, v); err != nil || !deref(in.Publish) {
			return v, err
		}
		return publish(tx, *f, v, "", s.Clock.Now())
	})
	if err != nil {
		return nil, err
	}
	return (*api.UpdateFunctionCodeOutput)(v.describe(false)), nil
}

// dryUpdate answers what an update would make, without making it.
func (s *Service) dryUpdate(ctx context.Context, r ref, in *api.UpdateFunctionCodeInput, c code, arch *changes) (*api.UpdateFunctionCodeOutput, error) {
	var out *versionRow
	err := s.Store.View(ctx, func(tx *store.Tx) error {
		v, err := getVersion(tx, r, 0)
		if err != nil {
			return err
		}
		if err := checkRevision(in.RevisionId, v.Revision, "GetFunction/GetAlias"); err != nil {
			return err
		}
		v.Code, out = c, v
		return arch.apply(&v.Config, v.Name)
	})
	if err != nil {
		return nil, err
	}
	return (*api.UpdateFunctionCodeOutput)(out.describe(false)), nil
}

// find reads the version that a name stands for; an alias's main one.
func find(tx *store.Tx, r ref) (*functionRow, *versionRow, error) {
	f, err := getFunction(tx, r)
	if err != nil {
		return nil, nil, r.missing()
	}
	number, err := r.number(tx)
	if err != nil {
		return nil, nil, err
	}
	v, err := getVersion(tx, r, number)
	return f, v, err
}

// GetFunctionConfiguration describes a function or a version.
func (s *Service) GetFunctionConfiguration(ctx context.Context, sc auth.Scope, in *api.GetFunctionConfigurationInput) (*api.GetFunctionConfigurationOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	var v *versionRow
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		_, v, err = find(tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return (*api.GetFunctionConfigurationOutput)(v.describeAs(r)), nil
}

// describeAs describes a version under the name that the caller used.
func (v *versionRow) describeAs(r ref) *api.FunctionConfiguration {
	out := v.describe(r.Qualifier != "")
	if r.kind() == kindAlias {
		out.FunctionArn = new(r.ARN())
	}
	return out
}

// GetFunction describes a function or a version, with a link to its code.
func (s *Service) GetFunction(ctx context.Context, sc auth.Scope, in *api.GetFunctionInput) (*api.GetFunctionOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	var f *functionRow
	var v *versionRow
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		f, v, err = find(tx, r)
		return err
	})
	if err != nil {
		return nil, err
	}
	link, err := s.codeLink(ctx, v.Code, v.Name)
	if err != nil {
		return nil, err
	}
	out := &api.GetFunctionOutput{
		Configuration: v.describeAs(r),
		Code:          &api.FunctionCodeLocation{RepositoryType: new("S3"), Location: &link},
	}
	if len(f.Tags) > 0 {
		out.Tags = f.Tags
	}
	if f.Reserved != nil {
		out.Concurrency = &api.Concurrency{ReservedConcurrentExecutions: f.Reserved}
	}
	return out, nil
}

const maxListed = 50

// ListFunctions lists the account's functions by name; with FunctionVersion ALL,
// their versions too.
func (s *Service) ListFunctions(ctx context.Context, sc auth.Scope, in *api.ListFunctionsInput) (*api.ListFunctionsOutput, error) {
	all := deref(in.FunctionVersion) == "ALL"
	n := limit(in.MaxItems)
	out := &api.ListFunctionsOutput{Functions: []api.FunctionConfiguration{}}
	prefix := store.K(sc.Account, sc.Region)
	after, err := s.marker(in.Marker, prefix)
	if err != nil {
		return nil, err
	}
	err = s.Store.View(ctx, func(tx *store.Tx) error {
		var last store.Key
		for v, err := range versions.Scan(tx, store.Range{Prefix: prefix, After: after}) {
			if err != nil {
				return err
			}
			if !all && v.Number != 0 {
				continue
			}
			if len(out.Functions) == n {
				out.NextMarker = markerOf(last)
				return nil
			}
			out.Functions = append(out.Functions, *listed(v.describe(all)))
			last = store.K(v.Account, v.Region, v.Name, v.Number)
		}
		return nil
	})
	return out, err
}

// listed drops what ListFunctions leaves out: the state.
func listed(c *api.FunctionConfiguration) *api.FunctionConfiguration {
	c.State, c.StateReason, c.StateReasonCode = nil, nil, nil
	c.LastUpdateStatus, c.LastUpdateStatusReason, c.LastUpdateStatusReasonCode = nil, nil, nil
	c.RuntimeVersionConfig = nil
	return c
}

// DeleteFunction removes a function with all that belongs to it, or one published
// version.
func (s *Service) DeleteFunction(ctx context.Context, sc auth.Scope, in *api.DeleteFunctionInput) (*api.DeleteFunctionOutput, error) {
	r, err := parseRef(sc, in.FunctionName, in.Qualifier)
	if err != nil {
		return nil, err
	}
	if r.Qualifier == latest {
		return nil, invalid("$LATEST version cannot be deleted without deleting the function.")
	}
	if r.kind() == kindAlias {
		return nil, invalid("Deletion of aliases is not currently supported.")
	}
	err = s.Store.Update(ctx, func(tx *store.Tx) error {
		if _, err := getFunction(tx, r); err != nil {
			return err
		}
		if r.kind() == kindVersion {
			return deleteVersion(tx, r)
		}
		return deleteAll(tx, r)
	})
	if err != nil {
		return nil, err
	}
	s.forget(r)
	return &api.DeleteFunctionOutput{StatusCode: new(int32(204))}, nil
}

func deleteVersion(tx *store.Tx, r ref) error {
	number, err := r.number(tx)
	if err != nil {
		return nil // what is not there is gone already
	}
	var using []string
	for a, err := range aliases.Scan(tx, store.Range{Prefix: r.key()}) {
		if err != nil {
			return err
		}
		if _, weighted := a.Weights[r.Qualifier]; weighted || a.Version == r.Qualifier {
			using = append(using, a.Alias)
		}
	}
	if len(using) > 0 {
		return conflict("Version %s is referenced by aliases: [%s]. Please delete the aliases before deleting this version.",
			r.Qualifier, strings.Join(using, ", "))
	}
	return versions.Delete(tx, r.key()+store.K(number))
}

func deleteAll(tx *store.Tx, r ref) error {
	if err := functions.Delete(tx, r.key()); err != nil {
		return err
	}
	for v, err := range versions.Scan(tx, store.Range{Prefix: r.key()}) {
		if err != nil {
			return err
		}
		if err := versions.Delete(tx, r.key()+store.K(v.Number)); err != nil {
			return err
		}
	}
	for a, err := range aliases.Scan(tx, store.Range{Prefix: r.key()}) {
		if err != nil {
			return err
		}
		if err := aliases.Delete(tx, r.key()+store.K(a.Alias)); err != nil {
			return err
		}
	}
	for p, err := range policies.Scan(tx, store.Range{Prefix: r.key()}) {
		if err != nil {
			return err
		}
		if err := policies.Delete(tx, r.key()+store.K(p.Qualifier)); err != nil {
			return err
		}
	}
	for a, err := range asyncs.Scan(tx, store.Range{Prefix: r.key()}) {
		if err != nil {
			return err
		}
		if err := asyncs.Delete(tx, r.key()+store.K(a.Qualifier)); err != nil {
			return err
		}
	}
	return nil
}
