// Package auth knows who calls and what they may do: principals and
// credentials, the signatures of requests, and the policy language with its
// evaluation.
//
// A Verifier authenticates requests by AWS Signature Version 4 and 4A (header,
// signed link, chunked body, trailer), and for S3 also by version 2 and by
// browser forms. Its errors are in the words of the service's family. Evaluate
// decides by identity, resource, boundary and session policies and names the
// statement that decided. Both ask a Directory, which services implement.
//
// Left out: policies of organizations (SCPs and RCPs) and of VPC endpoints,
// since the cloud has neither; the condition keys that go with them
// (aws:PrincipalOrgID, aws:SourceVpce, ...) and aws:CalledVia, which are always
// absent; version 2 for services other than S3; forms signed by version 4A;
// signed event streams as input, which no service of the cloud takes.
package auth
