package lambda

import (
	"maps"
	"strings"
	"testing"

	api "skerry/internal/api/lambda"
	"skerry/internal/base/awserr"
)

func TestCreateRefusals(t *testing.T) {
	w := newWorld(t, nil)
	w.create("taken", "x")
	good := func() *api.CreateFunctionInput {
		return &api.CreateFunctionInput{FunctionName: new("f"), Runtime: new("python3.11"), Handler: new("a.b"), Role: new(role),
			Code: &api.FunctionCode{ZipFile: zipped(t, map[string]string{"a.py": "x"})}}
	}
	for _, c := range []struct {
		name string
		edit func(in *api.CreateFunctionInput)
		code string
		text string
	}{
		{"taken", func(in *api.CreateFunctionInput) { in.FunctionName = new("taken") }, "ResourceConflictException", "Function already exist: taken"},
		{"role", func(in *api.CreateFunctionInput) { in.Role = new("arn:aws:iam::000000000000:role/other") }, "InvalidParameterValueException",
			"The role defined for the function cannot be assumed by Lambda."},
		{"foreign role", func(in *api.CreateFunctionInput) { in.Role = new("arn:aws:iam::111111111111:role/r") }, "AccessDeniedException", "Cross-account pass role is not allowed."},
		{"runtime", func(in *api.CreateFunctionInput) { in.Runtime = new("cobol") }, "InvalidParameterValueException", "The runtime parameter of cobol is not supported"},
		{"architecture", func(in *api.CreateFunctionInput) { in.Architectures = []string{"arm64"} }, "InvalidParameterValueException", "Architecture arm64 cannot run here"},
		{"timeout", func(in *api.CreateFunctionInput) { in.Timeout = new(int32(901)) }, "ValidationException", "Value '901' at 'timeout'"},
		{"memory", func(in *api.CreateFunctionInput) { in.MemorySize = new(int32(10241)) }, "ValidationException", "Value '10241' at 'memorySize'"},
		{"reserved variable", func(in *api.CreateFunctionInput) {
			in.Environment = &api.Environment{Variables: map[string]string{"AWS_REGION": "x"}}
		}, "InvalidParameterValueException", "Reserved keys used in this request: AWS_REGION"},
		{"environment size", func(in *api.CreateFunctionInput) {
			in.Environment = &api.Environment{Variables: map[string]string{"X": strings.Repeat("x", 4096)}}
		}, "InvalidParameterValueException", "exceeded the 4KB limit"},
		{"no code", func(in *api.CreateFunctionInput) { in.Code = &api.FunctionCode{} }, "InvalidParameterValueException", "Please provide a source for function code."},
		{"no handler", func(in *api.CreateFunctionInput) { in.Handler = nil }, "InvalidParameterValueException", "Runtime and Handler are mandatory"},
		{"dead letter", func(in *api.CreateFunctionInput) {
			in.DeadLetterConfig = &api.DeadLetterConfig{TargetArn: new("arn:aws:s3:::b")}
		}, "InvalidParameterValueException", "The provided target is not a valid SQS or SNS ARN"},
		{"layer", func(in *api.CreateFunctionInput) {
			in.Layers = []string{"arn:aws:lambda:us-east-1:000000000000:layer:l:1"}
		}, "InvalidParameterValueException", "Layer version arn:aws:lambda:us-east-1:000000000000:layer:l:1 does not exist."},
		{"VPC", func(in *api.CreateFunctionInput) { in.VpcConfig = &api.VpcConfig{SubnetIds: []string{"subnet-1"}} }, "NotImplementedException", "VpcConfig"},
		{"key", func(in *api.CreateFunctionInput) { in.KMSKeyArn = new("arn:aws:kms:us-east-1:000000000000:key/k") }, "NotImplementedException", "KMSKeyArn"},
		{"tracing", func(in *api.CreateFunctionInput) { in.TracingConfig = &api.TracingConfig{Mode: new("Active")} }, "NotImplementedException", "TracingConfig"},
		{"image", func(in *api.CreateFunctionInput) { in.PackageType = new("Image") }, "NotImplementedException", "container images"},
	} {
		in := good()
		c.edit(in)
		if _, err := w.CreateFunction(t.Context(), w.scope, in); awserr.Code(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestNames(t *testing.T) {
	w := newWorld(t, nil)
	w.create("f", "x")
	const whole = "arn:aws:lambda:us-east-1:000000000000:function:f"
	for name, want := range map[string]string{"f": whole, "f:$LATEST": whole + ":$LATEST", whole: whole, whole + ":$LATEST": whole + ":$LATEST",
		"000000000000:function:f": whole, "function:f": whole, "000000000000:f": whole} {
		out, err := w.GetFunctionConfiguration(t.Context(), w.scope, &api.GetFunctionConfigurationInput{FunctionName: &name})
		if err != nil || *out.FunctionArn != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, code := range map[string]string{"g": "ResourceNotFoundException", "f:9": "ResourceNotFoundException", "a b": "InvalidParameterValueException",
		"arn:aws:lambda:eu-west-1:000000000000:function:f": "ResourceNotFoundException", strings.Repeat("x", 65): "InvalidParameterValueException"} {
		if _, err := w.GetFunction(t.Context(), w.scope, &api.GetFunctionInput{FunctionName: &name}); awserr.Code(err) != code {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestVersionsAndAliases(t *testing.T) {
	w := newWorld(t, map[string]program{"one": func(invocation) reply { return reply{body: "1"} }, "two": func(invocation) reply { return reply{body: "2"} }})
	ctx := t.Context()
	w.create("f", "one")
	first, err := w.PublishVersion(ctx, w.scope, &api.PublishVersionInput{FunctionName: new("f")})
	if err != nil || *first.Version != "1" || !strings.HasSuffix(*first.FunctionArn, ":f:1") {
		t.Fatalf("%+v %v", first, err)
	}
	if again, err := w.PublishVersion(ctx, w.scope, &api.PublishVersionInput{FunctionName: new("f")}); err != nil || *again.Version != "1" {
		t.Errorf("nothing has changed, and yet there is a version: %+v %v", again, err)
	}
	two := zipped(t, map[string]string{"bootstrap": "", "program": "two"})
	changed, err := w.UpdateFunctionCode(ctx, w.scope, &api.UpdateFunctionCodeInput{FunctionName: new("f"), ZipFile: two, Publish: new(true)})
	if err != nil || *changed.Version != "2" {
		t.Fatalf("%+v %v", changed, err)
	}
	w.active("f")
	if _, err := w.CreateAlias(ctx, w.scope, &api.CreateAliasInput{FunctionName: new("f"), Name: new("live"), FunctionVersion: new("1")}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][2]string{"f": {"2", "$LATEST"}, "f:1": {"1", "1"}, "f:2": {"2", "2"}, "f:live": {"1", "1"}} {
		if out := w.invoke(name, "0"); string(out.Payload) != want[0] || *out.ExecutedVersion != want[1] {
			t.Errorf("%s: %s %s", name, out.Payload, *out.ExecutedVersion)
		}
	}
	_, err = w.DeleteFunction(ctx, w.scope, &api.DeleteFunctionInput{FunctionName: new("f"), Qualifier: new("1")})
	if awserr.Code(err) != "ResourceConflictException" {
		t.Errorf("a version with an alias: %v", err)
	}
	a, err := w.UpdateAlias(ctx, w.scope, &api.UpdateAliasInput{FunctionName: new("f"), Name: new("live"),
		RoutingConfig: &api.AliasRoutingConfiguration{AdditionalVersionWeights: map[string]float64{"2": 0.5}}})
	if err != nil || a.RoutingConfig.AdditionalVersionWeights["2"] != 0.5 {
		t.Fatalf("%+v %v", a, err)
	}
	seen := map[string]int{}
	for range 64 {
		seen[string(w.invoke("f:live", "0").Payload)]++
	}
	if len(seen) != 2 {
		t.Errorf("weights of a half: %v", seen)
	}
	if _, err := w.UpdateAlias(ctx, w.scope, &api.UpdateAliasInput{FunctionName: new("f"), Name: new("live"), RevisionId: new("other")}); awserr.Code(err) != "PreconditionFailedException" {
		t.Error(err)
	}
	list, err := w.ListVersionsByFunction(ctx, w.scope, &api.ListVersionsByFunctionInput{FunctionName: new("f"), MaxItems: new(int32(2))})
	if err != nil || len(list.Versions) != 2 || list.NextMarker == nil || *list.Versions[0].Version != "$LATEST" {
		t.Fatalf("%+v %v", list, err)
	}
	list, err = w.ListVersionsByFunction(ctx, w.scope, &api.ListVersionsByFunctionInput{FunctionName: new("f"), Marker: list.NextMarker})
	if err != nil || len(list.Versions) != 1 || *list.Versions[0].Version != "2" || list.NextMarker != nil {
		t.Fatalf("%+v %v", list, err)
	}
	if _, err := w.DeleteAlias(ctx, w.scope, &api.DeleteAliasInput{FunctionName: new("f"), Name: new("live")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.GetAlias(ctx, w.scope, &api.GetAliasInput{FunctionName: new("f"), Name: new("live")}); awserr.Code(err) != "ResourceNotFoundException" {
		t.Error(err)
	}
}

func TestPolicy(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.create("f", "x")
	in := &api.AddPermissionInput{FunctionName: new("f"), StatementId: new("s3"), Action: new("lambda:InvokeFunction"), Principal: new("s3.amazonaws.com"),
		SourceArn: new("arn:aws:s3:::b"), SourceAccount: new(account)}
	out, err := w.AddPermission(ctx, w.scope, in)
	const want = `{"Sid":"s3","Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"lambda:InvokeFunction",` +
		`"Resource":"arn:aws:lambda:us-east-1:000000000000:function:f","Condition":{"ArnLike":{"AWS:SourceArn":"arn:aws:s3:::b"},"StringEquals":{"AWS:SourceAccount":"000000000000"}}}`
	if err != nil || *out.Statement != want {
		t.Fatalf("%+v %v", out, err)
	}
	if _, err := w.AddPermission(ctx, w.scope, in); awserr.Code(err) != "ResourceConflictException" {
		t.Error(err)
	}
	got, err := w.GetPolicy(ctx, w.scope, &api.GetPolicyInput{FunctionName: new("f")})
	if err != nil || *got.Policy != `{"Version":"2012-10-17","Id":"default","Statement":[`+want+`]}` {
		t.Errorf("%+v %v", got, err)
	}
	access, err := (rules{w.Service}).invoke(ctx, w.scope, &api.InvokeInput{FunctionName: new("f")})
	if err != nil || access[0].Policy != *got.Policy || access[0].Action != "lambda:InvokeFunction" {
		t.Errorf("%+v %v", access, err)
	}
	in.StatementId, in.Principal = new("odd"), new("nobody")
	if _, err := w.AddPermission(ctx, w.scope, in); awserr.Code(err) != "InvalidParameterValueException" {
		t.Error(err)
	}
	if _, err := w.RemovePermission(ctx, w.scope, &api.RemovePermissionInput{FunctionName: new("f"), StatementId: new("s3")}); err != nil {
		t.Error(err)
	}
	if _, err := w.GetPolicy(ctx, w.scope, &api.GetPolicyInput{FunctionName: new("f")}); awserr.Code(err) != "ResourceNotFoundException" {
		t.Error(err)
	}
}

func TestLayers(t *testing.T) {
	w := newWorld(t, map[string]program{"echo": echo})
	ctx := t.Context()
	publish := func(files map[string]string) string {
		out, err := w.PublishLayerVersion(ctx, w.scope, &api.PublishLayerVersionInput{LayerName: new("l"), CompatibleRuntimes: []string{"python3.11"},
			Content: &api.LayerVersionContentInput{ZipFile: zipped(t, files)}})
		if err != nil {
			t.Fatal(err)
		}
		return *out.LayerVersionArn
	}
	one, two := publish(map[string]string{"a": "1"}), publish(map[string]string{"a": "2"})
	if !strings.HasSuffix(one, ":layer:l:1") || !strings.HasSuffix(two, ":layer:l:2") {
		t.Fatal(one, two)
	}
	w.create("f", "echo", func(in *api.CreateFunctionInput) { in.Layers = []string{two} })
	w.invoke("f", "1")
	c, err := w.GetFunctionConfiguration(ctx, w.scope, &api.GetFunctionConfigurationInput{FunctionName: new("f")})
	if err != nil || len(c.Layers) != 1 || *c.Layers[0].Arn != two {
		t.Errorf("%+v %v", c, err)
	}
	_, err = w.UpdateFunctionConfiguration(ctx, w.scope, &api.UpdateFunctionConfigurationInput{FunctionName: new("f"), Layers: []string{one, two}})
	if awserr.Code(err) != "InvalidParameterValueException" {
		t.Error(err)
	}
	if _, err := w.DeleteLayerVersion(ctx, w.scope, &api.DeleteLayerVersionInput{LayerName: new("l"), VersionNumber: new(int64(2))}); err != nil {
		t.Error(err)
	}
	list, err := w.ListLayers(ctx, w.scope, &api.ListLayersInput{})
	if err != nil || len(list.Layers) != 1 || *list.Layers[0].LatestMatchingVersion.Version != 1 {
		t.Errorf("%+v %v", list, err)
	}
	if three := publish(map[string]string{"a": "3"}); !strings.HasSuffix(three, ":3") {
		t.Errorf("a number is given twice: %s", three)
	}
	if w.invoke("f", "1").FunctionError != nil {
		t.Error("a function lost its layer")
	}
}

func TestTags(t *testing.T) {
	w := newWorld(t, nil)
	ctx := t.Context()
	w.create("f", "x", func(in *api.CreateFunctionInput) { in.Tags = map[string]string{"a": "1", "b": "2"} })
	arn := new("arn:aws:lambda:us-east-1:000000000000:function:f")
	if _, err := w.TagResource(ctx, w.scope, &api.TagResourceInput{Resource: arn, Tags: map[string]string{"c": "3"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.UntagResource(ctx, w.scope, &api.UntagResourceInput{Resource: arn, TagKeys: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	out, err := w.ListTags(ctx, w.scope, &api.ListTagsInput{Resource: arn})
	if err != nil || !maps.Equal(out.Tags, map[string]string{"b": "2", "c": "3"}) {
		t.Errorf("%+v %v", out, err)
	}
}
