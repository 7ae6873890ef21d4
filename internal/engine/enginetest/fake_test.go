package enginetest

import "testing"

func TestFake(t *testing.T) { Run(t, NewFake(nil)) }
