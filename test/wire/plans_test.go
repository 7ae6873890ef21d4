// Package wire_test proves package wire on real input: the generated tables, the
// snapshots that the SDK ships, and the published protocol test cases.
package wire_test

import (
	"io"
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

// TestStreamInBody: a stream among the members of a body cannot be read into, and
// a table that says so is refused.
func TestStreamInBody(t *testing.T) {
	type input struct{ Data io.Reader }
	svc := &wire.Service{
		ID: "test", Protocols: []wire.Protocol{wire.AWSJSON11},
		Operations: []wire.Operation{{Name: "Put", Input: 2, In: (*input)(nil), Out: (*struct{})(nil)}},
		Shapes: []wire.Shape{{Name: "", Kind: wire.Structure}, {Name: "Data", Kind: wire.Blob, Is: wire.Streaming},
			{Name: "PutInput", Kind: wire.Structure, Members: []wire.Member{{Name: "Data", Shape: 1}}}},
	}
	if err := svc.Check(); err == nil {
		t.Error("the plan was made")
	}
}
