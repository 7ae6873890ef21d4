package main

import (
	"context"
	"errors"
)

// measurePeers measures other servers of S3 that public registries offer.
func measurePeers(context.Context, *bench) error { return errors.New("no peers yet") }
