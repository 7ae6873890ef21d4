package e2e

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// config is the Go SDK's configuration of a client that is the root user.
// attempts is how often it tries; 1 shows each answer as it came.
func (s *server) config(attempts int) aws.Config {
	return aws.Config{
		Region:           "us-east-1",
		BaseEndpoint:     aws.String(s.Endpoint),
		Credentials:      credentials.NewStaticCredentialsProvider("test", "test", ""),
		RetryMaxAttempts: attempts,
	}
}

func (s *server) s3(attempts int) *s3.Client {
	return s3.NewFromConfig(s.config(attempts), func(o *s3.Options) { o.UsePathStyle = true })
}

func (s *server) iam(attempts int) *iam.Client { return iam.NewFromConfig(s.config(attempts)) }
