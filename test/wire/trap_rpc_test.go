package wire_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"skerry/internal/api/cloudwatch"
	"skerry/internal/api/dynamodb"
	"skerry/internal/api/ec2"
	"skerry/internal/api/iam"
	"skerry/internal/api/kinesis"
	"skerry/internal/api/lambda"
	"skerry/internal/api/logs"
	"skerry/internal/api/sqs"
	"skerry/internal/api/sts"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// TestQueryParameters: in the body and the URL, lists with and without member,
// gaps, renamed and flattened ones, maps, empty lists.
func TestQueryParameters(t *testing.T) {
	in := mustDecode[iam.CreateRoleInput](t, iam.Schema, "POST /?RoleName=r", "Action=CreateRole&Version=2010-05-08&Tags.member.10.Key=z&Tags.member.2.Key=a&Tags.member.2.Value=%2B+b", "Content-Type: application/x-www-form-urlencoded; charset=utf-8")
	if *in.RoleName != "r" || len(in.Tags) != 2 || *in.Tags[0].Key != "a" || *in.Tags[0].Value != "+ b" || *in.Tags[1].Key != "z" {
		t.Errorf("%+v", in)
	}
	get := mustDecode[iam.ListUsersInput](t, iam.Schema, "GET /?Action=ListUsers&MaxItems=5", "")
	if *get.MaxItems != 5 {
		t.Error(get)
	}
	empty := mustDecode[iam.TagRoleInput](t, iam.Schema, "POST /", "Action=TagRole&Tags=")
	if empty.Tags == nil || len(empty.Tags) != 0 {
		t.Error("an empty list is not empty")
	}
	run := mustDecode[ec2.RunInstancesInput](t, ec2.Schema, "POST /", "Action=RunInstances&MinCount=1&SecurityGroupId.1=sg-1&SecurityGroupId.2=sg-2&TagSpecification.1.ResourceType=instance&TagSpecification.1.Tag.1.Key=k&BlockDeviceMapping.1.Ebs.VolumeSize=8")
	if *run.MinCount != 1 || len(run.SecurityGroupIds) != 2 || *run.TagSpecifications[0].Tags[0].Key != "k" || *run.BlockDeviceMappings[0].Ebs.VolumeSize != 8 {
		t.Errorf("%+v", run)
	}
	if _, _, err := decode[ec2.RunInstancesInput](t, ec2.Schema, "POST /", "Action=RunInstances&MinCount=many"); awserr.Code(err) != "InvalidParameterValue" {
		t.Error(err)
	}
	if _, _, err := decode[iam.ListUsersInput](t, iam.Schema, "POST /", "Action=ListUsers&Marker=%zz"); awserr.Code(err) != "MalformedQueryString" {
		t.Error(err)
	}
}

// TestQueryAnswers: wrapper, result and metadata, also without output; EC2 has
// only the request id; JSON for those who accept it.
func TestQueryAnswers(t *testing.T) {
	who := &sts.GetCallerIdentityOutput{Account: new("000000000000")}
	contains(t, encode(t, sts.Schema, wire.AWSQuery, "GetCallerIdentity", who, nil).Body.String(),
		`<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Account>000000000000</Account></GetCallerIdentityResult>`,
		`<ResponseMetadata><RequestId>request-1</RequestId></ResponseMetadata></GetCallerIdentityResponse>`)
	contains(t, encode(t, iam.Schema, wire.AWSQuery, "DeleteUser", nil, nil).Body.String(),
		`<DeleteUserResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><ResponseMetadata>`)
	contains(t, encode(t, ec2.Schema, wire.EC2Query, "DescribeRegions", &ec2.DescribeRegionsOutput{Regions: []ec2.Region{{RegionName: new("eu-west-1")}}}, nil).Body.String(),
		`<DescribeRegionsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>request-1</requestId><regionInfo><item><regionName>eu-west-1</regionName></item></regionInfo></DescribeRegionsResponse>`)
	wantsJSON := &wire.Request{Header: map[string][]string{"Accept": {"application/json"}}}
	w := encode(t, sts.Schema, wire.AWSQuery, "GetCallerIdentity", who, wantsJSON)
	if got, want := w.Body.String(), `{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"000000000000"},"ResponseMetadata":{"RequestId":"request-1"}}}`; got != want {
		t.Error(got)
	}
	w = fail(sts.Schema, wire.AWSQuery, &sts.MalformedPolicyDocumentException{Message: new(`a "b"`)}, wantsJSON)
	if !json.Valid(w.Body.Bytes()) {
		t.Error(w.Body)
	}
	contains(t, w.Body.String(), `"Code":"MalformedPolicyDocument"`)
}

// TestQueryErrors: the code and the status are the model's.
func TestQueryErrors(t *testing.T) {
	w := fail(iam.Schema, wire.AWSQuery, &iam.NoSuchEntityException{Message: new("gone <&>")}, nil)
	contains(t, w.Body.String(), `<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>NoSuchEntity</Code><Message>gone &lt;&amp;&gt;</Message></Error><RequestId>request-1</RequestId></ErrorResponse>`)
	if w.Code != 404 {
		t.Error(w.Code)
	}
	w = fail(ec2.Schema, wire.EC2Query, awserr.New(400, "InvalidVpcID.NotFound", "no"), nil)
	contains(t, w.Body.String(), `<Response><Errors><Error><Code>InvalidVpcID.NotFound</Code><Message>no</Message></Error></Errors><RequestID>request-1</RequestID></Response>`)
	_, _, err := decode[iam.GetUserInput](t, iam.Schema, "POST /", "Action=Fly&Version=2010-05-08")
	if awserr.Code(err) != "InvalidAction" || !strings.Contains(err.Error(), "Could not find operation Fly for version 2010-05-08") {
		t.Error(err)
	}
}

// TestSQSQuery: the queue in the path, either name of a list, references for
// quotes and carriage returns.
func TestSQSQuery(t *testing.T) {
	in := mustDecode[sqs.SendMessageInput](t, sqs.Schema, "POST /000000000000/q", "Action=SendMessage&MessageBody=hi&MessageAttribute.1.Name=n&MessageAttribute.1.Value.DataType=String&MessageAttribute.1.Value.StringValue=v", "Content-Type: application/x-www-form-urlencoded")
	if !strings.HasSuffix(*in.QueueUrl, "/000000000000/q") || *in.MessageAttributes["n"].StringValue != "v" {
		t.Errorf("%+v", in)
	}
	for _, form := range []string{"Tag.1.Key=k&Tag.1.Value=v", "Tags.1.Key=k&Tags.1.Value=v"} {
		in := mustDecode[sqs.CreateQueueInput](t, sqs.Schema, "POST /", "Action=CreateQueue&QueueName=q&"+form, "Content-Type: application/x-www-form-urlencoded")
		if in.Tags["k"] != "v" {
			t.Errorf("%s: %+v", form, in)
		}
	}
	w := encode(t, sqs.Schema, wire.AWSQuery, "ReceiveMessage", &sqs.ReceiveMessageOutput{Messages: []sqs.Message{{Body: new("\"a\"\r\n")}}}, nil)
	contains(t, w.Body.String(), "<Body>&quot;a&quot;&#xD;&#xA;</Body>")
}

// TestQueryCompatible: JSON errors of services that once spoke awsQuery carry
// the old code in a header, and the old status for those who ask.
func TestQueryCompatible(t *testing.T) {
	gone := &sqs.QueueDoesNotExist{Message: new("no")}
	w := fail(sqs.Schema, wire.AWSJSON10, gone, nil)
	if got := header(w, "X-Amzn-Query-Error"); got != "AWS.SimpleQueueService.NonExistentQueue;Sender" || w.Code != 400 {
		t.Errorf("%d %s", w.Code, got)
	}
	contains(t, w.Body.String(), `"__type":"com.amazonaws.sqs#QueueDoesNotExist"`, `"message":"no"`)
	old := &wire.Request{Header: map[string][]string{"X-Amzn-Query-Mode": {"true"}}}
	if w := fail(cloudwatch.Schema, wire.RPCV2CBOR, &cloudwatch.DashboardNotFoundError{}, old); w.Code != 404 {
		t.Error(w.Code)
	}
	if w := fail(cloudwatch.Schema, wire.RPCV2CBOR, &cloudwatch.DashboardNotFoundError{}, nil); w.Code != 400 {
		t.Error(w.Code)
	}
	back := wire.Client{Service: sqs.Schema, Protocol: wire.AWSJSON10}.Response("ListQueues", fail(sqs.Schema, wire.AWSJSON10, gone, nil).Result(), &sqs.ListQueuesOutput{})
	if _, ok := errors.AsType[*sqs.QueueDoesNotExist](back); !ok {
		t.Errorf("came back as %T", back)
	}
}

// TestErrorMembersKeepTheirCase: each model writes message in its own way, and
// errors without one have it all the same.
func TestErrorMembersKeepTheirCase(t *testing.T) {
	contains(t, fail(lambda.Schema, wire.RESTJSON1, &lambda.ResourceNotFoundException{Message: new("no"), Type: new("User")}, nil).Body.String(), `{"Type":"User","Message":"no"}`)
	contains(t, fail(lambda.Schema, wire.RESTJSON1, &lambda.ResourceConflictException{Message: new("no")}, nil).Body.String(), `{"message":"no"}`)
	contains(t, fail(logs.Schema, wire.AWSJSON11, &logs.ResourceNotFoundException{Message: new("no")}, nil).Body.String(), `{"__type":"ResourceNotFoundException","message":"no"}`)
	w := fail(lambda.Schema, wire.RESTJSON1, &lambda.TooManyRequestsException{Message: new("slow"), RetryAfterSeconds: new("3")}, nil)
	if header(w, "Retry-After") != "3" || header(w, "X-Amzn-Errortype") != "TooManyRequestsException" || w.Code != 429 {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	w = fail(dynamodb.Schema, wire.AWSJSON10, awserr.New(400, "ValidationException", "bad").With("Extra", "x"), nil)
	contains(t, w.Body.String(), `"__type":"com.amazon.coral.service#ValidationException"`, `"message":"bad"`, `"Extra":"x"`)
}

// TestFaultsOfOursStayOurs: the client of an error that is not for it learns
// nothing.
func TestFaultsOfOursStayOurs(t *testing.T) {
	for _, p := range []struct {
		svc *wire.Service
		p   wire.Protocol
	}{{iam.Schema, wire.AWSQuery}, {lambda.Schema, wire.RESTJSON1}, {dynamodb.Schema, wire.AWSJSON10}, {cloudwatch.Schema, wire.RPCV2CBOR}, {ec2.Schema, wire.EC2Query}, {nil, wire.RESTXML}} {
		w := fail(p.svc, p.p, errors.New("open /secret: denied"), nil)
		if strings.Contains(w.Body.String(), "secret") || w.Code != 500 || !strings.Contains(w.Body.String()+header(w, "X-Amzn-Errortype"), "InternalFailure") {
			t.Errorf("%v: %d %s", p.p, w.Code, w.Body)
		}
	}
}

// TestUnknownOperations: each protocol says so in its way.
func TestUnknownOperations(t *testing.T) {
	for _, tt := range []struct {
		svc          *wire.Service
		line, header string
		code         string
	}{
		{dynamodb.Schema, "POST /", "X-Amz-Target: DynamoDB_20120810.Fly", "UnknownOperationException"},
		{dynamodb.Schema, "POST /", "X-Amz-Target: Other.PutItem", "UnknownOperationException"},
		{dynamodb.Schema, "POST /", "X: y", "UnknownOperationException"},
		{lambda.Schema, "GET /2015-03-31/nothing", "X: y", "UnknownOperationException"},
		{cloudwatch.Schema, "POST /service/GraniteServiceVersion20100801/operation/Fly", "Smithy-Protocol: rpc-v2-cbor", "UnknownOperationException"},
		{iam.Schema, "POST /", "X: y", "MissingAction"},
	} {
		c, _, err := decode[struct{}](t, tt.svc, tt.line, "", tt.header)
		if awserr.Code(err) != tt.code || c == nil {
			t.Errorf("%s: %v", tt.line, err)
		}
	}
}

// TestCBORPath: only the end of the path counts, and X-Amz-Target forbids CBOR.
func TestCBORPath(t *testing.T) {
	body, _ := cbor.Marshal(map[string]any{"__type": "x", "Namespace": "n", "MetricData": []any{map[string]any{"MetricName": "m", "Value": float32(1.5), "Timestamp": cbor.Tag{Number: 1, Content: 1786105815.5}}}})
	in := mustDecode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /some/prefix/service/GraniteServiceVersion20100801/operation/PutMetricData", string(body), "Smithy-Protocol: rpc-v2-cbor")
	if *in.Namespace != "n" || *in.MetricData[0].Value != 1.5 || in.MetricData[0].Timestamp.UnixMilli() != 1786105815500 {
		t.Errorf("%+v", in)
	}
	_, _, err := decode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /service/GraniteServiceVersion20100801/operation/PutMetricData", string(body), "Smithy-Protocol: rpc-v2-cbor", "X-Amz-Target: a.b")
	if awserr.Code(err) != "UnknownOperationException" {
		t.Error(err)
	}
	// Half floats, indefinite lengths.
	odd := "\xbf" + "iNamespace" + "\x7f\x61a\x61b\xff" + "jMetricData" + "\x9f\xbf" + "eValue" + "\xf9\x3e\x00" + "\xff\xff" + "\xff"
	in = mustDecode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /service/GraniteServiceVersion20100801/operation/PutMetricData", odd, "Smithy-Protocol: rpc-v2-cbor")
	if *in.Namespace != "ab" || *in.MetricData[0].Value != 1.5 {
		t.Errorf("%+v", in)
	}
}

// TestCloudWatchSpeaksThree: CBOR, JSON and awsQuery reach one operation.
func TestCloudWatchSpeaksThree(t *testing.T) {
	body, _ := cbor.Marshal(map[string]any{"Namespace": "n"})
	for i, in := range []*cloudwatch.PutMetricDataInput{
		mustDecode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /service/GraniteServiceVersion20100801/operation/PutMetricData", string(body), "Smithy-Protocol: rpc-v2-cbor"),
		mustDecode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /", `{"Namespace":"n"}`, "X-Amz-Target: GraniteServiceVersion20100801.PutMetricData"),
		mustDecode[cloudwatch.PutMetricDataInput](t, cloudwatch.Schema, "POST /", "Action=PutMetricData&Namespace=n", "Content-Type: application/x-www-form-urlencoded"),
	} {
		if in.Namespace == nil || *in.Namespace != "n" {
			t.Errorf("%d: %+v", i, in)
		}
	}
}

// TestKinesisCBOR: what the Java SDK sends, with times in milliseconds.
func TestKinesisCBOR(t *testing.T) {
	body, _ := cbor.Marshal(map[string]any{"StreamName": "s", "Timestamp": uint64(day.UnixMilli())})
	c, in, err := decode[kinesis.GetShardIteratorInput](t, kinesis.Schema, "POST /", string(body), "X-Amz-Target: Kinesis_20131202.GetShardIterator", "Content-Type: application/x-amz-cbor-1.1")
	if err != nil || !in.Timestamp.Equal(day) || c.Protocol != wire.KinesisCBOR {
		t.Fatalf("%v %+v", err, in)
	}
	w := encode(t, kinesis.Schema, wire.KinesisCBOR, "DescribeStreamSummary", &kinesis.DescribeStreamSummaryOutput{StreamDescriptionSummary: &kinesis.StreamDescriptionSummary{StreamCreationTimestamp: &day}}, nil)
	var out map[string]map[string]any
	if err := cbor.Unmarshal(w.Body.Bytes(), &out); err != nil || out["StreamDescriptionSummary"]["StreamCreationTimestamp"] != uint64(day.UnixMilli()) {
		t.Errorf("%v %v", err, out)
	}
	if header(w, "Content-Type") != "application/x-amz-cbor-1.1" {
		t.Error(w.Header())
	}
}
