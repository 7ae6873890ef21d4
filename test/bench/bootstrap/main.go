// Command bootstrap is a function for the benchmark: it answers each invocation
// with its own event, over nothing but the Lambda Runtime API.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	base := "http://" + os.Getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/invocation/"
	for {
		if err := serve(base); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// serve takes one invocation and answers it.
func serve(base string) error {
	next, err := http.Get(base + "next")
	if err != nil {
		return err
	}
	event, err := io.ReadAll(next.Body)
	if err != nil {
		return err
	}
	if err := next.Body.Close(); err != nil {
		return err
	}
	id := next.Header.Get("Lambda-Runtime-Aws-Request-Id")
	done, err := http.Post(base+id+"/response", "application/json", bytes.NewReader(event))
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, done.Body); err != nil {
		return err
	}
	return done.Body.Close()
}
