package lambda

import (
	"fmt"
	"strings"
	"time"
)

// runtimeAPI is where the Runtime API listens inside of every sandbox.
const runtimeAPI = "127.0.0.1:9001"

// caBundle is where the certificate authorities are inside: the machine's and
// Skerry's own.
const caBundle = "/etc/ssl/certs/ca-certificates.crt"

// environment is what a function's process finds in its environment: "Using
// Lambda environment variables".
func (s *Service) environment(t *target, stream string, k key) map[string]string {
	c := &t.version.Config
	env := map[string]string{
		"PATH":            "/usr/local/bin:/usr/bin:/bin:/opt/bin",
		"LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
		"LANG":            "en_US.UTF-8",
		"TZ":              ":UTC",
		"SHLVL":           "0",

		"AWS_ENDPOINT_URL":   s.insideEndpoint(),
		"AWS_CA_BUNDLE":      caBundle,
		"SSL_CERT_FILE":      caBundle,
		"REQUESTS_CA_BUNDLE": caBundle,

		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
	}
	switch {
	case strings.HasPrefix(c.Runtime, "python"):
		env["PYTHONPATH"] = "/var/runtime"
	case strings.HasPrefix(c.Runtime, "nodejs"):
		major := strings.TrimSuffix(strings.TrimPrefix(c.Runtime, "nodejs"), ".x")
		env["NODE_PATH"] = "/opt/nodejs/node" + major + "/node_modules:/opt/nodejs/node_modules:/var/runtime/node_modules:/var/runtime:/var/task"
	}
	for name, value := range c.Environment {
		env[name] = value
	}
	for name, value := range map[string]string{
		"_HANDLER":                        c.Handler,
		"AWS_REGION":                      t.ref.Region,
		"AWS_DEFAULT_REGION":              t.ref.Region,
		"AWS_EXECUTION_ENV":               "AWS_Lambda_" + c.Runtime,
		"AWS_LAMBDA_FUNCTION_NAME":        t.ref.Name,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": fmt.Sprint(c.Memory),
		"AWS_LAMBDA_FUNCTION_VERSION":     versionName(t.version.Number),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       c.Log.Group,
		"AWS_LAMBDA_LOG_STREAM_NAME":      stream,
		"AWS_LAMBDA_LOG_FORMAT":           c.Log.Format,
		"AWS_LAMBDA_RUNTIME_API":          runtimeAPI,
		"AWS_ACCESS_KEY_ID":               k.ID,
		"AWS_SECRET_ACCESS_KEY":           k.Secret,
		"AWS_SESSION_TOKEN":               k.Token,
		"LAMBDA_TASK_ROOT":                "/var/task",
		"LAMBDA_RUNTIME_DIR":              "/var/runtime",
	} {
		env[name] = value
	}
	if c.Log.Format == "JSON" {
		level := c.Log.Application
		if level == "" {
			level = "INFO"
		}
		env["AWS_LAMBDA_LOG_LEVEL"] = level
	}
	return env
}

// earlyNames begin the names of variables that a program reads as it starts, so
// that they come too late for one that was started ahead.
var earlyNames = []string{"PYTHON", "NODE_", "LD_", "LANG", "LC_", "GLIBC", "MALLOC", "UV_", "OPENSSL", "SSL_", "AWS_LAMBDA_EXEC_WRAPPER", "TZ"}

// early tells whether a function sets variables that must be there at the start.
func (c *config) early() bool {
	for name := range c.Environment {
		for _, prefix := range earlyNames {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
	}
	return false
}

// streamName makes the name of a log stream: 2024/01/31/[$LATEST]0123456789abcdef...
func streamName(now time.Time, version, random string) string {
	return now.UTC().Format("2006/01/02/") + "[" + version + "]" + random
}
