package gateway

import (
	"testing"

	"skerry/internal/api/lambda"
	"skerry/internal/api/s3"
	"skerry/internal/api/sts"
	"skerry/internal/op"
)

func TestParseHost(t *testing.T) {
	g, err := New(Config{Domains: []string{"cloud.example"}, Services: []op.Service{{API: s3.Schema}, {API: lambda.Schema}, {API: sts.Schema}}})
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]hostName{
		"127.0.0.1:4566":                         {local: true},
		"[::1]:4566":                             {local: true},
		"localhost:4566":                         {local: true},
		"pictures.localhost:4566":                {bucket: "pictures", local: true},
		"my.dotted.bucket.s3.localhost":          {bucket: "my.dotted.bucket", service: "s3", local: true},
		"s3.us-east-1.amazonaws.com":             {service: "s3", region: "us-east-1", local: true},
		"b.s3.eu-west-1.amazonaws.com":           {bucket: "b", service: "s3", region: "eu-west-1", local: true},
		"b.s3.dualstack.eu-west-1.amazonaws.com": {bucket: "b", service: "s3", region: "eu-west-1", local: true},
		"b.s3-eu-west-1.amazonaws.com":           {bucket: "b", service: "s3", region: "eu-west-1", local: true},
		"b.s3.amazonaws.com":                     {bucket: "b", service: "s3", local: true},
		"lambda.us-gov-west-1.amazonaws.com":     {service: "lambda", region: "us-gov-west-1", local: true},
		"sts.amazonaws.com":                      {service: "sts", local: true},
		"B.S3.AMAZONAWS.COM.":                    {bucket: "b", service: "s3", local: true},
		"b.s3.cloud.example":                     {bucket: "b", service: "s3", local: true},
		"b.cloud.example":                        {bucket: "b", local: true},
		"evil.example":                           {},
		"amazonaws.com.evil.example":             {},
		"":                                       {},
	} {
		if got := g.parseHost(host); got != want {
			t.Errorf("%q: got %+v, want %+v", host, got, want)
		}
	}
}
