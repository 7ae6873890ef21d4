package gateway

import "time"

// SetPatience changes how long a client may leave off in the middle of a body.
func (g *Gateway) SetPatience(d time.Duration) { g.patience = d }
