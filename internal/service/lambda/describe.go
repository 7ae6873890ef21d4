package lambda

import (
	"encoding/json"
	"runtime"
	"time"

	api "skerry/internal/api/lambda"
)

// hostArchitecture is this machine's in Lambda's words.
var hostArchitecture = map[string]string{"amd64": "x86_64", "arm64": "arm64"}[runtime.GOARCH]

// timestamp writes a time as Lambda does in JSON: 2024-01-31T12:00:00.000+0000.
func timestamp(t time.Time) *string { return new(t.UTC().Format("2006-01-02T15:04:05.000-0700")) }

func jsonText(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// describe is FunctionConfiguration. A version's ARN is qualified; $LATEST's only
// if the caller wrote so.
func (v *versionRow) describe(qualified bool) *api.FunctionConfiguration {
	c := &v.Config
	r := v.ref()
	if !qualified && v.Number == 0 {
		r.Qualifier = ""
	}
	out := &api.FunctionConfiguration{
		FunctionName: &v.Name, FunctionArn: new(r.ARN()), Runtime: &c.Runtime, Role: &c.Role, Handler: &c.Handler,
		CodeSize: &v.Code.Size, Description: &c.Description, Timeout: &c.Timeout, MemorySize: &c.Memory,
		LastModified: timestamp(v.Modified), CodeSha256: &v.Code.SHA256, Version: new(versionName(v.Number)),
		TracingConfig: &api.TracingConfigResponse{Mode: &c.Tracing}, RevisionId: &v.Revision,
		State: &v.State, StateReason: orNil(v.StateReason), StateReasonCode: orNil(v.StateCode),
		LastUpdateStatus: orNil(v.Update), LastUpdateStatusReason: orNil(v.UpdateReason), LastUpdateStatusReasonCode: orNil(v.UpdateCode),
		PackageType: new("Zip"), Architectures: []string{c.Architecture},
		EphemeralStorage:     &api.EphemeralStorage{Size: &c.Storage},
		SnapStart:            &api.SnapStartResponse{ApplyOn: new("None"), OptimizationStatus: new("Off")},
		RuntimeVersionConfig: &api.RuntimeVersionConfig{RuntimeVersionArn: new(runtimeARN(v.Region, c.Runtime))},
		LoggingConfig: &api.LoggingConfig{LogFormat: &c.Log.Format, ApplicationLogLevel: orNil(c.Log.Application),
			SystemLogLevel: orNil(c.Log.System), LogGroup: &c.Log.Group},
		KMSKeyArn: orNil(c.KMSKey),
	}
	if c.Environment != nil {
		out.Environment = &api.EnvironmentResponse{Variables: c.Environment}
	}
	if c.DeadLetter != "" {
		out.DeadLetterConfig = &api.DeadLetterConfig{TargetArn: &c.DeadLetter}
	}
	for _, l := range c.Layers {
		out.Layers = append(out.Layers, api.Layer{Arn: &l.ARN, CodeSize: &l.Size})
	}
	return out
}
