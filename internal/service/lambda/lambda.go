package lambda

import (
	"context"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	api "skerry/internal/api/lambda"
	"skerry/internal/auth"
	"skerry/internal/base/clock"
	"skerry/internal/blob"
	"skerry/internal/engine"
	"skerry/internal/engine/resolver"
	"skerry/internal/events"
	"skerry/internal/loop"
	"skerry/internal/meter"
	"skerry/internal/op"
	"skerry/internal/service/lambda/runtime"
	"skerry/internal/store"
)

// Deps is what the service needs of the rest.
type Deps struct {
	Store     *store.DB
	Blobs     blob.Store
	Clock     clock.Clock
	Log       *slog.Logger
	Cloud     op.Caller
	Directory auth.Directory // to look up the keys of functions' roles
	Outbox    *events.Outbox
	Meter     *meter.Meter
	Engine    engine.Engine
	Wake      func(loop string) // wakes one of Loops; may be nil
	Config
}

// Config is what the service is told about this machine.
type Config struct {
	// Dir is a folder for what can be made again: unpacked code, the bootstraps.
	Dir string
	// Endpoint is Skerry's address for clients: http://127.0.0.1:4566.
	Endpoint string
	// Serve answers AWS's API on a listener inside of a sandbox, in clear text and
	// TLS, until the listener is closed. Without it functions cannot reach Skerry.
	Serve func(net.Listener) error
	// CABundle is a file with the machine's certificate authorities and Skerry's.
	CABundle string
	// Interpreters are the programs for runtimes ("python3.12"), instead of those
	// that are found on the machine.
	Interpreters map[string]string
	// NodeModules is a folder with the AWS SDK for JavaScript, for Node.js functions.
	NodeModules string
	// Outside lets functions reach the outside world.
	Outside bool
	// Ahead is how many interpreters of each kind in use are kept started ahead, for
	// each account. Zero starts none.
	Ahead int
}

// Service is Lambda.
type Service struct {
	Deps
	born time.Time
	// initLimit is how long a function may initialise before its first event.
	initLimit time.Duration
	fleet     *fleet
	logs      *logbook
	keys      *keyring
	children  *loop.Children
	api       *runtime.Server
	resolver  *resolver.Resolver
	cleared   atomic.Bool
	diskless  atomic.Bool // /tmp is in memory, as the machine has no disks
	found     struct {
		sync.Mutex
		interpreters map[string]*interpreter
		failed       map[string]noImage // base images that could not be had
	}
}

// New returns the service. Its deliveries find it in the outbox.
func New(d Deps) *Service {
	s := &Service{Deps: d, born: d.Clock.Now(), initLimit: initLimit, fleet: newFleet(), logs: &logbook{dirty: map[*logStream]struct{}{}},
		keys: &keyring{keys: map[keyName]key{}}, children: loop.NewChildren(d.Log), api: runtime.NewServer(), resolver: newResolver()}
	if s.NodeModules == "" {
		s.NodeModules = findSDK()
	}
	s.found.interpreters, s.found.failed = map[string]*interpreter{}, map[string]noImage{}
	if d.Outbox != nil {
		d.Outbox.Handle(asyncKind, asyncTarget{s})
	}
	return s
}

func (s *Service) wake(name string) {
	if s.Wake != nil {
		s.Wake(name)
	}
}

// hostOf is the host and port of a URL.
func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.Host
}

// runRecord writes functions' logs.
func (s *Service) runRecord(ctx context.Context) (string, error) {
	s.follow(ctx)
	n, err := s.ship(ctx)
	return plural(n, "log event"), err
}

// Close writes the logs that wait and ends all sandboxes. The loops have stopped.
func (s *Service) Close(ctx context.Context) error {
	_, err := s.ship(ctx)
	s.fleet.mu.Lock()
	var all []*sandbox
	for _, sb := range s.fleet.all {
		all = append(all, sb)
	}
	s.fleet.mu.Unlock()
	for _, sb := range all {
		s.remove(ctx, sb)
	}
	_ = s.api.Close()
	return err
}

// Erase removes what the service keeps outside of the store and the blobs.
func (s *Service) Erase() error { return os.RemoveAll(filepath.Join(s.Dir, "code")) }

// Service returns the operations.
func (s *Service) Service() op.Service {
	r := rules{s}
	actions := map[string]string{
		"Invoke": "InvokeFunction", "InvokeWithResponseStream": "InvokeFunction", "GetLayerVersionByArn": "GetLayerVersion",
	}
	return op.Service{API: api.Schema, Actions: actions, Data: []string{"Invoke", "InvokeWithResponseStream"}, Operations: []op.Operation{
		op.New("CreateFunction", r.createFunction, s.CreateFunction),
		op.New("GetFunction", onFunction(r, "GetFunction", func(in *api.GetFunctionInput) (*string, *string) { return in.FunctionName, in.Qualifier }), s.GetFunction),
		op.New("GetFunctionConfiguration", onFunction(r, "GetFunctionConfiguration", func(in *api.GetFunctionConfigurationInput) (*string, *string) { return in.FunctionName, in.Qualifier }), s.GetFunctionConfiguration),
		op.New("UpdateFunctionCode", r.updateFunctionCode, s.UpdateFunctionCode),
		op.New("UpdateFunctionConfiguration", r.updateFunctionConfiguration, s.UpdateFunctionConfiguration),
		op.New("DeleteFunction", onFunction(r, "DeleteFunction", func(in *api.DeleteFunctionInput) (*string, *string) { return in.FunctionName, in.Qualifier }), s.DeleteFunction),
		op.New("ListFunctions", everything[api.ListFunctionsInput]("ListFunctions"), s.ListFunctions),

		op.New("Invoke", r.invoke, s.Invoke),
		op.New("InvokeWithResponseStream", r.invokeStream, s.InvokeWithResponseStream),

		op.New("PublishVersion", onFunction(r, "PublishVersion", func(in *api.PublishVersionInput) (*string, *string) { return in.FunctionName, nil }), s.PublishVersion),
		op.New("ListVersionsByFunction", onFunction(r, "ListVersionsByFunction", func(in *api.ListVersionsByFunctionInput) (*string, *string) { return in.FunctionName, nil }), s.ListVersionsByFunction),
		op.New("CreateAlias", onFunction(r, "CreateAlias", func(in *api.CreateAliasInput) (*string, *string) { return in.FunctionName, nil }), s.CreateAlias),
		op.New("UpdateAlias", onFunction(r, "UpdateAlias", func(in *api.UpdateAliasInput) (*string, *string) { return in.FunctionName, nil }), s.UpdateAlias),
		op.New("GetAlias", onFunction(r, "GetAlias", func(in *api.GetAliasInput) (*string, *string) { return in.FunctionName, nil }), s.GetAlias),
		op.New("DeleteAlias", onFunction(r, "DeleteAlias", func(in *api.DeleteAliasInput) (*string, *string) { return in.FunctionName, nil }), s.DeleteAlias),
		op.New("ListAliases", onFunction(r, "ListAliases", func(in *api.ListAliasesInput) (*string, *string) { return in.FunctionName, nil }), s.ListAliases),

		op.New("AddPermission", onFunction(r, "AddPermission", func(in *api.AddPermissionInput) (*string, *string) { return in.FunctionName, in.Qualifier }), s.AddPermission),
		op.New("RemovePermission", onFunction(r, "RemovePermission", func(in *api.RemovePermissionInput) (*string, *string) { return in.FunctionName, in.Qualifier }), s.RemovePermission),
		op.New("GetPolicy", onFunction(r, "GetPolicy", func(in *api.GetPolicyInput) (*string, *string) { return in.FunctionName, in.Qualifier }), s.GetPolicy),

		op.New("PutFunctionConcurrency", onFunction(r, "PutFunctionConcurrency", func(in *api.PutFunctionConcurrencyInput) (*string, *string) { return in.FunctionName, nil }), s.PutFunctionConcurrency),
		op.New("GetFunctionConcurrency", onFunction(r, "GetFunctionConcurrency", func(in *api.GetFunctionConcurrencyInput) (*string, *string) { return in.FunctionName, nil }), s.GetFunctionConcurrency),
		op.New("DeleteFunctionConcurrency", onFunction(r, "DeleteFunctionConcurrency", func(in *api.DeleteFunctionConcurrencyInput) (*string, *string) { return in.FunctionName, nil }), s.DeleteFunctionConcurrency),
		op.New("GetAccountSettings", everything[api.GetAccountSettingsInput]("GetAccountSettings"), s.GetAccountSettings),

		op.New("PutFunctionEventInvokeConfig", onFunction(r, "PutFunctionEventInvokeConfig", func(in *api.PutFunctionEventInvokeConfigInput) (*string, *string) {
			return in.FunctionName, in.Qualifier
		}), s.PutFunctionEventInvokeConfig),
		op.New("UpdateFunctionEventInvokeConfig", onFunction(r, "UpdateFunctionEventInvokeConfig", func(in *api.UpdateFunctionEventInvokeConfigInput) (*string, *string) {
			return in.FunctionName, in.Qualifier
		}), s.UpdateFunctionEventInvokeConfig),
		op.New("GetFunctionEventInvokeConfig", onFunction(r, "GetFunctionEventInvokeConfig", func(in *api.GetFunctionEventInvokeConfigInput) (*string, *string) {
			return in.FunctionName, in.Qualifier
		}), s.GetFunctionEventInvokeConfig),
		op.New("DeleteFunctionEventInvokeConfig", onFunction(r, "DeleteFunctionEventInvokeConfig", func(in *api.DeleteFunctionEventInvokeConfigInput) (*string, *string) {
			return in.FunctionName, in.Qualifier
		}), s.DeleteFunctionEventInvokeConfig),
		op.New("ListFunctionEventInvokeConfigs", onFunction(r, "ListFunctionEventInvokeConfigs", func(in *api.ListFunctionEventInvokeConfigsInput) (*string, *string) { return in.FunctionName, nil }), s.ListFunctionEventInvokeConfigs),

		op.New("TagResource", onFunction(r, "TagResource", func(in *api.TagResourceInput) (*string, *string) { return in.Resource, nil }), s.TagResource),
		op.New("UntagResource", onFunction(r, "UntagResource", func(in *api.UntagResourceInput) (*string, *string) { return in.Resource, nil }), s.UntagResource),
		op.New("ListTags", onFunction(r, "ListTags", func(in *api.ListTagsInput) (*string, *string) { return in.Resource, nil }), s.ListTags),

		op.New("PublishLayerVersion", onLayer(r, "PublishLayerVersion", func(in *api.PublishLayerVersionInput) (*string, *int64) { return in.LayerName, nil }), s.PublishLayerVersion),
		op.New("GetLayerVersion", onLayer(r, "GetLayerVersion", func(in *api.GetLayerVersionInput) (*string, *int64) { return in.LayerName, in.VersionNumber }), s.GetLayerVersion),
		op.New("GetLayerVersionByArn", onLayer(r, "GetLayerVersion", func(in *api.GetLayerVersionByArnInput) (*string, *int64) { return in.Arn, nil }), s.GetLayerVersionByArn),
		op.New("DeleteLayerVersion", onLayer(r, "DeleteLayerVersion", func(in *api.DeleteLayerVersionInput) (*string, *int64) { return in.LayerName, in.VersionNumber }), s.DeleteLayerVersion),
		op.New("ListLayerVersions", everything[api.ListLayerVersionsInput]("ListLayerVersions"), s.ListLayerVersions),
		op.New("ListLayers", everything[api.ListLayersInput]("ListLayers"), s.ListLayers),
	}}
}
