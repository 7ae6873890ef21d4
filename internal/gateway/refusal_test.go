package gateway_test

import (
	"testing"
	"time"

	"skerry/internal/gateway/gatewaytest"
)

// The helper that the assembly runs over all services, on the few of these tests.
func TestEveryOperationRefuses(t *testing.T) {
	w := newWorld(t)
	count := gatewaytest.Run(t, gatewaytest.Cloud{
		Endpoint: w.server.URL, Services: w.services(), Admin: root, Stranger: guest, Now: func() time.Time { return now },
	})
	if count.Operations < 12 || count.Unsigned < 15 || count.WronglySigned < 15 || count.Denied < 12 || count.Malformed < 8 {
		t.Errorf("only %s", count)
	}
}
