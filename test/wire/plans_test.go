// Package wire_test proves package wire on real input: the generated tables, the
// snapshots that the SDK ships, and the published protocol test cases.
package wire_test

import (
	"testing"

	"skerry/internal/api/cloudwatch"
	"skerry/internal/api/dynamodb"
	"skerry/internal/api/ec2"
	"skerry/internal/api/ecs"
	"skerry/internal/api/iam"
	"skerry/internal/api/kinesis"
	"skerry/internal/api/lambda"
	"skerry/internal/api/logs"
	"skerry/internal/api/s3"
	"skerry/internal/api/sqs"
	"skerry/internal/api/sts"
	"skerry/internal/wire"
)

// services are all generated services.
func services() []*wire.Service {
	return []*wire.Service{
		cloudwatch.Schema, dynamodb.Schema, ec2.Schema, ecs.Schema, iam.Schema, kinesis.Schema, lambda.Schema, logs.Schema,
		s3.Schema, sqs.Schema, sts.Schema,
	}
}

// TestPlans walks all operations and checks that the structs match the tables.
func TestPlans(t *testing.T) {
	n := 0
	for _, svc := range services() {
		if err := svc.Check(); err != nil {
			t.Errorf("%s: %v", svc.ID, err)
		}
		for i := range svc.Operations {
			if svc.Operations[i].Built() {
				n++
			}
		}
	}
	t.Logf("%d operations of %d services", n, len(services()))
}
