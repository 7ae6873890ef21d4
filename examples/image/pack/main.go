// Command pack makes an image of a static program: pack NAME PROGRAM > ARCHIVE.
package main

import (
	"fmt"
	"os"

	"skerry/examples/image"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: pack NAME PROGRAM > ARCHIVE")
		os.Exit(2)
	}
	program, err := os.ReadFile(os.Args[2])
	if err == nil {
		err = image.Archive(os.Stdout, os.Args[1], program)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}
