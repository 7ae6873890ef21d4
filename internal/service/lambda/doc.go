// Package lambda is AWS Lambda: functions of zip files, run in sandboxes of
// internal/engine.
//
// # The path of an invocation
//
// Invoke reads the function's rows, passes the concurrency limits, and takes a
// sandbox: a warm one that is thawed, an interpreter that was started ahead and
// now gets the function's code and environment, or a fresh one. The event goes to
// it through the Runtime API (package runtime), whose listener is inside of the
// sandbox. Nothing is written on the way: logs and usage are collected in memory
// and written by loops within seconds, so that a crash loses at most those.
// An asynchronous invocation is a delivery of the outbox ("lambda/async"), durable
// before it is acknowledged.
//
// A sandbox runs one invocation at a time and only ever one function. It is frozen
// when it has had no work for some milliseconds, and ended after ten minutes, when
// its role's key runs out, or when its function has changed. Sandboxes of a former
// process are removed at the start.
//
// Inside, a function finds the Runtime API at 127.0.0.1:9001, Skerry at
// AWS_ENDPOINT_URL and, for SDKs that do not know that, under AWS's own names, by
// package resolver and Skerry's certificate authority.
//
// # Tables
//
//	lambda/functions  (account, region, name)             function
//	lambda/versions   (account, region, name, number)     configuration and code; number 0 is $LATEST
//	lambda/aliases    (account, region, name, alias)      alias
//	lambda/policies   (account, region, name, qualifier)  resource policy
//	lambda/async      (account, region, name, qualifier)  event-invoke configuration
//	lambda/layers     (account, region, name, version)    layer version
//	lambda/blobs      (ref)                               zip files, to find those that nothing refers to
//	lambda/secrets    (name)                              the key that signs links to code
//
// # States
//
//	State:            Pending -> Active, or Failed (the layers cannot be laid over each other)
//	LastUpdateStatus: InProgress -> Successful, or Failed
//
// # Interpreters
//
// The interpreter is the machine's own, of exactly the runtime's version:
// python3.11 for the runtime python3.11, Node.js 20 for nodejs20.x. Another one is
// taken only if the configuration names it. Without one the function runs in the
// image that AWS publishes of the runtime (public.ecr.aws/lambda), which is pulled
// at the first need, or from a mirror of that registry. If that cannot be had
// either, CreateFunction succeeds and Invoke answers InvalidRuntimeException with
// what is missing and how to get it.
//
// # What differs
//
//   - /tmp is memory, which counts towards the function's, on a machine without
//     loop devices or mke2fs.
//   - A function's program is process 1 of its sandbox, so that signals which it
//     sends itself end it only if they are faults, such as SIGSEGV.
//   - The sandboxes of one function share a session of its role.
//   - MemorySize may be any number of MB up to 10,240; what the machine has not, a
//     function cannot use.
//
// # Not built
//
// InvokeAsync, function URLs, event source mappings,
// provisioned concurrency, code signing, container images, SnapStart, runtime
// management, recursion control, permissions of layers (and so layers of other
// accounts), functions in a VPC, file systems, capacity providers, durable
// functions, tenants, the extensions and telemetry APIs, X-Ray segments (the trace
// id is handed on), KMS keys for the environment, runtimes other than Python,
// Node.js and provided. Their operations and parameters are refused.
package lambda
