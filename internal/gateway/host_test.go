package gateway

import "testing"

func TestParseHost(t *testing.T) {
	isService := func(l string) bool { return l == "lambda" || l == "sts" || l == "s3" }
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
		"evil.example":                           {},
		"amazonaws.com.evil.example":             {},
		"":                                       {},
	} {
		if got := parseHost(host, isService); got != want {
			t.Errorf("%q: got %+v, want %+v", host, got, want)
		}
	}
}
