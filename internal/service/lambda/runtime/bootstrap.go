package runtime

import (
	_ "embed"
	"encoding/base64"
)

// PythonBootstrap is the program that runs Python handlers.
//
//go:embed python/bootstrap.py
var PythonBootstrap []byte

// NodeBootstrap is the program that runs Node.js handlers.
//
//go:embed node/bootstrap.js
var NodeBootstrap []byte

// The signs by which the bootstraps send a log event of several lines as one
// line of output: it begins with Frame, and Break stands for its line ends.
const (
	Frame = '\x02'
	Break = '\x1f'
)

func decodeTrailer(s string) ([]byte, error) { return base64.StdEncoding.DecodeString(s) }
