package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"skerry/internal/cloud"
)

// doctor prints what this machine can and can't do.
func doctor(ctx context.Context, args []string, out io.Writer) error {
	f := flagSet("doctor", "say what this machine can and can't do, and how to mend it")
	data := f.String("data", cloud.DefaultData(), "`FOLDER` of the cloud's state")
	if err := parse(f, args); err != nil {
		return err
	}
	ill := 0
	for _, c := range cloud.Doctor(ctx, *data) {
		mark := "ok  "
		if !c.OK {
			mark = "off "
			ill++
		}
		fmt.Fprintf(out, "%s %s: %s\n", mark, c.What, c.Why)
		if c.Mend != "" {
			fmt.Fprintf(out, "       %s\n", c.Mend)
		}
	}
	if ill > 0 {
		return errors.New("some of it is off; the rest works")
	}
	return nil
}
