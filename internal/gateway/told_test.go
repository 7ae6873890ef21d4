package gateway

import (
	"errors"
	"fmt"
	"syscall"
	"testing"

	"skerry/internal/base/awserr"
)

func TestTold(t *testing.T) {
	full := fmt.Errorf("s3: write blob: %w", syscall.ENOSPC)
	if got := awserr.Code(told(full)); got != "ServiceUnavailable" {
		t.Errorf("a full disk is told as %q", got)
	}
	bug := errors.New("a bug")
	if told(bug) != bug {
		t.Error("a fault of ours is told")
	}
}
