// Package thumbnail holds the example's files for skerry demo thumbnail, which
// does in Go what run.sh does with the AWS CLI.
package thumbnail

import _ "embed" // for the files

// Handler is the function's code, handler.py.
//
//go:embed handler.py
var Handler []byte

// Trust is the policy that says who may assume the function's role.
//
//go:embed trust.json
var Trust string

// Policy is what the role may do. SUFFIX in it stands for the end of the names of
// buckets and function.
//
//go:embed policy.json
var Policy string
