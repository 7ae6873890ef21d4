package s3

import (
	"errors"
	"fmt"

	"skerry/internal/api/lambda"
	"skerry/internal/api/sqs"
	"skerry/internal/api/sts"
	"skerry/internal/base/awserr"
	"skerry/internal/wire"
)

// foreign plays the other services: the targets that exist answer, and sts hands out
// the replication role.
func (h *harness) foreign(operation string, in any) (any, error) {
	missing := awserr.New(404, "ResourceNotFoundException", "Function not found")
	switch in := in.(type) {
	case *lambda.InvokeInput:
		if value(in.InvocationType) != "DryRun" {
			return nil, errors.New("a target is asked by a dry run only")
		}
		if !h.targets[*in.FunctionName] {
			return nil, missing
		}
		return &lambda.InvokeOutput{}, nil
	case *sqs.GetQueueUrlInput:
		if !h.targets["arn:aws:sqs:us-east-1:"+account+":"+*in.QueueName] {
			return nil, missing
		}
		return &sqs.GetQueueUrlOutput{QueueUrl: in.QueueName}, nil
	case *sqs.SendMessageInput:
		h.mu.Lock()
		defer h.mu.Unlock()
		h.tests = append(h.tests, *in.MessageBody)
		return &sqs.SendMessageOutput{}, nil
	case *sts.AssumeRoleInput:
		return &sts.AssumeRoleOutput{Credentials: &sts.Credentials{AccessKeyId: wire.Ptr("AKIDROLE")}}, nil
	}
	return nil, fmt.Errorf("nobody plays %s", operation)
}
