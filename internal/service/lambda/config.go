package lambda

import (
	"regexp"
	"strings"

	api "skerry/internal/api/lambda"
	"skerry/internal/base/awserr"
)

// The limits and defaults of "Lambda quotas" and "CreateFunction".
const (
	defaultTimeout = 3     // seconds
	maxTimeout     = 900   // seconds
	defaultMemory  = 128   // MB
	maxMemory      = 10240 // MB
	defaultStorage = 512   // MB
	maxEnvironment = 4096  // bytes of names and values
	maxLayers      = 5

	// memoryOfCPU is the MB at which a function has one processor.
	memoryOfCPU = 1769
)

// reserved are the variables that the runtime sets: "Using Lambda environment
// variables: Defined runtime environment variables".
var reserved = map[string]bool{
	"_HANDLER": true, "_X_AMZN_TRACE_ID": true, "AWS_DEFAULT_REGION": true, "AWS_REGION": true,
	"AWS_EXECUTION_ENV": true, "AWS_LAMBDA_FUNCTION_NAME": true, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": true,
	"AWS_LAMBDA_FUNCTION_VERSION": true, "AWS_LAMBDA_INITIALIZATION_TYPE": true, "AWS_LAMBDA_LOG_GROUP_NAME": true,
	"AWS_LAMBDA_LOG_STREAM_NAME": true, "AWS_ACCESS_KEY": true, "AWS_ACCESS_KEY_ID": true, "AWS_SECRET_ACCESS_KEY": true,
	"AWS_SESSION_TOKEN": true, "AWS_LAMBDA_RUNTIME_API": true, "LAMBDA_TASK_ROOT": true, "LAMBDA_RUNTIME_DIR": true,
	"AWS_LAMBDA_MAX_CONCURRENCY": true, "AWS_LAMBDA_METADATA_API": true, "AWS_LAMBDA_METADATA_TOKEN": true,
}

// changes are the parts of a configuration that a request sets; nil leaves a part
// as it is.
type changes struct {
	Runtime, Handler, Role, Description, KMSKey *string
	Timeout, Memory                             *int32
	Storage                                     *api.EphemeralStorage
	Environment                                 *api.Environment
	DeadLetter                                  *api.DeadLetterConfig
	Tracing                                     *api.TracingConfig
	Log                                         *api.LoggingConfig
	Architectures                               []string

	// What is not built, so that it is refused and not ignored.
	VPC         *api.VpcConfig
	FileSystems []api.FileSystemConfig
	Image       *api.ImageConfig
	SnapStart   *api.SnapStart
	Capacity    *api.CapacityProviderConfig
	Durable     *api.DurableConfig
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// apply checks the changes and makes them. name is the function's.
func (ch *changes) apply(c *config, name string) error {
	if err := ch.refuseUnbuilt(); err != nil {
		return err
	}
	set(&c.Runtime, ch.Runtime)
	set(&c.Handler, ch.Handler)
	set(&c.Role, ch.Role)
	set(&c.Description, ch.Description)
	set(&c.KMSKey, ch.KMSKey)
	set(&c.Timeout, ch.Timeout)
	set(&c.Memory, ch.Memory)
	if ch.Storage != nil {
		set(&c.Storage, ch.Storage.Size)
	}
	if ch.Environment != nil {
		c.Environment = ch.Environment.Variables
	}
	if ch.DeadLetter != nil {
		c.DeadLetter = deref(ch.DeadLetter.TargetArn)
	}
	if ch.Tracing != nil {
		set(&c.Tracing, ch.Tracing.Mode)
	}
	if len(ch.Architectures) > 0 {
		c.Architecture = ch.Architectures[0]
	}
	if l := ch.Log; l != nil {
		set(&c.Log.Format, l.LogFormat)
		set(&c.Log.Application, l.ApplicationLogLevel)
		set(&c.Log.System, l.SystemLogLevel)
		set(&c.Log.Group, l.LogGroup)
	}
	if c.Log.Group == "" {
		c.Log.Group = "/aws/lambda/" + name
	}
	return c.check()
}

// refuseUnbuilt answers for what this service would otherwise only store.
func (ch *changes) refuseUnbuilt() error {
	unbuilt := func(what string) error {
		return awserr.New(501, "NotImplementedException", "Skerry's Lambda does not have %s yet.", what)
	}
	switch {
	case ch.KMSKey != nil && *ch.KMSKey != "":
		return unbuilt("customer managed keys (KMSKeyArn)")
	case ch.Tracing != nil && deref(ch.Tracing.Mode) == "Active":
		return unbuilt("active tracing (TracingConfig)")
	case ch.VPC != nil && len(ch.VPC.SubnetIds)+len(ch.VPC.SecurityGroupIds) > 0:
		return unbuilt("functions in a VPC (VpcConfig)")
	case len(ch.FileSystems) > 0:
		return unbuilt("file systems (FileSystemConfigs)")
	case ch.Image != nil:
		return unbuilt("functions of container images (ImageConfig)")
	case ch.SnapStart != nil && deref(ch.SnapStart.ApplyOn) == "PublishedVersions":
		return unbuilt("SnapStart")
	case ch.Capacity != nil:
		return unbuilt("capacity providers")
	case ch.Durable != nil:
		return unbuilt("durable functions")
	}
	return nil
}

var (
	runtimeForm = regexp.MustCompile(`^(python3\.(9|1[0-9])|nodejs(1[89]|[2-9][0-9])\.x|provided\.al2|provided\.al2023)$`)
	roleForm    = regexp.MustCompile(`^arn:aws:iam::\d{12}:role/.+$`)
)

// check holds a configuration to Lambda's limits.
func (c *config) check() error {
	if !runtimeForm.MatchString(c.Runtime) {
		return invalid("The runtime parameter of %s is not supported: Skerry runs python3.9 and later, nodejs18.x and later, "+
			"provided.al2 and provided.al2023.", c.Runtime)
	}
	switch {
	case c.Handler == "":
		return invalid("Runtime and Handler are mandatory parameters for functions created with deployment packages.")
	case c.Timeout > maxTimeout:
		return outOfRange(c.Timeout, "timeout", "less", maxTimeout)
	case c.Memory > maxMemory:
		return outOfRange(c.Memory, "memorySize", "less", maxMemory)
	case !roleForm.MatchString(c.Role):
		return invalid("The role defined for the function cannot be assumed by Lambda.")
	case c.Architecture != hostArchitecture:
		return invalid("Architecture %s cannot run here: this machine is %s.", c.Architecture, hostArchitecture)
	}
	if err := c.checkDeadLetter(); err != nil {
		return err
	}
	if c.Log.Format == "Text" && (c.Log.Application != "" || c.Log.System != "") {
		return invalid("LogLevel is not supported when LogFormat is set to \"Text\". Remove LogLevel from your request or change the LogFormat to \"JSON\" and try again.")
	}
	return c.checkEnvironment()
}

func (c *config) checkDeadLetter() error {
	a := c.DeadLetter
	if a == "" || strings.HasPrefix(a, "arn:aws:sqs:") || strings.HasPrefix(a, "arn:aws:sns:") {
		return nil
	}
	return invalid("The provided target is not a valid SQS or SNS ARN: %s", a)
}

func (c *config) checkEnvironment() error {
	size := 0
	var bad []string
	for name, value := range c.Environment {
		size += len(name) + len(value)
		if reserved[name] {
			bad = append(bad, name)
		}
	}
	if len(bad) > 0 {
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided "+
			"contains reserved keys that are currently not supported for modification. Reserved keys used in this request: %s", strings.Join(bad, ", "))
	}
	if size > maxEnvironment {
		return invalid("Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. "+
			"String measured: %s", measured(c.Environment))
	}
	return nil
}

// measured is how Lambda shows the environment that is too long.
func measured(env map[string]string) string {
	b, err := jsonText(env)
	if err != nil {
		return ""
	}
	return b
}

func defaults() config {
	return config{
		Timeout: defaultTimeout, Memory: defaultMemory, Storage: defaultStorage, Architecture: "x86_64", Tracing: "PassThrough",
		Log: logConfig{Format: "Text"},
	}
}
