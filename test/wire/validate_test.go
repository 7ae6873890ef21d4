package wire_test

import (
	"errors"
	"strings"
	"testing"

	"skerry/internal/api/dynamodb"
	"skerry/internal/api/ec2"
	"skerry/internal/api/iam"
	"skerry/internal/api/kinesis"
	"skerry/internal/api/lambda"
	"skerry/internal/api/logs"
	"skerry/internal/api/s3"
	"skerry/internal/api/sqs"
	"skerry/internal/api/sts"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

func TestValidate(t *testing.T) {
	long := strings.Repeat("a", 600)
	tests := []struct {
		name string
		svc  *wire.Service
		op   string
		in   any
		want string // "" if it is fine
	}{
		{"fine", logs.Schema, "CreateLogGroup", &logs.CreateLogGroupInput{LogGroupName: new("/aws/lambda/x")}, ""},
		{"missing", kinesis.Schema, "CreateStream", &kinesis.CreateStreamInput{},
			"ValidationException: 1 validation error detected: Value null at 'streamName' failed to satisfy constraint: Member must not be null"},
		{"pattern and length at once", dynamodb.Schema, "CreateBackup", &dynamodb.CreateBackupInput{TableName: new("t"), BackupName: new("a;")},
			"ValidationException: 2 validation errors detected: Value 'a;' at 'backupName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; " +
				"Value 'a;' at 'backupName' failed to satisfy constraint: Member must have length greater than or equal to 3"},
		{"list element", dynamodb.Schema, "CreateTable", &dynamodb.CreateTableInput{
			TableName:            new("abc"),
			KeySchema:            []dynamodb.KeySchemaElement{{AttributeName: new("a"), KeyType: new("HASH")}},
			AttributeDefinitions: []dynamodb.AttributeDefinition{{AttributeName: new("a"), AttributeType: new("STRING")}},
		}, "ValidationException: 1 validation error detected: Value 'STRING' at 'attributeDefinitions.1.member.attributeType' failed to satisfy constraint: Member must satisfy enum value set: [S, N, B]"},
		{"scalars in a list", iam.Schema, "UntagUser", &iam.UntagUserInput{UserName: new("u"), TagKeys: []string{""}},
			"Member must satisfy constraint: ["},
		{"IAM has its own words", iam.Schema, "CreateUser", &iam.CreateUserInput{UserName: new("a b")},
			"ValidationError: The specified value for userName is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-"},
		{"logs has its own code", logs.Schema, "CreateLogGroup", &logs.CreateLogGroupInput{LogGroupName: &long},
			"InvalidParameterException: 1 validation error detected: Value '" + long + "' at 'logGroupName' failed to satisfy constraint: Member must have length less than or equal to 512"},
		{"query services have their own code", sts.Schema, "GetFederationToken", &sts.GetFederationTokenInput{Name: new("bob"), DurationSeconds: new(int32(100))},
			"ValidationError: 1 validation error detected: Value '100' at 'durationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 900"},
		{"look-around", lambda.Schema, "CreateAlias", &lambda.CreateAliasInput{FunctionName: new("f"), FunctionVersion: new("1"), Name: new("123")},
			"Value '123' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)"},
		{"at most ten", iam.Schema, "TagUser", &iam.TagUserInput{UserName: new("u"), Tags: make([]iam.Tag, 20)}, "10 validation errors detected: "},
		{"missing in EC2", ec2.Schema, "CreateSubnet", &ec2.CreateSubnetInput{}, "MissingParameter: The request must contain the parameter VpcId"},
		{"missing in SQS", sqs.Schema, "CreateQueue", &sqs.CreateQueueInput{}, "MissingParameter: The request must contain the parameter QueueName."},
		{"S3 checks itself", s3.Schema, "PutObject", &s3.PutObjectInput{}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := wire.Validate(tt.svc, tt.svc.Operation(tt.op), tt.in)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got  %v\nwant %s", err, tt.want)
			}
			if e, ok := errors.AsType[*awserr.Error](err); !ok || e.Status != 400 {
				t.Fatalf("%T with another status than 400", err)
			}
		})
	}
}

// TestValidateHidesSecrets: a value that the model calls sensitive is not told.
func TestValidateHidesSecrets(t *testing.T) {
	err := wire.Validate(iam.Schema, iam.Schema.Operation("CreateLoginProfile"), &iam.CreateLoginProfileInput{UserName: new("u"), Password: new(strings.Repeat("p", 200))})
	if err == nil || strings.Contains(err.Error(), "ppp") {
		t.Fatal(err)
	}
}

// TestPatternsAreChecked: all patterns of the models but these can be written
// for Go.
func TestPatternsAreChecked(t *testing.T) {
	unchecked := map[string]bool{}
	for _, svc := range services() {
		for _, p := range svc.UncheckedPatterns() {
			unchecked[svc.ID+" "+p] = true
		}
	}
	for _, known := range []string{
		`lambda (arn:(aws[a-zA-Z-]*)?:lambda:)?((eusc-)?[a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]{1,64})(:((?!\d+$)[0-9a-zA-Z-_]+))?`,
		`dynamodb [\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*`,
	} {
		delete(unchecked, known)
	}
	for p := range unchecked {
		t.Errorf("not checked: %s", p)
	}
}
